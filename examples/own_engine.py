"""An engine in one file: transformers' `generate`, output by output (docs/own_engine.md)."""

from itertools import count

import numpy as np
import torch

from groupwise.data import Output
from groupwise.engines.base import Capabilities
from groupwise.errors import ConfigError


class Transformers:
    capabilities = Capabilities(exact=False)  # its rounding is its own: training computes log-probabilities again

    def __init__(self, policy, *, max_num_seqs):
        self.policy, self.numbers, self.waiting = policy, count(), []

    def open(self):
        pass  # processes, connections

    def sync(self, policy, version):
        self.version = version  # the model is the policy's own; an engine elsewhere copies the weights here

    def submit(self, tasks, sampling):
        if sampling.stop:
            raise ConfigError("rollout.stop: this engine knows no stop strings", hint="leave them out")
        numbers = [next(self.numbers) for _ in tasks]
        self.waiting += [(number, task, sampling) for number, task in zip(numbers, tasks, strict=True)]
        return numbers

    def poll(self, timeout):
        found, self.waiting = self.waiting[:1], self.waiting[1:]  # one task a call
        return [(number, [self.output(task, n, how) for n in range(len(task.streams))]) for number, task, how in found]

    def output(self, task, index, sampling):
        ids = [*task.question_tokens, *(task.before[index] if task.before else ())]
        most, drawn = (*task.limits[index : index + 1], sampling.max_new_tokens)[0], sum(task.drawn[index : index + 1])
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed((task.streams[index] + drawn) % 2**63)  # the same stream gives the same output
            found = self.policy.model.generate(
                torch.tensor([ids], device=self.policy.device), pad_token_id=0,
                attention_mask=torch.ones(1, len(ids), dtype=torch.long, device=self.policy.device),
                do_sample=not sampling.greedy, temperature=sampling.temperature, top_k=sampling.top_k,
                top_p=sampling.top_p, min_p=sampling.min_p or None, max_new_tokens=most,
                eos_token_id=list(self.policy.tokenizer.end_tokens), output_scores=True, return_dict_in_generate=True,
            )  # fmt: skip
        tokens = found.sequences[0, len(ids) :].tolist()
        logprobs = [float(s[0].log_softmax(-1)[t]) for s, t in zip(found.scores, tokens, strict=True)]
        finish = "stop" if tokens[-1] in self.policy.tokenizer.end_tokens else "length"
        asked, own = np.array(task.question_tokens, np.int32), np.array(tokens, np.int32)
        logprobs, sampled = np.array(logprobs, np.float32), np.ones(len(tokens), bool)
        return Output(asked, own, sampled, logprobs, self.policy.tokenizer.decode(tokens), finish, self.version)

    def release(self, questions=None):
        self.waiting = self.waiting if questions else []

    def close(self):
        pass
