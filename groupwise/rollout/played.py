"""What came of a question's episodes."""

from dataclasses import dataclass

from groupwise.data import Output


@dataclass(frozen=True)
class Played:
    """The outputs of a question, one an episode; failures: of each what its environment raised, "" for none.

    further: an episode's other outputs with its place among the outputs: an agent may have asked several things. They
    get the episode's reward.
    """

    outputs: tuple[Output, ...]
    failures: tuple[str, ...]
    further: tuple[tuple[int, Output], ...] = ()

    @property
    def sound(self) -> list[Output]:
        """The outputs whose environment did not fail."""
        return [output for output, failure in zip(self.outputs, self.failures, strict=True) if not failure]
