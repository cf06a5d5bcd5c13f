"""How landmarks and joints of posed bodies move with every joint's rotation, in closed form.

A rotation about a joint carries what hangs on it: a point's velocity is ``omega x lever``, its lever the part of
``sum_j R_j m_j + s_j p_j`` (see `hmrkit.body.landmarks`) that hangs on the joint, from the joint."""

from __future__ import annotations

import torch
from torch import Tensor

from hmrkit.body.landmarks import BodyLandmarks
from hmrkit.geometry import skew


class LandmarkMotion:
    """Of bodies of shapes `betas` (T,10): the L landmarks of `points` and the 24 joints, N = L + 24 points a frame."""

    def __init__(self, points: BodyLandmarks, betas: Tensor) -> None:
        share, chain, joints = points.share, points.chain, points.rest_joints(betas)
        self._moments = points.moments(betas).permute(0, 2, 3, 1).contiguous()  # (T,24,3,L)
        self.above = torch.tensor(points.parents[1:], device=chain.device)  # the joint above each but the root
        self._chain, self._root = chain, joints[:, :1]
        self._bones = joints[:, 1:] - joints[:, self.above]
        self._share = torch.cat([share.T, torch.eye(24, dtype=share.dtype, device=share.device)], 1)  # (24,N)
        self._below = torch.cat([torch.ones_like(chain[:, :1]), chain], 1).T  # what hangs on each joint, itself too
        self._carried = (self._below @ self._share)[None, :, None]

    def __call__(self, world: Tensor) -> tuple[Tensor, Tensor]:
        """World rotations (T,24,3,3) -> points (T,3,N) m about the pelvis, and their levers (T,24,3,N) m about each
        joint."""
        joints = self._root + self._chain @ (world[:, self.above] @ self._bones[..., None])[..., 0]
        terms = self._share[None, :, None] * joints[..., None]
        terms[..., : self._moments.shape[-1]] += world @ self._moments
        sums = (self._below @ terms.flatten(2)).view_as(terms)
        return sums[:, 0], sums - self._carried * joints[..., None]


def point_derivatives(levers: Tensor, axes: Tensor) -> Tensor:
    """Derivatives (T,J*n,3,N) m of points by the n parameters of each joint, whose world axes (T,J,3,n) are columns."""
    moved = skew(axes.mT).flatten(2, 3) @ levers  # (T,J,3n,N)
    return moved.view(len(levers), -1, 3, levers.shape[-1])
