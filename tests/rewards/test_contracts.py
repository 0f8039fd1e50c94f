"""What every built-in reward must do, whichever it is: a new row of the table is tested by being there."""

import importlib.util
from typing import Any, NamedTuple

import pytest

from groupwise import registry
from groupwise.config import RewardConfig
from groupwise.data import Question
from groupwise.rewards.base import RewardSet
from groupwise.sandbox.designs import available
from tests.rewards.build import output, question


class Example(NamedTuple):
    right: str
    asked: Question = question("4")
    params: dict[str, Any] | None = None
    full: float = 1.0
    """What a right output earns."""
    wordless: float | None = 0.0
    """What garbage without a word earns."""


def gym_question() -> Question:
    import reasoning_gym

    params = {"seed": 3, "size": 1}
    entry = dict(reasoning_gym.create_dataset("chain_sum", **params)[0])
    return question(entry["answer"], reasoning_gym={"name": "chain_sum", "params": params, "entry": entry})


def example(name: str) -> Example:
    if name == "reasoning_gym":
        asked = gym_question()
        return Example(f"<answer>{asked.answer}</answer>", asked)
    return {
        "math": Example(r"2 + 2 is \boxed{4}"),
        "exact": Example("<answer>4</answer>"),
        "number": Example("2 + 2 is 4."),
        "think_answer": Example("<think>2 + 2</think>\n<answer>4</answer>"),
        "answer_tag": Example("So <answer>4</answer>"),
        "boxed": Example(r"So \boxed{4}"),
        "code": Example(
            "```python\ndef f():\n    return 4\n```", question(test_list=["assert f() == 4"]), params={"memory": 256}
        ),
        "pattern": Example("It is 4.", params={"regex": r"It is \d\."}),
        "multiple_choice": Example("So the answer is (B).", question("B")),
        "captured": Example("final=4", params={"regex": r"final=(\d+)"}),
        "edit_similarity": Example("<answer>4</answer>"),
        "json_schema": Example('{"n": 4}', params={"schema": {"required": ["n"], "type": "object"}}),
        "cosine_length": Example(
            r"\boxed{4}",
            params={"max_tokens": 10**9, "right_long": 2.0, "right_short": 2.0, "wrong_short": 0.0},
            full=2.0,
        ),
        "repetition": Example("short", full=0.0),  # it only takes away
        "equations": Example("2 + 2 = 4"),
        "soft_overlong": Example("short", params={"max_tokens": 4, "cache": 1}, full=0.0),  # it only takes away
        "language": Example(
            "二加二等于四。", params={"language": "zh"}, wordless=None
        ),  # of no words there is no share
    }[name]


GARBAGE = ["", " ", "no idea", "\x00\x01", "\U0001f600" * 9, "</answer></think>", "\\boxed{", "z" * 1_000_000, "\ud800"]
WORDS = (GARBAGE[2], GARBAGE[-2])


# What a model, a judge or an environment says of garbage is its own affair: tests/rewards/test_model.py,
# tests/rewards/judging, tests/rollout.
ELSEWHERE = {"model", "process_model", "environment"}
JUDGES = {"judge", "pairwise_judge", "local_judge", "local_pairwise_judge"}


@pytest.mark.parametrize("name", sorted(registry.REWARDS.keys() - ELSEWHERE - JUDGES))
def test_right_scores_full_and_garbage_zero_and_nothing_fails(name):
    if name == "reasoning_gym" and not importlib.util.find_spec("reasoning_gym"):
        pytest.skip("reasoning-gym is not installed")
    if name == "code" and all(available().values()):
        pytest.skip(str(available()))
    right, asked, params, full, wordless = example(name)
    texts = [right, *GARBAGE, right]
    with RewardSet([RewardConfig(function=name, params=params or {})]) as rewards:
        scored = rewards.score([asked] * len(texts), [output(text) for text in texts])
    assert [reward.parts[name].detail for reward in scored] == [""] * len(texts)
    assert [reward.value for reward in scored] == [
        full,
        *(0.0 if text in WORDS else wordless for text in GARBAGE),
        full,
    ]
