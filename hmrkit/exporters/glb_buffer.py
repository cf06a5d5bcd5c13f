"""The numbers of a glTF file: one buffer, the views on it, and the accessors by which the rest names them."""

from __future__ import annotations

from typing import Any

import numpy as np

from hmrkit.exporters.character_arrays import strongest_joints

VERTICES, INDICES = 34962, 34963  # what a view is for
_COMPONENT = {"float32": 5126, "uint32": 5125, "uint16": 5123, "int16": 5122, "uint8": 5121, "int8": 5120}
_KIND = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4", 16: "MAT4"}
_LEAST_OFFSET_M = 1e-5  # morph targets leave smaller offsets out, if that leaves few enough rows
_SPARSE_SHARE = 0.7  # above which a row's number costs more than it saves


class Buffer:
    """One buffer in the making. Integers from `quantised` are what `normalized` values mean: shares of -1 to 1."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []

    def view(self, values: np.ndarray, target: int | None = None, stride: int | None = None) -> int:
        """Put values into the buffer; the number of the view on them."""
        self.content += bytes(-len(self.content) % 4)
        view = {"buffer": 0, "byteOffset": len(self.content), "byteLength": values.nbytes}
        self.content += values.tobytes()
        more = {"target": target, "byteStride": stride}
        self.views.append(view | {key: value for key, value in more.items() if value})
        return len(self.views) - 1

    def add_file(self, content: bytes) -> int:
        """Put a file into the buffer as it is; the number of the view on it."""
        return self.view(np.frombuffer(content, np.uint8))

    def add(self, values: np.ndarray, target: int | None = None, bounds: bool = False, normalized: bool = False) -> int:
        """Put (n,) or (n,k) values into the buffer; the number by which the rest of the file refers to them."""
        values = np.ascontiguousarray(values if values.dtype.name in _COMPONENT else values.astype(np.float32))
        width = 1 if values.ndim == 1 else values.shape[1]
        rows, stride = values, None
        if target == VERTICES and (over := width * values.itemsize % 4):  # each vertex begins at a multiple of 4
            rows = np.pad(values.reshape(len(values), width), ((0, 0), (0, (4 - over) // values.itemsize)))
            stride = rows.shape[1] * rows.itemsize
        accessor: dict[str, Any] = {
            "bufferView": self.view(rows, target, stride),
            "componentType": _COMPONENT[values.dtype.name],
            "count": len(values),
            "type": _KIND[width],
        }
        if bounds:
            columns = values.reshape(len(values), width)
            accessor |= {"min": columns.min(0).tolist(), "max": columns.max(0).tolist()}
        self.accessors.append(accessor | ({"normalized": True} if normalized else {}))
        return len(self.accessors) - 1

    def add_offsets(self, offsets: np.ndarray, size: float | None = None) -> int:
        """Accessor of a morph target (V,3) m; of one that moves few vertices only those are written.

        `size`: they are written as integers, shares of so many metres.
        """
        rows = np.flatnonzero(np.linalg.norm(offsets, axis=1) > _LEAST_OFFSET_M)
        values = offsets.astype(np.float32) if size is None else quantised(offsets / size, np.int16)
        if len(rows) > _SPARSE_SHARE * len(offsets):
            return self.add(values, VERTICES, bounds=True, normalized=size is not None)
        rows = rows if len(rows) else np.zeros(1, int)
        moved = np.ascontiguousarray(values[rows])
        accessor: dict[str, Any] = {
            "componentType": _COMPONENT[moved.dtype.name],
            "count": len(offsets),
            "type": "VEC3",
            "sparse": {
                "count": len(rows),
                "indices": {"bufferView": self.view(rows.astype(np.uint32)), "componentType": _COMPONENT["uint32"]},
                "values": {"bufferView": self.view(moved)},
            },
        }
        low, high = moved.min(0), moved.max(0)
        if len(rows) < len(offsets):  # the others are 0
            low, high = np.minimum(low, 0), np.maximum(high, 0)
        accessor |= {"min": low.tolist(), "max": high.tolist()}
        self.accessors.append(accessor | ({"normalized": True} if size is not None else {}))
        return len(self.accessors) - 1


def quantised(values: np.ndarray, dtype: type[np.integer]) -> np.ndarray:
    """Numbers from -1 (0 if unsigned) to 1 as integers that glTF reads as these (section 3.11)."""
    most = np.iinfo(dtype).max
    return np.clip(np.round(np.asarray(values, np.float64) * most), -most if np.iinfo(dtype).min else 0, most).astype(
        dtype
    )


def influences(weights: np.ndarray, quantise: bool) -> list[tuple[np.ndarray, np.ndarray]]:
    """Skin weights (V,J) as sets of four (joints (V,4) uint8 or uint16, weights (V,4)), the largest first.

    A second set is written only where vertices follow more than four joints; programs that read one set leave out
    the smallest weights. Weights sum to 1, as float32 or in whole shares of 65535.
    """
    joints, values = strongest_joints(weights, multiple=4)
    if quantise:
        shares = np.round(values.astype(np.float64) * 65535).astype(np.int64)
        shares[:, 0] += 65535 - shares.sum(1)
        joints, values = np.where(shares > 0, joints, 0), shares.astype(np.uint16)
    joints = joints.astype(np.uint8 if weights.shape[1] <= 256 else np.uint16)
    return [(joints[:, i : i + 4], values[:, i : i + 4]) for i in range(0, joints.shape[1], 4)]
