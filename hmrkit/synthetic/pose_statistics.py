"""How people stand in what is drawn for training, and from where they are seen: percentiles of angles, as numbers and
as a plot."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hmrkit.blazepose.network import CROP_SIZE
from hmrkit.body import load_body
from hmrkit.body.landmarks import body_landmarks, world_from_local
from hmrkit.crops import REGION_POINTS
from hmrkit.files import atomic_path
from hmrkit.skeletons import BLAZEPOSE_33, SMPL_24
from hmrkit.synthetic.cameras import Difficulty, draw_views
from hmrkit.synthetic.poses import PoseSampler

PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
# The angle at the middle joint between the bones on both sides of it; 0 where they are in line.
_JOINTS = {"knee": ("hip", "knee", "ankle"), "elbow": ("shoulder", "elbow", "wrist"), "hip": ("spine1", "hip", "knee")}


def pose_angles(local: Tensor) -> dict[str, Tensor]:
    """Angles (N or 2N,) in degrees of bodies with local rotations (N,24,3,3), the root's in a world with y up.

    Knees, elbows and hips of both sides by the places of their joints (T-pose: 9, 0 and the legs' own spread); the neck
    against the chest; trunk and head against the vertical.
    """
    world = world_from_local(local)
    _, joints = body_landmarks(load_body())(world, torch.zeros(10))
    at = dict(zip(SMPL_24.joints, joints.unbind(1), strict=True))
    angles = {}
    for name, chain in _JOINTS.items():
        sides = []
        for side in ("left", "right"):
            first, middle, last = (at.get(part, at.get(f"{side}_{part}")) for part in chain)
            assert first is not None
            assert middle is not None
            assert last is not None
            sides.append(_between(middle - first, last - middle))
        angles[name] = torch.cat(sides)
    chest, up = world[:, SMPL_24.index["spine3"]], torch.tensor([0.0, 1.0, 0.0])
    neck = (chest.mT @ world[:, SMPL_24.index["head"]])[..., 1]
    angles["neck"] = _between(neck, up.expand_as(neck))
    for name, joint in (("trunk", "spine3"), ("head", "head")):
        angles[name] = _between(world[:, SMPL_24.index[joint], :, 1], up.expand(len(world), 3))
    return angles


def camera_elevations(orient: Tensor, pose: Tensor, betas: Tensor, cameras: Difficulty, seed: int = 0) -> Tensor:
    """How far (N,) in degrees the cameras of N people look down at the pelvis."""
    body = load_body()
    local = torch.cat([orient[:, None], pose], 1)
    places, joints = body_landmarks(body)(world_from_local(local), betas)
    region = places[:, BLAZEPOSE_33.indices(*REGION_POINTS)]
    views = draw_views(region, joints[:, 0], cameras, CROP_SIZE, torch.Generator().manual_seed(seed))
    away = views.eye - joints[:, 0]
    return torch.rad2deg(torch.asin(away[:, 1] / away.norm(dim=-1)))


def pose_percentiles(
    sampler: PoseSampler, cameras: Difficulty, count: int = 20_000, seed: int = 0
) -> dict[str, list[float]]:
    """`PERCENTILES` of `pose_angles` and `camera_elevations` over people that a sampler draws, and ``both legs
    straight``: the percentage of people both of whose knees are within 3 degrees of the T-pose's."""
    orient, pose, betas = sampler(count, torch.Generator().manual_seed(seed))
    angles = pose_angles(torch.cat([orient[:, None], pose], 1))
    few = slice(0, 4096)
    angles["camera above"] = camera_elevations(orient[few], pose[few], betas[few], cameras, seed)
    found = {
        name: [round(float(v), 1) for v in np.percentile(values.numpy(), PERCENTILES)]
        for name, values in angles.items()
    }
    rest = pose_angles(torch.eye(3).repeat(1, 24, 1, 1))["knee"].max()
    straight = (angles["knee"].view(2, -1) < rest + 3).all(0).float().mean()
    return found | {"both legs straight": [round(100 * float(straight), 1)]}


def save_percentiles_png(of: Mapping[str, Mapping[str, list[float]]], path: Path) -> None:
    """Draw percentiles of several samplers (name -> `pose_percentiles`), one panel an angle."""
    from matplotlib.figure import Figure  # not pyplot: a figure needs no window and no global state

    names = [name for name, values in next(iter(of.values())).items() if len(values) == len(PERCENTILES)]
    figure = Figure(figsize=(14, 5.5), layout="constrained")
    panels = figure.subplots(2, 4).ravel()
    for panel in panels[len(names) :]:
        panel.set_axis_off()
    for panel, name in zip(panels, names, strict=False):
        for label, percentiles in of.items():
            panel.plot(PERCENTILES, percentiles[name], marker="o", markersize=4, label=label)
        panel.set(title=name, xlabel="percentile", ylabel="degrees")
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)


def _between(a: Tensor, b: Tensor) -> Tensor:
    """Angle (N,) in degrees between vectors (N,3)."""
    return torch.rad2deg(torch.atan2(torch.linalg.cross(a, b).norm(dim=-1), (a * b).sum(-1)))
