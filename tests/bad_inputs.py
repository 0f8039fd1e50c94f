"""The table of bad input in docs/reliability.md: `python -m tests.bad_inputs` prints it as it is now."""

from collections.abc import Iterator

from tests.command import RECIPE, groupwise

INPUTS = (
    "update.stepps=3",
    "update.steps=abc",
    "update.steps=0",
    "update.steps",
    "stage=grop",
    "stage=dpo",
    "rollout.group_size=1",
    "rollout.group_size=1000000000000",
    "rollout.engine=locl",
    "rollout.temperature=-1",
    "objective.kl_coef=.nan",
    "rewards=[]",
    "rewards.0.weight=.inf",
    "rewards.0.function=nmber",
    "rewards.0.timeout_seconds=2147484",
    "questions.source=arithmetc",
    "questions.params.levls=[1]",
    "questions.heldout_size=500",
    "questions.template=Answer!",
    "rollout.questions_per_step=999",
    "run.keep_best=accuracy",
    "run.record=nothing",
    "evaluate.correct=right",
)


def rows() -> Iterator[tuple[str, str]]:
    """Each input, and the one line that `groupwise train recipes/tiny.yaml INPUT` is refused with."""
    for word in INPUTS:
        done = groupwise("train", RECIPE, word, "--run", "a-run-that-never-is")
        assert done.code == 2, (word, done)
        assert done.err.count("\n") == 1, (word, done.err)
        yield word, done.err.removeprefix("error: ").rstrip().replace(RECIPE, "recipes/tiny.yaml")


def table() -> list[str]:
    """The lines of the table."""
    escaped = (tuple(cell.replace("|", "\\|") for cell in row) for row in rows())
    return ["| input | message |", "|---|---|", *(f"| `{word}` | {line} |" for word, line in escaped)]


if __name__ == "__main__":
    print("\n".join(table()))
