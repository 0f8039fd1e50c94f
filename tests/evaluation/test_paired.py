"""Two models on the same questions, by hand."""

from groupwise.evaluation.paired import changes, differences
from tests.close import close

OURS = {"accuracy": [1.0, 1.0, 0.0, 1.0, None], "mean@4": [0.5, 0.25, 0.0, 1.0, 1.0], "only/ours": [1.0] * 5}
THEIRS = {"accuracy": [1.0, 0.0, 1.0, 0.0, 1.0], "mean@4": [0.5, 0.0, 0.25, None, 0.5]}


def test_differences_are_of_the_questions_that_both_have():
    found = differences(OURS, THEIRS)
    assert list(found) == ["accuracy", "mean@4"]
    # 0, 1, -1, 1 -> 1/4;  0, 0.25, -0.25, 0.5 -> 1/8
    assert (found["accuracy"]["value"], found["accuracy"]["n"]) == (1 / 4, 4)
    assert close(found["mean@4"]["value"], 1 / 8)
    assert found["accuracy"]["low"] < 0 < found["accuracy"]["high"]


def test_the_interval_is_paired():
    # one better by a tenth everywhere, on questions from easy to hard: between the questions there is spread, none
    # between the pairs
    spread = [n / 10 for n in range(10)]
    found = differences({"mean@4": [value + 0.1 for value in spread]}, {"mean@4": spread})["mean@4"]
    assert close([found["low"], found["value"], found["high"]], [0.1] * 3)


def test_changes_are_counted_each_way():
    # right, right -> both; right, wrong twice -> a; wrong, right -> b; the last is not judged.  p = 2 (1 + 3) / 2^3 = 1
    assert changes(OURS, THEIRS) == {
        "both_right": 1,
        "only_a_right": 2,
        "only_b_right": 1,
        "both_wrong": 0,
        "mcnemar_p": 1.0,
    }
