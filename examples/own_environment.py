"""An environment in one file: a secret that is shown to whoever asks; run by itself it trains the tiny model."""

import argparse
from collections.abc import Sequence

import groupwise
from groupwise.data import Message, Question

SECRETS = "ab"


def secret_of(question: Question) -> str:
    """One of SECRETS, each for as many questions."""
    return SECRETS[int(question.answer) % len(SECRETS)]


class AskFirst:
    """The turn `?` asks for the secret, which is shown then; any other turn is a guess and ends the episode."""

    reply_tokens = 8

    def reset(self, question: Question) -> list[Message]:
        self.hidden: str | None = secret_of(question)
        return [Message("user", "-")]

    def reply(self, messages: Sequence[Message]) -> list[Message] | None:
        shown, self.hidden = self.hidden, None
        return [Message("user", shown)] if shown and messages[-1].content == "?" else None


def guessed(messages: Sequence[Message], question: Question) -> float:
    """1 if the last turn is the secret."""
    return float(messages[-1].content == secret_of(question))


def in_form(messages: Sequence[Message], question: Question) -> float:
    """Half for asking first, half for any of the secrets after that."""
    first, *later = (turn.content for turn in messages if turn.role == "assistant")
    return 0.5 * (first == "?") + 0.5 * (later in [[secret] for secret in SECRETS])


RECIPE = {
    "model": {"path": "tiny"},
    "questions": {"source": "arithmetic", "params": {"kinds": ["successor"], "levels": [1]}, "heldout_size": 0},
    "rewards": [{"function": f"{__file__}:guessed"}, {"function": f"{__file__}:in_form", "weight": 0.5}],
    "rollout": {"environment": f"{__file__}:AskFirst", "stop": ["?", *SECRETS]}
    | {"questions_per_step": 10, "group_size": 16, "max_new_tokens": 2},
    "objective": {"kl_coef": 0, "entropy_coef": 0.02},
    "update": {"steps": 100, "learning_rate": 3e-3},
    "evaluate": {"correct": "guessed"},
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", default="runs/own_environment", help="the run directory")
    parser.add_argument("overrides", nargs="*", help="keys of the recipe, update.steps=10")
    chosen = parser.parse_args()
    groupwise.train(RECIPE, *chosen.overrides, run=chosen.run)
