"""Tensors that lie on the CPU and claim to lie on a CUDA device: code runs with real numbers, a mix of devices shows,
and what would make a host wait for a GPU is counted.

PyTorch's `FakeTensorMode` (`fake_cuda`) has no numbers, so what depends on them (a rasteriser) cannot run under it.
"""

from __future__ import annotations

from collections import Counter

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")
# Operations whose result's size, or a number of which, the host has to know.
WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "unique_dim", "_unique2", "equal")


def as_on_cuda(monkeypatch):
    """Until the test ends networks move to `Claimed` tensors, memory counts as pinned, and there is no inference mode,
    which such tensors cannot stand."""

    def moved(module, function, recurse=True):
        for child in module.children():
            child._apply(function)
        for tensors in (module._parameters, module._buffers):
            tensors.update({key: function(value.detach()) for key, value in tensors.items() if value is not None})
        return module

    monkeypatch.setattr(torch.nn.Module, "_apply", moved)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    monkeypatch.setattr(torch, "inference_mode", torch.no_grad)


class Claimed(torch.Tensor):
    """Shows a CUDA device; `real` is on the CPU."""

    @staticmethod
    def __new__(cls, real):
        made = torch.Tensor._make_wrapper_subclass(
            cls, real.size(), real.stride(), real.storage_offset(), dtype=real.dtype, device=CUDA
        )
        made.real_values = real
        return made

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        raise RuntimeError(f"{function} outside of ClaimedCuda")


class ClaimedCuda(TorchDispatchMode):
    """Inside, `to("cuda:0")` and factories with that device give `Claimed` tensors. `waits` counts, by the operation's
    name, what the host waits for; copies to the host are ``to the host``. `uploads` counts copies of arrays and of
    Python's numbers to the device, for which it waits unless their memory is pinned."""

    # PyTorch starts no CUDA where a mode of this key is active.
    _mode_key = torch._C._TorchDispatchModeKey.FAKE

    def __init__(self):
        super().__init__()
        torch._C._ensureCUDADeviceGuardSet()
        self.waits, self.uploads = Counter(), 0

    def __enter__(self):
        torch._C._set_only_lift_cpu_tensors(True)  # `torch.tensor(..., device=...)` comes by here, too
        return super().__enter__()

    def __exit__(self, *error):
        torch._C._set_only_lift_cpu_tensors(False)
        return super().__exit__(*error)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = function.overloadpacket.__name__
        found = []
        tree_map(lambda v: found.append(v) if isinstance(v, torch.Tensor) else None, (args, kwargs))
        claimed = any(isinstance(v, Claimed) for v in found)
        asked = kwargs.get("device")
        if name == "_to_copy" and asked is not None:
            to_cuda = torch.device(asked).type == "cuda"
            self.waits["to the host"] += claimed and not to_cuda
            self.uploads += to_cuda and not claimed
            kwargs["device"] = CPU
        elif name == "copy_":
            to_cuda = isinstance(args[0], Claimed)
            self.waits["to the host"] += not to_cuda and claimed
            self.uploads += to_cuda and not isinstance(args[1], Claimed)
        else:
            to_cuda = claimed if asked is None else torch.device(asked).type == "cuda"
            if asked is not None:
                kwargs["device"] = CPU
            plain = [v for v in found if not isinstance(v, Claimed) and v.dim()]
            if claimed and plain:
                raise RuntimeError(f"{name}: tensors on the CPU among those on CUDA, {[tuple(v.shape) for v in plain]}")
            self.waits[name] += claimed and name in WAITS
            if name == "repeat_interleave" and kwargs.get("output_size") is None:
                self.waits[name] += claimed
            if name in ("index", "index_put_", "_index_put_impl_") and claimed:  # a mask is a `nonzero`
                self.waits["mask"] += any(v is not None and v.dtype == torch.bool for v in args[1])
        real = tree_map(lambda v: v.real_values if isinstance(v, Claimed) else v, (args, kwargs))
        result = function(*real[0], **real[1])
        if not to_cuda:
            return result
        for given, plain in zip(args, real[0], strict=False):  # in place: the same tensor comes back
            if isinstance(given, Claimed) and result is plain:
                return given
        return tree_map(lambda v: Claimed(v) if isinstance(v, torch.Tensor) else v, result)
