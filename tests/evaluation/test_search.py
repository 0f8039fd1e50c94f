"""The tree by hand: the formula, a search that finds the right leaf, and which answer is given."""

import pytest

from groupwise.errors import ConfigError
from groupwise.evaluation.search import Settings, Step, Tree, puct, settings_of
from tests.close import close


def steps(*pairs, finished=False):
    return [Step(key, key, value, finished) for key, value in pairs]


def simulate(tree, grow):
    path = tree.select()
    if not path[-1].finished:
        tree.expand(path[-1], grow(path[-1].state))
    tree.backup(path)
    return path[-1].state


def test_puct():
    # 0.5 + 2 * 0.25 * sqrt(9) / (1 + 2) = 0.5 + 0.5
    assert close(puct(0.5, 0.25, visits=2, parent_visits=9, c_puct=2.0), 1.0)
    # never visited: 0.1 + 1 * 0.5 * sqrt(4) / 1 = 1.1
    assert close(puct(0.1, 0.5, visits=0, parent_visits=4, c_puct=1.0), 1.1)


def test_equal_steps_become_one_with_their_share_as_prior():
    tree = Tree("", c_puct=1.0)
    tree.expand(tree.root, steps(("a", 0.5), ("b", 0.2), ("a", 0.5), ("a", 0.5)))
    assert [(node.state, node.prior) for node in tree.root.children] == [("a", 0.75), ("b", 0.25)]


def test_selection_by_hand():
    # Root visited once: a (guide 1.0) and b (guide 0.0), each with prior 1/2, scaled to 1 and 0.
    # simulation 2: a 1 + 0.5 * sqrt(1) / 1 = 1.5, b 0.5 -> a; it is finished, so its 1.0 is backed up.
    # c_puct = 4: simulation 3: a 1 + 4 * 0.5 * sqrt(2) / 2 = 2.41, b 0 + 4 * 0.5 * sqrt(2) / 1 = 2.83 -> b
    def visited(c_puct):
        tree = Tree("", c_puct=c_puct)
        return [simulate(tree, lambda _: steps(("a", 1.0), ("b", 0.0), finished=True)) for _ in range(3)]

    assert visited(c_puct=4.0) == ["", "a", "b"]
    # c_puct = 1: a 1 + 0.5 * sqrt(2) / 2 = 1.35, b 0.71 -> a again
    assert visited(c_puct=1.0) == ["", "a", "a"]


def test_values_are_backed_up_as_means():
    tree = Tree("", c_puct=0.0)
    grown = {"": steps(("a", 3.0), ("b", 1.0)), "a": steps(("aa", 0.0), ("ab", 2.0), finished=True)}
    assert [simulate(tree, grown.get) for _ in range(3)] == ["", "a", "ab"]
    a, b = tree.root.children
    assert (a.visits, a.mean) == (2, 2.5)  # its own 3, and ab's 2
    assert (b.visits, b.mean) == (0, 1.0)  # never visited: the guide's
    assert tree.root.visits == 3


def test_the_scale_of_the_guide_does_not_matter():
    def path(scale, shift):
        tree = Tree("", c_puct=1.0)
        values = iter([n / 64 for n in (3, 63, 17, 40, 22, 51, 8, 35, 29, 58, 13, 47)] * 20)  # exact, also shifted

        def grow(state):
            return [Step(state + x, state + x, next(values) * scale + shift, len(state) == 3) for x in "abc"]

        return [simulate(tree, grow) for _ in range(12)]

    assert path(1, 0) == path(64, 0) == path(2, -8)


def test_the_right_leaf_is_found():
    # Words of four letters, one a step; the guide counts letters that agree with "bdac", but it overrates a first "d".
    # Greedy by the guide goes to d and ends at 0.9; the search comes back from there and finds the word.
    wanted = "bdac"

    def guide(word):
        return 0.6 if word == "d" else sum(x == y for x, y in zip(word, wanted, strict=False)) / 4

    def grow(word):
        return [Step(word + x, word + x, guide(word + x), len(word) == 3) for x in "abcd"]

    tree = Tree("", c_puct=1.0)
    first = [simulate(tree, grow) for _ in range(2)]
    assert first == ["", "d"]
    for _ in range(40):
        simulate(tree, grow)
    assert tree.answer().state == wanted


def test_the_answer_is_the_end_visited_most_then_the_best_then_the_first():
    tree = Tree("", c_puct=0.0)
    tree.expand(tree.root, steps(("a", 0.5), ("b", 0.5), ("c", 0.2), finished=True))
    assert tree.answer().state == "a"
    tree.backup([tree.root, tree.root.children[2]])
    assert tree.answer().state == "c"


def test_a_partial_answer_worth_more_than_the_finished_one_is_gone_on_with():
    tree = Tree("", c_puct=0.0)
    tree.expand(tree.root, [*steps(("end", 0.3), finished=True), *steps(("on", 0.8))])
    assert (tree.answer().state, tree.answer().finished) == ("on", False)
    tree.expand(tree.root.children[1], steps(("on end", 0.9), finished=True))
    assert (tree.answer().state, tree.answer().finished) == ("on end", True)


def test_without_any_growth_the_answer_is_the_beginning():
    assert Tree("start", c_puct=1.0).answer().state == "start"


def test_settings_are_those_given_and_the_defaults():
    assert settings_of(None, {"guide": None}) is None
    found = settings_of("mcts", {"guide": "steps", "separator": "\\n\\n", "width": 2, "c_puct": None})
    assert found == Settings("mcts", "steps", separator="\n\n", width=2)
    assert (found.simulations, found.c_puct, found.max_steps) == (16, 1.0, 16)


@pytest.mark.parametrize(
    ("search", "given", "said"),
    [
        (None, {"width": 2}, "--width 2 without --search: not read; add --search mcts"),
        ("mtcs", {}, "--search = 'mtcs': no such name; did you mean 'mcts'?; known: mcts"),
        ("mcts", {}, "--search mcts without --guide: nothing would say which step is good; name a reward of the "),
        ("mcts", {"guide": "g", "simulations": 0}, "--simulations 0: too few; give 1 or more"),
        ("mcts", {"guide": "g", "c_puct": -1.0}, "--c-puct -1.0: not possible; give 0 (no exploration) or m"),
        ("mcts", {"guide": "g", "c_puct": float("nan")}, "--c-puct nan: not possible"),
        ("mcts", {"guide": "g", "separator": ""}, "--step-separator '': no step would end; give some text; \\n st"),
    ],
)
def test_a_search_that_cannot_be(search, given, said):
    with pytest.raises(ConfigError) as error:
        settings_of(search, given)
    assert str(error.value).startswith(said)
