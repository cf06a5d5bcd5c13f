"""How likely a pose is: mixtures of Gaussians over joint rotations, learned from motion capture, as in SMPLify.

The body is split into groups whose joints move together (both legs, trunk and head, each arm), because half an hour of
motion cannot show every arm with every leg. A group's vector is its joints' axis-angles; the right arm is judged as
the left arm's mirror image. The energy is SMPLify's (Bogo et al. 2016, equation 6): the most likely component's alone,
which keeps its pull steady far from all poses.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from hmrkit.skeletons import SMPL_24
from hmrkit.weights import find_weights, load_state

WEIGHTS = "pose_prior/gmm.safetensors"
GROUPS: dict[str, tuple[str, ...]] = {
    "legs": tuple(f"{side}_{joint}" for side in ("left", "right") for joint in ("hip", "knee", "ankle")),
    "trunk": ("spine1", "spine2", "spine3", "neck", "head"),
    "arm": ("left_shoulder", "left_elbow", "left_wrist"),
}


@dataclass(frozen=True)
class Mixture:
    """`log_weights` (C), `means` (C,D), `precisions` (C,D,D): lower-triangular factors L with covariance^-1 = L L^T."""

    log_weights: Tensor
    means: Tensor
    precisions: Tensor
    inverse_covariances: Tensor = field(init=False)  # (C,D,D)
    lowest: Tensor = field(init=False)  # minus log density () at the likeliest point of all
    _factors: Tensor = field(init=False)  # (D,C*D): one product against all components' factors together
    _whitened_means: Tensor = field(init=False)
    _log_det: Tensor = field(init=False)

    def __post_init__(self) -> None:
        log_det = self.precisions.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        made = {
            "inverse_covariances": self.precisions @ self.precisions.mT,
            "lowest": (-log_det - self.log_weights).min(),
            "_factors": self.precisions.permute(1, 0, 2).flatten(1),
            "_whitened_means": torch.einsum("cd,cde->ce", self.means, self.precisions),
            "_log_det": log_det,
        }
        for name, value in made.items():
            object.__setattr__(self, name, value)

    def component_energies(self, values: Tensor) -> Tensor:
        """Minus log density of values (...,D) under each weighted component (...,C), up to one constant."""
        whitened = (values @ self._factors).unflatten(-1, self.means.shape) - self._whitened_means
        return 0.5 * (whitened**2).sum(-1) - self._log_det - self.log_weights

    def energy(self, values: Tensor) -> Tensor:
        """Energy (...) of values (...,D): the best component's, zero at the likeliest point of all."""
        return self.component_energies(values).min(-1).values - self.lowest


class PosePrior:
    """The three mixtures on one device. ``prior(axis_angles)`` is the energy of body poses."""

    def __init__(self, mixtures: dict[str, Mixture]) -> None:
        self.mixtures = mixtures
        # Which numbers of a flat pose make up each vector, and with what signs: (copies,D).
        places = group_vectors(torch.arange(1.0, 70).view(1, 23, 3))
        self._places = {
            name: ((places[name][0].abs().long() - 1).to(own.means.device), places[name][0].sign().to(own.means))
            for name, own in mixtures.items()
        }

    def __call__(self, body_pose: Tensor) -> Tensor:
        """Energy (T,) >= 0 of body poses (T,23,3) as axis-angles; a natural pose has about 15 to 25, noise hundreds."""
        return torch.stack([self.mixtures[name].energy(v).sum(1) for name, v in self._vectors(body_pose)]).sum(0)

    def _vectors(self, body_pose: Tensor) -> list[tuple[str, Tensor]]:
        """`group_vectors` of poses (T,23,3)."""
        return [(name, body_pose.flatten(1)[:, column] * sign) for name, (column, sign) in self._places.items()]

    def expanded(self, body_pose: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Energy (T,), gradient (T,69) and curvature (T,69,69) at body poses (T,23,3): the energy is quadratic about
        each pose, as long as the most likely components stay."""
        energy = body_pose.new_zeros(len(body_pose))
        gradient = body_pose.new_zeros(len(body_pose), 69)
        curvature = body_pose.new_zeros(len(body_pose), 69, 69)
        for name, values in self._vectors(body_pose):
            mixture, places = self.mixtures[name], zip(*self._places[name], strict=True)
            lowest, best = mixture.component_energies(values).min(-1)
            energy += (lowest - mixture.lowest).sum(1)
            for copy, (column, sign) in enumerate(places):
                component = best[:, copy]
                inverse = mixture.inverse_covariances[component]
                off = values[:, copy] - mixture.means[component]
                gradient[:, column] += sign * (inverse @ off[..., None])[..., 0]
                curvature[:, column[:, None], column] += sign[:, None] * sign * inverse
        return energy, gradient, curvature


def group_vectors(body_pose: Tensor) -> dict[str, Tensor]:
    """Vectors (T,copies,D) of each group of poses (T,23,3): one copy of legs and trunk, two arms."""

    def pick(names: tuple[str, ...], flip: bool = False) -> Tensor:
        joints = [SMPL_24.mirror[i] if flip else i for i in SMPL_24.indices(*names)]
        picked = body_pose[:, [i - 1 for i in joints]]
        return (picked * picked.new_tensor([1.0, -1, -1]) if flip else picked).flatten(1)

    both = {name: [pick(names)] + ([pick(names, flip=True)] if name == "arm" else []) for name, names in GROUPS.items()}
    return {name: torch.stack(copies, 1) for name, copies in both.items()}


def load_pose_prior(device: str | torch.device = "cpu") -> PosePrior:
    """The shipped prior (``weights/pose_prior/gmm.safetensors``); WeightsError where it is missing or damaged."""
    tensors = load_state(find_weights(WEIGHTS))
    parts = ("log_weights", "means", "precisions")
    loaded = {name: [tensors[f"{name}.{part}"].float().to(device) for part in parts] for name in GROUPS}
    return PosePrior({name: Mixture(*values) for name, values in loaded.items()})


def fit_mixture(
    values: Tensor, components: int, floor: float, rounds: int = 60, seed: int = 0
) -> tuple[Mixture, float]:
    """Expectation-maximisation on samples (N,D) -> the mixture and its mean energy on them.

    `floor` (radians) is added to every standard deviation, so that a joint that hardly moves in the samples may.
    """
    generator = torch.Generator().manual_seed(seed)
    count, size = values.shape
    means = values[torch.randperm(count, generator=generator)[:components]]
    eye = torch.eye(size, dtype=values.dtype)
    covariance = torch.cov(values.T) / 4 + floor**2 * eye
    mixture = _mixture(torch.full((components,), 1 / components), means, covariance.expand(components, size, size))
    for _ in range(rounds):
        share = torch.softmax(-mixture.component_energies(values), -1)
        weight = share.sum(0) + 1e-3
        means = share.T @ values / weight[:, None]
        second = torch.einsum("nc,nd,ne->cde", share, values, values) / weight[:, None, None]
        covariances = second - means[:, :, None] * means[:, None, :] + floor**2 * eye
        mixture = _mixture(weight / weight.sum(), means, covariances)
    return mixture, float(-torch.logsumexp(-mixture.component_energies(values), -1).mean())


def _mixture(weights: Tensor, means: Tensor, covariances: Tensor) -> Mixture:
    # covariance^-1 = L L^T with L lower triangular, from the covariance's own Cholesky factor.
    inverse = torch.linalg.inv(covariances)
    return Mixture(weights.log(), means, torch.linalg.cholesky((inverse + inverse.mT) / 2))
