"""The C allocator, told to keep what the network frees.

A network frees and asks for the same activations call after call. By default glibc gives large blocks back to the
system each time and has every page zeroed anew: on two CPU cores a call of 32 rows took 10 to 20% longer for it, and
calls of some sizes, on some runs, twice as long (`docs/results/rows.md`).
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_NEVER_TRIM = 2**31 - 1
_LARGEST_BLOCKS = (1 << 30, 32 << 20)  # older versions of glibc take at most the second


@cache
def keep_freed_memory() -> bool:
    """Make the process keep freed blocks for its next calls, once; its memory then stays at its peak.

    False, and nothing changed, where the C library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    kept = any(mallopt(_M_MMAP_THRESHOLD, size) == 1 for size in _LARGEST_BLOCKS)
    return bool(mallopt(_M_TRIM_THRESHOLD, _NEVER_TRIM) == 1 and kept)
