"""A run as a notebook reads it: its recipe, and rows of what its record holds. Never writes; also while it trains."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from groupwise.errors import ConfigError, DataError
from groupwise.record.read import open_record
from groupwise.record.turns import episode_row
from groupwise.registry import nearest

if TYPE_CHECKING:
    import pandas

    from groupwise.config import Recipe


class Rows(list[dict[str, Any]]):
    """Rows of plain values, one dict each."""

    def frame(self) -> "pandas.DataFrame":
        """The rows as a pandas DataFrame. Raises ConfigError without pandas."""
        try:
            import pandas
        except ImportError:
            raise ConfigError("rows as a data frame: pandas is not installed", hint="pip install pandas") from None
        return pandas.DataFrame(self)


class RecordedRun:
    """A run directory, open for reading: `groupwise.open_run`. Use `with`, or `close` when done.

    Steps are counted from 1, as the live table counts them. A step that was run again is seen as it was done last.
    """

    def __init__(self, path: str | Path) -> None:
        """Raises DataError if the folder holds no run or its record cannot be read."""
        self.path = Path(path)
        self.record = open_record(path)

    @property
    def info(self) -> dict[str, str]:
        """What is known of the whole run: state, stage, model, seed, started, ..."""
        return {key: value for key, value in self.record.info().items() if key != "recipe"}

    @property
    def recipe(self) -> "Recipe":
        """The recipe that the run was last started with."""
        from groupwise.config import recipe_from
        from groupwise.recipe_file import tree_of

        return recipe_from(tree_of(self.record.info()["recipe"]), where=str(self.path))

    def metrics(self, *names: str) -> Rows:
        """A row for each step: `step`, and each metric that it has, or those named (docs/metrics: `list metrics`).

        Raises DataError for a name that no step has.
        """
        by_step: dict[int, dict[str, Any]] = {step: {"step": step + 1} for step in self.record.steps()}
        known = set()
        for step, name, value in self.record.metrics():
            known.add(name)
            if not names or name in names:
                by_step[step][name] = value
        for name in names:
            if name not in known:
                raise DataError(f"{self.path}: no metric {name!r}", hint=nearest(name, known))
        return Rows(by_step.values())

    def questions(self, split: str | None = None) -> Rows:
        """A row for each question of a split (train, heldout) or of both: `id`, `messages`, `answer`, `meta`, `images`.

        images: digests of its pictures, as in `pictures`."""
        return Rows(
            {
                "id": question.id,
                "messages": [turn.as_dict() for turn in question.messages],
                "answer": question.answer,
                "meta": dict(question.meta),
                "images": [image.digest for turn in question.messages for image in turn.images],
            }
            for question in self.record.questions(split)
        )

    def pictures(self) -> Rows:
        """A row for each picture that was asked about or that an environment showed: `digest`, `reference` (the path it
        was given by), `file`, `width`, `height` (pixels) and `thumbnail` (the bytes of a small PNG or JPEG)."""
        return Rows(vars(picture) for picture in self.record.pictures())

    def thumbnail(self, digest: str) -> bytes:
        """A small PNG or JPEG of the picture with that digest, or that beginning of it. Raises DataError for none."""
        found = [picture for picture in self.record.pictures() if picture.digest.startswith(digest)]
        if len(found) != 1:
            what = "no picture" if not found else f"{len(found)} pictures"
            raise DataError(f"{self.path}: {what} with the digest {digest!r}", hint="see the rows of pictures()")
        return found[0].thumbnail

    def outputs(self, step: int | None = None, question: str | None = None, *, limit: int | None = None) -> Rows:
        """A row for each output of a step, of a question (its id), of both or of the run.

        `reward` is the weighted sum, `reward/<name>` the value of each function before its weight; None where it
        abstained or failed. `advantage`: the mean over the output's tokens; None: it was left out of the update. An
        output of several turns has the last one's `text`; `turns`: all, each with `role`, `content`, its `tokens`
        [first, end) and its `calls` of tools; `outcome`: what the environment says of the episode.
        """
        place = None if step is None else step - 1
        return Rows(
            {
                "step": found.step + 1,
                "question": found.question_id,
                "group": found.group_index,
                "sample": found.sample,
                "text": found.output.text,
                "finish": found.output.finish,
                "length": found.length,
                "reward": found.reward.value,
                "advantage": found.advantage,
                **{f"reward/{name}": part.value for name, part in found.reward.parts.items()},
                **episode_row(found.output),
            }
            for found in self.record.outputs(place, question, limit=limit)
        )

    def evaluations(self) -> Rows:
        """A row for each evaluation: `name`, `step` (steps done before it), and its figures (`accuracy`, ...)."""
        return Rows({"name": e.name, "step": e.step, **dict(_flat(e.figures))} for e in self.record.evaluations())

    def answers(self, evaluation: str = "after") -> Rows:
        """A row for each output of an evaluation: `question`, `sample` (-1: greedy), `text`, `correct`, ...; of several
        turns also `turns` and `outcome`, as in `outputs`.

        Raises DataError for an evaluation that was not made.
        """
        by_name = {found.name: found for found in self.record.evaluations()}
        if evaluation not in by_name:
            raise DataError(f"{self.path}: no evaluation {evaluation!r}", hint=nearest(evaluation, by_name))
        return Rows(
            {
                "question": answer.question_id,
                "sample": answer.sample,
                "text": answer.text,
                "correct": answer.correct,
                "format": answer.format,
                "finish": answer.finish,
                "tokens": answer.tokens,
                **episode_row(answer),
            }
            for answer in self.record.answers(by_name[evaluation])
        )

    def close(self) -> None:
        self.record.close()

    def __enter__(self) -> "RecordedRun":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        info = self.record.info()
        return f"<run {self.path}: {info.get('stage')}, {len(self.record.steps())} steps, {info.get('state')}>"


def _flat(figures: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    """Figures with those inside figures by `name.key`."""
    for key, value in figures.items():
        if isinstance(value, Mapping):
            yield from ((f"{key}.{inner}", found) for inner, found in _flat(value))
        else:
            yield key, value
