"""Reward functions that score partial outputs, for the tests of the search."""

WANTED = "a,b,c"


def agrees(text):
    """Share of the letters that agree with WANTED, but a first `b` is overrated."""
    if text == "b,":
        return 0.9
    return sum(x == y for x, y in zip(text, WANTED, strict=False)) / len(WANTED)


def last_step(text):
    """A step a character, worth its place in the alphabet; of the whole it says nothing."""
    return {"score": None, "steps": [[i + 1, float(ord(x) - ord("a"))] for i, x in enumerate(text)]}


def silent_of_b(text):
    return None if "b" in text else float(len(text))


def broken(text):
    raise ValueError("no luck")
