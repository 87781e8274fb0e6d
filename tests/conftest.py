"""Shapes are checked at run time in every test, and clips are made once a session."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

# As radnerf/cli.py: OpenMP threads that spin for long slow training tenfold on a busy machine.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")
if "PYTEST_XDIST_WORKER" in os.environ:
    # Tests that go side by side have a core each; see several_threads.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from jaxtyping import install_import_hook

# Before anything of the package is imported.
install_import_hook("radnerf", "typechecker.check")

if not torch.cuda.is_available():
    # Triton's kernels are then tested on the CPU. Before Triton is imported, which reads this.
    os.environ.setdefault("TRITON_INTERPRET", "1")

import numpy as np  # noqa: E402
import pytest  # noqa: E402

import radnerf.team  # noqa: E402
from radnerf.conventions import BACKGROUND, HEAD, NECK, TORSO  # noqa: E402
from radnerf.data.clip import (  # noqa: E402
    write_image,
    write_parsing,
    write_transforms,
)

radnerf.team.EVERY_S = float("inf")  # the machine may be busy, but tests are always the same


@pytest.fixture(scope="session")
def shared_videos() -> Path:
    """Folder of the real videos (RADNERF_TEST_VIDEOS); tests skip without them."""
    default = Path(__file__).parents[1].parent / "shared" / "data"
    folder = Path(os.environ.get("RADNERF_TEST_VIDEOS", default))
    if not (folder / "obama.mp4").is_file():
        pytest.skip(f"no real videos in {folder}: set RADNERF_TEST_VIDEOS")
    return folder


@pytest.fixture
def several_threads() -> Iterator[None]:
    """At least two threads, for what divides work among them."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(2, before))
    yield
    torch.set_num_threads(before)


@pytest.fixture
def tiny_clip(tmp_path: Path) -> Path:
    """A clip folder of flat shapes: 22 frames of 32 x 24 with a head, neck and torso."""
    return _make_tiny_clip(tmp_path / "tiny")


@pytest.fixture(scope="session")
def lasting_tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny clip, one for all tests."""
    return _make_tiny_clip(tmp_path_factory.mktemp("clip") / "tiny")


@pytest.fixture
def large_clip(tmp_path: Path) -> Path:
    """The tiny clip with every pixel drawn as 43 x 43 of them: more than 1024 a side."""
    return _make_tiny_clip(tmp_path / "large", scale=43)


def _make_tiny_clip(root: Path, scale: int = 1) -> Path:
    height, width, count = 24, 32, 22
    rows, columns = np.mgrid[:height, :width]
    labels = np.full((height, width), BACKGROUND, np.uint8)
    labels[16:, 6:26] = TORSO
    labels[13:17, 13:19] = NECK
    labels[(rows - 8) ** 2 + (columns - 16) ** 2 < 36] = HEAD
    colors = np.array([[200, 220, 240], [220, 170, 140], [200, 150, 120], [40, 60, 90]], np.uint8)
    labels = labels.repeat(scale, 0).repeat(scale, 1)
    height, width = labels.shape
    landmarks = scale * _landmarks()
    for i in range(count):
        image = colors[labels].copy()
        image[0, 0] = i
        write_image(root / "gt_imgs" / f"{i}.jpg", image)
        torso = np.zeros((height, width, 4), np.uint8)
        torso[12 * scale :, 6 * scale : 26 * scale] = (*colors[TORSO], 255)
        write_image(root / "torso_imgs" / f"{i}.png", torso)
        write_parsing(root / "parsing" / f"{i}.png", labels)
        (root / "ori_imgs").mkdir(exist_ok=True)
        np.savetxt(root / "ori_imgs" / f"{i}.lms", landmarks)
    write_image(root / "bc.jpg", np.full((height, width, 3), colors[BACKGROUND], np.uint8))
    pose = np.array([[0, -1, 0, 0], [0, 0, -1, 3], [1, 0, 0, 0], [0, 0, 0, 1]], np.float32)
    poses = np.repeat(pose[None], count, 0)
    poses[:, 2, 3] = np.linspace(-0.05, 0.05, count)
    write_transforms(root, poses, np.linspace(0, 0.3, count), 80.0 * scale, (width / 2, height / 2))
    _write_wave(root / "aud.wav", count)
    return root


def _landmarks() -> np.ndarray:
    """68 points laid out as a face on the tiny clip's head."""
    points = np.zeros((68, 2), np.float32)
    angle = np.linspace(np.pi, 0, 17)
    points[:17] = np.stack([16 + 5.5 * np.cos(angle), 8 + 5.5 * np.sin(angle)], 1)
    points[17:27] = np.stack([np.linspace(12, 20, 10), np.full(10, 4.5)], 1)
    points[27:31] = np.stack([np.full(4, 16.0), np.linspace(5.5, 8.5, 4)], 1)
    points[31:36] = np.stack([np.linspace(14.8, 17.2, 5), np.full(5, 9.2)], 1)
    ring = np.linspace(np.pi, -np.pi, 6, endpoint=False)
    for first, x in ((36, 13.8), (42, 18.2)):
        points[first : first + 6] = np.stack([x + 1.2 * np.cos(ring), 6.2 - 0.6 * np.sin(ring)], 1)
    ring = np.linspace(np.pi, -np.pi, 12, endpoint=False)
    points[48:60] = np.stack([16 + 2 * np.cos(ring), 11 - 0.8 * np.sin(ring)], 1)
    ring = np.linspace(np.pi, -np.pi, 8, endpoint=False)
    points[60:68] = np.stack([16 + 1.4 * np.cos(ring), 11 - 0.3 * np.sin(ring)], 1)
    return points


def _write_wave(path: Path, n_frames: int) -> None:
    import wave

    rate = 16_000
    t = np.arange(int(n_frames / 25 * rate)) / rate
    samples = 0.3 * np.sin(2 * np.pi * 220 * t) * (np.sin(2 * np.pi * 2 * t) > 0)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
