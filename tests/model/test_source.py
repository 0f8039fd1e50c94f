"""What may stand as a model's path, and what is refused in one line before anything is loaded."""

import json
import pickle
import shutil

import pytest
import torch
from tokenizers import AddedToken
from transformers import AutoModelForCausalLM, AutoTokenizer

from groupwise.config import LoraConfig, ModelConfig
from groupwise.data import Sampling
from groupwise.engines.base import Task, generate
from groupwise.engines.local import LocalEngine
from groupwise.errors import ModelError
from groupwise.model.checkpoint import checkpoint_folder, save_checkpoint
from groupwise.model.loading import load_policy
from groupwise.model.lora import load_adapted, merged_weights
from groupwise.model.saved import Best, mark_best
from groupwise.model.source import source_of
from groupwise.model.tokenizer import load_tokenizer
from tests.model import build

PLAIN = Sampling(max_new_tokens=9)


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("GROUPWISE_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def folder(tmp_path, tiny_folder):
    return shutil.copytree(tiny_folder, tmp_path / "model")


def source(path) -> str:
    return source_of(str(path), seed=0, where=f"model.path = '{path}'")


def adapted(folder):
    """A policy with adapters that have moved, on the weights of a folder."""
    config = ModelConfig(path=str(folder), device="cpu", lora=LoraConfig(rank=2))
    policy = load_adapted(config, load_tokenizer(config), seed=0, resumed_from=None)
    torch.manual_seed(3)
    with torch.no_grad():
        for name, weight in policy.model.named_parameters():
            if ".lora_B." in name:
                weight.normal_(std=0.1)
    return policy


def saved(policy, folder):
    hf = policy.tokenizer.tokenizer
    save_checkpoint(folder, model=policy.model, tokenizer=hf, optimizer=None, state={"step": 0})
    return folder


def test_a_runs_folder_is_its_newest_checkpoint(folder, tmp_path):
    config = ModelConfig(path=str(folder), device="cpu")
    policy, run = load_policy(config, load_tokenizer(config)), tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    with pytest.raises(ModelError, match="the run has no checkpoint yet; train it first"):
        source(run)
    for step in (3, 12):
        saved(policy, checkpoint_folder(run, step))
    assert source(run) == source(run / "checkpoints") == str(checkpoint_folder(run, 12))
    with pytest.raises(ModelError, match=r"kept no best checkpoint; set run\.keep_best there"):
        source(run / "best")
    mark_best(run, Best(3, "accuracy", 0.5))
    assert source(run / "best") == str(checkpoint_folder(run, 3))
    assert source(checkpoint_folder(run, 3)) == str(checkpoint_folder(run, 3))


def test_an_adapters_folder_is_its_base_with_the_adapter_merged_into_it(folder, tmp_path):
    policy = adapted(folder)
    adapter = saved(policy, tmp_path / "end") / "adapter"
    merged = source(adapter)
    assert source(adapter) == merged
    found = AutoModelForCausalLM.from_pretrained(merged).state_dict()
    expected = merged_weights(policy.model)
    assert found.keys() == expected.keys()
    assert all(torch.allclose(found[name], expected[name], atol=1e-6) for name in expected)
    assert AutoTokenizer.from_pretrained(merged).chat_template
    tokenizer = load_tokenizer(ModelConfig(path=str(adapter)))
    assert tokenizer.end_tokens == policy.tokenizer.end_tokens


def test_an_adapter_is_not_merged_into_another_base(folder, tmp_path, tiny_folder):
    adapter = saved(adapted(folder), tmp_path / "end") / "adapter"
    build.policy_of(build.SHARING["llama"], folder, tiny_folder, seed=5)
    for base, said in ((str(folder), "is not the model that the adapter was trained on"), ("/no/base", "no such fol")):
        told = json.loads((adapter / "adapter_config.json").read_text())
        (adapter / "adapter_config.json").write_text(json.dumps(told | {"base_model_name_or_path": base}))
        with pytest.raises(ModelError, match=said):
            source(adapter)


@pytest.mark.parametrize(
    ("told", "said"),
    [({}, "names no base model"), ({"base_model_name_or_path": "."}, "no config.json"), (None, "names no base model")],
)
def test_an_adapter_without_a_base_is_refused(told, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "adapter_config.json").write_text("{" if told is None else json.dumps(told))
    with pytest.raises(ModelError, match=said):
        source(tmp_path / "a")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("model.gguf", "model.gguf'"),
        ("model.safetensors", "a file of this kind is no model; give a folder"),
        ("recipe.yaml", "a file of this kind is no model; a recipe stands before"),
    ],
)
def test_a_file_that_is_no_model_is_refused_in_one_line(name, said, tmp_path):
    (tmp_path / name).write_bytes(b"GGUF\x00 not really")
    with pytest.raises(ModelError) as error:
        source(tmp_path / name)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_without_weights_is_refused(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"no weights \(\*\.safetensors\) beside its config\.json; give the folder"):
        source(folder)
    (folder / "q4.gguf").write_bytes(b"")
    with pytest.raises(ModelError, match=r"give the file itself, .*q4\.gguf"):
        source(folder)


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_code_in_a_models_folder_is_refused_unless_it_was_said_what_to_do(file, folder):
    told = json.loads((folder / file).read_text())
    code = {"AutoModelForCausalLM": "own.Model", "AutoTokenizer": ["own.Tokens", None], "AutoConfig": "own.Config"}
    (folder / file).write_text(json.dumps(told | {"auto_map": code}))
    ran = folder / "ran"
    (folder / "own.py").write_text(f"open({str(ran)!r}, 'w')\n")
    with pytest.raises(ModelError, match=rf"its {file} asks for code of its own \(auto_map: own\.Model\)") as error:
        load_tokenizer(ModelConfig(path=str(folder)))
    assert "trust_remote_code=true (model. or params.) runs it" in error.value.hint
    config = ModelConfig(path=str(folder), device="cpu", trust_remote_code=False)
    policy = load_policy(config, load_tokenizer(config))
    assert type(policy.model).__name__ == "LlamaForCausalLM"
    saved(policy, folder.parent / "end")
    assert "auto_map" not in json.loads((folder.parent / "end" / "config.json").read_text())
    assert not ran.exists()


def test_a_pickle_that_would_run_something_is_refused_in_one_line(folder):
    class Hostile:
        def __reduce__(self):
            return open, (str(folder / "ran"), "w")

    (folder / "model.safetensors").unlink()
    config = ModelConfig(path=str(folder), device="cpu")
    for write in (torch.save, lambda what, file: file.write_bytes(pickle.dumps(what, protocol=2))):
        write({"a": Hostile()}, folder / "pytorch_model.bin")
        with pytest.raises(ModelError, match=r"^model\.path = .*") as error:
            load_policy(config, load_tokenizer(config))
        assert "\n" not in str(error.value)
        assert not (folder / "ran").exists()


def test_tokens_without_an_embedding_are_refused_or_given_the_mean_of_the_others(folder, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([AddedToken("<think>", special=True), AddedToken("</think>", special=True)])
    tokenizer.save_pretrained(folder)
    config = ModelConfig(path=str(folder), device="cpu")
    with pytest.raises(
        ModelError, match=r"has 2 tokens that the embedding of 51 rows lacks, '<think>' \(id 51\)"
    ) as error:
        load_tokenizer(config)
    assert error.value.hint.startswith("model.resize_embeddings=true adds rows")
    config = config.model_copy(update={"resize_embeddings": True})
    before = load_policy(ModelConfig(path="tiny", device="cpu"), load_tokenizer(ModelConfig(path="tiny")))
    old = before.model.get_input_embeddings().weight
    policy = load_policy(config, load_tokenizer(config))
    weight = policy.model.get_input_embeddings().weight
    assert weight.shape[0] == policy.model.config.vocab_size == 53
    assert torch.equal(weight[:51], old)
    assert torch.allclose(weight[51:], old.mean(0).expand(2, -1))
    end = saved(policy, tmp_path / "end")
    assert load_tokenizer(ModelConfig(path=str(end))).config.vocab_size == 53


def test_rows_that_are_no_token_are_never_drawn_and_count_in_no_distribution(folder, tiny_folder):
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.resize_token_embeddings(80, mean_resizing=False)
    with torch.no_grad():
        model.get_input_embeddings().weight[51:] = 4 * model.get_input_embeddings().weight[:29]
    model.save_pretrained(folder)
    padded, plain = (ModelConfig(path=str(place), device="cpu") for place in (folder, tiny_folder))
    padded, plain = (load_policy(config, load_tokenizer(config)) for config in (padded, plain))
    assert padded.lacking.tolist() == list(range(51, 80))
    assert plain.lacking is None
    tasks = [Task((4, 7, 5), tuple(range(40)))]
    [outputs], [expected] = (generate(LocalEngine(one), tasks, PLAIN) for one in (padded, plain))
    assert [o.tokens.tolist() for o in outputs] == [o.tokens.tolist() for o in expected]
    rollouts = build.rollouts((3,), (2,))
    again, scored = (one.logprobs(rollouts, rollouts.output_mask, sampling=PLAIN) for one in (padded, plain))
    for found, wanted in zip(again, scored, strict=True):
        assert torch.allclose(found, wanted, atol=1e-5)
    padded.backward(rollouts, rollouts.output_mask, sampling=PLAIN, loss=lambda logprobs, _: logprobs.sum())
    gradient = padded.model.get_input_embeddings().weight.grad
    assert gradient.isfinite().all()
    assert not gradient[51:].any()
