"""An environment in one file: guess a digit in several turns; run by itself it trains the tiny model."""

import argparse
from collections.abc import Sequence

import groupwise
from groupwise.data import Message, Question


class GuessDigit:
    """Says + where the digit is larger than the guess, - where it is smaller, ? where there is no guess."""

    def __init__(self, *, guesses: int = 3) -> None:
        self.guesses = guesses

    def reset(self, question: Question) -> list[Message]:
        self.digit, self.left = int(question.answer), self.guesses
        return [Message("user", "guess")]

    def reply(self, messages: Sequence[Message]) -> list[Message] | None:
        self.left -= 1
        guess = messages[-1].content
        if guess == str(self.digit) or not self.left:
            return None
        if len(guess) != 1 or not guess.isdigit():
            return [Message("user", "?")]
        return [Message("user", "+" if int(guess) < self.digit else "-")]


def guessed(messages: Sequence[Message], question: Question) -> float:
    """1 for the digit in the last turn; before that, a little for each turn that is a digit at all."""
    turns = [message.content for message in messages if message.role == "assistant"]
    return float(turns[-1] == str(question.answer)) + 0.1 * sum(turn.isdigit() for turn in turns) / len(turns)


RECIPE = {
    "model": {"path": "tiny"},
    "questions": {"source": "arithmetic", "params": {"kinds": ["successor"]}, "heldout_size": 30},
    "rewards": [{"function": f"{__file__}:guessed"}],
    "rollout": {
        "environment": f"{__file__}:GuessDigit",
        "environment_params": {"guesses": 3},
        "questions_per_step": 16,
        "group_size": 16,
        "max_new_tokens": 6,
    },
    "objective": {"kl_coef": 0, "entropy_coef": 0.02},
    "update": {"steps": 150, "learning_rate": 3e-3},
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", default="runs/own_environment", help="the run directory")
    parser.add_argument("overrides", nargs="*", help="keys of the recipe, update.steps=10")
    chosen = parser.parse_args()
    groupwise.train(RECIPE, *chosen.overrides, run=chosen.run)
