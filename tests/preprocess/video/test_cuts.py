from __future__ import annotations

import cv2
import numpy as np
import pytest

from radnerf.preprocess.video.cuts import Shot, clock, find_cuts, longest_shot

N = 60


def scene(seed: int) -> np.ndarray:
    """A picture with soft edges."""
    coarse = np.random.default_rng(seed).uniform(30, 220, (6, 9, 3)).astype(np.float32)
    return cv2.resize(coarse, (64, 42), interpolation=cv2.INTER_CUBIC).clip(0, 255)


def talk(scenes: list[int], sway: float = 1.0) -> list[np.ndarray]:
    """A head that moves before a scene of each frame, with the noise of a camera."""
    random = np.random.default_rng(0)
    frames = []
    for i, seed in enumerate(scenes):
        frame = scene(seed)
        x = 32 + sway * 8 * np.sin(i / 4)
        cv2.ellipse(frame, (round(x), 24), (9, 13), 0, 0, 360, (210, 160, 140), -1)
        frames.append((frame + random.normal(0, 2, frame.shape)).clip(0, 255).astype(np.uint8))
    return frames


def test_cuts_are_found_where_they_are() -> None:
    assert find_cuts(talk([1] * 20 + [2] * 25 + [1] * 15)) == [20, 45]


@pytest.mark.parametrize("sway", [0.0, 1.0, 2.0])
def test_motion_is_no_cut(sway: float) -> None:
    assert find_cuts(talk([1] * N, sway)) == []


def test_a_flash_black_frames_and_switched_light_are_no_cuts() -> None:
    for change in (
        lambda i, f: np.full_like(f, 250) if i == 30 else f,
        lambda i, f: f * np.uint8(not 30 <= i < 36),
        lambda i, f: (f * (0.6 if i >= 30 else 1)).astype(np.uint8),
    ):
        assert find_cuts([change(i, frame) for i, frame in enumerate(talk([1] * N))]) == []


def test_a_cut_behind_black_frames_is_one() -> None:
    frames = talk([1] * 30 + [2] * 30)
    frames[27:33] = [np.zeros_like(frames[0])] * 6
    assert find_cuts(frames) == [33]


def test_repeated_frames_are_no_cuts() -> None:
    """Ten frames a second, shown at 25."""
    talking = talk([1] * N, 2.0)
    assert find_cuts([talking[i - i % 3] for i in range(N)]) == []


def test_the_longest_shot_is_told() -> None:
    shot = longest_shot(talk([1] * 20 + [2] * 25 + [1] * 15), N)
    assert (shot.first, shot.count, list(shot.cuts)) == (20, 25, [20, 45])
    assert "2 cuts at 00:00.8, 00:01.8: only the longest shot is used" in str(shot.told())
    assert longest_shot(talk([1] * N), N) == Shot(0, N, ())
    assert Shot(0, N).told() is None
    assert clock(25 * 67) == "01:07.0"
