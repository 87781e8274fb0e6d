"""The 68 landmarks as points of the character's surface that move with jaw, lips and lids."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from radnerf.data.demo.character import (
    EYE_HALF_WIDTH,
    EYE_X,
    EYE_Y,
    EYE_Z,
    LID_RADIUS,
    Face,
    jaw_drop,
    lid_edges,
    lip_edges,
    lip_radii,
    rest_distances,
    scene,
)
from radnerf.data.demo.compiled import compiled

# Left half of the jaw's contour (the image's left), from the ear to the chin, near the surface.
_JAW = [
    (-6.9, 0.0, 1.0), (-6.7, -2.4, 1.2), (-6.3, -4.6, 1.5), (-5.6, -6.6, 2.2), (-4.7, -8.2, 3.2),
    (-3.7, -9.6, 4.4), (-2.6, -10.7, 5.6), (-1.3, -11.2, 6.6), (0.0, -11.7, 6.5),
]  # fmt: skip
_BROW = [(-4.8, 1.75), (-4.0, 2.05), (-3.2, 2.15), (-2.3, 2.05), (-1.4, 1.75)]
_NOSE = [(0.0, 0.2), (0.0, -1.1), (0.0, -2.4), (0.0, -3.7)]
_NOSTRILS = [(-1.35, -4.55), (-0.7, -4.85), (0.0, -4.95), (0.7, -4.85), (1.35, -4.55)]

# Points that no expression moves: upper jaw contour, brows, nose, corners of the eyes.
RIGID: Bool[np.ndarray, " 68"] = np.isin(
    np.arange(68), [0, 1, 15, 16, *range(17, 36), 36, 39, 42, 45]
)


@compiled
def _front(x: float, y: float, table: np.ndarray, f: Face) -> float:
    """z of the first surface seen from the front."""
    z = 13.0
    for _ in range(400):
        d = scene(x, y, z, table, f)[0]
        if d < 1e-3:
            break
        z -= 0.5 * d
    return z


@compiled
def _nearest_skin(p: np.ndarray, table: np.ndarray) -> np.ndarray:
    """The point moved onto the skin at rest, along the distance's gradient."""
    q = p.copy()
    g = np.zeros(3)
    for _ in range(30):
        for k in range(3):
            a, b = q.copy(), q.copy()
            a[k] += 0.1
            b[k] -= 0.1
            high = rest_distances(table, a[0], a[1], a[2])[0]
            g[k] = (high - rest_distances(table, b[0], b[1], b[2])[0]) / 0.2
        q -= 0.8 * rest_distances(table, q[0], q[1], q[2])[0] * g / (g**2).sum()
    return q


def landmarks_at_rest(table: Float[np.ndarray, "x y z 2"]) -> Float[np.ndarray, "36 3"]:
    """Contour, brows and nose of the still face (points 0-35), cm."""
    still = Face(0.0, 2.45, 0.0, 1.0)
    contour = [_nearest_skin(np.array(p), table) for p in _JAW]
    contour += [p * (-1.0, 1.0, 1.0) for p in contour[-2::-1]]
    brows = [*_BROW, *[(-x, y) for x, y in reversed(_BROW)]]
    front = [(x, y, _front(x, y, table, still)) for x, y in [*brows, *_NOSE, *_NOSTRILS]]
    return np.array([*contour, *front])


def _eye(f: Face, side: float) -> list[tuple[float, float]]:
    """Outer corner, two of the upper lid, inner corner, two of the lower lid, outward u first."""
    points = []
    for u, lower in ((1.0, 0), (0.4, 0), (-0.4, 0), (-1.0, 0), (-0.4, 1), (0.4, 1)):
        edges = lid_edges(u * EYE_HALF_WIDTH, f.lid)
        points.append((side * (EYE_X + u * EYE_HALF_WIDTH), EYE_Y + edges[lower]))
    return points


def _mouth(f: Face) -> list[tuple[float, float]]:
    a = f.half_width
    outer: list[tuple[float, float]] = []
    for u in (-1.0, -0.62, -0.22, 0.0, 0.22, 0.62, 1.0):
        outer.append(
            (u * a, lip_edges(u * a, f)[0] + (2 * lip_radii(u * a, f)[0] - 0.05) * (abs(u) < 1))
        )
    for u in (0.62, 0.26, 0.0, -0.26, -0.62):
        outer.append((u * a, lip_edges(u * a, f)[1] - 2 * lip_radii(u * a, f)[1] + 0.05))
    inner = [(u * a, lip_edges(u * a, f)[0]) for u in (-0.88, -0.4, 0.0, 0.4, 0.88)]
    inner += [(u * a, lip_edges(u * a, f)[1]) for u in (0.4, 0.0, -0.4)]
    return outer + inner


def landmarks(
    rest: Float[np.ndarray, "36 3"], table: Float[np.ndarray, "x y z 2"], f: Face
) -> Float[np.ndarray, "68 3"]:
    """All landmarks of a face in the head's frame, cm; rest from landmarks_at_rest."""
    points = np.array(rest)
    for i in range(17):
        if not RIGID[i]:
            x, y, z = rest[i]
            for _ in range(20):  # where the jaw has carried the point: a fixed point
                points[i, 1] = y - jaw_drop(x, points[i, 1], z, f)
    left, right = _eye(f, -1.0), _eye(f, 1.0)
    # The right eye starts at its inner corner and runs clockwise as seen, like the left one.
    right = [right[3], right[2], right[1], right[0], right[5], right[4]]
    lids = [(x, y, _lid_depth(x, y)) for x, y in left + right]
    mouth = []
    for k, (x, y) in enumerate(_mouth(f)):
        # The inner edges hang in the gap: take the depth of the lip right beside them.
        nudge = 0.0 if k < 12 else (0.06 if k < 17 else -0.06)
        mouth.append((x, y, _front(x, y + nudge, table, f)))
    return np.concatenate([points, np.array(lids), np.array(mouth)])


def _lid_depth(x: float, y: float) -> float:
    """z of the lid's sphere."""
    return float(EYE_Z + np.sqrt(LID_RADIUS**2 - (abs(x) - EYE_X) ** 2 - (y - EYE_Y) ** 2))
