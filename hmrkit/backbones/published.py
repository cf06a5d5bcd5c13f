"""What the backbones with published checkpoints share: ImageNet's normalisation, and finding themselves in a file."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from hmrkit.errors import WeightsError
from hmrkit.weights import load_into

# Mean and deviation of ImageNet's RGB in [0, 1]: every network here was trained behind them.
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class ImageNetNormalisation(nn.Module):
    """RGB in [0, 1] -> what networks trained on ImageNet read. Has no entry in a state dict."""

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(_DEVIATION).view(3, 1, 1), persistent=False)

    def forward(self, crops: Tensor) -> Tensor:
        return (crops - self.mean) / self.deviation


def initialise(module: nn.Module) -> None:
    """He et al. 2015 for convolutions, as all of these networks were before training."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")


def part_of(state: dict[str, Tensor], landmark: str, what: str, source: str | Path) -> dict[str, Tensor]:
    """The tensors that stand beside `landmark` in a checkpoint, their common prefix (``encoder.`` ...) taken off.

    `landmark` is a key that only `what` has. WeightsError where it stands nowhere, or under several prefixes.
    """
    prefixes = [key.removesuffix(landmark) for key in state if key == landmark or key.endswith(f".{landmark}")]
    if not prefixes:
        found = ", ".join(list(state)[:3])
        raise WeightsError(f"{source}: wanted the weights of {what}, found {len(state)} others ({found}, ...)")
    if len(prefixes) > 1:
        found = " and ".join(prefix or "the top level" for prefix in prefixes)
        raise WeightsError(f"{source}: {what} is in it {len(prefixes)} times, at {found}; save the one you want alone")
    return {key.removeprefix(prefixes[0]): value for key, value in state.items() if key.startswith(prefixes[0])}


def load_part(module: nn.Module, part: dict[str, Tensor], source: str | Path) -> None:
    """Strictly load what `part` holds of `module`'s children; heads of other purposes stand beside them and are left.

    A deeper network's surplus layers are inside the children, so they are noticed.
    """
    children = {name for name, _ in module.named_children()}
    own = {key: value for key, value in part.items() if key.split(".")[0] in children}
    for key in module.state_dict():
        if key.endswith(".num_batches_tracked"):  # a count that only training reads; files from before 2018 lack it
            own.setdefault(key, torch.tensor(0))
    load_into(module, own, source)
