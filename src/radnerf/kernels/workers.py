"""What threads that run the same loop agree on, see numba_runtime.share()."""

# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
from __future__ import annotations

import sys

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from radnerf.kernels.numba_runtime import serial_loop

SPINS = 10_000  # looks at a number that another thread is about to change, before giving way


def _pointer(context, builder, kind, array, index=0):
    data = context.make_array(kind)(context, builder, array).data
    return builder.gep(data, [ir.Constant(ir.IntType(64), index)])


@intrinsic
def take(context, counter):
    """The number that counter [1] holds, which becomes one more: no two threads get the same."""

    def generate(context, builder, signature, arguments):
        pointer = _pointer(context, builder, signature.args[0], arguments[0])
        one = ir.Constant(ir.IntType(64), 1)
        return builder.atomic_rmw("add", pointer, one, "acq_rel")

    return types.int64(counter), generate


@intrinsic
def _look(context, counter):
    def generate(context, builder, signature, arguments):
        pointer = _pointer(context, builder, signature.args[0], arguments[0])
        return builder.load_atomic(pointer, "acquire", 8)

    return types.int64(counter), generate


_yield = types.ExternalFunction("sched_yield", types.int32())
CAN_YIELD = sys.platform != "win32"


@serial_loop
def meet(workers, arrived):
    """Wait until so many threads have come here as often; arrived [1] starts at 0."""
    number = take(arrived)
    everybody = (number // workers + 1) * workers
    spins = 0
    while _look(arrived) < everybody:
        spins += 1
        if CAN_YIELD and spins > SPINS:
            _yield()
