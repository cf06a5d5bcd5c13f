"""Plain values of an inert tree: text, numbers, lists, dictionaries and arrays, each made from checked parts.

`unpickle` is the one way in this project to read a pickle. Its promises, for any bytes:

- nothing is imported, called or filled by a state; a name outside the closed list is refused when it is read;
- an array's kind stands in a literal list (`kinds`); its shape times its item size equals its bytes;
- keys of dictionaries are text, bytes and numbers, so that hashing cannot run away;
- what comes back, written out with every shared part as often as it is referred to, stays below `limit_of` the stream's
  size, and so does what is made on the way; it refers to no part of itself and nests at most `MAX_DEPTH` levels.

SMPL's historical files are Python 2 pickles with chumpy and scipy.sparse objects: their arrays are worked out, and
neither package is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, BinaryIO

import numpy as np

from hmrkit.untrusted.kinds import array_kind, array_of, array_size, object_array
from hmrkit.untrusted.machine import Machine
from hmrkit.untrusted.tree import Made, Name, Outside, Pairs, refused

MAX_DEPTH = 100
_CORES = ("numpy.core", "numpy._core")  # before and since NumPy 2
_ARRAY = {f"{core}.multiarray._reconstruct" for core in _CORES}
_SCALAR = {f"{core}.multiarray.scalar" for core in _CORES}
_BUFFER = {f"{core}.numeric._frombuffer" for core in _CORES}
_SPARSE = {f"{kind}_{suffix}": kind for kind in ("csc", "csr", "coo") for suffix in ("matrix", "array")}
_DICTS = {"collections.OrderedDict", "collections.defaultdict", "builtins.dict"}
_LISTS = {"builtins.set", "builtins.frozenset", "builtins.list"}
_PLAIN = {
    "numpy.ndarray", "numpy.dtype", "copyreg._reconstructor", "_codecs.encode", "builtins.object", "builtins.int",
    "builtins.float", "builtins.str", "builtins.bool", "builtins.tuple", *_ARRAY, *_SCALAR, *_BUFFER, *_DICTS, *_LISTS,
}  # fmt: skip


def allowed(name: str) -> bool:
    """Whether a file of arrays may have this name."""
    return name in _PLAIN or name.startswith("chumpy.") or _sparse_kind(name) is not None


def limit_of(size: int) -> int:
    """Bytes that the values of a stream of `size` bytes may take, written out."""
    return (64 << 20) + 8 * size


def unpickle(stream: BinaryIO) -> Any:
    """What the pickle in `stream` holds, as None, bool, int, float, str, bytes, tuple, list, dict and ndarray.

    Python 2's strings are read as latin1, its OrderedDict and defaultdict as dict, sets as lists. WeightsError where
    it asks for what no file of arrays needs or would fill memory; ValueError, TypeError, IndexError, EOFError or
    struct.error where it is damaged.
    """
    machine = Machine(stream, allowed)
    return Builder(limit_of(machine.read.size)).plain(machine.run())


class Builder:
    """Makes plain values of a tree, each part once, and counts what they take.

    `outside` makes a value of what a file keeps beside its pickle; `made` of an object that is not known here, from
    the builder, the object and its depth. PyTorch's tensors that these return are views and count as nothing.
    """

    def __init__(
        self,
        limit: int,
        outside: Callable[[Any], Any] | None = None,
        made: Callable[[Builder, Made, int], Any] | None = None,
    ) -> None:
        self.limit, self.outside, self.other = limit, outside, made
        self.spent = 0
        self.done: dict[int, tuple[Any, int]] = {}
        self.busy: set[int] = set()

    def plain(self, node: Any, depth: int = 0) -> Any:
        """The value of a node of the tree."""
        return self._weighed(node, depth)[0]

    def spend(self, size: int) -> None:
        """Count `size` bytes before they are made; WeightsError where they are too many."""
        self.spent += size
        if self.spent > self.limit:
            raise refused(f"unfolds to more than {self.limit / 1e6:.0f} MB")

    def _weighed(self, node: Any, depth: int) -> tuple[Any, int]:
        """A node's value, and its bytes where each part is written out wherever it is referred to."""
        if node is None or isinstance(node, (bool, int, float)):
            return node, 8
        if isinstance(node, (str, bytes)):
            return node, 8 + len(node)
        key = id(node)
        if key in self.done:
            return self.done[key]
        if key in self.busy or depth > MAX_DEPTH:
            raise ValueError("a value that holds itself" if key in self.busy else f"more than {MAX_DEPTH} levels")
        self.busy.add(key)
        value, weight = self._made(node, depth + 1)
        self.busy.remove(key)
        if weight > self.limit:
            raise refused(f"unfolds to more than {self.limit / 1e6:.0f} MB")
        self.done[key] = value, weight
        return value, weight

    def _made(self, node: Any, depth: int) -> tuple[Any, int]:
        if isinstance(node, (list, tuple)):
            return self._elements(node, depth)
        if isinstance(node, Pairs):
            return self._dictionary(node.items, depth)
        if isinstance(node, Name):
            return node.name, 8 + len(node.name)
        if isinstance(node, Made):
            if node.name in _DICTS:
                return self._dictionary([*self._first_pairs(node), *node.items], depth)
            if node.name in _LISTS:
                first = node.args[0] if node.args else []
                return self._elements([*(first if isinstance(first, (list, tuple)) else []), *node.items], depth)
            value = self._object(node, depth)
        elif isinstance(node, Outside) and self.outside is not None:
            value = self.outside(self.plain(node.pid, depth))
        else:
            value = node  # an array that was read from the stream
        if isinstance(value, np.ndarray) and value.dtype.hasobject:
            return self._objects(value, depth)
        return value, 8 + (value.nbytes if isinstance(value, np.ndarray) else 8)

    def _elements(self, items: Sequence[Any], depth: int) -> tuple[Any, int]:
        made = [self._weighed(item, depth) for item in items]
        values = [value for value, _ in made]
        return tuple(values) if isinstance(items, tuple) else values, 64 + sum(weight + 8 for _, weight in made)

    def _dictionary(self, items: list[Any], depth: int) -> tuple[dict[Any, Any], int]:
        values, weights = self._elements(items, depth)
        keys = [_key(key) for key in values[::2]]
        return dict(zip(keys, values[1::2], strict=True)), weights + 32 * len(keys)

    def _first_pairs(self, node: Made) -> list[Any]:
        """The pairs that Python 2 makes an OrderedDict of."""
        pairs = node.args[0] if node.args and isinstance(node.args[0], (list, tuple)) else []
        if any(len(pair) != 2 for pair in pairs):
            raise ValueError("entries of what is no dictionary")
        return [part for pair in pairs for part in pair]

    def _objects(self, array: np.ndarray, depth: int) -> tuple[Any, int]:
        """An array of objects: of one without axes the object itself."""
        values, weight = self._elements(list(array.ravel()), depth)
        if not array.ndim:
            return values[0], weight
        made = np.empty(array.size, object)
        for k, value in enumerate(values):  # one by one: NumPy would make one array of equal ones
            made[k] = value
        return made.reshape(array.shape), weight

    # ------------------------------------------------------------------------------------------------------- objects

    def _object(self, node: Made, depth: int) -> Any:
        name, args = node.name, node.args
        if name in _ARRAY:
            return self._array(node, depth)
        if name in _BUFFER:
            data, dtype, shape, order, *axes = (self.plain(arg, depth) for arg in args)
            self.spend(len(data))
            array = array_of(data, self._dtype(dtype), shape, "F" if order == "F" else "C")
            return array.transpose(axes[0]) if axes and axes[0] is not None else array
        if name in _SCALAR:
            dtype, data = (self.plain(arg, depth) for arg in args)
            return array_of(_to_bytes(data), self._dtype(dtype), ())[()]
        if name == "numpy.dtype":
            return array_kind(args[0] if args else None, self.plain(node.state, depth))
        if name == "_codecs.encode":
            text, *encoding = args
            if not isinstance(text, str) or not set(encoding) <= {"latin1", "latin-1"}:
                raise refused("asks for a codec other than latin1")
            self.spend(len(text))
            return text.encode("latin1")
        if name.startswith("chumpy."):
            return self._chumpy(_state_of(node), depth)
        if (kind := _sparse_kind(name)) is not None:
            return self._dense(kind, _state_of(node), depth)
        if self.other is not None:
            return self.other(self, node, depth)
        raise refused(f"asks to construct {name}")

    def _dtype(self, value: Any) -> np.dtype:
        if not isinstance(value, np.dtype):
            raise ValueError("a kind of array that is none")
        return value

    def _array(self, node: Made, depth: int) -> np.ndarray:
        """``_reconstruct`` and the state that NumPy would fill its array with: version, shape, dtype, order, bytes."""
        if not (node.args and isinstance(node.args[0], Name) and node.args[0].name == "numpy.ndarray"):
            raise refused("asks to construct what is no array")
        if not isinstance(node.state, tuple) or len(node.state) not in (4, 5):
            raise ValueError("an array without its state")
        shape, dtype, fortran, data = node.state[-4:]
        dtype, shape = self._dtype(self.plain(dtype, depth)), self.plain(shape, depth)
        if dtype.hasobject:
            return object_array(data, shape, "F" if fortran else "C")
        data = _to_bytes(self.plain(data, depth))
        self.spend(len(data))
        return array_of(data, dtype, shape, "F" if fortran else "C")

    def _chumpy(self, state: dict[str, Any], depth: int) -> np.ndarray | None:
        """A chumpy constant (``x``), or a selection ``a.ravel()[idxs]`` of one, which is how files cut `shapedirs`.

        None for any other expression: it is not worked out.
        """
        if "x" in state:
            return np.asarray(self.plain(state["x"], depth))
        if not {"a", "idxs"} <= state.keys():
            return None
        source = np.asarray(self.plain(state["a"], depth)).ravel()
        rows = np.asarray(self.plain(state["idxs"], depth))
        if rows.dtype.kind not in "iu":
            raise ValueError("a selection by what are no numbers")
        self.spend(rows.size * source.itemsize)
        shape = self.plain(state.get("preferred_shape"), depth)
        picked = source[rows.astype(np.int64)]
        return picked if shape is None else picked.reshape(array_size(shape, picked.dtype)[0])

    def _dense(self, kind: str, state: dict[str, Any], depth: int) -> np.ndarray:
        """scipy.sparse state -> dense array; entries given twice are added, as scipy does."""
        value = {key: self.plain(part, depth) for key, part in state.items() if key not in ("maxprint", "format")}
        shape, data = value.get("_shape", value.get("shape")), np.asarray(value.get("data"))
        if shape is None or data.dtype.kind not in "biufc":
            raise ValueError(f"a scipy.sparse {kind} matrix without shape or data")
        shape, size = array_size(shape, data.dtype)
        self.spend(size)
        if kind == "coo":
            rows, columns = value["coords"] if "coords" in value else (value["row"], value["col"])
        else:
            counts = np.diff(np.asarray(value["indptr"]).astype(np.int64))
            if (counts < 0).any() or counts.sum() != len(data):
                raise ValueError(f"a scipy.sparse {kind} matrix whose parts do not fit")
            major, minor = np.repeat(np.arange(len(counts)), counts), value["indices"]
            rows, columns = (minor, major) if kind == "csc" else (major, minor)
        matrix = np.zeros(shape, data.dtype)
        np.add.at(matrix, (np.asarray(rows).astype(np.int64), np.asarray(columns).astype(np.int64)), data)
        return matrix


def _sparse_kind(name: str) -> str | None:
    module, _, last = name.rpartition(".")
    return _SPARSE.get(last) if module.startswith("scipy.sparse") else None


def _state_of(node: Made) -> dict[str, Any]:
    """Attributes of an object; classes with slots pickle a tuple of two dictionaries."""
    parts = node.state if isinstance(node.state, tuple) else (node.state,)
    items = [part.items for part in parts if isinstance(part, Pairs)]
    texts = lambda key: key.decode("latin1") if isinstance(key, bytes) else key  # noqa: E731
    return {
        str(texts(key)): value
        for pairs in items
        for key, value in zip(pairs[::2], pairs[1::2], strict=True)
        if isinstance(key, (str, bytes))
    }


def _to_bytes(data: Any) -> bytes:
    """Bytes of an array; Python 2's are text."""
    return data.encode("latin1") if isinstance(data, str) else data


def _key(key: Any, nested: bool = False) -> Any:
    """A key whose hash is quick and scattered, or a ValueError."""
    if isinstance(key, (str, bytes, float, bool, np.generic)) or key is None:
        return key
    if isinstance(key, int) and -(1 << 63) <= key < 1 << 64:
        return key
    if isinstance(key, tuple) and len(key) <= 8 and not nested:
        return tuple(_key(part, nested=True) for part in key)
    raise ValueError("a key that is no text or number")
