"""`groupwise eval` as a person and a program use it: what it asks, what it says, what it writes, what it refuses."""

import json
import shutil

import pytest

from groupwise.registry import MODELS
from tests.command import RECIPE, SMALL, groupwise

SEARCH = ("--search", "mcts", "--guide", "one_digit", "--simulations", 2, "--width", 2, "--step-separator", "a")


@pytest.fixture(scope="module")
def here(tmp_path_factory, tiny_folder):
    """A folder with two runs of one model, `first` and, with another seed of everything but the model, `second`."""
    folder = tmp_path_factory.mktemp("eval")
    for name, seed in (("first", 0), ("second", 1)):
        words = (
            RECIPE,
            f"model.path={tiny_folder}",
            f"seed={seed}",
            *SMALL,
            "update.steps=1",
            "evaluate.format=one_digit",
        )
        done = groupwise("train", *words, "--run", folder / name)
        assert done.code == 0, done.err
    return folder


@pytest.fixture
def at_home(here, tiny_folder, monkeypatch):
    monkeypatch.chdir(here)
    monkeypatch.setenv("GROUPWISE_CACHE", str(tiny_folder.parent))
    return here


def evaluated(*words):
    done = groupwise("eval", *words, "--json")
    assert done.code == 0, done.err
    return json.loads(done.out, parse_constant=pytest.fail)


def refused(*words):
    done = groupwise("eval", *words)
    assert (done.code, done.out) == (2, ""), done
    assert done.err.count("\n") == 1, done.err
    return done.err.removeprefix("error: ").rstrip("\n")


def test_the_result_says_how_it_was_made(at_home):
    found = evaluated("first", "--samples", 2, "rollout.temperature=0.5", "questions.template='Say {question}'")
    assert (found["model"], found["run"], found["steps"]) == ("first/checkpoints/step-000001", "first", 1)
    assert (found["samples"], found["sampling"]["temperature"], found["sampling"]["max_new_tokens"]) == (2, 0.5, 4)
    assert (found["question_template"], found["seed"], found["correct"]) == ("Say {question}", 0, "number")
    assert found["questions"]["count"] == found["n"] == 6
    assert found["chat_template"]["from"] == found["model"]
    assert "<assistant>" in found["chat_template"]["text"]
    assert len(found["chat_template"]["sha256"]) == 64
    assert found["rewards"] == {"number": "number", "one_digit": "pattern"}
    assert set(found["versions"]) == {"groupwise", "torch", "transformers", "python"}
    assert found["date"].startswith("20")
    assert {"mean@2", "pass@1", "pass@2", "maj@2", "reward/number", "reward/one_digit"} <= set(found)
    assert (found["curve"], found["against"]) == ([], None)


def test_every_question_of_a_file_is_asked_and_those_trained_on_are_told(at_home):
    rows = [{"question": text, "answer": "1"} for text in ("70>", "abc>", "70>")]
    (at_home / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = evaluated("first", "--questions", "mine.jsonl", "--out", "mine")
    assert (found["n"], found["questions"]["source"], found["questions"]["heldout"]) == (3, "mine.jsonl", False)
    asked = [
        json.loads(line)["messages"][0]["content"]
        for line in (at_home / "mine" / "answers.jsonl").read_text("utf-8").splitlines()
    ]
    assert asked == ["70>", "abc>", "70>"]
    assert found["seen_in_training"] == 0  # 70> is held out
    sampled = [f"{n:02}>" for n in range(100)]
    (at_home / "mine.jsonl").write_text("".join(json.dumps({"question": q, "answer": "1"}) + "\n" for q in sampled))
    done = groupwise("eval", "first", "--questions", "mine.jsonl")
    # 1 step of 4 questions; those of one digit are written without the 0
    told = int(done.err.split(" of 100 questions were trained on in first")[0])
    assert 1 <= told <= 4
    assert f"- trained on: {told} of the questions, which makes them no test" in done.out
    assert "100 questions of mine.jsonl (95 % intervals)" in done.out


def test_an_environment_can_be_asked_by_its_name(at_home):
    same = evaluated("first", "--questions", "arithmetic", "questions.size=5")
    assert (same["n"], same["questions"]["params"]) == (5, {"kinds": ["successor"]})
    other = evaluated(RECIPE, "model.path=tiny", "--questions", "reasoning_gym", "questions.size=5", *SMALL[1:],
                      "questions.params.name=chain_sum", "rollout.max_new_tokens=2")  # fmt: skip
    assert (other["n"], other["questions"]["params"]) == (5, {"name": "chain_sum"})


def test_a_named_model_is_asked_with_the_recipes_questions(at_home, tiny_folder):
    by_run, by_folder = (
        evaluated(RECIPE, *SMALL, "--model", model) for model in ("first", "first/checkpoints/step-000001")
    )
    assert (by_run["run"], by_run["steps"], by_folder["run"], by_folder["steps"]) == ("first", 1, None, None)
    assert by_run["model"] == by_folder["model"]
    assert by_run["reward/one_digit"] == by_folder["reward/one_digit"] == evaluated("first")["reward/one_digit"]
    assert evaluated("first", "--model", tiny_folder)["model"] == str(tiny_folder)
    assert "tiny" in MODELS
    assert evaluated("first", "--model", "tiny")["model"] == "tiny"


def test_a_model_against_its_own_copy_differs_nowhere(at_home):
    if not (at_home / "copy").exists():
        shutil.copytree("first/checkpoints/step-000001", "copy")
    found = evaluated("first", "--against", "copy", "--samples", 2, "--best-of", "one_digit")
    other = found["against"]
    assert other["model"] == "copy"
    assert {key: other["figures"][key] for key in ("accuracy", "mean@2", "best@2", "length")} == {
        key: found[key] for key in ("accuracy", "mean@2", "best@2", "length")
    }
    assert {"accuracy", "format", "mean@2", "pass@2", "maj@2", "best@2", "reward/number"} <= set(other["differences"])
    assert all(value in (0, 6) for figure in other["differences"].values() for value in figure.values())
    changes = other["changes"]
    assert (changes["only_a_right"], changes["only_b_right"], changes["mcnemar_p"]) == (0, 0, 1.0)
    assert changes["both_right"] + changes["both_wrong"] == 6


def test_two_runs_are_compared_in_a_table(at_home):
    done = groupwise("eval", "first", "--against", "second", "--samples", 2)
    assert done.code == 0, done.err
    assert done.out.startswith(
        "A: first/checkpoints/step-000001, after 1 steps\nB: second/checkpoints/step-000001, after 1 steps\n"
    )
    assert "| A - B, same questions" in done.out
    assert "maj@2 = cons@2 (majority vote)" in done.out
    assert "McNemar's exact p = " in done.out
    # the second run drew its held-out questions with another seed: it may have trained on the first one's
    assert ("trained on, B" in done.out) == ("were trained on in second" in done.err)


def test_everything_is_written_into_a_folder(at_home):
    words = ("first", "--samples", 2, "--best-of", "one_digit", *SEARCH, "--against", "second")
    done = groupwise("eval", *words, "--out", "out", "--json")
    assert done.code == 0, done.err
    content = json.loads(done.out)
    assert content == {"event": "end", **json.loads((at_home / "out" / "eval.json").read_text())}
    assert {(p["method"], p["n"]) for p in content["curve"]} == {
        ("greedy", 1),
        *((method, n) for method in ("majority", "best by one_digit", "search") for n in (1, 2)),
    }
    text = (at_home / "out" / "eval.md").read_text()
    for words in (
        "# Evaluation of first/",
        "| best@2 by one_digit",
        "| search ",
        "![accuracy against",
        "mcts guided by",
    ):
        assert words in text
    assert (at_home / "out" / "eval.png").stat().st_size > 1000
    rows = [json.loads(line) for line in (at_home / "out" / "answers.jsonl").read_text("utf-8").splitlines()]
    # 6 questions: greedy and two sampled of both models, and the search's after 1 and 2 simulations
    assert len(rows) == 6 * (2 * 3 + 2)
    assert {row["way"] for row in rows} == {"greedy", "sample", "search"}
    greedy = [row for row in rows if row["way"] == "greedy" and row["model"] == content["model"]]
    assert sum(row["rewards"]["number"] for row in greedy) / 6 == content["accuracy"]
    assert sum(len(row["token_ids"]) for row in greedy) / 6 == content["length"]
    [last] = [p for p in content["curve"] if (p["method"], p["n"]) == ("search", 2)]
    searched = [row["sampled_tokens"] for row in rows if row["way"] == "search" and row["number"] == 2]
    assert sum(searched) / 6 == last["tokens"]
    assert sorted(path.name for path in (at_home / "out").iterdir()) == [
        "answers.jsonl",
        "eval.json",
        "eval.md",
        "eval.png",
    ]
    assert refused("first", "--out", "out") == "--out out: an evaluation is there already; give another name"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--best-of", "one_digits", "--samples", 2], "--best-of 'one_digits': no reward of that name; did you mean"),
        (["--best-of", "number"], "--best-of number with --samples 0: there is nothing to choose from; add "),
        (["--search", "mcts"], "--search mcts without --guide: nothing would say which step is good; name a reward"),
        (["--search", "mcts", "--guide", "nmber"], "--guide 'nmber': no reward of that name; did you mean 'number'?"),
        (["--guide", "number"], "--guide 'number' without --search: not read; add --search mcts"),
        (["--against", RECIPE], f"--against {RECIPE}: a file of this kind is no model; a recipe "),
        (["--against", "first"], "--against: both are first/checkpoints/step-000001; name another run, model folder"),
        (["--against", "tini"], "--against tini: no such folder or built-in model; did you mean 'tiny'?"),
        (["--model", "./nowhere"], "--model ./nowhere: no such folder or built-in model; "),
        (["--model", "first/recipe.yaml"], "--model first/recipe.yaml: a file of this kind is no model; a recipe "),
        (["--questions", "arithmetc"], "questions.source = 'arithmetc': no such name; did you mean 'arithmetic'?"),
        (["--questions", "no.jsonl"], "questions 'no.jsonl': no such file or folder; give .jsonl, .ndjson, .json"),
        (["--out", "first/recipe.yaml"], "--out first/recipe.yaml: File exists; give another place"),
    ],
)  # fmt: skip
def test_what_cannot_be_measured_is_refused(at_home, words, said):
    line = refused("first", *words)
    assert line.startswith(said) or said in line, line


@pytest.mark.parametrize(
    ("rows", "words", "said"),
    [
        ([{"question": "7>", "answer": "8"}, {"question": "8>", "answer": "none"}], [],
         "golds.jsonl:2: question 'golds:2': reward 'number' cannot judge it: "),
        ([{"question": "7>", "answer": "8"}], [f"rewards.1={{function: {__file__}:wants_a_column, name: one_digit}}"],
         "reward 'one_digit' wants column 'rubric', which no question has; they have: "),
    ],
)  # fmt: skip
def test_questions_that_a_reward_cannot_judge_are_refused_before_weights_are_loaded(at_home, rows, words, said):
    (at_home / "golds.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("groupwise.evaluation.measure.load_policy", lambda *_: pytest.fail("weights are loaded"))
        line = refused("first", "--questions", "golds.jsonl", *words)
    assert said in line, line


def wants_a_column(prompts, completions, rubric, **columns):
    return [1.0] * len(completions)


def test_a_reward_of_a_part_that_no_asked_question_has_abstains(at_home):
    (at_home / "parts.jsonl").write_text('{"question": "7>", "answer": "8", "part": "a"}\n')
    both = "rewards.0.parts=[a, b]", "rewards.1.parts=[b]"
    found = evaluated(RECIPE, "--model", "first", *SMALL[1:], "--questions", "parts.jsonl", *both)
    assert (found["reward/number"]["n"], found["reward/one_digit"]["n"]) == (1, 0)


def test_a_run_whose_recipe_is_gone_is_asked_by_its_record(at_home):
    shutil.copytree("first", "bare", ignore=shutil.ignore_patterns("recipe.yaml"))
    before = sorted(path.name for path in (at_home / "bare").iterdir())
    assert evaluated("bare")["accuracy"] == evaluated("first")["accuracy"]
    assert groupwise("sample", "bare", "7>", "--max-new-tokens", 2).code == 0
    assert sorted(path.name for path in (at_home / "bare").iterdir()) == before
    for file in (at_home / "bare").glob("record.sqlite*"):
        file.unlink()
    assert refused("bare") == (
        "bare: recipe.yaml and record.sqlite are gone, so nothing says what to ask; give a recipe, and --model "
        "bare/checkpoints/step-000001"
    )


def test_a_model_folder_alone_is_told_where_it_goes(at_home):
    place = "first/checkpoints/step-000001"
    said = f"{place}: neither a run directory nor a recipe; it is a model: give a recipe, and --model {place}"
    assert refused(place) == said
