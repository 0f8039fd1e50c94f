"""Questions of reasoning-gym, kept so that its own scorer can score them."""

import json
import sys
from importlib.util import find_spec

import pytest

from groupwise.datasets.reasoning_gym import questions
from groupwise.errors import ConfigError, DataError

# found, not imported: that takes a second of every process that collects the tests
pytestmark = pytest.mark.skipif(find_spec("reasoning_gym") is None, reason="reasoning-gym is not installed")


@pytest.mark.parametrize("name", ["chain_sum", "countdown", "rearc", "spell_backward"])
def test_kept_entry_is_scored_right_by_the_tasks_own_scorer(name):
    import reasoning_gym

    for question in questions(3, 3, name=name):
        kept = question.meta["reasoning_gym"]
        task = reasoning_gym.create_dataset(kept["name"], **kept["params"])
        assert task.score_answer(question.answer, kept["entry"]) == 1.0
        assert task.score_answer("no", kept["entry"]) < 1.0


def test_params_reach_the_task_and_are_kept():
    (question,) = questions(3, 1, name="chain_sum", min_terms=4, max_terms=4)
    assert question.text.count(" + ") + question.text.count(" - ") == 3
    assert question.meta["reasoning_gym"]["params"] == {"min_terms": 4, "max_terms": 4, "seed": 3, "size": 1}
    assert question.id == "chain_sum:0"


def test_seed_decides_the_draw():
    assert questions(1, 5, name="gcd") == questions(1, 5, name="gcd")
    assert questions(1, 5, name="gcd") != questions(2, 5, name="gcd")


def test_any_seed_of_a_recipe_will_do():
    assert len(questions(2**63 - 1, 2, name="pool_matrix")) == 2


def test_entry_that_json_cannot_hold_is_kept_as_text():
    # gsm_symbolic keeps fractions beside some of its questions; with this seed in the first ten.
    made = questions(0, 10, name="gsm_symbolic")
    assert json.dumps([dict(question.meta) for question in made])


def test_what_a_task_prints_stays_off_stdout(capsys):
    questions(0, 5, name="bf")  # prints a dot for each
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"name": "chain_sums"}, "questions.params.name = 'chain_sums': no such task; did you mean 'chain_sum'"),
        ({"name": "zzzzz"}, "no such task; 10[0-9] tasks, such as"),
        ({"name": ["gcd"]}, "no such task"),
        ({"name": "chain_sum", "min_term": 2}, "min_term = 2.*did you mean 'min_terms'"),
        ({"name": "chain_sum", "min_terms": -1}, "refuses them: AssertionError: min_terms must be positive"),
        ({"name": "chain_sum", "min_terms": "a"}, "refuses them: TypeError"),
    ],
)
def test_wrong_parameters_are_refused_in_one_line(params, message):
    with pytest.raises(ConfigError, match=message) as caught:
        questions(0, 2, **params)
    assert "\n" not in str(caught.value)


def test_missing_package_is_named_with_the_extra_that_brings_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)  # what `import` meets where it is not installed
    with pytest.raises(DataError, match=r'pip install "groupwise\[gym\]"'):
        questions(0, 2, name="chain_sum")
