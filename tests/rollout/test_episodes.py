"""Episodes of several turns: what is sampled, what is learned, and that neither depends on what else is going on."""

from contextlib import closing
from dataclasses import replace

import pytest
import torch

import groupwise
from groupwise.config import RewardConfig, SamplingConfig
from groupwise.data import Message, Question, Sampling
from groupwise.engines.base import stream
from groupwise.engines.cache import SharedCache
from groupwise.engines.local import LocalEngine
from groupwise.envs.episode import Environments, environments_of
from groupwise.errors import ConfigError
from groupwise.model.batch import Rollouts
from groupwise.record.read import open_record
from groupwise.rewards.base import RewardSet
from groupwise.rollout.episodes import play
from groupwise.rollout.groups import sample_groups
from tests.model import build
from tests.project.sources import ROOT

OWN = ROOT / "tests" / "rollout" / "test_episodes.py"
QUESTIONS = [Question(f"q{n}", (Message("user", f"{n}+{n}=?"),), answer=str(2 * n)) for n in range(3)]
SAMPLING = Sampling(max_new_tokens=9, stop=("1", "2", "3", "4", "a", "e"))


class Echo:
    """Replies with the last character of each turn, and a plus; done after so many turns."""

    def __init__(self, turns=3, broken=""):
        self.turns, self.broken = turns, broken

    def reset(self, question):
        self.question = question
        return question.messages

    def reply(self, messages):
        own = [message for message in messages if message.role == "assistant"]
        if self.question.id == self.broken:
            raise LookupError("no such tool")
        if len(own) == self.turns:
            return None
        return [{"role": "user", "content": f"{own[-1].content[-1:]}+"}]


def turns_of(messages, question):
    return float(sum(message.role == "assistant" for message in messages))


@pytest.fixture(scope="module")
def policy(tmp_path_factory, tiny_folder):
    return build.policy_of(build.SHARING["llama"], tmp_path_factory.mktemp("llama"), tiny_folder)


def played(policy, questions=QUESTIONS, *, sampling=SAMPLING, max_turns=None, rows=256, engine=None, **params):
    streams = [[stream(0, 0, q.id, i) for i in range(3)] for q in questions]
    environments = Environments(lambda: Echo(**params), several=True, max_turns=max_turns)
    return play(
        policy.tokenizer,
        questions,
        streams,
        engine=engine or LocalEngine(policy, max_num_seqs=rows),
        sampling=sampling,
        environments=environments,
    )


def outputs_of(found):
    return [output for group in found for output in group.outputs]


def words(found):
    return [output.tokens.tolist() for output in outputs_of(found)]


def test_an_output_holds_its_turns_and_the_replies_between_them(policy):
    outputs = outputs_of(played(policy))
    assert {len(output.messages) for output in outputs} >= {3, 5}
    for output in outputs:
        turns = [message.content for message in output.messages if message.role == "assistant"]
        replies = [message.content for message in output.messages if message.role == "user"]
        assert replies == [turn[-1:] + "+" for turn in turns[:-1]]
        assert output.text == turns[-1]
        assert output.sampled[[0, -1]].all()
        assert output.sampled.sum() <= 9
        between = policy.tokenizer.decode_all(output.tokens[~output.sampled])
        assert between.replace("<end>", "") == "".join(f"<user>{reply}<assistant>" for reply in replies)
        assert (output.logprobs[~output.sampled] == 0).all()


def test_log_probabilities_are_those_of_a_plain_pass_over_the_conversation(policy):
    found = played(policy)
    rollouts = Rollouts.of([build.group(list(group.outputs), [0.0] * 3) for group in found])
    with torch.no_grad():
        scored = policy.logprobs(rollouts, rollouts.output_mask, sampling=SAMPLING).logprobs
    assert not rollouts.output_mask.all()
    assert (scored - rollouts.sampled_logprobs)[rollouts.output_mask].abs().max() < 1e-4


@pytest.mark.parametrize("shared", [True, False])
def test_an_episode_does_not_depend_on_the_others(policy, shared):
    expected = words(played(policy))
    assert words(played(policy, QUESTIONS[::-1])) == [*expected[6:], *expected[3:6], *expected[:3]]
    assert words(played(policy, engine=LocalEngine(policy, max_num_seqs=2, shared=shared))) == expected
    assert words(played(policy, QUESTIONS[1:2])) == expected[3:6]


def test_a_turn_goes_on_with_the_stream_and_does_not_repeat_it(policy):
    taken = []
    engine = LocalEngine(policy)
    submit = engine.submit
    engine.submit = lambda tasks, sampling: taken.extend(tasks) or submit(tasks, sampling)
    found = outputs_of(played(policy, engine=engine))
    later = [task for task in taken if task.before]
    assert later
    keys = [stream(0, 0, q.id, i) for q in QUESTIONS for i in range(3)]
    by_stream = dict(zip(keys, found, strict=True))
    for task in later:
        output, length = by_stream[task.streams[0]], len(task.before[0])
        assert list(task.before[0]) == output.tokens.tolist()[:length]
        assert task.drawn[0] == output.sampled[:length].sum()
        assert task.limits[0] <= 9 - task.drawn[0]


def test_a_question_is_computed_once_for_all_its_turns(policy, monkeypatch):
    asked, prefill = [], SharedCache._prefill
    engine = LocalEngine(policy)  # which tries a few questions of its own
    monkeypatch.setattr(SharedCache, "_prefill", lambda self, new: asked.extend(new) or prefill(self, new))
    played(policy, engine=engine)
    assert sorted(asked) == sorted(tuple(policy.tokenizer.encode(q.messages)) for q in QUESTIONS)


def test_what_cuts_an_episode_is_in_its_finish(policy):
    assert {o.finish for o in outputs_of(played(policy, max_turns=1))} <= {"turns", "length"}
    short = replace(SAMPLING, max_new_tokens=1)
    cut = outputs_of(played(policy, sampling=short))
    assert {(len(o.tokens), o.finish) for o in cut} == {(1, "length")}
    room = len(policy.tokenizer.encode(QUESTIONS[0].messages)) + 6
    narrow = replace(policy, tokenizer=replace(policy.tokenizer, context=room))
    for output in outputs_of(played(narrow, QUESTIONS[:1], turns=9)):
        assert len(output.tokens) <= 6
        assert output.finish == "length"


def test_an_environment_that_fails_costs_its_output_alone(policy):
    streams = {"group_size": 3, "seed": 0, "step": 0}
    with RewardSet([RewardConfig(function=f"{OWN}:turns_of")]) as rewards:
        rollout = sample_groups(
            policy.tokenizer,
            QUESTIONS,
            engine=LocalEngine(policy),
            rewards=rewards,
            sampling=SAMPLING,
            environments=Environments(lambda: Echo(broken="q1"), several=True),
            **streams,
        )
    right, broken, other = rollout.groups
    assert [s.reward.value for s in broken.samples] == [None] * 3
    assert all(s.reward.failed and s.output.finish == "error" for s in broken.samples)
    assert "no such tool" in broken.samples[0].reward.parts["environment"].detail
    for sample in (*right.samples, *other.samples):
        assert sample.reward.value == sum(m.role == "assistant" for m in sample.output.messages)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"environment": "singleturn"}, "did you mean 'single_turn'"),
        ({"max_turns": 3}, "reads no environment_params and no max_turns"),
        ({"environment": f"{OWN}:turns_of"}, r"it has no reset\(\)"),
        ({"environment": f"{OWN}:Echo", "environment_params": {"turn": 1}}, "unexpected keyword argument 'turn'"),
        ({"environment": "no.py:Echo"}, "no file 'no.py'"),
    ],
)
def test_an_environment_that_is_none_is_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        environments_of(SamplingConfig(**given))


@pytest.mark.long
def test_a_resumed_run_of_episodes_samples_what_it_would_have_sampled(tmp_path):
    tree = {
        "model": {"path": "tiny"},
        "questions": {"source": "arithmetic", "params": {"kinds": ["successor"]}, "heldout_size": 0},
        "rewards": [{"function": f"{OWN}:turns_of"}],
        "rollout": {"environment": f"{OWN}:Echo", "environment_params": {"turns": 2}, "max_new_tokens": 9},
        "update": {"steps": 2, "learning_rate": 1e-3},
    }
    stop = "rollout.stop=[" + ", ".join(f"'{text}'" for text in SAMPLING.stop) + "]"
    sizes = ("rollout.questions_per_step=2", "rollout.group_size=3", stop)
    groupwise.train(tree, *sizes, run=tmp_path / "whole", show="nothing")
    groupwise.train(tree, *sizes, "update.steps=1", run=tmp_path / "cut", show="nothing")
    groupwise.train(tree, *sizes, run=tmp_path / "cut", resume=True, show="nothing")
    found = []
    for name in ("whole", "cut"):
        with closing(open_record(tmp_path / name)) as record:
            found.append([(o.output.tokens.tolist(), o.output.sampled.tolist(), o.advantage) for o in record.outputs()])
    whole, cut = found
    assert whole == cut
    assert len(whole) == 12
    assert not all(all(sampled) for _, sampled, _ in whole)
