"""`make kills`: several hundred kills and a fault at every kind of system call, with a line of figures at the end."""

import argparse
import datetime
import os
import random
import resource
import sys
import tempfile
import time
from pathlib import Path

from groupwise.model.builtin import tiny
from tests.kills.runs import Forker, at_a_call, at_a_moment, killed_until, uninterrupted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    started, drawn = time.time(), random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        os.environ["GROUPWISE_CACHE"] = str(place / "models")
        forker = Forker(place, tiny(0))
        whole = uninterrupted(forker, place / "whole")

        def draw() -> dict:
            timed = forker.faults is None or drawn.random() < 0.5
            return at_a_moment(drawn, whole) if timed else at_a_call(drawn, whole)

        kills = 0
        for runs, kills in enumerate(killed_until(forker, whole, place, arguments.kills, draw), start=1):
            print(f"{kills} kills, {runs} runs, all equal", file=sys.stderr)
        forker.close()
    used = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    print(
        f"{datetime.date.today()}: {kills} kills of {runs} runs, each equal to the uninterrupted one to the bit, "
        f"no acknowledged step lost; {time.time() - started:.0f} s, {used:.0f} CPU seconds"
    )


if __name__ == "__main__":
    main()
