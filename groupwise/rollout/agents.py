"""Episodes of agents that run their own loop: their requests become tasks, what they join becomes outputs.

Tokens in, tokens out: a request that goes on with an earlier answer is sampled behind that answer's own ids, whatever a
tokenizer would make of the text that came back. Any other request begins a sample of its own.
"""

import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from groupwise.activity import advance
from groupwise.agents.endpoint import Endpoint, Request
from groupwise.agents.wire import Answer, Asked, BadRequest, Call, Turn, canonical
from groupwise.data import Finish, Message, Output, Question, Sampling
from groupwise.engines.base import Engine, InFlight, Task, in_flight
from groupwise.envs.agent import Plays
from groupwise.envs.calls import Spoken
from groupwise.envs.episode import plain_outcome
from groupwise.errors import GroupwiseError
from groupwise.functions import last_line
from groupwise.model.tokenizer import ChatTokenizer
from groupwise.rollout.played import Figures, Played, tool_calls
from groupwise.rollout.side_by_side import SideBySide

MOST_REQUESTS = 100
"""Of an episode, where rollout.max_turns sets no limit."""
BRIEFLY, IDLY = 0.003, 0.02  # seconds that an engine with and without work waits for requests
_noted: set[str] = set()


@dataclass(eq=False)
class _Request:
    """A request and its answer. parent: the request whose answer it goes on with. asked: every id before its tokens.

    key: of what is asked and how often it has been: it does not depend on when. messages: up to the answer, with it.
    """

    parent: "_Request | None"
    asked: tuple[int, ...]
    key: bytes
    messages: list[Message]
    output: Output | None = None
    children: list["_Request"] = field(default_factory=list)

    @property
    def line(self) -> list["_Request"]:
        """The requests that it goes on with, from the first, and itself."""
        return [*(self.parent.line if self.parent else []), self]


@dataclass(eq=False)
class _Episode:
    question: int
    stream: int
    url: str = ""
    requests: list[_Request] = field(default_factory=list)
    answered: dict[tuple[Any, ...], _Request] = field(default_factory=dict)  # by what was said up to the answer
    texts: dict[Turn, str] = field(default_factory=dict)  # of answers, as sampled
    tools: set[str] = field(default_factory=set)  # names of those that its requests offer
    seconds: list[float] = field(default_factory=list)  # of its agent's call
    cut: Finish | None = None
    failure: str = ""
    outcome: dict[str, Any] = field(default_factory=dict)
    over: bool = False


_Key = tuple[_Episode, _Request, Request[_Episode]]


def play_agents(
    tokenizer: ChatTokenizer,
    questions: Sequence[Question],
    streams: Sequence[Sequence[int]],
    *,
    engine: Engine,
    sampling: Sampling,
    agent: Plays,
    max_turns: int | None,
    finished: Callable[[int, Played], None],
) -> list[Played]:
    """As `groupwise.rollout.episodes.play`, for an agent: one episode for each stream of each question.

    sampling.max_new_tokens bounds a sample, max_turns the requests of an episode. Requests are answered from the run's
    distribution, whatever temperature they name.
    """
    groups = [[_Episode(number, key) for key in keys] for number, keys in enumerate(streams)]
    found: list[Played | None] = [None] * len(questions)
    endpoint: Endpoint[_Episode] = Endpoint()
    desk = _Desk(tokenizer, sampling, MOST_REQUESTS if max_turns is None else max_turns)
    calls: SideBySide[_Episode] = SideBySide(
        agent.seconds, at_once=agent.at_once, took=lambda episode, seconds: episode.seconds.append(seconds)
    )
    try:
        with in_flight(engine) as work:
            for episode in (episode for group in groups for episode in group):
                calls.submit(episode, partial(_run, agent, endpoint, episode, questions[episode.question]))
            while calls:
                for request in endpoint.requests(BRIEFLY if work else IDLY):
                    desk.take(work, request)
                for (episode, own, request), (output,) in work.done(wait=False):
                    desk.answer(episode, own, request, output)
                for episode, outcome, error in calls.done(0.0):
                    endpoint.end(episode.url)
                    _settle(episode, outcome, error)
                    number = episode.question
                    if all(other.over for other in groups[number]):
                        engine.release([own.line[0].asked for other in groups[number] for own in other.requests])
                        found[number] = played = desk.played(questions[number], groups[number])
                        finished(number, played)
    finally:
        endpoint.close()
        agent.stop()
    return [played if played is not None else desk.played(questions[n], groups[n]) for n, played in enumerate(found)]


def _run(agent: Plays, endpoint: Endpoint[_Episode], episode: _Episode, question: Question) -> dict[str, Any]:
    """An episode in a thread of its own: the agent's outcome."""
    episode.url = endpoint.begin(episode)
    return plain_outcome(agent.play(question, episode.url))


def _settle(episode: _Episode, outcome: dict[str, Any] | None, error: Exception | None) -> None:
    """The agent is done. An error of one whose requests were cut off is no failure: it was told."""
    episode.over, episode.outcome = True, outcome or {}
    if error is not None and episode.cut is None:
        episode.failure = f"the agent failed: {last_line(error)}"
    if not episode.requests and not episode.failure:
        episode.failure = "the agent asked the model nothing"
    advance(1)


class _Desk:
    """Where requests become tasks, and outputs answers."""

    def __init__(self, tokenizer: ChatTokenizer, sampling: Sampling, most: int) -> None:
        self._tokenizer, self._sampling, self._most = tokenizer, sampling, most

    def take(self, work: InFlight[_Key], request: Request[_Episode]) -> None:
        """Submits what a request asks, or answers it with what is wrong."""
        episode, asked = request.key, request.asked
        try:
            own = self._taken(episode, asked)
            used = sum(len(one.output.tokens) for one in own.line if one.output is not None)
            left = min(self._tokenizer.context - len(own.asked), self._sampling.max_new_tokens - used)
            if left < 1:
                episode.cut = "length"
                raise BadRequest("no tokens are left for this conversation", code="context_length_exceeded")
        except BadRequest as error:
            _give(request, error)
            return
        except GroupwiseError as error:
            _give(request, BadRequest(str(error)))
            return
        _note(asked)
        episode.requests.append(own)
        episode.tools |= {str(tool.get("function", tool).get("name")) for tool in asked.tools}
        question = own.line[0].asked
        before = own.asked[len(question) :]
        task = Task(
            question_tokens=question,
            streams=(_stream(episode, own.key),),
            limits=(min(left, asked.limit or left),),
            before=(before,) if before else (),
            drawn=(0,) if before else (),
            keep=True,
        )
        stops = tuple(dict.fromkeys([*self._sampling.stop, *asked.stop]))
        work.submit([((episode, own, request), task)], replace(self._sampling, stop=stops))

    def _taken(self, episode: _Episode, asked: Asked) -> _Request:
        """A request by what it goes on with: the longest conversation that ends with an answer that was given, or
        none. Raises BadRequest if the episode may not ask, GroupwiseError if the template cannot write it."""
        if episode.over or episode.cut is not None:
            raise BadRequest("the episode is over", code="episode_over", status=410)
        if len(episode.requests) >= self._most:
            episode.cut = "turns"
            raise BadRequest(f"the episode has had its {self._most} turns", code="max_turns")
        tools = json.dumps(asked.tools, sort_keys=True)
        for end in range(len(asked.turns) - 1, 0, -1):
            parent = episode.answered.get((tools, *asked.turns[:end]))
            if parent is None or parent.output is None or any(turn.role == "assistant" for turn in asked.turns[end:]):
                continue
            replies = [_message(turn, episode.texts) for turn in asked.turns[end:]]
            conversation, said = [*parent.messages, *replies], parent.output.tokens.tolist()
            behind = self._tokenizer.encode_reply(conversation, replies=len(replies), last=said[-1], tools=asked.tools)
            return self._new(episode, parent, (*parent.asked, *said, *behind), conversation)
        conversation = [_message(turn, episode.texts) for turn in asked.turns]
        return self._new(episode, None, tuple(self._tokenizer.encode(conversation, tools=asked.tools)), conversation)

    def _new(
        self, episode: _Episode, parent: _Request | None, asked: tuple[int, ...], messages: list[Message]
    ) -> _Request:
        again = sum(other.asked == asked for other in episode.requests)
        key = hashlib.blake2b(np.array([*asked, again], np.int64).tobytes(), digest_size=16).digest()
        return _Request(parent, asked, key, messages)

    def answer(self, episode: _Episode, own: _Request, request: Request[_Episode], output: Output) -> None:
        """Writes down what was sampled and gives it to the agent."""
        own.output = output
        if own.parent is not None:
            own.parent.children.append(own)
        turns = request.asked.turns
        spoken = output.opening + output.text
        if own.messages[-1].role == "assistant":  # the request begins the answer
            spoken, turns = own.messages.pop().content + output.text, turns[:-1]
        read = self._tokenizer.read_calls(spoken) if request.asked.tools else Spoken(spoken, ())
        content = read.content if read.calls else _without_stop(spoken, request.asked.stop)
        calls = tuple(Call(call.name, canonical(dict(call.arguments))) for call in read.calls)
        own.messages.append(Message("assistant", spoken, calls=read.calls))
        answer = Answer(
            content=content,
            calls=calls,
            finish="length" if output.finish == "length" else "calls" if calls else "stop",
            prompt_tokens=own.asked,
            tokens=tuple(output.tokens.tolist()),
        )
        tools = json.dumps(request.asked.tools, sort_keys=True)
        episode.answered[(tools, *turns, answer.turn)] = own
        episode.texts[answer.turn] = spoken
        _give(request, answer)

    def played(self, question: Question, episodes: Sequence[_Episode]) -> Played:
        """The outputs: of each episode the longest conversation, the last of equals, and the others beside it."""
        outputs, further, figures = [], [], []
        for place, episode in enumerate(episodes):
            lines = _lines(episode)
            figures.append(_figures(episode, lines))
            if not lines:
                outputs.append(self._silent(question, episode))
                continue
            newest = {id(own): number for number, own in enumerate(episode.requests)}
            main = max(lines, key=lambda line: (len(line), newest[id(line[-1])]))
            outputs.append(_output(episode, main))
            further += [(place, _output(episode, line)) for line in lines if line is not main]
        failures = tuple(episode.failure for episode in episodes)
        return Played(tuple(outputs), failures, tuple(further), tuple(figures))

    def _silent(self, question: Question, episode: _Episode) -> Output:
        """The output of an episode in which nothing was sampled."""
        none = np.zeros(0, np.int32)
        asked = np.array(self._tokenizer.encode(question.messages), dtype=np.int32)
        return Output(asked, none, none.astype(bool), none.astype(np.float32), "", "error", outcome=episode.outcome)


def _stream(episode: _Episode, key: bytes) -> int:
    """The random stream of a request: of the episode's, by what is asked."""
    found = hashlib.blake2b(key, digest_size=8, key=str(episode.stream).encode()).digest()
    return int.from_bytes(found, "little") >> 1


def _lines(episode: _Episode) -> list[list[_Request]]:
    """The answered requests as lines, each in one: a line goes on with the first, by its key, of those that go on with
    its end; the others begin lines of their own."""
    lines = []
    answered = [own for own in episode.requests if own.output is not None]
    for own in sorted(answered, key=lambda own: own.key):
        if own.parent is not None and min(own.parent.children, key=lambda child: child.key) is own:
            continue
        line = [own]
        while line[-1].children:
            line.append(min(line[-1].children, key=lambda child: child.key))
        lines.append(line)
    return lines


def _figures(episode: _Episode, lines: Sequence[Sequence[_Request]]) -> Figures:
    """The figures of an episode; its turns are the answers that it was given."""
    answered = [own for line in lines for own in line]
    said = [own.messages[len(line[0].messages) - 1 :] for line in lines for own in line[-1:]]
    ended = [own.output.finish for own in answered[-1:] if own.output is not None]
    finish = "error" if episode.failure or not ended else episode.cut or ended[-1]
    calls = [call for messages in said for call in tool_calls(messages, episode.tools)]
    return Figures(len(answered), finish, tuple(episode.seconds), tuple(calls))


def _output(episode: _Episode, line: Sequence[_Request]) -> Output:
    """One output of a line: the answers, and between them what was asked."""
    first, last = line[0].asked, line[-1].output
    assert last is not None
    tokens, sampled, logprobs, spans = list[int](), list[bool](), list[float](), list[tuple[int, int]]()
    start = len(line[0].messages) - 1
    for own in line:
        assert own.output is not None
        behind, place = own.asked[len(first) + len(tokens) :], len(tokens)
        spans += [(place, place + len(behind))] * (len(own.messages) - 1 - start - len(spans))
        spans.append((place + len(behind), place + len(behind) + len(own.output.tokens)))
        tokens += [*behind, *own.output.tokens.tolist()]
        sampled += [*[False] * len(behind), *own.output.sampled.tolist()]
        logprobs += [*[0.0] * len(behind), *own.output.logprobs.tolist()]
    return Output(
        question_tokens=np.array(first, dtype=np.int32),
        tokens=np.array(tokens, dtype=np.int32),
        sampled=np.array(sampled, dtype=bool),
        logprobs=np.array(logprobs, dtype=np.float32),
        text=last.text,
        finish="error" if episode.failure else episode.cut or last.finish,
        policy_version=last.policy_version,
        opening=last.opening,
        messages=tuple(line[-1].messages[start:]),
        spans=tuple(spans),
        outcome=episode.outcome,
    )


def _message(turn: Turn, texts: Mapping[Turn, str]) -> Message:
    """A turn of a request as a message; an answer that was given before as it was sampled."""
    if turn.role != "assistant":
        return Message(turn.role, turn.content, turn.parts)
    if turn in texts:
        return Message("assistant", texts[turn])
    calls = [f'<tool_call>{{"name": {json.dumps(c.name)}, "arguments": {c.arguments}}}</tool_call>' for c in turn.calls]
    return Message("assistant", "\n".join([*([turn.content] if turn.content or not calls else []), *calls]))


def _without_stop(text: str, stops: Sequence[str]) -> str:
    """The text without the string that ended it, as these protocols have it."""
    ends = [stop for stop in stops if text.endswith(stop)]
    return text.removesuffix(max(ends, key=len)) if ends else text


def _give(request: Request[_Episode], answer: Answer | BadRequest) -> None:
    with suppress(Exception):  # nobody waits any more
        if isinstance(answer, BadRequest):
            request.answer.set_exception(answer)
        else:
            request.answer.set_result(answer)


def _note(asked: Asked) -> None:
    """Says once of each setting that requests name and that has no effect."""
    new = [name for name in asked.unused if name not in _noted]
    if new:
        _noted.update(new)
        what = ", ".join(new)
        print(f"agent: {what} of its requests has no effect: outputs are drawn as rollout says", file=sys.stderr)
