"""Iterative error feedback (Kanazawa et al. 2018, section 3.2): parameters corrected three times from one feature."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from hmrkit.geometry import rotation_from_6d, rotation_to_6d
from hmrkit.regressors import BodyEstimate

POSE, SHAPE, CAMERA = 24 * 6, 10, 3
# Standing before the camera: the body's y points up, the camera's down.
STANDING = (1.0, -1.0, -1.0)


class IefHead(nn.Module):
    """Feature (B,C) -> `BodyEstimate`. Key names and 6D layout (interleaved) are those of SPIN's checkpoint.

    `activate` puts ReLUs between the layers, as HMR has them; SPIN's published network has none. `dropout` is
    0.5 in both; on a backbone that hardly moves that keeps the network from fitting even its training images.
    `init_pose` (P,) says where a pose of other parameters begins; such a head is asked for its `feedback` alone.
    """

    init_pose: Tensor
    init_shape: Tensor
    init_cam: Tensor

    def __init__(
        self,
        channels: int,
        hidden: int = 1024,
        iterations: int = 3,
        activate: bool = True,
        dropout: float = 0.05,
        init_pose: Tensor | None = None,
    ) -> None:
        super().__init__()
        init_pose = standing_pose() if init_pose is None else init_pose
        self.fc1 = nn.Linear(channels + len(init_pose) + SHAPE + CAMERA, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.decpose = nn.Linear(hidden, len(init_pose))
        self.decshape = nn.Linear(hidden, SHAPE)
        self.deccam = nn.Linear(hidden, CAMERA)
        self.drop = nn.Dropout(dropout)
        self.iterations, self.activate = iterations, activate
        for layer in (self.decpose, self.decshape, self.deccam):
            nn.init.xavier_uniform_(layer.weight, gain=0.01)
        self.register_buffer("init_pose", init_pose[None])
        self.register_buffer("init_shape", torch.zeros(1, SHAPE))
        self.register_buffer("init_cam", torch.tensor([[0.9, 0.0, 0.0]]))

    def forward(self, feature: Tensor) -> BodyEstimate:
        pose, shape, camera = self.feedback(feature)
        rotations = rotation_from_6d(pose.float().view(-1, 24, 6), "interleaved")
        return BodyEstimate(rotations[:, 0], rotations[:, 1:], shape.float(), camera.float())

    def feedback(self, feature: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Feature (B,C) -> pose (B,P), betas (B,10) and crop camera (B,3)."""
        batch = len(feature)
        pose, shape, camera = (b.expand(batch, -1) for b in (self.init_pose, self.init_shape, self.init_cam))
        for _ in range(self.iterations):
            hidden = self.drop(self._activated(self.fc1(torch.cat([feature, pose, shape, camera], 1))))
            hidden = self.drop(self._activated(self.fc2(hidden)))
            pose = pose + self.decpose(hidden)
            shape = shape + self.decshape(hidden)
            camera = camera + self.deccam(hidden)
        return pose, shape, camera

    def _activated(self, x: Tensor) -> Tensor:
        return functional.relu(x) if self.activate else x


def standing_pose() -> Tensor:
    """Standing before the camera, limbs at rest, as 6D (144,)."""
    rest = torch.eye(3).repeat(24, 1, 1)
    rest[0] = torch.diag(torch.tensor(STANDING))
    return rotation_to_6d(rest, "interleaved").flatten()
