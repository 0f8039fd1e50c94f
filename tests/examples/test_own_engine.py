"""The tutorial's engine: outputs of the policy's distribution, each by its stream."""

import torch

from examples.own_engine import Transformers
from groupwise.data import Sampling
from groupwise.engines.base import Task, generate
from groupwise.model.batch import Rollouts
from tests.model import build


def test_its_log_probabilities_are_the_policys_and_a_stream_gives_one_output(tmp_path, tiny_folder):
    policy = build.policy_of(build.SHARING["llama"], tmp_path, tiny_folder)
    engine, sampling = Transformers(policy, max_num_seqs=1), Sampling(6, temperature=0.8, top_k=9)
    engine.sync(policy, 3)
    tasks = [Task((7, 8, 9), (1, 1, 2)), Task((5,), (1,), before=((6, 7),), drawn=(2,))]
    (one, same, other), (later,) = outputs = generate(engine, tasks, sampling)
    assert one.tokens.tolist() == same.tokens.tolist() != other.tokens.tolist()
    assert later.policy_version == 3
    rollouts = Rollouts.of([build.group(own, [0.0] * len(own)) for own in outputs[:1]])
    with torch.no_grad():
        scored = policy.logprobs(rollouts, rollouts.output_mask, sampling=sampling).logprobs
    assert (scored - rollouts.sampled_logprobs)[rollouts.output_mask].abs().max() < 1e-4
