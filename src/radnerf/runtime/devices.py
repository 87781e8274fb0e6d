"""Devices by name."""

from __future__ import annotations

import torch

from radnerf.errors import UserError


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
