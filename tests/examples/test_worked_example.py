"""The worked example's numbers by hand, on the tiny model; and on the real one that its seed is what it says."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest
import torch

from groupwise.config import ModelConfig
from groupwise.engines.base import Task, generate, stream
from groupwise.engines.local import LocalEngine
from groupwise.model.loading import load_policy
from groupwise.model.policy import Policy
from groupwise.model.tokenizer import load_tokenizer
from tests.close import close


@pytest.fixture(scope="module")
def example():
    path = Path(__file__).parents[2] / "examples" / "worked_example.py"
    spec = importlib.util.spec_from_file_location("worked_example", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["worked_example"] = module
    spec.loader.exec_module(module)
    return module


def policy_of(path: str | Path) -> Policy:
    config = ModelConfig(path=str(path), device="cpu")
    return load_policy(config, load_tokenizer(config))


@pytest.fixture
def tiny(tiny_folder):
    return policy_of(tiny_folder)


def prompt_of(example, policy):
    return policy.tokenizer.tokenizer(example.PROMPT, add_special_tokens=False)["input_ids"]


def test_eight_answers_four_right_by_hand(example, capsys):
    # squares about 1/2: 8 * 1/4 = 2; 2 / 7 = 0.2857, whose root is 0.5345; 0.5 / 0.5345 = 0.9354
    example.print_by_hand()
    text = capsys.readouterr().out
    assert "mean 0.50, standard deviation 0.53" in text
    assert text.count("+0.94") == text.count("-0.94") == 4


def test_it_draws_what_the_engine_draws(example, tiny, capsys):
    tokens = prompt_of(example, tiny)
    logits = example.print_next_token(tiny, tokens)
    assert logits.isfinite().sum() == 10
    groups = example.draw(tiny, tokens, logits, seed=3)
    streams = tuple(stream(3, 0, "worked-example", number) for number in range(8))
    [outputs] = generate(LocalEngine(tiny), [Task(tuple(tokens), streams)], example.SAMPLING)
    mine = [sample.output for group in groups for sample in group.samples]
    assert [int(o.tokens[0]) for o in mine] == [int(o.tokens[0]) for o in outputs]
    close([o.logprobs[0] for o in mine], torch.tensor([o.logprobs[0] for o in outputs]))


def test_one_right_of_four_by_hand_and_after_the_step_it_is_likelier(example, tiny_folder, tiny, monkeypatch, capsys):
    # rewards 0 1 0 0: mean 1/4, squares 9/16 + 3/16 = 3/4, over 3 is 1/4, std 1/2; (3/4) / (1/2) and (-1/4) / (1/2)
    tokens = prompt_of(example, tiny)
    logits = example.print_next_token(tiny, tokens)
    second = example.draw(tiny, tokens, logits, seed=0)[0].samples[1]
    monkeypatch.setattr(example, "ANSWER", second.output.text)
    groups = example.draw(tiny, tokens, logits, seed=0)
    assert groups[0].rewards == [0, 1, 0, 0], "choose another seed"
    monkeypatch.setattr(
        example, "LEARNING_RATE", 0.02
    )  # the tiny model's step is large enough for clip and KL to count
    capsys.readouterr()
    example.main(["--model", str(tiny_folder), "--seed", "0"])
    text = capsys.readouterr().out
    assert "group 1: rewards 0 1 0 0  mean 0.2500  std 0.5000" in text
    assert "advantages -0.5000 +1.5000 -0.5000 -0.5000" in text
    on_policy, after = text.split("4. On policy")[1].split("5. After one")
    assert all(row.split()[2] == "1.0000" for row in rows(on_policy))
    assert all(float(row.split()[7]) == 0 for row in rows(on_policy))
    assert float(rows(after)[1].split()[2]) > 1
    assert loss(after) < loss(on_policy) == 0
    assert rows(after)[1].split()[6] == "yes"  # past 1.2 the clipped term is the smaller one
    before, now = after.rsplit(": ", 1)[1].split(" -> ")
    assert float(now.strip(" %\n")) > float(before.strip(" %\n"))


def test_without_a_right_answer_it_says_so_and_nothing_changes(example, tiny_folder, capsys):
    # 5 is not among the ten likeliest tokens of the untrained model, so it is never drawn
    example.main(["--model", str(tiny_folder)])
    text = capsys.readouterr().out
    assert text.count("all wrong: no answer is better than its siblings, every advantage is 0,") == 2
    on_policy, after = text.split("4. On policy")[1].split("5. After one")
    assert loss(on_policy) == loss(after) == 0
    assert all(row.split()[2] == "1.0000" for row in rows(after))


@pytest.mark.smollm
def test_the_default_seed_is_the_first_that_gives_both_groups_a_right_answer(example, capsys):
    policy = policy_of("smollm2-135m-instruct")
    tokens = prompt_of(example, policy)
    logits = example.print_next_token(policy, tokens)
    both = [
        all(group.has_signal for group in example.draw(policy, tokens, logits, seed))
        for seed in range(example.SEED + 1)
    ]
    assert both.index(True) == example.SEED


def rows(text: str) -> list[str]:
    """The lines of the eight answers."""
    lines = [line for line in text.splitlines() if line.split()[:1] and line.split()[0].isdigit() and "." in line]
    assert len(lines) == 8
    return lines


def loss(text: str) -> float:
    """The loss, once it is seen to be the mean of the answers' printed terms."""
    told, mean = re.findall(r"loss (\S+), the mean of the last column (\S+)", text)[0]
    assert abs(float(told) - float(mean)) < 2e-6
    return float(told)
