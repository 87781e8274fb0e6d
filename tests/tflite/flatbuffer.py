"""Writes .tflite files for tests, byte by byte: a second pair of eyes for the reader."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

FLOAT, HALF, INT = 0, 1, 2
KINDS = {np.dtype(np.float32): FLOAT, np.dtype(np.float16): HALF, np.dtype(np.int32): INT}


class Graph:
    """A graph under construction; tensors are told by their numbers."""

    def __init__(self) -> None:
        self.codes: list[dict[int, Any]] = []
        self.buffers: list[dict[int, Any]] = [{}]
        self.tensors: list[dict[int, Any]] = []
        self.operators: list[dict[int, Any]] = []

    def tensor(self, shape: Sequence[int], values: np.ndarray | None = None) -> int:
        buffer = 0
        kind = FLOAT
        if values is not None:
            kind = KINDS[values.dtype]
            buffer = len(self.buffers)
            self.buffers.append({0: values.tobytes()})
        name = f"t{len(self.tensors)}"
        self.tensors.append({0: list(shape), 1: ("b", kind), 2: ("I", buffer), 3: name.encode()})
        return len(self.tensors) - 1

    def constant(self, values: np.ndarray) -> int:
        return self.tensor(values.shape, values)

    def add(
        self,
        code: int,
        inputs: Sequence[int],
        shape: Sequence[int],
        options: dict[int, Any] | None = None,
        custom: tuple[str, bytes] | None = None,
    ) -> int:
        """An operator; the number of its output."""
        entry: dict[int, Any] = {0: ("b", min(code, 127)), 3: ("i", code)}
        if custom:
            entry[1] = custom[0].encode()
        self.codes.append(entry)
        out = self.tensor(shape)
        operator: dict[int, Any] = {0: ("I", len(self.codes) - 1), 1: list(inputs), 2: [out]}
        if options is not None:
            operator[4] = options
        if custom:
            operator[5] = custom[1]
        self.operators.append(operator)
        return out

    def bytes(self, inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
        graph = {0: self.tensors, 1: list(inputs), 2: list(outputs), 3: self.operators}
        model = {0: ("I", 3), 1: self.codes, 2: [graph], 4: self.buffers}
        buffer = bytearray(struct.pack("<I4s", 0, b"TFL3"))
        _point(buffer, 0, _table(buffer, model))
        return bytes(buffer)


def _point(buffer: bytearray, slot: int, place: int) -> None:
    struct.pack_into("<I", buffer, slot, place - slot)


def _aligned(buffer: bytearray) -> int:
    buffer.extend(b"\0" * (-len(buffer) % 8))
    return len(buffer)


def _table(buffer: bytearray, fields: dict[int, Any]) -> int:
    count = max(fields, default=-1) + 1
    places = _aligned(buffer)
    offsets = [8 * (fields_before(fields, n) + 1) if n in fields else 0 for n in range(count)]
    buffer.extend(struct.pack(f"<{2 + count}H", 4 + 2 * count, 8 * (len(fields) + 1), *offsets))
    start = _aligned(buffer)
    buffer.extend(struct.pack("<ii", start - places, 0) + b"\0" * 8 * len(fields))
    for n, value in fields.items():
        slot = start + offsets[n]
        if isinstance(value, tuple):
            struct.pack_into(f"<{value[0]}", buffer, slot, value[1])
        else:
            _point(buffer, slot, _value(buffer, value))
    return start


def fields_before(fields: dict[int, Any], number: int) -> int:
    return sum(other < number for other in fields)


def _value(buffer: bytearray, value: Any) -> int:
    if isinstance(value, dict):
        return _table(buffer, value)
    start = _aligned(buffer)
    buffer.extend(struct.pack("<I", len(value)))
    if isinstance(value, bytes):
        buffer.extend(value)
    elif value and isinstance(value[0], dict):
        slots = len(buffer)
        buffer.extend(b"\0" * 4 * len(value))
        for i, entry in enumerate(value):
            _point(buffer, slots + 4 * i, _table(buffer, entry))
    else:
        buffer.extend(struct.pack(f"<{len(value)}i", *value))
    return start
