"""What is in a .tflite file: its constants, and the operators between them.

A .tflite file is a FlatBuffer: a table points to its fields by offsets, in the order of TensorFlow
Lite's published schema. Only the fields that inference needs are read.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from radnerf.errors import UserError
from radnerf.tflite.flexbuffer import read_map

T = TypeVar("T")
TYPES = {0: "<f4", 1: "<f2", 2: "<i4", 3: "u1", 4: "<i8", 6: "?", 9: "i1"}
# Codes of the built-in operators, and the fields of their options in order.
WINDOW = ("padding", "stride_w", "stride_h")
DILATION = ("dilation_w", "dilation_h")
POOL = (*WINDOW, "filter_w", "filter_h", "activation")
BUILT_IN: dict[int, tuple[str, tuple[str, ...]]] = {
    0: ("ADD", ("activation",)),
    1: ("AVERAGE_POOL_2D", POOL),
    2: ("CONCATENATION", ("axis", "activation")),
    3: ("CONV_2D", (*WINDOW, "activation", *DILATION)),
    4: ("DEPTHWISE_CONV_2D", (*WINDOW, "multiplier", "activation", *DILATION)),
    6: ("DEQUANTIZE", ()),
    14: ("LOGISTIC", ()),
    17: ("MAX_POOL_2D", POOL),
    18: ("MUL", ("activation",)),
    19: ("RELU", ()),
    22: ("RESHAPE", ()),
    23: ("RESIZE_BILINEAR", ("new_height", "new_width", "align_corners", "half_pixel_centers")),
    34: ("PAD", ()),
    45: ("STRIDED_SLICE", ()),
    54: ("PRELU", ()),
    117: ("HARD_SWISH", ()),
}
BYTES = ("padding", "activation", "align_corners", "half_pixel_centers")  # others have four
CUSTOM = 32


@dataclass(frozen=True)
class Tensor:
    """A value of the graph; `data` is None unless it is a constant."""

    name: str
    shape: tuple[int, ...]
    data: np.ndarray | None


@dataclass(frozen=True)
class Operator:
    """A step of the graph; inputs and outputs are numbers of tensors, -1 for one left out."""

    kind: str
    options: dict[str, Any]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class Graph:
    """A network in the order in which its operators run."""

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def read_tflite(path: Path) -> Graph:
    """The graph of a .tflite file.

    Raises:
        UserError: the file is missing, is none, or holds what is not known here.
    """
    try:
        return parse(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}).") from error
    except (struct.error, IndexError, ValueError, KeyError) as error:
        raise UserError(
            f"{path} is no .tflite network that can be read here ({error}): give the file as "
            "MediaPipe publishes it."
        ) from error


def parse(buffer: bytes) -> Graph:
    """The graph of a .tflite file's bytes.

    Raises:
        ValueError, KeyError, struct.error: broken bytes, or an operator that is not known here.
    """
    if buffer[4:8] != b"TFL3":
        raise ValueError("it does not begin as one")
    model = Table.at(buffer, 0)
    codes = model.each(1, _code)
    constants = model.each(4, lambda table: table.bytes(0))
    graphs = model.each(2, lambda table: _graph(table, codes, constants))
    if len(graphs) != 1:
        raise ValueError(f"it holds {len(graphs)} graphs")
    return graphs[0]


@dataclass(frozen=True)
class Table:
    """A table of a FlatBuffer; its fields have numbers."""

    buffer: bytes
    start: int

    @classmethod
    def at(cls, buffer: bytes, place: int) -> Table:
        """The table that an offset at `place` points to."""
        return cls(buffer, _follow(buffer, place))

    def field(self, number: int) -> int | None:
        """Where a field lies, or None where it has its default."""
        (back,) = struct.unpack_from("<i", self.buffer, self.start)
        places = self.start - back
        (size,) = struct.unpack_from("<H", self.buffer, places)
        if 4 + 2 * number >= size:
            return None
        (offset,) = struct.unpack_from("<H", self.buffer, places + 4 + 2 * number)
        return self.start + offset if offset else None

    def number(self, number: int, kind: str, default: int = 0) -> int:
        place = self.field(number)
        if place is None:
            return default
        return int(struct.unpack_from(f"<{kind}", self.buffer, place)[0])

    def table(self, number: int) -> Table | None:
        place = self.field(number)
        return None if place is None else Table.at(self.buffer, place)

    def vector(self, number: int) -> tuple[int, int]:
        """Where a vector's elements begin, and how many there are."""
        place = self.field(number)
        if place is None:
            return 0, 0
        start = _follow(self.buffer, place)
        (length,) = struct.unpack_from("<I", self.buffer, start)
        return start + 4, length

    def bytes(self, number: int) -> bytes:
        start, length = self.vector(number)
        if start + length > len(self.buffer):
            raise ValueError("it is cut off")
        return self.buffer[start : start + length]

    def text(self, number: int) -> str:
        return self.bytes(number).decode()

    def numbers(self, number: int) -> tuple[int, ...]:
        start, length = self.vector(number)
        return struct.unpack_from(f"<{length}i", self.buffer, start)

    def each(self, number: int, read: Callable[[Table], T]) -> list[T]:
        """A vector of tables, each read."""
        start, length = self.vector(number)
        return [read(Table.at(self.buffer, start + 4 * i)) for i in range(length)]


def _follow(buffer: bytes, place: int) -> int:
    (offset,) = struct.unpack_from("<I", buffer, place)
    return place + int(offset)


def _code(table: Table) -> tuple[int, str]:
    # Codes up to 127 also stand in a byte that came first.
    return max(table.number(0, "b"), table.number(3, "i")), table.text(1)


def _graph(table: Table, codes: list[tuple[int, str]], constants: list[bytes]) -> Graph:
    return Graph(
        tuple(table.each(0, lambda tensor: _tensor(tensor, constants))),
        tuple(table.each(3, lambda operator: _operator(operator, codes))),
        table.numbers(1),
        table.numbers(2),
    )


def _tensor(table: Table, constants: list[bytes]) -> Tensor:
    shape = table.numbers(0)
    content = constants[table.number(2, "I")]
    if not content:
        return Tensor(table.text(3), shape, None)
    kind = table.number(1, "b")
    if kind not in TYPES:
        raise ValueError(f"its tensor {table.text(3)} is of the unknown type {kind}")
    data = np.frombuffer(content, TYPES[kind]).reshape(shape)
    return Tensor(table.text(3), shape, data)


def _operator(table: Table, codes: list[tuple[int, str]]) -> Operator:
    code, name = codes[table.number(0, "I")]
    options: dict[str, Any] = {}
    if code == CUSTOM:
        content = table.bytes(5)
        options = {"bytes": content} if name == "Convolution2DTransposeBias" else read_map(content)
    elif code not in BUILT_IN:
        raise ValueError(f"its operator with code {code} is not known")
    else:
        name, fields = BUILT_IN[code]
        given = table.table(4)
        for place, option in enumerate(fields):
            default = int(option in DILATION)
            kind = "b" if option in BYTES else "i"
            options[option] = given.number(place, kind, default) if given else default
    return Operator(name, options, table.numbers(1), table.numbers(2))
