"""Models that read pictures: log-probabilities and gradients are those of the processor and a plain forward pass."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from groupwise.config import LearningConfig, ModelConfig
from groupwise.data import Image, Message, Output, Sampling, message_of_parts
from groupwise.engines.base import Task, generate
from groupwise.engines.local import LocalEngine
from groupwise.errors import ConfigError, ModelError
from groupwise.learn.optimizer import make_optimizer
from groupwise.model.batch import Rollouts, microbatches
from groupwise.model.checkpoint import save_checkpoint
from groupwise.model.features import Features
from groupwise.model.loading import load_policy
from groupwise.model.parts import learning_parts, projectors, train_parts
from groupwise.model.policy import Policy
from groupwise.model.sighted import made
from groupwise.model.tokenizer import load_tokenizer
from groupwise.pictures import opened, png_of_pixels
from tests.model.vision import write

SAMPLING = Sampling(max_new_tokens=4)
LEARNING = LearningConfig(steps=1)
IN_THE_SUITE = ("qwen3_vl", "gemma3")  # three positions and deep features; both ways and a window


@pytest.fixture(scope="module", params=IN_THE_SUITE)
def policy(request: Any, tmp_path_factory: Any) -> Policy:
    found = loaded(write(tmp_path_factory.mktemp("model") / request.param, request.param))
    assert found.question_once
    return found


def loaded(folder: Path, **settings: Any) -> Policy:
    config = ModelConfig(path=str(folder), device="cpu", matmul_backend="torch", **settings)
    return load_policy(config, load_tokenizer(config))


UP = np.random.default_rng(0).integers(0, 256, (56, 84, 3), np.uint8)
A, B = made((56, 84)), made((60, 30))
ASKED = (
    (message_of_parts("user", [A, "what is it?"]),),
    (Message("system", "look"), message_of_parts("user", ["one", A, " and ", B, "two"])),
    (Message("user", "no picture"),),
)
ANSWERS = {0: ("abc", "de"), 1: ("a", "bcdefg"), 2: ("xyz",)}


def rollouts_of(policy: Policy) -> tuple[Rollouts, list[tuple[int, list[int]]]]:
    """Outputs to the questions, and of each its question's number and its tokens."""
    rows: list[tuple[int, list[int], list[int]]] = []
    for number, messages in enumerate(ASKED):
        asked = policy.tokenizer.encode(messages)
        rows += [(number, asked, policy.tokenizer.tokenizer(text)["input_ids"]) for text in ANSWERS[number]]
    rollouts = Rollouts.of_rows(
        [asked + own for _, asked, own in rows],
        masks=[[False] * len(asked) + [True] * len(own) for _, asked, own in rows],
        question_lengths=[len(asked) for _, asked, _ in rows],
        group=[number for number, _, _ in rows],
    )
    return rollouts, [(number, own) for number, _, own in rows]


def rows_of(outputs: Sequence[Output]) -> Rollouts:
    """Sampled outputs, two to a question."""
    return Rollouts.of_rows(
        [[*output.question_tokens, *output.tokens] for output in outputs],
        masks=[[False] * len(output.question_tokens) + [True] * len(output.tokens) for output in outputs],
        question_lengths=[len(output.question_tokens) for output in outputs],
        group=[row // 2 for row in range(len(outputs))],
    )


def by_transformers(policy: Policy, number: int, own: list[int]) -> Tensor:
    """Log-probabilities of an output by the model's processor and forward pass alone, as transformers' docs have it."""
    processor, messages = policy.tokenizer.processor, ASKED[number]
    turns = [{"role": m.role, "content": [_part(part) for part in m.parts] if m.parts else m.content} for m in messages]
    text = processor.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    images = [opened(image) for message in messages for image in message.images]
    inputs = processor(text=[text], images=[images] if images else None, return_tensors="pt")
    inputs.pop("attention_mask")
    answer = torch.tensor([own])
    for name in [name for name in inputs if name.endswith("token_type_ids")]:
        inputs[name] = torch.cat([inputs[name], torch.zeros_like(answer)], 1)
    if not images:
        inputs = {"input_ids": inputs["input_ids"]}
    asked = inputs["input_ids"].shape[1]
    inputs["input_ids"] = torch.cat([inputs["input_ids"], answer], 1)
    logits = policy.known(policy.model(**inputs, use_cache=False).logits[0, asked - 1 : -1])
    return logits.log_softmax(-1).gather(-1, answer[0, :, None])[:, 0]


def _part(part: str | Image) -> dict[str, str]:
    return {"type": "image"} if isinstance(part, Image) else {"type": "text", "text": part}


def learning(policy: Policy) -> list[torch.nn.Parameter]:
    return [weight for weight in policy.model.parameters() if weight.requires_grad]


def gradients(policy: Policy) -> list[Tensor]:
    found = [torch.zeros_like(w) if w.grad is None else w.grad.clone() for w in learning(policy)]
    policy.model.zero_grad(set_to_none=True)
    return found


def test_logprobs_and_gradients_are_those_of_the_processor_and_a_plain_pass(policy: Policy):
    rollouts, rows = rollouts_of(policy)
    expected = [by_transformers(policy, *row) for row in rows]
    torch.cat(expected).sum().backward()
    right = gradients(policy)
    assert any(float(g.abs().max()) > 0 for g in right)
    streams = ((True, 10_000), (True, 60)) if policy.question_once else ()
    for once, tokens in (*streams, (False, 60)):
        policy.question_once = once
        found: dict[int, Tensor] = {}
        for part in microbatches(rollouts, tokens, question_once=once):
            piece = rollouts[part]
            scored = policy.backward(
                piece, piece.output_mask, sampling=SAMPLING, loss=lambda logprobs, _: logprobs.sum()
            )
            for place, row in enumerate(part.tolist()):
                found[row] = scored.logprobs[place][piece.output_mask[place]]
        for row, logprobs in enumerate(expected):
            torch.testing.assert_close(found[row], logprobs.detach(), rtol=0, atol=1e-5)
        for mine, other in zip(gradients(policy), right, strict=True):
            assert float((mine - other).abs().max()) <= 1e-5 * max(1.0, float(other.abs().max()))
    policy.question_once = bool(streams)


def test_the_samplers_logprobs_are_the_trainers_and_no_picture_is_drawn(policy: Policy):
    tasks = [
        Task(tuple(policy.tokenizer.encode(messages)), (number, 7 + number)) for number, messages in enumerate(ASKED)
    ]
    outputs = [output for group in generate(LocalEngine(policy), tasks, SAMPLING) for output in group]
    rollouts = rows_of(outputs)
    found = policy.logprobs(rollouts, rollouts.output_mask, sampling=SAMPLING).logprobs
    for row, output in enumerate(outputs):
        torch.testing.assert_close(
            found[row][rollouts.output_mask[row]], torch.from_numpy(output.logprobs), rtol=0, atol=1e-5
        )
        assert policy.tokenizer.gallery is not None
        assert policy.tokenizer.gallery.token not in output.tokens


def test_a_frozen_tower_sees_each_picture_once(policy: Policy):
    rollouts, _ = rollouts_of(policy)
    assert policy.sight is not None
    policy.logprobs(rollouts, rollouts.output_mask, sampling=SAMPLING)
    before = policy.sight.features.passes
    for _ in range(2):
        policy.backward(rollouts, rollouts.output_mask, sampling=SAMPLING, loss=lambda logprobs, _: logprobs.sum())
    gradients(policy)
    assert policy.sight.features.passes == before <= 2


def test_pictures_of_one_shape_are_projected_together_into_the_features_of_each(policy: Policy):
    assert policy.sight is not None
    images = [replace(A, digest=name, data=png_of_pixels(pixels)) for name, pixels in (("up", UP), ("down", UP[::-1]))]
    asked = policy.tokenizer.encode((message_of_parts("user", images),))
    up, down = policy.sight.gallery.shown(torch.tensor([asked]))
    calls: list[int] = []
    [hook] = [m.register_forward_hook(lambda *_: calls.append(1)) for m in projectors(policy.model)[:1]]
    together = joined_features(policy.sight.features.of([up, down]))
    assert len(calls) == 3  # each once to note what the projector reads
    apart = [joined_features(policy.sight.features.of([picture])) for picture in (up, down)]
    hook.remove()
    torch.testing.assert_close(together, torch.cat(apart), rtol=0, atol=1e-5)
    assert (apart[0] - apart[1]).abs().max() > 1e-3


def joined_features(output: Any) -> Tensor:
    found = output.pooler_output
    return (found if isinstance(found, Tensor) else torch.cat(list(found))).flatten(0, -2).detach()


def test_pictures_that_an_environment_replies_with_are_ids_behind_the_turn(policy: Policy):
    tokenizer, replied = policy.tokenizer, message_of_parts("user", ["see ", B, "?"])
    first = tokenizer.encode(ASKED[0])
    turn = [*tokenizer.tokenizer("abc")["input_ids"], *tokenizer.end_tokens]
    behind = tokenizer.encode_reply([*ASKED[0], Message("assistant", "abc"), replied], replies=1, last=turn[-1])
    whole = tokenizer.encode([*ASKED[0], Message("assistant", "abc"), replied])
    assert [*first, *turn, *behind] == whole
    assert tokenizer.gallery is not None
    assert [picture.image.digest for picture in tokenizer.gallery.shown(torch.tensor(whole))] == [A.digest, B.digest]


def test_a_checkpoint_is_read_by_transformers_with_its_processor(policy: Policy, tmp_path: Path):
    save_checkpoint(
        tmp_path / "step", model=policy.model, tokenizer=policy.tokenizer.saved, optimizer=None, state={"step": 1}
    )
    again = load_tokenizer(ModelConfig(path=str(tmp_path / "step"), device="cpu"))
    assert again.decode_all(again.encode(ASKED[1])) == policy.tokenizer.decode_all(policy.tokenizer.encode(ASKED[1]))
    settings = json.loads((tmp_path / "step" / "processor_config.json").read_text())
    images = type(again.processor.image_processor).__name__  # saved under the name that plain transformers knows it by
    assert settings["image_processor"]["image_processor_type"] == images.removesuffix("Pil")


def test_only_the_parts_that_learn_have_a_gradient(policy: Policy):
    assert learning_parts(policy.model) == {"projector", "language"}
    frozen = [weight for weight in policy.model.parameters() if not weight.requires_grad]
    held = {id(weight) for group in make_optimizer(policy, LEARNING).param_groups for weight in group["params"]}
    policy.model.zero_grad(set_to_none=True)
    assert frozen
    assert held.isdisjoint(map(id, frozen))


@pytest.mark.parametrize(
    ("config", "pictures", "words"),
    [
        ({"train": {"vision": True}}, False, "model.train: .* it reads text alone"),
        ({"train": {"projector": True}, "lora": {}}, True, "model.train.projector = true: with model.lora"),
        ({"train": {"projector": False, "language": False}}, True, "model.train: no part learns"),
    ],
)
def test_parts_that_cannot_learn_are_refused(policy: Policy, config: Any, pictures: bool, words: str):
    with pytest.raises(ConfigError, match=words):
        train_parts(policy.model, ModelConfig(path="x", **config), pictures=pictures)


def test_pictures_in_an_answer_are_refused(policy: Policy):
    with pytest.raises(ModelError, match=r"messages\[0\] is the assistant's and has a picture"):
        policy.tokenizer.encode([message_of_parts("assistant", [A]), Message("user", "and?")])


def test_what_is_kept_of_a_picture_does_not_depend_on_how_precise_the_first_to_ask_is(policy: Policy):
    gallery = policy.tokenizer.gallery
    assert gallery is not None
    narrow, plain, pictures = Features(policy.model, gallery), Features(policy.model, gallery), [gallery.picture(A)]
    with torch.inference_mode():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            narrow.of(pictures)
        found, expected = narrow.of(pictures).pooler_output, plain.of(pictures).pooler_output
    for mine, right in zip(found, expected, strict=True):
        assert torch.equal(mine, right)
