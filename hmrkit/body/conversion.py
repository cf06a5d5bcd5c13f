"""Bodies of one model -> bodies of another, by fitting: SMPL's results on the free body, the free body's on SMPL-X.

Shapes and rotations of one model mean something else on another: rest poses, joints and shape spaces differ. What both
have is a surface. Every vertex of the target gets a point of the source's surface (`BodyConverter.points`), once, at
rest, by closest points (ICP, Besl and McKay 1992). Then the target is fitted to those points by Gauss-Newton, all
frames at once. The mesh moves by linear blend skinning (SMPL, Loper et al. 2015, equations 2-10), so J^T J of its
rotations has a closed form in moments of the vertices and is never built from J. A person has one shape, found in some
frames with the frames' poses eliminated. The residual says what the target cannot do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from hmrkit.body.files import NUM_BETAS
from hmrkit.body.model import Body
from hmrkit.geometry import axis_angle_to_matrix, matrix_to_axis_angle, skew
from hmrkit.skeletons import SMPL_24
from hmrkit.types import BodyParams

SHAPE_FRAMES = 16  # frames that a person's shape is measured in, spread over the track
SHAPE_ROUNDS, POSE_ROUNDS = 6, 5  # of Gauss-Newton
# m^2/rad^2: pull of each rotation towards the source's own, against 3e-5 that a hand's vertices weigh. It decides what
# surfaces hardly show, such as how a raised arm is shared by collar and shoulder.
PRIOR = 3e-6
CHUNK = 64  # frames fitted at once; bounds memory
RIDGE = 1e-7  # m^2: a shape component counts as if it were wrong by so much; keeps unseen ones near the mean
CANDIDATES = 16  # triangles with the nearest centres, among which the nearest point is searched
REMATCH = 4  # correspondences are made again on the fitted rest pose so often
# Of joints with several children the one that goes on along the body; hands, feet and head have none.
_NEXT = {"pelvis": "spine1", "spine3": "neck"}


@dataclass(frozen=True)
class Conversion:
    """`params` of the target body, and the mean distance `residual_mm` (T,) of its surface from the source's points."""

    params: BodyParams
    residual_mm: np.ndarray


class BodyConverter:
    """Fits `target` to posed meshes of `source`; both on one device. Make it once for all people of a take."""

    def __init__(self, source: Body, target: Body) -> None:
        self.source, self.target = source, target
        rest = target.v_template.double().cpu().numpy()
        areas = _vertex_areas(rest, target.faces)
        self._areas = torch.as_tensor(areas / areas.sum(), dtype=target.dtype, device=target.device)
        share = target.weights @ _hanging_on(target)  # (V,24): how far each vertex moves with a joint
        self._moved = self._areas[:, None] * share
        self._prior = torch.full_like(self._areas[:75], PRIOR)  # of the 75 numbers that a frame has
        self._prior[:3] = self._prior[-3:] = 0
        pairs = torch.nonzero(torch.triu(self._moved.T @ share) > 0)
        self._pairs = pairs[:, 0], pairs[:, 1]
        self._pair_shares = self._moved[:, pairs[:, 0]] * share[:, pairs[:, 1]]  # (V,P)
        self._corners, self._shares = self._correspondence()

    def points(self, vertices: Tensor) -> Tensor:
        """Where the target's vertices belong (T,V',3) m on posed vertices (T,V,3) m of the source."""
        return sum(
            (vertices[:, self._corners[:, k]] * self._shares[:, k, None] for k in range(3)), vertices.new_zeros(())
        )

    @torch.inference_mode()
    def convert(self, vertices_c: Callable[[np.ndarray], np.ndarray], start: BodyParams) -> Conversion:
        """A person's body on the target.

        `vertices_c` gives the source's vertices (t,V,3) m, in the camera frame, of some rows of the track's T frames;
        `start` are the source's parameters of all T frames. The target's gender and id are those of the result; fingers
        and what is seen are those of `start`.
        """
        target = self.target
        count = len(start.transl_c)
        local = np.concatenate([start.global_orient[:, None], start.body_pose], 1)

        def some(rows: np.ndarray) -> tuple[Tensor, Tensor]:
            made, rotated = (
                torch.as_tensor(a, dtype=target.dtype, device=target.device) for a in (vertices_c(rows), local[rows])
            )
            return self.points(made), rotated

        spread = np.unique(np.linspace(0, count - 1, min(count, SHAPE_FRAMES)).round().astype(int))
        betas = self.fit_shape(*some(spread))
        fitted = [self.fit_pose(*some(rows), betas) for rows in np.array_split(np.arange(count), -(-count // CHUNK))]
        rotations, transl, residual = (
            torch.cat(parts).cpu().numpy().astype(np.float32) for parts in zip(*fitted, strict=True)
        )
        params = BodyParams(
            rotations[:, 0], rotations[:, 1:], betas.cpu().numpy().astype(np.float32), transl, target.gender,
            target.model_id, start.fingers, start.seen,
        )  # fmt: skip
        return Conversion(params, residual)

    def fit_shape(self, points: Tensor, rotations: Tensor) -> Tensor:
        """Shape (10,) of a person from points (T,V,3) m of some frames, `rotations` (T,24,3,3) as a first guess."""
        return self._fit(points, rotations, points.new_zeros(NUM_BETAS), SHAPE_ROUNDS, True)[1]

    def fit_pose(self, points: Tensor, rotations: Tensor, betas: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Local rotations (T,24,3,3), translation (T,3) m and residual (T,) mm of the target at points (T,V,3) m."""
        centre = torch.einsum("v,tvk->tk", self._areas, points)[:, None]  # float32 keeps more digits near zero
        rotations, _, transl, vertices = self._fit(points - centre, rotations, betas, POSE_ROUNDS, False)
        gap = (points - centre - vertices).norm(dim=-1) @ self._areas
        return rotations, transl + centre[:, 0], 1000 * gap

    def _fit(
        self, points: Tensor, rotations: Tensor, betas: Tensor, rounds: int, shape: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Gauss-Newton on pose and place of every frame, with `shape` also on the one shape of all frames.

        Returns rotations, betas, translation and the vertices of these. Each frame has 24 rotation vectors, about the
        axes of the world at where its joint is, and a translation: 75 numbers. The shape's 10 are solved for first, the
        frames' being eliminated (Schur complement).
        """
        transl = torch.einsum(
            "v,tvk->tk", self._areas, points - self.target(rotations[:, 0], rotations[:, 1:], betas).vertices
        )
        unit, eye = (torch.eye(n, dtype=points.dtype, device=points.device) for n in (NUM_BETAS, 3))
        parents, start = list(SMPL_24.parents[1:]), rotations
        for _ in range(rounds):
            posed = self.target(rotations[:, 0], rotations[:, 1:], betas, transl)
            vertices, joints, world = posed.vertices, posed.joints, posed.joint_rotations
            above = torch.cat([eye.expand(len(points), 1, 3, 3), world[:, parents]], 1)
            gap = points - vertices
            off = _rotate(above, matrix_to_axis_angle(start @ rotations.mT))
            sides = [self._gradient(vertices, joints, gap) + self._prior * pad(off.flatten(1), (0, 3))]
            if shape:
                grown = [self.target(rotations[:, 0], rotations[:, 1:], betas + row, transl).vertices for row in unit]
                effects = [g - vertices for g in grown]
                sides += [self._gradient(vertices, joints, effect) for effect in effects]
            solved = torch.linalg.solve(self._normal(vertices, joints), torch.stack(sides, -1))
            step = solved[..., 0]
            if shape:
                cross = torch.stack(sides[1:], -1)
                stacked = torch.stack([*effects, gap]).flatten(2) * self._areas.repeat_interleave(3).sqrt()
                products = torch.einsum("ktn,ltn->kl", stacked[:-1], stacked)
                normal = products[:, :-1] - torch.einsum("tnk,tnl->kl", cross, solved[..., 1:])
                wanted = products[:, -1] - torch.einsum("tnk,tn->k", cross, step)
                ridge = RIDGE * len(points)
                change = torch.linalg.solve(normal + ridge * unit, wanted - ridge * betas)
                betas = betas + change
                step = step - solved[..., 1:] @ change
            vectors, transl = step[:, :-3].unflatten(-1, (24, 3)), transl + step[:, -3:]
            rotations = axis_angle_to_matrix(_rotate(above.mT, vectors)) @ rotations
        return rotations, betas, transl, self.target(rotations[:, 0], rotations[:, 1:], betas, transl).vertices

    def _gradient(self, vertices: Tensor, joints: Tensor, gap: Tensor) -> Tensor:
        """(T,75): torques about the 24 joints and the force of offsets `gap` (T,V,3) at the vertices."""
        force = self._moved.T @ gap  # (T,24,3)
        torque = self._moved.T @ torch.linalg.cross(vertices, gap) - torch.linalg.cross(joints, force)
        return torch.cat([torque.flatten(1), torch.einsum("v,tvk->tk", self._areas, gap)], 1)

    def _normal(self, vertices: Tensor, joints: Tensor) -> Tensor:
        """(T,75,75): J^T J of the 75 numbers. A joint moves what hangs on it, each vertex by its share in it."""
        first, second = self._pairs
        squares = vertices[..., :, None] * vertices[..., None, :]
        moments = self._pair_shares.T @ torch.cat([vertices, squares.flatten(-2)], -1)  # (T,P,12)
        mean, square = moments[..., :3], moments[..., 3:].unflatten(-1, (3, 3))
        p, q = joints[:, first], joints[:, second]
        total = self._pair_shares.sum(0)[:, None, None]
        outer = square - _outer(q, mean) - _outer(mean, p) + total * _outer(q, p)
        eye = torch.eye(3, dtype=vertices.dtype, device=vertices.device)
        blocks = outer.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None] * eye - outer
        table = blocks.new_zeros(len(vertices), 25, 25, 3, 3)
        table[:, first, second] = blocks
        table[:, second, first] = blocks.mT
        lever = self._moved.T @ vertices - self._moved.sum(0)[:, None] * joints
        table[:, :24, 24] = skew(lever)
        table[:, 24, :24] = -skew(lever)
        table[:, 24, 24] = eye
        return table.transpose(2, 3).reshape(len(vertices), 75, 75) + self._prior.diag()

    # ---- which point of the source belongs to which vertex of the target --------------------------------------------

    @torch.inference_mode()
    def _correspondence(self) -> tuple[Tensor, Tensor]:
        """Corners (V',3) of the source's triangles and their shares (V',3), by closest points of the mean bodies.

        Two bodies of one topology have the same vertices. Else the target's mean body is first moved onto the source's
        joints, then fitted to what that finds, and matched again.
        """
        source, target = self.source, self.target
        if source.num_vertices == target.num_vertices and np.array_equal(source.faces, target.faces):
            same = torch.arange(target.num_vertices, device=target.device)[:, None].expand(-1, 3)
            return same, same.new_tensor([1.0, 0.0, 0.0], dtype=target.dtype).expand(len(same), 3)
        rest, eye = source(), torch.eye(3, dtype=target.dtype, device=target.device).expand(1, 24, 3, 3)
        moved = _onto_joints(target, rest.joints[0])
        for again in range(REMATCH + 1):
            corners, shares = _closest(
                moved.double().cpu().numpy(), target.faces, rest.vertices[0].double().cpu().numpy(), source.faces
            )
            self._corners = torch.as_tensor(corners, device=target.device)
            self._shares = torch.as_tensor(shares, dtype=target.dtype, device=target.device)
            if again < REMATCH:
                points = self.points(rest.vertices)
                betas = self.fit_shape(points, eye)
                rotations, transl, _ = self.fit_pose(points, eye, betas)
                moved = target(rotations[:, 0], rotations[:, 1:], betas, transl).vertices[0]
        return self._corners, self._shares


def _hanging_on(body: Body) -> Tensor:
    """(24,24): 1 where the row's joint is the column's or hangs on it."""
    table = torch.eye(24, dtype=body.dtype, device=body.device)
    for joint, parent in enumerate(SMPL_24.parents[1:], 1):
        table[joint] += table[parent]
    return table


def _rotate(rotation: Tensor, vector: Tensor) -> Tensor:
    return (rotation @ vector[..., None])[..., 0]


def _outer(a: Tensor, b: Tensor) -> Tensor:
    return a[..., :, None] * b[..., None, :]


def _onto_joints(body: Body, joints: Tensor) -> Tensor:
    """The mean body's vertices (V,3) at rest, shifted along its bones so that its joints come to lie at `joints`."""
    rest = body()
    vertices, own = rest.vertices[0], rest.joints[0]
    parents = list(SMPL_24.parents)
    only = {name: SMPL_24.joints[parents.index(j)] for j, name in enumerate(SMPL_24.joints) if parents.count(j) == 1}
    ends = {**only, **_NEXT}
    following = SMPL_24.indices(*(ends.get(name, name) for name in SMPL_24.joints))
    bones = own[list(following)] - own
    length = bones.square().sum(-1).clamp_min(1e-9)
    along = (torch.einsum("vjk,jk->vj", vertices[:, None] - own, bones) / length).clamp(0, 1)[..., None]
    shift = joints - own
    blended = (1 - along) * shift + along * shift[list(following)]
    return vertices + torch.einsum("vj,vjk->vk", body.weights, blended)


def _closest(
    vertices: np.ndarray, faces: np.ndarray, others: np.ndarray, other_faces: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Of each vertex (V,3) the nearest point of another surface that faces the same way: its triangle's corners (V,3)
    and their shares (V,3)."""
    import trimesh.triangles
    from scipy.spatial import KDTree

    triangles = others[other_faces]
    centres, count = triangles.mean(1), min(CANDIDATES, len(triangles))
    _, near = KDTree(centres).query(vertices, k=count)
    near = near.reshape(len(vertices), count)
    places = trimesh.triangles.closest_point(triangles[near.ravel()], np.repeat(vertices, count, 0)).reshape(
        -1, count, 3
    )
    apart = np.linalg.norm(places - vertices[:, None], axis=-1)
    facing = np.einsum("vck,vk->vc", _face_normals(triangles)[near], _vertex_normals(vertices, faces)) > 0
    best = np.where(facing | ~facing.any(1, keepdims=True), apart, np.inf).argmin(1)
    rows = np.arange(len(vertices))
    chosen = near[rows, best]
    shares = trimesh.triangles.points_to_barycentric(triangles[chosen], places[rows, best])
    shares = np.nan_to_num(shares, nan=1 / 3).clip(0, 1)
    return other_faces[chosen].astype(np.int64), shares / shares.sum(1, keepdims=True)


def _face_normals(triangles: np.ndarray) -> np.ndarray:
    normals = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    return normals / np.linalg.norm(normals, axis=1, keepdims=True).clip(1e-12)


def _vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    normals = np.zeros_like(vertices)
    np.add.at(normals, faces, _face_normals(vertices[faces])[:, None])
    return normals


def _vertex_areas(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(V,) m^2: a third of the triangles about each vertex, so that fine meshes of hands and face count no more."""
    corners = vertices[faces]
    doubled = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    areas = np.zeros(len(vertices))
    np.add.at(areas, faces, doubled[:, None] / 6)
    return areas
