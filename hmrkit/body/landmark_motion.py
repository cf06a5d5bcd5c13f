"""How landmarks and joints of posed bodies move with every joint's rotation, in closed form.

A rotation about a joint carries what hangs on it: a point's velocity is ``omega x lever``, its lever the part of
``sum_j R_j m_j + s_j p_j`` (see `hmrkit.body.landmarks`) that hangs on the joint, from the joint."""

from __future__ import annotations

import torch
from torch import Tensor

from hmrkit.body.landmarks import BodyLandmarks
from hmrkit.geometry import skew


class LandmarkMotion:
    """Of bodies of shapes `betas` (T,10): the L landmarks of `points` and the 24 joints, L + 24 points a frame."""

    def __init__(self, points: BodyLandmarks, betas: Tensor) -> None:
        share = points.share
        self._moments = points.moments(betas).permute(0, 2, 3, 1)  # (T,24,3,L)
        joints = points.rest_joints(betas)
        self._above = list(points.parents[1:])
        self._root, self._bones = joints[:, :1], joints[:, 1:] - joints[:, self._above]
        self._chain = points.chain
        self._share = torch.cat([share, torch.eye(24, dtype=share.dtype, device=share.device)]).T  # (24,L+24): a joint is its own place
        below = torch.cat([torch.ones_like(self._chain[:, :1]), self._chain], 1).T  # what hangs on each joint, itself too
        self._below = below
        self._carried = below @ self._share

    def __call__(self, world: Tensor, axes: Tensor) -> tuple[Tensor, Tensor]:
        """World rotations (T,24,3,3) and world axes (T,24,3,n) of each joint's n parameters (columns)
        -> points (T,3,L+24) m about the pelvis and their derivatives (T,24*n,3,L+24) by the parameters."""
        joints = self._root + self._chain @ (world[:, self._above] @ self._bones[..., None])[..., 0]
        terms = self._share[None, :, None] * joints[..., None]  # (T,24,3,L+24)
        terms[..., : self._moments.shape[-1]] += world @ self._moments
        sums = (self._below @ terms.flatten(2)).view_as(terms)
        levers = sums - self._carried[None, :, None] * joints[..., None]
        spin = skew(axes.mT)  # (T,24,n,3,3)
        moved = spin.flatten(2, 3) @ levers
        return sums[:, 0], moved.view(len(world), -1, 3, terms.shape[-1])
