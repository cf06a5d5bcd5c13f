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

POINTS = 4096
_NEAR_M = 0.05
_WINDOW = 0.35  # in cells about their middle
_NOTHING = 2**62


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


class SurfacePoints:
    """Coarse IUV images of bodies from points spread evenly over the skin, without their meshes.

    A cell shows the point that is nearest to the camera. On 32 x 32 cells a person covers some hundred cells, so that
    `POINTS` leave hardly one empty. Points are skinned linearly; pose-dependent corrections are smaller than a cell.
    """

    def __init__(self, body: Body, count: int = POINTS) -> None:
        self.body = body
        generator = torch.Generator().manual_seed(0)
        faces, rest = torch.as_tensor(body.faces, device=body.device).long(), body().vertices[0]
        corners = rest[faces]
        area = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=-1)
        face = torch.multinomial(area.cpu(), count, replacement=True, generator=generator).to(body.device)
        # Uniform over a triangle.
        share = torch.distributions.Exponential(1.0).icdf(torch.rand(count, 3, generator=generator))
        barycentrics = (share / share.sum(1, keepdim=True)).to(body.device)
        self.labels = body_charts(body).at(face, barycentrics)

        def on_faces(values: Tensor) -> Tensor:
            return (values[..., faces[face], :] * barycentrics[..., None]).sum(-2)

        self._template, self._weights = on_faces(rest), on_faces(body.weights)
        self._shapes = on_faces(body(betas=torch.eye(10, device=body.device)).vertices - rest)

    @torch.no_grad()
    def images(
        self,
        global_orient: Tensor,
        body_pose: Tensor,
        betas: Tensor,
        transl_c: Tensor,
        focal: Tensor,
        size: int,
    ) -> Tensor:
        """Images (B,size,size,3) of part (1..24, 0 where nothing is), U and V of bodies in the camera's frame.

        `focal` (B,) is in sides of the image, whose middle the camera sees straight ahead.
        """
        posed = self.body.joints_only(global_orient, body_pose, betas)
        rest = self.body.joints_only(betas=betas).joints
        offset = posed.joints - (posed.joint_rotations @ rest[..., None])[..., 0]
        blended = self._weights @ torch.cat([posed.joint_rotations, offset[..., None]], -1).flatten(2)
        shaped = self._template + torch.einsum("bs,spc->bpc", betas, self._shapes)
        points = (blended.unflatten(2, (3, 4))[..., :3] * shaped[..., None, :]).sum(-1)
        points = points + blended[..., 3::4] + transl_c[:, None]
        depth = points[..., 2].clamp_min(_NEAR_M)
        places = (focal[:, None, None] * points[..., :2] / depth[..., None] + 0.5) * size
        cells = places.floor()
        # What is near a cell's edge hardly shows in it; were it to count, the outline would be too wide.
        inside = (cells >= 0) & (cells < size) & ((places - cells - 0.5).abs() < _WINDOW)
        seen, cells = inside.all(-1) & (points[..., 2] > _NEAR_M), cells.long()
        # Depth in mm and the point's number as one integer, whose minimum is the nearest point.
        count, number = len(self.labels), torch.arange(len(self.labels), device=depth.device)
        nearest = depth.new_full((len(betas), size * size), _NOTHING, dtype=torch.int64)
        key = torch.where(seen, (1000 * depth).long() * count + number, _NOTHING)
        at = torch.where(seen, cells[..., 1] * size + cells[..., 0], 0)
        nearest.scatter_reduce_(1, at, key, "amin")
        found = (nearest < _NOTHING)[..., None]
        return (self.labels[nearest % count] * found).unflatten(1, (size, size))
