"""Keeping freed memory in the process: on a CPU, that is most of what a network's forward pass waits for."""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Final

_TRIM_THRESHOLD: Final = -1  # names of glibc's mallopt(3)
_MMAP_MAX: Final = -4
_LARGEST_INT: Final = 2**31 - 1


@cache
def keep_freed_memory() -> None:
    """Let this process keep what it frees; does nothing where the C library is not glibc.

    glibc asks the system for every large block anew and gives it back when it is freed, and the system clears the
    pages each time they are touched again: more work than the activations that are written there.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, _LARGEST_INT)
