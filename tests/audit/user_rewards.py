"""Rewards with faults that an attack must find."""


def contains(text, question):
    """Pays for the right answer anywhere in the text."""
    return float(str(question.answer) in text)


def breaks(text, question):
    """Right for short texts; fails on long ones, as a parser without a limit does."""
    if len(text) > 10_000:
        raise RecursionError("too deep")
    return float(text.strip() == str(question.answer))


def constant(text, question):
    """Pays for anything."""
    return 1.0


def by_length(text, question):
    """Pays for each character, up to ten."""
    return min(len(text), 10) / 10


def raises(text, question):
    raise ValueError("it cannot judge anything")


def asks_for_a_column(completions, level, **columns):
    return [float(wanted) for wanted in level]


def fails_on_nothing(text, question):
    """The last word; none in an empty text."""
    return float(text.split()[-1] == str(question.answer))


def of_turns(messages, question):
    """A digit for each turn, by who says it, and whether the answer is right."""
    said = {"assistant": 1, "tool": 2}
    shown = sum(said[message.role] * 10**-place for place, message in enumerate(messages, 1))
    return shown + float(messages[-1].content == str(question.answer))
