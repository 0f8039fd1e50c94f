"""One question to a run is asked as the run asks its own: with its engine, its environment and its stop strings."""

import pytest

import groupwise
from groupwise.errors import ConfigError, DataError, ModelError
from groupwise.evaluation.ask import answers_to, text_of
from tests.drawn import file_of
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


def test_a_question_about_pictures_is_asked_of_a_model_that_reads_them(tmp_path, tiny_folder):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(file_of())
    images = [str(tmp_path / name) for name in ("a.png", "b.png")]
    options = {"samples": 1, "max_new_tokens": 2, "temperature": 0.0, "seed": 0}
    (answer,) = answers_to("tiny_vision", "Is <image> like <image>?", images=images, **options)
    assert 1 <= answer["tokens"] <= 2
    with pytest.raises(DataError, match=r"--image: images = .*: 2 pictures, and 1 <image> in the text"):
        answers_to("tiny_vision", "What is <image>?", images=images, **options)
    with pytest.raises(DataError, match=r"--image: images = 'gone\.png': .*No such file"):
        answers_to("tiny_vision", "What?", images=["gone.png"], **options)
    with pytest.raises(ModelError, match="the model reads text alone"):
        answers_to(str(tiny_folder), "7>", images=images[:1], **options)
