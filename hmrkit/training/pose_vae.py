"""HKMR's pose prior: a variational autoencoder of body poses, of which training keeps the encoder.

Source: Georgakis et al. 2020, section 3.2, "Pose prior"; after Pavlakos et al. 2019 (VPoser) and Kingma and Welling
2014. It learns from the poses that training draws; the paper's learned from MoSh."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from hmrkit.geometry import axis_angle_to_matrix, rotation_from_6d, rotation_to_6d
from hmrkit.synthetic.poses import PoseSampler
from hmrkit.training.loop import LoopConfig, fit

JOINTS = 23  # all but the global orientation
BATCH = 256
# Standard deviation of a reconstructed rotation matrix's entries.
RECONSTRUCTION_NOISE = 0.1
# Noise (rad, every axis of every joint) of poses that nobody takes, to measure the prior by.
WRONG_RAD = 0.3


class PoseVae(nn.Module):
    """`encode` takes a pose to a normal distribution over latent vectors, `decode` goes back.

    Poses are read in 6D, as the regressor has them: the paper's angle-axis vectors jump at 180 degrees.
    """

    def __init__(self, latent: int = 32, hidden: int = 256) -> None:
        super().__init__()
        self.encoder = _layers(JOINTS * 6, hidden, 2 * latent)
        self.decoder = _layers(latent, hidden, JOINTS * 6)

    def encode(self, body_pose: Tensor) -> tuple[Tensor, Tensor]:
        """Rotations (B,23,3,3) -> mean and log variance (B,latent) of the latent vector."""
        mean, log_variance = self.encoder(rotation_to_6d(body_pose, "columns").flatten(1)).chunk(2, 1)
        return mean, log_variance.clamp(-10, 10)

    def decode(self, latent: Tensor) -> Tensor:
        """Latent vectors (B,latent) -> rotations (B,23,3,3)."""
        return rotation_from_6d(self.decoder(latent).unflatten(1, (JOINTS, 6)), "columns")

    def divergence(self, body_pose: Tensor) -> Tensor:
        """L_KL = KL(Z || N(0, I)) (B,) of poses (B,23,3,3), nats.

        The variance widens on poses that the encoder does not know, which lowers it: how well it tells them from
        captured ones is measured in training (`train_pose_vae`), not assumed."""
        return normal_divergence(*self.encode(body_pose))


def normal_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL divergence of normal distributions (B,L) from the unit one: (B,)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)


@dataclass(frozen=True)
class VaeObjective:
    """What a step minimises: the negative evidence lower bound of poses that it draws."""

    poses: PoseSampler
    device: torch.device

    def __call__(self, model: nn.Module, generator: torch.Generator) -> Tensor:
        _, pose, _ = self.poses(BATCH, generator)
        pose = pose.to(self.device)
        mean, log_variance = model.encode(pose)  # type: ignore[operator]
        noise = torch.randn(mean.shape, generator=generator).to(self.device)
        made = model.decode(mean + (0.5 * log_variance).exp() * noise)  # type: ignore[operator]
        wrong = (made - pose).square().sum((1, 2, 3)).mean() / (2 * RECONSTRUCTION_NOISE**2)
        return wrong + normal_divergence(mean, log_variance).mean()


def train_pose_vae(config: LoopConfig, out: Path, device: torch.device, resume: bool = False) -> PoseVae:
    """A VAE of captured poses, frozen, on `device`. Its checkpoints lie in `out`."""
    objective = VaeObjective(PoseSampler("train", wobble=0.0), device)
    generator = torch.Generator().manual_seed(1)
    captured = PoseSampler("test")(1024, generator)[1]
    wrong = (captured @ axis_angle_to_matrix(WRONG_RAD * torch.randn(1024, JOINTS, 3, generator=generator))).to(device)
    captured = captured.to(device)

    @torch.no_grad()
    def evaluate(vae: nn.Module) -> dict[str, float]:
        """Of held-out poses: the rotation error after decoding the latent mean, degrees; the divergence, nats; in how
        many percent of them it is lower than with noise (50 is chance)."""
        made = vae.decode(vae.encode(captured)[0])  # type: ignore[operator]
        cosine = ((made * captured).sum((-1, -2)) - 1) / 2
        degrees = cosine.clamp(-1, 1).arccos().rad2deg().mean()
        right, noisy = vae.divergence(captured), vae.divergence(wrong)  # type: ignore[operator]
        lower = 100 * (right < noisy).float().mean()
        return {"degrees": float(degrees), "KL": float(right.mean()), "lower": float(lower)}

    vae = PoseVae().to(device)
    return fit(vae, objective, config, out, evaluate=evaluate, resume=resume)  # type: ignore[return-value]


def _layers(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.ELU(), nn.Linear(hidden, hidden), nn.ELU(), nn.Linear(hidden, outputs)
    )  # fmt: skip
