"""One GRPO step in bf16 on an NVIDIA GPU, at a size that is common there: groupwise, and TRL where it is installed.

    python -m benchmarks.gpu --systems groupwise,trl

Random weights in the shape of Qwen2.5-0.5B and 1.5B: no hub is needed, and what a product costs does not depend on
them. 64 questions x 8 outputs x 512 tokens after 100. Sampling is compared with the memory's bandwidth (every turn
reads all weights once and every row's keys and values), the update with the arithmetic limit.
"""

import argparse
import json
import subprocess
import sys
import tempfile
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


def main() -> None:
    arguments = _arguments()
    import torch

    if not torch.cuda.is_available():
        print("no CUDA GPU here: nothing measured")
        return
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}", file=sys.stderr)
    case = Case("fixed", 100, 0.0, arguments.questions, 8, arguments.limit)
    for name in arguments.shapes.split(","):
        with tempfile.TemporaryDirectory() as folder:
            write_model(Path(folder), SHAPES[name])
            for system in arguments.systems.split(","):
                if find_spec("trl") is None and system == "trl":
                    print("trl: not installed beside groupwise, left out", file=sys.stderr)
                    continue
                command = [sys.executable, "-m", f"benchmarks.{system}_step", "--model", folder, "--device", "cuda"]
                command += ["--questions", str(case.questions), "--limit", str(case.limit), "--steps", "2"]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
                rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"system"')]
                if done.returncode or not rows:
                    print(f"{system} {name}: exit {done.returncode}", file=sys.stderr)
                    continue
                limits = {"bandwidth": arguments.bandwidth, "arithmetic": arguments.arithmetic}
                # the second step: the first one's seconds have the choosing of kernels in them
                print(json.dumps({"model": name} | report(rows[-1], case, SHAPES[name], **limits)), flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shapes", default="0.5b,1.5b")
    parser.add_argument("--systems", default="groupwise,trl")
    parser.add_argument("--questions", type=int, default=64)
    parser.add_argument("--limit", type=int, default=512, help="tokens of each output")
    parser.add_argument("--bandwidth", type=float, default=4.8e12, help="bytes/s; default an H200's")
    parser.add_argument("--arithmetic", type=float, default=989e12, help="bf16 operations/s; default an H200's")
    return parser.parse_args()


if __name__ == "__main__":
    main()
