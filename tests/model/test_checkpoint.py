"""A checkpoint is whole or absent, loads with plain transformers, and a resumed run is the run that never stopped."""

import fcntl
import json
import os
import resource
import shutil
import signal
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from groupwise.errors import CheckpointError
from groupwise.model.checkpoint import (
    bytes_needed,
    check_checkpoint,
    checkpoint_folder,
    latest_checkpoint,
    load_optimizer,
    load_state,
    prune,
    require_space,
    save_checkpoint,
)

FILE_EVENTS = {"open", "os.rename", "os.mkdir", "os.rmdir", "os.remove", "shutil.rmtree"}


@pytest.fixture
def model(tiny_folder):
    return AutoModelForCausalLM.from_pretrained(tiny_folder)


@pytest.fixture
def tokenizer(tiny_folder):
    return AutoTokenizer.from_pretrained(tiny_folder)


def adamw(model) -> torch.optim.AdamW:
    """Two groups, as a run has that decays matrices only."""
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=1e-2, betas=(0.8, 0.95))


def train(model, optimizer, steps: range) -> None:
    for step in steps:
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 / (1 + step)
        tokens = torch.randint(3, 40, (2, 9), generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        model(tokens, labels=tokens).loss.backward()
        optimizer.step()


def same(left, right) -> bool:
    pairs = zip(left.state_dict().items(), right.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


def test_plain_transformers_loads_the_folder_with_equal_logits_and_greedy_text(tmp_path, model, tokenizer):
    train(model, adamw(model), range(2))
    save_checkpoint(tmp_path / "c", model=model, tokenizer=tokenizer, optimizer=None, state={})
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "c")
    prompt = AutoTokenizer.from_pretrained(tmp_path / "c")("<user>2+2<end><assistant>", return_tensors="pt").input_ids
    assert torch.equal(prompt, tokenizer("<user>2+2<end><assistant>", return_tensors="pt").input_ids)
    assert torch.equal(loaded(prompt).logits, model.eval()(prompt).logits)
    assert torch.equal(
        loaded.generate(prompt, max_new_tokens=8, do_sample=False),
        model.generate(prompt, max_new_tokens=8, do_sample=False),
    )
    assert AutoTokenizer.from_pretrained(tmp_path / "c").chat_template == tokenizer.chat_template


def test_tied_weights_stay_tied_and_are_written_once(tmp_path, model, tokenizer):
    assert model.config.tie_word_embeddings
    save_checkpoint(tmp_path / "c", model=model, tokenizer=tokenizer, optimizer=None, state={})
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "c")
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
    assert torch.equal(loaded.lm_head.weight, model.lm_head.weight)
    assert "lm_head.weight" not in load_file(tmp_path / "c" / "model.safetensors")


def test_a_generation_config_that_transformers_will_not_save_is_kept_as_it_is(tmp_path, model, tokenizer):
    model.generation_config = GenerationConfig(temperature=0.6, top_p=0.9, do_sample=False, eos_token_id=[2, 5])
    before = model.generation_config
    save_checkpoint(tmp_path / "c", model=model, tokenizer=tokenizer, optimizer=None, state={})
    assert model.generation_config is before
    kept = AutoModelForCausalLM.from_pretrained(tmp_path / "c").generation_config
    assert (kept.temperature, kept.top_p, kept.eos_token_id) == (0.6, 0.9, [2, 5])


def test_a_resumed_run_is_the_uninterrupted_one_to_the_bit(tmp_path, tiny_folder, tokenizer):
    straight = AutoModelForCausalLM.from_pretrained(tiny_folder)
    optimizer = adamw(straight)
    train(straight, optimizer, range(3))
    state = {"step": 3, "policy_version": 3, "seeds": [1, 2**62 + 1]}
    save_checkpoint(tmp_path / "c", model=straight, tokenizer=tokenizer, optimizer=optimizer, state=state)
    resumed = AutoModelForCausalLM.from_pretrained(tmp_path / "c")
    fresh = torch.optim.AdamW(adamw(resumed).param_groups)
    load_optimizer(tmp_path / "c", fresh, model=resumed)
    assert load_state(tmp_path / "c") == state
    assert [{**group, "params": 0} for group in fresh.param_groups] == [
        {**group, "params": 0} for group in optimizer.param_groups
    ]
    train(straight, optimizer, range(3, 6))
    train(resumed, fresh, range(3, 6))
    assert same(straight, resumed)
    for a, b in zip(straight.parameters(), resumed.parameters(), strict=True):
        slots = optimizer.state[a], fresh.state[b]
        assert all(torch.equal(slots[0][slot], slots[1][slot]) for slot in ("exp_avg", "exp_avg_sq", "step"))


def test_an_optimizer_before_its_first_step_round_trips(tmp_path, model, tokenizer):
    save_checkpoint(tmp_path / "c", model=model, tokenizer=tokenizer, optimizer=adamw(model), state={})
    fresh = adamw(model)
    load_optimizer(tmp_path / "c", fresh, model=model)
    assert not fresh.state


def test_an_optimizer_of_another_model_is_refused_by_name(tmp_path, model, tokenizer):
    optimizer = adamw(model)
    train(model, optimizer, range(1))
    save_checkpoint(tmp_path / "c", model=model, tokenizer=tokenizer, optimizer=optimizer, state={})
    without_norm = torch.optim.AdamW([p for name, p in model.named_parameters() if name != "model.norm.weight"])
    with pytest.raises(CheckpointError, match=r"model\.norm\.weight"):
        load_optimizer(tmp_path / "c", without_norm, model=model)
    model.resize_token_embeddings(70)
    with pytest.raises(CheckpointError, match=r"embed_tokens\.weight/exp_avg \[70, 64\]"):
        load_optimizer(tmp_path / "c", adamw(model), model=model)


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors", "state.json", "tokenizer.json"])
@pytest.mark.parametrize(
    ("damage", "said"),
    [("truncate", "bytes, .* were saved"), ("flip", "not those that were saved"), ("remove", "missing")],
)
def test_a_damaged_file_is_named(tmp_path, model, tokenizer, file, damage, said):
    save_checkpoint(tmp_path / "c", model=model, tokenizer=tokenizer, optimizer=adamw(model), state={"step": 1})
    check_checkpoint(tmp_path / "c")
    path = tmp_path / "c" / file
    content = bytearray(path.read_bytes())
    if damage == "remove":
        path.unlink()
    elif damage == "truncate":
        path.write_bytes(content[:-1])
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{file}: .*{said}"):
        check_checkpoint(tmp_path / "c")


def test_a_truncated_manifest_and_a_missing_optimizer_are_named(tmp_path, model, tokenizer):
    save_checkpoint(tmp_path / "c", model=model, tokenizer=tokenizer, optimizer=None, state={})
    with pytest.raises(CheckpointError, match=r"optimizer\.json: not part of this checkpoint"):
        load_optimizer(tmp_path / "c", adamw(model), model=model)
    manifest = tmp_path / "c" / "manifest.json"
    manifest.write_text(manifest.read_text()[:40])
    with pytest.raises(CheckpointError, match=r"manifest\.json"):
        load_state(tmp_path / "c")


def test_no_file_is_a_pickle(tmp_path, model, tokenizer):
    save_checkpoint(tmp_path / "c", model=model, tokenizer=tokenizer, optimizer=adamw(model), state={})
    assert {file.suffix for file in (tmp_path / "c").iterdir()} == {".json", ".safetensors", ".jinja"}


def test_bytes_needed_counts_weights_moments_and_what_lies_beside_them(tmp_path, model, tokenizer):
    # 3 x 2 weights + 2 biases = 8 floats of 4 bytes = 32; two moments 64; the bias frozen: 2 x 24 = 48; beside: 64 MiB
    linear = torch.nn.Linear(3, 2)
    assert bytes_needed(linear, with_optimizer=False) == 32 + 2**26
    assert bytes_needed(linear, with_optimizer=True) == 32 + 64 + 2**26
    linear.bias.requires_grad_(False)
    assert bytes_needed(linear, with_optimizer=True) == 32 + 48 + 2**26
    optimizer = adamw(model)
    train(model, optimizer, range(1))
    save_checkpoint(tmp_path / "c", model=model, tokenizer=tokenizer, optimizer=optimizer, state={})
    written = sum(file.stat().st_size for file in (tmp_path / "c").iterdir())
    assert written < bytes_needed(model, with_optimizer=True)


def test_too_little_disk_is_told_with_both_numbers(tmp_path):
    require_space(tmp_path / "not" / "made" / "yet", 1)
    with pytest.raises(
        CheckpointError, match=r"not enough disk .* 4,611,686,018,427,387,904 bytes needed, [\d,]+ free"
    ):
        require_space(tmp_path / "not" / "made" / "yet", 2**62)


@pytest.mark.parametrize("limit", [200, 10_000, 300_000])
def test_a_write_that_fails_leaves_the_earlier_checkpoint_and_nothing_else(tmp_path, model, tokenizer, limit):
    # files longer than the limit fail as on a full disk: 200 in the config, 10,000 in the weights, 300,000 in AdamW's
    optimizer = adamw(model)
    train(model, optimizer, range(1))
    parts = {"model": model, "tokenizer": tokenizer, "optimizer": optimizer}
    for step in (1, 2):
        save_checkpoint(checkpoint_folder(tmp_path, step), **parts, state={"step": step})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(CheckpointError, match=r"step-000002: checkpoint not written .* bytes needed, [\d,]+ free"):
            save_checkpoint(checkpoint_folder(tmp_path, 2), **parts, state={"step": 20})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sorted(folder.name for folder in (tmp_path / "checkpoints").iterdir()) == ["step-000001", "step-000002"]
    check_checkpoint(checkpoint_folder(tmp_path, 2))
    assert load_state(checkpoint_folder(tmp_path, 2)) == {"step": 2}


def test_a_state_that_is_not_json_costs_no_checkpoint(tmp_path, model, tokenizer):
    with pytest.raises(TypeError):
        save_checkpoint(tmp_path / "c", model=model, tokenizer=tokenizer, optimizer=None, state={"x": {1, 2}})
    assert list(tmp_path.iterdir()) == []


def test_the_latest_is_the_highest_step_that_was_finished(tmp_path):
    assert latest_checkpoint(tmp_path) is None
    parent = tmp_path / "checkpoints"
    for name in ("step-000009", "step-1000000", "step-999999", ".partial-step-2000000", "step-old"):
        (parent / name).mkdir(parents=True)
        (parent / name / "manifest.json").write_text("{}")
    (parent / "step-3000000").mkdir()  # half a copy: no manifest
    assert latest_checkpoint(tmp_path) == parent / "step-1000000"
    assert not (parent / ".partial-step-2000000").exists()


def test_pruning_keeps_the_newest(tmp_path):
    prune(tmp_path, 1)
    for step in (1, 2, 10):
        checkpoint_folder(tmp_path, step).mkdir(parents=True)
        (checkpoint_folder(tmp_path, step) / "manifest.json").write_text("{}")
    prune(tmp_path, 2)
    assert sorted(folder.name for folder in (tmp_path / "checkpoints").iterdir()) == ["step-000002", "step-000010"]
    prune(tmp_path, 0)
    assert [folder.name for folder in (tmp_path / "checkpoints").iterdir()] == ["step-000010"]


def test_while_one_saves_no_other_saves_or_clears_away(tmp_path, model, tokenizer):
    partial = tmp_path / "checkpoints" / ".partial-step-000001"
    partial.mkdir(parents=True)
    holder = os.open(tmp_path / "checkpoints", os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    try:
        with pytest.raises(CheckpointError, match="another process"):
            save_checkpoint(checkpoint_folder(tmp_path, 1), model=model, tokenizer=tokenizer, optimizer=None, state={})
        assert latest_checkpoint(tmp_path) is None
        assert partial.exists()
    finally:
        os.close(holder)
    assert latest_checkpoint(tmp_path) is None
    assert not partial.exists()


def killed_at(event: int, folder: Path, version: int, model, tokenizer) -> bool:
    """Saves in a child process that is killed before its n-th touch of the file system; False if it came to its end."""
    child = os.fork()
    if child == 0:
        left = event

        def count(name: str, _: tuple) -> None:
            nonlocal left
            if name in FILE_EVENTS:
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        try:
            sys.addaudithook(count)
            save_checkpoint(folder, model=model, tokenizer=tokenizer, optimizer=None, state={"version": version})
            os._exit(0)
        finally:
            os._exit(1)  # whatever happens, the child does not go on with the tests
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


@pytest.mark.parametrize("step", [1, 2])
def test_a_kill_at_any_moment_leaves_a_whole_checkpoint(tmp_path, model, tokenizer, step):
    # step 1 is there and is replaced, step 2 is new; every weight of version v is v
    def fill(version):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(version)

    run = tmp_path / "run"
    fill(1)
    save_checkpoint(checkpoint_folder(run, 1), model=model, tokenizer=tokenizer, optimizer=None, state={"version": 1})
    shutil.copytree(run, tmp_path / "before")
    fill(2)
    seen, event, killed = [], 0, True
    while killed:
        shutil.rmtree(run)
        shutil.copytree(tmp_path / "before", run)
        killed = killed_at(event, checkpoint_folder(run, step), 2, model, tokenizer)
        latest = latest_checkpoint(run)
        check_checkpoint(latest)
        seen.append(load_state(latest)["version"])
        weights = load_file(latest / "model.safetensors")
        assert all(bool((tensor == seen[-1]).all()) for tensor in weights.values()), event
        assert not [folder for folder in (run / "checkpoints").iterdir() if folder.name.startswith(".")]
        event += 1
    assert event > 30
    assert set(seen) == {1, 2}
    assert seen == sorted(seen)  # once the new one is there it stays


def test_the_manifest_names_every_file(tmp_path, model, tokenizer):
    save_checkpoint(tmp_path / "c", model=model, tokenizer=tokenizer, optimizer=None, state={})
    files = {file.name for file in (tmp_path / "c").iterdir()}
    assert set(json.loads((tmp_path / "c" / "manifest.json").read_text())) == files - {"manifest.json"}
