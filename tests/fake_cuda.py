"""A network whose tensors claim to lie on a CUDA device: a constant that stays on the CPU shows."""

from __future__ import annotations

import torch


def on_fake_cuda(network, mode):
    """The network, its tensors on the device ``cuda:0`` of a `FakeTensorMode`, as `.to` would leave them."""
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        return network._apply(lambda value: mode.from_tensor(value).to("cuda:0"))
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(False)
