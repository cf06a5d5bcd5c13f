"""How long the parts of SGRE take, as table 3 of its paper has it for a batch of 64.

``python -m hmrkit.regressors.sgre_timing [weights] [device]`` prints it. The paper: features 0.102 s, parameters 0.010
s, mesh 0.045 s.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from hmrkit.body import Body, load_body
from hmrkit.regressors.files import read_regressor
from hmrkit.regressors.sgre import SgreNetwork, SgreRegressor, build

BATCH, RUNS = 64, 5


@torch.inference_mode()
def time_parts(regressor: SgreRegressor, body: Body, batch: int = BATCH, runs: int = RUNS) -> dict[str, float]:
    """Milliseconds for a batch of crops, the least of some runs: the backbone's ``features``, the ``parameters`` that
    are made of them, the ``sequential`` step along the tree, which is a part of these, and the ``mesh``."""
    crops = torch.rand(batch, 3, *regressor.input_size, device=body.device)
    features = regressor.backbone(crops)
    estimate = regressor.regress(features)
    visual = torch.rand(24, batch, regressor.network.branch, device=body.device)
    parts: dict[str, Callable[[], Tensor]] = {
        "features": lambda: regressor.backbone(crops).global_feature,
        "parameters": lambda: regressor.regress(features).body_pose,
        "sequential": lambda: regressor.branches.along_the_tree(visual),
        "mesh": lambda: body(estimate.global_orient, estimate.body_pose, estimate.betas).vertices,
    }
    return {name: 1000 * min(_seconds(part) for _ in range(runs)) for name, part in parts.items()}


def _seconds(part: Callable[[], Tensor]) -> float:
    started = time.perf_counter()
    part()[:1].cpu()  # waits for the device
    return time.perf_counter() - started


def main(weights: str = "", device: str = "cpu") -> None:
    """Print the times of a file that `hmrkit train sgre` wrote, or of an untrained network."""
    regressor = read_regressor("sgre", weights, build, SgreNetwork) if weights else build("sgre", weights="default")
    regressor.eval().to(device)
    for name, milliseconds in time_parts(regressor, load_body(device=device)).items():
        sys.stdout.write(f"{name:<10} {milliseconds:8.1f} ms a batch of {BATCH}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
