"""The tree of errors: one line each, and an exit code that says whose turn it is."""

import inspect

import pytest

from groupwise import errors

OURS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]


def test_an_error_is_one_line_with_its_remedy():
    error = errors.DataError("rows.jsonl:3: not JSON:\n  what a\tlibrary said ", hint="mend it")
    assert str(error) == "rows.jsonl:3: not JSON: what a library said ; mend it"
    assert str(errors.DataError("no remedy")) == "no remedy"


@pytest.mark.parametrize("kind", OURS)
def test_input_ends_with_2_and_a_failed_run_with_1(kind):
    assert issubclass(kind, errors.GroupwiseError)
    assert kind.exit_code == (2 if issubclass(kind, errors.InputError) else 1)


def test_the_drawn_tree_is_the_tree():
    # The drawing indents by four columns a level; a parent is the nearest line above with one level less.
    drawn, parents = {}, {}
    for line in errors.__doc__.splitlines():
        words = line.lstrip("│├└─ ").split()
        if words and words[0] in {kind.__name__ for kind in OURS}:
            level = (len(line) - len(line.lstrip("│├└─ "))) // 4
            parents[level] = words[0]
            drawn[words[0]] = parents[level - 1] if level else "Exception"
    assert drawn == {kind.__name__: kind.__base__.__name__ for kind in OURS}
