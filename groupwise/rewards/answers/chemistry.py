r"""Chemical formulas, however they are set: CH4, CH_4, CH₄, \text{CH}_4, \ce{CH4}. Knows elements, no reactions."""

import re

from groupwise.rewards.answers.latex import respelled

_ELEMENTS = (
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr Nb "
    "Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au "
    "Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm"
)
_ATOM = rf"(?:{'|'.join(sorted(_ELEMENTS.split(), key=len, reverse=True))})(?:_?\d+)?"
_GROUP = rf"(?:{_ATOM}|[(\[](?:{_ATOM}|\((?:{_ATOM})+\)(?:_?\d+)?)+[)\]](?:_?\d+)?)"
_TERM = rf"\d*{_GROUP}+(?:\^?\d*[-+])?"
_FORMULA = re.compile(rf"{_TERM}(?:(?:\+|->|\.){_TERM})*")
_CE = re.compile(r"\\ce\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
_ARROW = re.compile(r"\\(?:x?rightarrow|longrightarrow|to)(?![a-zA-Z])|-+>|[→⟶]|=+")
_SEPARATOR = re.compile(r"[,;]|(?<=[\s\d)}])(?:and|和|与|及)(?=[\sA-Z\\])")


def formulas(text: str) -> tuple[str, ...] | None:
    """The chemical formulas that a text is, with _ before each count and ^ before a charge; None for another text.

    One without any count or charge is a word, or a product of variables."""
    spelled = _ARROW.sub("->", respelled(_CE.sub(r" \1 ", text))).replace(r"\cdot", ".")
    pieces = [re.sub(r"[\s{}]", "", piece) for piece in _SEPARATOR.split(spelled)]
    if not all(re.search(r"\d|[-+]$", piece) and _FORMULA.fullmatch(piece) for piece in pieces):
        return None
    return tuple(map(_marked, pieces))


def same_formulas(gold: str, given: str) -> bool:
    """Whether two texts are the same formulas, in any order; CH4 and Fe3+ say not what is a count and what a charge."""
    right, answered = formulas(gold), formulas(given)
    if right is None or answered is None:
        return False
    if not all(re.search(r"[_^₀-₉⁰¹²³-⁹⁺⁻]", text) for text in (gold, given)):
        right, answered = (tuple(re.sub(r"[_^]", "", one) for one in some) for some in (right, answered))
    return sorted(right) == sorted(answered)


def _marked(formula: str) -> str:
    formula = re.sub(r"(?<=[A-Za-z)\]])_?(?=\d)", "_", formula)
    return re.sub(r"(?<=[A-Za-z)\]])(?=[-+]$)|(?<=_\d)(?=[-+]$)", "^", formula)
