"""The torso layer: torso and neck as they are, and continued upward under the head.

The head moves against the torso, and a learned head may be a little smaller than the true one, so
that what the head covers must be made up. It comes from one reference picture of the clip's torso
(what other frames saw there, filled in smoothly beyond), moved with the torso: it does not flicker.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from radnerf.conventions import HEAD, NECK, TORSO
from radnerf.geometry.face68 import to_68
from radnerf.preprocess.layers.background import fill_smoothly

Rgb = UInt8[np.ndarray, "h w 3"]
Gray = UInt8[np.ndarray, "h w"]
Plane = Float[np.ndarray, "h w"]

MAX_SAMPLES = 40
FLOW_SIDE = 256  # the torso's motion is measured at this size, pixels
SOLID = 0.95  # alpha of a pixel that shows nothing of the background
# In image heights.
BLUR = 0.01  # reach of the head's colors beyond its edge
NEAR = 0.05  # a soft edge belongs to a torso nearer than this
MARGIN = 0.06  # rows above all that is painted that may still bear on it
SPECK = 0.012  # half the width of background that is too narrow to be more than a speck
# In face heights, from the eyes to the chin.
NECK_UP = 0.7  # how far the neck is continued under the head,
TORSO_UP = 0.2  # and the torso beside it (collar, shoulders under long hair)
FULL_UP = 0.15  # both cover in full up to here
DARKEST = 0.75  # part of the brightness left where the continued neck ends


@dataclass
class TorsoPainter:
    """Paints the torso layer of any frame of one clip."""

    reference: Rgb  # the torso with nothing before it
    visible: Bool[np.ndarray, "h w"]  # where some frame showed it
    gray: Gray  # first frame, small, against which the torso's motion is measured
    corners: Float[np.ndarray, "n 1 2"]  # points on its torso

    @classmethod
    def fit(
        cls,
        read_frame: Callable[[int], Rgb],
        read_labels: Callable[[int], Gray],
        read_alpha: Callable[[int], Gray],
        n_frames: int,
    ) -> TorsoPainter:
        """Gather the clip's torso from frames spread over it."""
        first, labels = read_frame(0), read_labels(0)
        height, width = labels.shape
        gray = _small_gray(first)
        still = cv2.resize((labels == TORSO).astype(np.uint8), gray.shape[::-1])
        still = cv2.erode(still, np.ones((9, 9), np.uint8))
        corners = cv2.goodFeaturesToTrack(gray, 80, 0.01, 4, mask=still)
        if corners is None:
            corners = np.zeros((0, 1, 2), np.float32)
        painter = cls(first, np.zeros((height, width), bool), gray, corners)
        total = np.zeros((height, width, 3), np.float32)
        weight, neck = np.zeros((2, height, width), np.float32)
        for i in np.unique(np.linspace(0, n_frames - 1, min(n_frames, MAX_SAMPLES)).astype(int)):
            frame, labels = read_frame(int(i)), read_labels(int(i))
            clear = _clear(labels, read_alpha(int(i)) > 255 * SOLID, height).astype(np.float32)
            back = -painter.shift(frame)
            total += _moved(frame * clear[..., None], back)
            weight += _moved(clear, back)
            neck += _moved(clear * (labels == NECK), back)
        painter.visible = weight > 0.9
        mean = np.clip(total / np.maximum(weight, 1e-3)[..., None] + 0.5, 0, 255).astype(np.uint8)
        filled = fill_smoothly(mean, painter.visible).astype(np.float32)
        is_neck = painter.visible & (neck > 0.5 * weight)
        if is_neck.any():
            # Above a neck is more neck, without the clothes beside it.
            skin = fill_smoothly(mean, is_neck).astype(np.float32)
            column = np.asarray(is_neck.any(0), np.float32)[None]
            blend = cv2.GaussianBlur(column, (0, 0), max(1.0, 2 * BLUR * height))[..., None]
            unseen = blend * skin + (1 - blend) * filled
            filled = np.where(painter.visible[..., None], filled, unseen)
        painter.reference = np.clip(filled + 0.5, 0, 255).astype(np.uint8)
        return painter

    def shift(self, frame: Rgb) -> Float[np.ndarray, " 2"]:
        """How far the torso stands from where it stood in the first frame, pixels (x, y)."""
        if len(self.corners) < 4:
            return np.zeros(2)
        now = _small_gray(frame)
        moved, found, _ = cv2.calcOpticalFlowPyrLK(
            self.gray, now, self.corners, self.corners.copy(), winSize=(15, 15), maxLevel=3
        )
        good = found.ravel() > 0
        if good.sum() < 4:
            return np.zeros(2)
        step = np.median((moved - self.corners)[good, 0], axis=0)
        return np.asarray(step * frame.shape[1] / now.shape[1])

    def paint(
        self,
        frame: Rgb,
        labels: Gray,
        alpha: Gray,
        points: Float[np.ndarray, "k c"],
        background: Rgb,
    ) -> UInt8[np.ndarray, "h w 4"]:
        """The torso layer of one frame, RGBA with straight alpha.

        Args:
            frame: RGB.
            labels: of radnerf.data.clip.
            alpha: matte of the person.
            points: landmarks, pixels.
            background: the picture without the person.
        """
        head, body = labels == HEAD, (labels == NECK) | (labels == TORSO)
        rgba = np.zeros((*labels.shape, 4), np.uint8)
        if not body.any():
            return rgba
        height = len(labels)
        corners = to_68(points)
        face = float(np.linalg.norm(corners[8] - corners[27]))
        # Nothing is painted higher than the neck goes on under the head.
        top = int(body.any(1).argmax() - NECK_UP * face - MARGIN * height)
        part = np.s_[max(0, top) :]
        labels, head, body, background = labels[part], head[part], body[part], background[part]
        soft = alpha[part].astype(np.float32) / 255
        by = self.shift(frame)
        reference = _moved(self.reference[part].astype(np.float32), by)
        clear = _clear(labels, soft > SOLID, height)
        own = _unmixed(frame[part].astype(np.float32), soft, clear, background, height)
        reference += _difference(own, reference, clear, height)
        cover, depth = _upward(labels, face, height)
        shade = 1 - (1 - DARKEST) * np.clip(depth / (NECK_UP * face), 0, 1)
        shade[_moved(self.visible[part].astype(np.float32), by) > 0.5] = 1
        reference *= shade[..., None]
        # The frame itself, but for the seam along the head.
        away = cv2.distanceTransform((~head).astype(np.uint8), cv2.DIST_L2, 3)
        seam = max(1.5, BLUR * height)
        trust = np.clip((away - seam) / seam, 0, 1) * body
        trust[~(body | head)] = 1
        out_alpha = np.where(head, cover, soft * _nearer(body, head, height))
        painted = rgba[part]
        painted[..., :3] = np.clip(cv2.blendLinear(own, reference, trust, 1 - trust), 0, 255) + 0.5
        painted[..., 3] = 255 * out_alpha + 0.5
        painted[out_alpha < 1 / 255] = 0
        return rgba


def _clear(labels: Gray, solid: Bool[np.ndarray, "h w"], height: int) -> Bool[np.ndarray, "h w"]:
    """Neck and torso, away from the head and from soft edges."""
    reach = 2 * max(2, round(2 * BLUR * height)) + 1
    near = cv2.dilate((labels == HEAD).astype(np.uint8), np.ones((reach, reach), np.uint8)) > 0
    return ((labels == NECK) | (labels == TORSO)) & solid & ~near


def _nearer(
    body: Bool[np.ndarray, "h w"], head: Bool[np.ndarray, "h w"], height: int
) -> Bool[np.ndarray, "h w"]:
    """Where a soft edge belongs to the torso rather than to the head."""
    to_body, to_head = (
        cv2.distanceTransform((~part).astype(np.uint8), cv2.DIST_L2, 3) for part in (body, head)
    )
    return body | (~head & (to_body < to_head) & (to_body < NEAR * height))


def _unmixed(
    frame: Float[np.ndarray, "h w 3"],
    soft: Plane,
    clear: Bool[np.ndarray, "h w"],
    background: Rgb,
    height: int,
) -> Float[np.ndarray, "h w 3"]:
    """The torso's own color at soft edges, where the frame shows background through them."""
    edge = np.nonzero((soft > 0) & (soft < SOLID))
    weight = clear.astype(np.float32)
    size = 2 * max(3, round(0.03 * height)) + 1
    near = cv2.blur(weight, (size, size))[edge][:, None]
    color = cv2.blur(frame * weight[..., None], (size, size))[edge] / np.maximum(near, 1e-4)
    coverage = np.maximum(soft[edge], 0.3)[:, None]
    solved = np.clip((frame[edge] - (1 - coverage) * background[edge]) / coverage, 0, 255)
    own = frame.copy()
    own[edge] = np.where(near > 0.01, 0.5 * color + 0.5 * solved, solved)
    return own


def _difference(
    own: Float[np.ndarray, "h w 3"],
    reference: Float[np.ndarray, "h w 3"],
    clear: Bool[np.ndarray, "h w"],
    height: int,
) -> Float[np.ndarray, "h w 3"]:
    """Smooth change of light between the reference and this frame, so that no seam shows."""
    rows, width = clear.shape
    small = (max(1, width // 4), max(1, rows // 4))
    weight = cv2.resize(clear.astype(np.float32), small, interpolation=cv2.INTER_AREA)
    off = cv2.resize((own - reference) * clear[..., None], small, interpolation=cv2.INTER_AREA)
    sigma = max(1.0, 0.005 * height)
    near = cv2.GaussianBlur(weight, (0, 0), sigma)
    off = cv2.GaussianBlur(off, (0, 0), sigma) / (near + 0.02)[..., None]
    return np.asarray(cv2.resize(off, (width, rows)), np.float32)


def _upward(labels: Gray, face: float, height: int) -> tuple[Plane, Plane]:
    """Coverage under the head, and the height above the visible torso, pixels.

    Columns are followed upward from the visible neck or torso through the head.
    """
    head, body = labels == HEAD, (labels == NECK) | (labels == TORSO)
    rows = np.arange(len(labels), dtype=np.float32)[:, None]

    # Row of the nearest pixel below (or here) that is neck or torso; of one that is neither
    # torso nor head.
    def next_row(mask: Bool[np.ndarray, "h w"]) -> Plane:
        where = np.where(mask, rows, np.float32(2 * height))
        return np.minimum.accumulate(where[::-1], axis=0)[::-1]

    bodies = next_row(body)
    depth = bodies - rows
    # Specks of background between hair and collar do not cut a column short.
    side = 2 * max(1, round(SPECK * height)) + 1
    behind = cv2.morphologyEx(
        (~body & ~head).astype(np.uint8), cv2.MORPH_OPEN, np.ones((side, side), np.uint8)
    )
    reachable = head & (bodies < next_row(behind > 0))
    # How far up each column goes: far above the neck, less beside it, without steps.
    neck = (labels == NECK).any(0).astype(np.float32)
    sigma = max(1.0, 0.04 * face)
    wide = cv2.GaussianBlur(neck[None], (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)[0]
    limit = face * (TORSO_UP + (NECK_UP - TORSO_UP) * wide)
    cover = (reachable * np.clip(2 - 2 * depth / limit, 0, 1)).astype(np.float32)
    # Soft sides, but not next to the head's edge: nothing may shine through there.
    inner = cv2.GaussianBlur(np.minimum(cover, 1), (0, 0), sigma)
    fade = np.clip((depth - FULL_UP * face) / (4 * sigma), 0, 1)
    return cover * ((1 - fade) + fade * np.clip(2 * inner - 0.9, 0, 1)), depth


def _moved(
    image: Float[np.ndarray, "h w *c"], by: Float[np.ndarray, " 2"]
) -> Float[np.ndarray, "h w *c"]:
    affine = np.array([[1, 0, by[0]], [0, 1, by[1]]], np.float32)
    height, width = image.shape[:2]
    return np.asarray(
        cv2.warpAffine(image, affine, (width, height), borderMode=cv2.BORDER_REPLICATE)
    )


def _small_gray(frame: Rgb) -> Gray:
    scale = min(1.0, FLOW_SIDE / max(frame.shape[:2]))
    size = (round(frame.shape[1] * scale), round(frame.shape[0] * scale))
    small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY))
