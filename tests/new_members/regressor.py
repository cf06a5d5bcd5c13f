"""A regressor that reads feature maps, with its recipe: a convolution over the backbone's maps, then HMR's head."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from hmrkit.backbones import load_backbone
from hmrkit.regressors.files import read_regressor
from hmrkit.regressors.frame import FrameRegressor
from hmrkit.regressors.ief import IefHead
from hmrkit.training.example_source import ImageData
from hmrkit.training.loop import LoopConfig
from hmrkit.training.recipe import RegressorRecipe
from hmrkit.training.regressors import train_supervised


@dataclass(frozen=True)
class MapNetwork:
    """Sizes of the network."""

    backbone: str = "embedded"
    width: int = 8


class MapRegressor(FrameRegressor):
    """Pools every map of the backbone after a 1 x 1 convolution."""

    def __init__(self, name, network, backbone):
        super().__init__(name, backbone.requires_grad_(False))
        self.network = network
        self.reads = nn.ModuleList(nn.Conv2d(channels, network.width, 1) for channels in self.backbone.map_channels)
        self.head = IefHead(network.width * len(self.reads), hidden=16)

    def regress(self, features, context=None):
        pooled = [read(at).mean((2, 3)) for read, at in zip(self.reads, features.maps, strict=True)]
        return self.head(torch.cat(pooled, 1))


def build(name, network, weights="default"):
    return MapRegressor(name, network, load_backbone(network.backbone, weights=weights))


def load(name, checkpoint, *, device, weights="default", backbone=None):
    regressor = read_regressor(name, checkpoint, build, MapNetwork) if checkpoint else build(name, MapNetwork())
    return regressor.eval().to(device)


DATA = ImageData(images=8, batch=4, synthetic=0, held_out=8, keep_pyramid=True)
PRESETS = {"cpu": RegressorRecipe(loop=LoopConfig(steps=2, warmup=0), network=MapNetwork(), data=DATA)}
EXTRAS = ()


def train(name, recipe, out, **rest) -> Path:
    return train_supervised(build(name, recipe.network), recipe, out, **rest)
