"""How the demo's loops are compiled: by Numba, kept on disk where a folder for it can be had."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import numba

from radnerf.compiling import say_when_compiling

say_when_compiling()

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """A function that others call for a point, a sample or a pixel."""
    return _compile(function)


def parallel(function: F) -> F:
    """A loop over rows that run side by side."""
    return _compile(function, parallel=True)


def _compile(function: F, **options: Any) -> F:
    # Without what the tests wrap around every function to check its shapes.
    bare = inspect.unwrap(function)
    try:
        return numba.njit(fastmath=True, nogil=True, cache=True, **options)(bare)
    except RuntimeError:
        # Neither beside the package nor in the user's folder can the result be kept.
        return numba.njit(fastmath=True, nogil=True, **options)(bare)
