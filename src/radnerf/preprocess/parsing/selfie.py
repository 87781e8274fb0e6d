"""Who is where in a frame: head, neck, torso and background, and a soft matte of the person.

No package brings a usable face-parsing model, so labels come from a person mask, the jaw line of
the landmarks, and colors learned from the clip itself.

Head's own axes: u to the image's right along the eye line, v down the face, in face half widths
from the middle of the eyes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy.ndimage import gaussian_filter

from radnerf.conventions import BACKGROUND, HEAD, NECK, TORSO
from radnerf.geometry.face68 import (
    BROWS,
    JAW_BELOW_EARS,
    JAW_MESH,
    N_MESH,
    OUTER_EYE_CORNERS,
    to_68,
)
from radnerf.preprocess.streams import side_by_side, windows

Rgb = UInt8[np.ndarray, "h w 3"]
Gray = UInt8[np.ndarray, "h w"]
Mask = Bool[np.ndarray, "h w"]
Plane = Float[np.ndarray, "h w"]
Points = Float[np.ndarray, "k 2"]
# Probability that a pixel shows the person.
PersonMask = Callable[[Rgb], Plane]
# Frame number, the frame, and a plane of it or several.
Look = tuple[int, Rgb, Float[np.ndarray, "*c h w"]]

N_SAMPLES = 24  # frames that the colors are learned from,
SAMPLE_SIDE = 256  # at this size, pixels
COARSE_SIDE = 256  # about the size at which colors are asked, pixels
SMOOTH = (1, 2, 3, 2, 1)  # weights of frames t-2 .. t+2

# In face half widths.
JAW_FLESH = 0.10  # the mesh's outline runs this far inside the jaw's, below the ears
HEAD_REACH = 2.4  # hair and ears end within this, left and right
NECK_REACH = 0.75  # half width of a neck

BITS = 5  # of each color channel in the histograms
CLEAR = 4.0  # log odds are clipped here
# Squared Mahalanobis distances from the cheeks: surely skin, surely not.
NEAR, FAR = 4.0, 9.0


def parse_clip(
    read_frame: Callable[[int], Rgb],
    landmarks: Float[np.ndarray, "t k c"],
    person_mask: PersonMask,
    report: Callable[[int], None] | None = None,
    workers: int = 2,
    first: int = 0,
) -> Iterator[tuple[int, Gray, Gray]]:
    """Frame number, labels and person matte of the frames, in order.

    Args:
        read_frame: frame i, RGB.
        landmarks: 478 mesh points or 68 points a frame, pixels.
        person_mask: called from one thread.
        report: called with the number of frames done.
        workers: threads.
        first: frame to begin with.

    Yields:
        i, labels (BACKGROUND, HEAD, NECK, TORSO of radnerf.data.clip), alpha (0 to 255).
    """
    points = steady(landmarks)
    n = len(points)
    picked = np.unique(np.linspace(0, n - 1, min(n, N_SAMPLES)).astype(int))
    colors = learn_colors([_sample(read_frame(int(i)), points[i], person_mask) for i in picked])

    def look(i: int) -> Look:
        frame = read_frame(i)
        return i, frame, person_mask(frame)

    def score(near: list[Look]) -> tuple[int, Scores]:
        i, frame, soft = averaged(near)
        return i, scored(frame, points[i], soft, colors)

    yield from labelled(look, score, points, report, workers, first)


def _sample(frame: Rgb, points: Points, mask: PersonMask) -> View:
    return View.of(*shrunk(frame, points, mask(frame), max(frame.shape[:2]) / SAMPLE_SIDE))


def labelled(
    look: Callable[[int], Look],
    score: Callable[[list[Look]], tuple[int, Scores]],
    points: Float[np.ndarray, "t k 2"],
    report: Callable[[int], None] | None,
    workers: int,
    first: int = 0,
) -> Iterator[tuple[int, Gray, Gray]]:
    """Frame number, labels and matte of the frames from `first` on, steady over time.

    Args:
        look: frame i, and what there is to see in it; called from one thread, in order.
        score: frame number and scores from the looks at the frames before, now and after.
        points: landmarks of every frame, pixels.
    """

    def settle(near: list[tuple[int, Scores]]) -> tuple[int, Gray, Gray]:
        i, now = near[len(near) // 2]
        return i, settled([scores for _, scores in near], points[i]), now.alpha

    with ThreadPoolExecutor(workers) as pool:
        reach = len(SMOOTH) // 2
        begin = max(0, first - reach - 1)
        looks = windows((look(i) for i in range(begin, len(points))), 1)
        near = windows(side_by_side(pool, score, looks, workers), reach)
        for result in side_by_side(pool, settle, near, workers):
            if result[0] < first:
                continue
            yield result
            if report:
                report(result[0] + 1)


@dataclass
class View:
    """A frame with what its landmarks and its matte say, before colors are asked."""

    frame: Rgb
    alpha: Plane
    face: Plane  # fraction of a pixel above the jaw line, or beside the face above the ears' ends
    core: Plane  # the same with the jaw's flesh
    u: Plane
    v: Plane
    brow: float  # v of the brows,
    lobe: float  # of the ears' ends,
    chin: float  # and of the chin
    guide: Any  # guided filter of this frame

    @classmethod
    def of(cls, frame: Rgb, points: Points, soft: Plane) -> View:
        height, width = frame.shape[:2]
        guide = edges(frame)
        alpha = matte(guide, soft)
        origin, axes = face_axes(points)
        x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
        u = (x - origin[0]) * axes[0, 0] + (y - origin[1]) * axes[0, 1]
        v = (x - origin[0]) * axes[1, 0] + (y - origin[1]) * axes[1, 1]
        jaw = _jaw(points, origin, axes)
        face, core = above_jaw(points, (height, width))
        corner = to_68(points)
        brow = float(((corner[BROWS] - origin) @ axes.T)[:, 1].mean())
        return cls(
            frame=frame,
            alpha=alpha,
            face=face,
            core=core,
            u=u,
            v=v,
            brow=brow,
            lobe=float(jaw[[0, -1], 1].mean()),
            chin=float(jaw[:, 1].max()),
            guide=guide,
        )


def edges(frame: Rgb) -> Any:
    """A filter that bends the edges of a plane to those of the frame."""
    radius = max(2, round(frame.shape[0] / 64))
    return cv2.ximgproc.createGuidedFilter(frame, radius, (0.03 * 255) ** 2)


def matte(guide: Any, soft: Plane) -> Plane:
    """The person's coverage of every pixel, from a probability that it shows the person."""
    alpha = np.clip(guide.filter(soft.astype(np.float32)), 0, 1)
    # The filter leaves a faint veil around the person and in it: drop both.
    return _of_one_piece(np.clip((alpha - 0.08) / 0.84, 0, 1))


def face_axes(points: Points) -> tuple[Float[np.ndarray, " 2"], Float[np.ndarray, "2 2"]]:
    """Origin in pixels and the axes u, v (rows): (pixel - origin) @ axes.T is (u, v)."""
    corner = to_68(points).astype(np.float64)
    left, right = corner[list(OUTER_EYE_CORNERS)]
    half = np.linalg.norm(corner[15] - corner[1]) / 2
    u = (right - left) / np.linalg.norm(right - left)
    return (left + right) / 2, np.stack([u, [-u[1], u[0]]]) / half


def _jaw(
    points: Points, origin: Float[np.ndarray, " 2"], axes: Float[np.ndarray, "2 2"]
) -> Float[np.ndarray, "j 2"]:
    """The jaw line in the head's own axes."""
    return (points[JAW_MESH if len(points) == N_MESH else JAW_BELOW_EARS] - origin) @ axes.T


def above_jaw(points: Points, size: tuple[int, int]) -> tuple[Plane, Plane]:
    """Fraction of every pixel that lies above the jaw line, without and with the jaw's flesh."""
    origin, axes = face_axes(points)
    jaw = _jaw(points, origin, axes)
    bare, fleshy = (_above_jaw(jaw, flesh, origin, axes, size) for flesh in (0.0, JAW_FLESH))
    return bare, fleshy


def _above_jaw(
    jaw: Float[np.ndarray, "j 2"],
    flesh: float,
    origin: Float[np.ndarray, " 2"],
    axes: Float[np.ndarray, "2 2"],
    size: tuple[int, int],
) -> Plane:
    """Everything above the jaw line, `flesh` outside it at its sides, or above the ears' ends."""
    middle = np.array([jaw[:, 0].mean(), 0.5 * jaw[:, 1].max()])
    out = jaw - middle
    beside = np.clip(np.abs(out[:, :1]) / np.abs(out[[0, -1], 0]).mean(), 0, 1) ** 2
    jaw = jaw + flesh * beside * out / np.linalg.norm(out, axis=1, keepdims=True)
    far = np.array([[HEAD_REACH, jaw[-1, 1]], [HEAD_REACH, -8], [-HEAD_REACH, -8]])
    outline = np.concatenate([jaw, far, [[-HEAD_REACH, jaw[0, 1]]]])
    pixels = outline @ np.linalg.inv(axes).T + origin
    shift = 4
    drawn = np.zeros(size, np.uint8)
    corners = np.round(pixels * (1 << shift)).astype(np.int32)
    cv2.fillPoly(drawn, [corners], (255,), cv2.LINE_AA, shift)
    return drawn.astype(np.float32) / 255


def _of_one_piece(alpha: Plane) -> Plane:
    """Without what the person mask saw apart from the person."""
    _, parts, stats, _ = cv2.connectedComponentsWithStats((alpha > 0.5).astype(np.uint8))
    if len(stats) <= 2:
        return alpha
    main = 1 + stats[1:, cv2.CC_STAT_AREA].argmax()
    apart = cv2.dilate(((parts > 0) & (parts != main)).astype(np.uint8), np.ones((7, 7), np.uint8))
    return np.where((parts == main) | (apart == 0), alpha, 0).astype(np.float32)


@dataclass
class Colors:
    """Log odds of a color, by its histogram bin."""

    hair_not_skin: Float[np.ndarray, " bins"]
    hair_not_clothes: Float[np.ndarray, " bins"]
    skin_not_clothes: Float[np.ndarray, " bins"]


def learn_colors(views: list[View]) -> Colors:
    """Colors of skin, hair and clothes, from where only they can be, then from the labels."""
    views = [view for view in views if (view.alpha > 0.9).any()] or views
    cheeks = np.concatenate([_logs(v.frame)[_cheeks(v)] for v in views])
    if len(cheeks) < 16:
        flat = np.zeros(1 << 3 * BITS, np.float32)
        return Colors(flat, flat, flat)
    clothes, skin, hair = [], [], []
    # Shade below the chin changes the light, hardly the ratios of the channels.
    ratios, all_three = (_Scatter.of(cheeks[:, :k]) for k in (2, 3))
    for view in views:
        logs = _logs(view.frame)
        shaded, distance = ratios.distance(logs[..., :2]), all_three.distance(logs)
        solid = view.alpha > 0.95
        below = solid & (view.core == 0) & (view.v > view.chin + 0.05)
        aside = np.abs(view.u) > 1.4
        clothes.append(view.frame[below & (aside | (shaded > FAR))])
        under = below & (np.abs(view.u) < NECK_REACH) & (shaded < NEAR)
        skin.append(view.frame[_cheeks(view) | under])
        top = view.v < view.brow - 0.95
        beside = (np.abs(view.u) > 1.0) & (view.v > view.brow) & (distance > FAR)
        hair.append(view.frame[solid & (view.core == 1) & (top | beside)])
    colors = _odds(skin, hair, clothes)
    for view in views:
        scores = Scores.of(view, colors)
        sure = (view.alpha > 0.95) & (scores.head < 64) & (view.v > view.chin + 0.05)
        clothes.append(view.frame[sure & (scores.neck < 50)])
        skin.append(view.frame[sure & (scores.neck > 205)])
    return _odds(skin, hair, clothes)


def _cheeks(view: View) -> Mask:
    across = np.abs(view.u) < 0.8
    return across & (view.v > 0.25) & (view.v < 0.65 * view.chin) & (view.alpha > 0.95)


def _logs(frame: Rgb) -> Float[np.ndarray, "h w 3"]:
    """Two log ratios of the channels, from which shade cancels, and the log of their product."""
    logs = np.log(frame.astype(np.float32) + 10)
    red, green, blue = logs[..., 0], logs[..., 1], logs[..., 2]
    return np.stack([red - green, green - blue, red + green + blue], -1)


@dataclass
class _Scatter:
    """Where values of k kinds lie and how they vary together."""

    centre: Float[np.ndarray, " k"]
    inverse: Float[np.ndarray, "k k"]

    @classmethod
    def of(cls, values: Float[np.ndarray, "n k"]) -> _Scatter:
        floor = 0.04**2 * np.eye(values.shape[1])
        return cls(np.median(values, 0), np.linalg.inv(np.cov(values.T) + floor))

    def distance(self, values: Float[np.ndarray, "h w k"]) -> Plane:
        """Squared Mahalanobis distance."""
        off = values - self.centre
        return np.asarray(((off @ self.inverse) * off).sum(-1))


def _bins(frame: UInt8[np.ndarray, "*s 3"]) -> Any:
    coarse = (frame >> (8 - BITS)).astype(np.int32)
    return (coarse[..., 0] << 2 * BITS) | (coarse[..., 1] << BITS) | coarse[..., 2]


def _odds(skin: list[Any], hair: list[Any], clothes: list[Any]) -> Colors:
    p_skin, p_hair, p_clothes = (_histogram(np.concatenate(c)) for c in (skin, hair, clothes))
    pairs = (p_hair / p_skin, p_hair / p_clothes, p_skin / p_clothes)
    return Colors(*(np.clip(np.log(ratio), -CLEAR, CLEAR) for ratio in pairs))


def _histogram(colors: UInt8[np.ndarray, "n 3"]) -> Float[np.ndarray, " bins"]:
    side = 1 << BITS
    counts = np.bincount(_bins(colors), minlength=side**3).astype(np.float32)
    cube = gaussian_filter(counts.reshape(side, side, side), sigma=1.2, mode="nearest")
    return cube.ravel() / max(len(colors), 1) + 2e-6


@dataclass
class Scores:
    """Soft answers for one frame, 0 to 255."""

    alpha: Gray
    head: Gray
    neck: Gray  # of what is not head

    @classmethod
    def of(cls, view: View, colors: Colors) -> Scores:
        flesh, hair, neck = answers(view, colors)
        return cls.joined(view.alpha, (view.face, view.core), flesh, hair, neck)

    @classmethod
    def joined(
        cls, alpha: Plane, jaw: tuple[Plane, Plane], flesh: Plane, hair: Plane, neck: Plane
    ) -> Scores:
        """The matte, what lies above the jaw (without and with its flesh), and the answers."""
        face, core = jaw
        head = np.maximum(face + (core - face) * flesh, hair)
        return cls(*(to_byte(plane) for plane in (alpha, head, neck)))


def scored(frame: Rgb, points: Points, soft: Plane, colors: Colors) -> Scores:
    """Scores of a frame of any size; colors are asked in a small one, edges drawn in full."""
    height, width = frame.shape[:2]
    small = shrunk(frame, points, soft, max(1, round(max(height, width) / COARSE_SIDE)))
    view = View.of(*small)
    if view.frame.shape == frame.shape:
        return Scores.of(view, colors)
    planes = (cv2.resize(plane, (width, height)) for plane in answers(view, colors))
    return Scores.joined(matte(edges(frame), soft), above_jaw(points, (height, width)), *planes)


def shrunk(frame: Rgb, points: Points, soft: Plane, by: float) -> tuple[Rgb, Points, Plane]:
    """A frame, its landmarks and a plane of it, so many times smaller."""
    if by <= 1:
        return frame, points, soft
    size = (round(frame.shape[1] / by), round(frame.shape[0] / by))
    scale = np.array(size, np.float32) / (frame.shape[1], frame.shape[0])
    return (
        cv2.resize(frame, size, interpolation=cv2.INTER_AREA),
        ((points + 0.5) * scale - 0.5).astype(np.float32),
        cv2.resize(soft, size, interpolation=cv2.INTER_AREA),
    )


def answers(view: View, colors: Colors) -> tuple[Plane, Plane, Plane]:
    """Where the jaw has flesh, where hair hangs, and where what is not head is neck."""
    bins = _bins(view.frame)
    person = view.alpha > 0.5
    skin = colors.skin_not_clothes[bins]
    left, right = _pinch(view)
    over_pinch = np.where(view.u < 0, left, right) - view.v
    hair = _hair(
        view, over_pinch, colors.hair_not_skin[bins], colors.hair_not_clothes[bins], person
    )
    # Where the neck begins, a collar's tips may touch the jaw's flesh.
    flesh = np.maximum(_sigmoid((over_pinch - 0.1) / 0.05), _sigmoid(2 * skin + 2))
    # A neck stands below the chin; its sides may reach up to the ears.
    wide = np.clip((np.abs(view.u) - NECK_REACH) / 0.2, 0, 4)
    deep = np.clip((view.v - view.chin - 0.6) / 0.3, 0, 2)
    neck = np.clip(view.guide.filter(_sigmoid(skin + 1.0 - wide - deep)), 0, 1)
    return flesh, hair * (np.abs(view.u) < HEAD_REACH), neck


def _hair(
    view: View, over_pinch: Plane, not_skin: Plane, not_clothes: Plane, person: Mask
) -> Plane:
    """Hair that hangs below the ears' ends, joined to the hair above."""
    above_pinch = _sigmoid(over_pinch / 0.05)
    aside = np.clip((np.abs(view.u) - 0.5) / 0.2, 0, 1)
    # Above the neck's narrowest place no clothes hang beside a face; below it hair must be
    # unlike them. Beside the neck skin must be skin in earnest.
    odds = np.minimum(not_skin + 3 * aside * above_pinch, not_clothes + 8 * above_pinch - 3)
    odds = odds - CLEAR * (np.abs(view.u) < 0.5)
    soft = np.clip(view.guide.filter(_sigmoid(odds)), 0, 1)
    hangs = person & (soft > 0.5) & (view.core < 0.5)
    half = 1 / float(np.hypot(view.u[0, 1] - view.u[0, 0], view.u[1, 0] - view.u[0, 0]))
    # Below the neck's narrowest place dark strips are folds and shade, not hair.
    hangs = _opened(hangs, 0.015 * half) & ((above_pinch > 0.5) | _opened(hangs, 0.07 * half))
    above = person & (view.core >= 0.5) & (np.abs(view.u) > 0.8) & (view.v > view.lobe - 0.5)
    roots = above & (not_skin > 1)
    joined = _touching(hangs | roots, roots) & hangs
    return soft * joined


def _opened(mask: Mask, radius: float) -> Mask:
    side = 2 * max(1, round(radius)) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    return np.asarray(cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, disc) > 0)


def _pinch(view: View) -> tuple[float, float]:
    """v of the narrowest place of the silhouette below the ears, left and right: the neck."""
    cell = 0.04
    u0, v0, v1 = -HEAD_REACH, view.lobe, view.chin + 0.4
    columns, rows = int(2 * HEAD_REACH / cell), max(2, int((v1 - v0) / cell))
    grid = np.array([[0, 0], [columns, 0], [0, rows]], np.float32)
    uv = np.array([[u0, v0], [-u0, v0], [u0, v1]])
    height, width = view.u.shape
    # u and v are linear in the pixels: invert that from three corners.
    ends = np.array([[0, 0, 1], [width - 1, 0, 1], [0, height - 1, 1]], np.float64)
    values = np.array(
        [[plane[0, 0], plane[0, -1], plane[-1, 0]] for plane in (view.u, view.v)], np.float64
    )
    to_uv = np.linalg.solve(ends, values.T).T
    xy = (uv - to_uv[:, 2]) @ np.linalg.inv(to_uv[:, :2]).T
    affine = cv2.getAffineTransform(xy.astype(np.float32), grid)
    size = (columns, rows)
    covered = cv2.warpAffine((view.alpha > 0.5).astype(np.uint8), affine, size) > 0
    # Beyond the picture's border the person may go on.
    covered |= cv2.warpAffine(np.ones((height, width), np.uint8), affine, size) == 0
    middle = columns // 2
    found = []
    for side in (covered[:, middle::-1], covered[:, middle:]):
        run = np.where(side.all(1), side.shape[1], side.argmin(1)).astype(np.float32)
        smooth = cv2.GaussianBlur(run[:, None], (1, 5), 0)
        found.append(v0 + (int(smooth.argmin()) + 0.5) * cell)
    return found[0], found[1]


def settled(near: list[Scores], points: Points) -> Gray:
    """Labels of the middle frame, from the scores of the frames around it."""
    now = near[len(near) // 2]
    head, neck = (_mostly([getattr(s, name) for s in near]) for name in ("head", "neck"))
    person = now.alpha > 127
    labels = np.full(person.shape, BACKGROUND, np.uint8)
    labels[person] = TORSO
    labels[person & neck] = NECK
    labels[person & head] = HEAD
    corner = to_68(points)
    face, chin = np.zeros(person.shape, np.uint8), np.zeros(person.shape, np.uint8)
    cv2.fillConvexPoly(face, cv2.convexHull(np.round(corner[17:60]).astype(np.int32)), (1,))
    thick = max(3, round(0.16 * float(np.linalg.norm(corner[15] - corner[1]))))
    cv2.polylines(chin, [np.round(corner[5:12]).astype(np.int32)], False, (1,), thick)
    for label, seed in ((HEAD, face), (NECK, chin)):
        mine = labels == label
        labels[mine & ~_touching(mine, seed > 0)] = TORSO
    return _without_islands(labels, float(corner[8, 1]))


def _mostly(planes: list[Gray]) -> Mask:
    """Where the weighted mean over the frames is yes."""
    total = np.zeros(planes[0].shape, np.uint16)
    for weight, plane in zip(SMOOTH, planes, strict=True):
        total += np.multiply(plane, weight, dtype=np.uint16)
    return total > 127 * sum(SMOOTH)


def _without_islands(labels: Gray, chin: float) -> Gray:
    """Small pieces of neck and torso take the label of what surrounds them.

    Loose ones above the row `chin` are strands of hair.
    """
    for label in (TORSO, NECK):
        count, parts, stats, _ = cv2.connectedComponentsWithStats(
            (labels == label).astype(np.uint8), connectivity=8
        )
        if count <= 2:
            continue
        main = 1 + stats[1:, cv2.CC_STAT_AREA].argmax()
        for k in range(1, count):
            x, y, w, h, area = stats[k]
            if k == main or area > 0.15 * stats[main, cv2.CC_STAT_AREA]:
                continue
            box = np.s_[max(0, y - 1) : y + h + 1, max(0, x - 1) : x + w + 1]
            piece = parts[box] == k
            ring = (cv2.dilate(piece.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0) & ~piece
            around = np.bincount(labels[box][ring], minlength=4)
            around[BACKGROUND] = 0
            if around.any():
                labels[box][piece] = around.argmax()
            elif y + h < chin:
                labels[box][piece] = HEAD
    return labels


def _touching(mask: Mask, seed: Mask) -> Mask:
    """The connected pieces of a mask that meet the seed."""
    _, parts = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    touching = np.zeros(parts.max() + 1, bool)
    touching[parts[seed & mask]] = True
    touching[0] = False
    return touching[parts]


def steady(landmarks: Float[np.ndarray, "t k c"]) -> Float[np.ndarray, "t k 2"]:
    """x and y without the landmarks' tremble: weights 1, 2, 1 over the frames."""
    points = landmarks[..., :2].astype(np.float32)
    padded = np.pad(points, ((1, 1), (0, 0), (0, 0)), mode="edge")
    return (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4


def averaged(near: list[Look]) -> Look:
    """The middle look, what is seen in it averaged with the frames before and after."""
    before, (i, frame, now), after = near
    return i, frame, (before[2] + 2 * now + after[2]) / 4


def _sigmoid(x: Plane) -> Plane:
    return (1 / (1 + np.exp(-x))).astype(np.float32)


def to_byte(plane: Plane) -> Gray:
    return (plane * 255 + 0.5).astype(np.uint8)
