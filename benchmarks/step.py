"""The benchmark of one GRPO step: every system on every case, A B A B, each in a process of its own, one at a time.

    python -m benchmarks.step --quick

Writes benchmarks/results/step.json after every process and prints the table. Imports no torch: a process inherits no
memory from this one.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from benchmarks.peers import python_of
from benchmarks.table import table
from benchmarks.workload import CASES

ROOT = Path(__file__).parent.parent
SYSTEMS = ("groupwise", "trl", "vllm")
MODULES = {
    "floor": "benchmarks.floor",
    "groupwise": "benchmarks.groupwise_step",
    "trl": "benchmarks.trl_step",
    "vllm": "benchmarks.vllm_generate",
}
KEEP_FREED_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(2**31 - 1),
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
    "MALLOC_TOP_PAD_": str(64 * 2**20),
}
"""What groupwise asks of glibc by itself; the values are those of groupwise/model/memory.py."""
ROW = ("system", "case", "prompt_tokens", "beta", "threads", "run", "sample_s", "update_s", "wall_s", "cpu_s")
ROW += ("tokens_per_s", "peak_rss_bytes", "floor_s", "startup_s", "cpu", "vectors", "commit", "error")
NAMED = ("case", "prompt_tokens", "beta", "threads")


@dataclass(frozen=True)
class Job:
    """One process. beta: None where it makes no difference (vLLM). run: which of the repeats."""

    system: str
    case: str
    prompt_tokens: int
    beta: float | None
    threads: int
    run: int

    def matches(self, row: dict) -> bool:
        return all(row.get(name) == getattr(self, name) for name in ("system", *NAMED))


def jobs(arguments: argparse.Namespace) -> Iterator[Job]:
    """Everything to be run, in order: the floor of a case, then its systems in turn, as often as asked."""
    for threads in arguments.threads:
        for case in arguments.cases:
            for prompt_tokens in arguments.prompts:
                if "vllm" in arguments.systems:
                    yield Job("vllm", case, prompt_tokens, None, threads, 0)
                for beta in arguments.betas:
                    yield Job("floor", case, prompt_tokens, beta, threads, 0)
                    for run in range(arguments.repeats):
                        for system in ("groupwise", "trl"):
                            if system in arguments.systems:
                                yield Job(system, case, prompt_tokens, beta, threads, run)


def command(job: Job, arguments: argparse.Namespace) -> list[str]:
    python = sys.executable if job.system in ("floor", "groupwise") else str(python_of(job.system))
    words = [python, "-m", MODULES[job.system], "--model", arguments.model, "--case", job.case]
    words += ["--prompt-tokens", str(job.prompt_tokens), "--threads", str(job.threads)]
    words += [] if job.beta is None else ["--beta", str(job.beta)]
    words += ["--repeats", str(arguments.repeats)] if job.system == "vllm" else []
    return words + (["--tiny"] if arguments.tiny else [])


def environment(job: Job) -> dict[str, str]:
    own = {"OMP_NUM_THREADS": str(job.threads), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    own |= {"PYTHONPATH": str(ROOT)} | (KEEP_FREED_MEMORY if job.system == "trl" else {})
    return {name: value for name, value in os.environ.items() if not name.startswith("OMP_")} | own


def measured(job: Job, arguments: argparse.Namespace) -> list[dict]:
    """The rows that the job's process printed; one row with the error if it failed or took too long."""
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            command(job, arguments),
            cwd=ROOT,
            env=environment(job),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
        try:
            printed, _ = process.communicate(timeout=arguments.limit_seconds)
            error = None if process.returncode == 0 else f"exit {process.returncode}"
        except subprocess.TimeoutExpired:
            printed, error = "", f"more than {arguments.limit_seconds:.0f} s"
        finally:
            with contextlib.suppress(ProcessLookupError):  # vLLM's workers, or ours that took too long
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        log.seek(0)
        last = (log.read().strip() or "no message").splitlines()[-1]
    rows = [json.loads(line) for line in printed.splitlines() if line.startswith('{"system"')]
    if error or not rows:
        named = {name: getattr(job, name) for name in ("system", *NAMED)}
        rows = [named | {"error": f"{error or 'no rows'}: {last[-300:]}"}]
    return [row | {"run": job.run + index} for index, row in enumerate(rows)]


def commit() -> str | None:
    """What of the project is measured, since rows of several days may come together; None without git."""
    words = ["git", "describe", "--always", "--dirty", "--abbrev=7"]
    try:
        return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def with_floors(rows: list[dict], floors: list[dict]) -> list[dict]:
    """The rows, each with the floor of what it did: of the whole step, or of sampling where there is no update."""
    whole = {tuple(floor[name] for name in NAMED): floor for floor in floors if not floor.get("error")}
    sampling = {key[:2] + key[3:]: floor["sample_s"] for key, floor in whole.items()}
    filled = []
    for row in rows:
        key = tuple(row[name] for name in NAMED)
        if row["system"] == "vllm":
            row = row | {"floor_s": sampling.get(key[:2] + key[3:])}
        else:
            row = row | {"floor_s": whole[key]["floor_s"] if key in whole else None}
        filled.append({name: row.get(name) for name in ROW if name != "error" or row.get("error")})
    return filled


def write(path: Path, hardware: dict, rows: list[dict], floors: list[dict]) -> dict:
    """The results so far, in place of those before; never half a file."""
    results = {"machine": hardware, "rows": with_floors(rows, floors), "floors": floors}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(results, indent=1) + "\n")
    partial.replace(path)
    return results


def done(job: Job, rows: list[dict], floors: list[dict]) -> bool:
    found = [row for row in (floors if job.system == "floor" else rows) if job.matches(row) and not row.get("error")]
    return any(row["run"] == job.run for row in found)


def main() -> None:
    arguments = _arguments()
    rows: list[dict] = []
    floors: list[dict] = []
    kept: dict = {}
    if arguments.resume and arguments.output.exists():
        kept = json.loads(arguments.output.read_text())
        rows = [row for row in kept["rows"] if not row.get("error")]
        floors = [row for row in kept["floors"] if not row.get("error")]
    if arguments.model is None:
        from groupwise.model.builtin import smollm2_135m_instruct

        arguments.model = str(smollm2_135m_instruct())
    pythons = {name: python_of(name) for name in ("trl", "vllm") if name in arguments.systems}
    hardware, state = machine(pythons), commit()
    if rows:  # what the kept rows were measured with
        hardware["versions"] = kept["machine"]["versions"] | hardware["versions"]
    for job in jobs(arguments):
        if done(job, rows, floors):
            continue
        started = time.perf_counter()
        found = measured(job, arguments)
        named = {"cpu": hardware["cpu"], "vectors": hardware["vectors"], "commit": state}
        (floors if job.system == "floor" else rows).extend(row | named for row in found)
        write(arguments.output, hardware, rows, floors)
        named = " ".join(f"{name}={getattr(job, name)}" for name in (*NAMED, "run"))
        error = f"  FAILED: {found[0]['error']}" if found[0].get("error") else ""
        print(f"{job.system:<9} {named}  {time.perf_counter() - started:.0f} s{error}", file=sys.stderr, flush=True)
    print(table(write(arguments.output, hardware, rows, floors)))


def _arguments() -> argparse.Namespace:
    def several(kind: Callable[[str], Any]) -> Callable[[str], list]:
        return lambda text: [kind(word) for word in text.split(",")]

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="100 tokens, beta 0, the most threads, one repeat")
    parser.add_argument("--threads", type=several(int), help="default 1,2; with --quick 2")
    parser.add_argument("--cases", type=several(str), default=list(CASES))
    parser.add_argument("--prompts", type=several(int), help="tokens; default 100,512; with --quick 100")
    parser.add_argument("--betas", type=several(float), help="default 0,0.04; with --quick 0")
    parser.add_argument("--systems", type=several(str), default=list(SYSTEMS))
    parser.add_argument("--repeats", type=int, help="default 2; with --quick 1")
    parser.add_argument("--limit-seconds", type=float, default=5400, help="most that one process may take")
    parser.add_argument("--model", help="a folder; default SmolLM2-135M-Instruct, made if need be")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "step.json")
    parser.add_argument("--resume", action="store_true", help="keep what the output file already has")
    parser.add_argument("--tiny", action="store_true", help="2 questions x 2 outputs x 4 tokens: does it run?")
    arguments = parser.parse_args()
    whole = {"threads": [1, 2], "prompts": [100, 512], "betas": [0.0, 0.04], "repeats": 2}
    quick = {"threads": [2], "prompts": [100], "betas": [0.0], "repeats": 1}
    for name, value in (quick if arguments.quick else whole).items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    for name, known in (("systems", SYSTEMS), ("cases", CASES)):
        if unknown := set(getattr(arguments, name)) - set(known):
            parser.error(f"--{name}: {', '.join(sorted(unknown))} is not one of {', '.join(known)}")
    return arguments


if __name__ == "__main__":
    main()
