"""Where a model computes, and with how many bits."""

import torch

from groupwise.errors import ModelError
from groupwise.model.tokenizer import first_line


def pick_device(name: str, section: str = "model") -> torch.device:
    """The device behind `auto`, or the one named. Raises ModelError if it is not there."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        # PyTorch lists every device type that it has ever known
        reason = "no such device" if "device type at start of" in str(error) else first_line(error)
        raise ModelError(f"{section}.device = {name!r}: {reason}", hint="try auto or cpu") from None
    return device


def pick_precision(name: str, device: torch.device) -> torch.dtype:
    """Of the products: `auto` is bf16 on CUDA and fp32 elsewhere."""
    return torch.bfloat16 if name == "bf16" or (name == "auto" and device.type == "cuda") else torch.float32
