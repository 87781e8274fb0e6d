"""What threads that run the same loop agree on, see numba_runtime.run_threads().

A loop is a row of phases, and a phase is a number of tasks that whoever is awake takes one by one.
A phase begins when all tasks of the one before are done, not when all threads have come: so nobody
waits for a thread that has no core, unless it lost its core within a task. Phases are kept in an
array [phases, 2], zeros at the start: tasks taken and tasks done.
"""

# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
from __future__ import annotations

import ctypes
import platform
import sys

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.extending import intrinsic

from radnerf.kernels.numba_runtime import inlined, serial_loop

# Looks at a number that another thread is about to change, before sleeping: some 30 microseconds,
# about what it takes to fall asleep and be woken.
SPINS = 100_000
TAKEN, DONE = 0, 1


def phases(count: int) -> np.ndarray:
    """For a loop of so many phases, and for one call of it."""
    return np.zeros((count, 2), np.int64)


def _pointer(context, builder, kind, array, index):
    data = context.make_array(kind)(context, builder, array).data
    return builder.gep(data, [index])


@intrinsic
def _add(context, counters, index, amount):
    """Add to counters[index]; what it was before."""

    def generate(context, builder, signature, arguments):
        pointer = _pointer(context, builder, signature.args[0], arguments[0], arguments[1])
        return builder.atomic_rmw("add", pointer, arguments[2], "acq_rel")

    return types.int64(counters, types.int64, types.int64), generate


@intrinsic
def _look(context, counters, index):
    def generate(context, builder, signature, arguments):
        pointer = _pointer(context, builder, signature.args[0], arguments[0], arguments[1])
        return builder.load_atomic(pointer, "acquire", 8)

    return types.int64(counters, types.int64), generate


@intrinsic
def _address(context, counters, index):
    def generate(context, builder, signature, arguments):
        pointer = _pointer(context, builder, signature.args[0], arguments[0], arguments[1])
        return builder.ptrtoint(pointer, ir.IntType(64))

    return types.int64(counters, types.int64), generate


@inlined
def take(counter):
    """The number that counter [1] holds, which becomes one more: no two threads get the same."""
    return _add(counter, 0, 1)


@inlined
def next_task(progress, phase):
    """A task of a phase that nobody else has; its number may be beyond the last one's."""
    return _add(progress.reshape(-1), 2 * phase + TAKEN, 1)


# Number of the system call by which threads sleep until a counter changes; what it compares is the
# counter's lower half, which is at its address.
_FUTEX = {"x86_64": 202, "aarch64": 98, "riscv64": 98}.get(platform.machine())
_WAIT, _WAKE, _ALL = 128, 129, 2**31 - 1  # of this process's threads alone

if sys.platform == "linux" and _FUTEX is not None:
    _call = types.ExternalFunction("syscall", types.int64(*(types.int64,) * 7))

    @inlined
    def _sleep(counters, place, seen):
        _call(_FUTEX, _address(counters, place), _WAIT, seen, 0, 0, 0)

    @inlined
    def _wake(counters, place):
        _call(_FUTEX, _address(counters, place), _WAKE, _ALL, 0, 0, 0)
else:
    # Look again after 50 microseconds; on Windows, after giving way to whoever is ready.
    PAUSE = np.uint32(0 if sys.platform == "win32" else 50)
    if sys.platform == "win32":
        sleep = ctypes.cast(ctypes.windll.kernel32.Sleep, ctypes.c_void_p).value
        binding.add_symbol("usleep", sleep)
    _pause = types.ExternalFunction("usleep", types.int32(types.uint32))

    @inlined
    def _sleep(counters, place, seen):
        _pause(PAUSE)

    @inlined
    def _wake(counters, place):
        pass


@serial_loop
def finish(progress, phase, total):
    """A task of a phase of so many is done; after the last, those who wait are woken."""
    counters, place = progress.reshape(-1), 2 * phase + DONE
    if _add(counters, place, 1) == total - 1:
        _wake(counters, place)


@serial_loop
def wait(progress, phase, total):
    """Until all tasks of a phase of so many are done."""
    counters, place = progress.reshape(-1), 2 * phase + DONE
    spins, done = 0, _look(counters, place)
    while done < total:
        spins += 1
        if spins > SPINS:
            _sleep(counters, place, done)
        done = _look(counters, place)
