"""The record's tables, with the meaning of every column, and how text is kept in them. Neither writes nor reads.

A run is started one or more times; each start is an attempt, numbered from 0. A start from a checkpoint writes the
steps after that checkpoint again under its own number, and deletes nothing. The `latest_*` views show what led to the
weights there are: a step as the last attempt that came by it wrote it, and none that a later attempt gave up. They are
what to query. Every step is one transaction: it is there whole or not at all.

The comments stay in the file: `.schema` in the sqlite3 shell shows them. Arrays are little-endian blobs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from groupwise.data import Finish, Message

FILE = "record.sqlite"
VERSION = 5
"""Kept in SQLite's user_version."""
Keep = Literal["full", "texts", "scores"]
"""What is kept of an output: everything; no tokens and log-probabilities; no text either."""

TABLES = (
    """CREATE TABLE run (          -- what is known of the whole run
    key TEXT PRIMARY KEY,         -- recipe (YAML), stage, model, seed, steps, started (UTC), state, pid, opening, ...
    value TEXT NOT NULL
) WITHOUT ROWID""",
    """CREATE TABLE attempts (     -- each start of the run
    attempt INTEGER PRIMARY KEY,  -- from 0
    first_step INTEGER NOT NULL,  -- the step it began with
    started TEXT NOT NULL         -- UTC, ISO 8601
)""",
    """CREATE TABLE questions (    -- q
    id TEXT NOT NULL PRIMARY KEY,
    fingerprint TEXT NOT NULL,    -- hash of the conversation: equal means the same question to the policy
    split TEXT NOT NULL,          -- train | heldout
    messages TEXT NOT NULL,            -- JSON [{"role", "content"}, ...]; of pictures path and digest
    answer TEXT NOT NULL,              -- JSON, what the rewards compare with
    meta TEXT NOT NULL                 -- JSON object, what else the rewards may know
)""",
    """CREATE TABLE pictures (     -- of questions, and of what environments replied: each once
    digest TEXT NOT NULL PRIMARY KEY, -- BLAKE2b of the file's bytes, as in questions.messages
    reference TEXT NOT NULL,      -- the path or URL it was given by; empty: its bytes were given
    file TEXT,                    -- where it was read; NULL: its bytes were given
    width INTEGER NOT NULL,       -- pixels
    height INTEGER NOT NULL,
    data BLOB,                    -- the file's bytes, if they were given and are at most 16 KiB
    thumbnail BLOB NOT NULL       -- a PNG or JPEG of at most 192 pixels a side and 16 KiB
)""",
    """CREATE TABLE steps (        -- a row for each step that was written whole
    step INTEGER NOT NULL,
    attempt INTEGER NOT NULL REFERENCES attempts,
    written REAL NOT NULL,        -- seconds since 1970
    PRIMARY KEY (step, attempt)
) WITHOUT ROWID""",
    """CREATE TABLE prompts (      -- what the policy read of a question, once for all outputs that follow it
    id INTEGER PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE,  -- BLAKE2b of the tokens, 16 bytes
    tokens BLOB NOT NULL          -- int32[N]
)""",
    """CREATE TABLE outputs (      -- o_i
    id INTEGER PRIMARY KEY,
    step INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    group_index INTEGER NOT NULL, -- place of the group in the step, from 0: a question may be drawn twice
    sample INTEGER NOT NULL,      -- place in the group, 0 to G - 1
    question_id TEXT NOT NULL REFERENCES questions,
    policy_version INTEGER NOT NULL, -- optimizer steps before it was sampled
    prompt INTEGER REFERENCES prompts, -- the question's tokens; NULL: not kept (run.record)
    text TEXT,                    -- of several turns the last; NULL: not kept
    turns TEXT,                   -- JSON [{"role", "content", "tokens": [first, end], "calls": [..]}, ...] behind the
                                  -- question, tokens by their place in the output; NULL: one turn, or not kept
    outcome TEXT,                 -- JSON object, what the environment says of the episode; NULL: nothing, or not kept
    finish TEXT NOT NULL,         -- stop | length | turns | error
    length INTEGER NOT NULL,      -- T, tokens
    tokens BLOB,                  -- int32[T]; NULL: not kept
    sampled BLOB,                 -- uint8[T], 1 where the policy drew the token; NULL: it drew all, or not kept
    logprobs BLOB,                -- float32[T], nats, under the distribution it was drawn from; NULL: not kept
    reward REAL,                  -- r_i; NULL: a part failed or all abstained
    reward_steps TEXT NOT NULL,   -- JSON [[token index, reward], ...] of steps; null: no function speaks of any
    advantage REAL,               -- A_i; NULL: none, the output is masked
    UNIQUE (step, attempt, group_index, sample),
    FOREIGN KEY (step, attempt) REFERENCES steps
)""",
    "CREATE INDEX outputs_by_question ON outputs (question_id)",
    """CREATE TABLE reward_parts ( -- what each reward function said of an output
    output INTEGER NOT NULL REFERENCES outputs,
    name TEXT NOT NULL,                -- the function's label in the recipe
    state TEXT NOT NULL,          -- value | abstained | failed
    value REAL,                   -- before its weight; NULL unless state is value
    detail TEXT NOT NULL,              -- the traceback of a failure
    UNIQUE (output, name)
)""",
    """CREATE TABLE metrics (
    name TEXT NOT NULL,           -- as in groupwise.metrics
    step INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    value REAL,                   -- NULL: nan or infinite
    PRIMARY KEY (name, step, attempt),
    FOREIGN KEY (step, attempt) REFERENCES steps
) WITHOUT ROWID""",
    """CREATE TABLE evaluations (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,           -- before | after | step
    step INTEGER NOT NULL,
    attempt INTEGER NOT NULL REFERENCES attempts,
    UNIQUE (name, step, attempt)
)""",
    """CREATE TABLE figures (      -- the results of an evaluation
    evaluation INTEGER NOT NULL REFERENCES evaluations,
    key TEXT NOT NULL,            -- accuracy, format, pass@8, ...
    value TEXT NOT NULL,          -- JSON
    UNIQUE (evaluation, key)
)""",
    """CREATE TABLE evaluation_outputs (
    evaluation INTEGER NOT NULL REFERENCES evaluations,
    question_id TEXT NOT NULL REFERENCES questions,
    sample INTEGER NOT NULL,      -- -1: greedy; else from 0
    text TEXT NOT NULL,
    correct REAL,                 -- value of the reward evaluate.correct; NULL: none
    format REAL,                  -- value of the reward evaluate.format; NULL: none
    finish TEXT NOT NULL,
    tokens INTEGER NOT NULL,      -- length of the output in tokens
    turns TEXT,                   -- as in outputs
    outcome TEXT,                 -- as in outputs
    UNIQUE (evaluation, question_id, sample)
)""",
    """CREATE VIEW latest_steps AS
    SELECT step, attempt FROM steps AS s
    WHERE attempt = (SELECT max(attempt) FROM attempts WHERE first_step <= s.step)""",
    """CREATE VIEW latest_outputs AS
    SELECT o.*, p.tokens AS question_tokens FROM outputs AS o LEFT JOIN prompts AS p ON p.id = o.prompt
    WHERE o.attempt = (SELECT max(attempt) FROM attempts WHERE first_step <= o.step)""",
    """CREATE VIEW latest_metrics AS
    SELECT * FROM metrics AS m WHERE attempt = (SELECT max(attempt) FROM attempts WHERE first_step <= m.step)""",
    """CREATE VIEW latest_evaluations AS -- one after n steps stands where an attempt begins with step n
    SELECT id, name, step, max(attempt) AS attempt FROM evaluations AS e
    WHERE attempt >= coalesce((SELECT max(attempt) FROM attempts WHERE first_step < e.step), 0) GROUP BY name, step""",
)


@dataclass(frozen=True)
class Answer:
    """One output of an evaluation. sample: -1 greedy, else from 0. correct, format: reward values. tokens: a count.

    messages, spans, outcome: as in Output, of an episode of several turns.
    """

    question_id: str
    sample: int
    text: str
    correct: float | None
    format: float | None
    finish: Finish
    tokens: int
    messages: tuple[Message, ...] = ()
    spans: tuple[tuple[int, int], ...] = ()
    outcome: Mapping[str, Any] = field(default_factory=dict)


def stored(text: str) -> str | bytes:
    """Text as SQLite can hold it, losing nothing: a lone surrogate is not valid in TEXT, so such text is a BLOB.

    The blob is the UTF-8 form with each surrogate encoded as if it were a character.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return text


def restored(value: str | bytes) -> str:
    """The text that `stored` was given."""
    return value.decode("utf-8", "surrogatepass") if isinstance(value, bytes) else value
