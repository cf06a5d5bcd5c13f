"""What a regressor costs, and how accurate methods are: the figures that `hmrkit list methods` shows."""

from __future__ import annotations

import json
import platform
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

BATCH, RUNS = 16, 5


@torch.inference_mode()
def cost_of(regressor: Any, device: torch.device) -> dict[str, float | str]:
    """Parameters in millions (what the backbone does not share with others), GFLOPs of a crop (two for each
    multiply-add, the mirrored crop included where the network averages over it), and ms per crop out of a batch of
    `BATCH`, the least of `RUNS` runs."""
    crops = torch.rand(BATCH, 3, *regressor.input_size, device=device)
    with FlopCounterMode(display=False) as counter:
        regressor.encode(crops[:1])
    regressor.encode(crops)
    seconds = min(_timed(regressor, crops) for _ in range(RUNS))
    own = sum(p.numel() for name, p in regressor.named_parameters() if not name.startswith("backbone."))
    whole = sum(p.numel() for p in _all_parameters(regressor))
    return {
        "parameters_m": round(whole / 1e6, 2),
        "own_parameters_m": round(own / 1e6, 2),
        "gflops": round(counter.get_total_flops() / 1e9, 2),
        "ms_per_crop": round(1000 * seconds / BATCH, 1),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads",
        "machine": platform.machine(),
    }


def accuracy_of(evaluation: Path) -> dict[str, dict[str, float]]:
    """By method the means that an ``evaluation.json`` of `hmrkit eval` holds."""
    found = json.loads(evaluation.read_text(encoding="utf-8"))
    return {
        method["method"]: {name: round(figure["mean"], 1) for name, figure in method["figures"].items()}
        for method in found["methods"]
    }


def _timed(regressor: Any, crops: torch.Tensor) -> float:
    started = time.perf_counter()
    regressor.encode(crops).cpu()  # waits for the device
    return time.perf_counter() - started


def _all_parameters(regressor: Any) -> list[nn.Parameter]:
    """With those of a published network that the backbone keeps out of its own tensors."""
    hidden = [value for value in vars(regressor.backbone).values() if isinstance(value, nn.Module)]
    return [p for module in (regressor, *hidden) for p in module.parameters()]
