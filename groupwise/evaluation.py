"""What `groupwise eval` and `groupwise sample` do: a model from a run, a folder or a name, asked without training."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from groupwise import registry
from groupwise.config import ModelConfig, Recipe, read_recipe
from groupwise.data import Message, Sampling
from groupwise.engines.base import Task, stream
from groupwise.engines.local import LocalEngine
from groupwise.envs.base import load_questions
from groupwise.errors import ConfigError, DataError
from groupwise.model.checkpoint import latest_checkpoint
from groupwise.model.policy import Policy, load_policy
from groupwise.model.tokenizer import load_tokenizer
from groupwise.rewards.base import RewardSet
from groupwise.train.evaluate import evaluate
from groupwise.train.intervals import shown
from groupwise.train.rollout import check_lengths


def evaluate_source(source: str, overrides: list[str], *, samples: int) -> dict[str, Any]:
    """Figures of a recipe's model, or of a run's last checkpoint, on held-out questions, with how they were made."""
    recipe, model = _recipe_and_model(source, overrides)
    if recipe.questions is None:
        raise ConfigError("questions: missing; there is nothing to ask", hint="add questions and rewards to the recipe")
    questions = load_questions(recipe.questions, recipe.seed)
    if not questions.heldout:
        raise DataError("questions.heldout_size = 0: nothing to evaluate on", hint="set it to 200, for example")
    with RewardSet(recipe.rewards) as rewards:
        tokenizer = load_tokenizer(model, seed=recipe.seed)
        check_lengths(tokenizer, questions.heldout, max_new_tokens=recipe.rollout.max_new_tokens)
        policy = load_policy(model, tokenizer)
        engine = registry.load(registry.ENGINES, recipe.rollout.engine)(policy, max_rows=recipe.rollout.max_rows)
        result = evaluate(
            recipe, questions.heldout, tokenizer=tokenizer, engine=engine, rewards=rewards, samples=samples
        )
    made = {"model": model.path, "seed": recipe.seed, "sampling": asdict(recipe.rollout.sampling())}
    return {**result.figures, **made}


def print_figures(figures: dict[str, Any]) -> None:
    """One row a figure, shares with their 95 % intervals."""
    table = Table("figure", "value")
    table.add_row("right, greedy", shown({**figures, "value": figures["accuracy"]}))
    for key, figure in figures.items():
        if isinstance(figure, dict) and "value" in figure:
            table.add_row(key, shown(figure))
    table.add_row("mean length, tokens", f"{figures['length']:.1f}")
    table.add_row("cut at the limit", f"{figures['truncated']:.1%}")
    if figures["unjudged"]:
        table.add_row("could not be judged", str(figures["unjudged"]))
    # No table title: a title is folded to the table's width.
    print(f"{figures['model']}, {figures['n']} held-out questions (95 % intervals)")
    Console(highlight=False, markup=False).print(table)


def answers_to(
    model: str, question: str, *, samples: int, max_new_tokens: int, temperature: float, seed: int
) -> list[dict[str, Any]]:
    """Answers of a model to one question; temperature 0 is greedy. Raises DataError for an empty question."""
    if not question.strip():
        raise DataError("the question is empty", hint="give some text")
    policy = _load(model)
    sampling = Sampling(max_new_tokens=max_new_tokens, temperature=temperature or 1.0, greedy=temperature == 0)
    tokens = policy.tokenizer.encode((Message("user", question),))
    if len(tokens) + max_new_tokens > policy.tokenizer.context:
        raise DataError(
            f"the question's {len(tokens)} tokens and --max-new-tokens {max_new_tokens} are more than the model's "
            f"context of {policy.tokenizer.context}",
            hint="ask for fewer tokens",
        )
    task = Task(tuple(tokens), tuple(stream(seed, 0, "sample", number) for number in range(samples)))
    [outputs] = LocalEngine(policy).generate([task], sampling)
    return [{"text": o.text, "finish": o.finish, "tokens": len(o.tokens)} for o in outputs]


def _load(model: str) -> Policy:
    folder = Path(model)
    if (folder / "recipe.yaml").exists():
        config = _recipe_and_model(model, [])[1]
    else:
        config = ModelConfig(path=model)
    return load_policy(config, load_tokenizer(config))


def _recipe_and_model(source: str, overrides: list[str]) -> tuple[Recipe, ModelConfig]:
    """The recipe and the model meant by a run directory (its last checkpoint) or by a recipe file (its model)."""
    folder = Path(source)
    if not folder.is_dir():
        recipe = read_recipe(source, overrides)
        return recipe, recipe.model
    if not (folder / "recipe.yaml").exists():
        raise ConfigError(f"{source}: neither a run directory nor a recipe", hint="see `groupwise runs`")
    recipe = read_recipe(folder / "recipe.yaml", overrides)
    checkpoint = latest_checkpoint(folder)
    if checkpoint is None:
        raise ConfigError(f"{source}: the run has no checkpoint yet", hint="give its recipe to evaluate the base model")
    return recipe, recipe.model.model_copy(update={"path": str(checkpoint)})
