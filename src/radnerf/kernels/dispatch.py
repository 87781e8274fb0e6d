"""Which back end runs an operator.

An operator is a folder of this package: `reference.py` (plain torch, any device) beside its fast
back ends `cpu.py` (Numba and bf16 matrix products) and `triton.py`, each with the same functions
and imported when a call first needs it. Nothing is compiled before.

Two operators do at once what others do one by one: `shade` the head in training, `frame` whole
frames. They have no reference: what they cannot take is computed operator by operator.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

import torch
from torch import Tensor

from radnerf.errors import KernelUnavailable, UserError

log = logging.getLogger(__name__)

AUTO = "auto"
NOT_WRITTEN = "not written for this operator"


@dataclass(frozen=True)
class Unsupported:
    """Takes the place of what an operator would be given, where there is no such thing."""

    reason: str


def _reference_unsupported(tensors: Iterable[Tensor]) -> str | None:
    return None


def _cpu_unsupported(tensors: Iterable[Tensor]) -> str | None:
    if find_spec("numba") is None:
        return "numba is not installed"
    for tensor in tensors:
        if tensor.device.type != "cpu":
            return f"a tensor is on {tensor.device}"
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            return f"a tensor is {tensor.dtype}, not torch.float32"
    return None


def _triton_unsupported(tensors: Iterable[Tensor]) -> str | None:
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


# Fastest first: the order in which auto asks. Each says why it cannot run on these tensors, if so.
BACKENDS: dict[str, Callable[[Iterable[Tensor]], str | None]] = {
    "triton": _triton_unsupported,
    "cpu": _cpu_unsupported,
    "reference": _reference_unsupported,
}

_selected = AUTO
_logged: set[str] = set()


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
    return [name for name in BACKENDS if unsupported_reason(op, name) is None]


def unsupported_reason(op: str, backend: str, *given: object) -> str | None:
    """Why a back end of an operator cannot take a call, if so.

    A back end that wants more than tensors it can read has an unsupported_reason(*given) itself.

    Args:
        given: to the call: tensors, dataclasses of them, what is Unsupported; all else may be
            left out.
    """
    if find_spec(_module(op, backend)) is None:
        return NOT_WRITTEN
    leaves = list(_leaves(given))
    reason = BACKENDS[backend](leaf for leaf in leaves if isinstance(leaf, Tensor))
    reason = reason or next((leaf.reason for leaf in leaves if isinstance(leaf, Unsupported)), None)
    if reason is None and given:
        ask = getattr(import_module(_module(op, backend)), "unsupported_reason", None)
        reason = None if ask is None else ask(*given)
    return reason


def _leaves(given: Iterable[object]) -> Iterator[object]:
    """What is given, with dataclasses taken apart."""
    for item in given:
        if is_dataclass(item) and not isinstance(item, Unsupported):
            yield from _leaves(getattr(item, field.name) for field in fields(item))
        else:
            yield item


def pick(op: str, backend: str | None, *given: object) -> ModuleType:
    """The module that runs this call of an operator; `given` as unsupported_reason() takes it.

    backend: None for the choice of set_backend. auto takes the fastest that accepts the call,
    never Triton's interpreter.
    Raises KernelUnavailable, with the reason, when a named back end cannot take the call.
    """
    name, reason = _choice(op, backend, given)
    if name is None:
        raise KernelUnavailable(reason)
    return import_module(_module(op, name))


def pick_if_any(op: str, *given: object) -> ModuleType | None:
    """As pick(), of an operator that does what others do: None where it is left to them."""
    name, reason = _choice(op, None, given)
    if name is None:
        _log_once(f"kernels: {op} runs operator by operator ({reason})")
        return None
    return import_module(_module(op, name))


def _choice(op: str, backend: str | None, given: tuple[object, ...]) -> tuple[str | None, str]:
    """The back end for a call; or none, and why."""
    chosen = _known(_selected if backend is None else backend)
    if chosen != AUTO:
        reason = unsupported_reason(op, chosen, *given)
        return (chosen, "") if reason is None else (None, f"{op}/{chosen}: {reason}")
    reasons = []
    for name in BACKENDS:
        if name == "triton" and triton_interprets():
            continue
        reason = unsupported_reason(op, name, *given)
        if reason is None:
            _log_once(f"kernels: {op} runs on {name}")
            return name, ""
        if reason != NOT_WRITTEN:
            reasons.append(f"{name}: {reason}")
    return None, "; ".join(reasons)


def _log_once(line: str) -> None:
    if line not in _logged:
        _logged.add(line)
        log.info(line)


def _known(name: str) -> str:
    if name != AUTO and name not in BACKENDS:
        raise UserError(f"Unknown kernel back end {name!r}: choose auto, {', '.join(BACKENDS)}.")
    return name


def _module(op: str, name: str) -> str:
    return f"{__package__}.{op}.{name}"
