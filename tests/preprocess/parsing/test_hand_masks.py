"""Parsing of the real videos against outlines drawn by hand: hand_masks.json."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from radnerf import models
from radnerf.conventions import HEAD, NECK, TORSO
from radnerf.preprocess.landmarks.finders import MeshLandmarks
from radnerf.preprocess.parsing.parsers import SelfieParser
from radnerf.preprocess.report.accuracy import overlaps
from radnerf.preprocess.stages import Workspace
from radnerf.preprocess.video.decode import probe, read_frames

MASKS = json.loads((Path(__file__).parent / "hand_masks.json").read_text())
FRAMES = [(video, int(i)) for video, of in MASKS.items() if ".mp4" in video for i in of]
AROUND = 25  # frames that the parser learns the clip's colors from
RESOLUTION = 225
PARTS = {"torso": TORSO, "neck": NECK, "head": HEAD}  # in the order of drawing
# A pixel off along the whole outline costs 3 % of a head and 10 % of a neck.
LEAST = {"head": 0.95, "neck": 0.73, "torso": 0.88, "person": 0.95}


@pytest.mark.parametrize(("video", "number"), FRAMES)
def test_parsing_agrees_with_masks_drawn_by_hand(
    video: str, number: int, shared_videos: Path
) -> None:
    if not all(map(models.at_hand, models.MODELS)):
        pytest.skip("no networks here: python -m radnerf.models")
    found = parsed(shared_videos / video, number)
    wanted = drawn(MASKS[video][str(number)], found.shape)
    agreed = overlaps(found, wanted)
    assert {name: round(agreed[name], 3) for name in LEAST if agreed[name] < LEAST[name]} == {}


def parsed(path: Path, number: int) -> np.ndarray:
    """Labels of a frame, from the frames around it."""
    whole = probe(path)
    first = min(max(0, number - AROUND // 2), whole.n_frames - AROUND)
    few = whole.part(first, AROUND)
    size = few.fit(RESOLUTION)
    points = MeshLandmarks().find(few, Workspace(path, path, lambda _: None))
    frames = list(read_frames(few, size))
    labels = SelfieParser().labels(frames.__getitem__, points * (size[1] / few.width))
    return next(labels for i, labels, _ in labels if i == number - first)


def drawn(outlines: dict[str, list[list[int]]], shape: tuple[int, ...]) -> np.ndarray:
    """Labels from outlines; the head lies over the neck, the neck over the torso."""
    height, width = shape
    labels = np.zeros((height, width), np.uint8)
    for name, label in PARTS.items():
        points = np.array(outlines[name]) * np.array([width, height]) / MASKS["scale"] - 0.5
        cv2.fillPoly(labels, [np.round(points * 256).astype(np.int32)], label, shift=8)
    return labels
