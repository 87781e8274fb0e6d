"""How the character moves: head pose, blinks, and the body that follows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation

from radnerf.conventions import FPS
from radnerf.data.clip import WORLD_SCALE, to_memory_pose
from radnerf.data.demo.speech import Speech

CM = 30.0  # centimetres in a memory unit: outer eye corners 9 cm and 0.30 apart
CAMERA = np.array([0.0, -3.6, 90.0])  # in the room, whose origin is the head's at rest
PIVOT = np.array([0.0, -9.0, -3.0])  # the head turns on its neck
FOCAL = 2.4  # in image widths


@dataclass
class Motion:
    """T frames; rotation and origin are the camera's in the head's frame (cm, OpenCV axes)."""

    rotation: Float[np.ndarray, "t 3 3"]
    origin: Float[np.ndarray, "t 3"]
    poses: Float[np.ndarray, "t 4 4"]  # the same, in the memory convention of data/clip.py
    lid: Float[np.ndarray, " t"]  # 0 shut .. 1 open
    neck_shift: Float[np.ndarray, "t 2"]  # of the neck's top, in image widths (x right, y down)
    body_shift: Float[np.ndarray, "t 2"]

    def __len__(self) -> int:
        return len(self.poses)


def frame_times(seconds: float) -> Float[np.ndarray, " t"]:
    """Middle of each video frame."""
    return (np.arange(max(1, round(seconds * FPS))) + 0.5) / FPS


def _drift(rng: np.random.Generator, times: np.ndarray, slowest: float = 0.07) -> np.ndarray:
    """Smooth noise of about unit size: a sum of slow sines."""
    hz = slowest * np.array([1.0, 2.1, 3.7, 6.1]) * rng.uniform(0.85, 1.15, 4)
    size = np.array([1.0, 0.75, 0.45, 0.2])
    waves = np.sin(2 * np.pi * (hz * times[:, None] + rng.random(4)))
    return np.asarray((waves * size).sum(1) / 1.3)


def _blinks(rng: np.random.Generator, times: np.ndarray) -> np.ndarray:
    """Lid openness: lids shut in 0.08 s and open in 0.16 s, every few seconds."""
    lid = 0.94 + 0.05 * _drift(rng, times, 0.2)
    at = rng.uniform(0.5, 0.8)
    while at < times[-1] + 0.2:
        t = times - at
        shut = np.where(t < 0, 1 + t / 0.08, 1 - (t - 0.04) / 0.16).clip(0, 1)
        lid = lid * (1 - shut * shut * (3 - 2 * shut))
        at += rng.uniform(1.6, 3.4)
    return lid.clip(0, 1)


def project(
    points: Float[np.ndarray, "n 3"],
    rotation: Float[np.ndarray, "3 3"],
    origin: Float[np.ndarray, 3],
    size: int,
) -> Float[np.ndarray, "n 2"]:
    """Pixels of points in the head's frame (cm)."""
    camera = (points - origin) @ rotation
    return np.asarray(camera[:, :2] / camera[:, 2:] * FOCAL * size + size / 2)


def move(speech: Speech, seconds: float, seed: int = 0) -> Motion:
    """Natural head motion of a few degrees, with nods on stressed syllables."""
    rng = np.random.default_rng([seed, 2])
    times = frame_times(seconds)
    talking = gaussian_filter1d((speech.opening > 0.02).astype(float), 25)
    energy = 0.6 + 0.4 * speech.at(talking, times)
    nod = speech.at(gaussian_filter1d(speech.opening * speech.stress, 9), times)
    yaw = 7.5 * _drift(rng, times) * energy
    pitch = 3.2 * _drift(rng, times, 0.09) * energy + 5.0 * (nod - 0.3)
    roll = 2.2 * _drift(rng, times, 0.08)
    shift = np.stack([0.55 * _drift(rng, times) for _ in range(3)], -1) * (1.0, 0.5, 1.3)
    angles = np.stack([yaw, pitch, roll], -1)
    head_rotation = Rotation.from_euler("YXZ", angles, degrees=True).as_matrix()

    back = head_rotation.transpose(0, 2, 1)  # room to head
    origin = (back @ (CAMERA - PIVOT - shift)[..., None])[..., 0] + PIVOT
    public = np.tile(np.eye(4), (len(times), 1, 1))
    public[:, :3, :3] = back
    public[:, :3, 3] = origin / (CM * WORLD_SCALE)
    rotation = back @ np.diag([1.0, -1.0, -1.0])

    neck = np.array([[0.0, -8.0, -1.0]])
    rest = project(neck, np.diag([1.0, -1.0, -1.0]), CAMERA, 1)
    neck_shift = np.array([project(neck, r, o, 1)[0] for r, o in zip(rotation, origin)]) - rest  # noqa: B905
    body_shift = 0.55 * gaussian_filter1d(neck_shift, 5, axis=0, mode="nearest")
    body_shift[:, 1] += 0.0016 * np.sin(2 * np.pi * 0.27 * times)  # breath
    return Motion(
        rotation, origin, to_memory_pose(public), _blinks(rng, times), neck_shift, body_shift
    )
