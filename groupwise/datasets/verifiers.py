"""Questions of a taskset of the package verifiers, one a task; groupwise.envs.verifiers plays them."""

from collections.abc import Mapping
from typing import Any

from groupwise.data import Message, Question
from groupwise.errors import ConfigError, DataError
from groupwise.functions import last_line


def questions(seed: int, size: int | None = None, *, taskset: str | Mapping[str, Any]) -> list[Question]:
    """The tasks of a taskset, the first `size` of them. meta["verifiers"] is a task's place.

    Raises DataError if the package is missing or the taskset has no tasks, ConfigError if it cannot be loaded.
    """
    try:
        from verifiers.v1.utils.loaders import resolve_env_config, taskset_class
    except ImportError as error:
        raise DataError(
            f"questions.source = 'verifiers': the package cannot be imported: {error}",
            hint="pip install 'verifiers>=0.4' uv, and the taskset's package",
        ) from None
    named = {"id": taskset} if isinstance(taskset, str) else dict(taskset)
    try:
        config = resolve_env_config({"taskset": named}).taskset
        loaded = taskset_class(config.id)(config)
        if not loaded.bounded and size is None:
            raise ValueError("it is endless: set questions.size")
        tasks = list(loaded if size is None else loaded.take(size))
    except Exception as error:  # whatever the package or the taskset raises
        raise ConfigError(
            f"questions.params.taskset = {named}: {last_line(error, [])}", hint="name an installed taskset"
        ) from None
    return [
        Question(
            id=f"{config.id}:{place}",
            messages=_messages(task.data),
            answer=getattr(task.data, "answer", None),
            meta={"verifiers": place},
        )
        for place, task in enumerate(tasks)
    ]


def _messages(data: Any) -> tuple[Message, ...]:
    """What a task asks, for people and for lengths; the harness writes the prompt that the policy reads."""
    system = [Message("system", data.system_prompt)] if data.system_prompt else []
    return (*system, Message("user", data.prompt_text or str(data.description or data.name or "-")))
