"""The recipe of the lifter `hmrkit.lifters.semgcn` on ray features (`RaySemGCN`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch

from hmrkit.lifters.semgcn import RaySemGCN, SemGCNSize
from hmrkit.training.lifter import LifterRecipe, choose_preset, train_ray_network
from hmrkit.training.loop import LoopConfig


@dataclass(frozen=True, kw_only=True)
class SemGCNRecipe(LifterRecipe):
    """`LifterRecipe` for `RaySemGCN`: the paper's network with its non-local layers, windows of a frame in nine."""

    network: SemGCNSize = field(default_factory=SemGCNSize)
    every: int = 9


PRESETS: dict[str, SemGCNRecipe] = {
    "cpu": SemGCNRecipe(loop=LoopConfig(steps=3000, learning_rate=2e-3, ema=0.998), batch=32),
    "gpu": SemGCNRecipe(
        loop=LoopConfig(steps=60_000, learning_rate=1e-3, warmup=1000, ema=0.9995, log_every=500), batch=256
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
    """Train as `hmrkit.training.lifter.train_ray_network` says; returns ``out/semgcn.safetensors``."""
    recipe = choose_preset(PRESETS, preset, steps)
    return train_ray_network(RaySemGCN, recipe, motion, Path(out) / "semgcn.safetensors", device, resume, start)
