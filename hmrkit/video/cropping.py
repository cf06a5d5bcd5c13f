"""The cropping that a container asks for: ``clap`` in MP4 and MOV (ISO 14496-12, 12.1.4), ``PixelCrop*`` in Matroska.

Players apply it, libavformat leaves it to its callers and PyAV does not pass it on, so the headers are read here. What
is malformed counts as not cropped: the frames themselves are good.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

Crop = tuple[int, int, int, int]
_NONE: Crop = (0, 0, 0, 0)
_VISUAL_ENTRY = 78  # bytes of a visual sample entry before the boxes in it
_SEGMENT, _TRACKS, _TRACK_ENTRY, _VIDEO, _CLUSTER = 0x18538067, 0x1654AE6B, 0xAE, 0xE0, 0x1F43B675
_CROP_LTRB = (0x54CC, 0x54BB, 0x54DD, 0x54AA)


def container_crop(path: Path, container: str, stream: int, width: int, height: int) -> Crop:
    """Pixels to cut off the left, top, right and bottom of a stored frame (`width` x `height`) of the stream with this
    index. `container` is libavformat's name. (0,0,0,0) for other containers, and where nothing is asked for.
    """
    kind = container.split(",")[0]
    if kind not in ("mov", "matroska"):
        return _NONE
    try:
        with open(path, "rb") as file:
            end = os.fstat(file.fileno()).st_size
            return _of_mp4(file, end, stream, width, height) if kind == "mov" else _of_matroska(file, end, stream)
    except (struct.error, ValueError, IndexError, ZeroDivisionError):
        return _NONE


def _of_mp4(file: BinaryIO, end: int, stream: int, width: int, height: int) -> Crop:
    spans = [(0, end)]
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd"):
        spans = [(a, b) for span in spans for found, a, b in _boxes(file, *span) if found == name]
        if name == b"trak":
            spans = spans[stream : stream + 1]
    for start, stop in spans:
        for _, entry, entry_end in _boxes(file, start + 8, stop):
            file.seek(entry + 24)
            # Some clips give it for the coded size, which the decoder has already cut to the frame's.
            if struct.unpack(">2H", file.read(4)) != (width, height):
                continue
            for found, place, _ in _boxes(file, entry + _VISUAL_ENTRY, entry_end):
                if found == b"clap":
                    file.seek(place)
                    return _of_clap(struct.unpack(">8i", file.read(32)), width, height)
    return _NONE


def _of_clap(numbers: tuple[int, ...], width: int, height: int) -> Crop:
    """Of the clean aperture: its width and height, and how far its middle lies right and below the frame's."""
    across, down, right, below = (Fraction(numbers[i], numbers[i + 1]) for i in (0, 2, 4, 6))
    left, top = round((width - across) / 2 + right), round((height - down) / 2 + below)
    return left, top, width - left - round(across), height - top - round(down)


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(name, start, end) of the content of each box between two places of the file."""
    while start + 8 <= end:
        file.seek(start)
        size, name = struct.unpack(">I4s", file.read(8))
        head = 8
        if size == 1:
            (size,), head = struct.unpack(">Q", file.read(8)), 16
        elif size == 0:
            size = end - start
        if size < head:
            return
        yield name, start + head, min(start + size, end)
        start += size


def _of_matroska(file: BinaryIO, end: int, stream: int) -> Crop:
    tracks = 0
    for element, start, stop in _elements(file, 0, end):
        if element != _SEGMENT:
            continue
        for part, a, b in _elements(file, start, stop):
            if part == _CLUSTER:
                return _NONE
            if part != _TRACKS:
                continue
            for entry, c, d in _elements(file, a, b):
                tracks += entry == _TRACK_ENTRY
                if entry == _TRACK_ENTRY and tracks == stream + 1:
                    return _of_track(file, c, d)
    return _NONE


def _of_track(file: BinaryIO, start: int, end: int) -> Crop:
    values = {}
    for element, a, b in _elements(file, start, end):
        if element == _VIDEO:
            for name, c, d in _elements(file, a, b):
                if name in _CROP_LTRB:
                    file.seek(c)
                    values[name] = int.from_bytes(file.read(d - c), "big")
    left, top, right, bottom = (values.get(name, 0) for name in _CROP_LTRB)
    return left, top, right, bottom


def _elements(file: BinaryIO, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(id, start, end) of the content of each EBML element between two places; one of unknown size goes to the end."""
    while start < end:
        file.seek(start)
        first = file.read(1)[0]
        name_bytes = 9 - first.bit_length()
        name = int.from_bytes(bytes([first]) + file.read(name_bytes - 1), "big")
        first = file.read(1)[0]
        size_bytes = 9 - first.bit_length()
        size = int.from_bytes(bytes([first]) + file.read(size_bytes - 1), "big") - (1 << 7 * size_bytes)
        place = start + name_bytes + size_bytes
        stop = end if size == (1 << 7 * size_bytes) - 1 else min(place + size, end)
        yield name, place, stop
        start = stop
