"""Memory that is freed: returned to the system, or retained for the next step."""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util

# Numbers of glibc's mallopt, and what they are set to, in bytes: how much freed memory at the
# heap's end it keeps, and from which size on blocks are taken from the system one by one (at most
# this; the largest that a step takes again and again are the gradients of tables, 8 MB).
M_TRIM_THRESHOLD, RETAINED = -1, 1 << 30
M_MMAP_THRESHOLD, LARGEST = -3, 1 << 25


def release_memory() -> None:
    """Return freed memory to the system; does nothing where the C library is not glibc.

    Training frees and takes blocks of ever different sizes, between which glibc keeps holes: ten
    minutes of that are gigabytes.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(ctypes.util.find_library("c")).malloc_trim(0)


def retain_freed_memory() -> None:
    """Retain freed memory until release_memory(); does nothing where the C library is not glibc.

    Else the large blocks of a training step go back to the system, and the next step gets them as
    new pages, which have to be cleared: up to 1,600 of them, 3 milliseconds of 35.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(ctypes.util.find_library("c"))
        library.mallopt(M_TRIM_THRESHOLD, RETAINED)
        library.mallopt(M_MMAP_THRESHOLD, LARGEST)
