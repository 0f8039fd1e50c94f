"""What a model's config says about how it computes: where something changes with position, and where rounding tips a
scale. Knows configs only; no weights."""

import copy
import re
from collections.abc import Iterator, Mapping
from typing import Any

_CALL_WIDE = {"longrope", "dynamic"}
"""Kinds of rotary positions whose angles, past a length, are those of the longest row in the call for every row."""
_CHOSEN = ("index_topk", "keep_window_size")
"""Settings in tokens past which attention sees a chosen few of the earlier ones."""
_LENGTHS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_target_positions")

_BEHIND_PADDING = {
    *("roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "camembert", "data2vec-text", "xmod"),
    *("esm", "ibert", "layoutlmv3", "lilt", "longformer", "luke", "markuplm", "mpnet"),
}
"""Kinds of model whose first token is at the row behind the padding token's in a table of `max_position_embeddings`."""

_NEAR = 4
_NEAR_CAP = 2.0
_PLACES = re.compile(
    r"(^|_)window(_size)?$|^local_attention$|^(attention_|mamba_)?chunk_size$|^block_size$|^floor_scale$"
    r"|^index_(topk_blocks|block_size)$|^original_max_position_embeddings$"
)
_CAPS = re.compile(r"soft_?cap(ping)?$|logit_cap$")
"""Names of settings in tokens at which attention, positions or a recurrence change; and of bounds on scores."""


def context(config: Any) -> tuple[int, str]:
    """Tokens that a question and its output may have together, and why it is no more, in words; "": its own limit.

    Past the length at which rotary angles change for a whole call, a token's log-probability depends on what shares
    the call, and kept keys have other angles than new ones: there is no one policy to sample from and to train. Nor is
    there where attention chooses what it sees by scores that rounding tips, in another way in every layout.
    """
    text = config.get_text_config(decoder=True)
    own = next((int(length) for name in _LENGTHS if (length := getattr(text, name, None) or 0) > 0), 2**31)
    if text.model_type in _BEHIND_PADDING and text.pad_token_id is not None:
        own -= text.pad_token_id + 1
    for name in _CHOSEN:
        chosen = getattr(text, name, None) or own
        if chosen < own:
            return chosen, f"attention sees a chosen few of the tokens past {chosen}"
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


def nearer(config: Any) -> Any | None:
    """A copy of a config whose windows, chunks and other places of change are a few tokens away, and whose caps are low
    enough to be felt; None if all are as near already, or too far to be reached."""
    found = copy.deepcopy(config)
    text = found.get_text_config(decoder=True)
    limit, why = context(config)
    changed = False
    for name, value in list(text.to_dict().items()):
        near = _nearer(name, value, limit=limit, turning=bool(why))
        if near != value:
            setattr(text, name, near)
            changed = True
    return found if changed else None


def _nearer(name: str, value: Any, *, limit: int, turning: bool) -> Any:
    if isinstance(value, Mapping):
        return {inner: _nearer(str(inner), held, limit=limit, turning=turning) for inner, held in value.items()}
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        return value
    if _CAPS.search(name):
        return min(_NEAR_CAP, value)
    # past a turning point nothing is computed (`context`), so it stays where it is
    far = _PLACES.search(name) and not (turning and name == "original_max_position_embeddings")
    return _NEAR if far and _NEAR < value < limit else value
