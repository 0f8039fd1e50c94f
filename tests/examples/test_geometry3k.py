"""recipes/geometry3k.yaml on made rows with the columns of the data set: the questions, and the reward as in EasyR1."""

import pytest

from groupwise import registry
from groupwise.config import read_recipe
from groupwise.data import IMAGE
from groupwise.datasets.base import load_questions
from groupwise.datasets.shapes import questions
from tests.close import close
from tests.project.sources import ROOT
from tests.rewards.build import question

datasets = pytest.importorskip("datasets")
RECIPE = str(ROOT / "recipes" / "geometry3k.yaml")


def write_rows(folder, made, split):
    """A file as the data set has it: the columns of its card, pictures as bytes."""
    rows = [
        {
            "images": [{"bytes": q.messages[0].images[0].data, "path": None}],
            "problem": f"{IMAGE}{q.text.removeprefix(IMAGE)}",
            "answer": q.answer,
            "id": number,
            "choices": [q.answer, *q.meta["wrong"][:3]],
            "ground_truth": "A",
        }
        for number, q in enumerate(made)
    ]
    table = datasets.Dataset.from_list(rows).cast_column("images", datasets.Sequence(datasets.Image()))
    table.to_parquet(folder / f"{split}-00000-of-00001.parquet")


def test_rows_become_questions_with_the_diagram_where_the_text_has_it(tmp_path):
    made = questions(0, 8, kinds=["count", "digit"])
    write_rows(tmp_path, made[:5], "train")
    write_rows(tmp_path, made[5:], "test")
    recipe = read_recipe(RECIPE, [f"questions.source={tmp_path}"])
    found = load_questions(recipe.questions, recipe.seed)
    assert (len(found.train), len(found.heldout)) == (5, 3)
    assert [q.answer for q in found.train] == [q.answer for q in made[:5]]  # not the letter of ground_truth
    (message,) = found.train[0].messages
    assert [image.data for image in message.images] == [made[0].messages[0].images[0].data]
    assert message.content.startswith(made[0].text + "\n")
    assert "\\boxed{}" in message.content


@pytest.mark.parametrize(
    ("text", "accuracy", "form"),
    [
        ("<think>4 * 2</think> It is \\boxed{8}.", 1, 1),
        ("<think>4\n* 2</think>\n\\boxed{8}", 1, 1),
        ("It is \\boxed{8}.", 1, 0),
        ("<think>4 + 2</think> It is \\boxed{6}.", 0, 1),
        ("<think>4 * 2</think> It is 6.", 0, 0),
    ],
)
def test_the_reward_is_nine_tenths_accuracy_and_a_tenth_format(text, accuracy, form):
    parts = read_recipe(RECIPE).rewards
    functions = {part.name: registry.load(registry.REWARDS, part.function, "function") for part in parts}
    scored = {part.name: functions[part.name](text, question("8"), **part.params) for part in parts}
    assert scored == {"accuracy": accuracy, "format": form}
    close(sum(part.weight * scored[part.name] for part in parts), 0.9 * accuracy + 0.1 * form)
