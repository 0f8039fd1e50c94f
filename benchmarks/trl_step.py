"""GRPO steps by TRL's GRPOTrainer at its fastest honest settings. Runs in TRL's environment; knows no groupwise.

What is set for speed, none of which changes the mathematics: no gradient checkpointing (TRL's default is on), no
reference at beta 0, micro-batches of 8 outputs, one generation for the whole step, the fused AdamW and the fused last
layer that are TRL 1.16's defaults, no logging, no saving; from outside, glibc's malloc thresholds raised. Left as they
are: the cache (a static one was tried: 5 to 10 % slower here), `torch_compile` (off; lengths differ every step), Liger
(CUDA only), `generate_batch` (not usable on a CPU).
"""

import functools
import tempfile

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, LogitsProcessor, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from benchmarks.measure import Clock, print_row, since_start
from benchmarks.workload import Case, case_of, parser


class StopAt(LogitsProcessor):
    """Ends each row at its own length: the end token never before, and nothing else there."""

    def __init__(self, case: Case, ends: list[int]) -> None:
        self.prompt_tokens, self.ends = case.prompt_tokens, ends
        lengths = torch.tensor(case.lengths)  # a row as long as the limit ends by itself
        self.last = {int(n) - 1: (lengths == n).nonzero()[:, 0] for n in lengths.unique() if n < case.limit}

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        scores[:, self.ends] = -torch.inf
        rows = self.last.get(input_ids.shape[1] - self.prompt_tokens)
        if rows is not None:
            scores[rows] = -torch.inf
            scores[rows, self.ends[0]] = 0.0
        return scores


class TimedTrainer(GRPOTrainer):
    """GRPOTrainer that reads the case's token ids, and times its generation."""

    case: Case
    sample_s = 0.0

    def _tokenize_prompts(self, prompts: list) -> tuple:
        ids = self.case.prompts
        return [ids[int(prompt)] for prompt in prompts], None, {}

    def _generate_single_turn(self, *args, **kwargs) -> tuple:
        clock = Clock()
        outputs = super()._generate_single_turn(*args, **kwargs)
        self.sample_s = clock.wall
        lengths = [len(output) for output in outputs[0]]
        assert lengths == self.case.lengths, f"outputs of {lengths} tokens"
        return outputs


class Report(TrainerCallback):
    """Prints a row for each optimizer step, from its first micro-batch to the zeroed gradient."""

    def __init__(self, trainer: TimedTrainer, *, threads: int, startup_s: float) -> None:
        self.trainer, self.threads, self.startup_s = trainer, threads, startup_s

    def on_step_begin(self, *args, **kwargs) -> None:
        self.clock = Clock()

    def on_step_end(self, *args, **kwargs) -> None:
        peak = None
        if torch.cuda.is_available() and not self.trainer.args.use_cpu:
            torch.cuda.synchronize()
            peak = torch.cuda.max_memory_allocated()
        wall, sample = self.clock.wall, self.trainer.sample_s
        print_row(
            "trl",
            self.trainer.case,
            threads=self.threads,
            startup_s=self.startup_s,
            sample_s=sample,
            update_s=wall - sample,
            wall_s=wall,
            cpu_s=self.clock.cpu,
            peak_bytes=peak,
        )


def settings(case: Case, folder: str, *, steps: int, device: str) -> GRPOConfig:
    rows = case.questions * case.outputs
    micro_batch = min(8, rows)
    return GRPOConfig(
        output_dir=folder,
        use_cpu=device == "cpu",
        bf16=device == "cuda",
        gradient_checkpointing=False,
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=rows // micro_batch,  # and so one generation of all rows a step
        num_generations=case.outputs,
        max_completion_length=case.limit,
        max_steps=steps,
        learning_rate=1e-6,
        lr_scheduler_type="constant",
        beta=case.beta,
        loss_type="grpo",
        temperature=1.0,
        shuffle_dataset=False,  # the rows keep the order of the case's lengths and rewards
        report_to="none",
        logging_strategy="no",
        save_strategy="no",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )


def main() -> None:
    words = parser(__doc__.partition("\n")[0])
    words.add_argument("--steps", type=int, default=1)
    arguments = words.parse_args()
    case = case_of(arguments)
    torch.set_num_threads(arguments.threads)
    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    with tempfile.TemporaryDirectory() as folder:
        trainer = TimedTrainer(
            model=model,
            reward_funcs=lambda completions, **_: case.rewards,
            args=settings(case, folder, steps=arguments.steps, device=arguments.device),
            train_dataset=Dataset.from_dict({"prompt": [str(number) for number in range(case.questions)]}),
            processing_class=tokenizer,
        )
        trainer.case = case
        model.generate(torch.tensor(case.prompts[:1], device=model.device), max_new_tokens=1, min_new_tokens=1)
        startup = since_start()
        stop = StopAt(case, list(trainer.eos_token_ids))
        model.generate = functools.partial(model.generate, logits_processor=[stop])
        trainer.add_callback(Report(trainer, threads=arguments.threads, startup_s=startup))
        trainer.train()


if __name__ == "__main__":
    main()
