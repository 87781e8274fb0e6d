import numpy as np
import pytest
import torch

from radnerf.data.datamodule import FrameStream
from radnerf.geometry.eyes import blink_odds, closedness, eye_range

# 200 open frames, then a blink: 5 half shut, 3 nearly shut, 1 shut.
TRACK = np.array([0.25] * 200 + [0.14] * 5 + [0.07] * 3 + [0.01], np.float32)


def test_range_of_a_clip_that_blinks():
    assert eye_range(TRACK) == pytest.approx((0.01, 0.25))


def test_range_of_a_clip_that_never_blinks_ends_at_nothing():
    assert eye_range(np.linspace(0.2, 0.25, 11)) == pytest.approx((0.0, 0.235))
    assert eye_range(np.zeros(4)) == (0.0, 0.25)


def test_closedness_by_hand():
    eye = np.array([0.3, 0.25, 0.13, 0.01, 0.0])
    assert closedness(eye, (0.01, 0.25)) == pytest.approx([0, 0, 0.5, 1, 1])


@pytest.mark.parametrize("fraction", [0.15, 0.2])
def test_blinks_get_their_share_of_the_draws(fraction):
    odds = blink_odds(TRACK, eye_range(TRACK), fraction)
    stream = iter(FrameStream(torch.from_numpy(odds).float(), 64, seed=0))
    drawn = torch.cat([next(stream)["frame"] for _ in range(400)])
    parts = [drawn < 200, (drawn >= 200) & (drawn < 205), (drawn >= 205) & (drawn < 208)]
    parts.append(drawn == 208)
    expected = [1 - fraction, fraction / 3, fraction / 3, fraction / 3]
    assert [float(p.float().mean()) for p in parts] == pytest.approx(expected, abs=0.01)


def test_one_blink_in_a_long_clip_still_gets_its_share():
    track = np.concatenate([np.full(5000, 0.25), [0.0]])
    odds = blink_odds(track, eye_range(track), 0.2)
    assert odds[-1] / odds.sum() == pytest.approx(0.2)
    assert set(odds[:-1]) == {1.0}


def test_frequent_blinks_keep_their_share_and_nothing_happens_without_any():
    often = np.array([0.25] * 6 + [0.0] * 4)
    assert blink_odds(often, (0.0, 0.25), 0.2) == pytest.approx(np.ones(10))
    for track, fraction in ((np.full(9, 0.25), 0.2), (TRACK, 0.0)):
        assert set(blink_odds(track, eye_range(track), fraction)) == {1.0}
