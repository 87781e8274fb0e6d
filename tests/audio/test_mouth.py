from __future__ import annotations

import numpy as np
import pytest

from radnerf.audio import MouthBasis
from radnerf.geometry.face68 import MOUTH


def talking(n_frames: int, moving_head: bool, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Random faces whose mouths open and widen, with and without the head's own motion."""
    rng = np.random.default_rng(seed)
    face = np.random.default_rng(99).uniform(50, 150, (68, 2))
    ways = np.random.default_rng(98).standard_normal((2, 20, 2))
    amount = rng.standard_normal((n_frames, 2)) * [6.0, 2.0]
    points = np.tile(face, (n_frames, 1, 1))
    points[:, MOUTH] += np.einsum("tk,kpc->tpc", amount, ways)
    if moving_head:
        angle, size = rng.uniform(-0.3, 0.3, n_frames), rng.uniform(0.8, 1.2, n_frames)
        turn = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], -1)
        points = size[:, None, None] * points @ turn.reshape(-1, 2, 2)
        points += rng.uniform(-30, 30, (n_frames, 1, 2))
    return points, amount


def test_coefficients_do_not_depend_on_the_heads_motion() -> None:
    still, _ = talking(80, moving_head=False)
    moving, _ = talking(80, moving_head=True)
    basis = MouthBasis.fit(still, 2)
    np.testing.assert_allclose(basis.coefficients(moving), basis.coefficients(still), atol=1e-3)


def test_coefficients_tell_the_mouth_apart_and_give_it_back() -> None:
    points, amount = talking(80, moving_head=True)
    basis = MouthBasis.fit(points, 2)
    coefficients = basis.coefficients(points)
    assert coefficients[:, 0].std() == pytest.approx(1.0, rel=0.05)
    inputs = np.c_[amount, np.ones(80)]
    fitted = inputs @ np.linalg.lstsq(inputs, coefficients, rcond=None)[0]
    np.testing.assert_allclose(fitted, coefficients, atol=0.02)

    # Unseen frames: rebuilt mouths, brought to each frame's size, are those of the landmarks.
    unseen, _ = talking(20, moving_head=False, seed=5)
    rebuilt = basis.mouth(basis.coefficients(unseen))
    truth = unseen[:, MOUTH] - unseen[:, MOUTH].mean(1, keepdims=True)
    size = np.linalg.norm(rebuilt, axis=(1, 2)) / np.linalg.norm(truth, axis=(1, 2))
    assert size.std() / size.mean() < 0.02
