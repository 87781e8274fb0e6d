"""Sphere tracing and shading of the character; rays of the pinhole camera of data/clip.py."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float
from numba import prange

from radnerf.data.demo.character import (
    BOX_HIGH,
    BOX_LOW,
    EYE,
    EYE_X,
    EYE_Y,
    HAIR,
    INSIDE,
    LIP,
    MOUTH_Y,
    SKIN,
    TEETH,
    TONGUE,
    Face,
    _mix,
    _step,
    eye_color,
    hair_strands,
    jaw_drop,
    lid_edges,
    lip_depth,
    noise,
    normal_at,
    rest_distances,
    scene,
    skin_color,
)
from radnerf.data.demo.compiled import compiled, parallel

# Directions to the lights in the head's frame, and what they send (linear RGB).
KEY, KEY_LIGHT = (-0.489, 0.532, 0.691), (1.72, 1.55, 1.36)
FILL, FILL_LIGHT = (0.743, 0.128, 0.657), (0.42, 0.48, 0.60)
RIM, RIM_LIGHT = (0.62, 0.45, -0.64), (1.10, 1.00, 0.92)
SKY, GROUND = (0.34, 0.37, 0.44), (0.22, 0.165, 0.13)
# Highlights are those seen from the front: they stay where they are when the head turns.
KEY_HALF = (-0.266, 0.289, 0.920)
# Difference between neighbours (of 1) from which a pixel gets more than one ray.
CONTRAST = 0.07


@compiled
def _dot(n: tuple[float, float, float], m: tuple[float, float, float]) -> float:
    return n[0] * m[0] + n[1] * m[1] + n[2] * m[2]


@compiled
def light(
    albedo: tuple[float, float, float],
    n: tuple[float, float, float],
    shadow: float,
    occlusion: float,
    wrap: float,
) -> tuple[float, float, float]:
    """Diffuse light; wrap lets red, and a little green, round the terminator as in skin."""
    k, m, r = _dot(n, KEY), max(_dot(n, FILL) * 0.7 + 0.3, 0.0), max(_dot(n, RIM), 0.0)
    up = 0.5 + 0.5 * n[1]
    kr = max((k + wrap) / (1.0 + wrap), 0.0) * (shadow + (1.0 - shadow) * 0.25 * wrap * occlusion)
    kg = max((k + 0.35 * wrap) / (1.0 + 0.35 * wrap), 0.0) * shadow
    kb = max((k + 0.2 * wrap) / (1.0 + 0.2 * wrap), 0.0) * shadow
    ao = occlusion
    warm_ao = ao + (1.0 - ao) * 0.25 * wrap  # light inside the skin fills creases with red
    return (
        albedo[0]
        * (
            KEY_LIGHT[0] * kr
            + warm_ao
            * (FILL_LIGHT[0] * m + RIM_LIGHT[0] * r + GROUND[0] + (SKY[0] - GROUND[0]) * up)
        ),
        albedo[1]
        * (
            KEY_LIGHT[1] * kg
            + ao * (FILL_LIGHT[1] * m + RIM_LIGHT[1] * r + GROUND[1] + (SKY[1] - GROUND[1]) * up)
        ),
        albedo[2]
        * (
            KEY_LIGHT[2] * kb
            + ao * (FILL_LIGHT[2] * m + RIM_LIGHT[2] * r + GROUND[2] + (SKY[2] - GROUND[2]) * up)
        ),
    )


@compiled
def encode(c: float) -> float:
    """Linear light to display, with a soft shoulder."""
    c = max(c, 0.0) * 0.92
    c = c * (1.0 + c * 0.12) / (1.0 + 0.42 * c)
    return min(c ** (1.0 / 2.2), 1.0)


@compiled
def shade(
    part: int, near: float, x: float, y: float, z: float, table: np.ndarray, f: Face
) -> tuple[float, float, float]:
    """Displayed color of a surface point."""
    s = abs(x)
    n = normal_at(x, y, z, table, f, 0.02 if part in (LIP, TEETH) else 0.06)
    # Ambient occlusion: how much nearer the surface comes than the distance walked outward.
    occlusion, reach = 0.0, 0.15
    for _ in range(4):
        d = scene(x + n[0] * reach, y + n[1] * reach, z + n[2] * reach, table, f)[0]
        occlusion += max(reach - d, 0.0) / reach * 0.30
        reach *= 2.1
    occlusion = min(max(1.0 - occlusion, 0.0), 1.0)
    # Soft shadow of the key light.
    shadow, walked = 1.0, 0.35
    if _dot(n, KEY) > -0.35:
        for _ in range(10):
            px, py, pz = x + KEY[0] * walked, y + KEY[1] * walked, z + KEY[2] * walked
            skin, hair = rest_distances(table, px, py + jaw_drop(px, py, pz, f), pz)
            d = min(skin, hair)
            shadow = min(shadow, 0.5 + 5.0 * d / walked)
            if shadow <= 0.0 or walked > 9.0:
                break
            walked += min(max(d, 0.25), 1.5)
        shadow = _step(0.0, 1.0, shadow)
    yr = y + jaw_drop(x, y, z, f)
    h = max(_dot(n, KEY_HALF), 0.0)
    if part == EYE:
        side = 1.0 if x > 0 else -1.0
        u, v = s - EYE_X, y - EYE_Y
        upper, _ = lid_edges(u, f.lid)
        c = eye_color(u * side, v, upper)
        c = light(c, n, 1.0, 0.75 + 0.25 * occlusion, 0.3)
        glint = _step(0.17, 0.09, math.sqrt((u * side + 0.22) ** 2 + (v - 0.24) ** 2))
        glint += 0.35 * _step(0.12, 0.05, math.sqrt((u * side - 0.26) ** 2 + (v + 0.26) ** 2))
        return encode(c[0] + 1.6 * glint), encode(c[1] + 1.6 * glint), encode(c[2] + 1.6 * glint)
    if part == TEETH:
        gap = abs((s + 0.36) % 0.72 - 0.36) / 0.36
        tone = (1.0 - 0.35 * _step(0.14, 0.0, gap)) * (1.0 - 0.45 * _step(1.0, 2.3, s))
        tone *= 0.55 + 0.45 * occlusion
        back = 0.55 + 0.45 * _step(-0.9, 0.1, y - MOUTH_Y)  # the lower row stands in shadow
        tone *= back
        c = light((0.80 * tone, 0.74 * tone, 0.66 * tone), n, 0.75, 1.0, 0.2)
        return encode(c[0]), encode(c[1]), encode(c[2])
    if part == TONGUE:
        c = light((0.36, 0.085, 0.08), n, 0.2, 0.35 + 0.5 * occlusion, 0.3)
        return encode(c[0]), encode(c[1]), encode(c[2])
    if part == INSIDE:
        depth = _step(4.0, 8.2, z)
        return (
            encode(0.02 + 0.10 * depth),
            encode(0.006 + 0.02 * depth),
            encode(0.006 + 0.02 * depth),
        )
    if part == HAIR:
        fine, lock = hair_strands(x, y, z)
        tone = 0.52 + 0.60 * fine + 0.55 * (lock - 0.4)
        base = _mix((0.085, 0.036, 0.017), (0.235, 0.105, 0.042), min(max(tone - 0.3, 0.0), 1.0))
        bend = 0.55 * (fine - 0.5) + 0.35 * (lock - 0.5)
        m = (n[0], n[1] + bend, n[2] + 0.5 * bend)
        c = light(base, m, 0.25 + 0.75 * shadow, occlusion, 0.2)
        sheen = min(max(_dot(m, KEY_HALF), 0.0), 1.0) ** 14 * (0.08 + 0.28 * fine)
        sheen *= (0.3 + 0.7 * shadow) * occlusion
        c = (c[0] + 0.62 * sheen, c[1] + 0.42 * sheen, c[2] + 0.24 * sheen)
        return encode(c[0]), encode(c[1]), encode(c[2])
    c = skin_color(x, yr, z, f.lid)
    gloss, power = 0.10, 18.0
    if z > 4.0 and -11.0 < y < -4.6 and s < 4.2:
        lip = _step(0.10, -0.02, near)
        crease = 1.0 - 0.16 * noise(9.0 * x, 1.2 * y, 2.0)
        c = _mix(c, (0.50 * crease, 0.155 * crease, 0.135 * crease), 0.92 * lip)
        gloss += 0.16 * lip
        power += 22.0 * lip
        # The line between closed lips, and the inner rim.
        c = _mix(
            c, (0.085, 0.018, 0.016), lip * _step(lip_depth(x, f) + 0.40, lip_depth(x, f) + 0.05, z)
        )
    else:
        fine, _ = hair_strands(x, y, z)
        fuzz = _step(0.45, 0.0, near + 0.35 * (fine - 0.5))
        c = _mix(c, (0.12, 0.055, 0.028), 0.75 * fuzz * (0.5 + 0.5 * fine))
        shine = 0.08 * math.exp(-((x / 1.1) ** 2) - ((yr + 3.3) / 1.2) ** 2)
        gloss += shine * 2.0
    shaded = light(c, n, shadow, occlusion, 0.45)
    spark = gloss * h**power * (0.25 + 0.75 * shadow)
    return encode(shaded[0] + spark), encode(shaded[1] + spark), encode(shaded[2] + spark)


@compiled
def trace(
    ox: float, oy: float, oz: float, dx: float, dy: float, dz: float, table: np.ndarray, f: Face
) -> tuple[bool, float, int, float]:
    """First surface along a ray: hit, distance, part, blending distance."""
    near, far = 0.0, 1e9
    low_y = BOX_LOW[1] - 1.0  # room for a dropped jaw
    for o, d, low, high in (
        (ox, dx, BOX_LOW[0], BOX_HIGH[0]),
        (oy, dy, low_y, BOX_HIGH[1]),
        (oz, dz, BOX_LOW[2], BOX_HIGH[2]),
    ):
        inverse = 1.0 / (d if abs(d) > 1e-9 else 1e-9)
        a, b = (low - o) * inverse, (high - o) * inverse
        near, far = max(near, min(a, b)), min(far, max(a, b))
    t, d, part, blend = near, 1.0, SKIN, 1.0
    for _ in range(72):
        if t > far:
            break
        d, part, blend = scene(ox + t * dx, oy + t * dy, oz + t * dz, table, f)
        if d < 0.015:
            return True, t, part, blend
        t += d * (0.9 if d > 0.6 else 0.7)
    return t <= far and d < 0.3, t, part, blend  # grazing rays run out of steps beside a surface


@compiled
def _pixel(
    column: int,
    row: int,
    camera: np.ndarray,
    focal: float,
    centre: float,
    table: np.ndarray,
    f: Face,
    sub: int,
) -> tuple[float, float, float, float]:
    """Mean of sub x sub rays through a pixel; camera holds the rotation, then the origin."""
    r = g = b = a = 0.0
    ox, oy, oz = camera[0, 3], camera[1, 3], camera[2, 3]
    for i in range(sub):
        for j in range(sub):
            u = (column + (j + 0.5) / sub - centre) / focal
            v = (row + (i + 0.5) / sub - centre) / focal
            n = 1.0 / math.sqrt(u * u + v * v + 1.0)
            dx = (camera[0, 0] * u + camera[0, 1] * v + camera[0, 2]) * n
            dy = (camera[1, 0] * u + camera[1, 1] * v + camera[1, 2]) * n
            dz = (camera[2, 0] * u + camera[2, 1] * v + camera[2, 2]) * n
            hit, t, part, near = trace(ox, oy, oz, dx, dy, dz, table, f)
            if hit:
                c = shade(part, near, ox + t * dx, oy + t * dy, oz + t * dz, table, f)
                r, g, b, a = r + c[0], g + c[1], b + c[2], a + 1.0
    k = 1.0 / (sub * sub)
    return r * k, g * k, b * k, a * k


@parallel
def _render_head(
    out: np.ndarray,
    camera: np.ndarray,
    focal: float,
    window: tuple[int, int, int, int],
    table: np.ndarray,
    f: Face,
    sub: int,
) -> None:
    """One ray a pixel, then sub x sub where a pixel differs from its neighbours."""
    top, bottom, left, right = window
    size = out.shape[0]
    once = np.zeros_like(out)
    for row in prange(top, bottom):
        for column in range(left, right):
            r, g, b, a = _pixel(column, row, camera, focal, size / 2, table, f, 1)
            once[row, column, 0], once[row, column, 1] = r, g
            once[row, column, 2], once[row, column, 3] = b, a
    for row in prange(top, bottom):
        for column in range(left, right):
            contrast = 0.0
            for i in range(max(row - 1, 0), min(row + 2, size)):
                for j in range(max(column - 1, 0), min(column + 2, size)):
                    for k in range(4):
                        contrast = max(contrast, abs(once[i, j, k] - once[row, column, k]))
            if contrast < CONTRAST:
                for k in range(4):
                    out[row, column, k] = once[row, column, k]
            else:
                r, g, b, a = _pixel(column, row, camera, focal, size / 2, table, f, sub)
                out[row, column, 0], out[row, column, 1] = r, g
                out[row, column, 2], out[row, column, 3] = b, a


def render_head(
    table: Float[np.ndarray, "x y z 2"],
    f: Face,
    rotation: Float[np.ndarray, "3 3"],
    origin: Float[np.ndarray, 3],
    focal: float,
    size: int,
    sub: int = 3,
) -> Float[np.ndarray, "h w 4"]:
    """The head alone, RGB premultiplied by alpha, antialiased by sub x sub rays where it needs it.

    rotation: camera to head with OpenCV camera axes (x right, y down, z forward); origin: the
    camera in the head's frame, cm; focal in pixels, principal point in the middle.
    """
    corners = np.array(np.meshgrid(*zip(BOX_LOW, BOX_HIGH, strict=True))).reshape(3, -1).T
    camera_points = (corners - origin) @ rotation
    uv = camera_points[:, :2] / camera_points[:, 2:] * focal + size / 2
    low = np.clip(np.floor(uv.min(0)), 0, size).astype(int)
    high = np.clip(np.ceil(uv.max(0)) + 1, 0, size).astype(int)
    out = np.zeros((size, size, 4), np.float32)
    window = (int(low[1]), int(high[1]), int(low[0]), int(high[0]))
    camera = np.concatenate([rotation, np.asarray(origin)[:, None]], 1).astype(np.float64)
    _render_head(out, camera, float(focal), window, table, f, sub)
    return out
