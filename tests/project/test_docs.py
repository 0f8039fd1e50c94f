"""What the documents say is true: commands parse or run, recipes validate, code runs, names and files exist."""

import re
import sqlite3
from pathlib import Path
from typing import get_args

import pytest
import typer
import yaml
from pydantic import BaseModel

from groupwise.cli.main import app
from groupwise.cli.tables import settings_page
from groupwise.config import RECIPES, RewardConfig, read_recipe, recipe_from
from groupwise.config.recipe import recipe_of_stage
from groupwise.config.settings import settings
from groupwise.datasets.base import load_questions
from groupwise.names import NAMES
from groupwise.places import write_start
from groupwise.rewards.adapters import adapt, find
from groupwise.sandbox.designs import available
from tests.project.documents import DOCUMENTS, blocks, later, paths, text_of, tree
from tests.project.layers import LAYERS
from tests.project.sources import ROOT, package_sources
from tests.project.test_paper import named

COMMAND = typer.main.get_command(app)
RUN = (
    "README.md",
    "docs/recipes.md",
    "docs/runs.md",
    "docs/evaluation.md",
    "docs/sft.md",
    "docs/reward_models.md",
    "docs/preferences.md",
    "docs/rejection.md",
    "docs/questions.md",
    "docs/rewards.md",
    "docs/architecture.md",
)
YAML = [block for document in DOCUMENTS for block in blocks(document, "yaml")]
CONSOLE = [block for document in DOCUMENTS for block in blocks(document, "console", "bash")]
SECTIONS = tuple(dict.fromkeys(name for kind in RECIPES.values() for name in kind.model_fields if name != "rewards"))


@pytest.mark.parametrize("block", YAML, ids=str)
def test_a_recipe_in_the_documents_is_one(block, tmp_path, monkeypatch):
    write_start(tmp_path)  # what the README shows
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    monkeypatch.chdir(tmp_path)
    tree = yaml.safe_load((ROOT / "recipes" / "tiny.yaml").read_text())
    own = yaml.safe_load(block.text)
    needed = {name for name, field in recipe_of_stage(own.get("stage")).model_fields.items() if field.is_required()}
    recipe = recipe_from({**{name: tree[name] for name in needed & tree.keys()}, **own}, where=str(block))
    if recipe.questions is not None and recipe.questions.source != "verifiers":  # which pins packages of ours
        assert load_questions(recipe.questions, recipe.seed).train
    for reward in recipe.rewards:
        if reward.function == "code" and all(available().values()):
            continue  # no sandbox works here, and it refuses to be made without
        adapt(find(reward.function), reward.params, reward.function)


@pytest.mark.parametrize("block", CONSOLE, ids=str)
def test_a_command_in_the_documents_is_one(block):
    targets = re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    for program, *words in block.commands or [line.split("#")[0].split() for line in block.text.splitlines()]:
        match program:
            case "make":
                assert words[0] in targets
            case "groupwise":
                parse(words)
            case "python" if words[0] == "-m":
                module = ROOT / words[1].replace(".", "/")
                assert module.with_suffix(".py").is_file() or (module / "__main__.py").is_file()
            case "python":
                assert (ROOT / words[0]).is_file()
            case "source":
                assert words == [".venv/bin/activate"]
            case _:
                raise AssertionError(f"{block}: {program} is not known here")


@pytest.mark.parametrize("document", RUN)
def test_the_commands_and_the_code_of_a_document_run_in_their_order(
    document, tmp_path, tiny_folder, monkeypatch, capfd
):
    for name in ("recipes", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GROUPWISE_CACHE", str(tiny_folder.parent))
    folder = None
    for block in blocks(document, "console", "sql", "python"):
        if block.language == "python":
            exec(compile(block.text, str(block), "exec"), {})
        elif block.language == "sql":
            with sqlite3.connect(folder / "record.sqlite") as connection:
                assert list(connection.execute(block.text)) or "'failed'" in block.text, f"{block} finds nothing"
        else:
            for words in (words for program, *words in block.commands if program == "groupwise"):
                app(on_the_tiny_model(words), standalone_mode=False)
                folder = Path(words[words.index("--run") + 1]) if "--run" in words else folder
    assert "error:" not in capfd.readouterr().err


def test_the_example_with_questions_and_rewards_from_files_is_scored_as_it_says(tmp_path, monkeypatch):
    from groupwise.rewards.base import RewardSet
    from tests.rewards.build import output

    monkeypatch.chdir(ROOT)
    recipe = read_recipe("recipes/jsonl_example.yaml")
    asked = next(q for q in load_questions(recipe.questions, 0).train if q.answer == 12)
    with RewardSet(recipe.rewards) as rewards:
        found = rewards.score([asked] * 3, [output("It is 12."), output("3 x 4 = 12"), output("none")])
    # right + 0.2 * one_number: one number and right; right, but three numbers; neither
    assert [reward.value for reward in found] == [1.2, 1.0, 0.0]
    assert found[1].parts["one_number/numbers"].value == 3


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_and_names_in_a_document_exist(document):
    text, missing = later(text_of(document))
    here = (ROOT, (ROOT / document).parent)  # a link is relative to its document
    assert [path for path in sorted(paths(text)) if not any((at / path).exists() for at in here)] == []
    assert [path for path in sorted(missing) if (ROOT / path).exists()] == [], "no longer to come: describe it"
    for dotted in re.findall(r"`(groupwise(?:\.\w+)+)`", text):
        named(dotted)


@pytest.mark.parametrize("document", RUN)
def test_keys_of_a_recipe_in_a_document_exist(document):
    keys = re.findall(rf"`((?:rewards\.0|{'|'.join(SECTIONS)})(?:\.\w+)+)(?::[^`]*|=[^`]*)?`", text_of(document))
    for key in keys:
        assert is_key(key), key


def test_the_page_of_settings_is_what_the_fields_say():
    assert text_of("docs/settings.md") == settings_page() + "\n", (
        "groupwise list settings --markdown > docs/settings.md"
    )


def test_the_table_of_names_is_the_one_that_unknown_keys_are_answered_from():
    order = [setting.key for setting in settings()]
    rows = [
        (name.ours, *(", ".join(f"`{other}`" for other in theirs) for theirs in (name.trl, name.verl, name.others)))
        for name in sorted(NAMES, key=lambda name: order.index(name.ours))
    ]
    lines = [line.split(" | ") for line in text_of("docs/names.md").splitlines() if line.startswith("| `")]
    assert [(cells[0].strip("| `"), *map(str.strip, cells[1:4])) for cells in lines] == rows
    assert [cells[4].rstrip(" |") for cells in lines] == [
        name.differs for name in sorted(NAMES, key=lambda name: order.index(name.ours))
    ]


def test_the_tree_is_the_packages():
    drawn = next(block for block in blocks("docs/architecture.md", "text") if block.text.startswith("groupwise/"))
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "groupwise").rglob("*.py") if path.name != "__init__.py"}
    assert tree(drawn) == sources


def test_the_layers_are_those_that_are_checked():
    rows = re.findall(r"^\| (\d) \| ((?:`\w+` ?)+)\|", text_of("docs/architecture.md"), flags=re.MULTILINE)
    parts = {name.split(".")[1] for name in package_sources() if "." in name and "__" not in name}
    told = {int(layer): set(re.findall(r"\w+", names)) for layer, names in rows}
    assert told == {layer: set(names) & parts for layer, names in LAYERS.items()}


def test_a_files_hop_is_a_file():
    [hops] = [block for block in blocks("docs/architecture.md", "text") if block.text.startswith("1 ")]
    places = [line.split()[1] for line in hops.text.splitlines()]
    assert len(places) == 6
    assert all((ROOT / "groupwise" / place).exists() for place in places)


def test_the_metrics_that_are_explained_are_what_is_shown():
    from groupwise.metrics import METRICS
    from groupwise.run.progress import OF_ROLLOUTS

    rows = re.findall(r"^\| ([\w/]+(?:, left)?) \| `([\w/]+)` \|", text_of("docs/runs.md"), flags=re.MULTILINE)
    assert [(heading.partition(",")[0], metric) for heading, metric in rows] == [c[:2] for c in OF_ROLLOUTS]
    assert all(metric in METRICS for _, metric in rows)


@pytest.mark.parametrize(
    "words", [["trian", "recipes/tiny.yaml"], ["eval", "runs/first", "--sample", "4"], ["train", "a.yaml", "--steps"]]
)
def test_the_check_finds_wrong_commands(words):
    with pytest.raises(AssertionError, match="groupwise"):
        parse(words)


def test_the_check_finds_paths():
    assert paths("`groupwise/nothing.py` [a](docs/b.md) `runs/mine` `pip install x` `a/b`") == {
        "groupwise/nothing.py",
        "docs/b.md",
    }
    assert later("a\n<!-- later -->\n`groupwise/x.py`\n<!-- /later -->\n") == ("a\n\n", {"groupwise/x.py"})


def parse(words: list[str]) -> None:
    """Lets the command line read the words, without doing anything."""
    verb, *rest = words
    assert verb in COMMAND.commands, f"groupwise has no verb {verb}"
    try:
        COMMAND.commands[verb].make_context(verb, list(rest))
    except Exception as error:
        raise AssertionError(f"groupwise {' '.join(words)}: {error}") from error
    if verb == "train" and rest[0].endswith(".yaml"):
        recipe_from_words(rest)


def recipe_from_words(words: list[str]) -> None:
    from groupwise.config import read_recipe

    overrides = [word for word in words if re.match(r"[\w.]+=", word)]
    read_recipe(ROOT / words[0], overrides)


def on_the_tiny_model(words: list[str]) -> list[str]:
    """The same command on the model that tests have, with few held-out questions and short outputs."""
    if words[0] not in ("train", "eval") or not words[1].endswith(".yaml"):
        return words
    few = ["questions.heldout_size=8", "rollout.max_new_tokens=8"] if words[1] == "recipes/tiny.yaml" else []
    return [*words[:2], "model.path=tiny", *few, *words[2:]]


def is_key(key: str) -> bool:
    """True if some stage's recipe has this key; what is inside a value that is no section belongs to the value."""
    return any(_is_key(recipe, key.replace("rewards.0", "rewards").split(".")) for recipe in RECIPES.values())


def _is_key(kind: type[BaseModel] | None, places: list[str]) -> bool:
    for place in places:
        if kind is None:
            break
        if place not in kind.model_fields:
            return False
        kind = RewardConfig if place == "rewards" else inside(kind.model_fields[place].annotation)
    return True


def inside(kind: object) -> type[BaseModel] | None:
    """The section that a field's type is, or may be where it is not none."""
    kinds = (kind, *get_args(kind))
    return next((part for part in kinds if isinstance(part, type) and issubclass(part, BaseModel)), None)
