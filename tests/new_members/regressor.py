"""A regressor that reads feature maps, with its recipe: a convolution over the backbone's maps, then HMR's head."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import nn

from hmrkit.backbones import load_backbone
from hmrkit.regressors.files import read_network
from hmrkit.regressors.frame import FrameRegressor
from hmrkit.regressors.ief import IefHead
from hmrkit.training.loop import LoopConfig
from hmrkit.training.regressors import ImageData, Losses, preset_of, train_supervised
from hmrkit.weights import load_into, load_state


@dataclass(frozen=True)
class MapNetwork:
    """Sizes of the network."""

    backbone: str = "embedded"
    width: int = 8


class MapRegressor(FrameRegressor):
    """Pools every map of the backbone after a 1 x 1 convolution."""

    def __init__(self, name, network):
        super().__init__(name, load_backbone(network.backbone).requires_grad_(False))
        self.network = network
        self.reads = nn.ModuleList(nn.Conv2d(channels, network.width, 1) for channels in self.backbone.map_channels)
        self.head = IefHead(network.width * len(self.reads), hidden=16)

    def regress(self, features, context=None):
        pooled = [read(at).mean((2, 3)) for read, at in zip(self.reads, features.maps, strict=True)]
        return self.head(torch.cat(pooled, 1))


def load(name, checkpoint, *, device, weights="default", backbone=None):
    network = MapNetwork(**read_network(checkpoint)) if checkpoint else MapNetwork()
    regressor = MapRegressor(name, network)
    if checkpoint:
        load_into(regressor, {key: value.float() for key, value in load_state(checkpoint).items()}, checkpoint)
    return regressor.eval().to(device)


@dataclass(frozen=True)
class MapRecipe:
    """See `hmrkit.training.regressors.RegressorRecipe`."""

    loop: LoopConfig
    network: MapNetwork = field(default_factory=MapNetwork)
    data: ImageData = field(default_factory=lambda: ImageData(images=8, batch=4, held_out=8, keep_pyramid=True))
    losses: Losses = field(default_factory=Losses)


PRESETS = {"cpu": MapRecipe(LoopConfig(steps=2, warmup=0))}
EXTRAS = ()


def train(name, out, preset="cpu", steps=None, device="cpu", images=None, **rest) -> Path:
    recipe = preset_of(PRESETS, preset)
    recipe = replace(recipe, loop=recipe.loop.with_steps(steps or recipe.loop.steps))
    return train_supervised(MapRegressor(name, recipe.network), recipe, out, device=device, **rest)
