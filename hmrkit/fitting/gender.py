"""Which of the free bodies, neutral, male or female, explains a person's silhouettes best.

Each body gets the same poses and the shape that fits best (`hmrkit.fitting.shape`). The cost of what remains, prior on
betas included, is minus twice the logarithm of how likely that body is, up to a constant (MacKay 2003, chapter 28).
Errors of the poses and clothes make outlines miss by more than their noise; they hit all bodies alike, so costs are
divided by how far the best body misses. Only a body of which that is sure enough replaces the mesh stream's own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from hmrkit.body import Body
from hmrkit.body.files import GENDERS
from hmrkit.body.posing import body_for, free_body
from hmrkit.fitting.bone_lengths import BoneLengths
from hmrkit.fitting.masks import PersonMasks
from hmrkit.fitting.shape import fit_silhouettes, with_betas
from hmrkit.types import BodyParams, Camera

# Sum of squares of the outlines of clothed bodies in their exact poses: about the median over 24 synthetic people.
CLEAN_MISFIT = 30.0
LEAST_PROBABILITY = 0.5


class FreeBodies:
    """The hashes of the bodies that are compared, for provenance; `free_body` keeps the bodies themselves."""

    def __init__(self, device: torch.device) -> None:
        bodies = [free_body(gender, device, torch.float32) for gender in GENDERS]
        self.weights_sha256 = " ".join(body.weights_sha256 for body in bodies)


@dataclass(frozen=True)
class GenderFit:
    """A person on the body chosen for them, and the probability (3,) of each body in the order of `GENDERS`."""

    params: BodyParams
    probabilities: np.ndarray


def fit_gender(
    params: BodyParams, masks: PersonMasks, body: Body, camera: Camera, bones: BoneLengths | None = None
) -> GenderFit:
    """Shape and gender of a person whose poses are given on the free `body`.

    Betas are those of `fit_silhouettes`. Where no mask is theirs, the person stays as they are, with all bodies alike
    probable.
    """
    fits = []
    for gender in GENDERS:
        other = free_body(gender, body.device, body.dtype)
        start = with_betas(params, nearest_betas(params, body, other), camera, other)
        fit = fit_silhouettes(start, masks, other, bones)
        fits.append((fit, start, other))
    probabilities = gender_probabilities(*(np.array([getattr(f[0], key) for f in fits]) for key in ("misfit", "cost")))
    best = int(probabilities.argmax())
    sure = probabilities[best] >= LEAST_PROBABILITY
    fit, start, other = fits[best if sure else GENDERS.index(params.gender)]
    return GenderFit(with_betas(start, fit.betas, camera, other), probabilities)


def gender_probabilities(misfit: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """Probabilities (3,) of bodies whose outlines miss by `misfit` (3,) and that cost `cost` (3,) in all."""
    if not np.isfinite(cost).all():
        return np.full(len(cost), 1 / len(cost), np.float32)
    excess = max(1.0, float(misfit[cost.argmin()]) / CLEAN_MISFIT)
    likely = np.exp(-(cost - cost.min()) / (2 * excess))
    return (likely / likely.sum()).astype(np.float32)


def nearest_betas(params: BodyParams, body: Body, other: Body) -> np.ndarray:
    """Betas (10,) that bring the T-pose of `other` nearest to the person's on their own body (least squares)."""
    own = body_for(params, body)
    if own.model_id == other.model_id:
        return params.betas[:10]
    with torch.no_grad():
        shapes = torch.cat([torch.zeros(1, 10), torch.eye(10)]).to(other.device, other.dtype)
        made = other(betas=shapes).vertices.double().flatten(1)
        wanted = own(betas=params.betas[:10]).vertices.double().flatten()
        slopes = (made[1:] - made[:1]).T
        betas = torch.linalg.solve(slopes.T @ slopes, slopes.T @ (wanted - made[0]))
    return betas.clamp(-3, 3).float().cpu().numpy()
