"""Which back end runs an operator.

An operator is a folder of this package: `reference.py` (plain torch, any device) beside its fast
back ends `cpu.py` (Numba and bf16 matrix products) and `triton.py`, each with the same functions
and imported when a call first needs it. Nothing is compiled before.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

import torch
from torch import Tensor

from radnerf.errors import KernelUnavailable, UserError

log = logging.getLogger(__name__)

AUTO = "auto"


def _reference_lacks(tensors: tuple[Tensor, ...]) -> str | None:
    return None


def _cpu_lacks(tensors: tuple[Tensor, ...]) -> str | None:
    if find_spec("numba") is None:
        return "numba is not installed"
    for tensor in tensors:
        if tensor.device.type != "cpu":
            return f"a tensor is on {tensor.device}"
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            return f"a tensor is {tensor.dtype}, not torch.float32"
    return None


def _triton_lacks(tensors: tuple[Tensor, ...]) -> str | None:
    if find_spec("triton") is None:
        return "triton is not installed"
    interpreted = triton_interprets()
    if not (interpreted or torch.cuda.is_available()):
        return "no CUDA device (TRITON_INTERPRET=1 runs its kernels on the CPU, slowly)"
    for tensor in tensors:
        if tensor.device.type != ("cpu" if interpreted else "cuda"):
            return f"a tensor is on {tensor.device}"
        if tensor.dtype == torch.float64:
            return "a tensor is torch.float64"
    return None


def triton_interprets() -> bool:
    """Whether Triton runs kernels on the CPU, to test them; it reads this when it is imported."""
    return os.environ.get("TRITON_INTERPRET") == "1"


# Fastest first: the order in which auto asks. Each says what it lacks to run on these tensors.
BACKENDS: dict[str, Callable[[tuple[Tensor, ...]], str | None]] = {
    "triton": _triton_lacks,
    "cpu": _cpu_lacks,
    "reference": _reference_lacks,
}

_selected = AUTO
_logged: set[tuple[str, str]] = set()


def set_backend(name: str) -> None:
    """Choose the back end of every operator: auto, reference, cpu or triton.

    Raises UserError for any other name; a back end that cannot run says so at the first call.
    """
    global _selected
    _selected = _known(name)


def get_backend() -> str:
    """The choice made by set_backend; auto at the start."""
    return _selected


def require() -> None:
    """Raise KernelUnavailable where the chosen back end cannot run on this machine at all."""
    if _selected != AUTO and (reason := BACKENDS[_selected](())) is not None:
        raise KernelUnavailable(f"kernels={_selected}: {reason}")


def available(op: str) -> list[str]:
    """Back ends of an operator that can run on this machine, fastest first."""
    return [name for name in BACKENDS if lacks(op, name, ()) is None]


def pick(op: str, backend: str | None, *tensors: Tensor | None) -> ModuleType:
    """The module that runs this call of an operator.

    backend: None for the choice of set_backend. auto takes the fastest that accepts the tensors,
    never Triton's interpreter.
    Raises KernelUnavailable, with the reason, when a named back end cannot take the call.
    """
    given = tuple(tensor for tensor in tensors if tensor is not None)
    name = _known(_selected if backend is None else backend)
    if name == AUTO:
        names = [name for name in BACKENDS if name != "triton" or not triton_interprets()]
        name = next(name for name in names if lacks(op, name, given) is None)
        if (op, name) not in _logged:
            _logged.add((op, name))
            log.info("kernels: %s runs on %s", op, name)
    elif (reason := lacks(op, name, given)) is not None:
        raise KernelUnavailable(f"{op}/{name}: {reason}")
    return import_module(_module(op, name))


def _known(name: str) -> str:
    if name != AUTO and name not in BACKENDS:
        raise UserError(f"Unknown kernel back end {name!r}: choose auto, {', '.join(BACKENDS)}.")
    return name


def _module(op: str, name: str) -> str:
    return f"{__package__}.{op}.{name}"


def lacks(op: str, name: str, tensors: tuple[Tensor, ...]) -> str | None:
    if find_spec(_module(op, name)) is None:
        return "not written for this operator"
    return BACKENDS[name](tensors)
