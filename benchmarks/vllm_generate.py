"""Generation alone by vLLM on the CPU, compiled. Runs in vLLM's environment; knows no groupwise.

Settings in vLLM's favour: prefix caching in blocks of 32 tokens (with its default of 128 a prompt of 100 tokens would
not be shared at all), no log-probabilities, no text, a warm generation before the measured ones. The cache of prefixes
is emptied before each, since the weights change between two steps of training.
"""

import os
from typing import Any

from benchmarks.measure import Clock, print_row, since_start
from benchmarks.workload import Case, case_of, parser


def environment(threads: int) -> dict[str, str]:
    """vLLM binds its threads to the first cores; its other processes go where the kernel puts them."""
    cores = sorted(os.sched_getaffinity(0))[:threads]
    return {
        "VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, cores)),
        "VLLM_CPU_KVCACHE_SPACE": "4",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_NO_USAGE_STATS": "1",
    }


def generate(llm: Any, case: Case) -> None:
    """64 requests of exact token ids, each as long as the case says."""
    from vllm import SamplingParams

    prompts = [{"prompt_token_ids": prompt} for prompt in case.prompts for _ in range(case.outputs)]
    sampling = [
        SamplingParams(max_tokens=length, temperature=1.0, ignore_eos=True, detokenize=False) for length in case.lengths
    ]
    llm.reset_prefix_cache()
    outputs = llm.generate(prompts, sampling, use_tqdm=False)
    lengths = [len(output.outputs[0].token_ids) for output in outputs]
    assert lengths == case.lengths, f"outputs of {lengths} tokens"


def main() -> None:
    words = parser(__doc__.partition("\n")[0])
    words.add_argument("--repeats", type=int, default=2)
    arguments = words.parse_args()
    arguments.beta = None
    case = case_of(arguments)
    os.environ.update(environment(arguments.threads) | dict(os.environ))

    from vllm import LLM, SamplingParams

    rows = case.questions * case.outputs
    llm = LLM(
        model=arguments.model,
        dtype="float32",
        max_model_len=case.prompt_tokens + case.limit,
        max_num_seqs=rows,
        enable_prefix_caching=True,
        block_size=32,
        disable_log_stats=True,
    )
    llm.generate(
        [{"prompt_token_ids": case.prompts[0]}], SamplingParams(max_tokens=1, detokenize=False), use_tqdm=False
    )
    startup = since_start()
    generate(llm, case)
    for _ in range(arguments.repeats):
        clock = Clock()
        generate(llm, case)
        wall = clock.wall
        print_row(
            "vllm",
            case,
            threads=arguments.threads,
            startup_s=startup,
            sample_s=wall,
            update_s=None,
            wall_s=wall,
            cpu_s=clock.cpu,
        )


if __name__ == "__main__":
    main()
