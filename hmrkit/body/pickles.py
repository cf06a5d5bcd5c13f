"""Read pickles of SMPL's family without chumpy, without scipy, and without running anything that the file names.

SMPL's historical files are Python 2 pickles that name chumpy and scipy classes. A pickle may name any function and
have it called, so the unpickler here knows a closed list of names and refuses the rest. Chumpy and scipy.sparse
objects become inert records of their state (`_Record`) from which plain arrays are rebuilt; neither package is
needed, and chumpy does not import on today's NumPy.
"""

from __future__ import annotations

import collections
import pickle
import warnings
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

from hmrkit.errors import WeightsError


def unpickle(stream: BinaryIO) -> Any:
    """What the pickle in `stream` holds; records at its top level still have to go through `plain`.

    Raises WeightsError where it asks for a name that no model needs, and whatever `pickle` raises where it is damaged.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy warns about how Python 2 wrote a dtype's alignment
        return _RestrictedUnpickler(stream, encoding="latin1").load()


def plain(value: Any) -> Any:
    """A value of an unpickled dictionary as an array: chumpy's and scipy.sparse's records are worked out."""
    if isinstance(value, _Chumpy):
        return _chumpy_array(value.state)
    if isinstance(value, _Record):
        return _dense(value.kind, value.state)
    if isinstance(value, np.ndarray) and value.dtype == object and value.ndim == 0:
        return plain(value.item())
    return value


class _Record:
    """Stands for an object of a foreign class: keeps the state that the pickle holds for it, does nothing."""

    kind = ""

    def __new__(cls, *args: Any, **kwargs: Any) -> _Record:
        return object.__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.state: dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        parts = state if isinstance(state, tuple) else (state,)  # classes with slots pickle (dict, slots)
        self.state = {str(key): value for part in parts if isinstance(part, dict) for key, value in part.items()}


class _Chumpy(_Record):
    kind = "chumpy"


class _Csc(_Record):
    kind = "csc"


class _Csr(_Record):
    kind = "csr"


class _Coo(_Record):
    kind = "coo"


_SPARSE = {f"{record.kind}_{suffix}": record for record in (_Csc, _Csr, _Coo) for suffix in ("matrix", "array")}


def _make_record(cls: Any, base: Any, state: Any) -> _Record:
    """``copyreg._reconstructor``, which protocols 0 and 1 use for every object, for records alone."""
    if not (isinstance(cls, type) and issubclass(cls, _Record)):
        raise WeightsError(f"asks to construct {cls!r}, which no SMPL model needs: refused")
    return cls()


def _make_array(subtype: Any, shape: Any, typecode: Any) -> np.ndarray:
    """NumPy's ``_reconstruct``, for ndarray alone: an empty array that its state then fills."""
    if subtype is not np.ndarray:
        raise WeightsError(f"asks to construct {subtype!r}, which no SMPL model needs: refused")
    return np.ndarray.__new__(np.ndarray, (0,), "b")


def _from_buffer(buffer: Any, dtype: Any, shape: Any, order: str) -> np.ndarray:
    """NumPy's ``_frombuffer``, which protocol 5 uses for contiguous arrays."""
    return np.frombuffer(buffer, dtype).reshape(shape, order=order).copy()  # type: ignore[call-overload]


def _to_bytes(text: str, encoding: str = "latin1") -> bytes:
    """``_codecs.encode`` as protocols 0 to 2 use it for bytes."""
    if encoding not in ("latin1", "latin-1"):
        raise WeightsError(f"asks for the codec {encoding!r}, which no SMPL model needs: refused")
    return text.encode("latin1")


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("copyreg", "_reconstructor"): _make_record,
    ("builtins", "object"): object,
    ("builtins", "set"): set,
    ("_codecs", "encode"): _to_bytes,
}
_SCALAR: Callable[..., Any] = np.float64(0).__reduce__()[0]  # type: ignore[assignment]  # wherever this NumPy has it
for _module in ("numpy.core.multiarray", "numpy._core.multiarray"):
    _ALLOWED[_module, "_reconstruct"] = _make_array
    _ALLOWED[_module, "scalar"] = _SCALAR
for _module in ("numpy.core.numeric", "numpy._core.numeric"):
    _ALLOWED[_module, "_frombuffer"] = _from_buffer


def find_allowed(module: str, name: str) -> Any:
    """What a pickle gets for the name that it asks for; WeightsError unless it stands in the closed list."""
    module = {"copy_reg": "copyreg", "__builtin__": "builtins"}.get(module, module)  # Python 2's names
    if (module, name) in _ALLOWED:
        return _ALLOWED[module, name]
    if module == "chumpy" or module.startswith("chumpy."):
        return _Chumpy
    if module.startswith("scipy.sparse") and name in _SPARSE:
        return _SPARSE[name]
    raise WeightsError(f"asks for {module}.{name}, which no SMPL model needs: refused; get the file from its makers")


class _RestrictedUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return find_allowed(module, name)

    def persistent_load(self, pid: Any) -> Any:
        raise WeightsError("asks for a persistent object, which no SMPL model needs: refused")


def _chumpy_array(state: dict[str, Any]) -> np.ndarray:
    """A chumpy constant (``x``), or a selection ``a.ravel()[idxs]`` of one, which is how files cut `shapedirs`."""
    if "x" in state:
        return np.asarray(plain(state["x"]))
    if "a" in state and "idxs" in state:
        picked = np.asarray(plain(state["a"])).ravel()[np.asarray(plain(state["idxs"])).astype(np.int64)]
        shape = state.get("preferred_shape")
        return picked if shape is None else picked.reshape(tuple(int(size) for size in shape))
    raise WeightsError("holds a chumpy expression that is neither an array nor a selection of one; save it as arrays")


def _dense(kind: str, state: dict[str, Any]) -> np.ndarray:
    """scipy.sparse state -> dense array; entries given twice are added, as scipy does."""
    shape = state.get("_shape", state.get("shape"))
    if shape is None or "data" not in state:
        raise WeightsError(f"holds a scipy.sparse {kind} matrix without shape or data; it is damaged, fetch it again")
    data = np.asarray(state["data"])
    matrix = np.zeros(tuple(int(size) for size in shape), data.dtype)
    if kind == "coo":
        rows, columns = state["coords"] if "coords" in state else (state["row"], state["col"])
    else:
        starts = np.asarray(state["indptr"])
        major, minor = np.repeat(np.arange(len(starts) - 1), np.diff(starts)), np.asarray(state["indices"])
        rows, columns = (minor, major) if kind == "csc" else (major, minor)
    np.add.at(matrix, (np.asarray(rows), np.asarray(columns)), data)
    return matrix
