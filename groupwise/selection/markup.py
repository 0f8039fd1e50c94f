"""Text without what only lays it out: LaTeX, HTML, characters of no width. Knows no words and no language."""

import html
import re
import unicodedata

_TAG = re.compile(r"</?(?:b|i|u|em|strong|p|br|span|div|sub|sup|code|pre|ul|ol|li|h[1-6])\b[^<>]*>", re.IGNORECASE)
_DELIMITER = re.compile(r"\\[()\[\]]|\\(?:begin|end)\{(?:equation|align|math|displaymath)\*?\}|\$")
_STYLE = re.compile(
    r"\\(?:text|mathrm|mathbf|mathit|mathsf|textbf|textit|emph|operatorname|boxed|displaystyle)\b\*?\s*"
)
_SIZE = re.compile(r"\\(?:left|right|big|Big|bigg|Bigg)[lr]?(?![a-zA-Z])\s*")
_SPACE = re.compile(r"\\[,;:!> ]|\\q?quad\b|~|\\\\|&(?!\w)")
_FRACTION = re.compile(r"\\[dtc]?frac\s*(?:\{([^{}]*)\}|(\d))\s*(?:\{([^{}]*)\}|(\d))")
_OPERATORS = (
    *((r"times", " * "), (r"cdot", " * "), (r"div", " / "), (r"leq?", " <= "), (r"geq?", " >= "), (r"neq?", " != ")),
    *((r"pm", " ± "), (r"pi", " π "), (r"degree", "°"), (r"%", "%"), (r"\$", " "), (r"\{", "{"), (r"\}", "}")),
)
_COMMANDS = tuple(
    (re.compile(rf"\\{name}" + ("(?![a-zA-Z])" if name.rstrip("?").isalpha() else "")), spoken)
    for name, spoken in _OPERATORS
)
_SIGNS = {
    **dict.fromkeys("×·⋅∗", "*"),
    **dict.fromkeys("÷∕⁄", "/"),
    **dict.fromkeys("’‘´′", "'"),
    **dict.fromkeys("“”″", '"'),
    "≤": " <= ",
    "≥": " >= ",
    "≠": " != ",
}
_ONE_SIGN = str.maketrans(_SIGNS)
_GROUPED = re.compile(r"(?<=\d)(?:\{,\}|,)(?=\d{3}(?!\d))")
_RAISED = re.compile(r"([\^_])\{([^{}]*)\}")
_ALONE = re.compile(r"\{([^{}]*)\}")


def unmarked(text: str) -> str:
    r"""The text without LaTeX's delimiters and styles, HTML's tags and entities and characters of no width.

    `$6 + 7$`, `\(6+7\)`, `6 + 7` and `<b>6</b> + 7` are one; so are a fraction and a quotient, the signs of a product,
    and `1,000`, `1{,}000` and `1000`.
    """
    plain = _TAG.sub(" ", html.unescape(text))
    if not plain.isascii():
        plain = "".join(char for char in plain if unicodedata.category(char) != "Cf")
    if "\\" in plain or "$" in plain:
        plain = _SPACE.sub(" ", _SIZE.sub("", _STYLE.sub("", _DELIMITER.sub(" ", plain))))
        plain = _FRACTION.sub(lambda found: f" {found[1] or found[2]} / {found[3] or found[4]} ", plain)
        for command, spoken in _COMMANDS:
            plain = command.sub(spoken, plain)
    plain = _RAISED.sub(r"\1\2", plain)
    plain = _GROUPED.sub("", unicodedata.normalize("NFKC", plain).translate(_ONE_SIGN))
    return _ALONE.sub(r" \1 ", plain) if "\\" in text or "$" in text else plain
