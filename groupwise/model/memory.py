"""Keeping memory that a step has freed, instead of giving it back to the system and taking it again every step."""

import ctypes
import sys

_KEEP_BYTES = 2**31 - 1
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3  # glibc's malloc.h
_TOP_PAD_BYTES = 64 * 2**20


def keep_freed_memory() -> bool:
    """Raises glibc's thresholds, as MALLOC_MMAP_THRESHOLD_ and its kin would; True if the C library took them.

    By default glibc maps each large tensor anew and the kernel zeroes its pages: a sixth of a step's CPU time.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is None:
        return False
    settings = (
        (_M_MMAP_THRESHOLD, _KEEP_BYTES),
        (_M_TRIM_THRESHOLD, _KEEP_BYTES),
        (_M_TOP_PAD, _TOP_PAD_BYTES),
    )
    return all(mallopt(name, value) == 1 for name, value in settings)
