"""A recipe's text that YAML takes and a recipe must not: refused at once, in one line with its place."""

import re

import pytest

from groupwise.config import recipe_from
from groupwise.errors import ConfigError
from groupwise.recipe_file import DEEPEST, list_lines, read_tree, tree_of

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x]\n" + "\n".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 8)}]" for n in range(1, 12)
)
MERGED = "a0: &a0 {k: 1, l: 2}\n" + "\n".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 8)}]}}" for n in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "seed: 1\nupdate:\n  steps: 2\n  steps: 3\n",
            r": line 4: the key 'steps' is there twice, first in line 3; a",
        ),
        ("seed: 1\n'seed': 2\n", r": line 2: the key 'seed' is there twice, first in line 1"),
        ("update: {steps: 2, steps: 3}", r": line 1: the key 'steps' is there twice, first in line 1"),
        ("rewards:\n- {name: a, name: b}", r": line 2: the key 'name' is there twice"),
        (BOMB, r": line \d+: more than 50,000 values, those that aliases stand for included"),
        (MERGED, r": line \d+: more than 50,000 values"),
        ("a: &a [1, *a]", r": line 1: \*a stands inside what it names"),
        ("a: &a {b: *a}", r": line 1: \*a stands inside what it names"),
        ("a: " + "[" * 5000 + "]" * 5000, r": line 1: more than 50 sections or lists in each other"),
        ("a:\n" + "".join(f"{' ' * n}- \n" for n in range(1, 90)), r"more than 50|is not YAML"),
        ("# " + "x" * 2**20, r": it has more than 1,048,576 characters"),
        ("update:\n\tsteps: 3\n", r" is not YAML: line 2, column 1: .*'\\t'.*; check that line$"),
        ("update:\n  steps: [3\n", r" is not YAML: line 3, column 1: "),
        ("seed: *nobody", r" is not YAML: line 1, column 7: .*nobody"),
        ("a: \x07", r" is not YAML: "),
    ],
    ids=str.__len__,
)
def test_a_text_that_is_no_recipe_is_refused_with_its_line(text, said, tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        read_tree(file)
    line = str(error.value)
    assert re.search(said, line), line
    assert "\n" not in line


def test_bytes_without_end_or_sense_are_refused(tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_bytes("seed: 1 # \u00fc".encode("latin-1"))
    for path in (file, tmp_path, "/dev/zero"):
        with pytest.raises(ConfigError):
            read_tree(type(tmp_path)(path))


def test_an_override_says_a_key_once_too(tmp_path):
    (tmp_path / "recipe.yaml").write_text("seed: 1\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="override of rollout: line 1: the key 'top_k' is there twice"):
        read_tree(tmp_path / "recipe.yaml", ["rollout={top_k: 1, top_k: 2}"])


def test_what_yaml_can_say_in_a_recipe_it_still_can():
    text = "base: &base {lr: 1, steps: 2}\nown:\n  <<: *base\n  steps: 3\nagain: [*base, *base]\n"
    found = tree_of(text)
    assert found["own"] == {"lr": 1, "steps": 3}
    assert found["again"] == [found["base"]] * 2
    assert tree_of("[" * DEEPEST + "]" * DEEPEST)


def test_lines_of_a_list_are_still_found(tmp_path):
    (tmp_path / "a.yaml").write_text("stages:\n- a: 1\n- a: 2\n", encoding="utf-8")
    assert list_lines(tmp_path / "a.yaml", "stages") == [2, 3]


LEAST = {
    "model": {"path": "tiny"},
    "questions": {"source": "arithmetic"},
    "rewards": [{"function": "number"}],
    "update": {"steps": 1},
}


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("rollout", "group_size", 10**12),
        ("rollout", "questions_per_step", 10**12),
        ("rollout", "max_num_seqs", 10**12),
        ("rollout", "max_new_tokens", 10**12),
        ("rollout", "temperature", 1e308),
        ("rollout", "temperature", 1e-308),
        ("rollout", "dynamic_sampling_rounds", 10**12),
        ("update", "steps", 10**20),
        ("update", "learning_rate", 1e30),
        ("update", "max_grad_norm", 1e308),
        ("update", "weight_decay", 1e308),
        ("update", "betas", [0.9, 1.5]),
        ("update", "updates_per_rollout", 10**12),
        ("update", "tokens_per_microbatch", 10**20),
        ("questions", "size", 10**12),
        ("questions", "heldout_size", 10**20),
        ("evaluate", "samples", 10**12),
        ("run", "keep_checkpoints", 10**20),
        ("objective", "clip_high", 1e308),
        ("objective", "entropy_coef", -1e308),
    ],
)
def test_a_number_that_would_hang_or_break_later_is_refused(section, key, value):
    tree = {**LEAST, section: {**LEAST.get(section, {}), key: value}}
    with pytest.raises(ConfigError, match=rf"{section}\.{key}(\.1)? = "):
        recipe_from(tree)


@pytest.mark.parametrize("seconds", [2147484, 1e308, 0.0])
def test_a_limit_that_no_clock_can_wait_for_is_refused(seconds):
    rewards = [{"function": "number", "timeout_seconds": seconds}]
    with pytest.raises(ConfigError, match=r"rewards\.0\.timeout_seconds = "):
        recipe_from({**LEAST, "rewards": rewards})


def test_a_step_of_too_many_outputs_in_all_is_refused():
    rollout = {"questions_per_step": 2000, "group_size": 1000}
    with pytest.raises(ConfigError, match=r"questions_per_step x group_size = 2,000,000 outputs per step"):
        recipe_from({**LEAST, "rollout": rollout})
