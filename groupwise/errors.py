"""The tree of errors: each says what, where and the value, and carries a hint. Knows nothing else.

GroupwiseError
├── InputError            what the user gave cannot be run: exit code 2, before a model is loaded if possible
│   ├── ConfigError       a recipe, an override or a name in it
│   ├── DataError         questions, columns, files of questions
│   ├── ModelError        a model folder, a tokenizer, a chat template
│   └── RewardError       a reward function that cannot be found, imported or called
└── RunError              the run was sound and failed on the way: exit code 1
    ├── RewardLimitError  too many rewards failed in one step
    ├── CheckpointError   a checkpoint could not be written or read
    └── StoppedEarly      the run ended with fewer steps than asked for
"""


class GroupwiseError(Exception):
    """An error that a user can act on: `message` says what, where and the value; `hint` what to do."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        text = f"{self.message}; {self.hint}" if self.hint else self.message
        return " ".join(text.split())  # one line, whatever a library put into its own message


class InputError(GroupwiseError):
    exit_code = 2


class ConfigError(InputError):
    pass


class DataError(InputError):
    pass


class ModelError(InputError):
    pass


class RewardError(InputError):
    pass


class RunError(GroupwiseError):
    exit_code = 1


class RewardLimitError(RunError):
    pass


class CheckpointError(RunError):
    pass


class StoppedEarly(RunError):
    pass


def excerpt(value: object, length: int = 60) -> str:
    """The value as an error message shows it: its repr, cut."""
    shown = repr(value[: length + 1] if isinstance(value, str | bytes) else value)
    return shown if len(shown) <= length else shown[: length - 3] + "..."
