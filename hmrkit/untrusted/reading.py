"""Bytes, numbers, lines and lengths of a pickle, each refused where the file ends before it or it is out of bounds."""

from __future__ import annotations

import codecs
import io
import struct
from typing import BinaryIO

MAX_NUMBER = 1024  # bytes of one integer, digits of one in text
_LARGE = 1 << 16  # bytes that are not asked for before the file is known to have them


class PickleReader:
    """Reads from where `stream` stands; `size` bytes are left there.

    Methods raise EOFError where the file ends too early, ValueError (struct.error among them) where it is damaged.
    """

    def __init__(self, stream: BinaryIO) -> None:
        start = stream.tell()
        self._end = stream.seek(0, io.SEEK_END)
        self.size = self._end - start
        stream.seek(start)
        self._stream = stream

    @property
    def left(self) -> int:
        """Bytes from here to the end of the file."""
        return self._end - self._stream.tell()

    def opcode(self) -> bytes:
        """The next byte, nothing at the end of the file."""
        return self._stream.read(1)

    def take(self, count: int) -> bytes:
        """`count` bytes; no buffer of that size is made before."""
        if count > _LARGE and count > self.left:
            raise EOFError("the pickle is cut off")
        data = self._stream.read(count)
        if len(data) < count:
            raise EOFError("the pickle is cut off")
        return data

    def number(self, layout: str) -> int:
        """A number in a layout of ``struct``; a float for ``>d``."""
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def counted(self, layout: str) -> bytes:
        """As many bytes as the number before them says."""
        if (count := self.number(layout)) < 0:
            raise ValueError("a negative length")
        return self.take(count)

    def line(self) -> bytes:
        """A line without its end."""
        line = self._stream.readline()
        if not line.endswith(b"\n"):
            raise EOFError("the pickle is cut off")
        return line[:-1]

    def digits(self) -> str:
        """A line that is a number in text."""
        line = self.line()
        if len(line) > MAX_NUMBER:
            raise ValueError(f"a number of {len(line)} digits")
        return line.decode("ascii")

    def quoted(self) -> str:
        """A line that is a string in quotes, with escapes."""
        text = self.line()
        if len(text) < 2 or text[0] != text[-1] or text[:1] not in (b"'", b'"'):
            raise ValueError("a string without quotes")
        return codecs.escape_decode(text[1:-1])[0].decode("latin1")  # type: ignore[attr-defined]

    def integer(self, layout: str) -> int:
        """An integer of as many bytes as the number before it says."""
        if not 0 <= (count := self.number(layout)) <= MAX_NUMBER:
            raise ValueError(f"a number of {count} bytes")
        return int.from_bytes(self.take(count), "little", signed=True)
