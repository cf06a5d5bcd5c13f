"""Results pickled by other tools, plain or through joblib, with NumPy arrays or PyTorch tensors: nothing is called.

What a pickle may name is the closed list of `hmrkit.untrusted.values`, joblib's record of an array, and tensors.
joblib writes an array's bytes between the pickle's, after the record that describes it; it may compress the whole
stream (zlib, gzip). Its older form, which keeps arrays in files of their own, is refused.
"""

from __future__ import annotations

import io
import zlib
from typing import Any, BinaryIO

import numpy as np

from hmrkit.untrusted import checkpoints, values
from hmrkit.untrusted.arrays import most_of
from hmrkit.untrusted.kinds import array_of, array_size
from hmrkit.untrusted.machine import Machine
from hmrkit.untrusted.tree import Made, Name, Pairs, refused

MAX_BYTES = 4 << 30  # of what a compressed stream may hold
_BLOCK = 1 << 20
_WRAPPER = "joblib.numpy_pickle.NumpyArrayWrapper"
_TENSOR = "torch._utils._rebuild_tensor_v2"
_ALLOWED = (_WRAPPER, _TENSOR, checkpoints.FROM_BYTES, "numpy.memmap")


def unpickle_results(stream: BinaryIO) -> Any:
    """What a pickle holds, as `hmrkit.untrusted.values.unpickle` gives it, tensors as arrays.

    WeightsError where it asks for a name that no results need or would fill memory; whatever `unpickle` raises where it
    is damaged.
    """
    start = stream.tell()
    head = stream.read(2)
    stream.seek(start)
    if head[:1] == b"\x78" or head == b"\x1f\x8b":
        stream = _decompressed(stream)
    machine = Machine(stream, _allowed)
    machine.built = lambda made: _joblib_array(made, stream, machine)
    tree = machine.run()
    return values.Builder(values.limit_of(machine.read.size), made=_tensor).plain(tree)


def _allowed(name: str) -> bool:
    return name in _ALLOWED or values.allowed(name) or name.removeprefix("torch.") in checkpoints.DTYPES


def _decompressed(stream: BinaryIO) -> BinaryIO:
    """A zlib or gzip stream, whole."""
    start = stream.tell()
    most = min(MAX_BYTES, most_of(stream.seek(0, io.SEEK_END) - start))
    stream.seek(start)
    engine, out = zlib.decompressobj(zlib.MAX_WBITS | 32), io.BytesIO()
    while block := stream.read(_BLOCK):
        while block:
            out.write(engine.decompress(block, _BLOCK))
            block = engine.unconsumed_tail
            if out.tell() > most:
                raise refused(f"unfolds to more than {most / 1e6:.0f} MB")
    out.seek(0)
    return out


def _joblib_array(made: Made, stream: BinaryIO, machine: Machine) -> Any:
    """In place of joblib's record the array whose bytes come next; ValueError where the stream is shorter."""
    if made.name != _WRAPPER:
        return made
    items = made.state.items if isinstance(made.state, Pairs) else []
    state = dict(zip(items[::2], items[1::2], strict=True)) if all(isinstance(key, str) for key in items[::2]) else {}
    kind = state.pop("subclass", None)
    if not (isinstance(kind, Name) and kind.name in ("numpy.ndarray", "numpy.memmap")):
        raise refused("asks to construct what is no array")
    builder = values.Builder(values.limit_of(0))
    dtype, shape = builder.plain(state["dtype"]), builder.plain(state["shape"])
    order = "F" if state.get("order") == "F" else "C"
    if not isinstance(dtype, np.dtype):
        raise ValueError("an array of no kind")
    if dtype.hasobject:
        inner = Machine(stream, values.allowed)
        inner.objects = machine.objects
        tree = inner.run()
        machine.objects = inner.objects
        return tree
    if state.get("numpy_array_alignment_bytes") is not None:
        stream.read(stream.read(1)[0])
    _, size = array_size(shape, dtype)
    if size > machine.read.left:
        raise ValueError("an array is longer than its file")
    return array_of(stream.read(size), dtype, shape, order)


def _tensor(builder: values.Builder, node: Made, depth: int) -> Any:
    """A tensor as an array, and the storage that it is a view of."""
    if node.name == checkpoints.FROM_BYTES:
        (data,) = (builder.plain(arg, depth) for arg in node.args)
        builder.spend(len(data))
        return checkpoints.read_stream(io.BytesIO(data))
    if node.name == _TENSOR:
        tensor = checkpoints.tensor_of(*(builder.plain(arg, depth) for arg in node.args[:4]))
        return checkpoints.array_of_tensor(builder, tensor)
    raise refused(f"asks to construct {node.name}")
