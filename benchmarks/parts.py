"""What each part of the step brings: the same step with one part left out, each in a process of its own.

    python -m benchmarks.parts

Writes benchmarks/results/parts.json and prints a table. The step measured is the process's second.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.machine import machine

ROOT = Path(__file__).parent.parent
PARTS = {
    "as it is": ("", {}),
    "products by PyTorch's own library": ("onednn", {}),
    "transformers' cache in sampling": ("shared_cache", {}),
    "a padded row for each output in the update": ("stream", {}),
    "layers by their modules": ("whole_layers", {}),
    "nothing computed again": ("recompute", {}),
    "layers computed twice": ("kept_layers", {}),
    "threads that sleep at once": ("", {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}),
    "threads that spin": ("", {"OMP_WAIT_POLICY": "active", "GOMP_SPINCOUNT": "1000000000"}),
    "none of it": ("onednn,shared_cache,stream", {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}),
}
"""What is changed: the parts left out, and the environment."""


def measured(case: str, name: str, arguments: argparse.Namespace) -> dict:
    """The row of the step with that part left out."""
    without, environment = PARTS[name]
    words = [sys.executable, "-m", "benchmarks.groupwise_step", "--model", arguments.model, "--case", case]
    words += ["--prompt-tokens", str(arguments.prompt_tokens), "--threads", str(arguments.threads), "--beta", "0"]
    words += ["--steps", "2", "--without", without] + (["--tiny"] if arguments.tiny else [])
    own = {"OMP_NUM_THREADS": str(arguments.threads), "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"} | environment
    printed = subprocess.run(words, cwd=ROOT, env=os.environ | own, capture_output=True, text=True, check=True).stdout
    return {"part": name, **[json.loads(line) for line in printed.splitlines() if line.startswith("{")][-1]}


def table(rows: list[dict]) -> str:
    """Markdown, each step beside the whole one of its case."""
    lines = ["| case | with | sampling, s | update, s | step, s | times the step as it is | peak, GiB |"]
    lines.append("|---|---|---|---|---|---|---|")
    whole = {row["case"]: row["wall_s"] for row in rows if row["part"] == "as it is"}
    for row in rows:
        times, peak = row["wall_s"] / whole[row["case"]], row["peak_rss_bytes"] / 2**30
        seconds = f"{row['sample_s']:.1f} | {row['update_s']:.1f} | {row['wall_s']:.1f}"
        lines.append(f"| {row['case']} | {row['part']} | {seconds} | {times:.2f} | {peak:.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prompt-tokens", type=int, default=100)
    parser.add_argument("--cases", default="fixed,real")
    parser.add_argument("--model", help="a folder; default SmolLM2-135M-Instruct, made if need be")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "parts.json")
    parser.add_argument("--tiny", action="store_true", help="2 questions x 2 outputs x 4 tokens: does it run?")
    arguments = parser.parse_args()
    if arguments.model is None:
        from groupwise.model.builtin import smollm2_135m_instruct

        arguments.model = str(smollm2_135m_instruct())
    rows = []
    for case in arguments.cases.split(","):
        for name in PARTS:
            rows.append(measured(case, name, arguments))
            print(f"{case}: {name}: {rows[-1]['wall_s']:.1f} s", file=sys.stderr, flush=True)
            arguments.output.parent.mkdir(parents=True, exist_ok=True)
            arguments.output.write_text(json.dumps({"machine": machine({}), "rows": rows}, indent=1) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
