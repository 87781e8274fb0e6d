import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from radnerf import models
from radnerf.errors import UserError
from radnerf.metrics import FaceLandmarks, LandmarkDistance, MouthCorrelation

SHARED = Path(__file__).parents[3] / "shared/data"
VIDEOS = Path(os.environ.get("RADNERF_TEST_VIDEOS", SHARED))


def face(opening=0.0, shift=(0.0, 0.0)):
    """68 points with the outer eyes 100 px apart and the inner lips `opening` px apart."""
    points = np.random.default_rng(0).uniform(0, 100, (68, 2))
    points[36], points[45] = (0, 0), (100, 0)
    for upper, lower in ((61, 67), (62, 66), (63, 65)):
        points[lower] = points[upper] + (0, opening)
    return torch.from_numpy(points + np.array(shift))


def test_distance_ignores_a_shift_and_other_points():
    metric = LandmarkDistance()
    moved = face(shift=(30, -7))
    moved[:48] += 5
    metric.update(moved[None], face()[None])
    assert metric.compute() == pytest.approx(0, abs=1e-9)


def test_distance_by_hand():
    true = torch.zeros(2, 68, 2)
    rendered = true.clone()
    # One of 20 points is 20 px off: the mean moves by 1, so 19 points are 1 off and one is 19.
    rendered[1, 48, 0] = 20
    metric = LandmarkDistance()
    metric.update(rendered, true)
    assert metric.compute() == pytest.approx((0 + (19 * 1 + 19) / 20) / 2)


def test_distance_leaves_out_frames_without_a_face():
    true = torch.zeros(3, 68, 2)
    rendered = true.clone()
    rendered[0, 48, 0], rendered[1] = 20, torch.nan
    metric = LandmarkDistance()
    metric.update(rendered, true)
    assert metric.compute() == pytest.approx(1.9 / 2)
    metric.reset()
    metric.update(rendered[1:2], true[1:2])
    assert metric.compute().isnan()


@pytest.mark.parametrize(
    ("rendered", "true", "expected"),
    [
        ([1, 2, 3, 4], [10, 20, 30, 40], 1.0),
        ([4, 3, 2, 1], [10, 20, 30, 40], -1.0),
        # About their means: (-1, 0, 1) times (-1, 2, -1) is 0.
        ([1, 2, 3], [2, 5, 2], 0.0),
        # (-2, 0, 2) times (-2, 2, 0) is 4, both of length sqrt(8).
        ([1, 3, 5], [1, 5, 3], 0.5),
    ],
)
def test_correlation_by_hand(rendered, true, expected):
    metric = MouthCorrelation()
    for a, b in zip(rendered, true, strict=True):
        metric.update(face(a, shift=(a, b))[None], face(b)[None])
    assert metric.compute() == pytest.approx(expected, abs=1e-6)


def test_correlation_needs_a_moving_mouth_and_a_face():
    metric = MouthCorrelation()
    metric.update(
        torch.stack([face(1), face(1), face(2)]), torch.stack([face(1), face(2), face(3)])
    )
    good = metric.compute()
    metric.update(torch.full((1, 68, 2), torch.nan, dtype=torch.float64), face(50)[None])
    assert metric.compute() == good
    metric.reset()
    metric.update(torch.stack([face(1), face(1)]), torch.stack([face(1), face(2)]))
    assert metric.compute().isnan()


def test_missing_detector_names_the_way_out(monkeypatch):
    monkeypatch.setattr(models, "at_hand", lambda model: None)
    with pytest.raises(UserError, match=r"run `python -m radnerf\.models` once"):
        FaceLandmarks()


@pytest.fixture(scope="module")
def real_frames():
    path = VIDEOS / "obama.mp4"
    if not path.is_file():
        pytest.skip("no real video (RADNERF_TEST_VIDEOS)")
    if not all(map(models.at_hand, models.MODELS)):
        pytest.skip("no networks here: python -m radnerf.models")
    video = cv2.VideoCapture(str(path))
    return [video.read()[1][..., ::-1] for _ in range(5)]


def test_real_face_is_found_at_every_size(real_frames):
    landmarks = FaceLandmarks()
    whole = landmarks.track(real_frames)
    assert whole.isfinite().all() and whole.shape == (5, 68, 2)
    eyes = (whole[0, 45] - whole[0, 36]).norm()
    height = whole[0, 8, 1] - whole[0, 27, 1]
    assert 0.8 * eyes < height < 2.2 * eyes, "chin below the nose's root"
    for side in (128, 225):
        scale = side / max(real_frames[0].shape[:2])
        small = cv2.resize(real_frames[0], None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        points = landmarks(small)
        assert points is not None
        error = np.abs(points / scale - whole[0].numpy()).mean()
        assert error < 0.03 * eyes, side
    assert landmarks(np.zeros((128, 128, 3), np.uint8)) is None
    assert landmarks.track([np.zeros((64, 64, 3), np.uint8)]).isnan().all()
