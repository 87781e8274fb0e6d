"""Parsing of drawn people whose parts are known, and of a few real frames."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from radnerf import models
from radnerf.conventions import BACKGROUND, HEAD, NECK, TORSO
from radnerf.faces.person import PersonSegmenter
from radnerf.preprocess.landmarks.detect import mesh_detector
from radnerf.preprocess.parsing.selfie import parse_clip

SIDE = 160
GREEN, SKIN, HAIR, COAT, SHIRT = (
    (40, 130, 60), (205, 150, 120), (45, 30, 22), (40, 45, 90), (240, 240, 240)
)  # fmt: skip


DARK = {"hair": (30, 26, 24), "coat": (34, 34, 38), "room": (22, 24, 28), "shirt": (40, 40, 46)}


def drawn_person(
    x: float = 0.0,
    long_hair: bool = False,
    ears: bool = False,
    glasses: bool = False,
    hair: tuple[int, int, int] = HAIR,
    coat: tuple[int, int, int] = COAT,
    shirt: tuple[int, int, int] = SHIRT,
    room: tuple[int, int, int] = GREEN,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frame, true labels and 68 landmarks of a person whose head stands x pixels aside."""
    frame = np.empty((SIDE, SIDE, 3), np.uint8)
    frame[:] = room
    labels = np.full((SIDE, SIDE), BACKGROUND, np.uint8)

    def ellipse(centre: tuple[float, float], axes: tuple[int, int], rgb, label: int) -> None:
        middle = (round(centre[0]), round(centre[1]))
        for image, color in ((frame, rgb), (labels, (label,))):
            cv2.ellipse(image, middle, axes, 0, 0, 360, color, -1)

    def box(left: int, top: int, right: int, bottom: int, rgb, label: int) -> None:
        frame[top:bottom, left:right] = rgb
        labels[top:bottom, left:right] = label

    c = 80 + x
    ellipse((80, 165), (75, 48), coat, TORSO)
    box(66, 118, 94, 160, shirt, TORSO)
    box(66, 85, 94, 128, SKIN, NECK)
    if long_hair:
        for left in (round(c) - 40, round(c) + 22):
            box(left, 50, left + 18, 104, hair, HEAD)
    ellipse((c, 55), (36, 42), hair, HEAD)
    if ears:
        for side in (c - 33, c + 33):
            ellipse((side, 68), (6, 10), SKIN, HEAD)
    ellipse((c, 66), (28, 38), SKIN, HEAD)
    if glasses:
        for side in (c - 13, c + 13):
            cv2.ellipse(frame, (round(side), 58), (11, 8), 0, 0, 360, (18, 18, 20), 2)
        box(round(c) - 34, 56, round(c) - 23, 59, (18, 18, 20), HEAD)
        box(round(c) + 23, 56, round(c) + 34, 59, (18, 18, 20), HEAD)
    noise = np.random.default_rng(0).normal(0, 3, frame.shape)
    frame = np.clip(frame + noise, 0, 255).astype(np.uint8)
    return frame, labels, face_68(c, 66, 28, 38)


def face_68(x: float, y: float, half_width: float, half_height: float) -> np.ndarray:
    """68 landmarks of an elliptic face."""
    points = np.zeros((68, 2), np.float32)
    angle = np.linspace(np.pi + 0.2, -0.2, 17)
    points[:17] = np.stack([np.cos(angle), np.sin(angle)], -1)
    points[17:27] = np.stack([np.linspace(-0.7, 0.7, 10), np.full(10, -0.35)], -1)
    points[27:36] = np.stack([np.zeros(9), np.linspace(-0.2, 0.25, 9)], -1)
    turn = np.linspace(0, 2 * np.pi, 6, endpoint=False)
    ring = np.stack([-np.cos(turn), -np.sin(turn)], -1)
    points[36:42] = ring * [0.18, 0.05] + [-0.42, -0.2]
    points[42:48] = ring * [0.18, 0.05] + [0.42, -0.2]
    points[45] = [0.6, -0.2]
    turn = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    points[48:] = np.stack([-np.cos(turn) * 0.35, -np.sin(turn) * 0.1 + 0.55], -1)
    return points * np.float32([half_width, half_height]) + np.float32([x, y])


def not_green(frame: np.ndarray) -> np.ndarray:
    """A person mask that knows this background."""
    off = np.abs(frame.astype(np.float32) - GREEN).max(-1)
    return (off > 30).astype(np.float32)


def known_mask(labels: np.ndarray):  # type: ignore[no-untyped-def]
    """A person mask as soft as a network's, from the truth."""
    soft = cv2.GaussianBlur((labels != BACKGROUND).astype(np.float32), (0, 0), 1.5)
    return lambda frame: soft


def parse(people: list[tuple[np.ndarray, np.ndarray, np.ndarray]], **options):
    frames = [person[0] for person in people]
    points = np.stack([person[2] for person in people])
    return list(parse_clip(lambda i: frames[i], points, person_mask=not_green, **options))


def overlap(found: np.ndarray, truth: np.ndarray) -> float:
    return float((found & truth).sum() / (found | truth).sum())


def test_drawn_person_is_parsed_as_drawn() -> None:
    people = [drawn_person(x) for x in (0, 0.5, 1, 1.5, 2, 2)]
    for (_, labels, alpha), (_, truth, _) in zip(parse(people), people, strict=True):
        assert overlap(labels == HEAD, truth == HEAD) > 0.94
        assert overlap(labels == TORSO, truth == TORSO) > 0.94
        assert overlap(labels == NECK, truth == NECK) > 0.8
        assert overlap(alpha > 127, truth != BACKGROUND) > 0.97
        # Of the face nothing may go to the neck, of the shoulders nothing to the head.
        face = cv2.erode((truth == HEAD).astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
        assert not (labels[face] != HEAD).any()
        assert not (labels[135:] == HEAD).any()


def test_white_collar_is_torso() -> None:
    people = [drawn_person()] * 3
    _, labels, _ = parse(people)[1]
    shirt = labels[134:156, 69:91]
    assert (shirt == TORSO).mean() > 0.97


def test_hair_below_the_jaw_belongs_to_the_head() -> None:
    people = [drawn_person(long_hair=True)] * 5
    _, labels, _ = parse(people)[2]
    _, truth, _ = people[0]
    inner = cv2.erode((truth == HEAD).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    below_ears = inner & (np.arange(SIDE)[:, None] > 85)
    assert below_ears.sum() > 200
    assert (labels[below_ears] == HEAD).mean() > 0.95
    assert overlap(labels == TORSO, truth == TORSO) > 0.93


@pytest.mark.parametrize(
    "looks",
    [
        {"ears": True},
        {"glasses": True, "ears": True},
        {"hair": SKIN, "ears": True},
        {"hair": (225, 222, 215), "long_hair": True},
        DARK,
        DARK | {"long_hair": True},
    ],
    ids=["ears", "glasses", "bald", "white hair over a white collar", "dark", "dark, long hair"],
)
def test_people_of_all_looks(looks: dict[str, Any]) -> None:
    frame, truth, points = drawn_person(**looks)
    results = list(
        parse_clip(lambda i: frame, np.stack([points] * 3), person_mask=known_mask(truth))
    )
    _, labels, alpha = results[1]
    assert overlap(alpha > 127, truth != BACKGROUND) > 0.95
    assert overlap(labels == HEAD, truth == HEAD) > 0.93
    assert overlap(labels == TORSO, truth == TORSO) > 0.93
    assert not (labels[135:] == HEAD).any()


@pytest.mark.parametrize("n_frames", [1, 2, 7])
def test_frames_come_in_order_with_bounded_read_ahead(n_frames: int) -> None:
    frame, _, points = drawn_person()
    read: list[int] = []
    reported: list[int] = []

    def read_frame(i: int) -> np.ndarray:
        read.append(i)
        return frame

    results = parse_clip(
        read_frame, np.stack([points] * n_frames), reported.append, not_green, workers=2
    )
    ahead = []
    order = []
    for i, _, _ in results:
        order.append(i)
        ahead.append(read[n_frames:][-1] - i)  # after the frames that colors are learned from
    assert order == list(range(n_frames))
    assert reported == list(range(1, n_frames + 1))
    assert max(ahead) <= 9


def test_reads_no_further_than_a_window_ahead() -> None:
    frame, _, points = drawn_person()
    last = 0

    def read_frame(i: int) -> np.ndarray:
        nonlocal last
        last = i
        return frame

    results = parse_clip(read_frame, np.stack([points] * 60), not_green)
    assert next(results)[0] == 0
    assert last <= 9
    results.close()


def test_what_stands_apart_from_the_person_is_not_the_person() -> None:
    frame, _, points = drawn_person()
    frame = frame.copy()
    frame[5:20, 5:20] = 255
    (_, labels, alpha), *_ = parse([(frame, frame, points)])
    assert alpha[5:20, 5:20].max() == 0
    assert (labels[5:20, 5:20] == BACKGROUND).all()


def test_labels_hold_still_when_only_the_landmarks_tremble() -> None:
    rng = np.random.default_rng(1)
    frame, truth, points = drawn_person()
    people = [
        (frame, truth, points + rng.normal(0, 0.4, (1, 2)).astype(np.float32)) for _ in range(12)
    ]
    labels = np.stack([result[1] for result in parse(people)])
    changed = (labels[1:] != labels[:-1]).sum((1, 2)).mean()
    # The jaw is some 60 pixels long.
    assert changed < 30


@pytest.mark.parametrize(("name", "height"), [("obama.mp4", 225), ("may.mp4", 256)])
def test_real_frames(shared_videos: Path, name: str, height: int) -> None:
    av = pytest.importorskip("av")
    networks = [models.at_hand(model) for model in models.MODELS]
    if None in networks:
        pytest.skip("no networks here: python -m radnerf.models")
    find = mesh_detector(*networks[:2])
    frames, points = [], []
    with av.open(str(shared_videos / name)) as video:
        for frame in itertools.islice(video.decode(video=0), 8):
            frames.append(frame.to_ndarray(format="rgb24", width=height, height=height))
            points.append(find(frames[-1])[0])
    marks = np.array(points, np.float32)
    for i, labels, alpha in parse_clip(lambda i: frames[i], marks, PersonSegmenter(networks[2])):
        share = [(labels == k).mean() for k in (BACKGROUND, HEAD, NECK, TORSO)]
        assert 0.2 < share[HEAD] < 0.55
        assert 0.01 < share[NECK] < 0.1
        assert 0.05 < share[TORSO] < 0.3
        assert alpha.max() == 255
        # Every landmark above the jaw lies on the head.
        inner = np.round(marks[i, [1, 10, 33, 263, 61, 291, 17, 199], :2]).astype(int)
        assert (labels[inner[:, 1], inner[:, 0]] == HEAD).all()
        # Shoulders: the picture's lower corners.
        assert not (labels[-height // 20 :] == HEAD).any()
    if name == "obama.mp4":
        collar = labels[round(0.93 * height) :, round(0.4 * height) : round(0.42 * height)]
        assert (collar == TORSO).all()
