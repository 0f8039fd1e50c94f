"""Questions from rows, by the column names that TRL, verl, GSM8K and EasyR1 use. Knows columns, not file formats."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from groupwise.data import Message, Question, Role
from groupwise.envs.files import Row, excerpt, rows
from groupwise.errors import DataError
from groupwise.registry import nearest

PROMPT_COLUMNS = ("prompt", "problem", "question")
ANSWER_COLUMNS = ("answer", "solution", "ground_truth", "label", "target")
_VERL = "reward_model"  # verl keeps the answer in a struct of this name, under ground_truth
_ROLES: dict[str, Role] = {role: role for role in get_args(Role)}


def read_questions(
    path: Path, *, prompt_column: str | None = None, answer_column: str | None = None, limit: int | None = None
) -> list[Question]:
    """The first `limit` (None: all) questions of a file or a `datasets` folder.

    The prompt is a string, which becomes one user message (and sets meta["_plain"]), or a list of messages. Every
    column goes into meta as it is. Raises DataError naming the file, the row, the value and the remedy.
    """
    found = rows(path, limit)
    columns = list(dict.fromkeys(name for row in found for name in row.cells))
    prompt = _prompt_column(path, columns, prompt_column)
    answer = _answer_column(path, found, columns, answer_column)
    return [_question(row, path.stem, prompt, answer) for row in found]


def _question(row: Row, stem: str, prompt_column: str, answer_column: str | None) -> Question:
    if prompt_column not in row.cells:
        raise DataError(
            f"{row.where}: no column {prompt_column!r}; columns: {', '.join(row.cells) or 'none'}",
            hint=nearest(prompt_column, row.cells) if row.cells else "every row needs it",
        )
    prompt = row.cells[prompt_column]
    meta = dict(row.cells)
    if isinstance(prompt, str):
        if not prompt.strip():
            raise DataError(f"{row.where}: {prompt_column} = {prompt!r} is empty", hint="drop the row or fill it in")
        messages: tuple[Message, ...] = (Message("user", encodable(prompt, f"{row.where}: {prompt_column}")),)
        meta["_plain"] = True
    else:
        messages = conversation(prompt, f"{row.where}: {prompt_column}")
    return Question(_id(row, stem), messages, _answer(row, answer_column), meta, row.where)


def conversation(
    prompt: Any,
    where: str,
    *,
    keys: tuple[str, str] = ("role", "content"),
    roles: Mapping[str, Role] = _ROLES,
) -> tuple[Message, ...]:
    """The messages of a cell that lists them, with what the file calls role and content, and the roles.

    where: the cell's place in words. Raises DataError if it holds anything else, or no word at all.
    """
    role_key, content_key = keys
    user = next(name for name, role in roles.items() if role == "user")
    if not isinstance(prompt, list):
        raise DataError(
            f"{where} = {excerpt(prompt)} is {type(prompt).__name__}", hint="give a string or a list of messages"
        )
    messages = []
    for index, turn in enumerate(prompt):
        place = f"{where}[{index}]"
        if not isinstance(turn, dict) or not set(keys) <= set(turn):
            raise DataError(
                f"{place} = {excerpt(turn)}: no {role_key} and {content_key}",
                hint=f'write {{"{role_key}": "{user}", "{content_key}": "..."}}',
            )
        role, content = turn[role_key], turn[content_key]
        if role not in tuple(roles):
            raise DataError(f"{place}.{role_key} = {excerpt(role)}: unknown", hint=nearest(str(role), roles))
        if not isinstance(content, str):
            raise DataError(
                f"{place}.{content_key} = {excerpt(content)}: not a string", hint="give text; images are not read"
            )
        messages.append(Message(roles[role], encodable(content, f"{place}.{content_key}")))
    if not any(message.content.strip() for message in messages):
        raise DataError(f"{where} = {excerpt(prompt)} is empty", hint="drop the row or fill it in")
    return tuple(messages)


def encodable(text: str, where: str) -> str:
    """The text. Raises DataError if it has half a surrogate pair, which no tokenizer takes."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"{where}: character {error.start} is half of a surrogate pair: {excerpt(text[error.start])}",
                hint="write the whole character",
            ) from None
    return text


def _prompt_column(path: Path, columns: Sequence[str], wanted: str | None) -> str:
    present = f"columns: {', '.join(columns) or 'none'}"
    if wanted is not None:
        if wanted not in columns:
            raise DataError(
                f"{path}: questions.prompt_column = {wanted!r} is not there; {present}", hint=_near(wanted, columns)
            )
        return wanted
    for name in PROMPT_COLUMNS:
        if name in columns:
            return name
    near = next((text for name in PROMPT_COLUMNS if "did you mean" in (text := _near(name, columns))), "")
    raise DataError(
        f"{path}: no column {', '.join(PROMPT_COLUMNS[:-1])} or {PROMPT_COLUMNS[-1]}; {present}",
        hint=f"name the column with the question in questions.prompt_column{'; ' + near if near else ''}",
    )


def _answer_column(path: Path, found: Sequence[Row], columns: Sequence[str], wanted: str | None) -> str | None:
    """The column with the answers: the one asked for, else the first usual one in which any row has an answer."""
    if wanted is None:
        usual = [name for name in (_VERL, *ANSWER_COLUMNS) if name in columns]
        return next((name for name in usual if any(_answer(row, name) is not None for row in found)), None)
    if wanted not in columns:
        raise DataError(
            f"{path}: questions.answer_column = {wanted!r} is not there; columns: {', '.join(columns) or 'none'}",
            hint=_near(wanted, columns),
        )
    if all(_answer(row, wanted) is None for row in found):
        raise DataError(
            f"{path}: questions.answer_column = {wanted!r} is empty in all {len(found)} rows",
            hint="fill it in, or drop questions.answer_column if no reward needs an answer",
        )
    return wanted


def _answer(row: Row, column: str | None) -> Any:
    value = row.cells.get(column) if column is not None else None
    if column == _VERL:
        value = value.get("ground_truth") if isinstance(value, dict) else None
    return None if isinstance(value, str) and not value.strip() else value


def _id(row: Row, stem: str) -> str:
    """A row's name: its column `id`, verl's index, or the file's stem and its number."""
    extra = row.cells.get("extra_info")
    index = extra.get("index") if isinstance(extra, dict) else None
    known = row.cells.get("id")
    if known is None:
        known = index
    return f"{stem}:{row.number}" if known is None else str(known)


def _near(name: str, columns: Sequence[str]) -> str:
    return nearest(name, columns) if columns else "every row needs it"
