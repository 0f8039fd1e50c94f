"""Tree search with an engine and a reward function: steps sampled from the policy, judged by the guide.

The trees of all questions grow side by side, so that the engine always has many outputs on their way.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from groupwise.config import Recipe
from groupwise.data import Output, Question, Reward
from groupwise.engines.base import Engine, Task, generate, stream
from groupwise.evaluation.search import Node, Settings, Step, Tree
from groupwise.model.tokenizer import ChatTokenizer
from groupwise.rewards.base import RewardSet, check_failures
from groupwise.rollout.evaluate import STREAMS_STEP, powers_up_to

STEPS, ENDINGS = STREAMS_STEP + 1, STREAMS_STEP + 2
"""Step numbers in the random streams of what the tree grows by, and of outputs gone on with to give an answer."""


@dataclass(frozen=True)
class Found:
    """What the search answers a question with, and the tokens sampled for it until then."""

    output: Output
    tokens: int


@dataclass(frozen=True)
class _Asked:
    """A question, encoded, with its tree."""

    question: Question
    tokens: tuple[int, ...]
    tree: Tree[Output]


@dataclass(frozen=True)
class _Place:
    """A partial output of a question that is to be gone on with; streams: of each continuation."""

    asked: _Asked
    node: Node[Output]
    streams: tuple[int, ...]


def mcts(
    recipe: Recipe,
    questions: Sequence[Question],
    *,
    tokenizer: ChatTokenizer,
    engine: Engine,
    guide: RewardSet,
    settings: Settings,
    trained: int = 0,
) -> dict[int, list[Found]]:
    """Monte-Carlo tree search with PUCT: after 1, 2, 4 .. n simulations the answer to each question.

    A simulation walks to a leaf, samples `width` next steps there unless it is finished, has the guide score them, and
    backs up the leaf's own score as a mean. The answer is `Tree.answer`; a partial one is gone on with to its end,
    which costs its tokens and leaves the tree as it is. guide: one reward function. trained: steps that the
    policy has done, for it. Raises RewardLimitError if it failed on too many partial outputs.
    """
    sampler = _Sampler(recipe, tokenizer, engine, settings)
    all_asked = [_asked(question, tokenizer, settings) for question in questions]
    spent = [0] * len(questions)
    found: dict[int, list[Found]] = {}
    for simulation in range(1, settings.simulations + 1):
        paths = [asked.tree.select() for asked in all_asked]
        growing = [index for index, path in enumerate(paths) if not path[-1].finished]
        places = [
            _Place(all_asked[i], paths[i][-1], _streams(recipe, all_asked[i], simulation, settings.width))
            for i in growing
        ]
        continued = sampler.continued(places, to_the_end=False)
        scores = _scores(recipe, guide, places, [outputs for outputs, _ in continued], tokenizer, trained)
        for index, place, (outputs, tokens), values in zip(growing, places, continued, scores, strict=True):
            spent[index] += tokens
            place.asked.tree.expand(place.node, [sampler.step(o, v) for o, v in zip(outputs, values, strict=True)])
        for asked, path in zip(all_asked, paths, strict=True):
            asked.tree.backup(path)
        if simulation in powers_up_to(settings.simulations):
            found[simulation] = _answers(recipe, sampler, all_asked, spent, simulation)
    return found


class _Sampler:
    """Goes on with partial outputs, as the recipe samples."""

    def __init__(self, recipe: Recipe, tokenizer: ChatTokenizer, engine: Engine, settings: Settings) -> None:
        self._tokenizer, self._engine, self._settings = tokenizer, engine, settings
        assert recipe.rollout is not None
        self._sampling = recipe.rollout.sampling()

    def continued(self, places: Sequence[_Place], *, to_the_end: bool) -> list[tuple[list[Output], int]]:
        """Of each place the outputs, whole from the question on, and how many tokens were sampled for them.

        Each by one step; to its end, if so asked or if it is the last step that may be.
        """
        last = [to_the_end or place.node.depth + 1 >= self._settings.max_steps for place in places]
        found: dict[int, tuple[list[Output], int]] = {}
        for whole in (False, True):
            chosen = [index for index, is_last in enumerate(last) if is_last == whole]
            stop = self._sampling.stop if whole else (*self._sampling.stop, self._settings.separator)
            tasks = [self._task(places[index]) for index in chosen]
            if not tasks:
                continue
            sampled = generate(self._engine, tasks, replace(self._sampling, stop=stop))
            for index, outputs in zip(chosen, sampled, strict=True):
                before = places[index].node.state
                found[index] = (
                    [self._joined(before, output) for output in outputs],
                    sum(len(output.tokens) for output in outputs),
                )
        return [found[index] for index in range(len(places))]

    def step(self, output: Output, value: float) -> Step[Output]:
        return Step(tuple(output.tokens.tolist()), output, value, self._is_finished(output))

    def _task(self, place: _Place) -> Task:
        # The output so far goes on as the question's tokens: nothing is encoded again, so nothing can change.
        so_far = place.node.state.tokens.tolist()
        room = self._sampling.max_new_tokens - len(so_far)
        return Task((*place.asked.tokens, *so_far), place.streams, (room,) * len(place.streams))

    def _joined(self, before: Output, output: Output) -> Output:
        tokens = np.concatenate([before.tokens, output.tokens])
        return replace(
            output,
            question_tokens=before.question_tokens,
            tokens=tokens,
            sampled=np.ones(len(tokens), dtype=bool),
            logprobs=np.concatenate([before.logprobs, output.logprobs]),
            text=self._tokenizer.decode(tokens.tolist()),
        )

    def _is_finished(self, output: Output) -> bool:
        """Whether anything but the separator ended it."""
        return (
            output.finish == "length"
            or len(output.tokens) >= self._sampling.max_new_tokens
            or int(output.tokens[-1]) in self._tokenizer.end_tokens
            or any(stop in output.text for stop in self._sampling.stop)
        )


def _asked(question: Question, tokenizer: ChatTokenizer, settings: Settings) -> _Asked:
    tokens = tuple(tokenizer.encode(question.messages))
    none = np.zeros(0, np.int32)
    empty = Output(np.array(tokens, np.int32), none, none.astype(bool), none.astype(np.float32), "", "stop")
    return _Asked(question, tokens, Tree(empty, c_puct=settings.c_puct))


def _streams(recipe: Recipe, asked: _Asked, simulation: int, width: int) -> tuple[int, ...]:
    """A tree grows at most once a simulation, so its number and the place among the continuations name a stream."""
    first = simulation * width
    return tuple(stream(recipe.seed, STEPS, asked.question.id, first + number) for number in range(width))


def _scores(
    recipe: Recipe,
    guide: RewardSet,
    places: Sequence[_Place],
    outputs: Sequence[Sequence[Output]],
    tokenizer: ChatTokenizer,
    trained: int,
) -> list[list[float]]:
    """The guide's value of each output. Where it has none to give, an output is worth what its siblings are in the
    mean; if it has none of them either, what the output was worth before this step."""
    questions = [place.asked.question for place, some in zip(places, outputs, strict=True) for _ in some]
    flat = [output for some in outputs for output in some]
    rewards = guide.score(questions, flat, step=trained, decode=tokenizer.decode) if flat else []
    check_failures(rewards, recipe.run.failed_rewards_limit)
    found_scores = iter([_value(reward) for reward in rewards])
    values = []
    for place, some in zip(places, outputs, strict=True):
        own = [next(found_scores) for _ in some]
        known = [value for value in own if value is not None]
        otherwise = sum(known) / len(known) if known else place.node.value
        values.append([otherwise if value is None else value for value in own])
    return values


def _value(reward: Reward) -> float | None:
    """What one function says of an output so far: the reward of its last step if it speaks of steps, else its value."""
    if reward.steps:
        return reward.steps[-1][1]
    return reward.value_of(next(iter(reward.parts)))


def _answers(
    recipe: Recipe, sampler: _Sampler, all_asked: Sequence[_Asked], spent: Sequence[int], simulation: int
) -> list[Found]:
    """Each tree's answer; one that is not finished is gone on with to its end."""
    nodes = [asked.tree.answer() for asked in all_asked]
    found = [Found(node.state, tokens) for node, tokens in zip(nodes, spent, strict=True)]
    unfinished = [index for index, node in enumerate(nodes) if not node.finished]
    places = [
        _Place(all_asked[i], nodes[i], (stream(recipe.seed, ENDINGS, all_asked[i].question.id, simulation),))
        for i in unfinished
    ]
    for index, ([output], tokens) in zip(unfinished, sampler.continued(places, to_the_end=True), strict=True):
        found[index] = Found(output, spent[index] + tokens)
    return found
