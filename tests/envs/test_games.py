"""The games: what the policy is shown, what its turns do, and what an episode earns."""

import pytest

from groupwise.data import Message, Question
from groupwise.envs.actions import number_of, word_of
from groupwise.envs.games import SIDES, GuessNumber, Maze
from groupwise.errors import ConfigError

SECRET = Question("g", (Message("user", "From 1 to 10?"),), answer="7", meta={"low": 1, "high": 10})
PLAN = [
    "#######",
    "#@..#E#",
    "#.#.#.#",
    "#.#...#",
    "#######",
]  # rooms of 2 by 3; the way out is east, south, east, north
ROOMS = Question("m", (Message("user", "Find the exit."),), meta={"maze": PLAN})
SHORT = {side[0]: side for side in SIDES}


def play(environment, question, *turns):
    """The replies to these turns; the last is None if the episode is done."""
    messages = list(environment.reset(question))
    replies = []
    for turn in turns:
        messages.append(Message("assistant", turn))
        given = environment.reply(tuple(messages))
        messages += given or []
        replies.append(given and given[0].content)
    return messages[0].content, replies


def test_a_guess_hears_higher_or_lower_until_it_is_right():
    game = GuessNumber()
    shown, replies = play(game, SECRET, "5", "I say 8.", "<guess>7</guess>")
    assert shown.startswith("From 1 to 10?\nYou have 5 guesses.")  # 10 has 4 bits, and one more
    assert replies == ["higher (4 left)", "lower (3 left)", None]
    assert game.outcome() == {"reward": 1.0, "right": 1.0, "guesses": 3, "invalid": 0}


def test_what_is_no_guess_says_what_is_and_counts():
    game = GuessNumber(guesses=3)
    _, replies = play(game, SECRET, "no idea", "70", "6")
    assert replies == [
        "I read no guess. End your turn with one whole number. 2 left.",
        "70 is not from 1 to 10. 1 left.",
        None,
    ]
    assert game.outcome() == {"reward": 0.0, "right": 0.0, "guesses": 3, "invalid": 2}


@pytest.mark.parametrize(("turns", "reward"), [(["7"], 1.0), (["1", "2", "7"], 0.9), (["1", "2", "3", "4", "7"], 0.8)])
def test_an_early_guess_may_earn_more(turns, reward):
    # 5 guesses: the first keeps all of the 0.2, the third half of it, the fifth nothing
    game = GuessNumber(early_share=0.2)
    play(game, SECRET, *turns)
    assert game.outcome()["reward"] == pytest.approx(reward)


def test_a_maze_is_told_in_words():
    game = Maze()
    shown, replies = play(game, ROOMS, "North", "I go east.", "<think>west?</think> s", "east", "north")
    assert shown.startswith("Find the exit.\nYou have 12 turns.")  # twice the four steps, and four
    assert shown.endswith("You can go 1 room south, 1 room east. The exit lies 2 east.")
    assert replies == [
        "There is a wall to the north. You can go 1 room south, 1 room east. The exit lies 2 east.",
        "You can go 1 room south, 1 room west. The exit lies 1 east.",
        "You can go 1 room north, 1 room east. The exit lies 1 north and 1 east.",
        "You can go 1 room north, 1 room west. The exit lies 1 north.",
        None,
    ]
    assert game.outcome() == {
        "reward": 1.0,
        "reached": 1.0,
        "moves": 4,
        "shortest": 4,
        "walls": 1,
        "invalid": 0,
    }


def test_a_maze_is_shown_as_a_plan():
    _, replies = play(Maze(view="grid"), ROOMS, "east")
    assert replies[0].splitlines() == ["#######", "#..@#E#", *PLAN[2:]]


def test_a_plan_of_single_cells_is_walked_cell_by_cell():
    question = Question("m", (Message("user", "?"),), meta={"maze": "@.\n#E"})
    game = Maze()
    assert play(game, question, "east", "south")[1] == [
        "You can go 1 room south, 1 room west. The exit lies 1 south.",
        None,
    ]
    assert game.outcome()["shortest"] == 2


def test_turns_without_a_move_end_a_maze_too():
    game = Maze(steps=2)
    assert play(game, ROOMS, "hm", "north or west?!")[1][1] is None
    outcome = game.outcome()
    assert (outcome["reward"], outcome["invalid"], outcome["walls"]) == (0.0, 1, 1)  # `west` is its last word


def test_a_detour_may_earn_less():
    game = Maze(short_share=0.5)
    play(game, ROOMS, "south", "north", "east", "south", "east", "north")
    assert game.outcome()["reward"] == pytest.approx(1 - 0.5 * (1 - 4 / 6))


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("7", 7),
        ("It is between 3 and 9, so 5.", 5),
        ("I guess **42**!", 42),
        ("7 is my guess", 7),
        ("3 or 4, I think", None),
        ("<guess>3</guess> or rather <guess>4</guess>, not 5", 4),
        ("<think>5 or 6</think>\n6", 6),
        ("<think>it must be 6", None),
        ("", None),
        ("7.5", None),
        ("-3", -3),
        ("9" * 5000, None),
        ("٧", None),
        ("<answer> " * 20_000 + "3", 3),
        ("<guess>1</guess> <answer>2", 1),
    ],
)
def test_a_number_is_read_where_a_turn_names_one(text, number):
    assert number_of(text) == number


@pytest.mark.parametrize(
    ("text", "side"),
    [
        ("north", "north"),
        ("I go NORTH.", "north"),
        ("N", "north"),
        ("<move>w</move>", "west"),
        ("To the east there is a wall; north", "north"),
        ("east seems right", "east"),
        ("east or west, who knows", None),
        ("it's no use", None),
        ("northern lights", None),
        ("<think>south</think>", None),
    ],
)
def test_a_move_is_read_where_a_turn_names_one(text, side):
    assert word_of(text, SIDES, short=SHORT) == side


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Maze(view="map"), "environment_params.view = 'map'"),
        (lambda: Maze(steps=0), "environment_params.steps = 0"),
        (lambda: GuessNumber(guesses=True), "environment_params.guesses = True"),
        (lambda: GuessNumber(early_share=2), "environment_params.early_share = 2"),
    ],
)
def test_a_parameter_out_of_its_range_is_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize(
    ("environment", "answer", "meta", "message"),
    [
        (GuessNumber(), None, {"low": 1, "high": 9}, "answer = None"),
        (GuessNumber(), "3", {}, "low"),
        (GuessNumber(), "30", {"low": 1, "high": 9}, "30 is not from 1 to 9"),
        (Maze(), None, {}, "no maze"),
        (Maze(), None, {"maze": ["@.#E"]}, "no way leads"),
        (Maze(), None, {"maze": ["@.E", "E.."]}, "2 'E'"),
    ],
)
def test_a_question_that_is_no_game_is_refused(environment, answer, meta, message):
    with pytest.raises(ValueError, match=message):
        environment.reset(Question("q", (Message("user", "?"),), answer=answer, meta=meta))
