"""Options of custom operators: a map of numbers, packed as a FlexBuffer.

A FlexBuffer is read from its end: the last byte tells how wide the value before is, the byte before
that its type. Offsets point back.
"""

from __future__ import annotations

import struct
from typing import Any

INT, UINT, FLOAT, MAP = 1, 2, 3, 9
LISTS = {11: INT, 12: UINT, 13: FLOAT}
FORMATS = {
    INT: {1: "b", 2: "h", 4: "i", 8: "q"},
    UINT: {1: "B", 2: "H", 4: "I", 8: "Q"},
    FLOAT: {4: "f", 8: "d"},
}


def read_map(buffer: bytes) -> dict[str, Any]:
    """Numbers and lists of numbers by their names; empty bytes are no options.

    Raises:
        ValueError, KeyError, struct.error: broken bytes, or another kind of value in them.
    """
    if not buffer:
        return {}
    found = _value(buffer, len(buffer) - 2 - buffer[-1], buffer[-1], buffer[-2])
    if not isinstance(found, dict):
        raise ValueError("the options of an operator are no map")
    return found


def _value(buffer: bytes, place: int, width: int, packed: int) -> Any:
    kind = packed >> 2
    if kind in FORMATS:
        return _number(buffer, place, width, kind)
    start, wide = place - _number(buffer, place, width, UINT), 1 << (packed & 3)
    length = _number(buffer, start - wide, wide, UINT)
    if kind in LISTS:
        places = range(start, start + length * wide, wide)
        return [_number(buffer, p, wide, LISTS[kind]) for p in places]
    if kind != MAP:
        raise ValueError(f"an option is of the unknown type {kind}")
    kinds = buffer[start + length * wide : start + length * (wide + 1)]
    keys = start - 3 * wide
    key_width = _number(buffer, start - 2 * wide, wide, UINT)
    keys -= _number(buffer, keys, wide, UINT)
    return {
        _key(buffer, keys + i * key_width, key_width): _value(
            buffer, start + i * wide, wide, kinds[i]
        )
        for i in range(length)
    }


def _key(buffer: bytes, place: int, width: int) -> str:
    start = place - _number(buffer, place, width, UINT)
    return buffer[start : buffer.index(b"\0", start)].decode()


def _number(buffer: bytes, place: int, width: int, kind: int) -> Any:
    return struct.unpack_from("<" + FORMATS[kind][width], buffer, place)[0]
