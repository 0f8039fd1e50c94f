"""A model's weights as fp32 from its files, of any of transformers' classes. Runs no code of theirs unless told to."""

from typing import Any

import torch

from groupwise.errors import ModelError
from groupwise.model.finite import unsound_weight
from groupwise.model.memory import keep_freed_memory
from groupwise.model.source import NO_MODEL
from groupwise.model.threads import use_own_cores
from groupwise.model.tokenizer import ChatTokenizer, first_line


def auto_class(processor: Any) -> Any:
    """transformers' class that loads a model: with its vision tower where it has a processor of pictures."""
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    return AutoModelForCausalLM if processor is None else AutoModelForImageTextToText


def end_turns(model: Any, tokenizer: ChatTokenizer) -> None:
    """Gives the model's generation_config every token that ends an output here, so that what is saved of the model
    ends its turns under plain transformers too."""
    generation = model.generation_config
    ends = sorted(tokenizer.end_tokens)
    generation.eos_token_id = ends[0] if len(ends) == 1 else ends
    if generation.pad_token_id is None:
        generation.pad_token_id = tokenizer.tokenizer.pad_token_id


def read_weights(kind: Any, tokenizer: ChatTokenizer, *, where: str, **settings: Any) -> tuple[Any, list[str]]:
    """A model of one of transformers' auto classes, and the names of its weights that are in no file.

    Those are drawn at random, as transformers does. Raises ModelError if the files cannot be read."""
    keep_freed_memory()
    use_own_cores()
    settings |= {"dtype": torch.float32, "trust_remote_code": bool(tokenizer.trust_remote_code)}
    try:
        # weights_only: a pickle of anything but tensors is refused, and runs nothing
        model, found = kind.from_pretrained(tokenizer.source, output_loading_info=True, weights_only=True, **settings)
    except Exception as error:  # whatever a damaged, foreign or hostile file makes of transformers
        raise ModelError(f"{where}: {first_line(error)}", hint=NO_MODEL) from None
    unsound = unsound_weight(model.named_parameters())
    if unsound is not None:
        raise ModelError(f"{where}: {unsound}: every output would be noise", hint="give another checkpoint")
    if not tokenizer.trust_remote_code and hasattr(model.config, "auto_map"):
        del model.config.auto_map  # of code that does not run here, nor from what is saved
    return model, sorted(found["missing_keys"])
