"""Where and in which precision networks run: the one place that knows."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from contextvars import ContextVar

import numpy as np
import torch

from hmrkit.errors import DeviceError, GpuMemoryError, UsageError
from hmrkit.members import unknown

_outside: ContextVar[int] = ContextVar("threads outside of one_thread", default=0)
CPU_BATCH, GPU_BATCH = 8, 32
FRAME_BYTES = 2**29  # of a 4K frame as bytes and as floats, with what the detector makes of it
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def resolve_device(name: str = "auto") -> torch.device:
    """``auto`` (the first CUDA device, else the CPU), ``cpu``, ``cuda`` or ``cuda:N``, checked to be there."""
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    if name == "cuda:all":
        raise UsageError("--device cuda:all is for `hmrkit run`, which gives each GPU a process; name one, cuda:0")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"--device must be auto, cpu or cuda:N, got {name!r}") from None
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if not torch.cuda.is_available() or (device.index or 0) >= count:
            raise DeviceError(f"device {name} was asked for, but {count} CUDA devices are here; use --device cpu")
    elif device.type != "cpu":
        raise UsageError(f"--device must be auto, cpu or cuda:N, got {name!r}")
    return device


def resolve_dtype(name: str) -> torch.dtype:
    """``float32``, ``float16`` or ``bfloat16`` -> torch dtype."""
    if name not in DTYPES:
        raise unknown("--dtype", name, DTYPES)
    return DTYPES[name]


def usual_batch_size(device: torch.device) -> int:
    """Frames in flight at once: 8 on a CPU, whose caches hold no more; on a GPU as many as its free memory holds."""
    if device.type != "cuda":
        return CPU_BATCH
    free, _ = torch.cuda.mem_get_info(device)
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return max(CPU_BATCH, min((free + unused) // FRAME_BYTES, GPU_BATCH))


def upload(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """An array on `device`, from pinned memory where that is a GPU: nothing waits for the copy. A CPU shares it."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def download(*tensors: torch.Tensor) -> list[np.ndarray]:
    """Tensors (N,...) of one type as arrays; a GPU is waited for once."""
    if tensors[0].device.type == "cpu":
        return [tensor.numpy() for tensor in tensors]
    sizes = [tensor.shape[1:].numel() for tensor in tensors]
    columns = [tensor.reshape(len(tensor), size) for tensor, size in zip(tensors, sizes, strict=True)]
    rows = torch.cat(columns, 1).cpu().numpy()
    parts = np.split(rows, np.cumsum(sizes)[:-1], 1)
    return [part.reshape(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]


@contextlib.contextmanager
def inference(device: torch.device, dtype: torch.dtype = torch.float32) -> Iterator[None]:
    """No gradients, autocast to `dtype`, and an out-of-memory error that says what to do."""
    try:
        with torch.inference_mode(), torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
            yield
    except torch.cuda.OutOfMemoryError as error:
        raise GpuMemoryError(f"{device} ran out of memory; use a smaller --batch-size or --device cpu") from error


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the GPU's memory did not suffice, wherever it was raised."""
    return isinstance(error, (GpuMemoryError, torch.cuda.OutOfMemoryError))


def half_on_cuda(device: torch.device) -> torch.autocast:
    """For networks that float16 does not harm: autocast on CUDA, nothing elsewhere."""
    return torch.autocast("cuda", torch.float16, enabled=device.type == "cuda")


def mixed_precision(device: torch.device) -> torch.autocast:
    """For training: bfloat16 on CUDA and on CPUs that multiply in it. On others it takes twice as long as float32."""
    native = device.type != "cpu" or getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    return torch.autocast(device.type, torch.bfloat16, enabled=native)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Run small tensor operations without PyTorch's thread pool.

    Thousands of operations on a few hundred frames gain nothing from a second thread, and where other processes or the
    video decoder share the cores each of them waits for it: 7 ms per frame became 80 to 250.
    """
    before = torch.get_num_threads()
    token = _outside.set(usable_threads())
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        _outside.reset(token)


def trim_heap() -> None:
    """Give back to the system what the C library keeps of freed memory. glibc keeps what lies between other blocks: 200
    MiB after the networks are loaded. Other C libraries need no call."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def usable_threads() -> int:
    """Threads for work that is divided by hand: PyTorch's, also inside `one_thread`."""
    return _outside.get() or torch.get_num_threads()
