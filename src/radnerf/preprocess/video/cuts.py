"""Cuts between shots, and the longest shot between them.

A portrait is learned from one shot: what goes on in time (poses, sound, bridged landmarks) must
not run across a cut, and one background and one head serve all frames.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from radnerf.conventions import FPS
from radnerf.errors import UserError
from radnerf.preprocess.stages import Stage, Workspace
from radnerf.preprocess.streams import ahead, counted
from radnerf.preprocess.video.decode import MIN_SECONDS, Video, read_frames

CUTS = "cuts.json"
SIDE = 64  # pixels of the longer side of the frames that are compared
BLACK = 16.0  # of 255: darker frames show nothing, and are no shot
# Mean difference of two frames, of 255, after their brightness is made the same. People who talk
# and turn their heads change a frame by 1 to 3, whole other pictures by 20 and more.
LEAST_CHANGE = 7.0
# A cut stands out: from its neighbours, which fast motion has too, and from what is usual there.
OVER_NEIGHBOURS, NEIGHBOURS = 3.0, 4
OVER_USUAL, USUAL = 6.0, 25
# And stays: what comes back to the frame before was a flash.
STAYS, LATER = 0.6, 3


@dataclass(frozen=True)
class Shot:
    """The stretch of a video that is used.

    Attributes:
        first, count: frames, of the video's at FPS.
        cuts: first frames of new shots.
    """

    first: int
    count: int
    cuts: Sequence[int] = ()

    def told(self) -> str | None:
        """What a user should know of the cuts, if there are any."""
        if not self.cuts:
            return None
        shown = ", ".join(clock(i) for i in self.cuts[:4]) + (", ..." if len(self.cuts) > 4 else "")
        n = len(self.cuts)
        return (
            f"{n} {'cut' if n == 1 else 'cuts'} at {shown}: only the longest shot is used, "
            f"{clock(self.first)} to {clock(self.first + self.count)} "
            f"({self.count / FPS:.0f} s); for another one cut the video there yourself."
        )


@dataclass(frozen=True)
class Cuts(Stage):
    """Comes before all other stages: they only see the longest shot."""

    name = "cuts"
    outputs = (CUTS,)
    seconds_a_frame = 0.002

    video: Video

    def settings(self) -> dict[str, Any]:
        return self.video.facts

    def run(self, work: Workspace) -> None:
        frames = ahead(read_frames(self.video, self.video.fit(SIDE)))
        shot = longest_shot(counted(frames, work.report), self.video.n_frames)
        if shot.cuts and shot.count < MIN_SECONDS * FPS:
            raise UserError(
                f"{self.video.path} has {len(shot.cuts)} cuts and no shot of a second: give a "
                "video of one person who speaks without cuts."
            )
        (work.out / CUTS).write_text(json.dumps(asdict(shot)))


def longest_shot(frames: Iterable[UInt8[np.ndarray, "h w 3"]], n_frames: int) -> Shot:
    """The longest stretch of a video without a cut.

    Args:
        frames: all of them in order, small, RGB.
    """
    cuts = find_cuts(frames)
    edges = [0, *cuts, n_frames]
    lengths = np.diff(edges)
    longest = int(np.argmax(lengths))
    return Shot(edges[longest], int(lengths[longest]), tuple(cuts))


def find_cuts(frames: Iterable[UInt8[np.ndarray, "h w 3"]]) -> list[int]:
    """First frames of new shots; fast motion, flashes and black frames are none."""
    number: list[int] = []
    near: list[np.ndarray] = []  # the last few frames that show something
    changes: list[float] = []  # from the frame before
    stays: list[float] = []  # least change from that one to the frames that follow
    for i, frame in enumerate(frames):
        if float(frame.mean()) < BLACK:
            continue
        picture = _even(frame)
        changes.append(_change(near[-1], picture) if near else 0.0)
        stays.append(changes[-1])
        number.append(i)
        for back in range(1, min(LATER, len(near))):
            # The frame `back` before this one, seen from the frame before that.
            stays[-1 - back] = min(stays[-1 - back], _change(near[-1 - back], picture))
        near = [*near[-LATER:], picture]
    change = np.array(changes)
    return [
        number[k]
        for k in np.flatnonzero(change > LEAST_CHANGE)
        if _stands_out(change, int(k)) and stays[k] > STAYS * change[k]
    ]


def _stands_out(change: Float[np.ndarray, " t"], k: int) -> bool:
    def around(reach: int) -> np.ndarray:
        return np.concatenate([change[max(1, k - reach) : k], change[k + 1 : k + 1 + reach]])

    if not len(around(1)):
        return False
    neighbours, usual = around(NEIGHBOURS).max(), float(np.median(around(USUAL)))
    return bool(change[k] > OVER_NEIGHBOURS * neighbours and change[k] > OVER_USUAL * usual)


def _even(frame: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w 3"]:
    """Slightly blurred, each channel with a mean of 128: light that is switched is no cut."""
    picture = cv2.GaussianBlur(frame.astype(np.float32), (3, 3), 0)
    return np.asarray(picture * (128 / np.maximum(picture.mean((0, 1)), 1)))


def _change(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).mean())


def clock(frame: int) -> str:
    """Minutes and seconds of a frame."""
    seconds = frame / FPS
    return f"{int(seconds // 60):02d}:{seconds % 60:04.1f}"
