"""What is known of a subject's training."""

from groupwise.config import ModelConfig
from groupwise.data import Message, Question
from groupwise.evaluation.subject import Subject, seen_in_training
from tests.command import RECIPE, SMALL, groupwise
from tests.project.sources import ROOT

ASKED = [Question(str(n), (Message("user", f"{n}>"),)) for n in range(100)]


def test_questions_of_a_run_that_learned_from_examples_are_not_known_to_be_unseen(tmp_path, tiny_folder, monkeypatch):
    monkeypatch.chdir(ROOT)  # the recipe's file is named from there
    words = (ROOT / "recipes" / "sft.yaml", f"model.path={tiny_folder}", "update.steps=1")
    assert groupwise("train", *words, "--run", tmp_path / "tuned").code == 0
    assert seen_in_training(Subject(ModelConfig(path="tiny"), tmp_path / "tuned", 1), ASKED) is None
    assert groupwise("train", RECIPE, f"model.path={tiny_folder}", *SMALL, "--run", tmp_path / "grpo").code == 0
    assert seen_in_training(Subject(ModelConfig(path="tiny"), tmp_path / "grpo", 1), ASKED) is not None
    assert seen_in_training(Subject(ModelConfig(path="tiny"), tmp_path, 1), ASKED) is None
