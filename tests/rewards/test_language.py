"""The share of words in the target language; every share here is counted by hand."""

import pytest

from groupwise.rewards.language import LANGUAGES, language
from tests.close import close
from tests.rewards.build import question

ASKED = question()


@pytest.mark.parametrize(
    ("text", "target", "of", "words"),
    [
        ("First I add the tens: 40 + 20 = 60. Then I add the units.", "en", 9, 9),  # I stands alone
        ("Zuerst addiere ich die Zehner, dann die Einer.", "de", 8, 8),
        ("Zuerst addiere ich die Zehner, dann die Einer.", "en", 0, 8),
        ("First we add the tens and get 60. Luego sumamos las unidades.", "en", 7, 11),
        ("First we add the tens and get 60. Luego sumamos las unidades.", "es", 4, 11),
        ("We multiply 6 by 7. Das ergibt 42.", "en", 3, 5),
        ("We need to find the total, also rechnen wir alles zusammen.", "en", 6, 11),  # within one sentence
        ("Let me check the result: 检查一下 it is right.", "en", 8, 12),  # each of 检查一下 counts
        ("Let me check the result: 检查一下 it is right.", "zh", 4, 12),
        ("共10个鸡蛋", "zh", 4, 4),  # what hangs on a digit is a symbol, but not where no space ends a word
        ("これは日本語の文章です。", "ja", 11, 11),
        ("これは日本語の文章です。", "zh", 0, 11),
        ("Сначала сложим десятки, then the units.", "en", 3, 6),
        ("Сначала сложим десятки, потом единицы.", "ru", 5, 5),
        ("पहले हम दहाई जोड़ते हैं।", "hi", 5, 5),  # vowel signs part no word
        ("It costs $5 加上 $6 in all.", "en", 4, 6),  # two prices are no formula
    ],
)
def test_the_share_is_that_of_the_words(text, target, of, words):
    assert close(language(text, ASKED, language=target), of / words)


@pytest.mark.parametrize(
    "hidden",
    [
        "`suma_total`",
        "`uno dos tres`",
        "```python\nprint('hola mundo')\n```",
        "```\nhola mundo",  # cut off at the limit
        "$una + dos$",
        "$$una\n+ dos$$",
        r"\(una = dos\)",
        r"\[ una = dos \]",
        r"\begin{align*} una &= dos \end{align*}",
        r"\boxed{\text{el gato}}",
        r"\frac{uno}{dos}",
        "<respuesta>",
        "x = 5 * y",
        "12km",
        "das_ist_ein_name",
        "α β γ",
    ],
)
def test_code_formulas_tags_and_symbols_are_no_words(hidden):
    # three words, one of them another language's
    assert close(language(f"We see 猫 here. {hidden}", ASKED), 3 / 4)
    assert language(hidden, ASKED) is None


@pytest.mark.parametrize(
    ("text", "think", "output"),
    [
        ("<think>我们算</think> <answer>twelve apples</answer>", 0, 2 / 5),
        ("<think>We add the numbers.</think> <answer>苹果</answer>", 1, 4 / 6),
        ("We add the numbers.</think> 苹果", 1, 4 / 6),  # the prompt opened it
        ("<think>We add the numbers 我们", 4 / 6, 4 / 6),  # the limit cut it off
        ("We add the numbers 我们", 4 / 6, 4 / 6),
    ],
)
def test_the_reasoning_is_judged_where_it_is_marked(text, think, output):
    assert close(language(text, ASKED), think)
    assert close(language(text, ASKED, within="output"), output)


@pytest.mark.parametrize("text", ["", "40 + 20 = 60", "<think></think> <answer>twelve</answer>", "x = n"])
def test_of_no_words_there_is_no_share(text):
    assert language(text, ASKED) is None


def test_a_short_word_that_could_be_anything_counts_as_the_targets():
    assert language("So 5 + 7 = 12.", ASKED) == 1


def test_the_text_decides_alone_whatever_was_scored_before():
    texts = ["We add the tens.", "Das ergibt 42.", "Luego sumamos las unidades."]
    first = [language(text, ASKED) for text in texts]
    assert [language(text, ASKED) for text in reversed(texts)] == first[::-1]


def test_the_library_knows_every_language_of_the_table():
    for target in {name for names in LANGUAGES.values() for name in names}:
        assert language("42", ASKED, language=target) is None


@pytest.mark.parametrize(
    ("params", "message"),
    [({"language": "english"}, "language = 'english': choose from ar, bg"), ({"within": "all"}, "choose from think")],
)
def test_a_setting_that_is_not_known_raises_on_the_first_output(params, message):
    with pytest.raises(ValueError, match=message):
        language("", ASKED, **params)


@pytest.mark.timeout(20)
def test_a_megabyte_of_openings_is_read_in_one_pass():
    for hostile in ("\\[" * 500_000, "\\begin{a}" * 110_000, "$" * 10**6, "<a" * 500_000, "\\a{" * 300_000):
        assert language(hostile, ASKED) is None
