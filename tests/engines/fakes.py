"""Engines that are not `local`: what they say is written down; some are late, some die."""

import queue
import threading
from collections.abc import Sequence
from dataclasses import replace
from itertools import count

import numpy as np

from groupwise.data import Output, Sampling
from groupwise.engines.base import Capabilities, Task, uniforms


class Answering:
    """Answers at once, with what `answers` gives for the tasks of one call."""

    capabilities = Capabilities(exact=True)

    def __init__(self, policy=None, *, max_num_seqs=0):
        self.ready: list[tuple[int, list[Output]]] = []
        self.numbers, self.version, self.calls = count(), 0, list[str]()

    def open(self):
        self.calls.append("open")

    def sync(self, policy, version):
        self.version = version
        self.calls.append(f"sync {version}")

    def answers(self, tasks: Sequence[Task], sampling: Sampling) -> list[list[Output]]:
        return [[drawn(task, n, sampling, self.version) for n in range(len(task.streams))] for task in tasks]

    def submit(self, tasks, sampling):
        numbers = [next(self.numbers) for _ in tasks]
        self.ready += zip(numbers, self.answers(tasks, sampling), strict=True)
        return numbers

    def poll(self, timeout):
        done, self.ready = self.ready, []
        return done

    def release(self, questions=None):
        if questions is None:
            self.ready.clear()

    def close(self):
        self.calls.append("close")


class Late(Answering):
    """A thread answers, task by task, the last one first; `gate` holds it back."""

    def open(self):
        super().open()
        self.done: queue.Queue = queue.Queue()
        self.asked: queue.Queue = queue.Queue()
        self.gate = threading.Event()
        self.gate.set()
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def submit(self, tasks, sampling):
        numbers = [next(self.numbers) for _ in tasks]
        found = list(zip(numbers, self.answers(tasks, sampling), strict=True))
        for one in reversed(found):
            self.asked.put(one)
        return numbers

    def poll(self, timeout):
        try:
            return [self.done.get(timeout=timeout)]
        except queue.Empty:
            return []

    def release(self, questions=None):
        if questions is None:
            for held in (self.asked, self.done):
                while not held.empty():
                    held.get_nowait()

    def close(self):
        super().close()
        self.asked.put(None)
        self.thread.join(10)

    def _work(self):
        while (one := self.asked.get()) is not None:
            self.gate.wait(10)
            self.done.put(one)


class Inexact(Late):
    """Reports log-probabilities that are half a nat off."""

    capabilities = Capabilities(exact=False)

    def answers(self, tasks, sampling):
        return [[replace(o, logprobs=o.logprobs - 0.5) for o in own] for own in super().answers(tasks, sampling)]


class Dying(Answering):
    """Gives one task's outputs and is gone."""

    def poll(self, timeout):
        if len(self.calls) > 2:
            raise ConnectionResetError("the server has gone away")
        self.calls.append("answered")
        return [self.ready.pop()]


def drawn(task: Task, output: int, sampling: Sampling, version: int) -> Output:
    """Even tokens from 10 to 28, each of probability 1/10, as the stream has them; 10 ends."""
    before = task.drawn[output] if task.drawn else 0
    limit = min(task.limits[output] if task.limits else sampling.max_new_tokens, sampling.max_new_tokens)
    key = np.array([task.streams[output]], np.uint64)
    tokens = [10 + 2 * int(10 * uniforms(key, before + place)[0]) for place in range(limit)]
    cut = tokens.index(10) + 1 if 10 in tokens else limit
    own = np.array(tokens[:cut], np.int32)
    return Output(
        question_tokens=np.array(task.question_tokens, np.int32),
        tokens=own,
        sampled=np.ones(cut, bool),
        logprobs=np.full(cut, np.log(0.1), np.float32),
        text=" ".join(map(str, own)),
        finish="stop" if 10 in own else "length",
        policy_version=version,
    )
