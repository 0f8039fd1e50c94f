"""TextArena's games: shown, moved and paid as they are; the same for the same seed, whatever runs beside them."""

import random
import threading
from importlib.util import find_spec

import pytest

from groupwise.data import Message, Question
from groupwise.datasets.textarena import questions
from groupwise.errors import ConfigError

pytestmark = pytest.mark.skipif(find_spec("textarena") is None, reason="textarena is not installed")

GUESS = "GuessTheNumber-v0"


@pytest.fixture(scope="module")
def arena():
    from groupwise.envs.textarena import TextArena

    return TextArena


def play(environment, question, moves):
    """What is shown first, the replies, and the outcome."""
    messages = list(environment.reset(question))
    replies = []
    for move in moves:
        messages.append(Message("assistant", move))
        given = environment.reply(tuple(messages))
        if given is None:
            break
        messages += given
        replies.append(given[0].content)
    return messages[0].content, replies, environment.outcome()


def test_a_game_is_shown_in_place_of_the_question_and_each_reply_is_what_is_new(arena):
    (question,) = questions(0, 1, id=GUESS)
    framed = Question(question.id, (Message("user", f"Play! {question.text} Think first."),), meta=question.meta)
    shown, replies, outcome = play(arena(id=GUESS), framed, ["<think>[3]?</think>[0]", "20"])
    assert shown.startswith("Play! You are Player 0. You are playing Guess The Number.")
    assert shown.endswith("Enter your guess. Think first.")
    assert question.text not in shown
    assert "invalid move" in replies[0]
    assert "Enter your guess" not in replies[0]
    assert "The target number is lower." in replies[1]
    assert (outcome["finished"], outcome["reward"], outcome["turns"]) == (0.0, 0.0, 2)


def test_a_game_pays_its_own_reward(arena):
    (question,) = questions(0, 1, id=GUESS)
    _, _, outcome = play(arena(id=GUESS), question, [f"[{n}]" for n in range(20, 0, -1)])
    assert outcome["finished"] == 1.0
    assert 0 <= outcome["reward"] <= 1
    assert outcome["reason"]


def test_a_seed_decides_the_game_whatever_moves_beside_it(arena):
    made = questions(3, 4, id="2048-v0")
    moves = ["[up]", "[left]", "[right]", "[down]"] * 3
    alone = [play(arena(), question, moves) for question in made]
    assert len({shown for shown, _, _ in alone}) > 1
    found = {}
    threads = [
        threading.Thread(target=lambda n=n: found.__setitem__(n, play(arena(), made[n % 4], moves))) for n in range(8)
    ]
    for thread in threads:
        thread.start()
        random.random()
    for thread in threads:
        thread.join()
    assert [found[n] for n in range(8)] == alone * 2


def test_a_game_leaves_the_global_generator_as_it_was(arena):
    before = random.getstate()
    play(arena(id=GUESS), questions(0, 1, id=GUESS)[0], ["[5]"])
    assert random.getstate() == before


def test_a_game_for_two_is_played_against_an_opponent(arena, tmp_path):
    question = Question("q", (Message("user", "TicTacToe"),), meta={"seed": 7})
    with pytest.raises(ConfigError, match=r"is for two; set environment_params\.opponent"):
        arena(id="TicTacToe-v0")
    shown, replies, outcome = play(arena(id="TicTacToe-v0", opponent="random"), question, ["[4]"])
    assert "You are Player 0" in shown
    assert "[Player 1]" in replies[0]
    assert "[Player 0]" not in replies[0]
    (tmp_path / "mine.py").write_text("def last(seen):\n    return '[8]' if '[8]' in seen else '[0]'\n")
    mine = arena(id="TicTacToe-v0", opponent=f"{tmp_path}/mine.py:last", player=1)
    shown, _, outcome = play(mine, question, ["[0]"])
    assert "You are Player 1" in shown
    assert "[Player 0] [8]" in shown
    assert (outcome["finished"], outcome["reward"]) == (1.0, 1.0)  # the opponent names a square that is taken, twice


def test_what_the_policy_writes_is_no_list_of_moves(arena):
    for seed in range(5):
        question = Question("q", (Message("user", "?"),), meta={"seed": seed})
        _, replies, outcome = play(arena(id="TicTacToe-v0", opponent="random"), question, ["[4]\nAvailable Moves: [4]"])
        assert outcome["finished"] == 0.0
        assert "[Player 1] [4]" not in replies[0]


@pytest.mark.parametrize(
    ("seen", "moves"),
    [
        ("Available Moves: '[0]', '[1]'", {"[0]", "[1]"}),
        ("Valid moves: [a]\nlater\nValid moves:\n[b c], [d]\n[e]\n\n[f]", {"[b c]", "[d]", "[e]"}),
        ("Available: [a]\nInvalid move. Reason: it is no valid '[number]'.", {"[a]"}),
        ("Write [4] for the centre.", None),
        ("available" * 20_000 + "[", None),
        ("valid: " * 20_000 + "[", None),
    ],
)
def test_a_listed_move_is_one_of_the_last_list(arena, seen, moves):
    from groupwise.envs.textarena import listed_move

    if moves is None:
        with pytest.raises(ValueError, match="lists the moves"):
            listed_move(seen)
    else:
        assert {listed_move(seen) for _ in range(40)} == moves


def test_a_game_without_a_seed_in_its_question_has_that_of_its_id(arena):
    asked = [Question(name, (Message("user", "?"),)) for name in "abcdef"]
    shown = [play(arena(id="2048-v0"), question, [])[0] for question in asked]
    assert len(set(shown)) > 1
    assert shown == [play(arena(id="2048-v0"), question, [])[0] for question in asked]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"id": "GuessTheNumbr-v0"}, "no game 'GuessTheNumbr-v0'; did you mean 'GuessTheNumber-v0'"),
        ({"id": "ThreePlayerTicTacToe-v0"}, "is for three or more"),
        ({"id": GUESS, "opponent": "random"}, "has no opponent"),
        ({"id": "TicTacToe-v0", "opponent": "randm"}, "did you mean 'random'"),
        ({"id": "TicTacToe-v0", "opponent": "random", "player": 2}, "player = 2"),
    ],
)
def test_what_cannot_be_played_is_refused(arena, given, message):
    with pytest.raises(ConfigError, match=message):
        arena(**given)


def test_a_game_that_is_named_nowhere_is_refused(arena):
    with pytest.raises(ValueError, match=r"set environment_params\.id"):
        arena().reset(Question("q", (Message("user", "?"),)))


def test_questions_have_seeds_of_their_own():
    made = questions(0, 50, id=GUESS)
    assert len({question.meta["textarena"]["seed"] for question in made}) == len({q.fingerprint for q in made}) == 50
    assert made == questions(0, 50, id=GUESS)
    assert made != questions(1, 50, id=GUESS)
