"""Triton kernels of frame rendering: rays to a head, then torso and background to 8-bit pixels.

A program draws a tile of the image. Its rays walk to their next occupied sample together, and the
fields are asked for one sample of every ray at a time until all rays are opaque or through, so no
sample is ever stored, and none behind an opaque one is shaded. Matrices are float16 with float32
sums; what has few outputs (a coordinate, the density, a color) is a sum over columns instead.
A grid's table is read in pairs: an int32 holds both float16 features of an entry.
"""

# Triton's language knows no Python types.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
from __future__ import annotations

import triton
import triton.language as tl

from radnerf.kernels.march import reference
from radnerf.kernels.triton_runtime import INTERPRETED, dot, jit, padded, triton_interprets

SIDE, WARPS = 8, 4  # pixels a side, and warps, of a program
INTERPRETED_SIDE = 128
TINY = tl.constexpr(reference.TINY)
FAR = tl.constexpr(1e30)


def tiles(height: int, width: int) -> tuple[tuple[int], int, int]:
    """Programs that cover an image, and the height and width of each one's tile."""
    high = wide = SIDE
    if triton_interprets():
        high, wide = (min(padded(side), INTERPRETED_SIDE) for side in (height, width))
    return (triton.cdiv(height, high) * triton.cdiv(width, wide),), high, wide


@jit
def _pixel(height, width, HIGH: tl.constexpr, WIDE: tl.constexpr):
    """Pixel numbers of this program's tile, row by row, and which are in the image."""
    across = tl.cdiv(width, WIDE)
    lane = tl.arange(0, HIGH * WIDE)
    row = tl.program_id(0) // across * HIGH + lane // WIDE
    column = tl.program_id(0) % across * WIDE + lane % WIDE
    return row * width + column, (row < height) & (column < width)


@jit
def _any(mask):
    return tl.max(mask.to(tl.int32), 0) > 0


@jit
def _clamped(x):
    """Into [0, 1]; NaN becomes 0."""
    return tl.minimum(tl.where(x > 0, x, 0.0), 1.0)


@jit
def _relu(x):
    """Not above the largest float16 either."""
    return tl.minimum(tl.maximum(x, 0.0), 65504.0)


@jit
def _sigmoid(x):
    return 1 / (1 + tl.exp(-x))


@jit
def _tanh(x):
    return 1 - 2 / (1 + tl.exp(2 * tl.minimum(x, 40.0)))


@jit
def _layer(x, matrix, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """x times a matrix [ROWS, COLUMNS]."""
    row, column = tl.arange(0, ROWS)[:, None], tl.arange(0, COLUMNS)[None, :]
    return dot(x.to(tl.float16), tl.load(matrix + row * COLUMNS + column), "tf32")


@jit
def _vector(pointer, ROW: tl.constexpr, COLUMNS: tl.constexpr):
    return tl.load(pointer + ROW * COLUMNS + tl.arange(0, COLUMNS))[None, :]


@jit
def _output(hidden, rows, ROW: tl.constexpr, COLUMNS: tl.constexpr):
    """One output of a layer."""
    return tl.sum(hidden * _vector(rows, ROW, COLUMNS), 1)


@jit
def _gathered(pointers):
    """int32 from anywhere.

    A tl.load would first take all addresses to other threads, where neighbours might be read at
    once, and the values back: through shared memory, and so one corner after the other.
    """
    if INTERPRETED:
        values = tl.load(pointers)
    else:
        values = tl.inline_asm_elementwise(
            "ld.global.nc.b32 $0, [$1];", "=r,l", [pointers.to(tl.int64)], tl.int32, True, 1
        )
    return values


@jit
def _feature(pair):
    """The float16 in the lower half of an int32."""
    return pair.to(tl.int16).to(tl.float16, bitcast=True).to(tl.float32)


@jit
def _volume(x, y, z, table, scales, levels, L: tl.constexpr):
    """Features [n, 2 L] of points [n] in the unit cube.

    table [entries] pairs; scales [L]; levels [6, L]: first entry, mask, three strides, hashed.
    """
    scale, first, mask = _vector(scales, 0, L), _vector(levels, 0, L), _vector(levels, 1, L)
    s0, s1, s2 = _vector(levels, 2, L), _vector(levels, 3, L), _vector(levels, 4, L)
    hashed = _vector(levels, 5, L) != 0
    p, q, r = x[:, None] * scale + 0.5, y[:, None] * scale + 0.5, z[:, None] * scale + 0.5
    i, j, k = p.to(tl.int32), q.to(tl.int32), r.to(tl.int32)
    f, g, h = p - i.to(tl.float32), q - j.to(tl.float32), r - k.to(tl.float32)
    # Products wrap around as those of public code do, which are unsigned.
    i, j, k = i * s0, j * s1, k * s2
    even, odd = tl.zeros_like(p), tl.zeros_like(p)
    for corner in tl.static_range(8):
        a, u = _corner(i, f, s0, corner & 1)
        b, v = _corner(j, g, s1, corner >> 1 & 1)
        c, w = _corner(k, h, s2, corner >> 2)
        row = tl.where(hashed, a ^ b ^ c, a + b + c) & mask
        pair = _gathered(table + first + row)
        weight = u * v * w
        even += weight * _feature(pair)
        odd += weight * _feature(pair >> 16)
    return tl.interleave(even, odd)


@jit
def _plane(x, y, table, scales, levels, L: tl.constexpr):
    """As _volume, for points of the unit square."""
    scale, first, mask = _vector(scales, 0, L), _vector(levels, 0, L), _vector(levels, 1, L)
    s0, s1 = _vector(levels, 2, L), _vector(levels, 3, L)
    hashed = _vector(levels, 5, L) != 0
    p, q = x[:, None] * scale + 0.5, y[:, None] * scale + 0.5
    i, j = p.to(tl.int32), q.to(tl.int32)
    f, g = p - i.to(tl.float32), q - j.to(tl.float32)
    i, j = i * s0, j * s1
    even, odd = tl.zeros_like(p), tl.zeros_like(p)
    for corner in tl.static_range(4):
        a, u = _corner(i, f, s0, corner & 1)
        b, v = _corner(j, g, s1, corner >> 1)
        row = tl.where(hashed, a ^ b, a + b) & mask
        pair = _gathered(table + first + row)
        weight = u * v
        even += weight * _feature(pair)
        odd += weight * _feature(pair >> 16)
    return tl.interleave(even, odd)


@jit
def _corner(index, fraction, stride, UPPER: tl.constexpr):
    """An axis' term of a corner's index, and what the corner weighs along it."""
    return (index + stride, fraction) if UPPER else (index, 1 - fraction)


@jit
def _harmonics(x, y, z):
    """Spherical harmonics [n, 16] of unit directions, as kernels/encodings has them."""
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


@jit
def _stay(low, high, origin, direction, enter, leave):
    """The part of a ray's stay that is between two planes."""
    inverse = 1 / tl.where(tl.abs(direction) > TINY, direction, TINY)
    a, b = (low - origin) * inverse, (high - origin) * inverse
    return tl.maximum(enter, tl.minimum(a, b)), tl.minimum(leave, tl.maximum(a, b))


@jit
def _cell(position, n):
    return tl.minimum(tl.maximum(position.to(tl.int32), 0), n - 1)


@jit
def _leaves(cell, reach, position, per_distance):
    """Distance at which a position leaves the cells cell - reach .. cell + reach, of one axis."""
    border = tl.where(per_distance > 0, cell + reach + 1, cell - reach).to(tl.float32)
    safe = tl.where(per_distance == 0, 1.0, per_distance)
    return tl.where(per_distance == 0, FAR, (border - position) / safe)


@jit
def head_kernel(
    camera, box, empty, rx, ry, rz, near, step, max_samples, stop,
    spatial, spatial_scales, spatial_levels, ambient, ambient_scales, ambient_levels,
    matrices, rows, biases, out, height, width, focal, cx, cy,
    HIGH: tl.constexpr, WIDE: tl.constexpr, LS: tl.constexpr, LA: tl.constexpr, H: tl.constexpr,
):  # fmt: skip
    """Premultiplied color and transmittance of every pixel, into out [pixels, 4].

    camera [12]: rows of the camera-to-world matrix. box [6]: corners. empty [rx, ry, rz] bytes:
    cells to the next occupied one. Grids: see _volume. matrices, one after another: ambient net
    [2 LS, H], [H, H]; sigma net of the spatial [2 LS, H] and of the ambient features [2 LA, H],
    [H, H]; color of the latter's outcome [H, H] and of the view [16, H]. rows [6, H]: the
    coordinate's two, the density's, the color's three outputs. biases [3, H]: of the ambient net,
    the sigma net, the color.
    """
    pixel, inside = _pixel(height, width, HIGH, WIDE)
    u = (pixel % width + 0.5 - cx) / focal
    v = (pixel // width + 0.5 - cy) / focal
    w = 1 / tl.sqrt(u * u + v * v + 1)
    u, v = u * w, v * w
    dx = tl.load(camera) * u + tl.load(camera + 1) * v + tl.load(camera + 2) * w
    dy = tl.load(camera + 4) * u + tl.load(camera + 5) * v + tl.load(camera + 6) * w
    dz = tl.load(camera + 8) * u + tl.load(camera + 9) * v + tl.load(camera + 10) * w
    # Positions from here on are in units of the box, whose corners are 0 and 1.
    lx, ly, lz = tl.load(box), tl.load(box + 1), tl.load(box + 2)
    wx, wy, wz = tl.load(box + 3) - lx, tl.load(box + 4) - ly, tl.load(box + 5) - lz
    ox, oy, oz = tl.load(camera + 3), tl.load(camera + 7), tl.load(camera + 11)
    enter, leave = near + tl.zeros_like(dx), FAR + tl.zeros_like(dx)
    enter, leave = _stay(lx, lx + wx, ox, dx, enter, leave)
    enter, leave = _stay(ly, ly + wy, oy, dy, enter, leave)
    enter, leave = _stay(lz, lz + wz, oz, dz, enter, leave)
    # The box is nowhere longer than its diagonal; a ray that is no number would not end.
    leave = tl.minimum(leave, enter + 2 * tl.sqrt(wx * wx + wy * wy + wz * wz))
    alive = inside & (enter < leave)
    enter = tl.where(alive, enter, 0.0)
    ox, oy, oz = (ox - lx) / wx, (oy - ly) / wy, (oz - lz) / wz
    ux, uy, uz = dx / wx, dy / wy, dz / wz

    ambient_hidden = matrices + 2 * LS * H
    to_sigma = ambient_hidden + H * H
    to_sigma_of_ambient = to_sigma + 2 * LS * H
    sigma_hidden = to_sigma_of_ambient + 2 * LA * H
    to_color = sigma_hidden + H * H
    of_view = to_color + H * H
    view = _layer(_harmonics(dx, dy, dz), of_view, 16, H) + _vector(biases, 2, H)

    transmittance = 1 + tl.zeros_like(dx)
    red, green, blue = tl.zeros_like(dx), tl.zeros_like(dx), tl.zeros_like(dx)
    piece, count = tl.zeros_like(pixel), tl.zeros_like(pixel)
    while _any(alive):
        # On to the next occupied sample.
        seeking = alive
        t = enter
        while _any(seeking):
            t = tl.where(seeking, enter + (piece.to(tl.float32) + 0.5) * step, t)
            alive = alive & (t < leave)
            seeking = seeking & alive
            x, y, z = (ox + t * ux) * rx, (oy + t * uy) * ry, (oz + t * uz) * rz
            i, j, k = _cell(x, rx), _cell(y, ry), _cell(z, rz)
            reach = tl.load(empty + (i * ry + j) * rz + k, mask=seeking, other=0).to(tl.int32) - 1
            seeking = seeking & (reach >= 0)
            ahead = tl.minimum(
                _leaves(i, reach, x, ux * rx),
                tl.minimum(_leaves(j, reach, y, uy * ry), _leaves(k, reach, z, uz * rz)),
            )
            jump = tl.maximum(tl.ceil(tl.minimum(ahead / step, 1e6)).to(tl.int32), 1)
            piece += tl.where(seeking, jump, 0)
        if _any(alive):
            x, y, z = _clamped(ox + t * ux), _clamped(oy + t * uy), _clamped(oz + t * uz)
            features = _volume(x, y, z, spatial, spatial_scales, spatial_levels, LS)
            hidden = _relu(_layer(features, matrices, 2 * LS, H) + _vector(biases, 0, H))
            hidden = _relu(_layer(hidden, ambient_hidden, H, H))
            a = _clamped((_tanh(_output(hidden, rows, 0, H)) + 1) / 2)
            b = _clamped((_tanh(_output(hidden, rows, 1, H)) + 1) / 2)
            moved = _plane(a, b, ambient, ambient_scales, ambient_levels, LA)
            hidden = _layer(features, to_sigma, 2 * LS, H)
            hidden += _layer(moved, to_sigma_of_ambient, 2 * LA, H)
            hidden = _relu(hidden + _vector(biases, 1, H))
            hidden = _relu(_layer(hidden, sigma_hidden, H, H))
            density = tl.exp(tl.minimum(_output(hidden, rows, 2, H), 15.0))
            through = tl.exp(-density * step)
            weight = tl.where(alive, transmittance * (1 - through), 0.0)
            transmittance = tl.where(alive, transmittance * through, transmittance)
            color = tl.maximum(_layer(hidden, to_color, H, H) + view, 0.0)
            red += weight * _sigmoid(_output(color, rows, 3, H))
            green += weight * _sigmoid(_output(color, rows, 4, H))
            blue += weight * _sigmoid(_output(color, rows, 5, H))
            piece += 1
            count += alive.to(tl.int32)
            alive = alive & (transmittance > stop) & (count < max_samples)
    tl.store(out + 4 * pixel, red, mask=inside)
    tl.store(out + 4 * pixel + 1, green, mask=inside)
    tl.store(out + 4 * pixel + 2, blue, mask=inside)
    tl.store(out + 4 * pixel + 3, transmittance, mask=inside)


@jit
def _frequencies(x, y, octaves, E: tl.constexpr):
    """x, y, then per octave their sines and their cosines, in E columns filled up with 0."""
    c = tl.arange(0, E)[None, :]
    value = tl.where(c % 2 == 0, x[:, None], y[:, None])
    # From column 2 on; what this says of the first two is not used.
    octave, part = tl.maximum(c - 2, 0) // 4, (c - 2) & 3
    quarter = tl.where(part < 2, 0.0, 1.5707963267948966)
    wave = tl.sin(value * tl.exp2(octave.to(tl.float32)) + quarter)
    return tl.where(c < 2, value, tl.where(octave < octaves, wave, 0.0))


@jit
def finish_kernel(
    head, background, candidates, motion, shrink, octaves, stop, grid, scales, levels,
    matrices, rows, deform_bias, torso_bias, image, height, width,
    HIGH: tl.constexpr, WIDE: tl.constexpr, E: tl.constexpr, L: tl.constexpr,
    HD: tl.constexpr, HT: tl.constexpr,
):  # fmt: skip
    """The head over the torso over the background [pixels, 3], into image [pixels, 3] bytes.

    head [pixels, 4]: see head_kernel. candidates [pixels] bytes: where there may be torso.
    motion [3]: shift and rotation. Grid: see _volume. matrices, one after another: deformation
    [E, HD], [HD, HD]; torso of the grid [2 L, HT], of the point [E, HT], [HT, HT]. rows: the
    deformation's two outputs [2, HD], then alpha and color [4, HT].
    """
    pixel, inside = _pixel(height, width, HIGH, WIDE)
    transmittance = tl.load(head + 4 * pixel + 3, mask=inside, other=0.0)
    needed = inside & (transmittance > stop)
    needed = needed & (tl.load(candidates + pixel, mask=needed, other=0) != 0)
    alpha, red = tl.zeros_like(transmittance), tl.zeros_like(transmittance)
    green, blue = tl.zeros_like(transmittance), tl.zeros_like(transmittance)
    if _any(needed):
        a = (pixel % width + 0.5) / width * 2 - 1 - tl.load(motion)
        b = (pixel // width + 0.5) / height * 2 - 1 - tl.load(motion + 1)
        turn = tl.load(motion + 2)
        cos, sin = tl.cos(turn), tl.sin(turn)
        p, q = (cos * a + sin * b) * shrink, (cos * b - sin * a) * shrink
        encoded = _frequencies(p, q, octaves, E)
        hidden = _relu(_layer(encoded, matrices, E, HD) + _vector(deform_bias, 0, HD))
        hidden = _relu(_layer(hidden, matrices + E * HD, HD, HD))
        p = _clamped((p + _output(hidden, rows, 0, HD) + 1) / 2)
        q = _clamped((q + _output(hidden, rows, 1, HD) + 1) / 2)
        features = _plane(p, q, grid, scales, levels, L)
        of_grid = matrices + (E + HD) * HD
        of_point = of_grid + 2 * L * HT
        over = _layer(features, of_grid, 2 * L, HT) + _layer(encoded, of_point, E, HT)
        over = _relu(over + _vector(torso_bias, 0, HT))
        over = tl.maximum(_layer(over, of_point + E * HT, HT, HT), 0.0)
        outputs = rows + 2 * HD
        alpha = tl.where(needed, _sigmoid(_output(over, outputs, 0, HT)), 0.0)
        red = _sigmoid(_output(over, outputs, 1, HT))
        green = _sigmoid(_output(over, outputs, 2, HT))
        blue = _sigmoid(_output(over, outputs, 3, HT))
    _finish(head, background, image, pixel, inside, transmittance, alpha, red, 0)
    _finish(head, background, image, pixel, inside, transmittance, alpha, green, 1)
    _finish(head, background, image, pixel, inside, transmittance, alpha, blue, 2)


@jit
def _finish(
    head, background, image, pixel, inside, transmittance, alpha, torso, CHANNEL: tl.constexpr
):
    behind = tl.load(background + 3 * pixel + CHANNEL, mask=inside, other=0.0)
    behind += alpha * (torso - behind)
    value = tl.load(head + 4 * pixel + CHANNEL, mask=inside, other=0.0) + transmittance * behind
    level = _clamped(value) * 255 + 0.5
    tl.store(image + 3 * pixel + CHANNEL, level.to(tl.uint8), mask=inside)
