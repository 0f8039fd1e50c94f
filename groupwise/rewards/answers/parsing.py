"""Formulas in LaTeX or plain text, read as trees: x^2 + 1, \\frac{1}{2}, 2\\sqrt3, sin(pi/6)."""

import re
from fractions import Fraction

from groupwise.rewards.answers.formula import Number, Operation, Symbol, Tree

DEEPEST = 40
"""Levels of nesting that are read."""


class NotAFormula(ValueError):
    """The text cannot be read as one."""


# fmt: off
FUNCTIONS = frozenset((
    "sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "asin", "acos", "atan", "sinh", "cosh",
    "tanh", "ln", "log", "lg", "exp", "sqrt", "abs", "floor", "ceil",
))
_CONSTANTS = {"pi": "pi", "infty": "infinity", "infinity": "infinity", "inf": "infinity", "oo": "infinity"}
_GREEK = (
    "alpha", "beta", "gamma", "delta", "epsilon", "varepsilon", "zeta", "eta", "theta", "vartheta", "iota", "kappa",
    "lambda", "mu", "nu", "xi", "rho", "sigma", "tau", "upsilon", "phi", "varphi", "chi", "psi", "omega", "Gamma",
    "Delta", "Theta", "Lambda", "Xi", "Sigma", "Phi", "Psi", "Omega", "ell", "hbar",
)
# fmt: on
_NAMED = _CONSTANTS | {name: name for name in _GREEK}
_UPRIGHT = ("mathrm", "text", "textrm", "mathit", "textit", "operatorname", "mbox", "mathsf", "texttt", "rm")
_DRESSED = ("mathbf", "vec", "overline", "hat", "bar", "mathbb", "mathcal", "boldsymbol", "bm", "overrightarrow")
_PAIRS = {"(": ")", "[": "]", "{": "}", "\\{": "\\}"}
_BARS = {"|": ("|", "|"), "\\lvert": ("\\rvert", "|"), "\\vert": ("\\vert", "|"), "\\lfloor": ("\\rfloor", "floor"),
         "\\lceil": ("\\rceil", "ceil")}  # fmt: skip

_ENDS = (*")]},;=<>", "\\}", "\\rvert", "\\rfloor", "\\rceil")

_IGNORED = re.compile(
    r"\\(?:left|right|[bB]igg?[lrm]?|displaystyle|textstyle|limits|quad|qquad|mathopen|mathclose|[,;:! ])"
    r"(?![a-zA-Z])|\\[,;:! ]|~|\$"
)
_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+\.\d+|\.\d+|\d+\.?)(?P<exponent>[eE][-+]?\d+(?![\w.]))?"
    r"|(?P<command>\\(?:[a-zA-Z]+|[%{}|]))|(?P<word>[^\W\d_]+)|(?P<sign>\*\*|.))",
    re.DOTALL,
)
_POSTFIX = re.compile(r"\s*(?:(?P<power>\^|\*\*)|(?P<factorial>!)|(?P<percent>\\?%)|(?P<degree>°))")
_DEGREE = re.compile(r"\s*\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![a-zA-Z])|\{\s*\\degree\s*\})|\s*\\degree(?![a-zA-Z])")
_INDEX = re.compile(r"\s*_\s*(?:\{\s*(\w+)\s*\}|(\w))")
_ADD = re.compile(r"\s*(?P<sign>[-+]|\\pm(?![a-zA-Z])|\\mp(?![a-zA-Z]))")
_TIMES = re.compile(r"\s*(?P<sign>\*(?!\*)|/|\\(?:times|cdot|ast|div)(?![a-zA-Z]))")
_MIXED = re.compile(
    r"\s*\\[dtc]?frac\s*(?:\{\s*(\d+)\s*\}|(\d))\s*(?:\{\s*(\d+)\s*\}|(\d))|\s+(\d+)\s*/\s*(\d+)(?![\d.])"
)


def parsed(text: str) -> Tree:
    """The formula as a tree. Raises NotAFormula if any part of it cannot be read.

    Words are not products of their letters; `2xy` is one, since a number stands in front of it."""
    reader = _Reader(_IGNORED.sub(" ", text))
    tree = reader.sum()
    if not reader.done():
        raise NotAFormula(text)
    return tree


class _Reader:
    """A place in a text, and the rules that read on from there (recursive descent, one method a rule)."""

    def __init__(self, text: str) -> None:
        self.text, self.at, self.depth, self.bars = text, 0, 0, 0

    def done(self) -> bool:
        return not self.text[self.at :].strip()

    def sum(self) -> Tree:
        terms = [self._signed(self._taken(_ADD))]
        while found := self._taken(_ADD):
            terms.append(self._signed(found))
        return terms[0] if len(terms) == 1 else Operation("+", tuple(terms))

    def _signed(self, found: "re.Match[str] | None") -> Tree:
        sign = found["sign"] if found else "+"
        self._deeper()
        if (another := self._taken(_ADD)) is not None:  # 3 + -2
            self.at = another.start()
            inner = self._signed(self._taken(_ADD))
        else:
            inner = self._product()
        self.depth -= 1
        wrapped = {"-": "-", r"\pm": "+-", r"\mp": "-+"}
        return Operation(wrapped[sign], (inner,)) if sign in wrapped else inner

    def _deeper(self) -> None:
        self.depth += 1
        if self.depth > DEEPEST:
            raise NotAFormula("too deeply nested")

    def _product(self) -> Tree:
        tree, divisions = self._power(), 0
        while True:
            before = self.at, self.depth, self.bars
            if found := self._taken(_TIMES):
                sign = found["sign"]
                minus = self._taken(re.compile(r"\s*-"))
                factor = self._power()
                factor = Operation("-", (factor,)) if minus else factor
                divisions += sign in ("/", r"\div")
                if divisions > DEEPEST:  # each is a level of the tree
                    raise NotAFormula("too many divisions behind one another")
                tree = Operation("/", (tree, factor)) if sign in ("/", r"\div") else _times(tree, factor)
                continue
            following = self._peek()
            if following is None or following in _ENDS or (following == "|" and self.bars):
                return tree
            try:
                tree = _times(tree, self._power(after=tree))
            except NotAFormula:
                self.at, self.depth, self.bars = before
                return tree

    def _power(self, after: "Tree | None" = None) -> Tree:
        tree = self._atom(after)
        for _ in range(DEEPEST):
            if self._taken(_DEGREE):
                tree = Operation("degree", (tree,))
                continue
            found = self._taken(_POSTFIX)
            if found is None:
                return tree
            if found["power"]:
                tree = Operation("^", (tree, self._exponent()))
            else:
                name = "!" if found["factorial"] else "%" if found["percent"] else "degree"
                tree = Operation(name, (tree,))
        raise NotAFormula("too many signs behind one another")

    def _exponent(self) -> Tree:
        """What stands above; of 2^3^2 the 3^2."""
        self._deeper()
        minus = self._taken(re.compile(r"\s*-"))
        tree = self._argument(whole_numbers=True)
        if self._taken(re.compile(r"\s*(?:\^(?!\s*\{?\s*\\circ)|\*\*)")):
            tree = Operation("^", (tree, self._exponent()))
        self.depth -= 1
        return Operation("-", (tree,)) if minus else tree

    def _atom(self, after: "Tree | None") -> Tree:
        found = _TOKEN.match(self.text, self.at)
        if found is None:
            raise NotAFormula("nothing there")
        start, self.at = self.at, found.end()
        if found["number"]:
            if isinstance(after, Number):
                raise NotAFormula("two numbers side by side")
            return self._number(found)
        if found["command"]:
            return self._command(found["command"][1:])
        if found["word"]:
            return self._word(found["word"], found.start("word"), after)
        sign = found["sign"]
        if sign in _BARS:
            return self._between(*_BARS[sign])
        if sign in _PAIRS:
            return self._grouped(_PAIRS[sign])
        self.at = start
        raise NotAFormula(sign)

    def _number(self, found: "re.Match[str]") -> Tree:
        digits = found["number"]
        whole, _, decimals = digits.partition(".")
        exponent = int(found["exponent"][1:]) if found["exponent"] else 0
        if abs(exponent) > 10_000:
            raise NotAFormula("an exponent beyond any answer")
        value = Fraction(int(whole or 0)) + (Fraction(int(decimals), 10 ** len(decimals)) if decimals else 0)
        places = len(decimals) - exponent if decimals else None
        number = Number(value * Fraction(10) ** exponent, places)
        mixed = None if decimals or exponent else _MIXED.match(self.text, self.at)
        if mixed:
            above, below = (int(part) for part in mixed.groups() if part is not None)
            if 0 < above < below:
                self.at = mixed.end()
                return Number(value + Fraction(above, below))
        return number

    def _command(self, name: str) -> Tree:
        if name in ("frac", "dfrac", "tfrac", "cfrac"):
            return Operation("/", (self._argument(), self._argument()))
        if name in ("binom", "dbinom", "tbinom"):
            return Operation("binom", (self._argument(), self._argument()))
        if name == "sqrt":
            degree = self._grouped("]") if self._taken(re.compile(r"\s*\[")) else None
            inner = self._argument(whole_numbers=True)
            return Operation("sqrt", (inner,)) if degree is None else Operation("root", (inner, degree))
        if name in FUNCTIONS:
            return self._function(name)
        if name in _NAMED:
            return self._indexed(_NAMED[name])
        if "\\" + name in _BARS:
            return self._between(*_BARS["\\" + name])
        if name in _UPRIGHT or name in _DRESSED:
            content = self._braces()
            if content in FUNCTIONS:
                return self._function(content)
            if name in _DRESSED or len(content) == 1:
                return self._indexed(content)
        raise NotAFormula(name)

    def _word(self, word: str, start: int, after: "Tree | None") -> Tree:
        for known in (word, word.lower()):
            if known in FUNCTIONS and self._peek() in ("(", "\\", "^", "_", *"0123456789"):
                return self._function(known)
            if known in _CONSTANTS and len(known) > 1:
                return self._indexed(_CONSTANTS[known])
        alone = (
            len(word) > 1
            and not isinstance(after, Number)
            and not self.text[:start].rstrip().endswith(tuple("+-*/^({"))
        )
        if not re.fullmatch("[a-zA-Z]{1,3}|[α-ωΑ-Ω]", word) or (
            alone and self.text[self.at :].lstrip()[:1] not in tuple("+-*/^_")
        ):
            raise NotAFormula(word)
        self.at = start + 1
        attached = re.compile(r"\d+(?![\d.])").match(self.text, self.at)
        if attached:  # x1 is x_1
            self.at = attached.end()
            return Symbol(f"{word[0]}_{attached.group()}")
        return self._indexed(word[0])

    def _indexed(self, name: str) -> Tree:
        found = self._taken(_INDEX)
        return Symbol(f"{name}_{found[1] or found[2]}" if found else name)

    def _function(self, name: str) -> Tree:
        base = self._argument() if name == "log" and self._taken(re.compile(r"\s*_")) else None
        power = self._argument(whole_numbers=True) if self._taken(re.compile(r"\s*\^")) else None
        following = self._peek()
        inner = (
            self._grouped(")") if following == "(" and self._taken(re.compile(r"\s*\(")) else self._without_brackets()
        )
        tree: Tree = Operation(name, (inner,) if base is None else (inner, base))
        return tree if power is None else Operation("^", (tree, power))

    def _without_brackets(self) -> Tree:
        r"""What \sin 2x \cos x gives to its first function: factors up to the next function."""
        if self._peek() == "{":
            return self._argument()
        tree = self._power()
        while (following := self._peek()) and (following.isalpha() or following in ("\\pi", "\\theta", "\\alpha")):
            found = _TOKEN.match(self.text, self.at)
            if found is None or (found["word"] or "") in FUNCTIONS:
                break
            tree = _times(tree, self._power(after=tree))
        return tree

    def _argument(self, *, whole_numbers: bool = False) -> Tree:
        r"""What a command is given: a group in braces, else one token; of \frac12 one digit, of 2^10 the number."""
        self._taken(re.compile(r"\s+"))
        if self.text[self.at : self.at + 1] == "{":
            self.at += 1
            return self._grouped("}")
        if self.text[self.at : self.at + 1].isdigit() and not whole_numbers:
            self.at += 1
            return Number(Fraction(int(self.text[self.at - 1])))
        return self._atom(None)

    def _grouped(self, closing: str) -> Tree:
        tree = self.sum()
        self._taken(re.compile(r"\s+"))
        if not self.text.startswith(closing, self.at):
            raise NotAFormula(f"no {closing}")
        self.at += len(closing)
        return tree

    def _between(self, closing: str, name: str) -> Tree:
        self.bars += 1
        tree = Operation(name, (self._grouped(closing),))
        self.bars -= 1
        return tree

    def _braces(self) -> str:
        found = self._taken(re.compile(r"\s*\{\s*([^{}\\]*?)\s*\}"))
        if found is None:
            raise NotAFormula("no braces")
        return found[1]

    def _peek(self) -> str | None:
        found = _TOKEN.match(self.text, self.at)
        return None if found is None else found["command"] or found.group().strip()[:1] or None

    def _taken(self, pattern: "re.Pattern[str]") -> "re.Match[str] | None":
        found = pattern.match(self.text, self.at)
        if found:
            self.at = found.end()
        return found


def _times(tree: Tree, factor: Tree) -> Tree:
    """A product of many factors in one operation, however many."""
    before = tree.operands if isinstance(tree, Operation) and tree.name == "*" else (tree,)
    return Operation("*", (*before, factor))
