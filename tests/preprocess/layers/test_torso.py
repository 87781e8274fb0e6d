"""The torso layer over drawn people: visible pixels kept, nothing missing under the head."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from radnerf.conventions import HEAD, NECK, TORSO
from radnerf.preprocess.layers.torso import TorsoPainter

SIDE = 160
GREEN, SKIN, FACE, COAT = (40, 130, 60), (190, 140, 110), (250, 60, 60), (40, 45, 90)


def drawn(
    head_x: float = 0, torso: tuple[int, int] = (0, 0)
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Frame, labels, matte and 68 landmarks; the face has a color that nothing else has."""
    frame = np.empty((SIDE, SIDE, 3), np.uint8)
    frame[:] = GREEN
    labels = np.zeros((SIDE, SIDE), np.uint8)
    dx, dy = torso

    def paint(mask: np.ndarray, rgb, label: int) -> None:
        frame[mask > 0] = rgb
        labels[mask > 0] = label

    def ellipse(centre: tuple[int, int], axes: tuple[int, int]) -> np.ndarray:
        return cv2.ellipse(
            np.zeros((SIDE, SIDE), np.uint8), centre, axes, 0, 0, 360, (1,), -1
        )  # fmt: skip

    coat = ellipse((80 + dx, 165 + dy), (75, 48))
    paint(coat, COAT, TORSO)
    # Buttons to follow the torso's motion by.
    for x, y in ((30, 140), (50, 150), (110, 138), (125, 148), (45, 132), (100, 152)):
        frame[y + dy : y + dy + 4, x + dx : x + dx + 4] = 220
    neck = np.zeros((SIDE, SIDE), np.uint8)
    neck[80 + dy : 128 + dy, 64 + dx : 96 + dx] = 1
    paint(neck, SKIN, NECK)
    paint(ellipse((round(80 + head_x), 60), (32, 44)), FACE, HEAD)
    sharp = (labels > 0).astype(np.float32)
    soft = cv2.GaussianBlur(sharp, (0, 0), 1.0)
    mixed = soft[..., None] * frame + (1 - soft[..., None]) * np.array(GREEN)
    frame = np.where(((labels == 0) | (soft < 0.99))[..., None], mixed, frame)
    alpha = (255 * soft + 0.5).astype(np.uint8)
    labels[alpha < 128] = 0
    angle = np.linspace(np.pi, 0, 17)
    points = np.full((68, 2), (80 + head_x, 60), np.float32)
    points[:17] += np.stack([30 * np.cos(angle), 44 * np.sin(angle)], -1).astype(np.float32)
    return (frame + 0.5).astype(np.uint8), labels, alpha, points


def background() -> np.ndarray:
    return np.full((SIDE, SIDE, 3), GREEN, np.uint8)


def painter_of(clip: list) -> TorsoPainter:
    return TorsoPainter.fit(
        lambda i: clip[i][0], lambda i: clip[i][1], lambda i: clip[i][2], len(clip)
    )


@pytest.fixture(scope="module")
def clip() -> list:
    return [drawn(x) for x in (0, 4, 8, 4, 0, -4, -8, -4)]


@pytest.fixture(scope="module")
def painted(clip: list) -> list[np.ndarray]:
    painter = painter_of(clip)
    return [painter.paint(*frame, background()) for frame in clip]


def test_visible_torso_is_unchanged(clip: list, painted: list[np.ndarray]) -> None:
    for (frame, labels, alpha, _), rgba in zip(clip, painted, strict=True):
        far = cv2.dilate((labels == HEAD).astype(np.uint8), np.ones((15, 15), np.uint8)) == 0
        body = ((labels == NECK) | (labels == TORSO)) & (alpha == 255) & far
        assert body.sum() > 3000
        np.testing.assert_array_equal(rgba[body][:, :3], frame[body])
        assert (rgba[body][:, 3] == 255).all()


def test_nothing_is_missing_just_under_the_head(clip: list, painted: list[np.ndarray]) -> None:
    """A head that moves up by 12 px, or is 12 px smaller, uncovers torso and no hole."""
    for (_, labels, _, _), rgba in zip(clip, painted, strict=True):
        # Straight above the visible neck, its outer edges left out.
        under = np.zeros_like(labels, bool)
        for column in range(68, 92):
            top = np.flatnonzero(labels[:, column] == NECK)[0]
            assert labels[top - 1, column] == HEAD
            under[top - 12 : top, column] = True
        assert rgba[under][:, 3].min() > 245
        # It is neck, if a little darker: nothing of the red face, nothing of the background.
        off = rgba[under][:, :3].astype(int) - SKIN
        assert np.abs(off).max() < 50
        assert rgba[under][:, 1].min() > 90


def test_speck_between_head_and_neck_cuts_no_slit() -> None:
    frame, labels, alpha, points = drawn()
    top = int(np.flatnonzero(labels[:, 80] == NECK)[0])
    labels[top : top + 2, 80:82] = 0
    rgba = painter_of([(frame, labels, alpha)]).paint(frame, labels, alpha, points, background())
    assert rgba[top - 12 : top, 76:86, 3].min() > 245


def test_only_the_body_and_what_the_head_hides_is_painted(
    clip: list, painted: list[np.ndarray]
) -> None:
    for (_, labels, _, points), rgba in zip(clip, painted, strict=True):
        background = cv2.erode((labels == 0).astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
        assert rgba[background].max() == 0
        brow = int(points[:, 1].mean()) - 20
        assert rgba[:brow, :, 3].max() == 0


def test_soft_edges_show_the_torso_not_the_background(painted: list[np.ndarray]) -> None:
    rgba = painted[0]
    edge = (rgba[..., 3] > 25) & (rgba[..., 3] < 230)
    edge[:125] = False  # the shoulders alone
    assert edge.sum() > 50
    assert np.abs(rgba[edge][:, :3].astype(int) - COAT).mean() < 15
    # And so over the background the frame comes out as it was.
    frame = drawn()[0].astype(int)
    share = rgba[..., 3:] / 255
    over = share * rgba[..., :3] + (1 - share) * background()
    assert np.abs(over - frame)[edge].mean() < 10


def test_hidden_part_holds_still_while_the_head_moves(
    clip: list, painted: list[np.ndarray]
) -> None:
    hidden = np.all([labels == HEAD for _, labels, _, _ in clip], axis=0)
    hidden &= np.all([rgba[..., 3] > 200 for rgba in painted], axis=0)
    assert hidden.sum() > 100
    colors = np.stack([rgba[hidden][:, :3] for rgba in painted]).astype(float)
    assert colors.std(0).mean() < 3


def test_reference_follows_the_torso() -> None:
    moves = [(0, 0), (3, 0), (6, 2), (3, 2), (0, 0), (-4, 1)]
    frames = [drawn(0, move) for move in moves]
    painter = painter_of(frames)
    for frame, move in zip(frames, moves, strict=True):
        np.testing.assert_allclose(painter.shift(frame[0]), move, atol=0.35)


def test_frame_without_neck_and_torso_is_empty() -> None:
    frame, labels, alpha, points = drawn()
    gone = np.where(labels == HEAD, HEAD, 0).astype(np.uint8)
    rgba = painter_of([(frame, labels, alpha)]).paint(frame, gone, alpha, points, background())
    assert rgba.max() == 0
