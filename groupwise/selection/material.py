"""What a selection needs beside the outputs: held-out questions by their words, and the examples to mix in."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from groupwise.config import QuestionsConfig, RejectionConfig
from groupwise.data import Message, Question
from groupwise.datasets import files
from groupwise.datasets.base import load_questions
from groupwise.datasets.dataset import read_questions
from groupwise.datasets.inner import bare
from groupwise.selection.contamination import Heldout, asked, contents, held_out
from groupwise.selection.mixture import Source, clean, read_sources


@dataclass(frozen=True)
class Material:
    """heldout: what nothing may share words with. bare: texts of each training question (its id) without a template."""

    heldout: Heldout
    bare: dict[str, list[str]]
    sources: tuple[Source, ...]

    def contaminated(self, question: Question, answer: Sequence[Message]) -> bool:
        """True if a training question or an answer to it shares words with a held-out question."""
        return self.heldout.question_in([*self.bare[question.id], *contents(answer)]) is not None


def load_material(config: RejectionConfig, questions: QuestionsConfig, *, seed: int) -> Material:
    """Reads the files of `rejection.mix` and `rejection.against`.

    Raises ConfigError or DataError for a file that is not there or wrong, or an example of `mix` that is contaminated.
    """
    # Without system prompt and template: their words are in every question, and say nothing of any.
    found = load_questions(bare(questions), seed)
    sources = read_sources(config, seed=seed)
    texts = {question.id: contents(question.messages) for question in found.train}
    spoken = (contents(example.messages) for source in sources for example in source.examples)
    against = dict(_evaluated_on(config, found.heldout))
    heldout = held_out(against, n=config.ngram, documents=chain(texts.values(), spoken))
    return Material(heldout, texts, tuple(clean(source, heldout, config) for source in sources))


def _evaluated_on(config: RejectionConfig, heldout: Sequence[Question]) -> Iterator[tuple[str, str]]:
    """(name in words, what is asked) of every held-out question, and of those in the files of `rejection.against`."""
    for question in heldout:
        yield f"held-out question {question.id!r}", asked(question.messages)
    for path in config.against:
        for number, question in enumerate(read_questions(files.Source(path)), 1):
            yield f"question {number} of {path}", asked(question.messages)
