"""The designs of PC-HMR's calibration that the paper compares (Luan et al. 2021, section 4.2 and table 3).

Each is a `CalibrationWeights`, so that whatever calibrates a mesh takes any of them: without the non-rigid term, W is
0; without fine-tuning, A and W are geometry's; PC-Template calibrates the mean body at rest. Extra self-rotation and
shape compensation are networks of two layers that read Theta, the mesh stream's pose and shape, and Psi, the
calibration's rotations. Both are read in the person's own axes, where they do not depend on the camera.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from hmrkit.body import Body
from hmrkit.body.model import BodyOutput
from hmrkit.calibration.bones import (
    CalibrationWeights,
    bone_transforms,
    calibrate,
    geometric_calibration,
    load_calibration,
)
from hmrkit.geometry import axis_angle_to_matrix, rigid_align
from hmrkit.skeletons import SMPL_24
from hmrkit.types import BodyParams

_TRUNK = SMPL_24.indices("pelvis", "left_hip", "right_hip", "spine2", "neck", "left_shoulder", "right_shoulder")
_BONES = 23


def load_variant(body: Body, learned: bool = True, rigid: bool = False, template: bool = False) -> CalibrationWeights:
    """A and W of `body`: `learned` ones or geometry's, `rigid` with W = 0, `template` for the mean body's mesh."""
    weights = load_calibration(body) if learned else geometric_calibration(body)
    if rigid:
        weights = replace(weights, place=torch.zeros_like(weights.place))
    return replace(weights, template=template)


def start_of(body: Body, params: BodyParams, joints_c: np.ndarray, weights: CalibrationWeights) -> BodyParams:
    """The bodies whose meshes are calibrated to `joints_c` (T,24,3) m: the mesh stream's `params`, or the template.

    The template is the mean body at rest, its trunk laid rigidly onto the target's in each frame.
    """
    if not weights.template:
        return params
    betas = torch.zeros(10, dtype=body.dtype, device=body.device)
    rest = body.joints_only(betas=betas).joints[:, _TRUNK]
    target = torch.as_tensor(joints_c, dtype=body.dtype, device=body.device)[:, _TRUNK]
    rotation, _, _ = rigid_align(rest - rest[:, :1], target - target[:, :1])
    # A body rotates about its pelvis, which stands where the rest pose has it.
    place = target[:, 0] - rest[:, 0]
    return replace(
        params,
        global_orient=rotation.cpu().numpy().astype(np.float32),
        body_pose=np.broadcast_to(np.eye(3, dtype=np.float32), params.body_pose.shape).copy(),
        betas=np.zeros_like(params.betas),
        transl_c=place.cpu().numpy().astype(np.float32),
    )


class CalibrationNetwork(nn.Module):
    """Two layers from Theta and Psi to `outputs` numbers for each bone, all 0 before training.

    Called with a posed `mesh` of B bodies, the `pose` (B,23,3,3) and `betas` (B,10) that made it, the `target` joints
    (B,24,3) m and A and W, it gives calibrated vertices (B,V,3) m in the frame of mesh and target. Differentiable.
    """

    outputs: int

    def __init__(self, hidden: int = 256) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2 * 9 * _BONES + 10, hidden), nn.ReLU(), nn.Linear(hidden, _BONES * self.outputs)
        )
        for parameter in self.layers[-1].parameters():
            nn.init.zeros_(parameter)

    def estimate(self, mesh: BodyOutput, pose: Tensor, betas: Tensor, target: Tensor) -> Tensor:
        """(B,23,`outputs`) from Theta and Psi."""
        psi, _, _ = bone_transforms(mesh.joints - mesh.joints[:, :1], target - target[:, :1], SMPL_24.parents, "chain")
        facing = mesh.joint_rotations[:, :1]
        own = facing.mT @ psi @ facing
        seen = torch.cat([pose.flatten(1), betas, own.flatten(1)], -1)
        return self.layers(seen).unflatten(-1, (_BONES, self.outputs))

    def forward(
        self, mesh: BodyOutput, pose: Tensor, betas: Tensor, target: Tensor, weights: CalibrationWeights
    ) -> Tensor:
        raise NotImplementedError


class SelfRotation(CalibrationNetwork):
    """Extra self-rotation: how far each bone rotates about its own axis, after equation 7."""

    outputs = 1

    def forward(
        self, mesh: BodyOutput, pose: Tensor, betas: Tensor, target: Tensor, weights: CalibrationWeights
    ) -> Tensor:
        angles = self.estimate(mesh, pose, betas, target)[..., 0]
        return calibrate(mesh.vertices, mesh.joints, target, weights, self_rotation=angles)


class ShapeCompensation(CalibrationNetwork):
    """Shape compensation: rotations of the 23 joints, through the body's pose blend shapes, as offsets of the mesh.

    Equation 12 is linear in the vertices, so that offsets may be added before it.
    """

    outputs = 3

    def __init__(self, body: Body, hidden: int = 256) -> None:
        super().__init__(hidden)
        self.register_buffer("shapes", body.pose_shapes().flatten(1), persistent=False)
        self.register_buffer("skinning", body.weights, persistent=False)

    def forward(
        self, mesh: BodyOutput, pose: Tensor, betas: Tensor, target: Tensor, weights: CalibrationWeights
    ) -> Tensor:
        rotations = axis_angle_to_matrix(self.estimate(mesh, pose, betas, target))
        corrections = (rotations - torch.eye(3, dtype=rotations.dtype, device=rotations.device)).flatten(1)
        offsets = (corrections @ self.get_buffer("shapes")).unflatten(-1, (-1, 3))
        skinned = (self.get_buffer("skinning") @ mesh.joint_rotations.flatten(2)).unflatten(-1, (3, 3))
        posed = (skinned @ offsets[..., None]).squeeze(-1)
        return calibrate(mesh.vertices + posed, mesh.joints, target, weights)
