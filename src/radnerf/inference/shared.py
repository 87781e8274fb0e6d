"""One video drawn by several processes: each draws every count-th frame, on its own device."""

from __future__ import annotations

from collections.abc import Iterator
from multiprocessing.connection import Connection

import numpy as np
import torch
from jaxtyping import UInt8

from radnerf import kernels
from radnerf.errors import UserError
from radnerf.inference.bundle import PortraitBundle
from radnerf.inference.file_driver import FileDriver
from radnerf.inference.performer import Control, Performer, load_portrait
from radnerf.runtime.processes import Workers

AHEAD = 4  # controls that wait for a process

Image = UInt8[np.ndarray, "h w 3"]


def shared_frames(driver: FileDriver, count: int) -> Iterator[Image]:
    """The driver's frames, in order, of which each of so many processes draws every count-th.

    Sound is listened to once, by the driver: processes get the frames' controls. The frames are the
    same to the last bit as those that the driver itself draws on such a device. A few are held at a
    time.

    Args:
        count: on a GPU as many GPUs are taken, otherwise the cores are distributed.

    Raises:
        UserError: there are not so many devices, or a process was lost.
    """
    device = driver.device.type
    if device == "cuda" and count > torch.cuda.device_count():
        raise UserError(f"devices={count}: this machine has {torch.cuda.device_count()} GPUs.")
    performer = driver.performer
    facts = driver.bundle, performer.camera, performer.background, device, kernels.get_backend()
    with Workers(count, _draw, *facts) as workers:
        waiting = 0
        for i, control in enumerate(driver.controls()):
            try:
                workers.channels[i % count].send(_packed(control))
            except OSError as error:  # it has died; receiving from it says so
                workers.receive(i % count)
                raise UserError(f"devices={count}: a process was lost ({error}).") from error
            waiting += 1
            if waiting > AHEAD * count:
                yield workers.receive((i + 1 - waiting) % count)
                waiting -= 1
        for i in range(len(driver) - waiting, len(driver)):
            yield workers.receive(i % count)
        for channel in workers.channels:
            channel.send(None)


def _draw(
    number: int,
    channel: Connection,
    bundle: PortraitBundle,
    camera: tuple[float, tuple[float, float], tuple[int, int]],
    background: Image,
    device: str,
    backend: str,
) -> None:
    kernels.set_backend(backend)
    place = f"cuda:{number}" if device == "cuda" else device
    performer = Performer(load_portrait(bundle).to(place).eval(), *camera, background)
    while (packed := channel.recv()) is not None:
        channel.send(performer.draw(_unpacked(packed, place)))


def _packed(control: Control) -> tuple:
    """A control as arrays: tensors would bring their storages along, in files of their own."""
    tensors = control.pose, control.code, control.torso_motion
    arrays = [None if tensor is None else tensor.cpu().numpy() for tensor in tensors]
    return (*arrays, control.eyes, control.background)


def _unpacked(packed: tuple, device: str) -> Control:
    arrays, (eyes, background) = packed[:3], packed[3:]
    pose, code, torso = (None if a is None else torch.from_numpy(a) for a in arrays)
    assert pose is not None and code is not None
    return Control(pose, code.to(device), eyes, torso, background)
