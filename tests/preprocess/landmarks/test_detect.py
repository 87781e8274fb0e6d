from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from preprocess_videos import FakeFace

from radnerf.errors import UserError
from radnerf.preprocess.landmarks.detect import bridge, detect, mediapipe_detector, read_landmarks

BLANK = np.zeros((64, 64, 3), np.uint8)


def run(face: FakeFace, n: int) -> np.ndarray:
    with face.open() as find:
        return bridge(detect([BLANK] * n, find, n))


def test_short_gaps_are_bridged_in_a_straight_line() -> None:
    whole, gappy = run(FakeFace(), 60), run(FakeFace(lost=range(20, 30)), 60)
    assert np.array_equal(gappy[:20], whole[:20])
    assert np.array_equal(gappy[30:], whole[30:])
    share = 3 / 11
    wanted = (1 - share) * whole[19] + share * whole[30]
    assert gappy[22] == pytest.approx(wanted, abs=1e-3)


def test_gaps_at_the_ends_repeat_the_nearest_face() -> None:
    whole, gappy = run(FakeFace(), 40), run(FakeFace(lost=[0, 1, 39]), 40)
    assert np.array_equal(gappy[0], whole[2])
    assert np.array_equal(gappy[39], whole[38])


@pytest.mark.parametrize(
    ("face", "words"),
    [
        (FakeFace(lost=range(100)), "No face was found in any of the 100 frames, from frame 0"),
        (FakeFace(lost=range(30, 60)), r"1\.2 s to 2\.4 s \(frame 30"),
        (FakeFace(lost=range(70, 100)), r"2\.8 s to 4\.0 s"),
        (FakeFace(double=range(10, 40)), r"Two faces .* first at 0\.4 s \(frame 10\)"),
    ],
)
def test_faces_that_cannot_be_followed(face: FakeFace, words: str) -> None:
    with pytest.raises(UserError, match=words):
        run(face, 100)


def test_a_second_face_for_a_moment_is_no_matter() -> None:
    assert np.array_equal(run(FakeFace(double=[3, 4]), 30), run(FakeFace(), 30))


def test_bridge_takes_one_frame() -> None:
    one = np.ones((1, 68, 2), np.float32)
    assert np.array_equal(bridge(one), one)


def test_landmarks_made_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "points.npy"
    points = np.random.default_rng(0).uniform(0, 50, (31, 68, 2))
    points[5] = np.nan
    np.save(path, points)
    read = bridge(read_landmarks(path, 30))
    assert read.shape == (30, 68, 2)
    assert read[5] == pytest.approx((points[4] + points[6]) / 2, abs=1e-4)


@pytest.mark.parametrize(
    ("points", "words"),
    [
        (np.zeros((30, 70, 2)), "shape"),
        (np.zeros((30, 68)), "shape"),
        (np.zeros((12, 68, 2)), "12 rows for a video of 30 frames"),
        (np.array(["a"]), "shape"),
    ],
)
def test_wrong_landmark_files(tmp_path: Path, points: np.ndarray, words: str) -> None:
    path = tmp_path / "points.npy"
    np.save(path, points)
    with pytest.raises(UserError, match=words):
        read_landmarks(path, 30)


def test_without_mediapipe_the_error_names_the_way_without_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    with (
        pytest.raises(UserError, match=r"take landmarks=mesh, which needs none") as error,
        mediapipe_detector(),
    ):
        pass
    assert ". " not in str(error.value).rstrip(".")
