"""Recipe of the pose prior: three mixtures fitted to the poses that training draws, and their mirror images."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch import Tensor

from hmrkit.body.pose_prior import PosePrior, fit_mixture, group_vectors
from hmrkit.geometry import matrix_to_axis_angle
from hmrkit.skeletons import SMPL_24
from hmrkit.synthetic.poses import PoseSampler
from hmrkit.weights import save_state

log = logging.getLogger(__name__)

COUNT, HELD_OUT_COUNT = 21_668, 1_600
COMPONENTS = {"legs": 24, "trunk": 12, "arm": 24}
FLOOR_RAD = 0.1


def train_pose_prior(out: str | Path, count: int = COUNT, components: dict[str, int] | None = None) -> Path:
    """Fit the prior to `count` poses of `PoseSampler`, people who stand about among them; returns
    ``out/gmm.safetensors``. About a minute on one core."""
    poses = body_poses(PoseSampler("train", wobble=0.0), count, seed=0)
    tensors: dict[str, Tensor] = {}
    for name, values in group_vectors(torch.cat([poses, mirrored(poses)])).items():
        samples = values.flatten(0, 1).double()
        mixture, energy = fit_mixture(samples, (components or COMPONENTS)[name], FLOOR_RAD)
        log.info("%s: %d samples, mean energy %.2f", name, len(samples), energy)
        for part in ("log_weights", "means", "precisions"):
            tensors[f"{name}.{part}"] = getattr(mixture, part).float().contiguous()
    path = Path(out) / "gmm.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_state(tensors, path)
    return path


def body_poses(sampler: PoseSampler, count: int, seed: int) -> Tensor:
    """Drawn poses as axis-angles (N,23,3)."""
    return matrix_to_axis_angle(sampler(count, torch.Generator().manual_seed(seed))[1].float())


def mirrored(body_pose: Tensor) -> Tensor:
    """Poses (N,23,3) with left and right exchanged."""
    order = [i - 1 for i in SMPL_24.mirror[1:]]
    return body_pose[:, order] * body_pose.new_tensor([1.0, -1, -1])


def discrimination(prior: PosePrior, sampler: PoseSampler, noise_rad: float = 0.3, seed: int = 1) -> dict[str, float]:
    """On poses of a sampler of held-out people: median energy of true and of disturbed ones, and how often the true one
    is lower."""
    poses = body_poses(sampler, HELD_OUT_COUNT, seed)
    generator = torch.Generator().manual_seed(seed)
    noisy = poses + noise_rad * torch.randn(poses.shape, generator=generator)
    true, false = prior(poses), prior(noisy)
    return {
        "true": float(true.median()),
        "noisy": float(false.median()),
        "true_is_lower": float((true < false).float().mean()),
    }
