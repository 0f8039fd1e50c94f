"""The cases that every system is given: prompts as token ids, stop lengths, rewards. Plain Python, no torch.

Nothing here is text: the prompts are token ids drawn from a seeded generator, since only their number costs time, and
every system thus reads the very same ones. How long an output is and what it earns are fixed too, so that no system
does more work because its random numbers fell otherwise.
"""

import argparse
import random
from dataclasses import dataclass
from math import ceil

QUESTIONS, OUTPUTS, LIMIT = 8, 8, 128
FIRST_TOKEN, LAST_TOKEN = 1000, 40000  # ordinary tokens of SmolLM2's 49,152; the special ones are below 20
CASES = ("fixed", "real")

# Tokens of each of the 64 outputs in "real", an end token included: mean 57.1 of 128 (45 %), a long tail, seven cut off
# at the limit.
STOP_LENGTHS = (
    21, 32, 24, 46, 89, 115, 31, 122, 68, 73, 7, 33, 10, 28, 19, 35,
    23, 108, 103, 66, 37, 43, 30, 49, 45, 42, 86, 128, 71, 62, 29, 82,
    58, 128, 128, 60, 26, 18, 54, 93, 76, 52, 79, 27, 128, 40, 41, 16,
    11, 25, 48, 128, 56, 36, 17, 51, 98, 14, 13, 128, 38, 20, 128, 64,
)  # fmt: skip
FIXED_REWARDS = ("10010110", "01101001", "00010000", "11011101", "01010101", "11101111", "00110010", "10000001")
REAL_REWARDS = ("10010110", "01101001", "00000000", "11011101", "01010101", "11111111", "00110010", "10000001")
"""A row of rewards for each question; in "real" the third and the sixth are all equal and give no signal."""


@dataclass(frozen=True)
class Case:
    """One GRPO step to be measured: questions, outputs of each, and the most tokens that an output may have."""

    name: str
    prompt_tokens: int
    beta: float | None = 0.0
    questions: int = QUESTIONS
    outputs: int = OUTPUTS
    limit: int = LIMIT

    @property
    def prompts(self) -> list[list[int]]:
        """[questions][prompt_tokens] ids, each prompt different from its first token on."""
        draws = random.Random(self.prompt_tokens)
        span = LAST_TOKEN - FIRST_TOKEN
        return [
            [FIRST_TOKEN + int(span * draws.random()) for _ in range(self.prompt_tokens)] for _ in range(self.questions)
        ]

    @property
    def lengths(self) -> list[int]:
        """Tokens of each output, question after question."""
        rows = self.questions * self.outputs
        if self.name == "fixed":
            return [self.limit] * rows
        return [ceil(STOP_LENGTHS[row % len(STOP_LENGTHS)] * self.limit / LIMIT) for row in range(rows)]

    @property
    def rewards(self) -> list[float]:
        """0 or 1 for each output, question after question."""
        rows = FIXED_REWARDS if self.name == "fixed" else REAL_REWARDS
        return [float(rows[q % len(rows)][o % OUTPUTS]) for q in range(self.questions) for o in range(self.outputs)]

    @property
    def with_signal(self) -> list[bool]:
        """Whether an output's group has two different rewards, question after question."""
        groups = [self.rewards[start : start + self.outputs] for start in range(0, len(self.rewards), self.outputs)]
        return [len(set(group)) > 1 for group in groups for _ in group]

    @property
    def sampled_tokens(self) -> int:
        return sum(self.lengths)


def parser(description: str) -> argparse.ArgumentParser:
    """The arguments that every measured script takes."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--model", required=True, help="folder of the model, in Hugging Face's form")
    options.add_argument("--case", choices=CASES, default="fixed")
    options.add_argument("--prompt-tokens", type=int, default=100)
    options.add_argument("--beta", type=float, default=0.0, help="weight of the KL to the reference")
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--questions", type=int, default=QUESTIONS)
    options.add_argument("--limit", type=int, default=LIMIT, help="the most tokens of an output")
    options.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="cuda: products in bf16")
    options.add_argument("--tiny", action="store_true", help="2 questions x 2 outputs x 4 tokens, to try the script")
    return options


def case_of(arguments: argparse.Namespace) -> Case:
    size = (2, 2, 4) if arguments.tiny else (arguments.questions, OUTPUTS, arguments.limit)
    return Case(arguments.case, arguments.prompt_tokens, arguments.beta, *size)
