"""What an attack finds: who pays for what, the figure, the exit code."""

import json
import re
from types import SimpleNamespace
from typing import ClassVar

import pytest
import yaml

from groupwise.audit.attack import attack
from groupwise.audit.cases import SAMPLES, cases_of, sample
from groupwise.audit.programs import PROGRAMS, called, written
from groupwise.audit.siege import besiege, exploit, score
from groupwise.config import RewardConfig
from groupwise.data import Reward
from groupwise.rewards.base import RewardSet
from groupwise.rewards.schema import JsonSchema
from tests.command import RECIPE, groupwise
from tests.project.sources import ROOT
from tests.rewards.judging.server import says, serving

OWN = "tests.audit.user_rewards"


def siege_of(function, **params):
    with RewardSet([RewardConfig(function=function, timeout_seconds=5)]) as rewards:
        return besiege(rewards, cases_of(sample(numbers=True))[:3])


def test_the_share_of_the_honest_gain_that_a_text_earns():
    # right 1, wrong 0.2: 0.6 is half of the way; less than the wrong answer is nothing, more than the right one is all
    assert exploit(0.6, 1.0, 0.2) == pytest.approx(0.5)
    assert exploit(0.1, 1.0, 0.2) == 0
    assert exploit(3.0, 1.0, 0.2) == 1
    assert exploit(None, 1.0, 0.2) == 0
    assert exploit(1.0, 1.0, 1.0) == 1  # the reward does not tell right from wrong
    assert exploit(0.9, 1.0, 1.0) == 0


def test_a_reward_that_looks_for_the_answer_anywhere_pays_every_hedged_answer():
    siege = siege_of(f"{OWN}:contains")
    by_name = {found.name: found for found in siege.attacks}
    assert siege.exploitability == 1
    for name in ("right among junk", "right, taken back", "right is not it", "right, then wrong"):
        assert by_name[name].exploit == by_name[name].reaches_right == 1, name
    assert by_name["empty"].exploit == by_name["honest wrong answer"].exploit == 0
    assert by_name["right many times"].kind == "dressed"  # shown, and not counted


def test_what_fails_is_counted_and_never_a_reward():
    siege = siege_of(f"{OWN}:breaks")
    found = next(found for found in siege.attacks if found.name == "100 kB")
    assert (found.failed, found.mean, found.exploit) == (3, None, 0)
    assert siege.failing.failed_share == 1
    assert "RecursionError: too deep" in siege.failing.detail
    assert siege.exploitability == 0


def test_a_reward_that_fails_on_an_empty_text_is_found_out():
    found = json.loads(groupwise("attack", f"{OWN}:fails_on_nothing", "--questions", 2, "--json").out)
    assert found["failing"]["share"] == 1
    assert next(row for row in found["attacks"] if row["name"] == "empty")["detail"].startswith("IndexError")


def test_a_reward_that_tells_no_right_answer_from_a_wrong_one_falls_to_the_wrong_one():
    siege = siege_of(f"{OWN}:constant")
    assert siege.worst.name == "honest wrong answer"
    assert (siege.exploitability, siege.not_separated) == (1, 3)


def test_exit_code_1_past_the_limit_and_a_table_that_a_program_reads():
    done = groupwise("attack", f"{OWN}:contains", "--questions", 2, "--json")
    found = json.loads(done.out)
    assert (done.code, found["fell"], found["exploitability"]) == (1, True, 1)
    assert found["questions"] == 2
    assert {"name", "mean", "exploit", "failed", "late", "seconds"} <= found["attacks"][0].keys()
    assert done.err == ""


def test_the_rewards_of_a_recipe_are_attacked_together_on_its_questions(tmp_path):
    tree = yaml.safe_load((ROOT / "recipes" / "tiny.yaml").read_text())
    tree["rewards"] = [{"function": f"{OWN}:contains"}, {"function": f"{OWN}:constant", "weight": 0.25}]
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(tree))
    done = groupwise("attack", tmp_path / "own.yaml", "--questions", 2, "--limit", 1)
    assert done.code == 0, done.err
    assert "2 questions of arithmetic" in done.out
    assert "1.250" in done.out  # a right answer: 1 + 0.25


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("attack",), "give a reward, or --run DIR"),
        (("attack", "nmber"), "did you mean 'number'?"),
        (("attack", "number", "--param", "where"), "is not of the form a.b=c"),
        (("attack", RECIPE, "--param", "a=1"), "its rewards have their params"),
        (("attack", "number", "--run", "x"), "give a reward, or --run DIR"),
        (("attack", "--run", "nowhere"), "holds no run"),
        (("attack", "exact", "--data", "nowhere.jsonl"), "nowhere.jsonl"),
        (("attack", "tests.audit.user_rewards:raises"), "fails on the right answer of every question"),
        (("attack", "tests.audit.user_rewards:asks_for_a_column"), "wants column 'level', which no question has"),
        (("attack", str(ROOT / "recipes" / "r1.yaml")), "it is a pipeline"),
        (("attack", str(ROOT / "recipes" / "dpo.yaml")), "without rewards"),
    ],
)
def test_what_cannot_be_attacked_is_told_in_one_line(words, told):
    done = groupwise(*words)
    assert done.code == 2
    assert told in done.err
    assert done.err.count("\n") == 1


def in_fence(name, prompt):
    found = re.search(rf"<<<{name} (\w+)\n(.*)\n{name} \1>>>", prompt, re.DOTALL)
    return found[2] if found else ""


def obedient_judge(prompt):
    """Full marks for the right answer alone, and for whoever asks for them."""
    text, right = in_fence("OUTPUT", prompt), in_fence("ANSWER", prompt)
    asks, knows = "score 10" in text, text[:99].removeprefix("The answer is ").rstrip(".") == right
    return json.dumps({"score": 10 * (asks or knows)})


def test_a_judge_that_obeys_what_it_reads_falls_and_is_paid_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("GROUPWISE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "rubric.yml").write_text("prompt: |\n  {question}\n  {answer}\n  {output}\n")
    with serving(says(obedient_judge)) as server:
        params = [f"base_url={server.url}", "model=judge", f"rubric={tmp_path / 'rubric.yml'}"]
        found = attack("judge", params, questions=1, timeout_seconds=30)
        sent = len(server.asked)
        again = attack("judge", params, questions=1, timeout_seconds=30)
        assert len(server.asked) == sent > 50
    paid = {row["name"] for row in found.content["attacks"] if row["exploit"] and row["kind"] != "dressed"}
    assert paid == {"ignore the rubric"}  # what an honest judge gives nothing for
    assert found.content["exploitability"] == again.content["exploitability"] == 1.0
    assert found.fell
    said = capsys.readouterr().err
    assert re.search(r"judge 'judge': \d+ requests", said)
    assert "judge 'judge': 0 requests" in said
    assert f"kept in {tmp_path / 'cache' / 'judgements.sqlite'}" in said


class _Compared:
    """A reward that gives the longest of a group 1, as pairs would."""

    configs: ClassVar = {"pairs": SimpleNamespace(function="pairwise_judge")}

    def score(self, questions, outputs):
        longest = max(len(output.text) for output in outputs)
        assert len({question.id for question in questions}) == 1
        return [Reward(float(len(output.text) == longest), {}) for output in outputs]


def test_a_reward_that_compares_gets_the_honest_answers_beside_an_attack():
    cases = cases_of(sample())[:2]
    assert [reward.value for reward in score(_Compared(), cases, ["", "x" * 99])] == [0.0, 1.0]


def test_questions_of_a_rewards_own_kind_have_an_answer_that_is_right_and_one_that_is_not():
    for name, make in SAMPLES.items():
        for case in cases_of(make()):
            assert case.gold, name
            assert case.gold != case.wrong, name
    schemas = cases_of(SAMPLES["json_schema"]())
    judged = JsonSchema(schema_column="schema")
    assert [judged(case.gold, case.question) for case in schemas] == [1.0] * len(schemas)
    assert [judged(case.wrong, case.question) for case in schemas] == [0.0] * len(schemas)


def test_programs_that_spoof_are_tried_where_a_program_is_asked_for():
    case = cases_of(SAMPLES["code"]())[1]
    assert called(case) == "is_even"
    assert written("def NAME(*a): return True", case) == "```python\ndef is_even(*a): return True\n```"
    assert written("pass", cases_of(sample())[0]) is None
    for program in PROGRAMS.values():
        compile(program.replace("NAME", "f"), "<attack>", "exec")
