"""The container of Alembic files: Ogawa, and Alembic's tree of objects and properties in it. Enough to write, no more.

Ogawa is groups and blobs. A blob is its size (u64, little-endian) and its bytes; a group is the number of its children
and their positions in the file, where the highest bit tells a blob from a group. The file starts with ``Ogawa``, a byte
that says whether the writer finished, a version, and the position of the root group. Blobs are written as they come and
groups after their children, so nothing is held in memory but positions.

Alembic in Ogawa: the root group holds the two versions, the top object, the archive's metadata, the time samplings and
a list of metadata strings that headers refer to by number. An object is a group of its properties (a compound
property), its children, and one blob with the children's headers. A property is a group of samples: a blob a sample
(16 bytes of digest, then the values), and for arrays a second blob with the dimensions, empty where the size says them.

Sources: the Ogawa layout as described by gingerBill ("Reverse Engineering Alembic", 2022) and what the library's own
files hold; the schemas' names and metadata as every Alembic file has them. Written from those facts.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np

_BLOB = 1 << 63
EMPTY = _BLOB
_LIBRARY_VERSION = 10803  # the library whose files these are like; readers only show it
_POD = {"?": 0, "B": 1, "b": 2, "H": 3, "h": 4, "I": 5, "i": 6, "L": 7, "l": 8, "e": 9, "f": 10, "d": 11}
_COMPOUND, _SCALAR, _ARRAY = 0, 1, 2


@dataclass
class Property:
    """A named series of samples, or a compound of properties.

    `samples` are what `OgawaFile.sample` returned, one for each time of time sampling number `sampling`; one sample
    only means that the property does not change. `extent` is how many values make one element (3 for a point).
    """

    name: str
    dtype: str = ""  # NumPy's letter for the type; empty for a compound
    extent: int = 1
    is_array: bool = False
    sampling: int = 0
    metadata: str = ""
    samples: list[int] = field(default_factory=list)
    children: list[Property] = field(default_factory=list)


@dataclass
class Node:
    """An object of the scene: a transform, a mesh, a camera; its `metadata` names its schema."""

    name: str
    metadata: str = ""
    properties: list[Property] = field(default_factory=list)
    children: list[Node] = field(default_factory=list)


@dataclass(frozen=True)
class Sampling:
    """Times of samples: `count` of them, `step` seconds apart, the first at `start` seconds."""

    count: int
    step: float
    start: float


class OgawaFile:
    """Writes one archive to a seekable file: samples as they come, then everything else in `finish`."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._position = 16
        self._metadata: dict[str, int] = {}
        file.write(b"Ogawa\x00\x00\x01" + bytes(8))  # the sixth byte becomes 0xff when the file is whole

    def sample(self, values: np.ndarray) -> int:
        """Write one sample's values; the number to put into `Property.samples`."""
        return self.raw_sample(np.ascontiguousarray(values).tobytes())

    def raw_sample(self, content: bytes) -> int:
        """`sample` of bytes as they are: strings end with a zero byte."""
        return self._blob(hashlib.blake2b(content, digest_size=16).digest(), content)

    def scalar(self, name: str, values: Sequence[float] | np.ndarray, dtype: str, **more: str) -> Property:
        """A property that does not change, one element of as many values as there are."""
        array = np.asarray(values, dtype).ravel()
        return Property(name, dtype, len(array), metadata=more.get("metadata", ""), samples=[self.sample(array)])

    def finish(self, top: Node, metadata: str, samplings: Sequence[Sampling]) -> None:
        """Write the tree and close the archive. `samplings` follow number 0, which is once a second from 0."""
        versions = [self._blob(struct.pack("<i", version)) for version in (0, _LIBRARY_VERSION)]
        tree, _ = self._node(top)
        times = b"".join(struct.pack("<IdId", s.count, s.step, 1, s.start) for s in (Sampling(1, 1.0, 0.0), *samplings))
        strings = b"".join(bytes([len(text)]) + text.encode() for text in self._metadata)
        rest = [self._blob(part) for part in (metadata.encode(), times, strings)]
        root = self._group([*versions, tree, *rest])
        self._file.seek(8)
        self._file.write(struct.pack("<Q", root))
        self._file.seek(5)
        self._file.write(b"\xff")

    # --------------------------------------------------------------------------------------------------- container

    def _blob(self, *parts: bytes) -> int:
        size = sum(map(len, parts))
        if size == 0:
            return EMPTY
        position = self._position
        self._file.write(struct.pack("<Q", size))
        for part in parts:
            self._file.write(part)
        self._position += 8 + size
        return position | _BLOB

    def _group(self, children: Sequence[int]) -> int:
        if not children:
            return 0
        position = self._position
        self._file.write(struct.pack(f"<{len(children) + 1}Q", len(children), *children))
        self._position += 8 * (len(children) + 1)
        return position

    # ---------------------------------------------------------------------------------------- objects and properties

    def _node(self, node: Node) -> tuple[int, bytes]:
        """An object's group and its digest."""
        properties, content = self._properties(node.properties)
        groups, headers, digests = [], b"", b""
        for child in node.children:
            group, digest = self._node(child)
            groups.append(group)
            digests += digest
            name = child.name.encode()
            headers += struct.pack("<I", len(name)) + name + self._metadata_number(child.metadata, 4)
        own = _digest(content)
        below = _digest(digests) if digests else bytes(16)
        return self._group([properties, *groups, self._blob(headers, own, below)]), _digest(digests + own)

    def _properties(self, properties: Sequence[Property]) -> tuple[int, bytes]:
        """A compound's group, and the bytes that say what is in it."""
        groups, headers = [], b""
        for item in properties:
            if item.dtype:
                samples = [part for s in item.samples for part in (s, EMPTY)] if item.is_array else item.samples
                group, content = self._group(samples), struct.pack(f"<{len(item.samples)}Q", *item.samples)
            else:
                group, content = self._properties(item.children)
            groups.append(group)
            headers += self._header(item) + content
        pure = b"".join(self._header(item) for item in properties)
        return (self._group([*groups, self._blob(pure)]) if properties else 0), headers

    def _header(self, item: Property) -> bytes:
        name = item.name.encode()
        longest = max(len(name), len(item.metadata), len(item.samples), item.sampling)
        hint = 0 if longest < 256 else 1 if longest < 65536 else 2
        number = "<" + "BHI"[hint]
        metadata = self._metadata_number(item.metadata, (1, 2, 4)[hint])
        info = hint << 2 | metadata[0] << 20
        body = b""
        if item.dtype:
            info |= (_ARRAY if item.is_array else _SCALAR) | _POD[item.dtype] << 4 | 0x400 | item.extent << 12
            info |= 0x100 * (item.sampling != 0) | 0x800 * (len(item.samples) == 1)
            body = struct.pack(number, len(item.samples))
            body += struct.pack(number, item.sampling) if item.sampling else b""
        return struct.pack("<I", info) + body + struct.pack(number, len(name)) + name + metadata[1:]

    def _metadata_number(self, text: str, width: int) -> bytes:
        """A byte that says which of the archive's strings it is; 255 where the string follows itself."""
        if not text:
            return b"\x00"
        if text not in self._metadata and (len(text) > 255 or len(self._metadata) >= 254):
            return b"\xff" + len(text).to_bytes(width, "little") + text.encode()
        return bytes([self._metadata.setdefault(text, len(self._metadata)) + 1])


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()
