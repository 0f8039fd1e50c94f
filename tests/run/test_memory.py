"""What a run needs of memory is counted before its weights are loaded, and told; what cannot fit is refused."""

import re
from dataclasses import replace

import pytest
import torch

from groupwise.config import read_recipe
from groupwise.errors import ModelError
from groupwise.model import free
from groupwise.model.footprint import Footprint, footprint
from groupwise.model.linear_logprobs import CHUNK_BYTES
from groupwise.model.tokenizer import load_tokenizer
from groupwise.run import memory as room
from groupwise.run.memory import require_memory
from groupwise.run.memory_parts import BETWEEN, Models, need
from groupwise.run.readers import readers
from groupwise.run.resolve import resolve_recipe
from tests.command import RECIPE
from tests.model import build
from tests.project.sources import ROOT

MIB = 2**20
FEW = ("rollout.questions_per_step=1", "rollout.group_size=2")


@pytest.fixture
def required(tiny_folder, tmp_path, monkeypatch):
    """What is said of a run of the tiny recipe, changed, with so many bytes free."""
    tokenizer = None

    def call(*words, free):
        nonlocal tokenizer
        recipe = read_recipe(RECIPE, (f"model.path={tiny_folder}", "model.device=cpu", *words))
        tokenizer = tokenizer or load_tokenizer(recipe.model)
        monkeypatch.setattr(room, "free_bytes", lambda device: free)
        beside = readers(recipe, tokenizer, resolve_recipe(recipe), resumed=False)
        return require_memory(recipe, tokenizer, tmp_path / "run", beside=beside, heldout=30)

    return call


def test_a_run_says_what_it_needs_and_has(required):
    said = required(free=10**12)
    assert re.search(r"memory: training .* needs about \d+ MiB on cpu, 931\.3 GiB are free$", said.message)
    assert said.tokens is None


def needed(said: str) -> float:
    """MiB."""
    number, unit = re.search(r"needs about ([\d,.]+) ([MG])iB", said).groups()
    return float(number.replace(",", "")) * (1024 if unit == "G" else 1)


@pytest.mark.parametrize(
    "words",
    [
        ("rollout.max_new_tokens=200",),
        ("rollout.questions_per_step=64", "rollout.max_new_tokens=100"),
        ("update.tokens_per_microbatch=100000", "rollout.questions_per_step=200", "rollout.max_new_tokens=30"),
        ("update.activation_checkpointing=nothing", "rollout.max_new_tokens=100"),
    ],
)
def test_what_takes_more_memory_is_counted(required, words):
    assert needed(required(*words, free=10**12).message) > needed(required(free=10**12).message)


def test_micro_batches_shrink_until_they_fit_unless_the_recipe_says_their_size(required):
    words = ("rollout.max_new_tokens=100", "update.activation_checkpointing=nothing", "rollout.max_num_seqs=8")
    whole = needed(required(*words, free=10**12).message)
    found = required(*words, free=int((whole - 4) * MIB))
    assert found.tokens in (768, 384)
    assert f"micro-batches have {found.tokens} tokens" in found.message
    assert needed(found.message) <= whole - 3
    said = required(*words, "update.tokens_per_microbatch=1536", free=int((whole - 4) * MIB))
    assert said.tokens is None
    assert said.message.endswith("it may not be enough")


def test_what_cannot_fit_is_refused_with_the_settings_that_would_do(required):
    words = ("rollout.max_new_tokens=400", "rollout.questions_per_step=64", "rollout.max_num_seqs=1024")
    some = int(needed(required(*words, free=10**12).message) * MIB / 2)
    refusal = (
        r"not enough memory on cpu: training .* needs about \d+ MiB \(weights .*, sampling .*cache .*\); \d+ MiB are"
    )
    with pytest.raises(ModelError, match=refusal) as found:
        required(*words, free=some)
    assert found.value.hint.startswith("use a smaller model, or rollout.max_num_seqs=256")


def test_a_long_outputs_cache_is_counted_as_it_grows(required):
    few = ("update.tokens_per_microbatch=64", "update.activation_checkpointing=layers", "rollout.questions_per_step=64")
    short, long = (needed(required(*few, f"rollout.max_new_tokens={n}", free=10**12).message) for n in (64, 448))
    # 256 rows x 2 layers x keys and values x 2 heads of 16 numbers x 4 bytes: 128 KiB a column, one and a half times
    # where it grows, and a tenth between tensors
    assert long - short == pytest.approx(1.1 * (448 * 1.5 - 64) / 8, rel=0.1)


SMOLLM2 = Footprint(
    cache=46080, kept={"nothing": 1341692, "cheap": 760320, "layers": 69120}, layer=44723, state=2304,
    vocabulary=49152, linear=537919488, last=113246208,
)  # fmt: skip


@pytest.mark.parametrize(("rows", "taken"), [(16, 785), (64, 1338), (200, 2279)])
def test_what_sampling_is_counted_to_take_is_what_it_took(rows, taken):
    # MiB, by `python -m benchmarks.memory`: questions of 60 tokens, one output of 24 each
    recipe = read_recipe(RECIPE, ("model.device=cpu", "model.matmul_backend=mixed", *FEW, "rollout.max_new_tokens=24"))
    found = need(recipe, Models([], [], SMOLLM2), question=60, heldout=rows)
    counted = (sum(found.sampling.values()) + found.held["libraries"]) * BETWEEN / MIB
    assert 0.97 * taken < counted < 1.1 * taken
    assert found.sampling["questions"] == pytest.approx(min(8192, 60 * rows) * (46080 + 44723 + 3 * 2304))


def test_whole_logits_are_counted_for_every_output_token_and_others_for_a_chunk():
    words = ("model.device=cpu", "rollout.questions_per_step=32", "rollout.group_size=8", "rollout.max_new_tokens=24")
    recipe = read_recipe(RECIPE, (*words, "update.tokens_per_microbatch=1260"))
    # five groups of 60 + 8 * 24 tokens: 960 of outputs, 49152 fp32 numbers for each, four times
    for whole, tokens in ((True, 960), (False, CHUNK_BYTES / 4 / 49152)):
        found = need(recipe, Models([], [], replace(SMOLLM2, whole_logits=whole)), question=60, heldout=0)
        assert found.update["logits"] == pytest.approx(tokens * 49152 * 4 * 4)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "bloom"])
def test_a_footprint_is_what_a_pass_holds(family, tmp_path, tiny_folder):
    from transformers import AutoModelForCausalLM

    config = (build.SHARING | build.NOT_SHARING)[family]
    with torch.device("meta"):
        found = footprint(AutoModelForCausalLM.from_config(config))
    assert found.vocabulary == config.vocab_size
    assert found.kept["layers"] < found.kept["cheap"] < found.kept["nothing"]
    assert found.whole_logits == (family == "gemma2")  # which caps them
    if family == "llama":
        # two layers, 2 heads of 8 numbers in keys and in values, 4 bytes
        assert found.cache == 2 * 2 * 2 * 8 * 4
        # q, k, v, attention, o: 32 + 16 + 16 + 32 + 32; gate, up, down: 48 + 48 + 32; the layer's input: 32
        # and, in older versions of transformers, a product that makes the rotary angles
        assert found.kept["cheap"] == pytest.approx(2 * (128 + 128 + 32) * 4, rel=0.01)
        policy = build.policy_of(config, tmp_path, tiny_folder)
        assert found.last == policy.model.lm_head.weight.numel() * 4


def test_an_apple_gpu_tells_what_it_recommends(monkeypatch):
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 1000)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 300)
    assert free.free_bytes(torch.device("mps")) == 700


def test_the_containers_share_counts_and_not_the_hosts(monkeypatch, tmp_path):
    monkeypatch.setattr(free, "free_memory", lambda: 12345)
    assert free.free_bytes(torch.device("cpu")) == 12345
    monkeypatch.setattr(free, "free_memory", lambda: None)
    monkeypatch.setattr(free, "MEMINFO", tmp_path / "meminfo")
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable: 7 kB\n")
    assert free.free_bytes(torch.device("cpu")) == 7 * 1024


def test_replies_of_an_environment_are_counted(required):
    own = f"rollout.environment={ROOT / 'tests' / 'rollout' / 'test_tools.py'}:Calculator"
    many = ("rollout.questions_per_step=64", "update.tokens_per_microbatch=100000")
    sizes = (*many, "rollout.max_new_tokens=20", own, "rollout.environment_params.tools=[]")
    found = [
        needed(required(*sizes, f"rollout.environment_params.longest={longest}", free=10**12).message)
        for longest in (0, 20, 80, "null")
    ]
    assert found[0] < found[1] == found[3] < found[2]  # as many as are sampled, where the environment does not say
