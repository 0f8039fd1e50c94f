"""Episodes: environments and an engine, turn by turn. One goes on once its turn is done, whatever the others do.

Environments work in threads, side by side with each other and with the engine.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from groupwise.activity import advance
from groupwise.data import Message, Output, Question, Sampling
from groupwise.engines.base import Engine, InFlight, Task, in_flight
from groupwise.envs.episode import Environment, Environments, close, messages_of, outcome_of, tools_of
from groupwise.model.tokenizer import ChatTokenizer
from groupwise.rollout.agents import play_agents
from groupwise.rollout.episode import Episode, fail, figures_of, output_of
from groupwise.rollout.played import Played
from groupwise.rollout.side_by_side import SideBySide

BRIEFLY = 0.003
"""Seconds that an engine with work to do waits for replies, so that quick ones join the outputs on their way."""

IDLY = 0.02
"""The same for an engine that has none."""


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
    if environments.agent is not None:
        return play_agents(
            tokenizer,
            questions,
            streams,
            engine=engine,
            sampling=sampling,
            agent=environments.agent,
            max_turns=environments.max_turns,
            finished=finished,
        )
    driver = _Driver(tokenizer, questions, sampling, environments)
    groups = [[Episode(number, key) for key in keys] for number, keys in enumerate(streams)]
    found: list[Played | None] = [None] * len(questions)

    def settle(numbers: Sequence[int]) -> None:
        for number in dict.fromkeys(numbers):
            if found[number] is None and all(episode.over for episode in groups[number]):
                engine.release([episode.asked for episode in groups[number]])
                found[number] = played = driver.played(groups[number])
                finished(number, played)

    with in_flight(engine) as work:
        try:
            driver.submit(work, driver.begin(groups))
            settle(range(len(groups)))
            while work or driver.calls:
                moved = [
                    episode
                    for episodes, outputs in work.done(wait=not driver.calls)
                    for episode in driver.take(episodes, outputs)
                ]
                moved += driver.answered(BRIEFLY if work or moved else IDLY)
                driver.submit(work, moved)
                settle([episode.question for episode in moved])
        finally:
            driver.leave([episode for group in groups for episode in group])
    return [played for played in found if played is not None]


_Started = tuple[Environment, tuple[Message, ...], tuple[Mapping[str, Any], ...]]
"""An environment, the conversation that it shows first, its tools."""


class _Driver:
    """What happens between two turns of an episode. calls: of environments, by episode, on their way."""

    def __init__(
        self,
        tokenizer: ChatTokenizer,
        questions: Sequence[Question],
        sampling: Sampling,
        environments: Environments,
    ) -> None:
        self._tokenizer, self._questions = tokenizer, questions
        self._sampling, self._environments = sampling, environments
        self._groups: Sequence[Sequence[Episode]] = ()
        self._unready: dict[int, int] = {}  # of a question, episodes whose reset() is under way
        self.calls: SideBySide[tuple[Episode, Callable[[Episode, Any], None]]] = SideBySide(
            environments.seconds, took=lambda key, seconds: key[0].seconds.append(seconds)
        )

    def begin(self, groups: Sequence[Sequence[Episode]]) -> list[Episode]:
        """Resets the environments of all episodes, side by side; those of a question show the same, and begin together.

        Gives the episodes that can begin at once."""
        self._groups = groups
        if self._environments.several:
            for episode in (episode for group in groups for episode in group):
                self._unready[episode.question] = self._unready.get(episode.question, 0) + 1
                self.calls.submit((episode, _shown), partial(self._start, self._questions[episode.question]))
            return []
        for group in groups:
            asked: tuple[int, ...] = ()
            for episode in group:
                question = self._questions[episode.question]
                asked = asked or tuple(self._tokenizer.encode(question.messages))
                episode.messages, episode.asked = list(question.messages), asked
        return [episode for group in groups for episode in group]

    def _start(self, question: Question) -> _Started:
        environment = self._environments.make()
        try:
            return environment, messages_of(environment.reset(question)), tools_of(environment)
        except BaseException:
            with suppress(Exception):  # the first error is the one to hear of
                close(environment)
            raise

    def _begun(self, group: Sequence[Episode]) -> list[Episode]:
        """What a question's episodes begin with: what the first that was reset shows. Gives those that go on."""
        shown: list[Message] | None = None
        asked: tuple[int, ...] = ()
        for episode in (episode for episode in group if episode.environment is not None):
            try:
                if shown is not None and episode.messages != shown:
                    raise ValueError("reset() gave two conversations for one question; a group has one")
                if shown is None:
                    asked, shown = self._encoded(episode.messages, episode.tools), list(episode.messages)
                episode.asked = asked
            except Exception as error:
                fail(episode, error)
        for episode in group:
            if not episode.asked:  # failed
                episode.messages = list(shown or self._questions[episode.question].messages)
                episode.asked = asked or tuple(self._tokenizer.encode(episode.messages))
            episode.start = len(episode.messages) - (episode.messages[-1].role == "assistant")
            if episode.finish is not None:
                self._end(episode)
        return [episode for episode in group if episode.finish is None or episode.over]

    def answered(self, timeout: float) -> list[Episode]:
        """Takes in what environments have said; the episodes that go on with it, or are over."""
        moved = []
        for (episode, then), value, error in self.calls.done(timeout):
            try:
                if error is not None:
                    raise error
                then(episode, value)
            except Exception as failure:
                fail(episode, failure)
            if then is _shown:
                self._unready[episode.question] -= 1
                if not self._unready[episode.question]:
                    moved += self._begun(self._groups[episode.question])
                continue
            if then is _outcome:
                self._over(episode)
            elif episode.finish is not None:
                self._end(episode)
            if episode.over or episode.finish is None:
                moved.append(episode)
        return moved

    def _end(self, episode: Episode) -> None:
        """Asks an episode that is at its end for its outcome, and closes it."""
        environment = episode.environment
        if environment is None:
            self._over(episode)
            return
        failed = bool(episode.failure)
        self.calls.submit((episode, _outcome), lambda: _ended(environment, failed))

    def _over(self, episode: Episode) -> None:
        episode.over, episode.environment = True, None
        advance(1)

    def leave(self, episodes: Sequence[Episode]) -> None:
        """Closes what was left open: the run stops in the middle of its episodes."""
        for environment in [episode.environment for episode in episodes if episode.environment is not None]:
            with suppress(Exception):
                close(environment)

    def submit(self, work: InFlight[list[Episode]], episodes: Sequence[Episode]) -> None:
        """The next turn of the episodes that go on."""
        going_on = [episode for episode in episodes if episode.finish is None]
        if not self._environments.several:
            groups: dict[int, list[Episode]] = {}
            for episode in going_on:
                groups.setdefault(episode.question, []).append(episode)
            tasks = [(group, Task(group[0].asked, tuple(e.stream for e in group))) for group in groups.values()]
        else:
            tasks = [([episode], self._task(episode)) for episode in going_on]
        if tasks:
            work.submit(tasks, self._sampling)

    def take(self, episodes: Sequence[Episode], outputs: Sequence[Output]) -> list[Episode]:
        """The policy's turns; environments are asked for their replies. Gives the episodes that are over with it."""
        over = []
        for episode, output in zip(episodes, outputs, strict=True):
            episode.add(output.tokens.tolist(), output.sampled.tolist(), output.logprobs.tolist())
            episode.turns += 1
            episode.text, episode.opening, episode.version = output.text, output.opening, output.policy_version
            if self._environments.several:
                self._ask(episode, output)
            else:
                episode.finish = output.finish
                self._over(episode)
                over.append(episode)
        return over

    def _ask(self, episode: Episode, output: Output) -> None:
        """Puts the policy's turn to the environment."""
        spoken, environment = output.opening + output.text, episode.environment
        assert environment is not None
        if episode.messages[-1].role == "assistant":  # the question begins the answer
            spoken = episode.messages.pop().content + output.text
        calls = self._tokenizer.read_calls(spoken).calls if episode.tools else ()
        episode.messages.append(Message("assistant", spoken, calls=calls))
        messages = tuple(episode.messages)
        self.calls.submit((episode, partial(self._reply, output)), lambda: environment.reply(messages))

    def _reply(self, output: Output, episode: Episode, given: Any) -> None:
        """Goes on with what the environment replied, or sees why the episode ends."""
        if given is None or output.finish == "length":
            episode.finish = output.finish
            return
        replies = messages_of(given)
        if self._environments.max_turns is not None and episode.turns >= self._environments.max_turns:
            episode.finish = "turns"
            return
        conversation = [*episode.messages, *replies]
        tokens = self._tokenizer.encode_reply(
            conversation, replies=len(replies), last=episode.tokens[-1], tools=episode.tools
        )
        if self._left(episode) - len(tokens) < 1 or episode.drawn >= self._sampling.max_new_tokens:
            episode.finish = "length"
            return
        episode.messages = conversation
        episode.add(tokens, [False] * len(tokens), [0.0] * len(tokens), messages=len(replies))

    def _encoded(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> tuple[int, ...]:
        asked = tuple(self._tokenizer.encode(messages, tools=tools))
        if len(asked) >= self._tokenizer.context:
            raise ValueError(f"the conversation of reset() has {len(asked)} tokens, the model's context all of them")
        return asked

    def _left(self, episode: Episode) -> int:
        """Tokens that the model's context has left."""
        return self._tokenizer.context - len(episode.asked) - len(episode.tokens)

    def _task(self, episode: Episode) -> Task:
        limit = min(self._sampling.max_new_tokens - episode.drawn, self._left(episode))
        return Task(
            question_tokens=episode.asked,
            streams=(episode.stream,),
            limits=(limit,),
            before=(tuple(episode.tokens),) if episode.tokens else (),
            drawn=(episode.drawn,) if episode.tokens else (),
            keep=True,
        )

    def played(self, group: Sequence[Episode]) -> Played:
        several = self._environments.several
        return Played(
            tuple(output_of(episode, turns=several) for episode in group),
            tuple(episode.failure for episode in group),
            figures=tuple(map(figures_of, group)) if several else (),
        )


def _shown(episode: Episode, value: _Started) -> None:
    episode.environment, messages, episode.tools = value
    episode.messages = list(messages)


def _outcome(episode: Episode, value: dict[str, Any]) -> None:
    episode.outcome = value


def _ended(environment: Environment, failed: bool) -> dict[str, Any]:
    """An environment's outcome; of one that failed none. Closed in any case."""
    try:
        return {} if failed else outcome_of(environment)
    finally:
        close(environment)
