"""One GRPO step in bf16 on an NVIDIA GPU, at a size that is common there: groupwise, and TRL where it is installed.

    python -m benchmarks.gpu --systems groupwise,trl
    python -m benchmarks.gpu --device cpu --tiny          # does it run?

Random weights in the shape of Qwen2.5-0.5B and 1.5B: no hub is needed, and what a product costs does not depend on
them. 64 questions x 8 outputs x 512 tokens after 100. Sampling is compared with the memory's bandwidth (every turn
reads all weights once and every row's keys and values), the update with the arithmetic limit. Both limits are measured
first, by a copy within the memory and a large bf16 product; `--bandwidth` and `--arithmetic` give others, a data
sheet's for example.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

from benchmarks.workload import Case

BYTES = 2  # of a bf16 number


@dataclass(frozen=True)
class Shape:
    """A model's dimensions, in the names of transformers' Qwen2Config."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    vocab_size: int = 151936
    tie_word_embeddings: bool = True
    max_position_embeddings: int = 32768
    rope_theta: float = 1e6

    @property
    def head_size(self) -> int:
        return self.hidden_size // self.num_attention_heads

    @property
    def trunk_weights(self) -> int:
        """Numbers in the layers' matrices."""
        attention = 2 * self.hidden_size * (self.hidden_size + self.num_key_value_heads * self.head_size)
        return self.num_hidden_layers * (attention + 3 * self.hidden_size * self.intermediate_size)

    @property
    def head_weights(self) -> int:
        return self.vocab_size * self.hidden_size

    @property
    def cache_bytes(self) -> int:
        """Keys and values of one token."""
        return 2 * self.num_hidden_layers * self.num_key_value_heads * self.head_size * BYTES


SHAPES = {
    "tiny": Shape(64, 128, 2, 4, 2, vocab_size=40960),
    "0.5b": Shape(896, 4864, 24, 14, 2),
    "1.5b": Shape(1536, 8960, 28, 12, 2),
}


def bytes_read(case: Case, shape: Shape) -> int:
    """Bytes that sampling must read: the weights once a turn, and each row's own part of the cache.

    A question's keys and values count once a turn for its group, since one product serves all its outputs.
    """
    turns = max(case.lengths) - 1
    weights = turns * (shape.trunk_weights + shape.head_weights) * BYTES
    shared = turns * case.questions * case.prompt_tokens
    own = sum(length * (length - 1) // 2 for length in case.lengths)
    return weights + (shared + own) * shape.cache_bytes


def operations(case: Case, shape: Shape) -> int:
    """Multiplications and additions of the update's products, attention left out: forward once, backward twice."""
    tokens = case.questions * case.prompt_tokens + case.sampled_tokens - len(case.lengths)
    return 6 * (tokens * shape.trunk_weights + case.sampled_tokens * shape.head_weights)


def report(row: dict, case: Case, shape: Shape, *, bandwidth: float, arithmetic: float) -> dict:
    """The row with the shares of the machine's limits. bandwidth: bytes/s; arithmetic: bf16 operations/s."""
    return row | {
        "bandwidth_share": round(bytes_read(case, shape) / row["sample_s"] / bandwidth, 4),
        "arithmetic_share": round(operations(case, shape) / row["update_s"] / arithmetic, 4),
    }


def write_model(folder: Path, shape: Shape, *, device: str = "cuda") -> None:
    """A model of that shape with random weights, and a tokenizer of one character a token, as none is used."""
    import torch
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    from groupwise.model.builtin import tiny

    tokenizer = AutoTokenizer.from_pretrained(tiny())
    torch.manual_seed(0)
    config = Qwen2Config(**asdict(shape), eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    with torch.device(device):
        model = Qwen2ForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def limits(device: str, *, tiny: bool) -> dict[str, float]:
    """bandwidth: bytes/s read and written by a copy; arithmetic: operations/s of a square bf16 product."""
    import torch

    numbers, side = (10**6, 256) if tiny else (2**29, 8192)
    source = torch.zeros(numbers, dtype=torch.bfloat16, device=device)
    target = torch.empty_like(source)
    a, b = (torch.randn(side, side, device=device).bfloat16() for _ in range(2))
    copy = _seconds(lambda: target.copy_(source), device)
    product = _seconds(lambda: a @ b, device)
    return {"bandwidth": 2 * numbers * BYTES / copy, "arithmetic": 2 * side**3 / product}


def _seconds(work: Callable[[], object], device: str, *, times: int = 10) -> float:
    """Of one call, the mean of some after three to warm up."""
    import torch

    for _ in range(3):
        work()
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    wait()
    started = time.perf_counter()
    for _ in range(times):
        work()
    wait()
    return (time.perf_counter() - started) / times


def main() -> None:
    arguments = _arguments()
    import torch

    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("no CUDA GPU here: nothing measured")
        return
    card = torch.cuda.get_device_name() if arguments.device == "cuda" else arguments.device
    print(f"{card}, torch {torch.__version__}", file=sys.stderr)
    given = {"bandwidth": arguments.bandwidth, "arithmetic": arguments.arithmetic}
    most = limits(arguments.device, tiny=arguments.tiny) | {name: value for name, value in given.items() if value}
    print(json.dumps({"card": card} | most), flush=True)
    case = Case("fixed", 100, 0.0, arguments.questions, 8, arguments.limit)
    if arguments.tiny:
        case = Case("fixed", 100, 0.0, 2, 8, 4)
    failed = False
    for name in ["tiny"] if arguments.tiny else arguments.shapes.split(","):
        with tempfile.TemporaryDirectory() as folder:
            write_model(Path(folder), SHAPES[name], device=arguments.device)
            if arguments.device == "cuda":
                torch.cuda.empty_cache()  # the measured process wants the card to itself
            for system in arguments.systems.split(","):
                if find_spec("trl") is None and system == "trl":
                    print("trl: not installed beside groupwise, left out", file=sys.stderr)
                    continue
                row = _measured(system, folder, case, arguments)
                failed |= row is None
                if row is not None:
                    print(json.dumps({"model": name} | report(row, case, SHAPES[name], **most)), flush=True)
    sys.exit(failed)


def _measured(system: str, folder: str, case: Case, arguments: argparse.Namespace) -> dict | None:
    """The row of a system's second step: the first one's seconds have the choosing of kernels in them."""
    command = [sys.executable, "-m", f"benchmarks.{system}_step", "--model", folder, "--device", arguments.device]
    command += ["--questions", str(case.questions), "--limit", str(case.limit), "--steps", "2"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"system"')]
    if done.returncode or not rows:
        print(f"{system} {folder}: exit {done.returncode}", file=sys.stderr)
        return None
    return rows[-1]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shapes", default="0.5b,1.5b")
    parser.add_argument("--systems", default="groupwise,trl")
    parser.add_argument("--questions", type=int, default=64)
    parser.add_argument("--limit", type=int, default=512, help="tokens of each output")
    parser.add_argument("--bandwidth", type=float, help="bytes/s; default: measured")
    parser.add_argument("--arithmetic", type=float, help="bf16 operations/s; default: measured")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="2 questions x 8 outputs x 4 tokens, a tiny model")
    return parser.parse_args()


if __name__ == "__main__":
    main()
