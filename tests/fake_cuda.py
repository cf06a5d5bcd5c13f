"""A CUDA device that is not there: constants that stay on the CPU show on it."""

from __future__ import annotations

import torch


def on_fake_cuda(regressor, mode):
    """The regressor, its tensors claiming to lie on a CUDA device, as `.to` would leave them."""
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        return regressor._apply(lambda value: mode.from_tensor(value).to("cuda:0"))
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(False)
