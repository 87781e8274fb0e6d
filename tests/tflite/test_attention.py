"""The attention mesh's operators, by numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from radnerf.tflite import attention, loops
from radnerf.tflite.flexbuffer import read_map


def test_an_upright_part_is_enclosed() -> None:
    points = np.array([[4, 6, 0], [8, 6, 9], [6, 10, 0], [0, 0, 0]], np.float32)
    matrix = attention.part_matrix(points, (0, 1, 2), (0, 1), (16, 8), (1.5, 2.0))
    # The box is 4 x 4 around (6, 8): the look 6 wide and 8 high, so x from 3 and y from 4.
    corners = attention.placed(np.array([[0, 0], [16, 8]], np.float32), matrix)
    np.testing.assert_allclose(corners, [[3, 4], [9, 12]], atol=1e-5)


def test_a_turned_part_is_looked_at_along_its_line() -> None:
    # The line from point 0 to point 1 goes straight down: the look's x axis does, too.
    points = np.array([[5, 2, 0], [5, 6, 0], [6, 4, 0], [4, 4, 0]], np.float32)
    matrix = attention.part_matrix(points, (0, 1, 2, 3), (0, 1), (4, 2), (1.0, 1.0))
    middle, right = attention.placed(np.array([[2, 1], [4, 1]], np.float32), matrix)
    np.testing.assert_allclose(middle, [5, 4], atol=1e-5)
    np.testing.assert_allclose(right, [5, 6], atol=1e-5)


def test_a_look_lies_between_pixel_centres_and_is_zero_outside() -> None:
    ramp = np.zeros((4, 4, 16), np.float32)
    ramp[..., 0], ramp[..., 1] = np.arange(4), np.arange(4)[:, None]
    matrix = np.array([[0.5, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], np.float32)
    out = np.ones((2, 8, 16), np.float32)
    loops.look(ramp, matrix, out)
    # Column j's centre j + 0.5 lies at (j + 0.5) / 2 + 1, in pixels whose centres are at halves.
    columns = (np.arange(8) + 0.5) / 2 + 1 - 0.5
    inside = columns <= 3
    np.testing.assert_allclose(out[0, :, 0], np.where(inside, columns, 0), atol=1e-6)
    np.testing.assert_allclose(out[1, inside, 1], 1, atol=1e-6)
    assert not inside.all() and not out[:, ~inside].any()


def test_options_of_custom_operators() -> None:
    # {"a": 7, "b": [1, 300]}, packed by hand: keys, the list, their vector, the map.
    keys = b"a\0b\0"
    numbers = b"\x02\x00\x01\x00\x2c\x01"  # length and elements, two bytes each
    names = bytes([2, 11, 10])  # length, and how far back each key lies
    buffer = keys + numbers + names
    values = bytes([2, 1, 2, 7, 8, 1 << 2, 11 << 2 | 1])
    # Offsets: to the keys' vector, and from the second value to the list's first element.
    place = len(buffer)
    values = bytes([place - (len(keys + numbers) + 1), 1, 2, 7, place + 4 - (len(keys) + 2)])
    buffer += values + bytes([1 << 2, 11 << 2 | 1])
    buffer += bytes([len(buffer) - (place + 3), 9 << 2, 1])
    assert read_map(buffer) == {"a": 7, "b": [1, 300]}
    assert read_map(b"") == {}
    with pytest.raises(ValueError, match="no map"):
        read_map(bytes([7, 1 << 2, 1]))
