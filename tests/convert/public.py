"""The public RAD-NeRF network: a random state dict, and its slow evaluation in float64.

Written from the facts of the format alone, point by point, without a line of the package.
"""

import math
from itertools import pairwise

import numpy as np
import torch

RESOLUTION, BASE, LEVELS, TABLE = 2048, 16, 16, 2**16


def level_sizes(dim):
    """Scale, vertices along an axis and table rows of every level."""
    growth = math.log2(RESOLUTION / BASE) / (LEVELS - 1)
    sizes = []
    for level in range(LEVELS):
        scale = BASE * 2 ** (level * growth) - 1
        vertices = math.ceil(round(scale, 9)) + 2
        rows = min(TABLE, vertices**dim)
        sizes.append((scale, vertices, -(-rows // 8) * 8))
    return sizes


def state_dict(audio_dim=44, torso=True, seed=0, **changes):
    """All tensors of a public checkpoint, with weights large enough that everything matters."""
    g = torch.Generator().manual_seed(seed)

    def normal(*shape, gain=1.0):
        return torch.randn(*shape, generator=g) * gain / math.sqrt(math.prod(shape[1:]) or 1)

    state = {"aabb_train": torch.tensor([-1, -0.5, -1, 1, 0.5, 1])}
    state["aabb_infer"] = state["aabb_train"].clone()
    state["step_counter"] = torch.zeros(16, 2, dtype=torch.int32)
    bits = torch.randint(0, 256, (128**3 // 8,), generator=g, dtype=torch.uint8)
    state["density_bitfield"] = bits

    def convolutions(prefix, widths):
        for i, (before, after) in enumerate(pairwise(widths)):
            state[f"{prefix}.{2 * i}.weight"] = normal(after, before, 3, gain=1.4)
            state[f"{prefix}.{2 * i}.bias"] = 0.1 * torch.randn(after, generator=g)

    def linear(name, before, after):
        state[f"{name}.weight"] = normal(after, before, gain=1.4)
        state[f"{name}.bias"] = 0.1 * torch.randn(after, generator=g)

    convolutions("audio_net.encoder_conv", [audio_dim, 32, 32, 64, 64])
    linear("audio_net.encoder_fc1.0", 64, 64)
    linear("audio_net.encoder_fc1.2", 64, 64)
    convolutions("audio_att_net.attentionConvNet", [64, 16, 8, 4, 2, 1])
    linear("audio_att_net.attentionNet.0", 8, 8)

    def net(name, *widths):
        for i, (before, after) in enumerate(pairwise(widths)):
            state[f"{name}.net.{i}.weight"] = normal(after, before, gain=1.4)

    def grid(name, dim):
        rows = [rows for _, _, rows in level_sizes(dim)]
        state[f"{name}.offsets"] = torch.tensor([0, *np.cumsum(rows)], dtype=torch.int32)
        state[f"{name}.embeddings"] = torch.randn(sum(rows), 2, generator=g)

    grid("encoder", 3)
    grid("encoder_ambient", 2)
    net("ambient_net", 96, 64, 64, 2)
    net("sigma_net", 65, 64, 64, 65)
    net("color_net", 84, 64, 3)
    state["individual_codes"] = torch.randn(50, 4, generator=g)
    if torso:
        net("torso_deform_net", 104, 64, 64, 2)
        net("torso_net", 136, 32, 32, 4)
        grid("torso_encoder", 2)
        state["individual_codes_torso"] = torch.randn(50, 8, generator=g)
        state["density_grid_torso"] = torch.rand(128**2, generator=g).pow(8)
    return state | changes


def of(state, name):
    return state[name].double().numpy()


def mlp(state, name, x):
    layer = 0
    while f"{name}.net.{layer}.weight" in state:
        if layer:
            x = np.maximum(x, 0)
        x = of(state, f"{name}.net.{layer}.weight") @ x
        layer += 1
    return x


def lookup(state, name, point):
    """Features of one point in [-1, 1]^dim."""
    place = (np.asarray(point) + 1) / 2
    dim, features, first = len(place), [], 0
    table = of(state, f"{name}.embeddings")
    for scale, vertices, rows in level_sizes(dim):
        position = place * scale + 0.5
        corner = np.floor(position).astype(int)
        fraction = position - corner
        value = np.zeros(2)
        for which in np.ndindex(*[2] * dim):
            weight, index, stride = 1.0, 0, 1
            for axis in range(dim):
                weight *= fraction[axis] if which[axis] else 1 - fraction[axis]
                if stride <= rows:  # later axes are left out
                    index += int(corner[axis] + which[axis]) * stride
                    stride *= vertices
            value += weight * table[first + index % rows]
        features.append(value)
        first += rows
    return np.concatenate(features)


def frequencies(x, octaves):
    parts = [x]
    for k in range(octaves):
        parts += [np.sin(2.0**k * x), np.cos(2.0**k * x)]
    return np.concatenate(parts)


def harmonics(d):
    """Real spherical harmonics to degree 3, with the Condon-Shortley phase, from their definition.

    Y_lm = K P_l^|m|(z) (cos or sin of m phi), from scipy's Legendre functions.
    """
    from scipy.special import lpmv

    x, y, z = d
    phi = math.atan2(y, x)
    values = []
    for band in range(4):
        for m in range(-band, band + 1):
            a = abs(m)
            k = (2 * band + 1) / (4 * math.pi) * math.factorial(band - a) / math.factorial(band + a)
            part = math.sqrt(k) * lpmv(a, band, z)
            if m > 0:
                part *= math.sqrt(2) * math.cos(m * phi)
            if m < 0:
                part *= math.sqrt(2) * math.sin(a * phi)
            values.append(part)
    return np.array(values)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def head(state, x, d, code, eye):
    """Density, color and audio coordinate of one point, as at test."""
    space = lookup(state, "encoder", x)
    ambient = np.tanh(mlp(state, "ambient_net", np.concatenate([space, code])))
    moved = lookup(state, "encoder_ambient", ambient)
    inputs = [space, moved] + ([[eye]] if eye is not None else [])
    out = mlp(state, "sigma_net", np.concatenate(inputs))
    inputs = [harmonics(d), out[1:]]
    if "individual_codes" in state:
        inputs.append(of(state, "individual_codes")[0])
    return np.exp(out[0]), sigmoid(mlp(state, "color_net", np.concatenate(inputs))), ambient


def torso(state, row, column, size, pose):
    """Alpha and color of one pixel, as at test."""
    point = 0.8 * np.array([row / (size[0] - 1) * 2 - 1, column / (size[1] - 1) * 2 - 1])
    encoded = frequencies(point, 10)
    inputs = np.concatenate([encoded, frequencies(pose, 4), of(state, "individual_codes_torso")[0]])
    warped = np.clip(point + mlp(state, "torso_deform_net", inputs), -1, 1)
    grid = lookup(state, "torso_encoder", warped)
    out = sigmoid(mlp(state, "torso_net", np.concatenate([grid, inputs])))
    return out[0], out[1:]


def torso_shown(state, row, column, size):
    """Whether the public code asks the torso at a pixel: its grid, read between cell corners."""
    grid = of(state, "density_grid_torso").reshape(128, 128)
    a, b = column / (size[1] - 1) * 127, row / (size[0] - 1) * 127
    i, j = min(int(a), 126), min(int(b), 126)
    u, v = a - i, b - j
    value = (1 - u) * ((1 - v) * grid[i, j] + v * grid[i, j + 1])
    value += u * ((1 - v) * grid[i + 1, j] + v * grid[i + 1, j + 1])
    return value > min(0.01, grid.mean())


def linear(state, name, x):
    return of(state, f"{name}.weight") @ x + of(state, f"{name}.bias")


def leaky(x):
    return np.where(x > 0, x, 0.02 * x)


def convolve(state, name, x, stride):
    weight, bias = of(state, f"{name}.weight"), of(state, f"{name}.bias")
    padded = np.pad(x, ((0, 0), (1, 1)))
    steps = range(0, x.shape[1], stride)
    return np.stack([np.tensordot(weight, padded[:, t : t + 3]) + bias for t in steps], 1)


def audio_code(state, windows):
    """Code of one frame, from the windows [8, 16, C] of frames t-4 to t+3."""
    codes = []
    for window in windows:
        x = window.T
        for i in range(4):
            x = leaky(convolve(state, f"audio_net.encoder_conv.{2 * i}", x, 2))
        hidden = leaky(linear(state, "audio_net.encoder_fc1.0", x[:, 0]))
        codes.append(linear(state, "audio_net.encoder_fc1.2", hidden))
    codes = np.stack(codes)
    x = codes.T
    for i in range(5):
        x = leaky(convolve(state, f"audio_att_net.attentionConvNet.{2 * i}", x, 1))
    score = linear(state, "audio_att_net.attentionNet.0", x[0])
    weight = np.exp(score - score.max())
    return (weight / weight.sum()) @ codes


def occupied(state, cell):
    """The bit of a cell (x, y, z): its coordinates' bits interleaved, x lowest."""
    index = 0
    for axis, coordinate in enumerate(cell):
        for k in range(7):
            index |= (coordinate >> k & 1) << (3 * k + axis)
    return bool(state["density_bitfield"][index // 8].item() >> (index % 8) & 1)
