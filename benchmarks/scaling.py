"""What a token costs with few and with many questions in a step, and the memory that its update takes.

    python -m benchmarks.scaling

Real-life lengths, 100-token questions, 8 outputs each; the step measured is the process's first. Prints a table.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.machine import machine

ROOT = Path(__file__).parent.parent


def measured(questions: int, arguments: argparse.Namespace) -> dict:
    words = [sys.executable, "-m", "benchmarks.groupwise_step", "--model", arguments.model, "--case", "real"]
    words += ["--prompt-tokens", "100", "--threads", str(arguments.threads), "--beta", "0", "--steps", "1"]
    words += ["--questions", str(questions)]
    own = {"OMP_NUM_THREADS": str(arguments.threads), "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    printed = subprocess.run(words, cwd=ROOT, env=os.environ | own, capture_output=True, text=True, check=True).stdout
    return {"questions": questions, **[json.loads(line) for line in printed.splitlines() if line.startswith("{")][-1]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--questions", default="4,8,16,64")
    parser.add_argument("--model", help="a folder; default SmolLM2-135M-Instruct, made if need be")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "scaling.json")
    arguments = parser.parse_args()
    if arguments.model is None:
        from groupwise.model.builtin import smollm2_135m_instruct

        arguments.model = str(smollm2_135m_instruct())
    rows = [measured(int(number), arguments) for number in arguments.questions.split(",")]
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps({"machine": machine({}), "rows": rows}, indent=1) + "\n")
    print("| questions | outputs | sampling, ms a token | update, ms a token | step, ms a token | peak, GiB |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        tokens = row["tokens_per_s"] * row["sample_s"]
        each = " | ".join(f"{1000 * row[name] / tokens:.2f}" for name in ("sample_s", "update_s", "wall_s"))
        print(f"| {row['questions']} | {8 * row['questions']} | {each} | {row['peak_rss_bytes'] / 2**30:.2f} |")


if __name__ == "__main__":
    main()
