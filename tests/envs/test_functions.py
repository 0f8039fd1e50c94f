"""Python functions as tools, and classes written for TRL."""

from typing import ClassVar

import pytest

from groupwise.config import SamplingConfig
from groupwise.data import Message, Question, ToolCall
from groupwise.envs.episode import close, environments_of
from groupwise.envs.functions import Functions
from groupwise.envs.tools import Tools, calculator
from groupwise.errors import ConfigError
from tests.project.sources import ROOT

OWN = ROOT / "tests" / "envs" / "test_functions.py"
QUESTION = Question("q", (Message("user", "how many? "),), answer="3", meta={"start": 2, "_plain": True})


def pick(word: str, times: int = 2, *, apart: list[str] | None = None) -> list[str]:
    """Repeats a word.

    Args:
        word: The word.
        times: How often.
        apart: Words that are left out.
    """
    return [word] * times


async def later(word: str) -> str:
    """Says it later.

    Args:
        word: What to say.
    """
    return word


def untyped(word):
    """Has no types.

    Args:
        word: A word.
    """


def undescribed(word: str, much: int) -> str:
    """Leaves a parameter out.

    Args:
        word: A word.
    """


class Counter:
    """As TRL's environment_factory takes it."""

    def reset(self, start: int, **row):
        self.count, self._row = start, row
        return f"from {start}"

    def add(self, number: int) -> int:
        """Adds to the count.

        Args:
            number: What to add.
        """
        self.count += number
        return self.count

    def get_reward(self) -> float:
        return float(str(self.count) == self._row["answer"])


class Basket:
    """Keeps what is put into it, until it is closed."""

    open: ClassVar = []

    def __init__(self, *, broken: bool = False) -> None:
        self.things: list[str] = []
        self.broken = broken
        self.open.append(self)

    def put(self, thing: str) -> list[str]:
        """Puts a thing into the basket and says what is in it.

        Args:
            thing: Its name.
        """
        self.things.append(thing)
        return self.things

    def close(self) -> None:
        self.open.remove(self)
        if self.broken:
            raise OSError("it is torn")


class Shop(Basket):
    """One for all."""

    shared = True


class Counted:
    """A toolset that describes itself."""

    made: ClassVar = []

    def __init__(self) -> None:
        self.made.append(self)

    def schemas(self):
        return [{"type": "function", "function": {"name": "count", "description": "-", "parameters": {}}}]

    def call(self, name, arguments):
        return str(len(self.made))


def put(thing):
    return ToolCall("put", {"thing": thing})


def called(environment, *calls):
    turns = [Message("user", "-"), Message("assistant", "-", calls=calls)]
    return [message.content for message in environment.reply(turns) or ()]


def test_a_schema_is_made_of_type_hints_and_docstring():
    (schema,) = Functions([pick]).schemas()
    assert (schema["function"]["name"], schema["function"]["description"]) == ("pick", "Repeats a word.")
    parameters = schema["function"]["parameters"]
    assert parameters["required"] == ["word"]
    assert parameters["properties"]["word"] == {"type": "string", "description": "The word."}
    assert parameters["properties"]["times"] == {"type": "integer", "default": 2, "description": "How often."}


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (untyped, "its parameter 'word' has no type hint"),
        (undescribed, "does not say what 'much' is"),
        (lambda word: word, "has no docstring"),
    ],
)
def test_a_function_that_does_not_describe_itself_is_refused(function, why):
    with pytest.raises((TypeError, ValueError), match=why):
        Functions([function])


def test_a_call_is_checked_made_and_answered_in_text():
    tools = Functions([pick, later, calculator])
    assert tools.call("pick", {"word": "a", "times": "3"}) == '["a", "a", "a"]'
    assert tools.call("later", {"word": "a"}) == "a"
    assert tools.call("pick", {"times": 1}) == "error: pick: word: Missing required argument"
    assert tools.call("pick", {"word": "a", "often": 1}) == "error: pick: often: Unexpected keyword argument"
    assert tools.call("calculator", {"expression": "1/0"}).startswith("error: calculator: ZeroDivisionError")
    assert "did you mean 'pick'" in tools.call("pik", {})


@pytest.mark.parametrize(
    ("expression", "value"),
    {
        "2 + 3*4": "14",
        "2^10": "1024",
        "7 / 2": "3.5",
        "-7 // 2": "-4",
        "sqrt(2)": "1.41421356237",
        "0.1 + 0.2": "0.3",
        "(1 + 2) × 3": "9",
        "max(1, 2, round(2.6))": "3",
        "10**30": "1" + "0" * 30,
    }.items(),
)
def test_the_calculator_works_out(expression, value):
    assert calculator(expression) == value


@pytest.mark.parametrize(
    "expression",
    [
        *("9**9**9", "10**4000", "exp(1000)", "1e400", "1" * 201),
        *("__import__('os')", "a", "(1).real", "[1]", "'a' * 10", "1 if 1 else 2", "round(number=1)", "factorial(5)"),
        *("", "(" * 150, "(-1)**0.5", "True + 1", "1 < 2"),
    ],
)
def test_the_calculator_refuses(expression):
    with pytest.raises((ValueError, TypeError, ArithmeticError)):
        calculator(expression)


def test_the_tools_answer_each_call_until_there_is_none():
    environment = Tools(tools=["calculator", f"{OWN}:pick"], max_calls=4, max_characters=30, system="Use the tools.")
    assert [schema["function"]["name"] for schema in environment.tools] == ["calculator", "pick"]
    assert [message.role for message in environment.reset(QUESTION)] == ["system", "user"]
    four = ToolCall("calculator", {"expression": "2+2"})
    assert called(environment, four, ToolCall("pick", {"word": "abcdefgh", "times": 9})) == [
        "4",
        '["abcdefgh", "abcdefgh", "abcd\n... cut here, 108 characters in all',
    ]
    assert called(environment, ToolCall("", {}, error="it names no tool"), ToolCall("add", {})) == [
        "error: the call of a tool cannot be read: it names no tool",
        "error: there is no tool 'add'; the tools are: calculator, pick",
    ]
    assert called(environment, four) == ["error: no calls are left, the most is 4; answer now"]
    assert environment.reply([Message("assistant", "4")]) is None
    assert environment.outcome() == {"calls": 4, "failed_calls": 3}


@pytest.mark.parametrize(
    ("tools", "why"),
    [
        ([], "give a list"),
        ("calculator", "give a list"),
        (["calculater"], r"tools\[0\] = 'calculater': no such name"),
        (["calculator", "calculator"], "two are named 'calculator'"),
        ([f"{OWN}:untyped"], "no type hint"),
        ([{"name": "calculator"}], "give a name, or {tool"),
        ([{"tool": "calculator", "params": {"digits": 3}}], "a function takes no params"),
    ],
)
def test_a_tool_that_cannot_be_offered_is_refused(tools, why):
    with pytest.raises(ConfigError, match=why):
        environments_of(SamplingConfig(environment="tools", environment_params={"tools": tools}))


def test_a_class_for_trl_is_played_as_it_is():
    environments = environments_of(SamplingConfig(environment=f"{OWN}:Counter"))
    assert (environments.several, environments.rewards) == (True, True)
    environment = environments.make()
    assert [schema["function"]["name"] for schema in environment.tools] == ["add"]
    assert environment.reset(QUESTION) == [Message("user", "how many? from 2")]
    assert called(environment, ToolCall("add", {"number": 1})) == ["3"]
    assert environment.reply([Message("assistant", "3")]) is None
    assert environment.outcome() == {"count": 3, "reward": 1.0}


def test_each_episode_has_its_own_instance_of_a_class_which_is_closed_with_it():
    kind = environments_of(SamplingConfig(environment="tools", environment_params={"tools": [f"{OWN}:Basket"]}))
    first, second = kind.make(), kind.make()
    live = type(first._own[0]).open
    assert len(live) == 2  # what was tried before the start is closed
    assert called(first, put("egg")) == ['["egg"]']
    assert called(second, put("ham"), put("jam")) == ['["ham"]', '["ham", "jam"]']
    assert called(first, put("oat")) == ['["egg", "oat"]']
    assert len(live) == 2
    close(first)
    close(first)
    assert [basket.things for basket in live] == [["ham", "jam"]]
    close(second)
    assert live == []


def test_every_instance_is_closed_even_if_one_cannot_be():
    environment = Tools(tools=[{"tool": f"{OWN}:Basket", "params": {"broken": True}}])
    [torn] = environment._own
    environment._own.append(type(torn)())
    with pytest.raises(OSError, match="it is torn"):
        environment.close()
    assert torn.open == []
    with pytest.raises(ConfigError, match="two are named 'put'"):
        Tools(tools=[f"{OWN}:Basket", {"tool": f"{OWN}:Basket", "params": {"broken": True}}])
    assert torn.open == []  # what was made for it is closed


def test_what_is_marked_as_shared_or_describes_itself_is_made_once():
    first, second = (Tools(tools=[f"{OWN}:Shop", f"{OWN}:Counted"]) for _ in range(2))
    assert called(first, put("egg"), ToolCall("count", {})) == ['["egg"]', "1"]
    first.close()
    assert called(second, put("ham"), ToolCall("count", {})) == ['["egg", "ham"]', "1"]


def test_examples_stand_between_the_systems_text_and_the_question():
    examples = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]
    asked = Question("q", (Message("system", "Be brief."), Message("user", "3+3?")))
    shown = Tools(tools=["calculator"], system="Use the tool.", examples=examples).reset(asked)
    assert [(turn.role, turn.content) for turn in shown] == [
        ("system", "Use the tool.\n\nBe brief."),
        ("user", "2+2?"),
        ("assistant", "4"),
        ("user", "3+3?"),
    ]
    assert [turn.role for turn in Tools(tools=["calculator"]).reset(asked)] == ["system", "user"]
    for wrong in ("2+2?", {"role": "user"}, {"role": "system", "content": "x"}, {"role": "user", "content": 4}):
        with pytest.raises(ConfigError, match=r"environment_params.examples\[0\]"):
            Tools(tools=["calculator"], examples=[wrong])
