"""Models that must read a policy's tokens do: looked at before any stage runs. Loads no weights."""

from groupwise.config import ModelConfig
from groupwise.errors import ModelError
from groupwise.model.tokenizer import load_tokenizer, other_model
from groupwise.pipeline.plan import Plan, Stage


def check_vocabularies(plan: Plan) -> None:
    """Raises ModelError if a teacher, or a critic of its own, has another vocabulary than its stage's policy.

    A stage passes its vocabulary on, so what earlier stages will have left is judged by what those begin with.
    """
    written = {str(stage.left): stage for stage in plan.stages}

    def root(path: str) -> str:
        return root(written[path].recipe.model.path) if path in written else path

    for stage in plan.stages:
        for section, path in _others(stage):
            model: ModelConfig = stage.recipe.model.model_copy(update={"path": root(stage.recipe.model.path)})
            try:
                other_model(load_tokenizer(model, seed=stage.recipe.seed), root(path), section=section)
            except ModelError as error:
                raise ModelError(f"{stage.where}: {error.message}", hint=error.hint) from None


def _others(stage: Stage) -> list[tuple[str, str]]:
    """(section, path) of each model beside the policy that a stage names."""
    teacher, critic = stage.recipe.teacher, stage.recipe.critic
    named = [("teacher", teacher.path if teacher else None), ("critic", critic.path if critic else None)]
    return [(section, path) for section, path in named if path is not None]
