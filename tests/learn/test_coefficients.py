"""Coefficients that follow a target, in numbers worked by hand."""

import pytest

from groupwise.config import ObjectiveConfig
from groupwise.learn.coefficients import coefficients_after, entropy_coef_after, kl_coef_after
from groupwise.run.resolve import resolve, with_coefficients


def after(config, held, **measured):
    objective = with_coefficients(resolve(config), config, held)
    return coefficients_after(config, objective, held, outputs=1000, **measured)


@pytest.mark.parametrize(
    ("kl", "expected"),
    [
        (0.11, 0.1 * (1 + 0.1 * 0.1)),  # 0.11 / 0.1 - 1 = 0.1, times 1000 / 10000
        (0.10, 0.1),
        (9.0, 0.1 * (1 + 0.2 * 0.1)),  # an error of 89, held to 0.2
        (0.0, 0.1 * (1 - 0.2 * 0.1)),
        (-5.0, 0.1 * (1 - 0.2 * 0.1)),  # k1 may be negative
    ],
)
def test_the_kl_coefficient_follows_the_relative_error(kl, expected):
    assert kl_coef_after(0.1, kl, 0.1, outputs=1000, horizon=10_000) == pytest.approx(expected)


def test_the_entropy_coefficient_goes_a_step_up_below_the_target_and_down_above_it_to_no_less_than_0():
    assert entropy_coef_after(0.01, 0.19, 0.2, step=0.005) == pytest.approx(0.015)
    assert entropy_coef_after(0.01, 0.21, 0.2, step=0.005) == pytest.approx(0.005)
    assert entropy_coef_after(0.001, 0.21, 0.2, step=0.005) == 0.0


def test_the_bonus_is_off_above_its_target_and_its_weight_is_kept():
    config = ObjectiveConfig(kl_coef=0, entropy_coef=0.05, entropy_target=0.2)
    above = after(config, {}, kl=None, entropy=0.5)
    assert above["entropy_coef"] == 0.0
    assert with_coefficients(resolve(config), config, above).entropy_coef == 0.0
    below = after(config, above, kl=None, entropy=0.1)
    assert below["entropy_coef"] == pytest.approx(0.05)  # 0.05 - 0.005 + 0.005


def test_without_a_target_or_a_measurement_nothing_moves():
    assert after(ObjectiveConfig(kl_coef=0.1), {}, kl=3.0, entropy=3.0) == {}
    held = {"kl_coef": 0.3}
    assert with_coefficients(resolve(ObjectiveConfig(kl_coef=0.1)), ObjectiveConfig(), held).kl_coef == 0.1
    assert after(ObjectiveConfig(kl_coef=0.1, kl_target=0.1), held, kl=None, entropy=None) == held
