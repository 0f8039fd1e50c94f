"""Reward functions as users write them: each does what its name says when the text asks for it."""

import os
import re
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


def letters(text: str) -> dict:
    """Each letter up to the first space is a step: 1 if it is a capital, else 0. Of the outcome it says nothing."""
    return {"score": None, "steps": [[i + 1, float(letter.isupper())] for i, letter in enumerate(text.split(" ")[0])]}


def halves(text: str) -> dict | float:
    """Two steps of 1 and 10, and 5 for the outcome; 7 alone for a text of one letter."""
    return {"score": 5.0, "steps": [[len(text) // 2, 1.0], [len(text), 10.0]]} if len(text) > 1 else 7.0


def step_out_of_place(text: str) -> dict:
    return {"score": 1.0, "steps": [[len(text) + 1, 1.0]]}


not_a_function = 7


def how_many(completions, **columns):
    """TRL's form: how many outputs came in one call."""
    return [float(len(completions))] * len(completions)


class SlowToLoad:
    """Takes longer to make than a call may take."""

    def __init__(self):
        time.sleep(0.6)

    def __call__(self, texts):
        return [1.0] * len(texts)


def with_a_session_of_its_own(text: str) -> float:
    """Starts what leaves the session, and what outlives its own parent; writes the processes down and hangs."""
    away = subprocess.Popen(["sleep", "60"], start_new_session=True)
    orphan = subprocess.run(
        ["sh", "-c", "setsid sleep 60 >/dev/null 2>&1 & echo $!"], capture_output=True, text=True, check=True
    )
    with open(text + ".part", "w") as file:
        file.write(f"{os.getpid()} {away.pid} {orphan.stdout}")
    os.rename(text + ".part", text)
    while text:
        re.match("(a+)+$", "a" * 40 + "b")  # holds the interpreter
    return 0.0


def slow_batch(completions: list, **columns: list) -> list[float]:
    """Takes a tenth of a second an output, and hangs on a text that says so."""
    for completion in completions:
        time.sleep(60 if completion[0]["content"] == "hang" else 0.1)
    return [float(len(completions))] * len(completions)


def of_level(completions, level):
    return [float(one) for one in level]


def reddest(text: str, question: Question, images: list) -> float:
    return float(images[-1].getpixel((0, 0)) == (255, 0, 0))
