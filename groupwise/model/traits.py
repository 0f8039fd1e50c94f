"""What a model's config says about how it computes: where something changes with position, and where rounding tips a
scale. Knows configs only; no weights."""

from collections.abc import Iterator, Mapping
from typing import Any

_CALL_WIDE = {"longrope", "dynamic"}
"""Kinds of rotary positions whose angles, past a length, are those of the longest row in the call for every row."""
_LENGTHS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_target_positions")


def context(config: Any) -> tuple[int, str]:
    """Tokens that a question and its output may have together, and why it is no more, in words; "": its own limit.

    Past the length at which rotary angles change for a whole call, a token's log-probability depends on what shares
    the call, and kept keys have other angles than new ones: there is no one policy to sample from and to train.
    """
    text = config.get_text_config(decoder=True)
    own = next((int(length) for name in _LENGTHS if (length := getattr(text, name, None) or 0) > 0), 2**31)
    for parameters in _rotary(getattr(text, "rope_parameters", None)):
        kind = str(parameters.get("rope_type", parameters.get("type", "")))
        if kind in _CALL_WIDE:
            turning = _turning_point(kind, parameters, text, own)
            if turning < own:
                return turning, f"rotary positions ({kind}) change for the whole call past {turning} tokens"
    return own, ""


def routes_tokens(config: Any) -> bool:
    """True if a router sends tokens to some of several experts: by a hair, rounding may send one elsewhere."""
    text = config.get_text_config(decoder=True).to_dict()
    return any("expert" in name and isinstance(value, int) and value > 1 for name, value in text.items())


def _rotary(parameters: Any) -> Iterator[Mapping[str, Any]]:
    """The settings of rotary positions, one set or one for each kind of layer."""
    if isinstance(parameters, Mapping):
        yield parameters
        for inner in parameters.values():
            yield from _rotary(inner)


def _turning_point(kind: str, parameters: Mapping[str, Any], text: Any, own: int) -> int:
    if kind == "dynamic":
        return own
    outside = getattr(text, "original_max_position_embeddings", None)
    return int(outside or parameters.get("original_max_position_embeddings") or own)
