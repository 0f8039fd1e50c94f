"""The folder that `groupwise eval --out` makes: eval.json, eval.md, answers.jsonl and a picture. Measures nothing."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groupwise.atomic import write_whole
from groupwise.data import Question, Sample
from groupwise.errors import DataError, RunError
from groupwise.evaluation.plot import draw
from groupwise.record.turns import episode_row
from groupwise.rollout.evaluate import Evaluation
from groupwise.strict_json import json_line, write_json

FIGURES, TEXT, ANSWERS, PICTURE = "eval.json", "eval.md", "answers.jsonl", "eval.png"


@dataclass(frozen=True)
class Answered:
    """A model's answers: greedy and sampled ones, and by simulations those of a search with their tokens."""

    model: str
    evaluation: Evaluation
    searched: Mapping[int, Sequence[tuple[Sample, int]]]


def check_folder(folder: Path) -> None:
    """Makes the folder. Raises DataError if it cannot be one, or holds an evaluation already."""
    if (folder / FIGURES).exists():
        raise DataError(f"--out {folder}: an evaluation is there already", hint="give another name")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"--out {folder}: {error.strerror}", hint="give another place") from None


def write_files(
    folder: Path, content: dict[str, Any], text: str, *, questions: Sequence[Question], answered: Sequence[Answered]
) -> str:
    """Writes everything, the figures last: where they are, all is. Returns where it is, in words. Raises RunError."""
    try:
        drawn = bool(content["curve"]) and draw(content["curve"], folder / PICTURE, title=str(content["model"]))
        if content["curve"] and not drawn:
            print("no picture: matplotlib is missing; pip install 'groupwise[plot]'", file=sys.stderr)
        lines = [json_line(row) for found in answered for row in _rows(found, questions)]
        _write(folder / ANSWERS, "".join(f"{line}\n" for line in lines))
        shown = f"\n![accuracy against sampled tokens]({PICTURE})\n" if drawn else ""
        _write(folder / TEXT, f"# Evaluation of {content['model']}\n\n{text}\n{shown}")
        write_json(folder / FIGURES, content)
    except OSError as error:
        raise RunError(
            f"--out {folder}: {error}", hint="free some space or give another place, and evaluate again"
        ) from None
    files = [("figures", FIGURES), ("tables", TEXT), ("answers", ANSWERS), *([("picture", PICTURE)] if drawn else [])]
    return "\n".join(f"{name:<8} {folder / file}" for name, file in files)


def _rows(answered: Answered, questions: Sequence[Question]) -> Iterator[dict[str, Any]]:
    """One object an answer: of a search one for each number of simulations, with the tokens that it took in all."""
    for question, sample in zip(questions, answered.evaluation.greedy, strict=True):
        yield _row(answered.model, "greedy", 0, question, sample)
    for question, group in zip(questions, answered.evaluation.sampled, strict=False):
        for number, sample in enumerate(group):
            yield _row(answered.model, "sample", number, question, sample)
    for simulations, found in answered.searched.items():
        for question, (sample, tokens) in zip(questions, found, strict=True):
            yield {**_row(answered.model, "search", simulations, question, sample), "sampled_tokens": tokens}


def _row(model: str, way: str, number: int, question: Question, sample: Sample) -> dict[str, Any]:
    output, parts = sample.output, sample.reward.parts
    return {
        "model": model,
        "way": way,
        "number": number,
        "question_id": question.id,
        "messages": [message.as_dict() for message in question.messages],
        "answer": question.answer,
        "text": output.text,
        **episode_row(output),
        "finish": output.finish,
        "token_ids": output.tokens.tolist(),
        "logprobs": output.logprobs.tolist(),
        "reward": sample.reward.value,
        "rewards": {label: part.value for label, part in parts.items()},
        "failed": {label: part.detail for label, part in parts.items() if part.state == "failed"},
    }


def _write(path: Path, text: str) -> None:
    write_whole(path, text.encode("utf-8", "surrogatepass"))  # a lone surrogate is legal JSON
