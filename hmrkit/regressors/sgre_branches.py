"""SGRE's sequential step: the joints' rotations along the kinematic tree, all joints of one depth together.

Source: Wang and Zhang 2023, 3D human mesh recovery with sequentially global rotation estimation, eq. 11.
"""

from __future__ import annotations

from itertools import groupby
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from hmrkit.geometry import rotation_to_6d
from hmrkit.skeletons import SMPL_24

JOINTS = len(SMPL_24)


def levels_of(parents: tuple[int, ...]) -> tuple[slice, ...]:
    """Joints of each depth of a tree whose joints are in the order of their depth, the root first."""
    depths = [0] * len(parents)
    for joint, parent in enumerate(parents):
        depths[joint] = depths[parent] + 1 if parent >= 0 else 0
    assert depths == sorted(depths), "the joints of one depth must stand together"
    found = [[joint for joint, _ in group] for _, group in groupby(enumerate(depths), lambda pair: pair[1])]
    return tuple(slice(joints[0], joints[-1] + 1) for joints in found)


class GroupedLinear(nn.Module):
    """A linear layer of its own for each of G groups: (G,B,inputs) -> (G,B,outputs) as one batched product."""

    def __init__(self, groups: int, inputs: int, outputs: int, gain: float = 1.0) -> None:
        super().__init__()
        # The range of `nn.Linear`.
        bound = inputs**-0.5
        self.weight = nn.Parameter(gain * torch.empty(groups, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(gain * torch.empty(groups, 1, outputs).uniform_(-bound, bound))

    def forward(self, x: Tensor, groups: slice = slice(None)) -> Tensor:
        """`x` holds the inputs of some `groups` only."""
        return torch.baddbmm(self.bias[groups], x, self.weight[groups])


class JointBranches(nn.Module):
    """Feature (B,C) and local features (24,B,L) -> 6D rotations (B,24,6), interleaved; one small network a joint.

    Rotations are ``global`` (in the camera) or ``relative`` (to the parent). `sequential`: a joint's branch reads the
    rotation of its parent. Global rotations then are the parent's plus a residual (eq. 11). Without, and for relative
    rotations, the residual is added to the rest pose of a body that faces the camera. The root's parent is that pose.

    A branch's first layer is a sum over what it reads. All of it but the parent's part is one product for all joints;
    only what depends on the parent waits for it.
    """

    rest: Tensor

    def __init__(
        self, channels: int, local: int, width: int, rotations: Literal["global", "relative"], sequential: bool
    ) -> None:
        super().__init__()
        self.width, self.sequential = width, sequential
        self.levels = levels_of(SMPL_24.parents) if sequential else (slice(0, JOINTS),)
        self.adds_to_parent = sequential and rotations == "global"
        self.from_global = nn.Linear(channels, JOINTS * width)
        self.from_local = GroupedLinear(JOINTS, local, width) if local else None
        self.from_parent = GroupedLinear(JOINTS, 6, width)
        self.middle = GroupedLinear(JOINTS, width, width)
        self.out = GroupedLinear(JOINTS, width, 6, gain=0.1)
        # The body's y points up, the camera's down.
        rest = torch.diag(torch.tensor([1.0, -1.0, -1.0])).repeat(JOINTS, 1, 1)
        if rotations == "relative":
            rest[1:] = torch.eye(3)
        self.register_buffer("rest", rotation_to_6d(rest, "interleaved")[:, None], persistent=False)

    def forward(self, feature: Tensor, local: Tensor | None = None) -> Tensor:
        return self.along_the_tree(self.visual(feature, local))

    def visual(self, feature: Tensor, local: Tensor | None) -> Tensor:
        """What the first layers make of ``F_k = {f_g, f_k}`` (eq. 12): (24,B,width). No `local` adds nothing."""
        hidden = self.from_global(feature).unflatten(1, (JOINTS, self.width)).transpose(0, 1)
        return hidden if local is None or self.from_local is None else hidden + self.from_local(local)

    def along_the_tree(self, visual: Tensor) -> Tensor:
        """The sequential step: `visual` (24,B,width) -> (B,24,6)."""
        found: list[Tensor] = []
        for level in self.levels:
            rest = self.rest[level].expand(-1, visual.shape[1], -1)
            above = torch.stack([found[k] for k in SMPL_24.parents[level]]) if found else rest
            hidden = functional.relu(visual[level] + self.from_parent(above, level))
            residual = self.out(functional.relu(self.middle(hidden, level)), level).float()
            found += (residual + (above if self.adds_to_parent else rest)).unbind()  # eq. 11
        return torch.stack(found, 1)
