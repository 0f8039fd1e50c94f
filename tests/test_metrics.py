import pytest

from groupwise.metrics import METRICS, check, describe


def test_a_reward_label_is_described_by_the_placeholder():
    assert describe("reward/math").name == "reward/<label>"
    assert describe("reward/think_answer").unit == "reward"


def test_an_exact_name_wins_over_the_placeholder():
    assert describe("reward/mean").name == "reward/mean"
    assert describe("reward/std").name == "reward/std"


@pytest.mark.parametrize("name", ["los", "reward/", "reward", "time/", "kl_loss", ""])
def test_a_name_outside_the_catalogue_is_our_bug(name):
    with pytest.raises(KeyError, match="METRICS"):
        check(["accuracy", name])


def test_every_name_of_the_catalogue_passes_its_own_check():
    check(METRICS)


def test_every_entry_says_what_it_means_in_one_line():
    for metric in METRICS.values():
        assert metric.meaning
        assert "\n" not in metric.meaning


def test_no_direction_is_good_for_the_objective():
    # Advantages of a group sum to 0, so on policy (ratio 1) the surrogate is 0 whatever was learned.
    assert METRICS["objective"].better == ""
    assert "nothing about learning" in METRICS["objective"].meaning
