"""What `groupwise sample` does: one question to one model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from groupwise.activity import doing
from groupwise.config import ModelConfig, SamplingConfig
from groupwise.data import Message, Output, Question, Sampling, message_of_dict
from groupwise.datasets.images import images_of, placed
from groupwise.datasets.row import Row
from groupwise.engines.base import stream
from groupwise.engines.factory import capabilities_of, open_engine
from groupwise.envs.episode import Environments, environments_of
from groupwise.errors import DataError, RunError
from groupwise.evaluation.subject import is_run, recipe_in, trained
from groupwise.model.loading import load_policy
from groupwise.model.tokenizer import ChatTokenizer, load_tokenizer
from groupwise.places import asked_file
from groupwise.rollout.episodes import play


def answers_to(
    model: str,
    question: str,
    *,
    images: Sequence[str] = (),
    samples: int,
    max_new_tokens: int,
    temperature: float,
    seed: int,
) -> list[dict[str, Any]]:
    """Answers of a model to one question; temperature 0 is greedy. A run's engine and environment are used.

    images: files of pictures or data: URLs, each where the question has <image>; without any they come first. An answer
    has text, finish, tokens, and in an environment the episode's messages. Raises DataError, before weights are loaded,
    for a question that is empty or too long, or a picture; RunError if the environment fails.
    """
    if not question.strip():
        raise DataError("the question is empty", hint="give some text")
    config, rollout = _model(model)
    environments = environments_of(rollout)
    capabilities_of(rollout)
    asked = Question("sample", _with_pictures(question, images))
    tokenizer = load_tokenizer(config, stop=rollout.stop)
    _check_length(tokenizer, asked, environments, max_new_tokens)
    sampling = Sampling(
        max_new_tokens=max_new_tokens,
        temperature=temperature or 1.0,
        stop=rollout.stop,
        greedy=temperature == 0,
    )
    with doing("loading the model"):
        policy = load_policy(config, tokenizer)
    streams = [[stream(seed, 0, asked.id, number) for number in range(samples)]]
    with open_engine(policy, rollout) as engine, doing("sampling", samples, "outputs"):
        [played] = play(tokenizer, [asked], streams, engine=engine, sampling=sampling, environments=environments)
    failure = next(filter(None, played.failures), None)
    if failure is not None:
        raise RunError(
            f"rollout.environment = {rollout.environment!r}: {failure}",
            hint="it may need an answer that the question has not: groupwise eval asks the run's own questions",
        )
    return [_answer(output) for output in played.outputs]


def text_of(answer: dict[str, Any]) -> str:
    """An answer as a person reads it: its text, or all turns of its episode."""
    turns = answer.get("messages")
    if turns is None:
        return str(answer["text"])
    return "".join(f"\n  {turn['role']}: {message_of_dict(turn).content}" for turn in turns)


def _with_pictures(question: str, images: Sequence[str]) -> tuple[Message, ...]:
    if not images:
        return (Message("user", question),)
    row = Row(1, "--image", {"images": list(images)}, "sample", folder=".")
    return placed((Message("user", question),), row, images_of(row, row.cells))


def _model(model: str) -> tuple[ModelConfig, SamplingConfig]:
    """What is asked, and what samples and replies: those of a run's recipe; else the usual ones."""
    if not is_run(model):
        return ModelConfig(path=model), SamplingConfig()
    recipe = recipe_in(asked_file(model))
    return trained(Path(model), recipe).config, recipe.rollout or SamplingConfig()


def _check_length(tokenizer: ChatTokenizer, asked: Question, environments: Environments, max_new_tokens: int) -> None:
    messages, tools = environments.start(asked)
    length, replies = len(tokenizer.encode(messages, tools=tools)), environments.reply_tokens or 0
    if length + max_new_tokens + replies > tokenizer.context:
        beside = f", {replies} of the environment's replies" if replies else ""
        raise DataError(
            f"the question's {length} tokens{beside} and --max-new-tokens {max_new_tokens} are more than the model's "
            f"context of {tokenizer.context}",
            hint="ask for fewer tokens",
        )


def _answer(output: Output) -> dict[str, Any]:
    found: dict[str, Any] = {"text": output.text, "finish": output.finish, "tokens": len(output.tokens)}
    if output.messages:
        found["messages"] = [message.as_dict() for message in output.messages]
    return found
