"""One video drawn by several processes: each draws its share of the frames, on its own device."""

from __future__ import annotations

from collections.abc import Iterator
from multiprocessing.connection import Connection

import numpy as np
import torch
from jaxtyping import UInt8

from radnerf import kernels
from radnerf.errors import UserError
from radnerf.inference.driver import Driver
from radnerf.runtime.processes import Workers


def shared_frames(driver: Driver, count: int) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """The driver's frames, in order, of which each of so many processes draws every count-th.

    They are the same to the last bit as those that the driver itself draws on such a device. A few
    frames are held at a time.

    Args:
        driver: is moved to the CPU.
        count: on a GPU as many GPUs are taken, otherwise the cores are shared out.

    Raises:
        UserError: there are not so many devices, or a process was lost.
    """
    device = driver.device.type
    if device == "cuda" and count > torch.cuda.device_count():
        raise UserError(f"devices={count}: this machine has {torch.cuda.device_count()} GPUs.")
    driver.to("cpu")
    with Workers(count, _draw, count, driver, device, kernels.get_backend()) as workers:
        for i in range(len(driver)):
            yield workers.receive(i % count)


def _draw(
    number: int, channel: Connection, count: int, driver: Driver, device: str, backend: str
) -> None:
    kernels.set_backend(backend)
    driver.to(f"cuda:{number}" if device == "cuda" else device)
    for frame in driver.frames(number, count):
        channel.send(frame)
