"""SPIN's ``model_checkpoint.pt`` to ``.safetensors``: the network alone, without optimizer and SMPL arrays.

As ``regressors/spin.safetensors`` in your weights folder it takes the place of the weights that ship.
"""

from __future__ import annotations

from pathlib import Path

from hmrkit.errors import WeightsError
from hmrkit.regressors.hmr import load
from hmrkit.weights import save_state


def convert(source: Path, out: Path) -> None:
    """Write the 331 tensors of `source` under their own names, as they are."""
    regressor = load("spin", source, device="cpu")
    if regressor.shape_space != "smpl":
        raise WeightsError(f"{source}: wanted SPIN's published checkpoint, found weights that hmrkit trained")
    state = {**regressor.backbone.state_dict(), **regressor.head.state_dict()}
    save_state(state, out, {"network": "spin", "licence": "non-commercial (SPIN)", "source": "Kolotouros et al. 2019"})
