"""Every operator against torch, in .tflite files made here."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from radnerf.errors import UserError
from radnerf.tflite.network import Network
from radnerf.tflite.reader import parse, read_tflite

_spec = importlib.util.spec_from_file_location(
    "tflite_writer", Path(__file__).with_name("flatbuffer.py")
)
assert _spec and _spec.loader
_writer = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_writer)
Graph = _writer.Graph

ADD, AVERAGE, CONCAT, CONV, DEPTHWISE, DEQUANTIZE = 0, 1, 2, 3, 4, 6
LOGISTIC, LARGEST, MUL, RELU, RESHAPE, RESIZE = 14, 17, 18, 19, 22, 23
CUSTOM, PAD, PRELU, HARD_SWISH, SOFTMAX = 32, 34, 54, 117, 25
SAME, VALID = 0, 1


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def strides(stride: int, padding: int, at: int = 1) -> dict:
    return {0: ("b", padding), at: ("i", stride), at + 1: ("i", stride)}


def run(graph, source: int, out: int, image: np.ndarray, twice: bool = True) -> np.ndarray:
    """The output for an image; the second time memory holds what the first one left."""
    network = Network(parse(graph.bytes([source], [out])))
    (first,) = network(image).values()
    (again,) = network(image).values()
    np.testing.assert_array_equal(first, again)
    return first


def channels_first(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values)[None].permute(0, 3, 1, 2)


def channels_last(values: torch.Tensor) -> np.ndarray:
    return values.permute(0, 2, 3, 1).numpy()


def convolved(image: torch.Tensor, weights: np.ndarray, bias, stride: int, padding: int):
    """TensorFlow's padding: SAME puts what is left over behind."""
    kernel = torch.from_numpy(weights).permute(0, 3, 1, 2)
    if padding == SAME:
        borders = []
        for have, side in zip(reversed(image.shape[2:]), reversed(kernel.shape[2:]), strict=True):
            need = max((-(-have // stride) - 1) * stride + side - have, 0)
            borders += [need // 2, need - need // 2]
        image = F.pad(image, borders)
    return F.conv2d(image, kernel, torch.from_numpy(bias), stride)


@pytest.mark.parametrize("padding", [SAME, VALID])
@pytest.mark.parametrize(("side", "stride"), [(1, 1), (3, 1), (3, 2), (5, 2), (1, 2)])
@pytest.mark.parametrize("outputs", [1, 24, 33])
def test_convolution(side: int, stride: int, padding: int, outputs: int) -> None:
    image, weights, bias = numbers(9, 11, 3), numbers(outputs, side, side, 3), numbers(outputs)
    true = channels_last(convolved(channels_first(image), weights, bias, stride, padding))
    graph = Graph()
    source = graph.tensor((1, 9, 11, 3))
    inputs = [source, graph.constant(weights), graph.constant(bias)]
    out = graph.add(CONV, inputs, true.shape, strides(stride, padding))
    np.testing.assert_allclose(run(graph, source, out, image), true, atol=1e-4)


@pytest.mark.parametrize("padding", [SAME, VALID])
@pytest.mark.parametrize(("side", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
def test_depthwise_convolution_with_relu(side: int, stride: int, padding: int) -> None:
    image, spread = numbers(8, 7, 3), numbers(20, 1, 1, 3)
    weights, bias = numbers(1, side, side, 20, seed=1), numbers(20, seed=2)
    features = convolved(channels_first(image), spread, np.zeros(20, np.float32), 1, VALID)
    each = [
        convolved(features[:, c : c + 1], weights[..., c : c + 1], bias[c : c + 1], stride, padding)
        for c in range(20)
    ]
    true = channels_last(torch.cat(each, 1).relu())
    graph = Graph()
    source = graph.tensor((1, 8, 7, 3))
    inputs = [source, graph.constant(spread), graph.constant(np.zeros(20, np.float32))]
    middle = graph.add(CONV, inputs, (1, 8, 7, 20), strides(1, VALID))
    inputs = [middle, graph.constant(weights), graph.constant(bias)]
    options = strides(stride, padding) | {3: ("i", 1)}
    out = graph.add(DEPTHWISE, inputs, true.shape, options)
    out = graph.add(RELU, [out], true.shape)
    np.testing.assert_allclose(run(graph, source, out, image), true, atol=1e-4)


def features_of(graph, channels: int, size: tuple[int, int] = (6, 8)):
    """A graph's first convolution, its output, the image for it, and torch's answer."""
    image, weights = numbers(*size, 3), numbers(channels, 1, 1, 3, seed=3)
    source = graph.tensor((1, *size, 3))
    zeros = np.zeros(channels, np.float32)
    inputs = [source, graph.constant(weights), graph.constant(zeros)]
    out = graph.add(CONV, inputs, (1, *size, channels), strides(1, VALID))
    return source, out, image, convolved(channels_first(image), weights, zeros, 1, VALID)


@pytest.mark.parametrize("wider", [20, 28, 40])
def test_residual_block_with_more_channels(wider: int) -> None:
    """PRELU(PAD(x) + CONV(x)): joined in one step, whichever order the sum is written in."""
    graph = Graph()
    source, x, image, features = features_of(graph, 20)
    weights, slope = numbers(wider, 1, 1, 20, seed=4), numbers(1, 1, wider, seed=5)
    zeros = np.zeros(wider, np.float32)
    shape = (1, 6, 8, wider)
    inputs = [x, graph.constant(weights), graph.constant(zeros)]
    convolution = graph.add(CONV, inputs, shape, strides(1, VALID))
    amounts = np.array([[0, 0], [0, 0], [0, 0], [0, wider - 20]], np.int32)
    padded = graph.add(PAD, [x, graph.constant(amounts)], shape)
    total = graph.add(ADD, [padded, convolution], shape, {})
    out = graph.add(PRELU, [total, graph.constant(slope)], shape)
    total = convolved(features, weights, zeros, 1, VALID)
    total[:, :20] += features
    true = F.prelu(total, torch.from_numpy(slope.ravel()))
    network = Network(parse(graph.bytes([source], [out])))
    assert len(network.steps) <= 3
    np.testing.assert_allclose(run(graph, source, out, image), channels_last(true), atol=1e-4)


def test_memory_is_used_again_without_harm() -> None:
    """A chain of blocks gives the same when its middle is an output, whose memory must be kept."""
    graph = Graph()
    source, x, image, features = features_of(graph, 16)
    weights, zeros = numbers(16, 1, 1, 16, seed=4) / 4, np.zeros(16, np.float32)
    kept = []
    for _ in range(5):
        inputs = [x, graph.constant(weights), graph.constant(zeros)]
        new = graph.add(CONV, inputs, (1, 6, 8, 16), strides(1, VALID))
        x = graph.add(ADD, [x, new], (1, 6, 8, 16), {})
        features = features + convolved(features, weights, zeros, 1, VALID)
        kept.append((x, channels_last(features)))
    network = Network(parse(graph.bytes([source], [number for number, _ in kept])))
    for found, (_, true) in zip(network(image).values(), kept, strict=True):
        np.testing.assert_allclose(found, true, atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(run(graph, source, x, image), true, atol=1e-4, rtol=1e-4)


def test_operators_on_features() -> None:
    graph = Graph()
    source, x, image, features = features_of(graph, 20)
    half = (1, 3, 4, 20)
    pool = strides(2, VALID) | {3: ("i", 2), 4: ("i", 2)}
    whole = strides(1, VALID) | {3: ("i", 8), 4: ("i", 6)}
    size = graph.constant(np.array([12, 16], np.int32))
    average = graph.add(AVERAGE, [x], (1, 1, 1, 20), whole)
    gate = graph.add(LOGISTIC, [average], (1, 1, 1, 20))
    outputs = {
        graph.add(LARGEST, [x], half, pool): F.max_pool2d(features, 2),
        average: features.mean((2, 3), keepdim=True),
        graph.add(MUL, [x, gate], (1, 6, 8, 20), {}): features
        * features.mean((2, 3), keepdim=True).sigmoid(),
        graph.add(HARD_SWISH, [x], (1, 6, 8, 20)): F.hardswish(features),
        graph.add(RELU, [x], (1, 6, 8, 20)): features.relu(),
        graph.add(ADD, [x, x], (1, 6, 8, 20), {}): 2 * features,
        graph.add(RESIZE, [x, size], (1, 12, 16, 20), {2: ("b", 0), 3: ("b", 1)}): F.interpolate(
            features, (12, 16), mode="bilinear", align_corners=False
        ),
    }
    network = Network(parse(graph.bytes([source], list(outputs))))
    for found, true in zip(network(image).values(), outputs.values(), strict=True):
        np.testing.assert_allclose(found, channels_last(true), atol=1e-5)


def test_half_precision_constants_reshape_and_concatenation() -> None:
    graph = Graph()
    weights, bias = numbers(4, 1, 1, 3).astype(np.float16), numbers(4).astype(np.float16)
    image = numbers(2, 2, 3, seed=1)
    source = graph.tensor((1, 2, 2, 3))
    unpacked = [graph.add(DEQUANTIZE, [graph.constant(w)], w.shape) for w in (weights, bias)]
    out = graph.add(CONV, [source, *unpacked], (1, 2, 2, 4), strides(1, VALID))
    rows = graph.add(RESHAPE, [out], (1, 4, 4))
    both = graph.add(CONCAT, [rows, rows], (1, 8, 4), {0: ("i", 1)})
    rows = image.reshape(4, 3) @ weights.astype(np.float32).reshape(4, 3).T + bias
    np.testing.assert_allclose(run(graph, source, both, image)[0], np.tile(rows, (2, 1)), atol=1e-5)


def test_transposed_convolution_without_overlap() -> None:
    graph = Graph()
    source, x, image, features = features_of(graph, 20)
    weights, bias = numbers(1, 2, 2, 20, seed=6), numbers(1)
    options = np.array([1, 2, 2], "<i4").tobytes()
    out = graph.add(
        CUSTOM,
        [x, graph.constant(weights), graph.constant(bias)],
        (1, 12, 16, 1),
        custom=("Convolution2DTransposeBias", options),
    )
    kernel = torch.from_numpy(weights).permute(3, 0, 1, 2)
    true = F.conv_transpose2d(features, kernel, torch.from_numpy(bias), 2)
    np.testing.assert_allclose(run(graph, source, out, image), channels_last(true), atol=1e-4)


def test_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    path = tmp_path / "network.tflite"
    graph = Graph()
    source, x, _, _ = features_of(graph, 4)
    out = graph.add(SOFTMAX, [x], (1, 6, 8, 4))
    whole = graph.bytes([source], [out])
    path.write_bytes(whole)
    with pytest.raises(UserError, match=r"network\.tflite .*operator with code 25"):
        Network.load(path)
    for content in (b"", b"something else", whole[:200]):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"network\.tflite is no \.tflite network"):
            read_tflite(path)
    with pytest.raises(UserError, match=r"missing\.tflite cannot be read"):
        read_tflite(tmp_path / "missing.tflite")
    graph = Graph()
    source, x, _, _ = features_of(graph, 4)
    out = graph.add(LARGEST, [x], (1, 2, 2, 4), strides(3, VALID) | {3: ("i", 3), 4: ("i", 3)})
    path.write_bytes(graph.bytes([source], [out]))
    with pytest.raises(UserError, match=r"cannot be run here: a largest of anything but"):
        Network.load(path)
