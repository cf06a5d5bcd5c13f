"""Recipe of the pose prior: three mixtures fitted to the training split of the motion capture and its mirror image."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch import Tensor

from hmrkit.body.pose_prior import PosePrior, fit_mixture, group_vectors
from hmrkit.geometry import matrix_to_axis_angle
from hmrkit.skeletons import SMPL_24
from hmrkit.synthetic.mocap import Motion, load_motion
from hmrkit.weights import save_state

log = logging.getLogger(__name__)

STRIDE = 4  # frames: neighbouring ones tell the same
COMPONENTS = {"legs": 24, "trunk": 12, "arm": 24}
FLOOR_RAD = 0.1


def train_pose_prior(motion: str | Path, out: str | Path, components: dict[str, int] | None = None) -> Path:
    """Fit the prior to a motion file; returns ``out/gmm.safetensors``. About two minutes on two cores."""
    poses = body_poses(load_motion(motion, "train"), STRIDE)
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


def body_poses(motion: Motion, stride: int) -> Tensor:
    """Every `stride`-th pose as axis-angles (N,23,3)."""
    return matrix_to_axis_angle(torch.from_numpy(motion.local_rotations[::stride, 1:]).float())


def mirrored(body_pose: Tensor) -> Tensor:
    """Poses (N,23,3) with left and right exchanged."""
    order = [i - 1 for i in SMPL_24.mirror[1:]]
    return body_pose[:, order] * body_pose.new_tensor([1.0, -1, -1])


def discrimination(prior: PosePrior, motion: str | Path, noise_rad: float = 0.3, seed: int = 0) -> dict[str, float]:
    """On held-out clips: median energy of true and of disturbed poses, and how often the true one is lower."""
    poses = body_poses(load_motion(motion, "test"), 10)
    generator = torch.Generator().manual_seed(seed)
    noisy = poses + noise_rad * torch.randn(poses.shape, generator=generator)
    true, false = prior(poses), prior(noisy)
    return {
        "true": float(true.median()),
        "noisy": float(false.median()),
        "true_is_lower": float((true < false).float().mean()),
    }
