"""The forms of a reward function: what each is called with, for which outputs at once, and what it returns.

Every form's parameters tell it (`FORMS`). What a function asks for beyond them is a column of the questions by that
name; params of the recipe come before columns.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from groupwise.data import Question
from groupwise.rewards.opening import OWN, episode_of, outcome_of
from groupwise.rewards.seen import NAMES, Unopened, asked_for, images_of

Scored = tuple[Question, str, Sequence[int]]
"""A question, the text of one of its outputs, and that output's token ids [T]."""
Samples = Sequence[Scored]


@dataclass
class Said:
    """What a function returned for some samples, and what it logged beside: by name a value for each of them."""

    returned: list[Any]
    logged: dict[str, list[Any]]


Asked = Callable[[Samples, int], tuple[Any, Callable[[Any], Said]]]
"""(samples, step) -> what the function returned for them, perhaps to be awaited, and how to read that; one sample at a
time unless the form is `at_once`."""


@dataclass(frozen=True)
class Form:
    """marks: parameters that tell the form. gives: what it is called with. columns: whether it takes the questions'
    columns too. at_once: all outputs in one call."""

    marks: tuple[str, ...]
    gives: Callable[[Samples, int, dict[str, list[Any]]], dict[str, Any]]
    names: tuple[str, ...]
    columns: bool = True
    at_once: bool = False
    score: str = "score"
    """Key of the score in a dict that it returns."""
    listed: bool = False
    """Called with lists of one."""


def asked(
    form: Form, function: Callable[..., Any], params: Mapping[str, Any], accepted: set[str] | None, wanted: set[str]
) -> Asked:
    """A form's call of a function. accepted: parameters it has; None: any. wanted: those that must be columns."""

    def call(samples: Samples, step: int) -> tuple[Any, Callable[[Any], Said]]:
        logged: dict[str, list[Any]] = {}
        given = form.gives(samples, step, logged)
        columns = _columns([question for question, _, _ in samples]) if form.columns else {}
        columns = asked_for(samples, accepted, wanted) | columns
        missing = sorted(wanted - set(columns) - set(given))
        if missing:
            there = ", ".join(sorted({**columns, **given}))
            raise TypeError(f"wants column {missing[0]!r}, or params.{missing[0]}; the questions have: {there}")
        if form is not TRL:  # whose functions take **columns; elsewhere only what is named is meant
            columns = {name: cells for name, cells in columns.items() if name in (accepted or wanted)}
        if not (form.at_once or form.listed):
            columns = {name: cells[0] for name, cells in columns.items()}
        named = {key: value for key, value in {**columns, **given}.items() if accepted is None or key in accepted}

        def said(returned: Any) -> Said:
            return Said(_listed(returned, len(samples)) if form.at_once else [_single(returned, form)], logged)

        return function(**(named | dict(params))), said

    return call


def _single(returned: Any, form: Form) -> Any:
    """What was returned for one output; of lists of one the one."""
    if not form.listed:
        return returned
    if isinstance(returned, Mapping) and "rewards" in returned:
        logs = returned.get("extra_logs") or {}
        found = {str(name): _first(value) for name, value in logs.items()}
        if "scores" in returned:
            found["scores"] = _first(returned["scores"])
        return found | {"score": _first(returned["rewards"])}
    return _first(returned)


def _first(value: Any) -> Any:
    value = value.tolist() if hasattr(value, "tolist") else value
    return value[0] if isinstance(value, list | tuple) and len(value) == 1 else value


def _listed(result: Any, count: int) -> list[Any]:
    """What a function returned for `count` outputs, as a list. Raises TypeError or ValueError if it is none of them."""
    result = result.tolist() if hasattr(result, "tolist") else result
    if not isinstance(result, Sequence) or isinstance(result, str | bytes):
        raise TypeError(f"returned {type(result).__name__}, not a list of {count} values")
    if len(result) != count:
        raise ValueError(f"returned {len(result)} value(s) for {count} completions")
    return list(result)


def _columns(questions: Sequence[Question]) -> dict[str, list[Any]]:
    names = {name: None for question in questions for name in _columns_of(question)}
    columns = {name: [q.meta.get(name) for q in questions] for name in names}
    return {"answer": [question.answer for question in questions]} | columns


def columns_of(question: Question) -> list[str]:
    """Columns of a question that a function may ask for, its pictures among them, `answer` beside them."""
    return [*_columns_of(question), *(NAMES if images_of(question) else ())]


def _columns_of(question: Question) -> list[str]:
    # as TRL has it: what is asked and said has its own parameters
    taken = ("prompt", "prompts", "completion", "completions", "completion_ids", "_plain")
    return [name for name in question.meta if name not in taken and name not in OWN]


def _trl(samples: Samples, step: int, logged: dict[str, list[Any]]) -> dict[str, Any]:
    def log_extra(column: str, values: Sequence[Any]) -> None:
        logged[str(column)] = _listed(values, len(samples))

    def log_metric(name: str, value: Any) -> None:
        logged[str(name)] = [value] * len(samples)

    return {
        "prompts": [_prompt(question) for question, _, _ in samples],
        "completions": [_completion(question, text) for question, text, _ in samples],
        "completion_ids": [list(tokens) for _, _, tokens in samples],
        "trainer_state": SimpleNamespace(global_step=step),
        "log_extra": log_extra,
        "log_metric": log_metric,
        "environments": _environments([question for question, _, _ in samples]),
    }


def _environments(questions: Sequence[Question]) -> list[Any] | None:
    """What each output's environment says of its episode, as attributes; None if there are no environments."""
    found = [outcome_of(question) for question in questions]
    return [SimpleNamespace(**outcome) for outcome in found] if any(found) else None


def _verl(samples: Samples, step: int, logged: dict[str, list[Any]]) -> dict[str, Any]:
    return {name: values[0] for name, values in _of_verl(samples).items()}


def _verl_at_once(samples: Samples, step: int, logged: dict[str, list[Any]]) -> dict[str, Any]:
    return {f"{name}s": values for name, values in _of_verl(samples).items()}


def _of_verl(samples: Samples) -> dict[str, list[Any]]:
    return {
        "data_source": [question.meta.get("data_source") for question, _, _ in samples],
        "solution_str": [text for _, text, _ in samples],
        "ground_truth": [_ground_truth(question) for question, _, _ in samples],
        "extra_info": [question.meta.get("extra_info") or {} for question, _, _ in samples],
    }


def _ground_truth(question: Question) -> Any:
    judged = question.meta.get("reward_model")
    return judged["ground_truth"] if isinstance(judged, Mapping) and "ground_truth" in judged else question.answer


def _easyr1(samples: Samples, step: int, logged: dict[str, list[Any]]) -> dict[str, Any]:
    return {"reward_input": _easyr1_at_once(samples, step, logged)["reward_inputs"][0]}


def _easyr1_at_once(samples: Samples, step: int, logged: dict[str, list[Any]]) -> dict[str, Any]:
    inputs = [
        {
            "response": text,
            "response_length": len(tokens),
            "ground_truth": _ground_truth(question),
            **({"images": Unopened(images_of(question))} if images_of(question) else {}),
        }
        for question, text, tokens in samples
    ]
    return {"reward_inputs": inputs}


def _predicted(name: str) -> Callable[[Samples, int, dict[str, list[Any]]], dict[str, Any]]:
    """EasyR1's older sequential form. name: of the parameter that gets the output's text."""
    return lambda samples, step, logged: {name: samples[0][1], "ground_truth": _ground_truth(samples[0][0])}


def _predicted_at_once(name: str) -> Callable[[Samples, int, dict[str, list[Any]]], dict[str, Any]]:
    """EasyR1's older batch form. name: of the parameter that gets the outputs' texts."""
    return lambda samples, step, logged: {
        name: [text for _, text, _ in samples],
        "ground_truths": [_ground_truth(question) for question, _, _ in samples],
    }


def _openrlhf(samples: Samples, step: int, logged: dict[str, list[Any]]) -> dict[str, Any]:
    prompts = [question.text for question, _, _ in samples]
    return {
        "queries": [prompt + text for prompt, (_, text, _) in zip(prompts, samples, strict=True)],
        "prompts": prompts,
        "labels": [question.answer for question, _, _ in samples],
    }


def _ours(samples: Samples, step: int, logged: dict[str, list[Any]]) -> dict[str, Any]:
    question, text, tokens = samples[0]
    return {"text": text, "question": question, "completion_ids": list(tokens)}


def _ours_at_once(samples: Samples, step: int, logged: dict[str, list[Any]]) -> dict[str, Any]:
    return {"texts": [text for _, text, _ in samples], "questions": [question for question, _, _ in samples]}


def _ours_of_turns(samples: Samples, step: int, logged: dict[str, list[Any]]) -> dict[str, Any]:
    question, text, _ = samples[0]
    return {"messages": episode_of(question, text), "question": question}


def _prompt(question: Question) -> str | list[dict[str, Any]]:
    return question.text if question.meta.get("_plain") is True else [message.as_dict() for message in question.prompt]


def _completion(question: Question, text: str) -> str | list[dict[str, Any]]:
    return (
        text if question.meta.get("_plain") is True else [message.as_dict() for message in episode_of(question, text)]
    )


_OF_TRL = ("prompts", "completions", "completion_ids", "trainer_state", "log_extra", "log_metric", "environments")
TRL = Form(("completions",), _trl, _OF_TRL, at_once=True)
_VERL = ("data_source", "solution_str", "ground_truth", "extra_info")
FORMS = (
    TRL,
    Form(("solution_strs",), _verl_at_once, tuple(f"{name}s" for name in _VERL), at_once=True),
    Form(("solution_str",), _verl, _VERL),
    Form(("reward_inputs",), _easyr1_at_once, ("reward_inputs",), at_once=True, score="overall"),
    Form(("reward_input",), _easyr1, ("reward_input",), score="overall"),
    *(
        Form((name, "ground_truths"), _predicted_at_once(name), (name, "ground_truths"), at_once=True, score="overall")
        for name in ("predicts", "predict_strs")
    ),
    *(
        Form((name, "ground_truth"), _predicted(name), (name, "ground_truth"), score="overall")
        for name in ("predict", "predict_str")
    ),
    Form(("queries", "prompts", "labels"), _openrlhf, ("queries", "prompts", "labels"), listed=True),
    Form(("texts",), _ours_at_once, ("texts", "questions"), columns=False, at_once=True),
    Form(("text",), _ours, ("text", "question", "completion_ids"), columns=False),
    Form(("messages",), _ours_of_turns, ("messages", "question"), columns=False),
)
"""The first whose marks a function has counts; our own must have theirs first."""
TOLD = (
    "(prompts, completions, **columns) -> list of float or None as in TRL, "
    "(data_source, solution_str, ground_truth, extra_info) -> float or dict with 'score' as in verl, "
    "(reward_inputs) -> list of dict with 'overall', or (predict, ground_truth) -> such a dict, as in EasyR1, "
    "(queries, prompts, labels) as in OpenRLHF, "
    "(text, question) -> float, None or dict with 'score', or (texts, questions) -> list of these, "
    "or (messages, question), the turns of an episode; "
    "or a class whose instances are called so"
)


def form_of(names: Sequence[str]) -> Form | None:
    """The form of a function with these parameters; None: none."""
    for form in FORMS:
        if set(form.marks) <= set(names) and (form.columns or names[0] == form.marks[0]):
            return form
    return None


def by_questions(samples: Samples, questions: int = 1) -> Iterator[Samples]:
    """The samples in runs of at most so many questions, whose outputs stand side by side."""
    start, seen = 0, 0
    for at in range(1, len(samples) + 1):
        seen += at == len(samples) or samples[at][0].id != samples[at - 1][0].id
        if at == len(samples) or seen == questions:
            yield samples[start:at]
            start, seen = at, 0


def one_each(samples: Samples) -> Iterator[Samples]:
    """The samples one by one."""
    yield from ([sample] for sample in samples)
