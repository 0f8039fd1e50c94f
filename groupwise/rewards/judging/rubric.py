"""A rubric: the file with a judge's prompt, its criteria and how its reply is read. Asks nobody."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from groupwise.config.sections import Section
from groupwise.errors import RewardError
from groupwise.recipe_file import Refused, tree_of
from groupwise.registry import nearest

MOST_CHARACTERS = 200_000
_PLACE = re.compile(r"\{([A-Za-z_]\w*)\}")
_NAME = re.compile(r"[A-Za-z][\w-]*")
OF_ONE = ("question", "answer", "output")
OF_TWO = ("question", "answer", "first", "second")
Finite = Annotated[float, Field(ge=-1e9, le=1e9)]


class Criterion(Section):
    """What is graded. weight: in the mean over the criteria; description: what the judge reads of it."""

    weight: float = Field(default=1.0, gt=0, le=1e9)
    description: str | None = None


class Replies(Section):
    """How a reply is read. read: json, an object with a number for each criterion; tag, <name>7</name>; number, alone
    on the last line. range: the least and the greatest grade."""

    read: Literal["json", "tag", "number"] = "json"
    range: tuple[Finite, Finite] = (0.0, 10.0)

    @model_validator(mode="after")
    def _rises(self) -> "Replies":
        if not self.range[0] < self.range[1]:
            raise ValueError(f"range {list(self.range)} does not rise; write it as [0, 10]")
        return self


class Rubric(Section):
    """prompt: with {question}, {answer} and {output} in their places, or {first} and {second} for two outputs."""

    system: str | None = None
    prompt: str
    criteria: dict[str, Criterion] = Field(default_factory=lambda: {"score": Criterion()}, min_length=1)
    reply: Replies = Replies()

    @property
    def wants_answer(self) -> bool:
        return "answer" in _PLACE.findall(self.prompt)

    @property
    def digest(self) -> str:
        return hashlib.blake2b(self.model_dump_json().encode(), digest_size=16).hexdigest()

    @model_validator(mode="after")
    def _can_be_read(self) -> "Rubric":
        wrong = next((name for name in self.criteria if not _NAME.fullmatch(name)), None)
        if wrong is not None:
            raise ValueError(f"criteria: {wrong!r} is no name; use letters, digits, _ and -")
        if self.reply.read == "number" and len(self.criteria) > 1:
            raise ValueError(
                f"reply.read = number holds one grade and there are {len(self.criteria)} criteria; use json"
            )
        return self


JUDGES = {"judge": OF_ONE, "pairwise_judge": OF_TWO, "local_judge": OF_ONE, "local_pairwise_judge": OF_TWO}
"""The judges among the built-in rewards, with the texts that their prompt may hold."""


def reads_answer(function: str, params: Mapping[str, Any]) -> bool:
    """Whether a reward of these params is a judge whose rubric shows it the right answer. Raises as `load_rubric`."""
    return function in JUDGES and load_rubric(params.get("rubric", ""), JUDGES[function]).wants_answer


def load_rubric(path: str, places: tuple[str, ...]) -> Rubric:
    """The rubric in a YAML file. places: the texts that its prompt may hold, the last of which it must.

    Raises RewardError for a file that is none, with what is wrong in it."""
    if not isinstance(path, str):
        raise RewardError(f"params.rubric = {path!r}: give the path of a file", hint="rubric: rubric.yml")
    try:
        text = Path(path).read_text(encoding="utf-8")[:MOST_CHARACTERS]
        tree = tree_of(text)
    except (OSError, UnicodeDecodeError) as error:
        raise RewardError(f"params.rubric = {path!r}: cannot be read: {error}", hint="give a YAML file") from None
    except (Refused, yaml.YAMLError, ValueError, RecursionError) as error:
        raise RewardError(f"rubric {path}: not YAML: {error}", hint="docs/judges.md shows one") from None
    if not isinstance(tree, Mapping):
        raise RewardError(f"rubric {path}: it holds no keys", hint="it needs at least `prompt` (docs/judges.md)")
    try:
        rubric = Rubric.model_validate(dict(tree))
    except ValidationError as error:
        raise RewardError(f"rubric {path}: {_words(error)}", hint="docs/judges.md shows one") from None
    found = _PLACE.findall(rubric.prompt)
    strange = next((name for name in found if name not in places), None)
    if strange is not None:
        raise RewardError(f"rubric {path}: prompt: {{{strange}}} stands for nothing", hint=nearest(strange, places))
    missing = next((name for name in (p for p in places if p not in ("question", "answer")) if name not in found), None)
    if missing is not None:
        raise RewardError(f"rubric {path}: prompt: {{{missing}}} is not in it, so nothing would be judged")
    return rubric


def filled(template: str, texts: Mapping[str, str]) -> str:
    """The template with the texts in their places, in one pass: what looks like a place inside a text stays."""
    return _PLACE.sub(lambda match: texts[match[1]], template)


def _words(error: ValidationError) -> str:
    item: Any = error.errors()[0]
    place = ".".join(map(str, item["loc"]))
    said = str(item["msg"]).removeprefix("Value error, ")
    if item["type"] == "extra_forbidden":
        said = f"no such key; {nearest(str(item['loc'][-1]), Rubric.model_fields)}"
    return f"{place}: {said}" if place else said
