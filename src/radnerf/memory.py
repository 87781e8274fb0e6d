"""Memory that the C library keeps though nobody uses it."""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util


def give_back() -> None:
    """Return freed memory to the system; does nothing where the C library is not glibc.

    Training frees and takes blocks of ever different sizes, between which glibc keeps holes: ten
    minutes of that are gigabytes.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(ctypes.util.find_library("c")).malloc_trim(0)
