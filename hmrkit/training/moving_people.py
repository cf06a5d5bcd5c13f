"""People in motion to learn from: clips of synthetic landmarks without images, and short rendered clips.

Both draw a person, camera and surroundings with one seed for all frames of a clip and let time pass
(`hmrkit.synthetic.moving_poses`). In the crop's camera the person stays in the middle, as the chain's crops follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import torch

from hmrkit.backbones import Backbone
from hmrkit.backbones.embedded import PointEstimates
from hmrkit.body import Body
from hmrkit.regressors.crop_camera import CROP
from hmrkit.synthetic.cameras import TRAINING, Views, draw_views
from hmrkit.synthetic.images import Samples, SyntheticImages
from hmrkit.synthetic.mocap import Split
from hmrkit.synthetic.moving_poses import MovingPoses
from hmrkit.training.examples import Examples, Truth, with_mirrored
from hmrkit.training.kept_examples import make_examples
from hmrkit.training.keypoint_noise import REGION_ROWS, LandmarkNoise, posed_points, seen_by


class MovingLandmarks:
    """`hmrkit.training.keypoint_noise.NoisyLandmarks` of people in motion, each seen by one camera whose crop
    follows."""

    def __init__(self, body: Body, noise: LandmarkNoise, split: Split = "train") -> None:
        self.body, self.noise = body, noise
        self._poses = MovingPoses(split)

    @torch.no_grad()
    def __call__(self, clips: int, times: Sequence[float], generator: torch.Generator) -> tuple[PointEstimates, Truth]:
        """Clips of people at `times` s, one after the other: noisy landmarks and points, and the truth."""
        seed, frames = _seed(generator), len(times)
        local, betas = (value.to(self.body.device) for value in self._poses.clips(clips, times, seed))
        local, betas = local.flatten(0, 1), betas.repeat_interleave(frames, 0)
        points = posed_points(local[:, 0], local[:, 1:], betas, self.body)
        views = [
            draw_views(at[:, REGION_ROWS], at[:, 0], TRAINING, CROP, torch.Generator().manual_seed(seed))
            for at in points.unflatten(0, (clips, frames)).unbind(1)
        ]
        parts = zip(*(vars(view).values() for view in views), strict=True)
        whole = Views(*(torch.stack(values, 1).flatten(0, 1) for values in parts))
        true, truth = seen_by(whole, points, local[:, 0], local[:, 1:], betas)
        return self.noise.predict_moving(true, frames, generator), truth


def make_clips(
    folder: str | Path, count: int, times: Sequence[float], backbone: Backbone, device: torch.device
) -> None:
    """Fill `folder` with kept examples (`hmrkit.training.examples`) of `count` rendered clips of people at `times` s,
    one clip after the other. Twice the number of times must go into the examples made at once (32)."""
    poses = MovingPoses()

    def fresh(backbone: Backbone, images: SyntheticImages, batch: int, generator: torch.Generator) -> Examples:
        """The second half of the clips are the first ones mirrored."""
        clips, rest = divmod(batch, 2 * len(times))
        assert not rest, f"{len(times)} frames a clip, {batch} examples at once"
        seed, frames = _seed(generator), []
        for seconds in times:
            poses.seconds = seconds
            frames.append(images(clips, torch.Generator().manual_seed(seed)))
        names = (f.name for f in fields(Samples))
        samples = Samples(*(torch.stack([getattr(one, name) for one in frames], 1).flatten(0, 1) for name in names))
        return with_mirrored(backbone, samples)

    make_examples(
        folder, count * len(times), backbone, device, images=lambda: SyntheticImages(device=device, poses=poses),
        fresh=fresh,
    )  # fmt: skip


def _seed(generator: torch.Generator) -> int:
    return int(torch.randint(2**62, (), generator=generator))
