"""Videos written by code, and a synthetic face whose geometry is known."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from radnerf.geometry.face68 import MESH_TO_68

# World to camera of a head that faces the camera: right = z, down = -x, forward = -y.
FRONTAL = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])


def write_video(
    path: Path,
    frames: Sequence[np.ndarray],
    times: Sequence[float],
    sound: np.ndarray | None,
    rate: int = 16_000,
    options: dict[str, str] | None = None,
) -> Path:
    """Frames shown from their times on, last one as long as the one before; sound [s] or [2, s]."""
    with av.open(str(path), "w", options=options or {}) as container:
        video = container.add_stream("libx264", rate=1000)
        video.height, video.width = frames[0].shape[:2]
        video.pix_fmt = "yuv444p"
        video.time_base = video.codec_context.time_base = Fraction(1, 90_000)
        video.options = {"crf": "10", "preset": "ultrafast", "bf": "0"}
        audio = None
        if sound is not None:
            layout = "stereo" if sound.ndim == 2 else "mono"
            audio = container.add_stream("aac", rate=rate, layout=layout)
        ends = [*times[1:], 2 * times[-1] - times[-2] if len(times) > 1 else times[0] + 0.04]
        for rgb, time, end in zip(frames, times, ends, strict=True):
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame.time_base = Fraction(1, 90_000)
            frame.pts, frame.duration = round(time * 90_000), round((end - time) * 90_000)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if sound is not None and audio is not None:
            samples = np.atleast_2d(sound).astype(np.float32)
            for first in range(0, samples.shape[1], 1024):
                part = np.ascontiguousarray(samples[:, first : first + 1024])
                piece = av.AudioFrame.from_ndarray(
                    part, format="fltp", layout="stereo" if len(part) == 2 else "mono"
                )
                piece.sample_rate, piece.pts = rate, first
                piece.time_base = Fraction(1, rate)
                container.mux(audio.encode(piece))
            container.mux(audio.encode(None))
    return path


def tone(seconds: float, rate: int = 16_000, hertz: float = 440.0) -> np.ndarray:
    return 0.4 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def gray_ramp(
    times: Sequence[float], height: int = 48, width: int = 64, per_second: float = 60.0
) -> list[np.ndarray]:
    """Frames whose brightness tells their time: 20 + per_second * time."""
    return [
        np.full((height, width, 3), min(255, round(20 + per_second * t)), np.uint8) for t in times
    ]


@pytest.fixture
def plain_video(tmp_path: Path) -> Path:
    """Two seconds of 25 gray frames a second with a tone."""
    times = np.arange(50) / 25
    return write_video(tmp_path / "plain.mp4", gray_ramp(times), list(times), tone(2.0))


def face_68() -> np.ndarray:
    """A symmetric face of 68 points in world units: up, towards the camera, right."""
    points = np.zeros((68, 3))
    angle = np.linspace(np.pi, 0, 17)
    points[:17] = np.stack(
        [-0.33 * np.sin(angle), 0.12 + 0.16 * np.sin(angle), 0.22 * np.cos(angle)], 1
    )
    x = np.array([-0.17, -0.14, -0.11, -0.07, -0.03, 0.03, 0.07, 0.11, 0.14, 0.17])
    points[17:27] = np.stack([0.09 - x**2, 0.3 - 1.5 * x**2, x], 1)
    points[27:31] = np.stack([np.linspace(0.02, -0.1, 4), np.linspace(0.3, 0.4, 4), np.zeros(4)], 1)
    x = np.linspace(-0.045, 0.045, 5)
    points[31:36] = np.stack([-0.13 - 0 * x, 0.33 - 5 * x**2, x], 1)
    ring = np.array([180, 125, 55, 0, -55, -125]) * np.pi / 180
    for first, middle in ((36, -0.1), (42, 0.1)):
        x = middle + 0.05 * np.cos(ring)
        points[first : first + 6] = np.stack([0.02 * np.sin(ring), 0.29 - 1.5 * x**2, x], 1)
    for first, count, wide, high in ((48, 12, 0.085, 0.035), (60, 8, 0.065, 0.008)):
        ring = np.pi - 2 * np.pi * np.arange(count) / count
        x = wide * np.cos(ring)
        points[first : first + count] = np.stack(
            [-0.2 + high * np.sin(ring), 0.33 - 3 * x**2, x], 1
        )
    return points


def face_mesh() -> np.ndarray:
    """478 points on a face: the 68 in their places, the rest on the surface between."""
    random = np.random.default_rng(7)
    up, right = random.uniform(-0.28, 0.26, 478), random.uniform(-0.2, 0.2, 478)
    mesh = np.stack([up, 0.32 - 2.5 * right**2 - 0.8 * up**2, right], 1)
    mesh[list(MESH_TO_68)] = face_68()
    mesh[10] = (0.28, 0.2, 0.0)
    mesh[[127, 356]] = face_68()[[0, 16]]
    mesh[468:473] = face_68()[36:42].mean(0)
    mesh[473:478] = face_68()[42:48].mean(0)
    # The outline between the 68's jaw points.
    for first, second, between in ((136, 149, 150), (149, 148, 176), (148, 152, 148)):
        mesh[between] = (mesh[first] + mesh[second]) / 2
    for first, second, between in ((152, 377, 377), (377, 378, 400), (378, 365, 379)):
        mesh[between] = (mesh[first] + mesh[second]) / 2
    return mesh


def camera_track(n_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """World-to-camera rotations and shifts of a head that nods, turns and sways."""
    t = np.arange(n_frames) / 25
    turns = np.stack(
        [
            6 * np.sin(1.7 * t) + 2 * np.sin(4.1 * t),
            12 * np.sin(1.1 * t) + 3 * np.sin(3.3 * t + 1),
            4 * np.sin(0.8 * t),
        ],
        1,
    )
    rotation = Rotation.from_euler("xyz", turns, degrees=True).as_matrix() @ FRONTAL
    shift = np.stack([0.05 * np.sin(t), 0.04 * np.sin(1.3 * t), 3 + 0.06 * np.sin(0.9 * t)], 1)
    return rotation, shift


def seen(
    shape: np.ndarray, rotation: np.ndarray, shift: np.ndarray, focal: float, size: tuple[int, int]
) -> np.ndarray:
    """Pixels [T, K, 2] of a shape."""
    camera = np.einsum("tij,kj->tki", rotation, shape) + shift[:, None]
    return camera[..., :2] / camera[..., 2:] * focal + np.array([size[1] / 2, size[0] / 2])


class FakeFace:
    """Stands in for a face detector: the synthetic face, frame after frame."""

    def __init__(self, lost: Sequence[int] = (), double: Sequence[int] = ()) -> None:
        self.lost, self.double = set(lost), set(double)

    @contextlib.contextmanager
    def open(self) -> Iterator[Callable[[np.ndarray], list[np.ndarray]]]:
        self.frame = -1
        yield self.find

    def find(self, image: np.ndarray) -> list[np.ndarray]:
        self.frame += 1
        if self.frame in self.lost:
            return []
        height, width = image.shape[:2]
        rotation, shift = camera_track(self.frame + 1)
        focal = 2.4 * width
        xy = seen(face_mesh(), rotation[-1:], shift[-1:], focal, (height, width))[0]
        depth = (face_mesh() @ rotation[-1].T)[:, 2:] * focal / 3
        face = np.concatenate([xy, depth], 1).astype(np.float32)
        return [face, face + 0.3 * width] if self.frame in self.double else [face]


def fake_person(image: np.ndarray) -> np.ndarray:
    """A head, a neck and shoulders."""
    height, width = image.shape[:2]
    y, x = np.mgrid[:height, :width] / np.array([height, width])[:, None, None]
    head = ((x - 0.5) / 0.22) ** 2 + ((y - 0.42) / 0.34) ** 2 < 1
    neck = (abs(x - 0.5) < 0.1) & (y > 0.6)
    shoulders = (abs(x - 0.5) < 0.42) & (y > 0.85)
    return (head | neck | shoulders).astype(np.float32)
