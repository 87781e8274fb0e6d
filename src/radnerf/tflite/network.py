"""A graph of operators, made ready to run: constants unpacked, memory set aside, steps joined."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from radnerf.errors import UserError
from radnerf.tflite import attention, loops
from radnerf.tflite.loops import LANES, ROWS, SIDES
from radnerf.tflite.reader import Graph, Operator, read_tflite

SAME, RELU = 0, 1  # codes of a padding, and of an activation
CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")
ACTIVATIONS = ("PRELU", "RELU")
Step = Callable[[], object]


@dataclass(frozen=True)
class Map:
    """An image of features: its pixels are rows of `flat`, filled up as loops.py wants it."""

    flat: Float[np.ndarray, "rows width"]
    height: int
    across: int
    channels: int

    @classmethod
    def room(cls, height: int, across: int, channels: int) -> Map:
        rows = -(-height * across // ROWS) * ROWS
        width = -(-channels // LANES) * LANES
        return cls(np.zeros((rows, width), np.float32), height, across, channels)

    @property
    def image(self) -> Float[np.ndarray, "h w c"]:
        pixels = self.height * self.across
        return self.flat[:pixels].reshape(self.height, self.across, -1)

    @property
    def plain(self) -> Float[np.ndarray, "1 h w channels"]:
        return self.image[None, ..., : self.channels]


Value = Map | np.ndarray


class Network:
    """A .tflite network of an image [h, w, 3]; not for several threads at once.

    Raises:
        UserError: it needs something that is not known here.
    """

    def __init__(self, graph: Graph) -> None:
        builder = _Builder(graph)
        self.graph = graph
        self.steps = builder.steps
        self.input: Map = builder.input
        self.outputs = {graph.tensors[i].name: builder.values[i] for i in graph.outputs}

    @classmethod
    def load(cls, path: Path) -> Network:
        try:
            return cls(read_tflite(path))
        except (NotImplementedError, KeyError, ValueError) as error:
            raise UserError(f"{path} cannot be run here: {error}.") from error

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image that it takes."""
        return self.input.height, self.input.across

    def options(self, kind: str) -> list[dict[str, Any]]:
        """Options of every operator of a kind, in their order."""
        return [operator.options for operator in self.graph.operators if operator.kind == kind]

    def __call__(self, image: Float[np.ndarray, "h w 3"]) -> dict[str, np.ndarray]:
        """The network's outputs by their names."""
        np.copyto(self.input.image, image)
        for step in self.steps:
            step()
        return {
            name: (value.plain if isinstance(value, Map) else value).copy()
            for name, value in self.outputs.items()
        }


class _Builder:
    """Turns the operators into steps, in their order.

    A convolution waits for the sum and the activation that follow it, and does them on the way.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.steps: list[Step] = []
        self.values: dict[int, Value] = {
            i: tensor.data for i, tensor in enumerate(graph.tensors) if tensor.data is not None
        }
        self.borders: dict[tuple[int, ...], np.ndarray] = {}
        self.free: dict[tuple[int, ...], list[np.ndarray]] = defaultdict(list)
        self.readers: dict[int, list[int]] = defaultdict(list)
        for i, operator in enumerate(graph.operators):
            for tensor in operator.inputs:
                self.readers[tensor].append(i)
        for tensor in graph.outputs:
            self.readers[tensor].append(-1)
        (number,) = graph.inputs
        _, height, across, channels = graph.tensors[number].shape
        flat = np.zeros((height * across, channels), np.float32)
        self.input = self.values[number] = Map(flat, height, across, channels)
        self.reads_left = {tensor: len(readers) for tensor, readers in self.readers.items()}
        self.owners: dict[int, int] = {}  # of the memory of images that are parts of others
        self.build()

    def build(self) -> None:
        graph = self.graph
        waiting: dict[int, list[int]] = {}
        joined: set[int] = set()
        for i in range(len(graph.operators)):
            chain = waiting.pop(i, None)
            if chain is None and i not in joined:
                chain = self.chain(i, joined)
                joined.update(chain)
            if chain and chain[-1] > i:
                waiting[chain[-1]] = chain
            elif chain:
                operators = [graph.operators[k] for k in chain]
                self.lower(*operators)
                self.release(operators)

    def chain(self, i: int, taken: set[int]) -> list[int]:
        """The operators from i on that are done at once: convolution, sum, activation."""
        chain = [i]
        operators = self.graph.operators
        if operators[i].kind not in CONVOLUTIONS or operators[i].options["activation"]:
            return chain
        for kinds in (("ADD",), ACTIVATIONS):
            last = operators[chain[-1]]
            readers = self.readers[last.outputs[0]]
            if len(readers) != 1 or readers[0] < 0 or readers[0] in taken:
                continue
            following = operators[readers[0]]
            if following.kind not in kinds or following.options.get("activation"):
                continue
            if following.kind == "ADD":
                shapes = {self.graph.tensors[t].shape for t in following.inputs}
                if len(shapes) > 1 or operators[i].kind != "CONV_2D":
                    continue
            chain.append(readers[0])
        return chain

    def lower(self, operator: Operator, *following: Operator) -> None:
        if operator.kind in CONVOLUTIONS:
            self.convolve(operator, *following)
            return
        method = getattr(self, f"_{operator.kind.lower()}", None)
        if method is None:
            raise NotImplementedError(f"the operator {operator.kind} is not known")
        if operator.options.get("activation"):
            raise NotImplementedError(f"an activation inside {operator.kind} is not known")
        method(operator)

    def release(self, operators: list[Operator]) -> None:
        """Memory that nobody reads any more is written again: it is still in the cache."""
        for operator in operators:
            for tensor in operator.inputs:
                owner = self.owners.get(tensor, tensor)
                self.reads_left[owner] -= 1
                value = self.values.get(owner)
                if self.reads_left[owner] == 0 and isinstance(value, Map):
                    self.free[value.flat.shape].append(value.flat)

    # What operators read and write.

    def map(self, tensor: int) -> Map:
        value = self.values[tensor]
        if not isinstance(value, Map):
            raise NotImplementedError(f"{self.graph.tensors[tensor].name} is no image")
        return value

    def plain(self, tensor: int) -> np.ndarray:
        """A view of a tensor in its own shape."""
        value = self.values[tensor]
        return value.plain if isinstance(value, Map) else value

    def new_map(self, tensor: int) -> Map:
        shape = self.graph.tensors[tensor].shape
        if len(shape) != 4 or shape[0] != 1:
            raise NotImplementedError(f"an image of shape {shape}")
        made = Map.room(*shape[1:])
        free = self.free[made.flat.shape]
        if free:
            made = replace(made, flat=free.pop())
        self.values[tensor] = made
        return made

    def new_plain(self, tensor: int) -> np.ndarray:
        made = self.values[tensor] = np.zeros(self.graph.tensors[tensor].shape, np.float32)
        return made

    def bordered(self, source: Map, before: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
        """The image within a frame of zeros, copied there by a step."""
        if size == (source.height, source.across):
            return source.image
        shape = (*size, source.flat.shape[1], *before, source.height, source.across)
        frame = self.borders.setdefault(shape, np.zeros(shape[:3], np.float32))
        inside = frame[before[0] :, before[1] :][: source.height, : source.across]
        self.steps.append(lambda: np.copyto(inside, source.image))
        return frame

    # Convolutions.

    def convolve(self, operator: Operator, *following: Operator) -> None:
        source = self.map(operator.inputs[0])
        given = self.plain(operator.inputs[1]).astype(np.float32)
        outputs, height, across, _ = given.shape
        options = operator.options
        if options["dilation_w"] != 1 or options["dilation_h"] != 1:
            raise NotImplementedError("a dilated convolution")
        if options["stride_w"] != options["stride_h"]:
            raise NotImplementedError("a convolution with two strides")
        out = self.new_map((following or (operator,))[-1].outputs[0])
        stride, width = options["stride_w"], out.flat.shape[1]
        bias = _filled(self.plain(operator.inputs[2]), width)
        slope = self.slope(options["activation"], following, width)
        frame = self.framed(source, out, (height, across), stride, options["padding"])
        if operator.kind == "DEPTHWISE_CONV_2D":
            if height != across or height not in SIDES or options["multiplier"] != 1:
                raise NotImplementedError(f"a depthwise convolution of {height} x {across} pixels")
            weights = _filled(given.reshape(height * across, -1), width)
            size = (out.height, out.across)
            arguments = (frame, height, stride, weights, bias, slope, out.flat, *size)
            self.steps.append(lambda: loops.depthwise(*arguments))
            return
        residual = np.zeros((1, width), np.float32)
        if following and following[0].kind == "ADD":
            result = operator.outputs[0]
            (other,) = (tensor for tensor in following[0].inputs if tensor != result)
            residual = self.map(other).flat
        wide = frame.shape[2]
        weights = _filled(_filled(given, wide).reshape(outputs, -1).T, width)
        rows, columns = np.mgrid[: out.height, : out.across] * stride
        starts = np.zeros(len(out.flat), np.int64)
        starts[: rows.size] = (rows * frame.shape[1] + columns).ravel() * wide
        pieces = (height, frame.shape[1] * wide, across * wide)
        of_residual = int(len(residual) > 1)
        numbers = (frame.reshape(-1), starts, *pieces, weights)
        sums = (*numbers, bias, slope, residual, of_residual, out.flat)
        self.steps.append(lambda: loops.dense(*sums))

    def slope(self, activation: int, following: tuple[Operator, ...], width: int) -> np.ndarray:
        """What a negative result is multiplied by."""
        if activation not in (0, RELU):
            raise NotImplementedError(f"the activation with code {activation}")
        last = following[-1] if following else None
        if last is not None and last.kind == "PRELU":
            return _filled(self.plain(last.inputs[1]).astype(np.float32).reshape(-1), width)
        is_relu = activation == RELU or (last is not None and last.kind == "RELU")
        return np.full(width, 0.0 if is_relu else 1.0, np.float32)

    def framed(
        self, source: Map, out: Map, window: tuple[int, int], stride: int, padding: int
    ) -> np.ndarray:
        """The image with the border that its windows need."""
        before, size = [], []
        sides = ((source.height, out.height), (source.across, out.across))
        for (have, get), side in zip(sides, window, strict=True):
            need = (get - 1) * stride + side
            before.append(max(need - have, 0) // 2 if padding == SAME else 0)
            size.append(max(need, have))
        return self.bordered(source, (before[0], before[1]), (size[0], size[1]))

    def _convolution2dtransposebias(self, operator: Operator) -> None:
        source, weights = self.map(operator.inputs[0]), self.plain(operator.inputs[1])
        bias = self.plain(operator.inputs[2]).astype(np.float32)
        outputs, height, across, _ = weights.shape
        if tuple(np.frombuffer(operator.options["bytes"], "<i4")[1:]) != (across, height):
            raise NotImplementedError("a transposed convolution whose windows overlap")
        out = self.new_plain(operator.outputs[0])
        matrix = np.ascontiguousarray(weights.astype(np.float32).reshape(-1, source.channels).T)
        cells = out.reshape(source.height, height, source.across, across, outputs)

        def step() -> None:
            spread = source.image.reshape(-1, source.flat.shape[1])[:, : source.channels] @ matrix
            spread = spread.reshape(source.height, source.across, outputs, height, across)
            np.add(spread.transpose(0, 3, 1, 4, 2), bias, out=cells)

        self.steps.append(step)

    # Other operators on images.

    def _prelu(self, operator: Operator) -> None:
        source, out = self.plain(operator.inputs[0]), self.new_map(operator.outputs[0])
        slope, to = self.plain(operator.inputs[1]), out.plain
        self.steps.append(lambda: np.copyto(to, np.where(source < 0, source * slope, source)))

    def _relu(self, operator: Operator) -> None:
        source, out = self.map(operator.inputs[0]).flat, self.new_map(operator.outputs[0]).flat
        self.steps.append(lambda: np.maximum(source, 0, out=out))

    def _hard_swish(self, operator: Operator) -> None:
        source, out = self.map(operator.inputs[0]).flat, self.new_map(operator.outputs[0]).flat
        self.steps.append(lambda: loops.hard_swish(source, out))

    def _add(self, operator: Operator) -> None:
        a, b = (self.map(tensor).flat for tensor in operator.inputs)
        if a.shape != b.shape:
            raise NotImplementedError("a sum of images of two sizes")
        out = self.new_map(operator.outputs[0]).flat
        self.steps.append(lambda: np.add(a, b, out=out))

    def _mul(self, operator: Operator) -> None:
        first, second = operator.inputs
        if isinstance(self.values[first], Map):
            source, gate = self.map(first).flat, self.map(second).flat
            if len(self.map(second).plain[0]) != 1:
                raise NotImplementedError("a product of two images")
            out = self.new_map(operator.outputs[0]).flat
            self.steps.append(lambda: loops.gated(source, gate[0], out))
            return
        a, b = self.plain(first), self.plain(second)
        product = self.new_plain(operator.outputs[0])
        self.steps.append(lambda: np.multiply(a, b, out=product))

    def _pad(self, operator: Operator) -> None:
        """Of channels only: the space beside the channels is zero already."""
        source, amounts = self.map(operator.inputs[0]), self.plain(operator.inputs[1])
        if amounts[:3].any() or amounts[3, 0]:
            raise NotImplementedError("padding of anything but further channels")
        channels = source.channels + int(amounts[3, 1])
        if channels <= source.flat.shape[1]:
            tensor, out = operator.inputs[0], operator.outputs[0]
            owner = self.owners[out] = self.owners.get(tensor, tensor)
            self.reads_left[owner] += self.reads_left[out]
            self.values[out] = replace(source, channels=channels)
            return
        made = Map.room(source.height, source.across, channels)
        self.values[operator.outputs[0]] = made
        self.reads_left[operator.outputs[0]] += 1  # never given on: its further channels stay zero
        part = made.flat[:, : source.flat.shape[1]]
        self.steps.append(lambda: np.copyto(part, source.flat))

    def _max_pool_2d(self, operator: Operator) -> None:
        source, out = self.map(operator.inputs[0]), self.new_map(operator.outputs[0])
        options = operator.options
        sides = {options[key] for key in ("stride_w", "stride_h", "filter_w", "filter_h")}
        if sides != {2} or source.height % 2 or source.across % 2:
            raise NotImplementedError("a largest of anything but whole 2 x 2 pixels")
        before, after = source.image, out.image
        self.steps.append(lambda: loops.halved(before, after))

    def _average_pool_2d(self, operator: Operator) -> None:
        source, out = self.map(operator.inputs[0]), self.new_map(operator.outputs[0])
        if (operator.options["filter_h"], operator.options["filter_w"]) != (
            source.height,
            source.across,
        ):
            raise NotImplementedError("a mean of anything but the whole image")
        pixels, row = source.height * source.across, out.flat[0]
        self.steps.append(lambda: loops.mean(source.flat, pixels, row))

    def _resize_bilinear(self, operator: Operator) -> None:
        if not operator.options["half_pixel_centers"] or operator.options["align_corners"]:
            raise NotImplementedError("resizing without pixel centres at halves")
        before = self.map(operator.inputs[0]).image
        after = self.new_map(operator.outputs[0]).image
        self.steps.append(lambda: loops.resized(before, after))

    def _logistic(self, operator: Operator) -> None:
        source = self.values[operator.inputs[0]]
        if isinstance(source, Map):
            before, out = source.flat, self.new_map(operator.outputs[0]).flat
        else:
            before, out = source, self.new_plain(operator.outputs[0])

        def step() -> None:
            np.tanh(np.multiply(before, 0.5, out=out), out=out)
            np.multiply(np.add(out, 1, out=out), 0.5, out=out)

        self.steps.append(step)

    # Operators on numbers.

    def _dequantize(self, operator: Operator) -> None:
        self.values[operator.outputs[0]] = self.plain(operator.inputs[0]).astype(np.float32)

    def _reshape(self, operator: Operator) -> None:
        source = self.plain(operator.inputs[0])
        out = self.new_plain(operator.outputs[0])
        to = out.reshape(source.shape)
        self.steps.append(lambda: np.copyto(to, source))

    def _concatenation(self, operator: Operator) -> None:
        parts = [self.plain(tensor) for tensor in operator.inputs]
        out, axis = self.new_plain(operator.outputs[0]), operator.options["axis"]
        self.steps.append(lambda: np.concatenate(parts, axis, out=out))

    def _strided_slice(self, operator: Operator) -> None:
        source = self.plain(operator.inputs[0])
        begin, _, stride = (self.plain(tensor) for tensor in operator.inputs[1:])
        out = self.new_plain(operator.outputs[0])
        places = tuple(
            slice(int(b), int(b) + n * int(s), int(s))
            for b, s, n in zip(begin, stride, out.shape, strict=True)
        )
        part = source[places]
        self.steps.append(lambda: np.copyto(out, part))

    # The attention mesh's own.

    def _landmarks2transformmatrix(self, operator: Operator) -> None:
        options = operator.options
        (points,) = self.plain(operator.inputs[0])
        (out,) = self.new_plain(operator.outputs[0])
        look: dict[str, Any] = {
            "part": options["subset_idxs"],
            "ends": (options["left_rotation_idx"], options["right_rotation_idx"]),
            "size": (options["output_width"], options["output_height"]),
            "scale": (options["scale_x"], options["scale_y"]),
            "angle": options["target_rotation_radians"],
        }
        self.steps.append(lambda: np.copyto(out, attention.part_matrix(points, **look)))

    def _transformtensorbilinear(self, operator: Operator) -> None:
        source = self.map(operator.inputs[0]).image
        (matrix,) = self.plain(operator.inputs[1])
        out = self.new_map(operator.outputs[0])
        to = out.image
        self.steps.append(lambda: loops.look(source, matrix, to))

    def _transformlandmarks(self, operator: Operator) -> None:
        (points,), (matrix,) = (self.plain(tensor) for tensor in operator.inputs)
        (out,) = self.new_plain(operator.outputs[0])
        self.steps.append(lambda: np.copyto(out, attention.placed(points, matrix)))


def _filled(values: np.ndarray, width: int) -> np.ndarray:
    """With zeros behind the last axis' numbers, up to a width."""
    room = [(0, 0)] * (values.ndim - 1) + [(0, width - values.shape[-1])]
    return np.ascontiguousarray(np.pad(values, room).astype(np.float32))
