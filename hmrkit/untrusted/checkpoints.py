"""PyTorch's files from others, read without PyTorch's unpickler: the zip files since 2020 and the stream before.

A checkpoint is a pickle whose tensors refer to storages beside it. The pickle goes through `hmrkit.untrusted.machine`;
a storage is bytes of the file, a tensor a view that is checked to lie inside. What trainers leave beside the tensors
(settings, callbacks, states of random numbers) becomes None, whether their packages are there or not.

Layouts: ``torch/serialization.py`` and ``torch/_utils.py`` (BSD-3) as of PyTorch 1.1 to 2.10.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from hmrkit.untrusted import values
from hmrkit.untrusted.arrays import open_regular
from hmrkit.untrusted.machine import Machine
from hmrkit.untrusted.tree import Made, refused

if TYPE_CHECKING:  # a second to import
    from torch import Tensor

_TRAINERS = ("pytorch_lightning.", "lightning.", "yacs.", "omegaconf.")
_OTHERS = (
    "typing.Any", "argparse.Namespace", "pathlib.PosixPath", "pathlib.WindowsPath", "numpy.random.__RandomState_ctor",
    "numpy.random._pickle.__randomstate_ctor", "numpy.random._pickle.__bit_generator_ctor",
    "numpy.random._mt19937.MT19937", "torch.Size", "torch.device",
)  # fmt: skip
_REBUILD = "torch._utils._rebuild_tensor_v2"
_REBUILD_V3 = "torch._utils._rebuild_tensor_v3"  # has bytes as its storage, and its dtype
_PARAMETER = "torch._utils._rebuild_parameter"
FROM_BYTES = "torch.storage._load_from_bytes"  # a storage inside an ordinary pickle
DTYPES = (
    "float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool", "complex64",
    "complex128", "float8_e4m3fn", "float8_e5m2",
)  # fmt: skip
_STORAGES = {
    "Double": "float64", "Float": "float32", "Half": "float16", "BFloat16": "bfloat16", "Long": "int64", "Int": "int32",
    "Short": "int16", "Char": "int8", "Byte": "uint8", "Bool": "bool", "ComplexFloat": "complex64",
    "ComplexDouble": "complex128",
}  # fmt: skip
_KINDS = {f"torch.{kind}Storage": dtype for kind, dtype in _STORAGES.items()}
_KINDS |= {"torch.storage.UntypedStorage": "uint8", "torch.UntypedStorage": "uint8"}
MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # before 2020 a file begins with these two, pickled

Storage = Callable[[str, str, int], "Tensor"]  # key, name of its dtype, count of items -> a tensor with one axis


def allowed(name: str) -> bool:
    """Whether a checkpoint may have this name."""
    if name in (_REBUILD, _REBUILD_V3, _PARAMETER, *_OTHERS, *_KINDS) or name.startswith(_TRAINERS):
        return True
    return name.removeprefix("torch.") in DTYPES or (not name.startswith("chumpy.") and values.allowed(name))


def read_checkpoint(path: str | Path, mapped: bool = False, arrays: bool = False) -> Any:
    """What a PyTorch file holds: dictionaries, lists, text, numbers and tensors on the CPU, or `arrays` in their place.

    With `mapped` tensors of a zip file stay in it until they are read. WeightsError where the file asks for more than
    tensors or is compressed; OSError where it cannot be read; any other exception where it is damaged.
    """
    with open_regular(path) as stream:
        if zipfile.is_zipfile(stream):
            return _read_zip(stream, path, mapped, arrays)
        stream.seek(0)
        if stream.read(4) == b"PK\x03\x04":
            raise EOFError("a file that is cut off: a zip without its end")
        return read_stream(stream, arrays)


def read_stream(stream: BinaryIO, arrays: bool = False) -> Any:
    """What a file of before 2020 holds, or the bytes of a tensor inside an ordinary pickle."""
    import torch

    size = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    plain = lambda: values.Builder(values.limit_of(0)).plain(Machine(stream, allowed).run())  # noqa: E731
    if (plain(), plain()) != (MAGIC, _PROTOCOL):
        raise ValueError("no file of PyTorch")
    plain()  # sizes on the machine that wrote it
    machine = Machine(stream, allowed, outside=True)
    tree = machine.run()
    builder = values.Builder(values.limit_of(size))
    kinds = [_kind_of(builder.plain(found.pid)) for found in machine.outsides]
    wanted = {key: (name, count) for key, name, count in kinds}
    storages: dict[str, Tensor] = {}
    for key in plain():
        name, count = wanted[key]
        if count != struct.unpack("<q", stream.read(8))[0]:
            raise ValueError(f"storage {key} has another size")
        nbytes = count * _torch_dtype(name).itemsize
        if not 0 <= nbytes <= size - stream.tell():
            raise EOFError("the file is cut off")
        data = torch.empty(nbytes, dtype=torch.uint8)
        stream.readinto(memoryview(data.numpy()))  # type: ignore[attr-defined]
        storages[key] = _typed(data, name)
    return _tensors(tree, lambda key, name, count: storages[key], size, arrays)


def _read_zip(stream: BinaryIO, path: str | Path, mapped: bool, arrays: bool) -> Any:
    import torch

    with zipfile.ZipFile(stream) as archive:
        members = {member.filename: member for member in archive.infolist()}
        if any(member.compress_type != zipfile.ZIP_STORED for member in members.values()):
            raise refused("is a compressed zip file, which could unfold to any size")
        mains = [name for name in members if name.endswith("data.pkl") and name.count("/") <= 1]
        if len(mains) != 1:
            raise ValueError(f"a zip file with {len(mains)} members data.pkl")
        main = mains[0]
        folder = main.removesuffix("data.pkl")
        order = f"{folder}byteorder"
        if order in members and archive.read(order) != b"little":
            raise refused("is of a machine with the other byte order")
        tree = Machine(io.BytesIO(archive.read(main)), allowed, outside=True).run()
    size = stream.seek(0, io.SEEK_END)
    whole = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8) if size else torch.zeros(0)

    def storage(key: str, name: str, count: int) -> Tensor:
        member = members[f"{folder}data/{key}"]
        stream.seek(member.header_offset)
        header = stream.read(30)
        start = member.header_offset + 30 + sum(struct.unpack("<HH", header[26:30]))
        nbytes = count * _torch_dtype(name).itemsize
        if header[:4] != b"PK\x03\x04" or not 0 <= nbytes <= member.file_size or start + nbytes > size:
            raise ValueError(f"storage {key} is not as long as it says")
        data = whole[start : start + nbytes]
        return _typed(data if mapped and start % 16 == 0 else data.clone(), name)

    return _tensors(tree, storage, size, arrays)


def _tensors(tree: Any, storage: Storage, size: int, arrays: bool) -> Any:
    """The values of a checkpoint's tree; a storage is made once."""
    made: dict[str, Tensor] = {}

    def outside(pid: Any) -> Tensor:
        key, name, count = _kind_of(pid)
        if key not in made:
            made[key] = storage(key, name, count)
        if made[key].dtype != _torch_dtype(name):
            raise ValueError(f"storage {key} of two kinds")
        return made[key]

    as_array = array_of_tensor if arrays else lambda _, tensor: tensor
    tensor = lambda builder, node, depth: as_array(builder, _object(builder, node, depth))  # noqa: E731
    return values.Builder(values.limit_of(size), outside, tensor).plain(tree)


def _object(builder: values.Builder, node: Made, depth: int) -> Any:
    """A tensor of a storage; None for what trainers leave."""
    if node.name not in (_REBUILD, _REBUILD_V3, _PARAMETER):
        return None
    args = [builder.plain(arg, depth) for arg in node.args]
    if node.name == _PARAMETER:
        return args[0]
    storage, offset, size, stride = args[:4]
    return tensor_of(storage, offset, size, stride, args[6] if node.name == _REBUILD_V3 else None)


def array_of_tensor(builder: values.Builder, tensor: Any) -> Any:
    """A tensor as an array of its own, counted by `builder`; bfloat16, which NumPy has not, as float32."""
    import torch

    if not isinstance(tensor, torch.Tensor):
        return tensor
    builder.spend(2 * tensor.nbytes)
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy().copy()


def tensor_of(storage: Any, offset: Any, size: Any, stride: Any, kind: str | None = None) -> Any:
    """A view of a storage, a tensor with one axis; ValueError unless it lies inside."""
    import torch

    if not isinstance(storage, torch.Tensor) or not isinstance(size, tuple) or not isinstance(stride, tuple):
        raise ValueError("a tensor without its storage")
    if kind is not None:
        storage = storage.view(_torch_dtype(kind.removeprefix("torch.")))
    whole = (offset, *size, *stride)
    if len(size) != len(stride) or len(size) > 32 or not all(isinstance(n, int) and 0 <= n < 1 << 62 for n in whole):
        raise ValueError("a tensor of no shape")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if math.prod(size) >= 1 << 62 or (math.prod(size) and last >= len(storage)):
        raise ValueError("a tensor is larger than its storage")
    if not math.prod(size):
        return storage.new_zeros(size)
    return storage.as_strided(
        size, stride, storage.storage_offset() + offset
    )  # which counts from the whole file's start


def _kind_of(pid: Any) -> tuple[str, str, int]:
    """A storage's key, the name of its dtype and its count of items, of its persistent id."""
    if not isinstance(pid, tuple) or len(pid) not in (5, 6) or pid[0] != "storage" or pid[5:] not in ((), (None,)):
        raise ValueError("a storage of an unknown form")
    _, kind, key, _, count = pid[:5]
    if kind not in _KINDS or not isinstance(key, str) or not isinstance(count, int) or not 0 <= count < 1 << 62:
        raise ValueError("a storage of an unknown form")
    return key, _KINDS[kind], count


def _torch_dtype(name: str) -> Any:
    import torch

    if name not in DTYPES:
        raise ValueError(f"tensors of {name}")
    return getattr(torch, name)


def _typed(data: Tensor, name: str) -> Tensor:
    """Bytes as items of a kind; PyTorch counts on bytes of 0 and 1 where they are truth values."""
    return data != 0 if name == "bool" else data.view(_torch_dtype(name))
