"""Questions for the environment `textarena`: a game and a seed each. Knows neither games nor the package."""

import random

from groupwise.data import Message, Question
from groupwise.errors import ConfigError


def questions(seed: int, size: int = 500, *, id: str) -> list[Question]:
    """`size` games of one id of TextArena, each with a seed of its own.

    id: such as Wordle-v0. meta["textarena"] has the id and the seed; the environment shows the game in place of the
    question's text. Raises ConfigError for what is no id.
    """
    if not isinstance(id, str) or not id:
        raise ConfigError(f"questions.params.id = {id!r}", hint="give an id of TextArena, such as GuessTheNumber-v0")
    seeds = random.Random(f"textarena {seed}").sample(range(2**31), size)
    return [
        Question(
            f"{id}:{own}",
            (Message("user", f"{id}, game {own}"),),
            meta={"textarena": {"id": id, "seed": own}, "_plain": True},
        )
        for own in seeds
    ]
