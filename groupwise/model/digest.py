"""A short digest of weights: two models of one shape are told apart, whichever way their files are cut."""

import hashlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

_SAMPLE = 256  # words of each weight whose places count too; the sum counts all, in any place


@torch.no_grad()
def weights_digest(weights: Mapping[str, Tensor]) -> str:
    """Digest of tensors by name: shapes, the sum of all their bytes as 64-bit words, and some words at even distances.

    It depends on no rounding, thread or device, and costs one pass over the memory.
    """
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(weights.items()):
        raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        words = raw[: len(raw) // 8 * 8].view(np.uint64)
        total = np.add.reduce(words, dtype=np.uint64)  # wraps around
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} {total}".encode())
        digest.update(words[:: max(1, len(words) // _SAMPLE)].tobytes() + raw[len(words) * 8 :].tobytes())
    return digest.hexdigest()
