"""One question to a run is asked as the run asks its own: with its engine, its environment and its stop strings."""

import pytest

import groupwise
from groupwise.errors import ConfigError, DataError
from groupwise.evaluation.ask import answers_to, text_of
from tests.project.sources import ROOT

OWN = ROOT / "tests" / "rollout" / "test_episodes.py"


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_folder):
    tree = {
        "model": {"path": str(tiny_folder)},
        "questions": {"source": "arithmetic", "params": {"kinds": ["successor"]}, "heldout_size": 0},
        "rewards": [{"function": f"{OWN}:turns_of"}],
        "rollout": {
            "environment": f"{OWN}:Echo",
            "environment_params": {"turns": 2, "broken": "sample9"},
            "max_new_tokens": 6,
            "questions_per_step": 1,
            "group_size": 2,
            "stop": list("123456789abcdefghijkl+"),
        },
        "update": {"steps": 1},
    }
    folder = tmp_path_factory.mktemp("ask") / "run"
    groupwise.train(tree, run=folder, show="nothing")
    return folder


def asked(run, **options):
    usual = {"samples": 8, "max_new_tokens": 9, "temperature": 1.0, "seed": 0}
    return answers_to(str(run), "7>", **{**usual, **options})


def test_a_runs_environment_replies(run):
    answers = asked(run)
    assert asked(run) == answers
    turns = [[turn["role"] for turn in answer["messages"]] for answer in answers]
    assert ["assistant", "user", "assistant"] in turns
    both = next(answer for answer in answers if len(answer["messages"]) == 3)
    first, reply, second = (turn["content"] for turn in both["messages"])
    assert reply == first[-1:] + "+"
    assert text_of(both) == f"\n  assistant: {first}\n  user: {reply}\n  assistant: {second}"


def test_what_a_run_would_be_refused_is_refused_here_too(run, tmp_path):
    with pytest.raises(DataError, match="more than the model's context"):
        asked(run, max_new_tokens=100_000)
    recipe = run / "recipe.yaml"
    text = recipe.read_text()
    try:
        recipe.write_text(text.replace(":Echo", ":Gone"))
        with pytest.raises(ConfigError, match="Gone"):
            asked(run)
    finally:
        recipe.write_text(text)
