"""Frames of any video or picture, a few of many."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from jaxtyping import UInt8

from radnerf.errors import UserError

MOST = 250  # frames that are looked at
DECODED = 3000  # frames; of longer videos only what is near the chosen times is decoded

Frame = UInt8[np.ndarray, "h w 3"]


def frames_of(path: Path) -> Iterator[Frame]:
    """At most MOST frames, spread over the whole.

    Raises:
        UserError: neither a video nor a picture.
    """
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise UserError(f"{path} has no picture: give a video or an image.")
            yield from _spread(container)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path} cannot be read as video or image ({reason}).") from error


def _spread(container: av.container.InputContainer) -> Iterator[Frame]:
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    seconds = container.duration / av.time_base if container.duration else 0.0
    count = stream.frames or round(seconds * float(stream.average_rate or 0))
    if count <= DECODED:
        step = max(1, -(-count // MOST))
        for i, frame in enumerate(container.decode(stream)):
            if i % step == 0:
                yield frame.to_ndarray(format="rgb24")
        return
    for time in np.linspace(0, seconds, MOST, endpoint=False):
        container.seek(int(time * av.time_base))
        for frame in container.decode(stream):
            yield frame.to_ndarray(format="rgb24")
            break
