"""Python values as JSON that keeps their types. Runs within the sandbox, beside code that may do what it likes to it.

Nothing here decides anything: what it writes are values, and they are compared outside. Its text is put in front of
harnesses (groupwise.rewards.programs.harness), so it imports little and nothing of groupwise.
"""

from _json import encode_basestring_ascii

DEEPEST, MOST = 60, 200_000
"""Levels and values that are written; beyond them a value is none that could be right."""
_ITERATORS = (
    *(type(iter(kind())) for kind in (list, tuple, dict, set, str, bytes)),
    *(map, filter, zip, enumerate, reversed, type(_ for _ in ()), type(reversed([]))),
)


def encoded(value, classes=()):  # type: ignore[no-untyped-def]
    """The value as JSON: null, true, text, [list] and whole numbers below 2^53 as they are, all else as {"tag": ..}.

    classes: those whose instances are written with what they hold."""
    return _written(value, 0, [MOST], classes)


def _written(value, depth, left, classes):  # type: ignore[no-untyped-def]
    left[0] -= 1
    if depth > DEEPEST - 4 or left[0] < 0:  # some forms are two levels deep
        return '{"?": "too deep or too large"}'
    if value is None or value is True or value is False:
        return {None: "null", True: "true", False: "false"}[value]
    kinds = type(value).__mro__

    def several(tag, values):  # type: ignore[no-untyped-def]
        inside = ", ".join([_written(one, depth + 1, left, classes) for one in values])
        return "[" + inside + "]" if tag == "l" else '{"' + tag + '": [' + inside + "]}"

    if str in kinds:
        return encode_basestring_ascii(value)
    if int in kinds:
        plain = int.__add__(value, 0)
        return str(plain) if -(2**53) < plain < 2**53 else '{"i": "' + format(plain, "x") + '"}'
    if float in kinds:
        return '{"f": "' + float.__repr__(value) + '"}'
    if complex in kinds:
        return '{"c": ["' + repr(value.real) + '", "' + repr(value.imag) + '"]}'
    if bytes in kinds or bytearray in kinds:
        return '{"b": "' + bytes(value).hex() + '"}'
    for kind, tag in ((list, "l"), (tuple, "t"), (set, "s"), (frozenset, "z")):
        if kind in kinds:
            return several(tag, kind.__iter__(value))
    if dict in kinds:
        return several("d", [list(pair) for pair in dict.items(value)])
    if kinds[0] is range:
        return several("r", (value.start, value.stop, value.step))
    if kinds[0] in _ITERATORS or kinds[0].__name__ in ("dict_keys", "dict_values", "dict_items"):
        return several("n", [one for one, _ in zip(value, range(MOST))])  # noqa: B905
    name = kinds[0].__name__
    if kinds[0].__module__ in ("decimal", "fractions", "collections") and name in ("Decimal", "Fraction", "deque"):
        return several("x", (name, list(value) if name == "deque" else str(value)))
    if kinds[0] in classes:
        return several("o", (name, dict(vars(value))))
    return '{"?": ' + encode_basestring_ascii(name) + "}"
