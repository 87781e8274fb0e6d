"""Neck, shoulders and clothes (drawn once, then moved in the image) and the room behind them."""

from __future__ import annotations

import math

import cv2
import numpy as np
from jaxtyping import Float
from numba import prange

from radnerf.data.demo.character import (
    _capsule,
    _ellipsoid,
    _mix,
    _smax,
    _smin,
    _step,
    noise,
    rest_distances,
)
from radnerf.data.demo.compiled import compiled, parallel
from radnerf.data.demo.motion import CAMERA, FOCAL
from radnerf.data.demo.render import KEY, encode, light

NECK_SKIN, SHIRT, JACKET, LAPEL = range(4)
MARGIN = 0.15  # of the image that the layer reaches past each border, room to move


@compiled
def _flesh(x: float, y: float, z: float) -> float:
    s = abs(x)
    d = _capsule(x, y, z, 0.0, -3.0, -2.6, 4.2, 0.0, -17.0, -3.6, 4.6)
    d = _smin(d, _capsule(s, y, z, 2.5, -14.2, -4.6, 2.4, 14.5, -19.6, -4.8, 3.6), 3.0)
    d = _smin(d, _ellipsoid(s - 15.5, y + 22.6, z + 4.4, 5.2, 4.6, 4.8), 2.5)
    return _smin(d, _ellipsoid(x, y + 29.5, z + 4.0, 17.0, 12.0, 9.0), 3.0)


@compiled
def _vee(y: float) -> float:
    """Half width of the jacket's opening."""
    return 0.3 + 4.6 * min(max((y + 29.0) / 13.5, 0.0), 1.0)


@compiled
def body(x: float, y: float, z: float) -> tuple[float, int]:
    """Distance to neck, shirt and jacket, and which of them."""
    s = abs(x)
    flesh = _flesh(x, y, z)
    if flesh > 4.0:
        return flesh - 2.5, JACKET
    d, part = flesh, NECK_SKIN
    q = math.sqrt(x * x + ((z + 3.4) / 0.96) ** 2)
    level = y + 0.30 * (z + 3.4)  # collars lie lower in front
    front = _step(-2.0, 2.0, z)
    # Shirt: cloth over the body below the collar, and the collar with its points
    cloth = _smax(flesh - 0.45, 5.2 - q, 0.4)
    notch = 0.62 * (level + 17.2) if z > 0 else 0.0
    if z > 0:
        cloth = max(cloth, (0.5 * (level + 18.4) - s) * 0.8)
    fall = level + 14.4 + 0.12 * s * front
    collar = max(abs(q - 5.75 + 0.16 * (level + 14.5)) - 0.22, fall)
    collar = max(collar, -(level + 17.2 + 0.9 * front * _step(1.0, 3.5, s)))
    if z > 0:
        collar = max(collar, (notch + 0.4 - s) * 0.8)
    shirt = min(cloth, collar)
    if shirt < d:
        d, part = shirt, SHIRT
    # Jacket: thicker cloth, open in a vee, with lapels and a collar at the back
    opening = _vee(y) - s if z > -3.0 else level + 14.9
    jacket = _smax(flesh - 0.95, opening * 0.9, 0.25)
    jacket = _smax(_smax(jacket, 6.3 - q, 0.4), level + 12.6, 0.4)
    lapel = max(_smax(flesh - 1.35, opening * 0.9, 0.2), s - _vee(y) - 3.0 - 0.12 * (y + 24.0))
    lapel = _smax(max(lapel, 5.9 - q), level + 12.9, 0.3)
    step = (y + 19.6) + 0.35 * (s - 5.0)  # the notch where collar and lapel meet
    lapel = max(lapel, 0.16 - abs(step) if s > _vee(y) + 1.5 else -1.0)
    if jacket < d:
        d, part = jacket, JACKET
    if lapel < d:
        d, part = lapel, LAPEL
    return d, part


@compiled
def _shade(
    x: float, y: float, z: float, part: int, table: np.ndarray
) -> tuple[float, float, float]:
    h = 0.05
    a = body(x + h, y - h, z - h)[0]
    b = body(x - h, y - h, z + h)[0]
    c = body(x - h, y + h, z - h)[0]
    d = body(x + h, y + h, z + h)[0]
    nx, ny, nz = a - b - c + d, -a - b + c + d, -a + b - c + d
    k = 1.0 / (math.sqrt(nx * nx + ny * ny + nz * nz) + 1e-9)
    nx, ny, nz = nx * k, ny * k, nz * k
    if part != NECK_SKIN:  # folds and weave
        fold = noise(0.35 * x + 5.0, 0.22 * y, 0.3 * z) - 0.5
        nx += 0.35 * fold
        ny += 0.25 * (noise(0.3 * x, 0.3 * y + 7.0, 0.3 * z) - 0.5)
    occlusion, reach = 1.0, 0.3
    for _ in range(5):
        px, py, pz = x + nx * reach, y + ny * reach, z + nz * reach
        head = rest_distances(table, px, py, pz)[0]
        # Under the head's own skin the neck goes on as dark as it is at the chin, no darker.
        near = min(body(px, py, pz)[0], max(head, 0.6 * reach))
        occlusion -= max(reach - near, 0.0) / reach * 0.26
        reach *= 1.9
    occlusion = max(occlusion, 0.12)
    shadow, walked = 1.0, 0.6
    for _ in range(14):
        px, py, pz = x + KEY[0] * walked, y + KEY[1] * walked, z + KEY[2] * walked
        near = min(body(px, py, pz)[0], rest_distances(table, px, py, pz)[0])
        shadow = min(shadow, 0.5 + 4.0 * near / walked)
        if shadow <= 0.0:
            break
        walked += min(max(near, 0.3), 1.5)
    shadow = _step(0.0, 1.0, shadow)
    wrap = 0.1
    if part == NECK_SKIN:
        wrap = 0.45
        mottle = 1.0 + 0.06 * (noise(3.0 * x, 3.0 * y, 3.0 * z) - 0.5)
        albedo = (0.66 * mottle, 0.375 * mottle, 0.255 * mottle)
    elif part == SHIRT:
        button = 1.0
        if abs(x) < 0.12 and y < -17.0:
            button = 0.78  # the placket
        albedo = (0.72 * button, 0.69 * button, 0.63 * button)
    else:
        weave = 0.85 + 0.30 * noise(9.0 * x, 9.0 * y, 3.0 * z)
        weave *= 0.92 + 0.16 * noise(2.0 * (x + y), 0.4 * (x - y), 0.5 * z)
        albedo = (0.022 * weave, 0.085 * weave, 0.105 * weave)
        if part == LAPEL:
            albedo = _mix(albedo, (0.03, 0.11, 0.135), 0.6)
    n = (nx, ny, nz)
    shaded = light(albedo, n, shadow, occlusion, wrap)
    return encode(shaded[0]), encode(shaded[1]), encode(shaded[2])


@parallel
def _render_body(
    out: np.ndarray, origin: np.ndarray, focal: float, cx: float, cy: float, table: np.ndarray
) -> None:
    for row in prange(out.shape[0]):
        for column in range(out.shape[1]):
            for i in range(4):
                u = (column + 0.25 + 0.5 * (i % 2) - cx) / focal
                v = -(row + 0.25 + 0.5 * (i // 2) - cy) / focal
                n = 1.0 / math.sqrt(u * u + v * v + 1.0)
                dx, dy, dz = u * n, v * n, -n
                t = (origin[2] - 8.0) / n
                for _ in range(90):
                    x, y, z = origin[0] + t * dx, origin[1] + t * dy, origin[2] + t * dz
                    if z < -14.0:
                        break
                    d, part = body(x, y, z)
                    if d < 0.015:
                        c = _shade(x, y, z, part, table)
                        for k in range(3):
                            out[row, column, k] += 0.25 * c[k]
                        out[row, column, 3] += 0.25
                        if part == NECK_SKIN:
                            out[row, column, 4] += 0.25
                        break
                    t += d * 0.7


def render_body(table: Float[np.ndarray, "x y z 2"], size: int) -> Float[np.ndarray, "h w 5"]:
    """Neck and torso at rest, MARGIN past each border, two texels a pixel.

    Channels: RGB premultiplied by alpha, alpha, neck's part of alpha.
    """
    texels = 2 * round(size * (1 + 2 * MARGIN))
    out = np.zeros((texels, texels, 5), np.float32)
    centre = texels / 2
    _render_body(out, CAMERA, 2.0 * FOCAL * size, centre, centre, table)
    return out


def move_body(
    layer: Float[np.ndarray, "h w 5"],
    size: int,
    body_shift: Float[np.ndarray, 2],
    neck_shift: Float[np.ndarray, 2],
) -> Float[np.ndarray, "s s 5"]:
    """The layer as seen in a frame: the shoulders move with the body, the neck with the head.

    Shifts in image widths (x right, y down).
    """
    rows = (np.arange(2 * size, dtype=np.float32) + 0.5) / 2
    height = CAMERA[1] - (rows / size - 0.5) / FOCAL * CAMERA[2]  # cm, of what stands in the row
    w = np.clip((height + 17.0) / 8.0, 0, 1)
    w = w * w * (3 - 2 * w)
    shift = ((1 - w)[:, None] * body_shift + w[:, None] * neck_shift) * size * 2
    centre = (layer.shape[0] - 2 * size) / 2
    columns = np.arange(2 * size, dtype=np.float32)
    x = (columns[None] + centre - shift[:, :1]).astype(np.float32)
    y = np.broadcast_to(columns[:, None] + centre - shift[:, 1:], x.shape).astype(np.float32)
    moved = [cv2.remap(layer[..., k], x, y, cv2.INTER_LINEAR) for k in range(layer.shape[-1])]
    return np.stack([cv2.resize(m, (size, size), interpolation=cv2.INTER_AREA) for m in moved], -1)


def render_room(size: int, seed: int) -> Float[np.ndarray, "s s 3"]:
    """A softly blurred study: wall, shelves of books and warm lights."""
    rng = np.random.default_rng([seed, 3])
    n = 512
    v, u = np.mgrid[0:n, 0:n].astype(np.float32) / n
    glow = np.exp(-((u - 0.16) ** 2 + (v - 0.22) ** 2) / 0.10)[..., None]
    room = np.array([0.16, 0.20, 0.235]) * (1.15 - 0.45 * v[..., None])
    room = room + glow * np.array([0.30, 0.20, 0.10])
    palette = np.array(
        [[0.50, 0.20, 0.14], [0.14, 0.30, 0.34], [0.56, 0.42, 0.20], [0.62, 0.56, 0.46],
         [0.20, 0.22, 0.34], [0.26, 0.34, 0.22], [0.42, 0.16, 0.20]]
    )  # fmt: skip
    for left, right in ((0.60, 1.02), (-0.02, 0.17)):
        for top in (0.02, 0.25, 0.48, 0.71, 0.94):
            a, b = round(max(left, 0) * n), round(min(right, 1) * n)
            room[round(top * n) : round((top + 0.235) * n), a:b] *= 0.45
            edge = left + 0.012
            while edge < right - 0.02:
                w = rng.uniform(0.014, 0.034)
                tall = rng.uniform(0.13, 0.195)
                color = palette[rng.integers(len(palette))] * rng.uniform(0.45, 0.9)
                lamp = 0.75 + 0.6 * math.exp(-((edge - 0.16) ** 2 + (top - 0.2) ** 2) / 0.2)
                y0, y1 = round((top + 0.21 - tall) * n), round((top + 0.21) * n)
                x0, x1 = round(max(edge, 0) * n), round(min(edge + w, 1) * n)
                if rng.random() > 0.08 and x1 > x0:
                    across = np.linspace(-1, 1, x1 - x0)[None, :, None]
                    room[max(y0, 0) : y1, x0:x1] = color * lamp * (1.05 - 0.3 * across**2)
                    band = y0 + round(rng.uniform(0.1, 0.3) * (y1 - y0))
                    room[max(band, 0) : max(band + 6, 0), x0:x1] *= 1.35
                edge += w + 0.002
            room[round((top + 0.21) * n) : round((top + 0.235) * n), a:b] = (0.20, 0.135, 0.09)
    room = cv2.GaussianBlur(room.astype(np.float32), (0, 0), 5.0)
    lights = np.zeros_like(room)
    for _ in range(9):
        centre = (int(rng.uniform(0.17, 0.60) * n), int(rng.uniform(0.03, 0.40) * n))
        disc = np.zeros((n, n, 3), np.float32)
        cv2.circle(disc, centre, int(rng.uniform(10, 24)), (1.0, 0.72, 0.42), -1, cv2.LINE_AA)
        lights += disc * float(rng.uniform(0.06, 0.17))
    room = np.clip(room + cv2.GaussianBlur(lights, (0, 0), 1.6), 0, 1)
    room *= (1.06 - 0.55 * ((u - 0.5) ** 2 + (v - 0.5) ** 2))[..., None]
    way = cv2.INTER_AREA if size < n else cv2.INTER_CUBIC
    return np.clip(cv2.resize(room.astype(np.float32), (size, size), interpolation=way), 0, 1)
