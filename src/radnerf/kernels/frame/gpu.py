"""Triton kernels of frame rendering: rays to a head, then torso and background to 8-bit pixels.

A program draws a tile of R pixels. Its rays walk to their next occupied sample together, and the
fields are asked for one sample of every ray at a time until all rays are opaque or through, so no
sample is ever stored, and none behind an opaque one is shaded. Matrices are float16 with float32
sums; what has few outputs (a coordinate, the density, a colour) is a sum over columns instead.
"""

# Triton's language knows no Python types.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
from __future__ import annotations

import triton
import triton.language as tl

TILE = tl.constexpr(8)  # pixels a side of the smallest square that a program draws


@triton.jit
def _pixel(height, width, R: tl.constexpr):
    """Pixel numbers of this program's tile, R / 8 wide and 8 high, and which are in the image."""
    across = R // TILE
    tiles = (width + across - 1) // across
    lane = tl.arange(0, R)
    row = tl.program_id(0) // tiles * TILE + lane // across
    column = tl.program_id(0) % tiles * across + lane % across
    return row * width + column, (row < height) & (column < width)


@triton.jit
def _clamped(x):
    """Into [0, 1]; NaN becomes 0."""
    return tl.minimum(tl.where(x > 0, x, 0.0), 1.0)


@triton.jit
def _sigmoid(x):
    return 1 / (1 + tl.exp(-x))


@triton.jit
def _tanh(x):
    return 1 - 2 / (1 + tl.exp(2 * tl.minimum(x, 40.0)))


@triton.jit
def _matrix(pointer, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    row, column = tl.arange(0, ROWS)[:, None], tl.arange(0, COLUMNS)[None, :]
    return tl.load(pointer + row * COLUMNS + column)


@triton.jit
def _vector(pointer, ROW: tl.constexpr, COLUMNS: tl.constexpr):
    return tl.load(pointer + ROW * COLUMNS + tl.arange(0, COLUMNS))[None, :]


@triton.jit
def _layer(x, matrix, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """x times a matrix [ROWS, COLUMNS]."""
    return tl.dot(x.to(tl.float16), _matrix(matrix, ROWS, COLUMNS))


@triton.jit
def _volume(x, y, z, table, scales, columns, W: tl.constexpr):
    """Features [R, W] of points [R] in the unit cube.

    scales [W]; columns [6, W]: first element, mask, three strides, hashed, of a feature's level.
    """
    c = tl.arange(0, W)[None, :]
    scale = tl.load(scales + c)
    first, mask = tl.load(columns + c), tl.load(columns + W + c)
    s0, s1 = tl.load(columns + 2 * W + c), tl.load(columns + 3 * W + c)
    s2, hashed = tl.load(columns + 4 * W + c), tl.load(columns + 5 * W + c)
    p, q, r = x[:, None] * scale + 0.5, y[:, None] * scale + 0.5, z[:, None] * scale + 0.5
    i, j, k = p.to(tl.int32), q.to(tl.int32), r.to(tl.int32)
    f, g, h = p - i.to(tl.float32), q - j.to(tl.float32), r - k.to(tl.float32)
    a0, b0, c0 = i * s0, j * s1, k * s2
    total = tl.zeros_like(p)
    for corner in tl.static_range(8):
        u, a = 1 - f, a0
        if corner & 1:
            u, a = f, a0 + s0
        v, b = 1 - g, b0
        if corner & 2:
            v, b = g, b0 + s1
        w, d = 1 - h, c0
        if corner & 4:
            w, d = h, c0 + s2
        row = tl.where(hashed != 0, a ^ b ^ d, a + b + d) & mask
        total += u * v * w * tl.load(table + first + 2 * row).to(tl.float32)
    return total


@triton.jit
def _plane(x, y, table, scales, columns, W: tl.constexpr):
    """As _volume, for points of the unit square; columns [5, W] has two strides."""
    c = tl.arange(0, W)[None, :]
    scale = tl.load(scales + c)
    first, mask = tl.load(columns + c), tl.load(columns + W + c)
    s0, s1 = tl.load(columns + 2 * W + c), tl.load(columns + 3 * W + c)
    hashed = tl.load(columns + 4 * W + c)
    p, q = x[:, None] * scale + 0.5, y[:, None] * scale + 0.5
    i, j = p.to(tl.int32), q.to(tl.int32)
    f, g = p - i.to(tl.float32), q - j.to(tl.float32)
    a0, b0 = i * s0, j * s1
    total = tl.zeros_like(p)
    for corner in tl.static_range(4):
        u, a = 1 - f, a0
        if corner & 1:
            u, a = f, a0 + s0
        v, b = 1 - g, b0
        if corner & 2:
            v, b = g, b0 + s1
        row = tl.where(hashed != 0, a ^ b, a + b) & mask
        total += u * v * tl.load(table + first + 2 * row).to(tl.float32)
    return total


@triton.jit
def _harmonics(x, y, z):
    """Spherical harmonics [R, 16] of unit directions, as kernels/encodings has them."""
    x, y, z = x[:, None], y[:, None], z[:, None]
    c = tl.arange(0, 16)[None, :]
    xx, yy, zz = x * x, y * y, z * z
    out = tl.where(c == 0, 0.28209479177387814, 0.0 * x)
    out = tl.where(c == 1, -0.4886025119029199 * y, out)
    out = tl.where(c == 2, 0.4886025119029199 * z, out)
    out = tl.where(c == 3, -0.4886025119029199 * x, out)
    out = tl.where(c == 4, 1.0925484305920792 * x * y, out)
    out = tl.where(c == 5, -1.0925484305920792 * y * z, out)
    out = tl.where(c == 6, 0.31539156525252005 * (3 * zz - 1), out)
    out = tl.where(c == 7, -1.0925484305920792 * x * z, out)
    out = tl.where(c == 8, 0.5462742152960396 * (xx - yy), out)
    out = tl.where(c == 9, -0.5900435899266435 * y * (3 * xx - yy), out)
    out = tl.where(c == 10, 2.890611442640554 * x * y * z, out)
    out = tl.where(c == 11, 0.4570457994644658 * y * (1 - 5 * zz), out)
    out = tl.where(c == 12, 0.3731763325901154 * z * (5 * zz - 3), out)
    out = tl.where(c == 13, 0.4570457994644658 * x * (1 - 5 * zz), out)
    out = tl.where(c == 14, 1.445305721320277 * z * (xx - yy), out)
    return tl.where(c == 15, -0.5900435899266435 * x * (xx - 3 * yy), out)


@triton.jit
def _border(low, high, origin, inverse, enter, leave):
    """A ray's stay between two planes."""
    a, b = (low - origin) * inverse, (high - origin) * inverse
    return tl.maximum(enter, tl.minimum(a, b)), tl.minimum(leave, tl.maximum(a, b))


@triton.jit
def _leaves(cell, reach, position, per_distance):
    """Distance at which a position leaves the cells cell - reach .. cell + reach, of one axis."""
    border = tl.where(per_distance > 0, cell + reach + 1, cell - reach).to(tl.float32)
    safe = tl.where(per_distance == 0, 1.0, per_distance)
    return tl.where(per_distance == 0, 1e30, (border - position) / safe)


@triton.jit
def head_kernel(
    camera, box, empty, rx, ry, rz, near, step, max_samples, stop,
    spatial, spatial_scales, spatial_columns, ambient, ambient_scales, ambient_columns,
    matrices, rows, biases, out, height, width, focal, cx, cy,
    R: tl.constexpr, WS: tl.constexpr, WA: tl.constexpr, H: tl.constexpr,
):  # fmt: skip
    """Premultiplied colour and remaining light of every pixel, into out [pixels, 4].

    camera [12]: rows of the camera-to-world matrix. box [6]: corners. empty [rx, ry, rz] bytes:
    cells to the next occupied one. matrices, one after another: ambient net [WS, H], [H, H];
    sigma net of the spatial [WS, H] and of the ambient features [WA, H], [H, H]; colour [H, H],
    view [16, H]. rows [6, H]: the coordinate's two, the density's, the colour's three outputs.
    biases [3, H]: ambient net, sigma net, colour.
    """
    pixel, inside = _pixel(height, width, R)
    u = (pixel % width + 0.5 - cx) / focal
    v = (pixel // width + 0.5 - cy) / focal
    length = tl.sqrt(u * u + v * v + 1)
    u, v, w = u / length, v / length, 1 / length
    dx = tl.load(camera) * u + tl.load(camera + 1) * v + tl.load(camera + 2) * w
    dy = tl.load(camera + 4) * u + tl.load(camera + 5) * v + tl.load(camera + 6) * w
    dz = tl.load(camera + 8) * u + tl.load(camera + 9) * v + tl.load(camera + 10) * w
    ox, oy, oz = tl.load(camera + 3), tl.load(camera + 7), tl.load(camera + 11)
    lx, ly, lz = tl.load(box), tl.load(box + 1), tl.load(box + 2)
    hx, hy, hz = tl.load(box + 3), tl.load(box + 4), tl.load(box + 5)
    enter, leave = near + 0 * dx, 1e30 + 0 * dx
    enter, leave = _border(lx, hx, ox, 1 / tl.where(tl.abs(dx) > 1e-12, dx, 1e-12), enter, leave)
    enter, leave = _border(ly, hy, oy, 1 / tl.where(tl.abs(dy) > 1e-12, dy, 1e-12), enter, leave)
    enter, leave = _border(lz, hz, oz, 1 / tl.where(tl.abs(dz) > 1e-12, dz, 1e-12), enter, leave)
    ux, uy, uz = 1 / (hx - lx), 1 / (hy - ly), 1 / (hz - lz)

    to_ambient = matrices
    ambient_hidden = to_ambient + WS * H
    to_sigma = ambient_hidden + H * H
    to_sigma_of_ambient = to_sigma + WS * H
    sigma_hidden = to_sigma_of_ambient + WA * H
    to_colour = sigma_hidden + H * H
    of_view = to_colour + H * H
    view = _layer(_harmonics(dx, dy, dz), of_view, 16, H) + _vector(biases, 2, H)

    light = 1 + 0 * dx
    red, green, blue = 0 * dx, 0 * dx, 0 * dx
    piece, kept = tl.zeros([R], tl.int32), tl.zeros([R], tl.int32)
    alive = inside & (enter < leave)
    while tl.max(alive.to(tl.int32), 0) > 0:
        # On to the next occupied sample.
        seeking = alive
        t = enter
        while tl.max(seeking.to(tl.int32), 0) > 0:
            t = tl.where(seeking, enter + (piece.to(tl.float32) + 0.5) * step, t)
            alive = alive & (t < leave)
            seeking = seeking & alive
            x, y, z = (ox + t * dx - lx) * ux, (oy + t * dy - ly) * uy, (oz + t * dz - lz) * uz
            x, y, z = x * rx, y * ry, z * rz
            i = tl.minimum(tl.maximum(x.to(tl.int32), 0), rx - 1)
            j = tl.minimum(tl.maximum(y.to(tl.int32), 0), ry - 1)
            k = tl.minimum(tl.maximum(z.to(tl.int32), 0), rz - 1)
            reach = tl.load(empty + (i * ry + j) * rz + k, mask=seeking, other=0).to(tl.int32) - 1
            seeking = seeking & (reach >= 0)
            ahead = tl.minimum(
                _leaves(i, reach, x, dx * ux * rx),
                tl.minimum(_leaves(j, reach, y, dy * uy * ry), _leaves(k, reach, z, dz * uz * rz)),
            )
            jump = tl.maximum(tl.ceil(tl.minimum(ahead / step, 1e6)).to(tl.int32), 1)
            piece += tl.where(seeking, jump, 0)
        if tl.max(alive.to(tl.int32), 0) > 0:
            x = _clamped((ox + t * dx - lx) * ux)
            y = _clamped((oy + t * dy - ly) * uy)
            z = _clamped((oz + t * dz - lz) * uz)
            features = _volume(x, y, z, spatial, spatial_scales, spatial_columns, WS)
            hidden = _layer(features, to_ambient, WS, H) + _vector(biases, 0, H)
            hidden = tl.maximum(_layer(tl.maximum(hidden, 0.0), ambient_hidden, H, H), 0.0)
            a = _clamped((_tanh(tl.sum(hidden * _vector(rows, 0, H), 1)) + 1) / 2)
            b = _clamped((_tanh(tl.sum(hidden * _vector(rows, 1, H), 1)) + 1) / 2)
            moved = _plane(a, b, ambient, ambient_scales, ambient_columns, WA)
            hidden = _layer(features, to_sigma, WS, H) + _layer(moved, to_sigma_of_ambient, WA, H)
            hidden = tl.maximum(hidden + _vector(biases, 1, H), 0.0)
            hidden = tl.maximum(_layer(hidden, sigma_hidden, H, H), 0.0)
            density = tl.exp(tl.minimum(tl.sum(hidden * _vector(rows, 2, H), 1), 15.0))
            through = tl.exp(-density * step)
            weight = tl.where(alive, light * (1 - through), 0.0)
            light = tl.where(alive, light * through, light)
            colour = tl.maximum(_layer(hidden, to_colour, H, H) + view, 0.0)
            red += weight * _sigmoid(tl.sum(colour * _vector(rows, 3, H), 1))
            green += weight * _sigmoid(tl.sum(colour * _vector(rows, 4, H), 1))
            blue += weight * _sigmoid(tl.sum(colour * _vector(rows, 5, H), 1))
            piece += 1
            kept += alive.to(tl.int32)
            alive = alive & (light > stop) & (kept < max_samples)
    tl.store(out + 4 * pixel, red, mask=inside)
    tl.store(out + 4 * pixel + 1, green, mask=inside)
    tl.store(out + 4 * pixel + 2, blue, mask=inside)
    tl.store(out + 4 * pixel + 3, light, mask=inside)


@triton.jit
def _frequencies(x, y, octaves, E: tl.constexpr):
    """x, y, then per octave their sines and their cosines, in E columns filled up with 0."""
    c = tl.arange(0, E)[None, :]
    octave, part = (c - 2) // 4, (c - 2) % 4
    value = tl.where(c % 2 == 0, x[:, None], y[:, None])
    angle = value * tl.exp2(tl.maximum(octave, 0).to(tl.float32))
    waves = tl.where(part < 2, tl.sin(angle), tl.cos(angle))
    return tl.where(c < 2, value, tl.where(octave < octaves, waves, 0.0))


@triton.jit
def finish_kernel(
    head, background, cells, rows_of_cells, columns_of_cells, motion, shrink, octaves, stop,
    grid, scales, columns, matrices, rows, deform_bias, torso_bias, image, height, width,
    R: tl.constexpr, E: tl.constexpr, WG: tl.constexpr, HD: tl.constexpr, HT: tl.constexpr,
):  # fmt: skip
    """The head over the torso over the background [pixels, 3], into image [pixels, 3] bytes.

    head [pixels, 4]: see head_kernel. cells [columns, rows] bytes: where there may be torso.
    motion [4]: shift, cosine and sine of the turn. matrices, one after another: deformation
    [E, HD], [HD, HD]; torso of the grid [WG, HT], of the point [E, HT], [HT, HT]. rows: the
    deformation's two outputs [2, HD], then alpha and colour [4, HT].
    """
    pixel, inside = _pixel(height, width, R)
    light = tl.load(head + 4 * pixel + 3, mask=inside, other=0.0)
    x = (pixel % width + 0.5) / width * 2 - 1
    y = (pixel // width + 0.5) / height * 2 - 1
    i = tl.minimum(((x + 1) / 2 * columns_of_cells).to(tl.int32), columns_of_cells - 1)
    j = tl.minimum(((y + 1) / 2 * rows_of_cells).to(tl.int32), rows_of_cells - 1)
    needed = inside & (light > stop)
    needed = needed & (tl.load(cells + i * rows_of_cells + j, mask=needed, other=0) != 0)
    alpha, red, green, blue = 0 * x, 0 * x, 0 * x, 0 * x
    if tl.max(needed.to(tl.int32), 0) > 0:
        a, b = x - tl.load(motion), y - tl.load(motion + 1)
        cos, sin = tl.load(motion + 2), tl.load(motion + 3)
        p, q = (cos * a + sin * b) * shrink, (cos * b - sin * a) * shrink
        encoded = _frequencies(p, q, octaves, E)
        to_torso = matrices + E * HD + HD * HD
        hidden = tl.maximum(_layer(encoded, matrices, E, HD) + _vector(deform_bias, 0, HD), 0.0)
        hidden = tl.maximum(_layer(hidden, matrices + E * HD, HD, HD), 0.0)
        p += tl.sum(hidden * _vector(rows, 0, HD), 1)
        q += tl.sum(hidden * _vector(rows, 1, HD), 1)
        features = _plane(_clamped((p + 1) / 2), _clamped((q + 1) / 2), grid, scales, columns, WG)
        out = _layer(features, to_torso, WG, HT) + _layer(encoded, to_torso + WG * HT, E, HT)
        out = tl.maximum(out + _vector(torso_bias, 0, HT), 0.0)
        out = tl.maximum(_layer(out, to_torso + (WG + E) * HT, HT, HT), 0.0)
        of_torso = rows + 2 * HD
        alpha = _sigmoid(tl.sum(out * _vector(of_torso, 0, HT), 1))
        red = _sigmoid(tl.sum(out * _vector(of_torso, 1, HT), 1))
        green = _sigmoid(tl.sum(out * _vector(of_torso, 2, HT), 1))
        blue = _sigmoid(tl.sum(out * _vector(of_torso, 3, HT), 1))
        alpha = tl.where(needed, alpha, 0.0)
    _finish(head, background, image, pixel, inside, light, alpha, red, 0)
    _finish(head, background, image, pixel, inside, light, alpha, green, 1)
    _finish(head, background, image, pixel, inside, light, alpha, blue, 2)


@triton.jit
def _finish(head, background, image, pixel, inside, light, alpha, torso, CHANNEL: tl.constexpr):
    behind = tl.load(background + 3 * pixel + CHANNEL, mask=inside, other=0.0)
    behind += alpha * (torso - behind)
    value = tl.load(head + 4 * pixel + CHANNEL, mask=inside, other=0.0) + light * behind
    level = _clamped(value) * 255 + 0.5
    tl.store(image + 3 * pixel + CHANNEL, level.to(tl.uint8), mask=inside)
