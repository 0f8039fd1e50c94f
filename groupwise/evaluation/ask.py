"""What `groupwise sample` does: one question to one model."""

from pathlib import Path
from typing import Any

from groupwise.activity import doing
from groupwise.config import ModelConfig, SamplingConfig
from groupwise.data import Message, Sampling
from groupwise.engines.base import Task, generate, stream
from groupwise.engines.factory import open_engine
from groupwise.errors import DataError
from groupwise.evaluation.subject import is_run, recipe_in, trained
from groupwise.model.policy import load_policy
from groupwise.model.tokenizer import load_tokenizer
from groupwise.places import asked_file


def answers_to(
    model: str, question: str, *, samples: int, max_new_tokens: int, temperature: float, seed: int
) -> list[dict[str, Any]]:
    """Answers of a model to one question; temperature 0 is greedy.

    Raises DataError, before weights are loaded, for a question that is empty or too long.
    """
    if not question.strip():
        raise DataError("the question is empty", hint="give some text")
    own = ModelConfig(path=model)
    config = trained(Path(model), recipe_in(asked_file(model))).config if is_run(model) else own
    tokenizer = load_tokenizer(config)
    sampling = Sampling(max_new_tokens=max_new_tokens, temperature=temperature or 1.0, greedy=temperature == 0)
    tokens = tokenizer.encode((Message("user", question),))
    if len(tokens) + max_new_tokens > tokenizer.context:
        raise DataError(
            f"the question's {len(tokens)} tokens and --max-new-tokens {max_new_tokens} are more than the model's "
            f"context of {tokenizer.context}",
            hint="ask for fewer tokens",
        )
    with doing("loading the model"):
        policy = load_policy(config, tokenizer)
    task = Task(tuple(tokens), tuple(stream(seed, 0, "sample", number) for number in range(samples)))
    with open_engine(policy, SamplingConfig()) as engine, doing("sampling", samples, "outputs"):
        [outputs] = generate(engine, [task], sampling)
    return [{"text": o.text, "finish": o.finish, "tokens": len(o.tokens)} for o in outputs]
