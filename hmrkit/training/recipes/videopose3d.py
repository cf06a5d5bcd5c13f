"""The recipe of the lifter `hmrkit.lifters.videopose3d` (its own network, `RayNet`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch

from hmrkit.lifters.videopose3d import RayNet, RayNetSize
from hmrkit.training.lifter import LifterRecipe, choose_preset, train_ray_network
from hmrkit.training.loop import LoopConfig


@dataclass(frozen=True, kw_only=True)
class VideoPose3DRecipe(LifterRecipe):
    """`LifterRecipe` for `RayNet`."""

    network: RayNetSize = field(default_factory=RayNetSize)


PRESETS: dict[str, VideoPose3DRecipe] = {
    "cpu": VideoPose3DRecipe(loop=LoopConfig(steps=12_000, learning_rate=1e-3)),
    "gpu": VideoPose3DRecipe(
        network=RayNetSize(width=768, frame_blocks=3, dilations=(1, 3, 9, 27, 1, 3, 9, 27)),
        loop=LoopConfig(steps=150_000, learning_rate=6e-4, warmup=2000, ema=0.9997, log_every=500),
        frames=128,
        batch=128,
    ),
}


def train(
    out: str | Path,
    motion: str | Path,
    preset: str = "cpu",
    steps: int | None = None,
    device: str | torch.device = "cpu",
    resume: bool = False,
    start: str | Path | None = None,
) -> Path:
    """Train as `hmrkit.training.lifter.train_ray_network` says; returns ``out/videopose3d.safetensors``.

    `start` may be the weights of a network with fewer blocks: the others begin as the identity.
    """
    recipe = choose_preset(PRESETS, preset, steps)
    return train_ray_network(RayNet, recipe, motion, Path(out) / "videopose3d.safetensors", device, resume, start)
