"""Where on the body a pixel lies: 24 parts, each with its own coordinates, as DensePose and DaNet use them.

DensePose's charts are made for SMPL's vertices and not free. Here a part is what one joint moves most, and its chart a
cylinder about the bone: U goes round it (the seam is at the back, under the foot for feet), V along it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from hmrkit.body import Body


@dataclass(frozen=True)
class Charts:
    """`part` (F,) 1..24 (SMPL joint + 1) of each face, `uv` (F,3,2) of its corners; U may exceed 1 where a face crosses
    the seam, so take ``% 1`` after interpolation."""

    part: Tensor
    uv: Tensor

    def at(self, face: Tensor, barycentrics: Tensor) -> Tensor:
        """Part, U and V (P,3) of points on faces (P,) with barycentrics (P,3)."""
        u, v = (self.uv[face] * barycentrics[..., None]).sum(1).unbind(-1)
        return torch.stack([self.part[face].to(u.dtype), u % 1, v.clamp(0, 1)], -1)


def body_charts(body: Body) -> Charts:
    """The charts of a body, from its skinning weights and rest pose."""
    faces = torch.as_tensor(body.faces, device=body.device).long()
    part = body.weights[faces].sum(1).argmax(-1)
    rest = body()
    vertices, joints = rest.vertices[0], rest.joints[0]
    uv = vertices.new_zeros(len(faces), 3, 2)
    for joint, parent in enumerate(body.parents):
        here = part == joint
        children = [c for c, p in enumerate(body.parents) if p == joint]
        towards = joints[children].mean(0) - joints[joint] if children else joints[joint] - joints[parent]
        axis = normalize(towards, dim=-1)
        front = vertices.new_tensor([0.0, 1.0, 0.0] if axis[2].abs() > 0.8 else [0.0, 0.0, 1.0])
        front = normalize(front - (front * axis).sum() * axis, dim=-1)
        offset = vertices[faces[here]] - joints[joint]
        along = offset @ axis
        round_it = torch.atan2(offset @ torch.linalg.cross(axis, front), offset @ front) / (2 * math.pi) + 0.5
        crosses = round_it.amax(1, keepdim=True) - round_it.amin(1, keepdim=True) > 0.5
        round_it = torch.where(crosses & (round_it < 0.5), round_it + 1, round_it)
        uv[here] = torch.stack([round_it, (along - along.min()) / (along.max() - along.min()).clamp_min(1e-6)], -1)
    return Charts(part + 1, uv)
