"""Learning PC-HMR's A and W (Luan et al. 2021, equations 12-13 and "Implementation details").

The start is geometry. Stage ``alone`` calibrates estimated meshes onto true joints and compares with the true meshes.
Stage ``together`` takes the joints that a lifter makes of noisy 2D keypoints (`hmrkit.training.calibration_lifted`) and
trains the lifter as well, a hundred times slower, as the paper does.

Mesh supervision alone would let a vertex follow any bone that helps on average. So a vertex follows only the bones that
it follows by geometry and those that share a joint with them, and regularisers keep A near the bones and A and W smooth
over the surface. Both sides of the body learn alike.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from hmrkit.body import Body
from hmrkit.calibration import CalibrationWeights, calibrate, geometric_calibration
from hmrkit.skeletons import SMPL_24
from hmrkit.training.calibration_samples import Pairs
from hmrkit.training.losses import mean_length

# What bones that a vertex does not follow by geometry begin with, and how far from 0 and 1 W begins (sigmoids end
# there, and their slope with them).
_SEED_SHARE, _PLACE_MARGIN = 2e-3, 0.02
# Target joints of stage alone are a little wrong (m, each axis), so that nothing hangs on exact ones.
TARGET_NOISE_M = 0.01
# Of the regularisers, beside the vertices' mean error in m: distance from the bones (m), differences of the learned
# change between neighbours on the surface, and the change itself.
LOCALITY, SMOOTHNESS, NEARNESS = 0.02, 0.3, 0.003


class LearnedWeights(nn.Module):
    """A and W of one body as parameters; calling it gives them, (V,23) each, rows of A summing to 1."""

    support: Tensor

    def __init__(self, body: Body) -> None:
        super().__init__()
        start = geometric_calibration(body)
        self.model_id = start.model_id
        own = (start.attachment > _SEED_SHARE).to(start.attachment)
        self.register_buffer("support", own @ _neighbours().to(own) > 0)
        self.shares = nn.Parameter(start.attachment.clamp_min(_SEED_SHARE).log())
        self.places = nn.Parameter(start.place.clamp(_PLACE_MARGIN, 1 - _PLACE_MARGIN).logit())
        self._mirror = None if body.vertex_mirror is None else torch.as_tensor(body.vertex_mirror)

    def forward(self) -> CalibrationWeights:
        attachment = torch.where(self.support, self.shares, -torch.inf).softmax(-1)
        return CalibrationWeights(self._both_sides(attachment), self._both_sides(self.places.sigmoid()), self.model_id)

    def _both_sides(self, values: Tensor) -> Tensor:
        if self._mirror is None:
            return values
        bones = [joint - 1 for joint in SMPL_24.mirror[1:]]
        return (values + values[self._mirror.to(values.device)][:, bones]) / 2


def _neighbours() -> Tensor:
    """(23,23): 1 where two bones are the same or share a joint."""
    ends = [{child, parent} for child, parent in enumerate(SMPL_24.parents) if child]
    return torch.tensor([[float(bool(a & b)) for b in ends] for a in ends])


class Regularisers:
    """What A and W of one body cost beside their errors (m)."""

    def __init__(self, body: Body) -> None:
        self.start = geometric_calibration(body)
        joints = body.joints_only().joints[0]
        above = list(SMPL_24.parents[1:])
        bone, offset = joints[1:] - joints[above], body.v_template[:, None] - joints[above]
        along = ((offset * bone).sum(-1) / (bone * bone).sum(-1)).clamp(0, 1)
        self.distance = (offset - along[..., None] * bone).norm(dim=-1)  # (V,23) from the bone's line
        faces = torch.as_tensor(body.faces, dtype=torch.long, device=body.device)
        edges = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).sort(-1).values
        self.edges = edges.unique(dim=0)

    def __call__(self, weights: CalibrationWeights) -> Tensor:
        """A's distance from its bones; the Laplacian energy and the size of the change of A and of A W."""
        stretch, begun = weights.attachment * weights.place, self.start.attachment * self.start.place
        change = torch.cat([weights.attachment - self.start.attachment, stretch - begun], 1)
        steps = change[self.edges[:, 0]] - change[self.edges[:, 1]]
        locality = (weights.attachment * self.distance).sum(-1).mean()
        smoothness, nearness = (x.square().sum(-1).mean() for x in (steps, change))
        return LOCALITY * locality + SMOOTHNESS * smoothness + NEARNESS * nearness


def mesh_error(weights: CalibrationWeights, pairs: Pairs, body: Body, noise: Tensor | float = 0.0) -> Tensor:
    """Mean distance (m) between true vertices and estimated ones calibrated onto the true joints plus `noise`."""
    with torch.no_grad():
        vertices, joints = pairs.estimated.posed(body)
        true_vertices, true_joints = pairs.true.posed(body)
    return mean_length(calibrate(vertices, joints, true_joints + noise, weights) - true_vertices)


def rigid(weights: CalibrationWeights) -> CalibrationWeights:
    """The same without the non-rigid term (table 3, "w/o Non-Rigid")."""
    return replace(weights, place=torch.zeros_like(weights.place))
