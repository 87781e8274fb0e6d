"""What drives a portrait beside the audio: head poses, eyes and the background.

A track goes on for ever: it answers for any frames, in whatever order they are asked for.
"""

from __future__ import annotations

import json
import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from radnerf.data.clip import Clip, read_image, to_memory_pose
from radnerf.errors import UserError
from radnerf.geometry.eyes import HALF_SHUT
from radnerf.geometry.rotations import rotation_from_vector
from radnerf.inference.bundle import PortraitBundle

ORBIT_SECONDS = 6.0
ORBIT_DEGREES = (3.0, 15.0)  # at least, so that it is seen, and at most
# Seconds from a blink to the next of a person who speaks: log-normal, mean 4, two thirds 3 to 5.
BLINK_MEDIAN, BLINK_STD, BLINK_LEAST = 3.85, 0.28, 1.0
BLINK_CLOSING, BLINK_CLOSED, BLINK_OPENING = (0.10, 0.15), 0.04, 0.20  # seconds
WIDEST = 2.0  # opening of the eyes that may be asked for
COLORS = {"white": (255, 255, 255), "black": (0, 0, 0)}

Poses = Float[Tensor, "t 4 4"]
Frames = Int[np.ndarray, " n"]
PoseTrack = Callable[[Frames], Float[Tensor, "n 4 4"]]
TorsoTrack = Callable[[Frames], Float[Tensor, "n 3"]]
EyeTrack = Callable[[Frames], Float[np.ndarray, " n"]]


def ping_pong(frames: Frames, length: int) -> Frames:
    """Indices 0 1 2 1 0 1 ... into a clip of a length: forward and backward, no end twice."""
    index = frames % max(1, 2 * length - 2)
    return np.asarray(np.minimum(index, 2 * length - 2 - index)) if length > 1 else index


def rest_pose(poses: Poses) -> Float[Tensor, "4 4"]:
    """The pose of the track that is nearest to all of its poses: the head at rest."""
    flat = poses[:, :3].flatten(1).double()
    centre = flat.median(0).values
    return poses[int((flat - centre).square().sum(1).argmin())]


def retarget(poses: Poses, rest: Float[Tensor, "4 4"]) -> Poses:
    """Another track's motion about its own resting pose, carried over to ours.

    Rotations are applied as they are; shifts of the head in the picture keep their size relative
    to the camera's distance, which may differ between clips.
    """
    theirs, ours = (torch.linalg.inv(p.double()) for p in (rest_pose(poses), rest))
    head = torch.linalg.inv(poses.double())  # head to camera
    scale = ours[:3, 3].norm() / theirs[:3, 3].norm()
    head[:, :3, 3] = ours[:3, 3] + scale * (head[:, :3, 3] - theirs[:3, 3])
    head[:, :3, :3] = head[:, :3, :3] @ theirs[:3, :3].T @ ours[:3, :3]
    return torch.linalg.inv(head).float()


def orbit(poses: Poses, fps: float) -> PoseTrack:
    """The camera swings in an ellipse from the resting pose around the head.

    It swings about as far as the clip's own poses turn: nothing further was ever seen.
    """
    rest = rest_pose(poses).double()
    # World axes: x up, y towards the camera, z to the image's right; a camera looks along its z.
    up, front, right = (-poses[:, :3, 2].double()).unbind(1)
    angles = torch.stack([torch.atan2(right, front), torch.atan2(up, torch.hypot(right, front))])
    reach = torch.quantile((angles - angles.median(1, True).values).abs(), 0.95, dim=1)
    yaw, pitch = reach.clamp(*(math.radians(d) for d in ORBIT_DEGREES))

    def track(frames: Frames) -> Float[Tensor, "n 4 4"]:
        phase = 2 * math.pi * torch.from_numpy(frames).double() / (fps * ORBIT_SECONDS)
        rotation = torch.zeros(len(frames), 3, dtype=torch.float64)
        rotation[:, 0] = yaw * phase.sin()
        rotation[:, 2] = pitch * (phase.cos() - 1) / 2
        poses = rest.repeat(len(frames), 1, 1)
        poses[:, :3] = rotation_from_vector(rotation) @ poses[:, :3]
        return poses.float()

    return track


def pose_track(bundle: PortraitBundle, pose: str) -> PoseTrack:
    """Camera poses.

    Args:
        pose: own | hold | orbit | the path of a clip folder, a transforms JSON or a portrait file.

    Raises:
        UserError: the path holds no poses.
    """
    rest = rest_pose(bundle.poses)
    if pose == "hold":
        return lambda frames: rest.expand(len(frames), 4, 4)
    if pose == "orbit":
        return orbit(bundle.poses, bundle.fps)
    poses = bundle.poses if pose == "own" else retarget(_read_poses(Path(pose)), rest)
    return lambda frames: poses[torch.from_numpy(ping_pong(frames, len(poses)))]


def _read_poses(path: Path) -> Poses:
    if path.is_dir():
        return torch.from_numpy(Clip.open(path).poses)
    if not path.is_file():
        raise UserError(
            f"pose={path} is neither own, hold or orbit, nor a clip folder, transforms JSON or "
            "portrait file that exists."
        )
    if path.suffix.lower() != ".json":
        return PortraitBundle.load(path).poses
    try:
        frames = json.loads(path.read_text())["frames"]
        public = np.array([f["transform_matrix"] for f in frames], np.float64)
        usable = public.shape == (len(frames), 4, 4) and len(frames) > 0
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise UserError(f"{path} cannot be read as camera poses ({error!r}).") from error
    if not usable or not np.isfinite(public).all():
        raise UserError(f"{path} holds no list of 4 x 4 camera poses.")
    return torch.from_numpy(to_memory_pose(public))


def torso_track(bundle: PortraitBundle, pose: str) -> TorsoTrack | None:
    """Torso motion that belongs to a pose track; None where it must be predicted from the pose."""
    if pose != "own":
        return None
    motion = bundle.torso_motion
    return lambda frames: motion[torch.from_numpy(ping_pong(frames, len(motion)))]


def eye_track(bundle: PortraitBundle, eyes: str | float, seed: int = 0) -> EyeTrack:
    """Opening of the eyes, 0 shut and 1 as this person has them open.

    Args:
        eyes: own | blink | a number from 0, shut, over 1, open, to WIDEST: never wider than the
            clip showed, so that the head need not guess.

    Raises:
        UserError: none of these.
    """
    own = bundle.eye.numpy().astype(np.float64)
    if eyes == "own":
        # Smoothed over 3 frames, as the paper does at test: landmarks flicker. Not in blinks,
        # which it would leave half open.
        smooth = np.convolve(np.pad(own, 1, "edge"), np.full(3, 1 / 3), "valid")
        smooth = np.where(1 - own > HALF_SHUT, own, smooth)
        return lambda frames: smooth[ping_pong(frames, len(own))]
    if eyes == "blink":
        closed = Blinks(bundle.fps, seed)
        return lambda frames: 1 - closed(frames)
    try:
        opening = float(eyes)
    except ValueError:
        opening = math.nan
    if not 0.0 <= opening <= WIDEST:
        raise UserError(
            f"eyes={eyes} is neither own, blink nor a number from 0 (shut) over 1 (open) to "
            f"{WIDEST:g}."
        )
    opening = min(opening, max(1.0, float(own.max())))
    return lambda frames: np.full(len(frames), opening)


class Blinks:
    """How far the lids are closed in each frame, 0 open to 1 shut.

    Blinks are log-normally apart; lids fall in 0.10 to 0.15 s and rise in 0.2 s, slow at both ends.
    """

    def __init__(self, fps: float, seed: int) -> None:
        self.fps = fps
        self._random = np.random.default_rng(seed)
        # The recording starts somewhere between two blinks.
        self._next = _to_next_blink(self._random) * self._random.random()
        self._known: list[tuple[float, float, float, float]] = []  # start, shut, opening, open

    def __call__(self, frames: Frames) -> Float[np.ndarray, " n"]:
        closed = np.zeros(len(frames))
        if not len(frames):
            return closed
        time = frames / self.fps
        self._foresee(time.max())
        begin = bisect_left(self._known, time.min(), key=lambda blink: blink[3])
        end = bisect_right(self._known, time.max(), key=lambda blink: blink[0])
        for blink in self._known[begin:end]:
            ramp = np.interp(time, blink, (0.0, 1.0, 1.0, 0.0))
            closed = np.maximum(closed, ramp * ramp * (3 - 2 * ramp))
        return closed

    def _foresee(self, until: float) -> None:
        """Draw the blinks that start up to a time."""
        while self._next <= until:
            shut = self._next + self._random.uniform(*BLINK_CLOSING)
            opening = shut + BLINK_CLOSED
            self._known.append((self._next, shut, opening, opening + BLINK_OPENING))
            self._next += _to_next_blink(self._random)


def _to_next_blink(rng: np.random.Generator) -> float:
    """Seconds from a blink's start to the next one's."""
    return max(BLINK_LEAST, float(rng.lognormal(np.log(BLINK_MEDIAN), BLINK_STD)))


def background_image(
    bundle: PortraitBundle, background: str, size: tuple[int, int]
) -> UInt8[np.ndarray, "h w 3"]:
    """What stands behind the person, height x width.

    Args:
        background: own | white | black | #rrggbb | the path of an image, scaled and cropped to
            fill the picture.

    Raises:
        UserError: none of these, or not an image.
    """
    height, width = size
    if background == "own":
        # A copy: the memory of tensors moves when they are sent to another process.
        return cover(bundle.background.numpy().copy(), size)
    if background in COLORS:
        return np.full((height, width, 3), COLORS[background], np.uint8)
    if background.startswith("#"):
        if not re.fullmatch(r"#[0-9a-fA-F]{6}", background):
            raise UserError(f"background={background} is not a color: write it like #00ff00.")
        return np.full((height, width, 3), list(bytes.fromhex(background[1:])), np.uint8)
    if not Path(background).is_file():
        raise UserError(
            f"background={background} is neither own, white, black, a color like #00ff00, nor "
            "an image file that exists."
        )
    return cover(read_image(Path(background)), size)


def cover(image: UInt8[np.ndarray, "a b 3"], size: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
    """The image scaled to fill height x width, its middle kept."""
    (height, width), (old_height, old_width) = size, image.shape[:2]
    if (old_height, old_width) == (height, width):
        return image
    scale = max(height / old_height, width / old_width)
    grown = (max(width, round(old_width * scale)), max(height, round(old_height * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    image = cv2.resize(image, grown, interpolation=method)
    top, left = (grown[1] - height) // 2, (grown[0] - width) // 2
    return image[top : top + height, left : left + width]
