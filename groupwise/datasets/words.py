"""Small tasks with words, one word to answer: instructions that can be checked without arithmetic. Reads no file.

Each kind is a set of numbered questions (`groupwise.datasets.numbered`). Answers are in small letters, except for
`capitals`.
"""

from collections.abc import Callable, Sequence
from typing import Any

from groupwise.data import Question
from groupwise.datasets.numbered import Space, check_choices, mixed


def _listed(words: str) -> tuple[str, ...]:
    return tuple(words.split())


_ANIMALS = _listed(
    "ant bear bee camel cat cow crab deer dog donkey duck eagle elephant fox frog giraffe goat goose hamster horse "
    "lion monkey mouse otter owl panda parrot penguin pig rabbit shark sheep snake spider tiger turtle whale wolf zebra"
)
_COLOURS = _listed("black blue brown green grey orange pink purple red white yellow")
_THINGS = _listed(
    "bag ball basket bell bench blanket boat book bottle bowl box bridge broom brush bucket button candle car chair "
    "clock coat cup curtain desk door drum envelope fence fork guitar hammer hat house jacket kettle key kitchen knife "
    "ladder lamp letter mirror needle newspaper oven pencil pillow plate pocket road rope sail shoe spoon stairs "
    "suitcase table telephone ticket towel train umbrella wallet wheel window"
)
_FOODS = _listed(
    "apple banana bean bread butter cabbage cake carrot cheese cherry egg fig grape honey lemon mushroom noodle onion "
    "pasta peach pear pepper plum potato rice salt soup spinach strawberry sugar tomato walnut"
)
_WORDS = (*_ANIMALS, *_THINGS, *_FOODS)
_GROUPS = {"animal": _ANIMALS, "colour": _COLOURS, "food": _FOODS}
_OPPOSITES = _listed(
    "big/small hot/cold up/down left/right day/night open/closed full/empty fast/slow wet/dry light/dark old/young "
    "high/low hard/soft long/short rich/poor happy/sad early/late near/far strong/weak thick/thin loud/quiet good/bad "
    "clean/dirty true/false first/last inside/outside begin/end buy/sell push/pull win/lose give/take love/hate "
    "remember/forget cheap/expensive narrow/wide north/south east/west summer/winter black/white easy/difficult"
)
_PLURALS = _listed(
    "mouse/mice goose/geese foot/feet tooth/teeth man/men woman/women child/children wolf/wolves leaf/leaves "
    "knife/knives wife/wives half/halves shelf/shelves thief/thieves city/cities baby/babies lady/ladies story/stories "
    "party/parties country/countries box/boxes fox/foxes bus/buses glass/glasses dish/dishes watch/watches "
    "church/churches potato/potatoes tomato/tomatoes hero/heroes dog/dogs cat/cats book/books car/cars tree/trees "
    "house/houses table/tables apple/apples friend/friends river/rivers"
)


def questions(seed: int, size: int | None = None, *, kinds: Sequence[str] | None = None) -> list[Question]:
    """`size` distinct word tasks in random order, evenly over kinds.

    kinds: of KINDS; None: all of them. size None: 2000, or every question if there are fewer. meta["wrong"] has answers
    that are wrong. Raises ConfigError for an unknown kind, or if there are fewer than `size` questions.
    """
    chosen = list(KINDS) if kinds is None else kinds
    check_choices("kinds", chosen, list(KINDS), noun="kind")
    return mixed(seed, size, {kind: (KINDS[kind](), {"kind": kind}) for kind in chosen}, kinds=chosen)


Asked = tuple[str, str, dict[str, Any]]


def _asked(text: str, answer: str, *wrong: str) -> Asked:
    return text, answer, {"wrong": [other for other in dict.fromkeys(wrong) if other != answer]}


def _longest() -> list[Space]:
    short = [word for word in _WORDS if len(word) <= 4]
    long = [word for word in _WORDS if len(word) >= 6]

    def ask(pair: tuple[str, str], other: str, place: int) -> Asked:
        words = [*pair]
        words.insert(place, other)
        return _asked(f"Which of these words is the longest: {', '.join(words)}?", other, *pair)

    pairs = [(one, other) for one in short for other in short if one != other]
    return [Space((pairs, long, range(3)), ask)]


def _last() -> list[Space]:
    def ask(first: str, second: str, third: str) -> Asked:
        return _asked(f"What is the last word of this list: {first}, {second}, {third}?", third, first, second)

    return [Space((_COLOURS, _THINGS, _ANIMALS), ask)]


def _odd_one_out() -> list[Space]:
    def among(others: str, group: str) -> Space:
        def ask(pair: tuple[str, str], odd: str, place: int) -> Asked:
            words = [*pair]
            words.insert(place, odd)
            return _asked(f"Which of these words is {_one(group)}: {', '.join(words)}?", odd, *pair)

        of = _GROUPS[others]
        pairs = [(one, other) for one in of for other in of if one != other]
        return Space((pairs, [word for word in _GROUPS[group] if word not in of], range(3)), ask)

    return [among(others, group) for others in _GROUPS for group in _GROUPS if others != group]


def _one(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def _first_letter() -> list[Space]:
    def ask(word: str) -> Asked:
        return _asked(f"What is the first letter of the word {word}?", word[0], word[-1], word[1])

    return [Space((_WORDS,), ask)]


def _capitals() -> list[Space]:
    def ask(word: str) -> Asked:
        return _asked(f"Write the word {word} in capital letters.", word.upper(), word)

    return [Space((_WORDS,), ask)]


def _repeat() -> list[Space]:
    def ask(colour: str, thing: str) -> Asked:
        return _asked(f"Repeat these two words: {colour} {thing}.", f"{colour} {thing}", thing, f"{thing} {colour}")

    return [Space((_COLOURS, _WORDS), ask)]


def _opposite() -> list[Space]:
    def ask(pair: str, way: int) -> Asked:
        asked, answer = pair.split("/")[:: 1 - 2 * way]
        return _asked(f"What is the opposite of the word {asked}?", answer, asked, f"very {asked}")

    return [Space((_OPPOSITES, range(2)), ask)]


def _plural() -> list[Space]:
    def ask(pair: str) -> Asked:
        one, many = pair.split("/")
        return _asked(f"What is the plural of the word {one}?", many, one, f"{one}en")

    return [Space((_PLURALS,), ask)]


KINDS: dict[str, Callable[[], list[Space]]] = {
    "longest": _longest,
    "last": _last,
    "odd_one_out": _odd_one_out,
    "first_letter": _first_letter,
    "capitals": _capitals,
    "repeat": _repeat,
    "opposite": _opposite,
    "plural": _plural,
}
