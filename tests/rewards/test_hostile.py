"""A sample of what `make hostile` tries on a hundred thousand texts: no verifier raises, whatever a model wrote."""

from itertools import islice

import pytest

from groupwise.envs.calls import read_calls
from groupwise.errors import RewardError
from groupwise.rewards.adapters import adapt, find
from tests.rewards import hostile


@pytest.mark.parametrize("name", sorted(hostile.verifiers().keys() - {"reasoning_gym"}))  # slow to import
def test_no_verifier_raises_on_random_and_hostile_texts(name):
    try:
        scorer = adapt(find(name), hostile.PARAMS.get(name, {}), name).scorer
    except RewardError as error:
        pytest.skip(f"it needs params: {error}")
    own = {"number": hostile.NUMBER, "multiple_choice": hostile.CHOICE}.get(name)
    for case, text in islice((found for found in hostile.texts(7) if len(found[1]) < 2000), 40):
        [[verdict]] = list(scorer([(own or case.question, text, hostile._output(text).tokens)], 0))
        assert verdict.part.state != "failed", (case.question.id, text, verdict.part.detail)


def test_the_reader_of_tool_calls_takes_them_too():
    for _, text in islice(hostile.texts(8), 200):
        assert read_calls(text) is not None


def test_the_texts_are_a_function_of_the_seed():
    first, again, other = ([text for _, text in islice(hostile.texts(seed), 50)] for seed in (1, 1, 2))
    assert first == again
    assert first != other
