"""Finding faces in a whole frame: BlazeFace for short range (Bazarevsky et al., 2019)."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from radnerf.faces.region import Region
from radnerf.tflite.network import Network

CONFIDENCE = 0.5
SAME_FACE = 0.3  # intersection over union of two boxes of one face
# Pixels between the anchors of a grid, and anchors at each of its places.
GRIDS = ((8, 2), (16, 6))
BOX, EYES = slice(0, 4), slice(4, 8)  # numbers of a detection: middle and size, two points


class FaceDetector:
    """The faces of a frame."""

    def __init__(self, path: Path) -> None:
        self.network = Network.load(path)
        self.anchors = anchors(self.network.size[0])

    def __call__(self, frame: UInt8[np.ndarray, "h w 3"]) -> list[Region]:
        """The regions of the faces, the surest first."""
        side = max(frame.shape[:2])
        whole = Region(side / 2, side / 2, side)
        shown = whole.shown(frame, self.network.size, cv2.BORDER_CONSTANT)
        found = self.network(shown * np.float32(2 / 255) - 1)
        scores = 0.5 + 0.5 * np.tanh(found["classificators"][0, :, 0] / 2)
        sure = scores >= CONFIDENCE
        boxes = decoded(found["regressors"][0, sure], self.anchors[sure], self.network.size[0])
        return [_region(box * side) for box in merged(boxes, scores[sure])]


def anchors(side: int) -> Float[np.ndarray, "n 2"]:
    """Where the network's detections are counted from (x, y), in sides of its image."""
    rows = []
    for stride, count in GRIDS:
        y, x = np.mgrid[: side // stride, : side // stride] * stride + stride / 2
        rows.append(np.repeat(np.stack([x.ravel(), y.ravel()], 1), count, axis=0))
    return (np.concatenate(rows) / side).astype(np.float32)


def decoded(
    raw: Float[np.ndarray, "n 16"], anchors: Float[np.ndarray, "n 2"], side: int
) -> Float[np.ndarray, "n 16"]:
    """Detections in sides of the network's image: middle, width, height, and six points."""
    boxes = raw / side
    boxes[:, :2] += anchors
    boxes[:, 4:] += np.tile(anchors, 6)
    return boxes


def merged(
    boxes: Float[np.ndarray, "n c"], scores: Float[np.ndarray, " n"]
) -> list[Float[np.ndarray, " c"]]:
    """One detection a face: the mean of those that overlap the surest, weighted by their scores."""
    order = np.argsort(-scores, kind="stable")
    found = []
    while len(order):
        same = _overlaps(boxes[order[0]], boxes[order]) > SAME_FACE
        same[0] = True  # also where a box has no size
        weights = scores[order[same]]
        found.append(weights @ boxes[order[same]] / weights.sum())
        order = order[~same]
    return found


def _overlaps(box: Float[np.ndarray, " c"], boxes: Float[np.ndarray, "n c"]) -> np.ndarray:
    """Intersection over union with each."""
    low = np.maximum(box[:2] - box[2:4] / 2, boxes[:, :2] - boxes[:, 2:4] / 2)
    high = np.minimum(box[:2] + box[2:4] / 2, boxes[:, :2] + boxes[:, 2:4] / 2)
    common = np.maximum(high - low, 0).prod(1)
    return common / np.maximum(box[2:4].prod() + boxes[:, 2:4].prod(1) - common, 1e-12)


def _region(box: Float[np.ndarray, " 16"]) -> Region:
    middle, size = box[BOX].reshape(2, 2)
    corners = np.stack([middle - size / 2, middle + size / 2])
    return Region.around(corners, box[EYES].reshape(2, 2))
