"""What every engine does, whoever wrote it: on `local` and on small engines that are late, inexact, or dead."""

from dataclasses import replace
from itertools import chain

import numpy as np
import pytest

from groupwise.config import RolloutConfig, recipe_from
from groupwise.data import Sampling
from groupwise.engines.base import Capabilities, Task, generate, in_flight, stream
from groupwise.engines.factory import capabilities_of, open_engine
from groupwise.engines.local import LocalEngine
from groupwise.errors import ConfigError, RunError
from groupwise.run.resolve import resolve_recipe
from tests.engines.fakes import Answering, Inexact, Late
from tests.model import build

SAMPLING = Sampling(max_new_tokens=12)
TASKS = [Task((7, 8, n), tuple(stream(0, 0, str(n), i) for i in range(3))) for n in (11, 12, 13, 14)]


@pytest.fixture(scope="module")
def policy(tmp_path_factory, tiny_folder):
    return build.policy_of(build.SHARING["llama"], tmp_path_factory.mktemp("llama"), tiny_folder)


@pytest.fixture(scope="module", params=[LocalEngine, Answering, Late, Inexact])
def engine(request, policy):
    engine = request.param(policy, max_num_seqs=5)
    engine.open()
    engine.sync(policy, 4)
    yield engine
    engine.close()


def words(outputs):
    return [[output.tokens.tolist() for output in own] for own in outputs]


def test_each_task_is_answered_once_and_the_answers_are_in_order(engine):
    heard = []
    found = generate(engine, TASKS, SAMPLING, finished=lambda task, outputs: heard.append((task, outputs)))
    assert sorted(task for task, _ in heard) == [0, 1, 2, 3]
    assert all(outputs is found[task] for task, outputs in heard)
    assert [[tuple(o.question_tokens) for o in own] for own in found] == [[t.question_tokens] * 3 for t in TASKS]
    assert words(found)[::-1] == words(generate(engine, TASKS[::-1], SAMPLING))
    assert words(found)[2:3] == words(generate(engine, TASKS[2:3], SAMPLING))


def test_an_output_has_the_version_of_the_weights_and_a_log_probability_a_token(engine, policy):
    for version in (5, 9):
        engine.sync(policy, version)
        for output in chain.from_iterable(generate(engine, TASKS, SAMPLING)):
            assert output.policy_version == version
            assert len(output.tokens) == len(output.sampled) == len(output.logprobs) > 0
            assert output.sampled.all()
            assert np.isfinite(output.logprobs).all()
            assert (output.logprobs <= 0).all()


def test_limits_cut_each_output(engine):
    tasks = [replace(TASKS[0], limits=(1, 3, 500))]
    cut, whole = generate(engine, tasks, SAMPLING)[0], generate(engine, TASKS[:1], SAMPLING)[0]
    assert words([cut]) == [[o.tokens.tolist()[:limit] for o, limit in zip(whole, (1, 3, 500), strict=True)]]
    assert all(len(o.tokens) == 12 for o in whole if o.finish == "length")
    assert [o.finish for o in cut[:1]] == ["length" if len(whole[0].tokens) > 1 else whole[0].finish]


def test_a_later_turn_goes_on_with_the_stream_behind_what_is_there(engine):
    # cut after 2, 3 and 4 tokens and gone on with: the same tokens as in one turn, wherever the first had not ended
    whole = generate(engine, TASKS[:1], SAMPLING)[0]
    cuts = [min(n, len(o.tokens) - 1) for n, o in zip((2, 3, 4), whole, strict=True)]
    before = tuple(tuple(o.tokens.tolist()[:cut]) for o, cut in zip(whole, cuts, strict=True))
    later = replace(TASKS[0], before=before, drawn=tuple(cuts), limits=tuple(12 - cut for cut in cuts))
    rest = generate(engine, [later], SAMPLING)[0]
    assert words([rest]) == [[o.tokens.tolist()[cut:] for o, cut in zip(whole, cuts, strict=True)]]
    gap = [np.abs(a.logprobs - b.logprobs[cut:]).max() for a, b, cut in zip(rest, whole, cuts, strict=True)]
    assert max(gap) < 1e-4


def test_tasks_may_come_while_others_are_on_their_way_and_with_another_distribution(engine):
    short = replace(SAMPLING, max_new_tokens=2)
    expected = words(generate(engine, TASKS[:2], SAMPLING)), words(generate(engine, TASKS[2:], short))
    found = {}
    with in_flight(engine) as work:
        work.submit(list(enumerate(TASKS[:2])), SAMPLING)
        work.submit([(2, TASKS[2])], short)
        while work:
            for key, outputs in work.done():
                found[key] = outputs
                if len(found) == 1:
                    work.submit([(3, TASKS[3])], short)
    assert words([found[n] for n in range(4)]) == [*expected[0], *expected[1]]


def test_what_is_dropped_is_not_heard_of_again(engine):
    with in_flight(engine) as work:
        work.submit(list(enumerate(TASKS)), SAMPLING)
    assert words(generate(engine, TASKS[1:2], SAMPLING)) == words(generate(engine, TASKS, SAMPLING))[1:2]
    assert engine.poll(0.0) == []


def test_no_tasks_and_tasks_without_streams(engine):
    assert generate(engine, [], SAMPLING) == []
    assert generate(engine, [Task((5,), ()), TASKS[0]], SAMPLING)[0] == []


def test_a_silent_engine_is_given_up_with_its_name_and_what_it_owes(policy):
    class Silent(Late):
        capabilities = Capabilities(exact=True, silent_seconds=0.01)

    engine = Silent()
    engine.open()
    engine.gate.clear()
    with pytest.raises(RunError, match=r"the engine Silent finished none of 4 tasks in 0\.01 s"):
        generate(engine, TASKS, SAMPLING)
    engine.gate.set()
    engine.close()


@pytest.mark.parametrize(
    ("given", "message"),
    [([(77, [])], "outputs of task 77, which is not on its way"), ([(0, [])], "0 outputs where 3 were wanted")],
)
def test_what_nobody_asked_for_is_refused(given, message):
    engine = Answering()
    engine.poll = lambda timeout: given
    with pytest.raises(RunError, match=message):
        generate(engine, TASKS, SAMPLING)


def test_an_engine_is_opened_given_the_weights_and_closed_whatever_happens(policy, monkeypatch):
    calls: list[str] = []
    monkeypatch.setattr(Answering, "__init__", lambda self, policy, max_num_seqs: vars(self).update(calls=calls))
    own = RolloutConfig(engine="tests.engines.fakes:Answering")
    with open_engine(policy, own, version=3):
        pass
    with pytest.raises(KeyboardInterrupt), open_engine(policy, own):
        raise KeyboardInterrupt
    assert calls == ["open", "sync 3", "close", "open", "sync 0", "close"]


def test_an_engine_that_dies_is_one_line(policy):
    own = RolloutConfig(engine="tests.engines.fakes:Dying")
    line = r"^rollout\.engine = 'tests\.engines\.fakes:Dying': poll failed: .*gone away \(.*fakes\.py:\d+\); fix"
    with open_engine(policy, own) as engine, pytest.raises(RunError, match=line):
        generate(engine, TASKS, SAMPLING)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("locl", "did you mean 'local'"),
        ("tests.engines.fakes:drawn", "it has no `capabilities`"),
        ("no/such.py:Engine", "no file"),
    ],
)
def test_an_engine_that_is_none_is_refused(name, message):
    with pytest.raises(ConfigError, match=message):
        capabilities_of(RolloutConfig(engine=name))


def test_a_run_does_not_learn_from_outputs_without_log_probabilities(tmp_path):
    (tmp_path / "own.py").write_text(
        "from groupwise.engines.base import Capabilities\n"
        "class Own:\n    capabilities = Capabilities(exact=False, logprobs=False)\n"
    )
    tree = {"model": {"path": "tiny"}, "questions": {"source": "arithmetic"}, "update": {"steps": 1}}
    rollout = {"engine": f"{tmp_path}/own.py:Own"}
    with pytest.raises(ConfigError, match=r"rollout\.engine .*: it reports no log-probabilities"):
        resolve_recipe(recipe_from({**tree, "rewards": [{"function": "number"}], "rollout": rollout}))


class Narrow(Answering):
    """Takes a precision."""

    def __init__(self, policy=None, *, max_num_seqs=0, precision="auto"):
        super().__init__(policy, max_num_seqs=max_num_seqs)
        self.calls.append(precision)


def test_an_engine_whose_products_are_less_precise_is_not_exact_and_one_that_takes_no_precision_is_refused(policy):
    narrow = RolloutConfig(engine=f"{__name__}:Narrow", precision="bf16")
    assert not capabilities_of(narrow).exact
    assert capabilities_of(RolloutConfig(engine=f"{__name__}:Narrow")).exact
    with open_engine(policy, narrow) as engine:
        assert engine._engine.calls[0] == "bf16"
    assert not capabilities_of(RolloutConfig(precision="bf16")).exact
    with pytest.raises(
        ConfigError, match=r"rollout.precision = 'bf16': rollout.engine = .*Answering': takes no precision"
    ):
        capabilities_of(RolloutConfig(engine="tests.engines.fakes:Answering", precision="bf16"))


def test_a_narrow_sampler_gets_the_correction_of_an_inexact_one():
    recipe = {"model": {"path": "tiny"}, "questions": {"source": "arithmetic"}, "rewards": [{"function": "number"}]}
    recipe["update"] = {"steps": 1}
    exact, narrow = (recipe_from({**recipe, "rollout": own}) for own in ({}, {"precision": "bf16"}))
    assert resolve_recipe(exact).correction.__name__ == "uncorrected"
    assert resolve_recipe(narrow).correction.__name__ == "token_truncated"
