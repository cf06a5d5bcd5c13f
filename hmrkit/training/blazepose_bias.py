"""Measure BlazePose's constant error between the body's sides: the table in `hmrkit.blazepose.side_bias`.

    python -m hmrkit.training.blazepose_bias

An image and its mirror image show mirrored people. Half of the difference between the predictions for both is the
network's own error. The table has its median over synthetic images in which the person is well visible. No ground truth
is needed.
"""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from hmrkit.blazepose.network import BlazePoseOutput, load_network
from hmrkit.blazepose.side_bias import OTHER_SIDE, flipped_back
from hmrkit.skeletons import BLAZEPOSE_33
from hmrkit.synthetic.images import SyntheticImages

log = logging.getLogger(__name__)

IMAGES, VISIBLE = 2048, 0.8
_BODY = len(BLAZEPOSE_33)


def one_sided(straight: BlazePoseOutput, mirrored: BlazePoseOutput) -> Tensor:
    """Half of the difference (B,33,5) between the predictions for crops and for their mirror images: px x, y, world x,
    y, z mm."""
    return (_numbers(straight) - _numbers(flipped_back(mirrored))) / 2


def measure(count: int = IMAGES, seed: int = 0) -> Tensor:
    """Medians (33,5) over `count` synthetic images: px x, y, world x, y, z mm. The sides agree by construction."""
    network, images, found = load_network(), SyntheticImages("train"), []
    generator = torch.Generator().manual_seed(seed)
    with torch.inference_mode():
        for _ in range(-(-count // 32)):
            crops = images(32, generator).images
            straight, mirrored = (network(image.contiguous()) for image in (crops, crops.flip(-1)))
            visible = straight.landmarks[:, :_BODY, 3].sigmoid().mean(1) > VISIBLE
            found.append(one_sided(straight, mirrored)[visible])
    median = torch.cat(found).median(0).values
    other = median[list(BLAZEPOSE_33.mirror)] * median.new_tensor(OTHER_SIDE)
    return (median + other) / 2


def _numbers(output: BlazePoseOutput) -> Tensor:
    return torch.cat([output.landmarks[:, :_BODY, :2], 1000 * output.world[:, :_BODY]], -1)


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for name, row in zip(BLAZEPOSE_33.joints, measure().tolist(), strict=True):
        if not name.startswith("right_"):
            px, mm = (f"{round(v, 1) + 0.0:.1f}" for v in row[:2]), (str(round(v)) for v in row[2:])
            log.info('    "%s": (%s),', name, ", ".join([*px, *mm]))


if __name__ == "__main__":
    main()
