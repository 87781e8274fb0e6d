"""The demo's character: shape as signed distances, color as functions of the position.

Centimetres in the head's frame: x to the image's right, y up, z towards the camera, the origin
between the ears at eye height. Everything is static in that frame except the jaw, the lips and the
eyelids, and light and highlights stand still in it too: it is what a radiance field can represent.

The shape at rest (skin and hair) is tabulated once (`bake`), because a table look-up is thirty
times cheaper than the smooth unions behind it; lips, teeth, tongue, eyes and lids stay analytic.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numba import prange

from radnerf.data.demo.compiled import compiled, parallel

# Eyes
EYE_X, EYE_Y, EYE_Z = 3.1, 0.0, 6.85
EYE_RADIUS, LID_RADIUS = 1.45, 1.60
EYE_HALF_WIDTH = 1.40  # outer corners 2 x (3.1 + 1.4) = 9.0 cm apart: OUTER_EYE_DISTANCE
LID_TOP, LID_BOTTOM = 0.66, 0.42
IRIS_RADIUS, PUPIL_RADIUS = 0.66, 0.29
# Mouth
MOUTH_Y = -6.9
UPPER_LIP, LOWER_LIP = 0.34, 0.44  # half heights in the middle
UPPER_FRACTION = 0.22  # of a gap that the upper lip opens, the rest is the jaw's
MAX_GAP = 2.0  # between the lips, at opening 1
# The table of the shape at rest
BOX_LOW, BOX_HIGH = (-9.8, -14.0, -12.4), (9.8, 13.6, 13.0)
CELL = 0.2

SKIN, HAIR, LIP, EYE, TEETH, TONGUE, INSIDE = range(7)


class Face(NamedTuple):
    """What moves in the face (centimetres; lid from 0, shut, to 1, open)."""

    gap: float  # between the lips, in the middle
    half_width: float  # of the mouth
    protrusion: float  # of rounded lips
    lid: float


def face(opening: float, width: float, lid: float) -> Face:
    """Face of a mouth opening in 0..1, a mouth width in -1 (rounded) .. 1 (spread), and a lid."""
    return Face(
        gap=MAX_GAP * opening,
        half_width=2.45 + (0.30 if width > 0 else 0.60) * width - 0.15 * opening,
        protrusion=0.45 * max(-width, 0.0),
        lid=lid,
    )


# --- distances ------------------------------------------------------------------------------------


@compiled
def _smin(a: float, b: float, k: float) -> float:
    h = max(k - abs(a - b), 0.0) / k
    return min(a, b) - h * h * k * 0.25


@compiled
def _smax(a: float, b: float, k: float) -> float:
    h = max(k - abs(a - b), 0.0) / k
    return max(a, b) + h * h * k * 0.25


@compiled
def _step(low: float, high: float, x: float) -> float:
    t = min(max((x - low) / (high - low), 0.0), 1.0)
    return t * t * (3.0 - 2.0 * t)


@compiled
def _ellipsoid(x: float, y: float, z: float, rx: float, ry: float, rz: float) -> float:
    a = math.sqrt((x / rx) ** 2 + (y / ry) ** 2 + (z / rz) ** 2)
    b = math.sqrt((x / rx**2) ** 2 + (y / ry**2) ** 2 + (z / rz**2) ** 2)
    return a * (a - 1.0) / (b + 1e-9)


@compiled
def _capsule(
    x: float, y: float, z: float,
    ax: float, ay: float, az: float, ra: float,
    bx: float, by: float, bz: float, rb: float,
) -> float:  # fmt: skip
    """Segment a-b with a radius that goes from ra to rb."""
    dx, dy, dz = bx - ax, by - ay, bz - az
    t = ((x - ax) * dx + (y - ay) * dy + (z - az) * dz) / (dx * dx + dy * dy + dz * dz)
    t = min(max(t, 0.0), 1.0)
    ex, ey, ez = x - ax - t * dx, y - ay - t * dy, z - az - t * dz
    return math.sqrt(ex * ex + ey * ey + ez * ez) - ra - t * (rb - ra)


@compiled
def _hash(i: int, j: int, k: int) -> float:
    h = (i * 374761393 + j * 668265263 + k * 1274126177) & 0xFFFFFFFF
    h = ((h ^ (h >> 13)) * 1103515245) & 0xFFFFFFFF
    return ((h ^ (h >> 16)) & 0xFFFF) / 65535.0


@compiled
def noise(x: float, y: float, z: float) -> float:
    """Value noise in 0..1, one random number an integer lattice point."""
    i, j, k = math.floor(x), math.floor(y), math.floor(z)
    u, v, w = x - i, y - j, z - k
    u, v, w = u * u * (3 - 2 * u), v * v * (3 - 2 * v), w * w * (3 - 2 * w)
    i, j, k = int(i), int(j), int(k)
    a = _hash(i, j, k) * (1 - u) + _hash(i + 1, j, k) * u
    b = _hash(i, j + 1, k) * (1 - u) + _hash(i + 1, j + 1, k) * u
    c = _hash(i, j, k + 1) * (1 - u) + _hash(i + 1, j, k + 1) * u
    d = _hash(i, j + 1, k + 1) * (1 - u) + _hash(i + 1, j + 1, k + 1) * u
    return (a * (1 - v) + b * v) * (1 - w) + (c * (1 - v) + d * v) * w


@compiled
def skin_at_rest(x: float, y: float, z: float) -> float:
    """Distance to the skin of the head with the mouth shut, without lips, eyes and lid slits."""
    s = abs(x)
    d = _ellipsoid(x, y - 2.2, z + 1.0, 7.2, 8.8, 9.2)  # cranium
    d = _smin(d, _ellipsoid(x, y + 2.3, z - 1.8, 6.3, 8.4, 6.5), 2.0)  # face
    d = _smin(d, _ellipsoid(x, y + 7.0, z - 3.0, 4.75, 4.1, 5.2), 2.0)  # jaw
    d = _smin(d, _capsule(s, y, z, 5.3, -4.6, 0.6, 1.2, 1.4, -10.0, 6.2, 1.15), 2.0)  # jaw line
    d = _smin(d, _ellipsoid(x, y + 9.9, z - 6.7, 2.0, 1.5, 1.75), 1.6)  # chin
    d = _smin(d, _ellipsoid(s - 4.0, y + 2.7, z - 5.6, 2.3, 1.8, 2.1), 2.0)  # cheek bones
    d = _smin(d, _capsule(s, y, z, 1.2, 1.75, 7.5, 0.85, 4.4, 2.0, 5.3, 0.8), 1.4)  # brow ridge
    d = _smax(d, -_ellipsoid(s - 2.9, y + 0.1, z - 9.5, 2.0, 1.25, 1.7), 1.2)  # eye sockets
    d = _smin(d, _ellipsoid(x, y + 6.7, z - 6.6, 3.2, 2.3, 2.35), 1.6)  # muzzle
    lid = math.sqrt((s - EYE_X) ** 2 + (y - EYE_Y) ** 2 + (z - EYE_Z) ** 2) - LID_RADIUS
    d = _smin(d, lid, 0.45)
    # Nose
    nose = _capsule(x, y, z, 0.0, 1.2, 8.0, 0.62, 0.0, -3.2, 9.9, 0.72)
    nose = _smin(nose, _ellipsoid(x, y + 3.75, z - 10.0, 0.98, 0.85, 0.95), 0.7)
    nose = _smin(nose, _ellipsoid(s - 1.12, y + 4.05, z - 9.1, 0.62, 0.62, 0.85), 0.5)
    d = _smin(d, nose, 0.9)
    d = _smax(d, -_ellipsoid(s - 0.58, y + 4.72, z - 9.75, 0.36, 0.34, 0.52), 0.2)
    # Ears: a tilted disc, its hollow, its rim and lobe
    ex, ey, ez = s - 7.35, (y + 1.0) + 0.25 * (z + 1.0), (z + 1.0) - 0.2 * (y + 1.0)
    ex -= 0.30 * (-ez) - 0.1  # the back of the ear stands off
    ear = _ellipsoid(ex, ey, ez, 0.55, 2.75, 1.75)
    ear = _smax(ear, -_ellipsoid(ex - 0.5, ey - 0.15, ez - 0.35, 0.50, 1.55, 0.95), 0.35)
    ear = _smin(ear, _ellipsoid(ex + 0.05, ey + 2.4, ez - 0.35, 0.38, 0.75, 0.7), 0.4)
    return _smin(d, ear, 0.5)


@compiled
def hair_at_rest(x: float, y: float, z: float) -> float:
    """Distance to the hair: a cap with a hairline, and a sweep from the parting on the left."""
    s = abs(x)
    clump = noise(0.55 * x + 3.0, 0.5 * y, 0.9 * z) + 0.5 * noise(1.3 * x, 1.1 * y, 1.9 * z)
    d = _ellipsoid(x - 0.1, y - 2.9, z + 1.3, 7.9, 9.2, 9.5)
    line = 6.9 - 0.055 * s * s  # the hairline on the forehead
    face_side = _smax(y - line, 2.1 - z - 0.12 * (y + 2.0), 2.2)
    d = _smax(d, -face_side, 0.9)
    ear_side = _ellipsoid(s - 8.2, y + 1.8, z + 0.6, 2.3, 3.6, 2.6)
    d = _smax(d, -ear_side, 0.6)
    d = _smax(d, -(y + 2.0 - 0.9 * z), 1.2)  # up in front of the ears, down at the nape
    sweep = _capsule(x, y, z, -3.2, 10.0, 4.6, 1.5, 1.2, 8.7, 6.9, 1.75)
    sweep = _smin(sweep, _capsule(x, y, z, 1.2, 8.7, 6.9, 1.75, 5.6, 5.6, 4.6, 1.1), 0.8)
    sweep = _smin(sweep, _capsule(x, y, z, 5.6, 5.6, 4.6, 1.1, 7.2, 2.0, 1.2, 0.5), 0.8)
    d = _smin(d, sweep, 1.4)
    left = _capsule(x, y, z, -3.4, 9.8, 4.4, 1.2, -6.6, 4.6, 3.4, 0.7)
    d = _smin(d, left, 1.0)
    part = _capsule(x, y, z, -3.2, 12.0, 4.0, 0.28, -2.4, 12.7, -3.0, 0.2)
    d = _smax(d, -part, 0.5)
    return d - 0.30 * (clump - 0.75)


@parallel
def _bake(table: np.ndarray, low: np.ndarray, cell: float) -> None:
    for i in prange(table.shape[0]):
        for j in range(table.shape[1]):
            for k in range(table.shape[2]):
                x, y, z = low[0] + i * cell, low[1] + j * cell, low[2] + k * cell
                table[i, j, k, 0] = skin_at_rest(x, y, z)
                table[i, j, k, 1] = hair_at_rest(x, y, z)


def bake() -> Float[np.ndarray, "x y z 2"]:
    """Distances to skin and hair at rest on the lattice of BOX_LOW .. BOX_HIGH, CELL apart."""
    low = np.array(BOX_LOW)
    shape = np.ceil((np.array(BOX_HIGH) - low) / CELL).astype(int) + 1
    table = np.empty((*shape, 2), np.float32)
    _bake(table, low, CELL)
    return table


@compiled
def rest_distances(table: np.ndarray, x: float, y: float, z: float) -> tuple[float, float]:
    """Trilinear look-up of (skin, hair)."""
    u = min(max((x - BOX_LOW[0]) / CELL, 0.0), table.shape[0] - 1.001)
    v = min(max((y - BOX_LOW[1]) / CELL, 0.0), table.shape[1] - 1.001)
    w = min(max((z - BOX_LOW[2]) / CELL, 0.0), table.shape[2] - 1.001)
    i, j, k = int(u), int(v), int(w)
    u, v, w = u - i, v - j, w - k
    skin = hair = 0.0
    for di in range(2):
        a = u if di else 1.0 - u
        for dj in range(2):
            b = a * (v if dj else 1.0 - v)
            c0, c1 = b * (1.0 - w), b * w
            skin += c0 * table[i + di, j + dj, k, 0] + c1 * table[i + di, j + dj, k + 1, 0]
            hair += c0 * table[i + di, j + dj, k, 1] + c1 * table[i + di, j + dj, k + 1, 1]
    return skin, hair


# --- the moving face ------------------------------------------------------------------------------


@compiled
def jaw_drop(x: float, y: float, z: float, f: Face) -> float:
    """How far the jaw has carried the skin that is now at a point downward."""
    if f.gap <= 0.0 or y > MOUTH_Y + 2.5 or z < -1.0:
        return 0.0
    s = abs(x)
    lips = (MOUTH_Y + UPPER_FRACTION * f.gap - y) / (f.gap + 0.8)
    lips = min(max(lips, 0.0), 1.0)
    cheek = _step(-2.5, 3.5, MOUTH_Y - y)
    w = lips + (cheek - lips) * _step(1.4, 4.2, s)
    return (1.0 - UPPER_FRACTION) * f.gap * w * min((z + 1.0) / 9.0, 1.0)


@compiled
def lip_edges(x: float, f: Face) -> tuple[float, float]:
    """Heights of the upper and the lower edge of the mouth's opening at x."""
    s = min(abs(x) / f.half_width, 1.0)
    g = f.gap * (1.0 - s * s) ** 0.75
    smile = MOUTH_Y + 0.30 * s * s
    return smile + UPPER_FRACTION * g, smile - (1.0 - UPPER_FRACTION) * g


@compiled
def lip_radii(x: float, f: Face) -> tuple[float, float]:
    """Half heights of the upper (with Cupid's bow) and the lower lip at x."""
    s = min(abs(x) / f.half_width, 1.0)
    r = math.sqrt(1.0 - s * s)
    slim = 1.0 - 0.12 * f.gap / MAX_GAP
    bow = 1.0 + 0.22 * math.exp(-((s - 0.22) ** 2) / 0.02) - 0.12 * math.exp(-s * s / 0.008)
    return slim * (UPPER_LIP * r * bow + 0.07), slim * (LOWER_LIP * r + 0.07)


@compiled
def lip_depth(x: float, f: Face) -> float:
    """z of the middle of the lips at x."""
    return 8.85 + f.protrusion * (1.0 - 0.1 * x * x) - 0.15 * x * x


@compiled
def lips(x: float, y: float, z: float, f: Face) -> float:
    """Distance to the lips (approximate away from them)."""
    upper, lower = lip_edges(x, f)
    ru, rl = lip_radii(x, f)
    beyond = max(abs(x) - f.half_width, 0.0)
    zc = lip_depth(x, f)
    uz, lz = 0.50 + 0.6 * ru * 0.4, 0.52 + 0.6 * rl * 0.4
    qu = math.sqrt(((y - upper - ru + 0.03) / ru) ** 2 + ((z - zc) / uz) ** 2)
    ql = math.sqrt(((y - lower + rl - 0.03) / rl) ** 2 + ((z - zc + 0.12 * f.gap) / lz) ** 2)
    d = _smin((qu - 1.0) * min(ru, uz), (ql - 1.0) * min(rl, lz), 0.02)
    return math.sqrt(max(d, 0.0) ** 2 + beyond * beyond) if beyond > 0.0 else d


@compiled
def lid_edges(u: float, lid: float) -> tuple[float, float]:
    """Heights (from the eye's centre) of the upper and lower lid at u, outward from the centre."""
    s = min(abs(u) / EYE_HALF_WIDTH, 1.0)
    tilt = 0.09 * u
    lower = tilt - LID_BOTTOM * (1.0 - s * s)
    arch = (1.0 - s**2.6) if u > 0 else (1.0 - s * s)
    return lower + lid * (tilt + LID_TOP * arch - lower), lower


@compiled
def scene(x: float, y: float, z: float, table: np.ndarray, f: Face) -> tuple[float, int, float]:
    """Distance to the head, the part it belongs to, and the distance to the hair or lips.

    The third number blends the skin into the nearest of them (a hairline, the lips' border).
    """
    skin, hair = rest_distances(table, x, y + jaw_drop(x, y, z, f), z)
    part, near = SKIN, hair
    d = skin
    s = abs(x)
    if z > 2.0 and s < 4.2 and -11.0 < y < -4.6:
        d_lips = lips(x, y, z, f)
        d = _smin(d, d_lips, 0.35)
        if d_lips < hair:
            near = d_lips
        upper, lower = lip_edges(x, f)
        ru, rl = lip_radii(x, f)
        hole = max(max(y - upper - 0.7 * ru, lower - 0.7 * rl - y), s - f.half_width + 0.1)
        hole = max(hole, 3.5 - z)
        shell = max(-hole, skin)  # the skin, without the mouth
        d = _smin(shell, d_lips, 0.30)
        if d_lips < 0.04:
            part = LIP
        elif -hole > skin - 0.02 and z < lip_depth(x, f) - 0.35:
            part = INSIDE
        drop = (1.0 - UPPER_FRACTION) * f.gap
        arch = 8.05 - 0.20 * x * x
        top = MOUTH_Y - 0.22 + 0.10 * _step(0.0, 2.2, s)
        teeth = max(max(abs(z - arch) - 0.22, top - y), max(y - MOUTH_Y - 1.2, s - 2.35))
        bottom = MOUTH_Y - 0.45 - 0.90 * drop
        teeth = min(
            teeth,
            max(max(abs(z - arch + 0.25) - 0.2, y - bottom), max(bottom - 1.0 - y, s - 2.1)),
        )
        if teeth < d:
            d, part = teeth, TEETH
        tongue = _ellipsoid(x, y - (MOUTH_Y - 0.85 * drop - 0.75), z - 5.9, 1.75, 0.75, 1.9)
        if tongue < d:
            d, part = tongue, TONGUE
    elif z > 4.5 and 1.2 < s < 5.0 and -1.6 < y < 1.8:
        u, v = s - EYE_X, y - EYE_Y
        upper, lower = lid_edges(u, f.lid)
        r = math.sqrt(u * u + v * v + (z - EYE_Z) ** 2)
        slit = max(max(v - upper, lower - v), max(abs(u) - EYE_HALF_WIDTH, r - LID_RADIUS - 0.4))
        d = _smax(d, -slit, 0.06)
        if r - EYE_RADIUS < d:
            d, part = r - EYE_RADIUS, EYE
    if hair < d:
        d, part, near = hair, HAIR, skin
    return d, part, near


@compiled
def normal_at(
    x: float, y: float, z: float, table: np.ndarray, f: Face, h: float
) -> tuple[float, float, float]:
    """Unit outward normal by differences over four corners of a tetrahedron of half size h."""
    a = scene(x + h, y - h, z - h, table, f)[0]
    b = scene(x - h, y - h, z + h, table, f)[0]
    c = scene(x - h, y + h, z - h, table, f)[0]
    d = scene(x + h, y + h, z + h, table, f)[0]
    nx, ny, nz = a - b - c + d, -a - b + c + d, -a + b - c + d
    n = 1.0 / (math.sqrt(nx * nx + ny * ny + nz * nz) + 1e-9)
    return nx * n, ny * n, nz * n


# --- colors --------------------------------------------------------------------------------------


@compiled
def _mix(
    a: tuple[float, float, float], b: tuple[float, float, float], t: float
) -> tuple[float, float, float]:
    return a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t


@compiled
def _blob(x: float, y: float, cx: float, cy: float, rx: float, ry: float) -> float:
    return math.exp(-(((x - cx) / rx) ** 2) - ((y - cy) / ry) ** 2)


@compiled
def skin_color(x: float, y: float, z: float, lid: float) -> tuple[float, float, float]:
    """Linear albedo of the skin at rest, with brows, lashes and tints."""
    s = abs(x)
    c = (0.70, 0.415, 0.285)
    warm = 0.55 * _blob(s, y, 4.2, -3.2, 2.0, 1.7) + 0.45 * _blob(x, y, 0.0, -3.9, 1.2, 1.0)
    warm += 0.5 * _step(6.5, 7.4, s) * _step(2.2, 1.2, z)  # the ears
    c = _mix(c, (0.68, 0.27, 0.20), min(warm, 0.8) * max(_step(-1.0, 2.0, z), _step(6.5, 7.4, s)))
    c = _mix(c, (0.50, 0.27, 0.22), 0.45 * _blob(s, y, 2.9, -1.15, 1.3, 0.42))  # under the eyes
    mottle = noise(3.0 * x, 3.0 * y, 3.0 * z) - 0.5 + 0.5 * (noise(9 * x, 9 * y, 9 * z) - 0.5)
    shade = 1.0 + 0.07 * mottle
    c = (c[0] * shade, c[1] * shade, c[2] * (shade + 0.02 * mottle))
    if z < 3.0:
        return c
    freckles = _step(0.80, 0.92, noise(4.5 * x + 9.0, 4.5 * y, 4.0 * z))
    freckles *= _blob(s, y, 2.6, -2.9, 2.2, 0.9)
    c = _mix(c, (0.40, 0.18, 0.10), 0.42 * freckles)
    c = _mix(c, (0.10, 0.035, 0.03), 0.85 * _blob(s, y, 0.60, -4.72, 0.36, 0.26))  # nostrils
    # Brows: a thick-to-thin arc with slanted hairs
    t = (s - 1.25) / 3.7
    if -0.15 < t < 1.1:
        arc = 1.72 + 1.35 * t - 1.25 * t * t
        half = 0.42 * (1.0 - 0.50 * max(t, 0.0)) * _step(-0.12, 0.10, t) * _step(1.1, 0.8, t)
        hairs = noise(7.0 * (s - 0.8 * (y - arc)), 1.6 * y, 1.0)
        inside = _step(half + 0.10, half - 0.16, abs(y - arc) + 0.16 * (hairs - 0.5))
        c = _mix(c, (0.075, 0.036, 0.020), 0.93 * inside * (0.75 + 0.25 * hairs))
    # Lashes follow the lids; the crease is the lid's own fold
    u, v = s - EYE_X, y - EYE_Y
    if abs(u) < EYE_HALF_WIDTH + 0.45 and abs(v) < 1.4:
        upper, lower = lid_edges(u, lid)
        ends = _step(EYE_HALF_WIDTH + 0.32, EYE_HALF_WIDTH - 0.05, u)
        ends *= _step(EYE_HALF_WIDTH + 0.02, EYE_HALF_WIDTH - 0.35, -u)
        thick = 0.085 + 0.075 * _step(-1.2, 1.5, u)
        c = _mix(
            c,
            (0.035, 0.02, 0.014),
            0.95
            * ends
            * _step(thick + 0.09, thick - 0.03, v - upper)
            * (1.0 if v > lower else 0.0),
        )
        c = _mix(
            c,
            (0.10, 0.05, 0.035),
            0.55 * ends * _step(0.13, 0.02, lower - v) * (1.0 if v <= lower else 0.0),
        )
        fold, _ = lid_edges(u * 0.92, 1.0)
        fold += 0.30
        crease = math.exp(-(((v - fold) / 0.075) ** 2)) * ends
        c = _mix(c, (0.33, 0.15, 0.10), 0.60 * crease)
        lidded = _step(upper, upper + 0.1, v) * _step(fold, fold - 0.15, v) * ends
        c = _mix(c, (0.52, 0.25, 0.185), 0.5 * lidded)
    return c


@compiled
def eye_color(u: float, v: float, upper: float) -> tuple[float, float, float]:
    """Linear color of the eyeball; u, v in the image's directions from the eye's centre."""
    r = math.sqrt(u * u + v * v)
    angle = math.atan2(v, u)
    rays = 0.75 + 0.5 * noise(4.0 * math.cos(angle) + 9, 4.0 * math.sin(angle) + 9, 1.5 * r)
    iris = _mix((0.13, 0.17, 0.10), (0.30, 0.19, 0.075), _step(0.55, 0.30, r))
    iris = (iris[0] * rays, iris[1] * rays, iris[2] * rays)
    bright = 1.0 + 0.9 * _step(0.2, -0.5, v)  # light gathers in the lower half
    iris = (iris[0] * bright, iris[1] * bright, iris[2] * bright)
    iris = _mix(iris, (0.02, 0.02, 0.018), _step(IRIS_RADIUS - 0.16, IRIS_RADIUS, r))
    iris = _mix((0.006, 0.006, 0.007), iris, _step(PUPIL_RADIUS - 0.04, PUPIL_RADIUS + 0.04, r))
    white = _mix((0.78, 0.75, 0.72), (0.62, 0.42, 0.38), 0.6 * _step(0.85, 1.45, abs(u)))
    c = _mix(iris, white, _step(IRIS_RADIUS - 0.04, IRIS_RADIUS + 0.06, r))
    shadow = 0.42 + 0.58 * _step(0.0, 0.50, upper - v)
    return c[0] * shadow, c[1] * shadow, c[2] * shadow


@compiled
def hair_strands(x: float, y: float, z: float) -> tuple[float, float]:
    """Two noises (fine strands, locks) stretched along the way the hair is combed."""
    side = _step(-2.2, -3.4, x)
    top = 0.85 * x + (0.9 * side - 0.45) * (y - 8.0) + 0.22 * z  # swept back from the parting
    temple = 0.85 * z + 0.35 * y  # falling on the sides
    blend = _step(5.2, 6.8, abs(x))
    across = top + (temple - top) * blend + 0.3 * noise(0.4 * x, 0.4 * y, 0.4 * z)
    along = (y + z) * (1.0 - blend) + (y - 0.4 * z) * blend
    fine = 0.6 * noise(5.5 * across, 0.35 * along, 0.3 * z) + 0.4 * noise(
        13.0 * across, 0.6 * along, 1.0
    )
    return fine, noise(1.6 * across, 0.22 * along, 4.0)
