"""Where BlazePose's landmarks and COCO's keypoints lie on the body, and where they go when it is posed.

Each point is a fixed combination of the body's vertices and joints. Linear blend skinning of such a combination needs
no vertices: it is a sum over joints, ``sum_j R_j m_j + s_j p_j``, with ``m_j`` and ``s_j`` computed once. That makes
fitting a hundred times cheaper than posing the mesh, at the price of leaving out the pose blend shapes (millimetres).
"""

from __future__ import annotations

import copy
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from hmrkit.body import Body
from hmrkit.skeletons import BLAZEPOSE_33, COCO_17, SMPL_24, swap_sides

# Vertices that the free body and SMPL share by index (the ones smplx adds as joints).
_VERTICES = {
    "nose": 332, "left_eye": 2800, "right_eye": 6260, "left_ear": 583, "right_ear": 4071,
    "left_thumb_tip": 2746, "right_thumb_tip": 6191, "left_index_tip": 2319, "right_index_tip": 5782,
    "left_pinky_tip": 2673, "right_pinky_tip": 6133, "left_big_toe": 3216, "right_big_toe": 6617,
    "left_small_toe": 3226, "right_small_toe": 6624, "left_heel": 3387, "right_heel": 6787,
}  # fmt: skip

# Landmarks that neither table holds, as combinations of points that do (weights sum to 1); right sides by mirroring.
# Knuckles lie half-way from wrist to fingertip; mouth corners are built from the face's other points.
_COMBINED = {
    "left_eye_inner": {"left_eye": 0.75, "right_eye": 0.25},
    "left_eye_outer": {"left_eye": 1.2, "right_eye": -0.2},
    "left_mouth": {"nose": 1.65, "left_eye": -0.1, "right_eye": -0.9, "left_ear": 0.175, "right_ear": 0.175},
    "left_pinky": {"left_wrist": 0.4, "left_pinky_tip": 0.6},
    "left_index": {"left_wrist": 0.4, "left_index_tip": 0.6},
    "left_thumb": {"left_wrist": 0.35, "left_thumb_tip": 0.65},
    "left_foot_index": {"left_big_toe": 0.75, "left_small_toe": 0.25},
}


@lru_cache(maxsize=4)
def body_landmarks(body: Body) -> BodyLandmarks:
    """BlazePose's landmarks of that body, made once."""
    return BodyLandmarks(body)


class BodyLandmarks:
    """The points of `names` on `body`: at rest, and posed without the mesh. BlazePose's 33 and COCO's 17 by default."""

    def __init__(self, body: Body, names: tuple[str, ...] = BLAZEPOSE_33.joints) -> None:
        self.names, self.family, self.parents = names, body.family, body.parents
        with torch.no_grad():
            shapes = torch.cat([torch.zeros(1, 10), torch.eye(10)]).to(body.device, body.dtype)
            rest = body(betas=shapes)
        vertices, joints = rest.vertices.double(), rest.joints.double()
        vertex_rows, joint_rows = _regressor(body, names)
        used = torch.nonzero(vertex_rows.any(0))[:, 0].to(body.device)
        rows, skin = vertex_rows.to(body.device)[:, used], body.weights.double()[used]
        joint_rows = joint_rows.to(body.device)
        # Moments of every point in every joint's frame: vertices by their skinning weights, joints by their own frame.
        moments = torch.einsum("lv,vj,bvk->bljk", rows, skin, vertices[:, used])
        moments += torch.einsum("lj,bjk->bljk", joint_rows, joints)
        share = torch.einsum("lv,vj->lj", rows, skin) + joint_rows
        moments -= share[None, :, :, None] * joints[:, None]
        basis = [moments, joints, moments.sum(2) + torch.einsum("lj,bjk->blk", share, joints)]
        basis = [values.to(body.dtype) for values in basis]
        self._moments, self._joints, self._rest = [(v[0], v[1:] - v[0]) for v in basis]
        self.share = share.to(body.dtype)  # (L,24) of each joint's place in each point
        self.chain = _ancestors(body.parents).to(body.device, body.dtype)

    def to(self, device: torch.device) -> BodyLandmarks:
        """The same on another device."""
        moved = copy.copy(self)
        for name in ("_moments", "_joints", "_rest"):
            setattr(moved, name, tuple(values.to(device) for values in getattr(self, name)))
        moved.share, moved.chain = self.share.to(device), self.chain.to(device)
        return moved

    def rest(self, betas: Tensor) -> Tensor:
        """Points (L,3) m of the T-pose for betas (10,)."""
        return _shaped(self._rest, betas)

    def rest_joints(self, betas: Tensor) -> Tensor:
        """Joints (...,24,3) m of the T-pose for betas (...,10)."""
        return _shaped(self._joints, betas)

    def moments(self, betas: Tensor) -> Tensor:
        """Moments (...,L,24,3) m of each point in each joint's frame for betas (...,10)."""
        return _shaped(self._moments, betas)

    def __call__(self, world: Tensor, betas: Tensor) -> tuple[Tensor, Tensor]:
        """Points (T,L,3) and joints (T,24,3) m about the pelvis for world rotations (T,24,3,3) and betas (10,) or
        (T,10)."""
        rest = self.rest_joints(betas)
        above = list(self.parents[1:])
        bones = world[:, above] @ (rest[..., 1:, :] - rest[..., above, :])[..., None]
        joints = rest[..., :1, :] + self.chain @ bones[..., 0]
        moments = self.moments(betas)
        rotated = torch.einsum("tjab,tljb->tla" if betas.ndim > 1 else "tjab,ljb->tla", world, moments)
        return rotated + torch.einsum("lj,tjk->tlk", self.share, joints), joints


def world_from_local(local: Tensor, parents: tuple[int, ...] = SMPL_24.parents) -> Tensor:
    """Rotations (T,24,3,3) relative to the parent -> relative to the world; joints of one depth at a time."""
    own, level = local.unbind(1), [parents.index(-1)]
    world = {level[0]: own[level[0]]}
    while level := [joint for joint, parent in enumerate(parents) if parent in level]:
        # Stacked: to index by a list, a GPU would have to be waited for.
        above, here = torch.stack([world[parents[j]] for j in level], 1), torch.stack([own[j] for j in level], 1)
        world.update(zip(level, (above @ here).unbind(1), strict=True))
    return torch.stack([world[joint] for joint in range(len(parents))], 1)


def local_from_world(world: Tensor, parents: tuple[int, ...] = SMPL_24.parents) -> Tensor:
    """Rotations (T,24,3,3) relative to the world -> relative to the parent."""
    above = torch.as_tensor(parents[1:], device=world.device)
    return torch.cat([world[:, :1], world[:, above].mT @ world[:, 1:]], 1)


def _ancestors(parents: tuple[int, ...]) -> Tensor:
    """(J, J-1): which bones, named by their child, lie between the root and each joint."""
    table = torch.zeros(len(parents), len(parents))
    for joint, parent in enumerate(parents):
        if parent >= 0:
            table[joint] = table[parent]
            table[joint, joint] = 1
    return table[:, 1:]


def _shaped(basis: tuple[Tensor, Tensor], betas: Tensor) -> Tensor:
    return basis[0] + torch.tensordot(betas, basis[1], 1)


def _regressor(body: Body, names: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    """Combinations of vertices (L,V) and of joints (L,24) that make the points."""
    table: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    zero_v, zero_j = np.zeros(body.num_vertices), np.zeros(24)
    for name, vertex in {**_VERTICES, **body.landmark_vertices}.items():
        table[name] = (np.eye(1, body.num_vertices, vertex)[0], zero_j)
    for i, name in enumerate(SMPL_24.joints):
        table.setdefault(name, (zero_v, np.eye(24)[i]))
    regressor = body.keypoint_regressor
    if regressor is not None:
        for name, row in zip(regressor.names, regressor.matrix.astype(np.float64), strict=True):
            table[name] = (row, zero_j)
    for name, parts in _COMBINED.items():
        for side, terms in ((name, parts), (swap_sides(name), {swap_sides(n): w for n, w in parts.items()})):
            combined = [sum(w * table[n][k] for n, w in terms.items()) for k in (0, 1)]
            table[side] = (np.asarray(combined[0]), np.asarray(combined[1]))
    picked = [table[name] for name in names]
    return tuple(torch.from_numpy(np.stack([row[k] for row in picked]).copy()) for k in (0, 1))  # type: ignore[return-value]


COCO_IN_BLAZEPOSE = tuple(BLAZEPOSE_33.index[name] for name in COCO_17.joints)
