"""What a run needs of disk and memory, asked for before its weights are loaded. Loads no weights itself."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from groupwise.config import ModelConfig, Recipe, RejectionRecipe, RLRecipe
from groupwise.data import Question
from groupwise.envs.episode import environments_of
from groupwise.errors import ModelError
from groupwise.learn.microbatches import usual_tokens
from groupwise.model import checkpoint as checkpoints
from groupwise.model.device import pick_device
from groupwise.model.features import KEPT_BYTES
from groupwise.model.footprint import footprint
from groupwise.model.free import free_bytes
from groupwise.model.lora import add_adapters
from groupwise.model.parts import train_parts
from groupwise.model.tokenizer import ChatTokenizer
from groupwise.model.weights import auto_class
from groupwise.rollout.lengths import longest_question, spread
from groupwise.run.disk import require_disk
from groupwise.run.memory_parts import Models, Need, model_bytes, need, shown, to_sample

R = TypeVar("R", bound=Recipe)
SURELY = 0.75  # of what is counted is needed in any case; between that and all of it a run may end for want of memory
PICTURE_STATES = 8.0  # pixels and tower's states of a picture's token, in states of the decoder
FEWEST_TOKENS = 256  # of a micro-batch that is chosen here: below that products are slow


@dataclass(frozen=True)
class Estimate:
    """said: lines about disk and memory. tokens: of a micro-batch, if fewer than usual fit; else None."""

    message: str
    tokens: int | None


def require_memory(
    recipe: Recipe,
    tokenizer: ChatTokenizer,
    folder: Path,
    *,
    beside: Mapping[str, ChatTokenizer],
    train: Sequence[Question] = (),
    heldout: int,
) -> Estimate:
    """Raises if the disk cannot hold the checkpoints, or the memory what this run holds; loads no weights.

    beside: the models beside the policy (`groupwise.run.readers.readers`). train: questions to learn from; heldout:
    number of those that are evaluated on.
    """
    policy = _empty(tokenizer, recipe.model, adapted=recipe.model.lora is not None)
    renewed = isinstance(recipe, RLRecipe) and recipe.objective.reference_every > 0
    own_trunk, reference, teacher = (
        [_empty(beside[section], recipe.model)] if section in beside else []
        for section in ("critic", "model", "teacher")
    )
    trained = [policy, *own_trunk]
    one = checkpoints.bytes_needed(*trained, with_optimizer=True)
    one += sum(model_bytes(model) for model in reference if renewed)
    disk = require_disk(recipe, folder, checkpoint=one, heldout=heldout)
    question, replies = _lengths(recipe, tokenizer, train)

    def needed(recipe: Recipe, models: Models) -> Need:
        found = need(recipe, models, question=question, replies=replies, heldout=heldout)
        return replace(found, held={**found.held, "pictures": pictures})

    models = Models(trained, [*reference, *teacher], footprint(policy))
    pictures = _pictures(tokenizer, train, models.size.state)
    remedies: list[tuple[str, Recipe, Models]] = [
        *((words, changed, models) for words, changed in _smaller(recipe)),
        *([("objective.kl_coef=0", recipe, replace(models, asked=teacher))] if reference else []),
        *([("critic.trunk=shared", recipe, replace(models, trained=[policy]))] if own_trunk else []),
    ]
    found, tokens = _fitting(recipe, lambda recipe: needed(recipe, models))
    less = ((words, needed(changed, left)) for words, changed, left in remedies)
    message = _require_memory(recipe, found, less, what="training")
    if tokens is not None:
        message += f"; micro-batches have {tokens} tokens, for more do not fit (update.tokens_per_microbatch)"
    return Estimate(f"{disk}\n{message}", tokens)


def _lengths(recipe: Recipe, tokenizer: ChatTokenizer, questions: Sequence[Question]) -> tuple[int, int]:
    """Tokens of the longest question, and of an output's replies: as many as may be sampled, where no one says."""
    if recipe.rollout is None:
        return longest_question(tokenizer, questions), 0
    environments, most = environments_of(recipe.rollout), recipe.rollout.max_new_tokens
    question = longest_question(tokenizer, questions, environments)
    replies = most if environments.reply_tokens is None else environments.reply_tokens
    return question, max(0, min(replies, tokenizer.context - question - most))


def _fitting(recipe: Recipe, needed: Callable[[Recipe], Need]) -> tuple[Need, int | None]:
    """What the run needs; if that is more than is free and the recipe leaves the micro-batch open, with the largest
    half, quarter ... of the usual one that fits, and its tokens."""
    usual, free = needed(recipe), free_bytes(pick_device(recipe.model.device))
    if recipe.update.tokens_per_microbatch is not None or free is None or usual.bytes <= free:
        return usual, None
    tokens = usual_tokens(pick_device(recipe.model.device).type) // 2
    while tokens >= FEWEST_TOKENS:
        found = needed(_changed(recipe, "update", tokens_per_microbatch=tokens))
        if found.bytes <= free:
            return found, tokens
        tokens //= 2
    return usual, None


def _smaller(recipe: Recipe) -> list[tuple[str, Recipe]]:
    """Settings that take less memory and change nothing that is learned, each with the recipe that has it."""
    rows, tokens = 1 if recipe.rollout is None else max(1, recipe.rollout.max_num_seqs // 4), FEWEST_TOKENS
    return [
        *(
            []
            if recipe.rollout is None
            else [(f"rollout.max_num_seqs={rows}", _changed(recipe, "rollout", max_num_seqs=rows))]
        ),
        (f"update.tokens_per_microbatch={tokens}", _changed(recipe, "update", tokens_per_microbatch=tokens)),
        ("update.activation_checkpointing=layers", _changed(recipe, "update", activation_checkpointing="layers")),
    ]


def _changed(recipe: R, section: str, **values: Any) -> R:
    return recipe.model_copy(update={section: getattr(recipe, section).model_copy(update=values)})


def require_memory_to_sample(recipe: RejectionRecipe, tokenizer: ChatTokenizer, train: Sequence[Question] = ()) -> None:
    """Raises ModelError if the memory cannot hold a run that trains nothing."""
    model, (question, replies) = _empty(tokenizer, recipe.model), _lengths(recipe, tokenizer, train)
    rows = max(1, recipe.rollout.max_num_seqs // 4)
    size, fewer, changed = (
        footprint(model),
        f"rollout.max_num_seqs={rows}",
        _changed(recipe, "rollout", max_num_seqs=rows),
    )
    found, less = (to_sample(each, model, size, question=question, replies=replies) for each in (recipe, changed))
    _require_memory(recipe, found, [(fewer, less)], what="sampling from")


def _require_memory(recipe: Recipe, needed: Need, remedies: Iterable[tuple[str, Need]], *, what: str) -> str:
    """A line about the memory. Raises ModelError if it is clearly too small, with the settings that would do."""
    device = pick_device(recipe.model.device)
    free = free_bytes(device)
    message = f"memory: {what} {recipe.model.path} needs about {shown(needed.bytes)} on {device}"
    if free is None:
        return message
    if needed.bytes * SURELY > free:
        tried = list(remedies)
        would_do = [words for words, less in tried if less.bytes <= free]
        helping = [words for words, less in tried if less.bytes < 0.9 * needed.bytes]
        hint = "use a smaller model" + "".join(f", or {words}" for words in would_do)
        if not would_do and helping:
            hint += f"; {', '.join(helping)} would take less"
        raise ModelError(
            f"not enough memory on {device}: {what} {recipe.model.path} needs about {shown(needed.bytes)} ({needed}); "
            f"{shown(free)} are free",
            hint=hint,
        )
    return message + f", {shown(free)} are free" + ": it may not be enough" * (needed.bytes > free)


def _pictures(tokenizer: ChatTokenizer, questions: Sequence[Question], state: float) -> float:
    """Bytes of what is kept of the questions' pictures. state: bytes of a token's state in the decoder."""
    if tokenizer.gallery is None or not questions:
        return 0.0
    looked_at = spread(questions)
    images = [image for question in looked_at for message in question.messages for image in message.images]
    tokens = tokenizer.gallery.tokens_of(images) * len(questions) / len(looked_at)
    return min(float(KEPT_BYTES), tokens * state * PICTURE_STATES)


def _empty(tokenizer: ChatTokenizer, config: ModelConfig, *, adapted: bool = False) -> torch.nn.Module:
    """The model without its weights. config: the policy's, which says what learns."""
    with torch.device("meta"):
        trust = bool(tokenizer.trust_remote_code)
        model: torch.nn.Module = auto_class(tokenizer.processor).from_config(
            tokenizer.config, dtype=torch.float32, trust_remote_code=trust
        )
        learns = config if adapted else config.model_copy(update={"lora": None})
        train_parts(model, learns, pictures=tokenizer.processor is not None)
        if adapted:
            add_adapters(model, config, seed=0)
    return model
