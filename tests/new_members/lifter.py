"""A lifter whose network is one linear layer over rays, with its recipe."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from hmrkit.lifters.ray_lifter import RayLifter, RayNetwork, load_ray_lifter
from hmrkit.lifters.rays import FEATURES
from hmrkit.training.lifter import LifterRecipe, choose_preset, train_ray_network
from hmrkit.training.loop import LoopConfig


@dataclass(frozen=True)
class LinearSize:
    """It has one size."""

    joints: int = 17


class Linear(RayNetwork):
    receptive_field = 1

    def __init__(self, size):
        super().__init__()
        self.joints = size.joints
        self.layer = nn.Linear(FEATURES, 3 * size.joints)

    def forward(self, features):
        joints = self.layer(features).unflatten(-1, (self.joints, 3))
        return joints - joints[..., :1, :]


def load(checkpoint=None, *, device="cpu"):
    if checkpoint is None:
        return RayLifter(Linear(LinearSize()), device=device)
    return load_ray_lifter(checkpoint, lambda sizes: Linear(LinearSize(**sizes)), device)


@dataclass(frozen=True, kw_only=True)
class LinearRecipe(LifterRecipe):
    """See `LifterRecipe`."""

    network: LinearSize = field(default_factory=LinearSize)


PRESETS = {"cpu": LinearRecipe(loop=LoopConfig(steps=1, warmup=0), batch=2)}


def train(out, motion, preset="cpu", steps=None, device="cpu", resume=False, start=None) -> Path:
    recipe = choose_preset(PRESETS, preset, steps)
    return train_ray_network(Linear, recipe, motion, Path(out) / "linear.safetensors", device, resume, start)
