"""Small steps to record, and a program that records them until it is killed."""

import os
import subprocess
import sys

import numpy as np

from groupwise.data import Group, Message, Output, Part, Question, Reward, Sample
from groupwise.record import Recorder


def question(number=0, **fields):
    return Question(f"q{number}", (Message("user", f"What is {number} + 1?"),), **{"answer": number + 1, **fields})


def output(text="2", tokens=3):
    return Output(
        question_tokens=np.array([5, 6], "i4"),
        tokens=np.arange(tokens, dtype="i4"),
        sampled=np.arange(tokens) % 2 == 0,
        logprobs=np.linspace(-1, 0, tokens, dtype="f4"),
        text=text,
        finish="stop",
        policy_version=7,
    )


def group(number=0, rewards=(1.0, 0.0), **fields):
    samples = [Sample(output(**fields), Reward(value, {"math": Part("value", value)})) for value in rewards]
    return Group(question(number), tuple(samples))


def write(recorder, step, groups=None, **metrics):
    groups = [group(0), group(1)] if groups is None else groups
    advantages = [[0.5 for _ in g.samples] for g in groups]
    recorder.write_step(step, groups, advantages=advantages, metrics=metrics)


def start_writer(run_dir):
    """A process that writes steps until it is killed, and prints the number of each when it is written."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen([sys.executable, __file__, str(run_dir)], stdout=subprocess.PIPE, text=True, env=env)


def write_until_killed(run_dir):
    """Writes steps of 6 outputs and 2 metrics."""
    recorder = Recorder.create(run_dir, {"stage": "rl"})
    step = 0
    while True:
        write(recorder, step, [group(n, (1.0, 0.0, 0.5)) for n in range(2)], accuracy=step, entropy=-step)
        print(step, flush=True)
        step += 1


if __name__ == "__main__":
    write_until_killed(sys.argv[1])
