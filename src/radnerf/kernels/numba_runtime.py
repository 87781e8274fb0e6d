"""How Numba loops are compiled and run here. Imported at the first call only: it loads Numba."""

from __future__ import annotations

import ctypes
import inspect
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import numba
import torch
from numba.core import config

from radnerf.compiling import say_when_compiling
from radnerf.team import team

say_when_compiling()

# Reordering and fusing of sums is welcome; NaN and infinity keep their meaning.
FAST = {"reassoc", "contract", "nsz", "arcp"}

# OpenMP first: Linux wheels of torch and Numba then share one runtime and its threads, which
# otherwise spin on each other's cores.
if "NUMBA_THREADING_LAYER_PRIORITY" not in os.environ:
    config.THREADING_LAYER_PRIORITY = ["omp", "tbb", "workqueue"]


def loop(function: Callable[..., None]) -> Callable[..., None]:
    """Compile a parallel loop, kept on disk; see run()."""
    return _compile(function, fastmath=FAST)


def exact_loop(function: Callable[..., None]) -> Callable[..., None]:
    """As loop(), with every operation rounded as written (as torch does)."""
    return _compile(function, fastmath=False)


def serial_loop(function: Callable[..., None]) -> Callable[..., None]:
    """As loop(), on one core: for work too short for several."""
    return _compile(function, fastmath=FAST, parallel=False)


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a helper that loops call."""
    return numba.njit(inline="always", error_model="numpy", fastmath=FAST)(_bare(function))


def exactly_inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """As inlined(), for exact loops."""
    return numba.njit(inline="always", error_model="numpy")(_bare(function))


def _compile(
    function: Callable[..., None], fastmath: Any, parallel: bool = True
) -> Callable[..., None]:
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": fastmath}
    options["parallel"] = parallel
    try:
        compiled = numba.njit(cache=True, **options)(_bare(function))
    except RuntimeError:
        # Neither beside the package nor in the user's folder can the result be kept.
        return numba.njit(**options)(_bare(function))
    # Numba compiles anew when the function's own file has changed; what it calls is in others.
    compiled._cache._cache_file._source_stamp = sources()
    return compiled


@cache
def sources() -> tuple[tuple[str, int, int], ...]:
    """What changes when a file of kernels does."""
    folder = Path(__file__).parent
    files = {path.relative_to(folder).as_posix(): path.stat() for path in folder.rglob("*.py")}
    return tuple(sorted((name, file.st_mtime_ns, file.st_size) for name, file in files.items()))


def _bare(function: Callable[..., Any]) -> Callable[..., Any]:
    """Without what the tests wrap around every function to check its shapes."""
    return inspect.unwrap(function)


def threads() -> int:
    """Threads that run() gives a loop now: as many as torch uses, see team.py."""
    return min(team.look(), config.NUMBA_NUM_THREADS)


def run(compiled: Callable[..., None], *arguments: Any) -> None:
    """Call a loop with as many threads as torch uses, from any Python thread.

    Tensors are passed as the arrays that share their memory: hand in detached, contiguous ones.
    """
    guard = _start()
    numba.set_num_threads(threads())
    arrays = [a.numpy() if isinstance(a, torch.Tensor) else a for a in arguments]
    with guard:
        compiled(*arrays)


def run_threads(compiled: Callable[..., None], *arguments: Any) -> None:
    """Call a serial loop in several threads, this one included, with the thread's number first.

    What the threads share among them they agree on themselves, so that any number of them does all
    of it (see workers.py): those that have not begun when this one is done are not waited for, and
    there are as many on a busy machine, too. A parallel loop of as many arguments would take Numba
    three times as long to compile.
    """
    pool = _thread_pool(os.getpid())
    team.look()
    count = min(team.most, config.NUMBA_NUM_THREADS)
    helpers = [pool.submit(compiled, worker, *arguments) for worker in range(1, count)]
    try:
        compiled(0, *arguments)
    finally:
        begun = [helper for helper in helpers if not helper.cancel()]
        wait(begun)
    for helper in begun:
        helper.result()


@cache
def _thread_pool(_process: int) -> ThreadPoolExecutor:
    """Threads of a process; a forked one has none of its parent's."""
    return ThreadPoolExecutor(config.NUMBA_NUM_THREADS, "radnerf")


@cache
def _start() -> AbstractContextManager[Any]:
    """Start Numba's threads; what a loop must hold while it runs."""
    chosen = torch.get_num_threads()
    numba.set_num_threads(1)
    # Starting them sets OpenMP's number of threads, and with it torch's, to that of all cores.
    torch.set_num_threads(chosen)
    _forbid_nesting()
    # Numba's own pool, the last resort, aborts when two Python threads enter it.
    return threading.Lock() if numba.threading_layer() == "workqueue" else nullcontext()


def _forbid_nesting() -> None:
    """Take back that Numba allows nested parallel regions in all of OpenMP.

    MKL then makes new threads for every exponential, logarithm and root of a tensor: 0.3
    milliseconds each, a hundred times what a few thousand elements take.
    """
    if numba.threading_layer() == "omp":
        set_levels = getattr(ctypes.CDLL(None), "omp_set_max_active_levels", None)
        if set_levels is not None:
            set_levels(1)
