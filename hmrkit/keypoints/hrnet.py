"""Keypoints by HRNet's published checkpoints (Sun et al. 2019): ``hrnet:FILE``.

Files of the authors (``pose_hrnet_w32_256x192.pth``) and of mmpose (``hrnet_w48_coco_384x288-314c8528_20200708.pth``,
``td-hm_hrnet-w32_8xb64-210e_coco-256x192-81c58e40_20220909.pth``) have the same network under three layouts of keys.
HRNet takes crops of any size, so its tensors do not show for which one it was trained, nor whether with unbiased
data (UDP). Published files are named after both; a file of another name says it ahead: ``hrnet:384x288:udp:FILE``.
Without a word and in no name it is 256x192, read the first way of `hmrkit.keypoints.top_down`. ``hrnet:flip:FILE`` adds
the flip test of the published figures.
"""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch import Tensor, nn

from hmrkit.backbones.hrnet import HRNet
from hmrkit.backbones.published import ImageNetNormalisation
from hmrkit.errors import UsageError, WeightsError
from hmrkit.keypoints.top_down import HeatmapNetwork, TopDownEstimator, fill, named_parts, words_of
from hmrkit.skeletons import COCO_17
from hmrkit.types import Camera
from hmrkit.weights import find_weights, load_state, verify

log = logging.getLogger(__name__)

SIZES = {"256x192": (256, 192), "384x288": (384, 288)}  # H, W px
WORDS = (*SIZES, "udp", "flip")
# Prefixes of the backbone and of the head: the authors', mmpose's before and since version 1.
LAYOUTS = (("", ""), ("backbone.", "keypoint_head."), ("backbone.", "head."))
LANDMARK, _WIDTH_KEY = "stage4.2.fuse_layers.0.1.0.weight", "transition1.0.0.weight"


class HrnetPose(HeatmapNetwork):
    """See `HeatmapNetwork`. Heatmaps have a quarter of the crop's size."""

    def __init__(self, width: int, unbiased: bool = False, flip: bool = False) -> None:
        super().__init__(unbiased, flip)
        self.backbone = HRNet(width, head=False, coarse_outputs=False)
        self.final_layer = nn.Conv2d(width, len(COCO_17), 1)

    def heatmaps(self, crops: Tensor) -> Tensor:
        return self.final_layer(self.backbone(crops).maps[0])


def load(
    argument: str, *, device: torch.device, dtype: torch.dtype, camera: Camera | None, max_crops: int
) -> TopDownEstimator:
    """`argument` is a file, words of `WORDS` ahead of it. WeightsError where the file is not a published HRNet's."""
    words, file = words_of(argument, WORDS)
    path = find_weights(file)
    sizes = [size for size in SIZES if size in words] or [size for size in SIZES if size in path.name] or ["256x192"]
    if len(sizes) > 1:
        raise UsageError(f"keypoints hrnet: wanted one size of crops, found {' and '.join(sizes)}; name one: {WORDS}")
    unbiased = "udp" in words or "udp" in path.name
    network = published(load_state(path), path, unbiased, "flip" in words)
    log.info("%s: crops of %s px, %s", path, sizes[0], "unbiased (UDP)" if unbiased else "not unbiased (UDP)")
    name = ":".join(("hrnet", *sorted(words), path.name))
    network = network.eval().requires_grad_(False).to(device)
    return TopDownEstimator(name, network, SIZES[sizes[0]], verify(path), device, dtype, max_crops)


def published(state: dict[str, Tensor], path: str | Path, unbiased: bool = False, flip: bool = False) -> HrnetPose:
    """The network of a checkpoint's tensors. WeightsError names what is missing or surplus."""
    parts = named_parts(state, LAYOUTS, LANDMARK, "an HRNet", path)
    width = len(parts.get(f"backbone.{_WIDTH_KEY}", ()))
    if not width:
        raise WeightsError(f"{path} does not fit HrnetPose: 1 missing (backbone.{_WIDTH_KEY})")
    # Without memory of its own: the checkpoint's tensors take their places.
    with torch.device("meta"):
        network = HrnetPose(width, unbiased, flip)
    network.backbone.normalise = ImageNetNormalisation()
    fill(network, parts, path, assign=True)
    return network
