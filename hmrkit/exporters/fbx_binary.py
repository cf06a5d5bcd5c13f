"""The container of binary FBX 7.4: a tree of named records, each with typed values and child records.

Layout (as described by Blender's developers, "FBX binary file format specification", 2013, and read by ufbx): a
27-byte head with the version; then records of ``end offset u32, number of values u32, bytes of values u32, length of
name u8, name, values, children``; a record with children, or without values, ends with 13 zero bytes; a footer.
Arrays are ``count, encoding, length`` and zlib-packed bytes. All numbers are little-endian.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from pathlib import Path
from struct import pack
from typing import BinaryIO

import numpy as np

VERSION = 7400
_HEAD = b"Kaydara FBX Binary  \x00\x1a\x00"
_NULL_RECORD = bytes(13)
# Autodesk's reader checks the file's id against its creation time and the footer; nobody outside knows how they are
# computed, so files that others write carry this one triple that fits together.
FILE_ID = bytes.fromhex("28b32aebb624ccc2bfc8b02aa92bfcf1")
CREATION_TIME = "1970-01-01 10:00:00:000"
_FOOTER_ID = bytes.fromhex("fabcab09d0c8d466b176fb831cf7267e")
_FOOTER_END = bytes.fromhex("f85a8c6adef5d97eece90ce3758f290b")

_ARRAY_CODES = {np.dtype("<i4"): b"i", np.dtype("<i8"): b"l", np.dtype("<f4"): b"f", np.dtype("<f8"): b"d"}


class Int64(int):
    """An integer that is written with 64 bits: object ids and times."""


class Packed(bytes):
    """A value that is packed already, so that equal arrays (the times of all curves) are packed once."""


Value = Packed | bool | int | float | str | bytes | np.ndarray


@dataclass
class Record:
    """One record: its name, its packed values, its children."""

    name: str
    values: list[bytes] = field(default_factory=list)
    children: list[Record] = field(default_factory=list)

    def add(self, name: str, *values: Value) -> Record:
        """Append a child with these values, and return it."""
        child = record(name, *values)
        self.children.append(child)
        return child


def record(name: str, *values: Value, children: list[Record] | None = None) -> Record:
    """A record with these values; see `pack_value` for their types."""
    return Record(name, [pack_value(value) for value in values], children or [])


def pack_value(value: Value) -> Packed:
    """bool, int (32 bits), `Int64`, float (64 bits), text, bytes or a NumPy array of int32, int64, float32, float64."""
    if isinstance(value, Packed):
        return value
    if isinstance(value, np.ndarray):
        code = _ARRAY_CODES[value.dtype]
        raw = np.ascontiguousarray(value).tobytes()
        packed = zlib.compress(raw, 1) if len(raw) > 128 else raw
        return Packed(code + pack("<3I", value.size, len(raw) > 128, len(packed)) + packed)
    if isinstance(value, bool):
        return Packed(b"C" + pack("<?", value))
    if isinstance(value, Int64):
        return Packed(b"L" + pack("<q", value))
    if isinstance(value, int):
        return Packed(b"I" + pack("<i", value))
    if isinstance(value, float):
        return Packed(b"D" + pack("<d", value))
    if isinstance(value, bytes):
        return Packed(b"R" + pack("<I", len(value)) + value)
    text = value.encode()
    return Packed(b"S" + pack("<I", len(text)) + text)


def object_name(name: str, kind: str) -> str:
    """How an object's name and class are written in one text."""
    return f"{name}\x00\x01{kind}"


def properties(*rows: tuple[str, str, str, str] | tuple[str, str, str, str, Value] | tuple[Value, ...]) -> Record:
    """``Properties70``: rows of name, type, label, flags ("A" animatable, "U" made by a user), values."""
    return Record("Properties70", children=[record("P", *row) for row in rows])


def write_fbx(path: Path, roots: list[Record]) -> None:
    """Write top-level records as a file."""
    with open(path, "wb") as file:
        file.write(_HEAD + pack("<I", VERSION))
        for root in roots:
            _write_record(file, root)
        file.write(_NULL_RECORD + _FOOTER_ID + bytes(4))
        file.write(bytes(16 - file.tell() % 16))  # 1 to 16 bytes
        file.write(pack("<I", VERSION) + bytes(120) + _FOOTER_END)


def _write_record(file: BinaryIO, item: Record) -> None:
    start, name = file.tell(), item.name.encode()
    values = b"".join(item.values)
    head = pack("<2IB", len(item.values), len(values), len(name)) + name
    file.write(bytes(4) + head + values)  # the end offset follows when it is known
    for child in item.children:
        _write_record(file, child)
    if item.children or not item.values:
        file.write(_NULL_RECORD)
    end = file.tell()
    file.seek(start)
    file.write(pack("<I", end))
    file.seek(end)


class Graph:
    """A file's objects, and the connections that join them: child to parent, or child to one property of the parent."""

    def __init__(self) -> None:
        self.objects, self.connections = Record("Objects"), Record("Connections")
        self.counts: dict[str, int] = {}
        self._last_id = 100_000

    def add(self, record_name: str, name: str, kind: str, *children: Record, sub: str = "") -> Int64:
        """Append an object called `name` of class `kind`, and return its id, unique within the file."""
        self._last_id += 1
        made = self.objects.add(record_name, Int64(self._last_id), object_name(name, kind), sub)
        made.children.extend(children)
        self.counts[record_name] = self.counts.get(record_name, 0) + 1
        return Int64(self._last_id)

    def connect(self, child: int, parent: int, to_property: str | None = None) -> None:
        """Join two objects; parent 0 is the scene."""
        ends = (Int64(child), Int64(parent))
        if to_property is None:
            self.connections.add("C", "OO", *ends)
        else:
            self.connections.add("C", "OP", *ends, to_property)
