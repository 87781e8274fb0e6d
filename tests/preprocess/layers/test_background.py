"""The background shows what was seen behind the person, and nothing of the person."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from radnerf.data.clip import write_image
from radnerf.errors import UserError
from radnerf.preprocess.layers import background
from radnerf.preprocess.layers.background import fill_smoothly, given_background, median_background

HEIGHT, WIDTH = 60, 90


def scene() -> np.ndarray:
    """A background with a gradient and texture."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    texture = np.random.default_rng(0).integers(0, 40, (HEIGHT, WIDTH))
    return np.stack([x * 2, y * 3, 60 + texture], -1).astype(np.uint8)


def walker(i: int, person: int = 255) -> tuple[np.ndarray, np.ndarray]:
    """Frame and matte of a person who is 20 px wide and walks 3 px a frame."""
    frame, alpha = scene(), np.zeros((HEIGHT, WIDTH), np.uint8)
    columns = slice(5 + 3 * i, 25 + 3 * i)
    frame[10:, columns] = person
    alpha[10:, columns] = 255
    return frame, alpha


@pytest.mark.parametrize("person", [0, 255])
def test_background_seen_beside_the_person_is_recovered(person: int) -> None:
    found = median_background(lambda i: walker(i, person)[0], lambda i: walker(i)[1], 20)
    np.testing.assert_array_equal(found, scene())


def test_memory_limit_takes_fewer_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "MAX_BYTES", 6 * HEIGHT * WIDTH * 4)
    read = []

    def read_frame(i: int) -> np.ndarray:
        read.append(i)
        return walker(i)[0]

    median_background(read_frame, lambda i: walker(i)[1], 20)
    assert len(set(read)) == 4


def test_halo_of_the_person_is_left_out() -> None:
    """Light around the person, outside the matte, as blur and compression leave it."""

    def read_frame(i: int) -> np.ndarray:
        frame, alpha = walker(i, 0)
        halo = np.roll(alpha, 1, 1) | np.roll(alpha, -1, 1)
        frame[(halo > 0) & (alpha == 0)] = 255
        return frame

    found = median_background(read_frame, lambda i: walker(i)[1], 20)
    np.testing.assert_array_equal(found, scene())


def test_never_seen_pixels_are_filled_from_around() -> None:
    frame, alpha = scene(), np.zeros((HEIGHT, WIDTH), np.uint8)
    frame[20:, 30:60] = (255, 0, 255)
    alpha[20:, 30:60] = 255
    found = median_background(lambda i: frame, lambda i: alpha, 3).astype(int)
    hole = found[25:, 35:55]
    # Between the values at the hole's sides, and without steps: nothing of the person's color.
    assert hole[..., 0].min() > 35 and hole[..., 0].max() < 140
    assert hole[..., 1].max() < 190 and (np.abs(hole[..., 2] - 80) < 25).all()
    assert np.abs(np.diff(hole, axis=1)).max() <= 12
    assert np.abs(np.diff(hole, axis=0)).max() <= 12


def test_fill_keeps_known_pixels_and_a_constant() -> None:
    rng = np.random.default_rng(2)
    known = rng.random((37, 51)) > 0.6
    image = np.full((37, 51, 3), 93, np.uint8)
    image[~known] = rng.integers(0, 255, ((~known).sum(), 3))
    filled = fill_smoothly(image, known)
    assert np.abs(filled.astype(int) - 93).max() <= 1
    np.testing.assert_array_equal(filled[known], image[known])


def test_fill_of_nothing_known_and_all_known() -> None:
    image = scene()
    for known in (np.zeros((HEIGHT, WIDTH), bool), np.ones((HEIGHT, WIDTH), bool)):
        np.testing.assert_array_equal(fill_smoothly(image, known), image)


def test_a_background_from_the_user_is_scaled_to_the_frames(tmp_path: Path) -> None:
    path = tmp_path / "room.png"
    write_image(path, np.repeat(np.repeat(scene(), 2, 0), 2, 1))
    np.testing.assert_array_equal(given_background(path, (HEIGHT, WIDTH)), scene())
    assert given_background(path, (40, 60)).shape == (40, 60, 3)
    with pytest.raises(UserError, match=r"180 x 120, which are other proportions .* 60 x 60"):
        given_background(path, (60, 60))
    with pytest.raises(UserError, match=r"no\.png is missing"):
        given_background(tmp_path / "no.png", (HEIGHT, WIDTH))
