"""Regions, detections and tracking by numbers worked out by hand."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from radnerf.faces import detector, mesh
from radnerf.faces.mesh import FaceTracker, distinct
from radnerf.faces.region import Region


def test_region_of_a_turned_face() -> None:
    corners = np.array([[10.0, 20.0], [30.0, 60.0]])
    region = Region.around(corners, np.array([[15.0, 30.0], [25.0, 40.0]]))
    assert (region.x, region.y, region.side) == (20, 40, 60)
    assert region.angle == pytest.approx(np.pi / 4)
    middle, right = region.placed(np.array([[0.5, 0.5, 0.0], [1.0, 0.5, 0.5]]))
    np.testing.assert_allclose(middle, [20, 40, 0])
    np.testing.assert_allclose(right, [20 + 30 * np.sqrt(0.5), 40 + 30 * np.sqrt(0.5), 30])


def test_what_a_region_shows_lies_where_it_places_it() -> None:
    frame = np.zeros((64, 64, 3), np.uint8)
    frame[40, 20] = 255
    region = Region(20, 40, 32, np.pi / 2)
    shown = region.shown(frame, (32, 32), cv2.BORDER_REPLICATE)
    row, column = np.argwhere(shown[..., 0] == 255)[0]
    (point,) = region.placed(np.array([[column / 32, row / 32]]))
    np.testing.assert_allclose(point, [20, 40], atol=0.05)


def test_overlap_of_regions() -> None:
    assert Region(0, 0, 2).overlap(Region(1, 0, 2)) == pytest.approx(1 / 3)
    assert Region(0, 0, 2).overlap(Region(5, 0, 2)) == 0


def test_of_overlapping_regions_the_last_is_kept() -> None:
    detected, other, tracked = Region(10, 10, 10), Region(50, 10, 10), Region(11, 10, 10)
    assert distinct([detected, other, tracked]) == [other, tracked]


def test_anchors_are_the_middles_of_both_grids() -> None:
    found = detector.anchors(128)
    assert found.shape == (896, 2)
    np.testing.assert_allclose(found[[0, 1, 2, 511, 512, 518]] * 128, [
        [4, 4], [4, 4], [12, 4], [124, 124], [8, 8], [24, 8],
    ])  # fmt: skip
    raw = np.zeros((1, 16), np.float32)
    raw[0, :6] = [12.8, 0, 64, 32, -12.8, 12.8]
    (box,) = detector.decoded(raw, found[:1], 128)
    np.testing.assert_allclose(box[:6], [0.13125, 0.03125, 0.5, 0.25, -0.06875, 0.13125], atol=1e-6)


def test_detections_of_one_face_are_averaged_by_their_scores() -> None:
    boxes = np.zeros((3, 16), np.float32)
    boxes[:, :4] = [[0.50, 0.5, 0.2, 0.2], [0.1, 0.1, 0.1, 0.1], [0.52, 0.5, 0.2, 0.2]]
    second, first = detector.merged(boxes, np.array([0.6, 0.7, 0.9], np.float32))
    np.testing.assert_allclose(first, boxes[1], atol=1e-6)
    assert second[0] == pytest.approx((0.6 * 0.50 + 0.9 * 0.52) / 1.5)
    assert detector.merged(boxes[:0], np.zeros(0, np.float32)) == []


class Scene:
    """A network's stand-in: faces that move by a tenth of their size each frame."""

    def __init__(self, faces: list[Region]) -> None:
        self.faces, self.searches, self.looks = faces, 0, 0

    def search(self, frame: np.ndarray) -> list[Region]:
        self.searches += 1
        return self.faces

    def look(self, frame: np.ndarray, region: Region) -> np.ndarray | None:
        self.looks += 1
        near = [f for f in self.faces if abs(f.x - region.x) < f.side / 2]
        if not near:
            return None
        points = np.zeros((478, 3), np.float32)
        points[0, :2] = near[0].x - near[0].side / 3, near[0].y - near[0].side / 3
        points[1:, :2] = near[0].x + near[0].side / 3, near[0].y + near[0].side / 3
        points[33, :2], points[263, :2] = (near[0].x - 1, near[0].y), (near[0].x + 1, near[0].y)
        return points


@pytest.mark.parametrize("follow", [True, False])
def test_known_faces_are_followed_and_more_are_sought(
    monkeypatch: pytest.MonkeyPatch, follow: bool
) -> None:
    scene = Scene([Region(30, 30, 30)])
    monkeypatch.setattr(mesh, "FaceDetector", lambda path: scene.search)
    monkeypatch.setattr(mesh, "FaceMesh", lambda path: scene.look)
    track = FaceTracker(Path("a"), Path("b"), most=2, follow=follow)
    frame = np.zeros((100, 200, 3), np.uint8)
    assert len(track(frame)) == 1 and len(track.seen) == int(follow)
    scene.faces = [Region(33, 30, 30), Region(120, 30, 30)]
    assert len(track(frame)) == 2 and scene.looks == 3, "the region it knows replaces the new one"
    assert len(track(frame)) == 2
    assert scene.searches == (2 if follow else 3), "with as many faces as are asked for"
    scene.faces = []
    assert track(frame) == [] and track.seen == []
