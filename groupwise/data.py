"""What flows through a run before it becomes tensors: questions, outputs, groups, examples. Frozen; numpy at most."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:  # a reward function's process starts in half the time without it
    import numpy as np

Role = Literal["system", "user", "assistant", "tool"]
Finish = Literal["stop", "length", "turns", "error"]
"""Why an output ended, as the sampler saw it: an end token or stop string; the token limit; turns; an error."""
State = Literal["value", "abstained", "failed"]
IMAGE = "<image>"
"""What stands for a picture in text."""


@dataclass(frozen=True)
class Image:
    """A picture of a message. reference: the path it was given by, "" if its bytes were. digest: of its file's bytes,
    which tells pictures apart.

    file: the path to read; None: `data` has the file's bytes. size: width and height in pixels, turned as its EXIF
    says; None: not looked at.
    """

    reference: str = field(compare=False)
    digest: str
    file: str | None = field(default=None, compare=False)
    data: bytes | None = field(default=None, compare=False, repr=False)
    size: tuple[int, int] | None = field(default=None, compare=False)

    @property
    def name(self) -> str:
        """What an error calls it."""
        return self.reference or f"bytes with the digest {self.digest}"


@dataclass(frozen=True)
class ToolCall:
    """A call of a tool as the policy wrote it (`raw`). error: why it cannot be made; "" if it can."""

    name: str
    arguments: Mapping[str, Any]
    raw: str = ""
    error: str = ""


@dataclass(frozen=True)
class Message:
    """A turn. content: its text, in which IMAGE stands for each picture.

    parts: text and pictures in their order; () for a turn without pictures. calls: of tools, read from the text of a
    policy's turn.
    """

    role: Role
    content: str
    parts: tuple[str | Image, ...] = ()
    calls: tuple[ToolCall, ...] = field(default=(), compare=False)

    @property
    def images(self) -> tuple[Image, ...]:
        return tuple(part for part in self.parts if isinstance(part, Image))

    def as_dict(self) -> dict[str, Any]:
        """Role and content as in chat messages: text, or with pictures a list of parts, without the pictures' bytes."""
        if not self.parts:
            return {"role": self.role, "content": self.content}
        return {"role": self.role, "content": [_part(part) for part in self.parts]}


def message_of_parts(role: Role, parts: Sequence[str | Image]) -> Message:
    """A turn of text and pictures in their order; of text alone if there are no pictures."""
    joined: list[str | Image] = []
    for part in parts:
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] += part
        elif part != "":
            joined.append(part)
    content = "".join(part if isinstance(part, str) else IMAGE for part in joined)
    return Message(role, content, tuple(joined) if any(isinstance(part, Image) for part in joined) else ())


def message_of_dict(turn: Mapping[str, Any]) -> Message:
    """The message whose `as_dict` this is; a picture's file and bytes are not in it."""
    if isinstance(turn["content"], str):
        return Message(turn["role"], turn["content"])
    parts = [
        part["text"] if part["type"] == "text" else Image(part["image"], part["digest"]) for part in turn["content"]
    ]
    return message_of_parts(turn["role"], parts)


@dataclass(frozen=True)
class Question:
    """q: what the policy is asked, and what only rewards may know about it (`answer`, `meta`).

    where: its place in words, such as file:line; empty if it was made on the spot.
    """

    id: str
    messages: tuple[Message, ...]
    answer: Any = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    where: str = field(default="", compare=False)

    @property
    def prefill(self) -> str:
        """The beginning of the answer, which the policy goes on with: a last message of the assistant; else empty."""
        return self.messages[-1].content if self.messages and self.messages[-1].role == "assistant" else ""

    @property
    def prompt(self) -> tuple[Message, ...]:
        """The messages that the answer is to, without its beginning."""
        return self.messages[:-1] if self.messages and self.messages[-1].role == "assistant" else self.messages

    @property
    def text(self) -> str:
        """What the user asks, without the system prompt; for tables and for people."""
        return "\n".join(m.content for m in self.prompt if m.role != "system")

    @property
    def fingerprint(self) -> str:
        """Hash of the conversation alone: two questions with one fingerprint are the same question to the policy."""
        return _fingerprint(self.messages)


@dataclass(frozen=True)
class Example:
    """What supervised fine-tuning learns from: a conversation, for its assistant's turns; or a text, for every token.

    where: its place in words, such as file:line. prompt_messages: so many at the start are read and not learned;
    unlearned: indices of the assistant's turns behind them that are read only, never the last message's. text: None for
    a conversation, whose messages end with the assistant's.
    """

    where: str
    messages: tuple[Message, ...] = ()
    text: str | None = None
    prompt_messages: int = 0
    unlearned: tuple[int, ...] = ()

    @property
    def learned(self) -> list[int]:
        """Indices of the messages that are learned."""
        turns = enumerate(self.messages)
        after = (index for index, turn in turns if index >= self.prompt_messages and turn.role == "assistant")
        return [index for index in after if index not in self.unlearned]

    @property
    def fingerprint(self) -> str:
        """Hash of what it says: two examples with one fingerprint are the same up to their spacing."""
        return _fingerprint(self.messages, self.text)

    @property
    def asked(self) -> str:
        """Hash of what stands before its first learned turn; of a text, whose every token is learned, all of it."""
        if self.text is not None:
            return self.fingerprint
        return _fingerprint(self.messages[: next(iter(self.learned), None)])


@dataclass(frozen=True)
class Pair:
    """Two answers to one conversation, of which one is preferred. where: its place in words. margin: by how much."""

    where: str
    prompt: tuple[Message, ...]
    chosen: str
    rejected: str
    margin: float | None = None

    @property
    def fingerprint(self) -> str:
        """Hash of what it says, up to spacing."""
        return _fingerprint((*self.prompt, Message("assistant", self.chosen), Message("assistant", self.rejected)))

    @property
    def asked(self) -> str:
        """Hash of the prompt, up to spacing."""
        return _fingerprint(self.prompt)


@dataclass(frozen=True)
class Judged:
    """An answer to a conversation that was liked or not. where: its place in words."""

    where: str
    prompt: tuple[Message, ...]
    completion: str
    liked: bool

    @property
    def fingerprint(self) -> str:
        """Hash of what it says, up to spacing; a judgement is no part of it."""
        return _fingerprint((*self.prompt, Message("assistant", self.completion)))

    @property
    def asked(self) -> str:
        """Hash of the prompt, up to spacing."""
        return _fingerprint(self.prompt)


@dataclass(frozen=True)
class Stepped:
    """An answer to a conversation, each step of which was judged. where: its place in words.

    steps: their texts in order. right: of each, what was said of it. rest: what follows the last step, unjudged.
    verbatim: the steps are cut out of one text; else they were written apart, and a separator ends each.
    """

    where: str
    prompt: tuple[Message, ...]
    steps: tuple[str, ...]
    right: tuple[bool, ...]
    rest: str = ""
    verbatim: bool = False

    @property
    def fingerprint(self) -> str:
        """Hash of what it says, up to spacing; a judgement is no part of it."""
        return _fingerprint((*self.prompt, Message("assistant", " ".join((*self.steps, self.rest)))))

    @property
    def asked(self) -> str:
        """Hash of the prompt, up to spacing."""
        return _fingerprint(self.prompt)


@dataclass(frozen=True)
class Sampling:
    """The distribution that tokens are drawn from, and when an output ends.

    temperature divides the logits; top_k, top_p, min_p keep the likely tokens (0, 1, 0: all) and the rest is
    renormalised; greedy takes the most likely token. max_new_tokens: tokens; stop: strings that end an output.
    """

    max_new_tokens: int
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    stop: tuple[str, ...] = ()
    greedy: bool = False


@dataclass(frozen=True)
class Output:
    """o_i: one sampled answer.

    question_tokens: [N] token ids, the encoded question. tokens: [T] token ids after it (an end token included).
    sampled: [T], True where the policy drew the token (False for a tool's words). logprobs: [T] nats, of each sampled
    token under the distribution it was drawn from; 0 where not sampled. policy_version: optimizer steps so far.
    opening: what the prompt's end has already said for the policy, "<think>\\n" in templates of reasoning models.
    An output of several turns has the last one's text and opening; messages: all turns, the environment's among them.
    spans: of each message its tokens [first, end); replies to one turn share theirs. (): not known.
    outcome: what the environment says of the episode: plain values, its own `reward` among them; empty: nothing.
    """

    question_tokens: "np.ndarray"
    tokens: "np.ndarray"
    sampled: "np.ndarray"
    logprobs: "np.ndarray"
    text: str
    finish: Finish
    policy_version: int = 0
    opening: str = ""
    messages: tuple[Message, ...] = ()
    spans: tuple[tuple[int, int], ...] = ()
    outcome: Mapping[str, Any] = field(default_factory=dict)

    @property
    def drawn(self) -> int:
        """Tokens that the policy drew."""
        return int(self.sampled.sum())


@dataclass(frozen=True)
class Part:
    """What one reward function said of one output: a value, or nothing to say (abstained), or it broke (failed)."""

    state: State
    value: float | None = None
    detail: str = ""  # the traceback of a failure


@dataclass(frozen=True)
class Reward:
    """r_i: the weighted sum of the parts that have a value; None if a part failed or all abstained.

    None is not 0: such an output has no advantage, no gradient, and no weight in its group's mean.
    steps: (index of a step's last token, its reward), by index, for process supervision; (): no steps were found in the
    output; None: a part failed, or no function speaks of steps. If all parts abstained, and there are steps, the value
    is the sum of their rewards.
    """

    value: float | None
    parts: Mapping[str, Part] = field(default_factory=dict)
    steps: tuple[tuple[int, float], ...] | None = None

    @property
    def failed(self) -> bool:
        return any(part.state == "failed" for part in self.parts.values())

    def value_of(self, label: str | None) -> float | None:
        """What the reward function of that label gave; None if it had no value to give."""
        part = self.parts.get(label) if label else None
        return part.value if part else None


@dataclass(frozen=True)
class Sample:
    output: Output
    reward: Reward


@dataclass(frozen=True)
class Group:
    """A question and its G samples. One alone has nothing to be compared with: an advantage over groups refuses it."""

    question: Question
    samples: tuple[Sample, ...]

    @property
    def rewards(self) -> list[float | None]:
        return [sample.reward.value for sample in self.samples]

    @property
    def has_signal(self) -> bool:
        """True if two rewards of the group differ; else every advantage is 0."""
        return len({value for value in self.rewards if value is not None}) > 1


def _part(part: str | Image) -> dict[str, str]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    return {"type": "image", "image": part.reference, "digest": part.digest}


def _fingerprint(messages: Sequence[Message], text: str | None = None) -> str:
    """Hash of roles, words and pictures, whatever the space between the words."""
    spoken = [[m.role, " ".join(m.content.split()), *(image.digest for image in m.images)] for m in messages]
    if text is not None:
        spoken.append([" ".join(text.split())])
    line = json.dumps(spoken, ensure_ascii=False).encode("utf-8", "surrogatepass")  # a lone surrogate is legal JSON
    return hashlib.blake2b(line, digest_size=12).hexdigest()
