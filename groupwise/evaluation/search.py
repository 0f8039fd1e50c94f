"""Monte-Carlo tree search over the steps of one answer: which step to try next, and which answer to give.

Knows a tree and numbers: no model, no text, no torch. Who grows the tree says what a step is.
"""

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from groupwise import registry
from groupwise.errors import ConfigError

T = TypeVar("T")


@dataclass(frozen=True)
class Settings:
    """What a search is asked to do.

    method: its name. guide: label of the reward function that scores partial outputs. separator: ends a step. width:
    continuations sampled where the tree grows. simulations: walks from the root. c_puct: how much is explored.
    max_steps: the last of them goes on to the end of the output.
    """

    method: str
    guide: str
    separator: str = "\n"
    width: int = 4
    simulations: int = 16
    c_puct: float = 1.0
    max_steps: int = 16


@dataclass(frozen=True)
class Step(Generic[T]):
    """A step that was sampled. key: equal for steps that say the same; value: the guide's, of everything up to it."""

    key: Hashable
    state: T
    value: float
    finished: bool


@dataclass
class Node(Generic[T]):
    """A partial output. prior: how likely the policy takes this step; total: sum of the values backed up."""

    state: T
    value: float
    prior: float
    finished: bool
    depth: int
    visits: int = 0
    total: float = 0.0
    children: list["Node[T]"] = field(default_factory=list)

    @property
    def mean(self) -> float:
        """Q: mean of the values backed up; the guide's own before any was."""
        return self.total / self.visits if self.visits else self.value


def puct(mean: float, prior: float, *, visits: int, parent_visits: int, c_puct: float) -> float:
    """Q + c P sqrt(N(parent)) / (1 + N): what a step is worth trying (AlphaZero, Silver et al. 2018)."""
    return mean + c_puct * prior * math.sqrt(parent_visits) / (1 + visits)


class Tree(Generic[T]):
    """The tree of one question. A simulation is `select`, `expand` if the leaf is not finished, `backup`.

    A guide may score on any scale: means are scaled to [0, 1] by the least and greatest value seen in this tree
    (MuZero, arXiv 1911.08265, appendix B), so that c_puct means the same for each.
    """

    def __init__(self, start: T, *, c_puct: float) -> None:
        self.root: Node[T] = Node(start, value=0.0, prior=1.0, finished=False, depth=0)
        self._c_puct = c_puct
        self._low, self._high = float("inf"), float("-inf")

    def select(self) -> list[Node[T]]:
        """The path from the root to a leaf, each step the one with the highest PUCT; among equals the first."""
        path = [self.root]
        while path[-1].children:
            above = path[-1]
            path.append(max(above.children, key=lambda node: self._worth(node, above)))
        return path

    def expand(self, leaf: Node[T], steps: Sequence[Step[T]]) -> None:
        """Puts sampled steps below a leaf; equal ones become one, with their share as the prior.

        Samples of the policy are their own prior: a share of 1 / width each (Sampled MuZero, arXiv 2104.06303).
        """
        first: dict[Hashable, Node[T]] = {}
        for step in steps:
            node = first.setdefault(step.key, Node(step.state, step.value, 0.0, step.finished, leaf.depth + 1))
            node.prior += 1 / len(steps)
            self._low, self._high = min(self._low, step.value), max(self._high, step.value)
        leaf.children = list(first.values())

    def backup(self, path: Sequence[Node[T]]) -> None:
        """Counts a simulation along its path, with the value of the leaf that it came to."""
        for node in path:
            node.visits += 1
            node.total += path[-1].value

    def answer(self) -> Node[T]:
        """The finished output visited most, among equals that of the highest mean, then the first.

        A partial output, to be gone on with, where none is finished yet or where that to which most visits lead, step
        by step, is worth more than the finished one: a growing tree is not held to the first end that it met.
        """
        finished = [node for node in self._nodes(self.root) if node.finished]
        promising = self.root
        while promising.children:
            promising = max(promising.children, key=_tried)
        if not finished:
            return promising
        best = max(finished, key=_tried)
        return promising if promising.mean > best.mean else best

    def _worth(self, node: Node[T], above: Node[T]) -> float:
        span = self._high - self._low
        scaled = (node.mean - self._low) / span if span > 0 else 0.0
        return puct(scaled, node.prior, visits=node.visits, parent_visits=above.visits, c_puct=self._c_puct)

    def _nodes(self, node: Node[T]) -> Iterator[Node[T]]:
        yield node
        for child in node.children:
            yield from self._nodes(child)


def _tried(node: Node[Any]) -> tuple[int, float]:
    return node.visits, node.mean


def settings_of(search: str | None, given: Mapping[str, Any]) -> Settings | None:
    """The settings of a search as the command line gave them, by name, None where left out. None: no search.

    Raises ConfigError for what would not be read, is missing or cannot be.
    """
    set_by = {name: value for name, value in given.items() if value is not None}
    if search is None:
        if set_by:
            name, value = next(iter(set_by.items()))
            raise ConfigError(f"{_OPTIONS[name]} {value!r} without --search: not read", hint="add --search mcts")
        return None
    registry.check(registry.SEARCHES, search, "--search")
    if "guide" not in set_by:
        raise ConfigError(
            f"--search {search} without --guide: nothing would say which step is good",
            hint="name a reward of the recipe that scores partial outputs (docs/evaluation.md)",
        )
    for name in ("width", "simulations", "max_steps"):
        if set_by.get(name, 1) < 1:
            raise ConfigError(f"{_OPTIONS[name]} {set_by[name]}: too few", hint="give 1 or more")
    if not 0 <= set_by.get("c_puct", 1.0) < math.inf:
        raise ConfigError(f"--c-puct {set_by['c_puct']}: not possible", hint="give 0 (no exploration) or more")
    if set_by.get("separator") == "":
        raise ConfigError("--step-separator '': no step would end", hint="give some text; \\n stands for a line break")
    if "separator" in set_by:
        set_by["separator"] = set_by["separator"].replace("\\n", "\n").replace("\\t", "\t")
    return Settings(method=search, **set_by)


_OPTIONS = {
    "guide": "--guide",
    "separator": "--step-separator",
    "width": "--width",
    "simulations": "--simulations",
    "c_puct": "--c-puct",
    "max_steps": "--max-steps",
}
