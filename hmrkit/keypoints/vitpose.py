"""Keypoints by ViTPose's published checkpoints (Xu et al. 2022): ``vitpose:FILE``.

Files of the authors (``vitpose-b.pth``, ``vitpose-b-simple.pth``; small, large and huge as well) and of mmpose 1
(``td-hm_ViTPose-base_8xb64-210e_coco-256x192-216eae50_20230314.pth``), which names the same tensors otherwise. The
classic head has two deconvolutions; the simple one enlarges the map four times. Crops are 256 x 192 px; heatmaps are
read as unbiased ones (`hmrkit.keypoints.top_down`). ``vitpose:flip:FILE`` adds the flip test of the published figures.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from hmrkit.backbones.published import ImageNetNormalisation
from hmrkit.backbones.vit import COLUMNS, ROWS, ViT, vit_for
from hmrkit.errors import WeightsError
from hmrkit.keypoints.top_down import HeatmapNetwork, TopDownEstimator, fill, named_parts, words_of
from hmrkit.skeletons import COCO_17
from hmrkit.types import Camera
from hmrkit.weights import find_weights, load_state, verify

# Prefixes of the backbone and of the head: the authors', mmpose's since version 1.
LAYOUTS = (("backbone.", "keypoint_head."), ("backbone.", "head."))
LANDMARK = "pos_embed"
WIDTH = 256  # channels of the deconvolutions
# Names of mmpose 1 and the authors' names for the same.
_RENAMED = (
    (r"patch_embed\.projection\.", "patch_embed.proj."),
    (r"layers\.(\d+)\.ln(\d)\.", r"blocks.\1.norm\2."),
    (r"layers\.(\d+)\.attn\.", r"blocks.\1.attn."),
    (r"layers\.(\d+)\.ffn\.layers\.0\.0\.", r"blocks.\1.mlp.fc1."),
    (r"layers\.(\d+)\.ffn\.layers\.1\.", r"blocks.\1.mlp.fc2."),
    (r"ln1\.", "last_norm."),
)


class VitPose(HeatmapNetwork):
    """See `HeatmapNetwork`. `classic` says which of the two heads it has."""

    def __init__(self, backbone: ViT, classic: bool = True, flip: bool = False) -> None:
        super().__init__(unbiased=True, flip=flip)
        self.backbone = backbone
        channels = backbone.global_channels
        self.deconv_layers: nn.Module | None = None
        if classic:
            steps = [(channels, WIDTH), (WIDTH, WIDTH)]
            self.deconv_layers = nn.Sequential(*(layer for step in steps for layer in _doubling(*step)))
            self.final_layer = nn.Conv2d(WIDTH, len(COCO_17), 1)
        else:
            self.final_layer = nn.Conv2d(channels, len(COCO_17), 3, padding=1)

    def heatmaps(self, crops: Tensor) -> Tensor:
        features = self.backbone(crops).maps[0]
        if self.deconv_layers is not None:
            return self.final_layer(self.deconv_layers(features))
        return self.final_layer(functional.interpolate(features.relu(), scale_factor=4, mode="bilinear"))


def _doubling(inputs: int, outputs: int) -> list[nn.Module]:
    """Maps twice as fine."""
    return [nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]


def load(
    argument: str, *, device: torch.device, dtype: torch.dtype, camera: Camera | None, max_crops: int
) -> TopDownEstimator:
    """`argument` is a file, ``flip:`` ahead of it for the flip test. WeightsError where it is no published ViTPose."""
    words, file = words_of(argument, ("flip",))
    path = find_weights(file)
    network = published(load_state(path), path, "flip" in words).eval().requires_grad_(False).to(device)
    name = ":".join(("vitpose", *words, path.name))
    return TopDownEstimator(name, network, network.backbone.input_size, verify(path), device, dtype, max_crops)


def published(state: dict[str, Tensor], path: str | Path, flip: bool = False) -> VitPose:
    """The network of a checkpoint's tensors. WeightsError names what is missing or surplus."""
    parts = named_parts(state, LAYOUTS, LANDMARK, "a ViTPose", path)
    if any(".experts." in key for key in parts):
        raise WeightsError(f"{path}: wanted one ViTPose, found ViTPose+ of several data sets; split it by its authors' "
                           "tools/model_split.py and take the part for COCO")  # fmt: skip
    if any(key.startswith("backbone.layers.") for key in parts):
        parts = {_authors_name(key): value for key, value in parts.items()}
    position = parts["backbone.pos_embed"]
    patches = position.shape[1]
    if patches == ROWS * COLUMNS:
        # No class token: nothing is added to every patch.
        parts["backbone.pos_embed"] = functional.pad(position, (0, 0, 1, 0))
    elif patches != 1 + ROWS * COLUMNS:
        size = f"{ROWS * COLUMNS} patches, or {1 + ROWS * COLUMNS} with a class token"
        raise WeightsError(f"{path}: wanted a ViTPose of crops of 256 x 192 px ({size}), found one of {patches}")
    own = {key.removeprefix("backbone."): value for key, value in parts.items() if key.startswith("backbone.")}
    try:
        # Without memory of their own: the checkpoint's tensors take their places.
        with torch.device("meta"):
            network = VitPose(vit_for(own), "deconv_layers.0.weight" in parts, flip)
    except KeyError as error:
        raise WeightsError(f"{path} does not fit VitPose: 1 missing (backbone.{error.args[0]})") from error
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    network.backbone.normalise = ImageNetNormalisation()
    fill(network, parts, path, assign=True)
    return network


def _authors_name(key: str) -> str:
    """A tensor's name in mmpose 1 -> the authors'."""
    prefix, name = ("backbone.", key.removeprefix("backbone.")) if key.startswith("backbone.") else ("", key)
    for pattern, replacement in _RENAMED if prefix else ():
        name, count = re.subn(f"^{pattern}", replacement, name)
        if count:
            break
    return prefix + name
