"""Reward functions as users write them: each does what its name says when the text asks for it."""

import os
import subprocess
import sys
import time

from groupwise.data import Question


def length(text: str) -> float:
    return len(text)


def misbehaving(text: str, question: Question) -> float | None:
    """1 for any text that names no misdeed."""
    if text == "raise":
        raise ValueError(f"no\nluck with {question.id}")
    if text == "exit":
        os._exit(3)
    if text == "abort":
        os.abort()
    if text == "sys.exit":
        sys.exit("bye")
    if text == "hang":
        time.sleep(60)
    if text == "none":
        return None
    if text == "nan":
        return float("nan")
    return 1.0


def busy_for_ever(text: str) -> float:
    while text:
        pass
    return 0.0


def with_a_child_of_its_own(text: str) -> float:
    process = subprocess.Popen(["sleep", "60"])
    with open(text, "w") as file:
        file.write(f"{os.getpid()} {process.pid}")
    time.sleep(60)
    return 0.0


def batch(prompts: list, completions: list, **columns: list) -> list[float]:
    if any(completion[0]["content"] == "hang" for completion in completions):
        time.sleep(60)
    return [float(len(completion[0]["content"])) for completion in completions]


def loaded_modules(text: str) -> float:
    """1 if the module named by the text is loaded."""
    return float(text in sys.modules)


def prints(text: str) -> float:
    print(text, flush=True)
    os.write(1, b"and past Python\n")
    return 1.0


def unknown_form(response: str) -> float:
    return 0.0


not_a_function = 7
