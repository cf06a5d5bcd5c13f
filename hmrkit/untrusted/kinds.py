"""Arrays of plain kinds, made where kind, shape and bytes fit one another; NumPy sees nothing else."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from hmrkit.untrusted.tree import refused

_KINDS = (
    "b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16", "O", "O4", "O8",
    *"?bBhHiIlLqQefdFD",
)  # fmt: skip
_TEXT_KIND = re.compile(r"[SU]\d{1,9}", re.ASCII)


def array_kind(kind: Any, state: Any = None) -> np.dtype:
    """The plain dtype of NumPy's code for it (``f8``) and of what a pickle would fill it with; others are refused."""
    kind = kind.decode("latin1") if isinstance(kind, bytes) else kind
    if not isinstance(kind, str) or not (kind in _KINDS or _TEXT_KIND.fullmatch(kind)):
        raise refused(f"asks for arrays of kind {str(kind)[:50]!r}")
    dtype = np.dtype(kind)
    if state is None:
        return dtype
    if not isinstance(state, tuple) or len(state) < 7 or any(part is not None for part in state[2:5]):
        raise refused("asks for an array of records")
    order = state[1].decode("latin1") if isinstance(state[1], bytes) else state[1]
    if order not in ("<", ">", "=", "|") or state[5] not in (-1, dtype.itemsize):
        raise refused("asks for a kind of array that contradicts itself")
    return dtype if order in ("|", "=") else dtype.newbyteorder(order)


def array_size(shape: Any, dtype: np.dtype) -> tuple[tuple[int, ...], int]:
    """A shape as integers, and its array's bytes; ValueError where it is none."""
    shape = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
    if len(shape) > 32 or not all(isinstance(n, (int, np.integer)) and 0 <= n < 1 << 62 for n in shape):
        raise ValueError("a shape that is none")
    shape = tuple(int(n) for n in shape)
    if not dtype.itemsize and math.prod(shape) > 1 << 20:
        raise ValueError("too many items without size")
    return shape, math.prod(shape) * dtype.itemsize


def array_of(data: Any, dtype: np.dtype, shape: Any, order: str = "C") -> np.ndarray:
    """A new array of the bytes `data`; ValueError unless they are as many as `shape` and `dtype` have."""
    shape, size = array_size(shape, dtype)
    if dtype.hasobject or not isinstance(data, (bytes, bytearray)) or len(data) != size:
        raise ValueError(f"wanted an array of {size} bytes, found other data")
    flat = np.frombuffer(data, dtype) if size else np.empty(math.prod(shape), dtype)
    if dtype.kind == "b":  # NumPy counts on bytes of 0 and 1 when it indexes
        flat = flat.view(np.uint8) != 0
    return (flat.reshape(shape[::-1]).T if order == "F" else flat.reshape(shape)).copy(order="K")


def object_array(items: Any, shape: Any, order: str = "C") -> np.ndarray:
    """An array of a tree's nodes, which `Builder` makes values of."""
    shape, _ = array_size(shape, np.dtype(object))
    if not isinstance(items, list) or len(items) != math.prod(shape):
        raise ValueError("an array of objects that are not as many as its shape has")
    array = np.empty(len(items), object)
    for k, item in enumerate(items):
        array[k] = item
    return array.reshape(shape, order=order)  # type: ignore[call-overload]
