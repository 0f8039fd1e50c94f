"""LaTeX in one spelling, and text cut where no bracket is open. Knows signs, not what they mean."""

import re

from groupwise.rewards.answers.spelling import plain, ungrouped

OPENING, CLOSING = "([{", ")]}"
_TEXT = re.compile(
    r"\\(?:text|textrm|textup|textnormal|textit|mathrm|mathit|mbox|hbox|mathsf|texttt|operatorname)\s*\{([^{}\\]*)\}"
)
_BOLD = re.compile(r"\\(?:textbf|mathbf|bf|boldsymbol|bm|underline|fbox|boxed|emph|ensuremath)\s*\{([^{}]*)\}")
_SIZES = re.compile(r"\\(?:left|right|[bB]igg?[lrm]?|displaystyle|textstyle|mathopen|mathclose|limits)(?![a-zA-Z])\.?")
_CIRCLE = re.compile(
    r"\s*\^\s*(?:\{\s*\\(?:circ|degree)\s*\}|\\(?:circ|degree)(?![a-zA-Z]))|\\(?:degree|textdegree)(?![a-zA-Z])"
)
_SPACE = re.compile(r"(?<!\\)\\[,;:!> ]|\\q?quad(?![a-zA-Z])|\\(?:h|v)space\*?\{[^{}]*\}|\\newline|~")
_RESPELLED = (
    (re.compile(r"\\(?:lbrace|\{)(?![a-zA-Z])"), r"\\{"),
    (re.compile(r"\\(?:rbrace|\})(?![a-zA-Z])"), r"\\}"),
    (re.compile(r"\\l?angle(?![a-zA-Z])\s*(?=[^A-Z])"), "("),
    (re.compile(r"\\rangle(?![a-zA-Z])"), ")"),
    (re.compile(r"\\(?:leq|leqslant)(?![a-zA-Z])"), r"\\le "),
    (re.compile(r"\\(?:geq|geqslant)(?![a-zA-Z])"), r"\\ge "),
    (re.compile(r"\\neq(?![a-zA-Z])"), r"\\ne "),
    (re.compile(r"\\lt(?![a-zA-Z])"), "<"),
    (re.compile(r"\\gt(?![a-zA-Z])"), ">"),
    (re.compile(r"<=|=<"), r"\\le "),
    (re.compile(r">=|=>"), r"\\ge "),
    (re.compile(r"!=(?!=)"), r"\\ne "),
    (re.compile(r"\\varnothing|\\O(?![a-zA-Z])"), r"\\emptyset "),
    (re.compile(r"\\mathbb\s*\{R\}|\\mathbb R|\\R(?![a-zA-Z])|ℝ"), r"(-\\infty,\\infty)"),
    (re.compile(r"\\(?:colon|ratio)(?![a-zA-Z])"), ":"),
    (re.compile(r"\\(?:land|wedge)(?![a-zA-Z])"), " and "),
    (re.compile(r"\\(?:lor|vee)(?![a-zA-Z])"), " or "),
    (re.compile(r"\\(?:ldots|cdots|dots)(?![a-zA-Z])"), "..."),
    (re.compile(r"(?<=[\d)])\s*\\text(?=\{)"), r" \\text"),
)


def respelled(text: str) -> str:
    r"""The text with one spelling for each sign, without dollar signs of LaTeX, \text{}, sizes, and marks around it."""
    text = ungrouped(plain(text))
    text = text.replace(r"\$", "\x01")
    text = text.replace("$", "\x01" if text.count("$") == 1 else "")
    text = re.sub(r"\\[()\[\]]", " ", text).replace("\x01", "$")
    for _ in range(3):
        text = _TEXT.sub(lambda found: f" {found[1]} ", _BOLD.sub(r" \1 ", text))
    text = _CIRCLE.sub("°", _SIZES.sub("", text))
    text = _SPACE.sub(" ", text)
    for pattern, sign in _RESPELLED:
        text = pattern.sub(sign, text)
    text = re.sub(r"°\s+(?=[CF]\b)", "°", text)
    return bare(text)


def bare(text: str) -> str:
    """Without white space, emphasis and full stops around it."""
    before = None
    while text != before:
        before, text = text, text.strip().strip('`*"').removesuffix("\\").rstrip(".,;:").strip()
        if text[:1] == "{" and text[-1:] == "}" and closed_at(text) == len(text) - 1:
            text = text[1:-1]
    return text


def split(text: str, separator: "re.Pattern[str]") -> tuple[list[str], list[str]]:
    """The pieces of a text between separators outside of all brackets, and these separators."""
    depth, depths = 0, []
    for sign in text:
        depth += (sign in OPENING) - (sign in CLOSING)
        depths.append(depth)
    found = [match for match in separator.finditer(text) if match.end() > match.start() and not depths[match.start()]]
    starts = [0, *(match.end() for match in found)]
    ends = [*(match.start() for match in found), len(text)]
    return [text[start:end] for start, end in zip(starts, ends, strict=True)], [
        match.group().strip() for match in found
    ]


def closed_at(text: str) -> int:
    """Where the bracket that the text begins with is closed; -1 if nowhere."""
    depth = 0
    for at, sign in enumerate(text):
        depth += (sign in OPENING) - (sign in CLOSING)
        if depth == 0:
            return at
    return -1
