"""Episodes: environments and an engine, turn by turn. One goes on once its turn is done, whatever the others do."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from groupwise.activity import advance
from groupwise.data import Finish, Message, Output, Question, Sampling
from groupwise.engines.base import Engine, InFlight, Task, in_flight
from groupwise.envs.episode import Environment, Environments, messages_of, tools_of
from groupwise.functions import last_line
from groupwise.model.tokenizer import ChatTokenizer


@dataclass
class _Episode:
    """One output on its way. tokens, sampled, logprobs: after the question; drawn: numbers taken from its stream."""

    question: int
    stream: int
    environment: Environment | None = None
    messages: list[Message] = field(default_factory=list)
    start: int = 0  # of the policy's first turn among the messages
    asked: tuple[int, ...] = ()
    tokens: list[int] = field(default_factory=list)
    sampled: list[bool] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    turns: int = 0
    text: str = ""
    opening: str = ""
    version: int = 0
    finish: Finish | None = None
    failure: str = ""

    @property
    def drawn(self) -> int:
        return sum(self.sampled)


@dataclass(frozen=True)
class Played:
    """The outputs of a question; failures: of each what its environment raised, "" for none."""

    outputs: tuple[Output, ...]
    failures: tuple[str, ...]

    @property
    def sound(self) -> list[Output]:
        """The outputs whose environment did not fail."""
        return [output for output, failure in zip(self.outputs, self.failures, strict=True) if not failure]


def play(
    tokenizer: ChatTokenizer,
    questions: Sequence[Question],
    streams: Sequence[Sequence[int]],
    *,
    engine: Engine,
    sampling: Sampling,
    environments: Environments,
    finished: Callable[[int, Played], None] = lambda question, played: None,
) -> list[Played]:
    """An output of each question for each of its streams; `finished` hears of a question once all of its are done.

    An environment that fails ends its output (finish: error). sampling.max_new_tokens bounds what is sampled in all
    turns together, the model's context everything.
    """
    driver = _Driver(tokenizer, questions, sampling, environments)
    groups = [[_Episode(number, key) for key in keys] for number, keys in enumerate(streams)]
    found: list[Played | None] = [None] * len(questions)

    def settle(number: int) -> None:
        if found[number] is None and all(episode.finish is not None for episode in groups[number]):
            engine.release([episode.asked for episode in groups[number]])
            found[number] = played = driver.played(groups[number])
            finished(number, played)

    with in_flight(engine) as work:
        for group in groups:
            driver.begin(group)
        driver.submit(work, [episode for group in groups for episode in group])
        for number in range(len(groups)):
            settle(number)
        while work:
            done = work.done()
            for episodes, outputs in done:
                for episode, output in zip(episodes, outputs, strict=True):
                    driver.take(episode, output)
            driver.submit(work, [episode for episodes, _ in done for episode in episodes])
            for number in {episode.question: None for episodes, _ in done for episode in episodes}:
                settle(number)
    return [played for played in found if played is not None]


class _Driver:
    """What happens between two turns of an episode."""

    def __init__(
        self,
        tokenizer: ChatTokenizer,
        questions: Sequence[Question],
        sampling: Sampling,
        environments: Environments,
    ) -> None:
        self._tokenizer, self._questions = tokenizer, questions
        self._sampling, self._environments = sampling, environments

    def begin(self, group: Sequence[_Episode]) -> None:
        """Resets the environments of a question's episodes, which all show the same."""
        shown: tuple[Message, ...] | None = None
        asked: tuple[int, ...] = ()
        for episode in group:
            question = self._questions[episode.question]
            try:
                episode.environment = self._environments.make()
                messages = messages_of(episode.environment.reset(question))
                if shown is not None and messages != shown:
                    raise ValueError("reset() gave two conversations for one question; a group has one")
                if shown is None:
                    asked, shown = self._encoded(messages, episode.environment), messages
                episode.messages, episode.asked = list(messages), asked
            except Exception as error:
                if not self._environments.several:
                    raise
                _fail(episode, error)
        for episode in group:
            if not episode.asked:  # failed
                own = shown or self._questions[episode.question].messages
                episode.messages = list(own)
                episode.asked = asked or tuple(self._tokenizer.encode(own))
            episode.start = len(episode.messages) - (episode.messages[-1].role == "assistant")

    def submit(self, work: InFlight[list[_Episode]], episodes: Sequence[_Episode]) -> None:
        """The next turn of the episodes that go on."""
        going_on = [episode for episode in episodes if episode.finish is None]
        if not self._environments.several:
            groups: dict[int, list[_Episode]] = {}
            for episode in going_on:
                groups.setdefault(episode.question, []).append(episode)
            tasks = [(group, Task(group[0].asked, tuple(e.stream for e in group))) for group in groups.values()]
        else:
            tasks = [([episode], self._task(episode)) for episode in going_on]
        if tasks:
            work.submit(tasks, self._sampling)

    def take(self, episode: _Episode, output: Output) -> None:
        """The policy's turn, and what the environment replies."""
        episode.tokens += output.tokens.tolist()
        episode.sampled += output.sampled.tolist()
        episode.logprobs += output.logprobs.tolist()
        episode.turns += 1
        episode.text, episode.opening, episode.version = output.text, output.opening, output.policy_version
        if not self._environments.several:
            episode.finish = output.finish
            advance(1)
            return
        spoken = output.opening + output.text
        if episode.messages[-1].role == "assistant":  # the question begins the answer
            spoken = episode.messages.pop().content + output.text
        episode.messages.append(Message("assistant", spoken))
        try:
            self._reply(episode, output)
        except Exception as error:
            _fail(episode, error)
        if episode.finish is not None:
            advance(1)

    def _reply(self, episode: _Episode, output: Output) -> None:
        assert episode.environment is not None
        given = episode.environment.reply(tuple(episode.messages))
        if given is None or output.finish == "length":
            episode.finish = output.finish
            return
        replies = messages_of(given)
        if self._environments.max_turns is not None and episode.turns >= self._environments.max_turns:
            episode.finish = "turns"
            return
        conversation = [*episode.messages, *replies]
        tools = tools_of(episode.environment)
        tokens = self._tokenizer.encode_reply(conversation, replies=len(replies), last=episode.tokens[-1], tools=tools)
        if self._left(episode) - len(tokens) < 1 or episode.drawn >= self._sampling.max_new_tokens:
            episode.finish = "length"
            return
        episode.messages = conversation
        episode.tokens += tokens
        episode.sampled += [False] * len(tokens)
        episode.logprobs += [0.0] * len(tokens)

    def _encoded(self, messages: tuple[Message, ...], environment: Environment) -> tuple[int, ...]:
        tools = tools_of(environment)
        asked = tuple(self._tokenizer.encode(messages, tools=tools) if tools else self._tokenizer.encode(messages))
        if self._environments.several and len(asked) >= self._tokenizer.context:
            raise ValueError(f"the conversation of reset() has {len(asked)} tokens, the model's context all of them")
        return asked

    def _left(self, episode: _Episode) -> int:
        """Tokens that the model's context has left."""
        return self._tokenizer.context - len(episode.asked) - len(episode.tokens)

    def _task(self, episode: _Episode) -> Task:
        limit = min(self._sampling.max_new_tokens - episode.drawn, self._left(episode))
        return Task(
            question_tokens=episode.asked,
            streams=(episode.stream,),
            limits=(limit,),
            before=(tuple(episode.tokens),) if episode.tokens else (),
            drawn=(episode.drawn,) if episode.tokens else (),
            keep=True,
        )

    def played(self, group: Sequence[_Episode]) -> Played:
        return Played(tuple(self._output(episode) for episode in group), tuple(episode.failure for episode in group))

    def _output(self, episode: _Episode) -> Output:
        assert episode.finish is not None
        return Output(
            question_tokens=np.array(episode.asked, dtype=np.int32),
            tokens=np.array(episode.tokens, dtype=np.int32),
            sampled=np.array(episode.sampled, dtype=bool),
            logprobs=np.array(episode.logprobs, dtype=np.float32),
            text=episode.text,
            finish=episode.finish,
            policy_version=episode.version,
            opening=episode.opening,
            messages=tuple(episode.messages[episode.start :]) if self._environments.several else (),
        )


def _fail(episode: _Episode, error: Exception) -> None:
    episode.finish, episode.failure = "error", f"the environment failed: {last_line(error)}"
