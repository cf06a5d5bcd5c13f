"""Results pickled by other tools, plain or through joblib, with NumPy arrays or PyTorch tensors: nothing is called.

What a pickle may name is the closed list of `hmrkit.body.pickles`, joblib's record of an array, and tensors; whatever
else it asks for is refused. joblib writes an array's bytes between the pickle's, after the record that describes it;
it may compress the whole stream (zlib, gzip).
"""

from __future__ import annotations

import io
import pickle
import warnings
import zlib
from collections.abc import Mapping
from typing import Any, BinaryIO, ClassVar

import numpy as np

from hmrkit.body.pickles import find_allowed
from hmrkit.errors import WeightsError

MAX_BYTES = 4 << 30  # of what a compressed stream may hold
_BLOCK = 1 << 20
_TENSORS = ("torch._utils", "torch.storage", "torch")


def unpickle_results(stream: BinaryIO) -> Any:
    """What a pickle holds, tensors as arrays; WeightsError where it asks for a name that no results need or would fill
    more than `MAX_BYTES`, whatever `pickle` raises where it is damaged."""
    head = stream.read(2)
    stream.seek(-len(head), io.SEEK_CUR)
    if head[:1] == b"\x78" or head == b"\x1f\x8b":
        stream = _decompressed(stream)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy warns about how Python 2 wrote a dtype's alignment
        return _Unpickler(stream).load()


def _decompressed(stream: BinaryIO) -> BinaryIO:
    """A zlib or gzip stream, whole."""
    engine, out = zlib.decompressobj(zlib.MAX_WBITS | 32), io.BytesIO()
    while block := stream.read(_BLOCK):
        while block:
            out.write(engine.decompress(block, _BLOCK))
            block = engine.unconsumed_tail
            if out.tell() > MAX_BYTES:
                raise WeightsError(f"holds more than {MAX_BYTES >> 30} GiB, which no results need: refused")
    out.seek(0)
    return out


class _ArrayRecord:
    """Stands for joblib's ``NumpyArrayWrapper``: its state says which array's bytes follow."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = state

    def read(self, stream: BinaryIO) -> np.ndarray:
        """The array whose bytes are next in `stream`; ValueError where the stream is shorter."""
        dtype, shape = np.dtype(self.state["dtype"]), tuple(int(size) for size in self.state["shape"])
        if dtype.hasobject:
            return np.asarray(_Unpickler(stream).load(), object).reshape(shape)
        if self.state.get("numpy_array_alignment_bytes") is not None:
            stream.read(stream.read(1)[0])
        size = int(np.prod(shape, dtype=object)) * dtype.itemsize
        start = stream.tell()
        if size < 0 or size > stream.seek(0, io.SEEK_END) - start:
            raise ValueError("an array is longer than its file")
        stream.seek(start)
        array = np.frombuffer(stream.read(size), dtype)
        return array.reshape(shape[::-1]).T if self.state.get("order") == "F" else array.reshape(shape)


def _no_factory(*_: Any) -> dict[Any, Any]:
    """A ``collections.defaultdict`` as a plain dictionary: its factory is never called."""
    return {}


def _storage_from_bytes(data: bytes) -> Any:
    """``torch.storage._load_from_bytes``, which would unpickle without care."""
    import torch

    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


_PythonUnpickler: Any = pickle._Unpickler  # pyright: ignore[reportAttributeAccessIssue]


class _Unpickler(_PythonUnpickler):
    """Python's own unpickler, because C's reads ahead and joblib's arrays stand in between."""

    dispatch: ClassVar[dict[int, Any]] = dict(_PythonUnpickler.dispatch)

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__(stream, encoding="latin1")
        self.stream = stream

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("joblib.numpy_pickle", "NumpyArrayWrapper"):
            return _ArrayRecord
        if (module, name) == ("collections", "defaultdict"):
            return _no_factory
        if module in ("builtins", "__builtin__") and name in ("dict", "list", "int", "float"):
            return {"dict": dict, "list": list, "int": int, "float": float}[name]
        if module in _TENSORS and (found := _tensor_part(module, name)) is not None:
            return found
        return find_allowed(module, name)

    def persistent_load(self, pid: Any) -> Any:
        raise WeightsError("asks for a persistent object, which no results need: refused")

    def load_build(self) -> None:
        super().load_build()
        if isinstance(self.stack[-1], _ArrayRecord):
            self.stack[-1] = self.stack[-1].read(self.stream)

    dispatch[pickle.BUILD[0]] = load_build


def _tensor_part(module: str, name: str) -> Any:
    """What makes a pickled tensor, or None: the function that joins storage and shape, storages, dtypes."""
    import torch

    if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
        return _tensor
    if (module, name) == ("torch.storage", "_load_from_bytes"):
        return _storage_from_bytes
    if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
        return getattr(torch, name)
    return None


def _tensor(storage: Any, offset: int, size: Any, stride: Any, *_: Any) -> np.ndarray:
    """A tensor of a storage as an array; torch checks that it lies inside."""
    import torch

    return torch.empty(0, dtype=storage.dtype).set_(storage, offset, tuple(size), tuple(stride)).numpy().copy()


def plain(value: Any) -> Any:
    """`value` with tensors and 0-d object arrays worked out, at any depth; tuples and lists stay what they are."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(plain(item) for item in value)
    if isinstance(value, np.ndarray):
        return plain(value.item()) if value.dtype == object and value.ndim == 0 else value
    if hasattr(value, "detach"):
        return value.detach().cpu().numpy()
    return value
