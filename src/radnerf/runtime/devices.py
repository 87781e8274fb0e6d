"""Devices by name, and how many cores there are for us."""

from __future__ import annotations

import os

import torch

from radnerf.errors import UserError


def usable_cores() -> int:
    """Processor cores that this process may use, which can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def host_waits(device: torch.device) -> bool:
    """Whether reading a number off the device's tensors waits for all the work before it."""
    return device.type == "cuda"


def choose_device(device: str) -> torch.device:
    """The device of a name; auto is a CUDA device if there is one.

    Raises:
        UserError: no such device here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(f"device={device} cannot be used on this machine: try auto.") from error
    return chosen
