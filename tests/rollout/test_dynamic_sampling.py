"""Dynamic sampling: groups without signal are dropped, others come in their place, and nothing is lost of either."""

from contextlib import closing

import pytest

from groupwise.config import read_recipe
from groupwise.data import Group, Message, Question, Reward, Sample
from groupwise.datasets.base import following
from groupwise.record import open_record
from groupwise.rollout.groups import Rollout, sample_step, sample_until_signal
from groupwise.run.open import open_run
from groupwise.run.resolve import resolve_recipe
from tests.command import RECIPE, SMALL, groupwise


def question(name):
    return Question(name, (Message("user", name),))


class Source:
    """Questions "0", "1", ...; those named in `signal` have two different rewards. Keeps what was asked for."""

    def __init__(self, signal, *, count=100):
        self.signal, self.left, self.asked = signal, [str(number) for number in range(count)], []

    def draw(self, wanted):
        self.asked.append(wanted)
        taken, self.left = self.left[:wanted], self.left[wanted:]
        return [question(name) for name in taken]

    def sample(self, questions):
        groups = [
            Group(q, tuple(Sample(None, Reward(float(value))) for value in ((0, 1) if q.id in self.signal else (0, 0))))
            for q in questions
        ]
        return Rollout(groups, sample_seconds=1.0, reward_seconds=0.5)


def found(source, *, wanted, rounds):
    rollout = sample_until_signal(
        source.draw, source.sample, separated=lambda group: group.has_signal, wanted=wanted, rounds=rounds
    )
    return rollout, [group.question.id for group in rollout.kept_groups]


def test_rounds_go_on_until_enough_groups_have_signal():
    # 1 of 4 has signal, so the 3 missing call for 12, at most 4; of 8 then 3 have; 1 missing calls for ceil(8/3) = 3
    source = Source({"1", "5", "6", "10"})
    rollout, kept = found(source, wanted=4, rounds=5)
    assert source.asked == [4, 4, 3]
    assert kept == ["1", "5", "6", "10"]
    assert len(rollout.groups) == 11  # the dropped ones are recorded too
    assert (rollout.sample_seconds, rollout.reward_seconds) == (3.0, 1.5)


def test_what_is_over_is_not_kept_and_no_round_is_made_in_vain():
    source = Source({"0", "1", "2", "3"})
    _, kept = found(source, wanted=3, rounds=5)
    assert source.asked == [3]
    assert kept == ["0", "1", "2"]


def test_after_the_last_round_or_question_the_step_goes_on_with_what_there_is():
    assert found(Source({"2"}), wanted=2, rounds=1)[1] == ["2"]
    source = Source({"2"}, count=3)
    assert found(source, wanted=2, rounds=9)[1] == ["2"]
    assert source.asked == [2, 2, 2]


def test_where_none_has_signal_none_is_kept():
    rollout, kept = found(Source(set()), wanted=2, rounds=1)
    assert kept == []
    assert len(rollout.groups) == 4


@pytest.mark.parametrize("shuffle", [False, True])
def test_the_questions_that_follow_are_whole_epochs_laid_end_to_end(shuffle):
    train = [question(str(number)) for number in range(5)]
    ids = [q.id for q in following(train, 0, 15, seed=3, shuffle=shuffle)]
    assert [sorted(ids[start : start + 5]) for start in (0, 5, 10)] == [["0", "1", "2", "3", "4"]] * 3
    assert [q.id for q in following(train, 7, 4, seed=3, shuffle=shuffle)] == ids[7:11]
    assert (ids[:5] == ids[5:10]) == (not shuffle)


def test_a_run_drops_groups_without_signal_and_records_them(tmp_path, tiny_folder):
    words = (
        f"model.path={tiny_folder}",
        *SMALL,
        "questions.heldout_size=0",
        "update.steps=3",
        "rollout.dynamic_sampling_rounds=3",
    )
    done = groupwise("train", RECIPE, *words, "--run", tmp_path / "run")
    assert done.code == 0, done.err
    read_recipe(tmp_path / "run" / "recipe.yaml")
    with closing(open_record(tmp_path / "run")) as record:
        outputs = list(record.outputs())
        sampled = {step: value for step, name, value in record.metrics() if name == "groups/sampled"}
    dropped = 0
    for step, groups in sampled.items():
        own = [recorded for recorded in outputs if recorded.step == step]
        assert len(own) == 4 * groups
        assert len({recorded.question_id for recorded in own}) == groups  # none twice in a step
        for question_id in {recorded.question_id for recorded in own}:
            group = [recorded for recorded in own if recorded.question_id == question_id]
            signal = len({recorded.reward.parts["number"].value for recorded in group}) > 1
            kept = all(recorded.advantage is not None for recorded in group)
            assert not (kept and not signal)
            dropped += not signal
    assert dropped > 0


def test_a_step_that_was_not_finished_meets_the_same_questions_again(tmp_path, tiny_folder):
    words = (f"model.path={tiny_folder}", *SMALL, "questions.heldout_size=0", "rollout.dynamic_sampling_rounds=3")
    recipe = read_recipe(RECIPE, words)
    with open_run(recipe, tmp_path / "run", resume=False, objective=resolve_recipe(recipe)) as run:
        first, again = (
            sample_step(
                recipe,
                run.questions.train,
                tokenizer=run.tokenizer,
                engine=run.engine,
                rewards=run.rewards,
                step=run.journal.state.step,
                drawn=run.journal.state.drawn,
            )
            for _ in range(2)
        )
        assert [g.question.id for g in first.groups] == [g.question.id for g in again.groups]
        assert first.drawn == len(first.groups) > 4
        assert run.journal.state.drawn == 0


def test_where_no_group_was_kept_nothing_is_learned(tmp_path, tiny_folder):
    never = "rewards=[{function: pattern, params: {regex: never}}]"
    words = (
        f"model.path={tiny_folder}",
        *SMALL,
        "questions.heldout_size=0",
        "rollout.dynamic_sampling_rounds=1",
        never,
    )
    done = groupwise("train", RECIPE, *words, "update.steps=1", "--run", tmp_path / "run")
    assert done.code == 0, done.err
    with closing(open_record(tmp_path / "run")) as record:
        found = {name: value for _, name, value in record.metrics()}
        assert all(recorded.advantage is None for recorded in record.outputs())
    assert found["groups/sampled"] == 8
    assert found["grad_norm"] == 0.0
    assert "entropy" not in found  # not measured, although the recipe has an entropy bonus
