"""The body model: pose and shape parameters -> mesh and joints (SMPL, Loper et al. 2015, equations 1-10).

The default is the project's own free body in SMPL's form; a user with SMPL's licence gives the official file. Both
have V = 6890 vertices, but not in the same order, so whatever is made for one body's vertices (a joint regressor, a
UV map) carries that body's `topology_id` and is refused by another. `model_id` names sex and version, too: parameters
of one body mean another shape on any other.

Speed on the CPU comes from three facts: skinning weights and pose blend shapes are mostly zero (sparse products),
joints do not need vertices (their regressor is folded into the shape space once), and the batch is the last, contiguous
dimension inside, so that every product runs along it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hmrkit.body.files import NUM_BETAS, body_ids, check_smpl_model, find_body, gender_in_name, read_smpl_file
from hmrkit.body.smplx_files import as_smpl
from hmrkit.body.sparse import FixedProduct
from hmrkit.errors import ModelMismatchError, WeightsError
from hmrkit.files import sha256_of
from hmrkit.skeletons import SMPL_24

# Bodies skinned at once: on a CPU so many that the per-vertex transforms stay in the cache, on a GPU so many that they
# stay below half a gigabyte.
_CHUNK = {"cpu": 32, "cuda": 1024}


@dataclass(frozen=True)
class BodyOutput:
    """`vertices` (B,V,3) m, `joints` (B,24,3) m, `joint_rotations` (B,24,3,3): all in the frame of `transl`.

    `vertices` is empty (B,0,3) where only joints were asked for.
    """

    vertices: Tensor
    joints: Tensor
    joint_rotations: Tensor

    @property
    def joint_transforms(self) -> Tensor:
        """(B,24,4,4): each joint's own frame (its rotation, its place) in the frame of `transl`."""
        top = torch.cat([self.joint_rotations, self.joints[..., None]], -1)
        bottom = top.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*top.shape[:2], 1, 4)
        return torch.cat([top, bottom], -2)


@dataclass(frozen=True)
class JointRegressor:
    """Points as fixed combinations of one body's vertices: `matrix` (J,V), `names` (J), that body's `topology_id`."""

    matrix: np.ndarray
    names: tuple[str, ...]
    topology_id: str


class Body:
    """A SMPL body of one gender on one device. Make it with `load_body`; call it to pose it.

    `faces` (F,3) int32, `parents` (24), `weights` (V,24), `v_template` (V,3) m, `joint_names`, `keypoint_names`,
    `vertex_mirror` (V,) (index of each vertex's counterpart) or None, `num_vertices`, `gender`;
    `topology_id` names the order of its vertices, `model_id` the body: of the free bodies, sex and version;
    `family`: whose vertex order and shape space it has, ``hmrkit`` (the free body), ``smpl`` (a user's SMPL or SMPL-H
    file) or ``smplx``; `is_smpl`: the second of these; `landmark_vertices` (name -> vertex): where face and toes are,
    if not where SMPL has them; `mean_hands` (30,3) axis-angle of SMPL-X's mean hand, left first, or None.
    Rest pose: T-pose, y up, facing +z, left is +x.
    """

    def __init__(
        self,
        model: dict[str, Any],
        gender: str = "neutral",
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """`model` as `hmrkit.body.files.read_smpl_file` returns it; WeightsError where it is no SMPL body."""
        arrays = check_smpl_model(model)
        self.gender = gender
        self.weights_sha256 = ""
        self.device = torch.device(device)
        self.dtype = dtype
        self.topology_id, self.model_id = body_ids(model, arrays, gender)
        self.family = self.topology_id.partition("-")[0]
        self.is_smpl = self.family == "smpl"
        marks = (np.asarray(model.get(key, ())).tolist() for key in ("landmark_names", "landmark_vertices"))
        self.landmark_vertices: dict[str, int] = dict(zip(*marks, strict=True))
        mean = np.asarray(model.get("mean_hands", ()))
        whole = mean.shape == (30, 3) and mean.dtype.kind == "f" and np.isfinite(mean).all()
        self.mean_hands = mean if whole else None
        self.faces = arrays["f"].astype(np.int32)
        self.num_vertices = len(arrays["v_template"])
        self.joint_names = SMPL_24.joints
        self.parents = SMPL_24.parents
        self.vertex_mirror = np.asarray(model["vertex_mirror"], np.int64) if "vertex_mirror" in model else None
        self.keypoint_names: tuple[str, ...] = ()
        self.keypoint_regressor: JointRegressor | None = None
        if "keypoint_regressor" in model:
            self.keypoint_names = tuple(np.asarray(model["keypoint_names"]).tolist())
            matrix = np.asarray(model["keypoint_regressor"])
            self.keypoint_regressor = JointRegressor(matrix, self.keypoint_names, self.topology_id)

        # The regressor of joints is applied to template and shape space here, once and in float64.
        regressor = arrays["J_regressor"]
        self._joint_template = self._tensor(regressor @ arrays["v_template"])
        self._joint_shapedirs = self._tensor(np.einsum("jv,vck->jck", regressor, arrays["shapedirs"]))
        self.v_template = self._tensor(arrays["v_template"])
        self.weights = self._tensor(arrays["weights"])
        self._shapedirs = self._tensor(arrays["shapedirs"])
        self._pose_blend = FixedProduct(self._tensor(arrays["posedirs"].reshape(-1, 23 * 9)))
        self._skin = FixedProduct(self.weights)
        self._levels, self._joint_of_slot = _tree_levels(self.parents, self.device)

    def __call__(
        self,
        global_orient: Tensor | np.ndarray | None = None,
        body_pose: Tensor | np.ndarray | None = None,
        betas: Tensor | np.ndarray | None = None,
        transl: Tensor | np.ndarray | None = None,
        pose_blend: bool = True,
    ) -> BodyOutput:
        """Pose the body.

        `global_orient` (B,3,3) and `body_pose` (B,23,3,3): rotation matrices relative to the parent joint; `betas`
        (B,10) or (10,); `transl` (B,3) m. What is left out is the identity or zero; a batch of 1 goes with any other.
        `pose_blend` False leaves out the pose-dependent corrections (plain linear blend skinning). Differentiable.
        ValueError where a shape is another one; axis-angle is not guessed at.
        """
        with torch.autocast(self.device.type, enabled=False):  # half precision would cost millimetres
            rotations, shape, offset = self._inputs(global_orient, body_pose, betas, transl)
            world, joints, rest = self._chain(rotations, shape)
            moved = joints - (world * rest[:, None]).sum(2)
            # (24, 4, 3, B): the columns of each joint's rotation, then its translation.
            transforms = torch.cat([world.transpose(1, 2), moved[:, None]], 1)
            shaped = self.v_template[..., None] + self._shapedirs @ shape
            pieces = _chunks(rotations, transforms, shaped, offset, size=_CHUNK[self.device.type])
            vertices = torch.cat([self._skinned(*piece, pose_blend=pose_blend) for piece in pieces])
            return BodyOutput(vertices, *_batch_first(joints, world, offset))

    def joints_only(
        self,
        global_orient: Tensor | np.ndarray | None = None,
        body_pose: Tensor | np.ndarray | None = None,
        betas: Tensor | np.ndarray | None = None,
        transl: Tensor | np.ndarray | None = None,
    ) -> BodyOutput:
        """As calling the body, without the vertices, several times as fast."""
        with torch.autocast(self.device.type, enabled=False):
            rotations, shape, offset = self._inputs(global_orient, body_pose, betas, transl)
            world, joints, _ = self._chain(rotations, shape)
            return BodyOutput(offset.new_empty(rotations.shape[-1], 0, 3), *_batch_first(joints, world, offset))

    def keypoints(self, vertices: Tensor, regressor: JointRegressor | None = None) -> Tensor:
        """COCO's 17 keypoints and the feet (`keypoint_names`) of posed vertices (B,V,3) -> (B,23,3) m.

        Another `regressor` gives its own points. ModelMismatchError where it was made for another body's vertices, and
        where this body has none of its own.
        """
        regressor = regressor or self.keypoint_regressor
        if regressor is None:
            raise ModelMismatchError(
                f"body {self.model_id} carries no keypoint regressor; give a JointRegressor made for its vertices"
            )
        if regressor.topology_id != self.topology_id:
            raise ModelMismatchError(
                f"expected a regressor for body {self.topology_id}, got one for {regressor.topology_id} (another "
                "vertex order); use the body it was made for"
            )
        if regressor.matrix.shape[1:] != (self.num_vertices,) or vertices.shape[-2:] != (self.num_vertices, 3):
            raise ValueError(
                f"expected vertices (B,{self.num_vertices},3) and a regressor (J,{self.num_vertices}), "
                f"got {tuple(vertices.shape)} and {regressor.matrix.shape}"
            )
        used = np.nonzero(regressor.matrix.any(0))[0]
        matrix = torch.as_tensor(regressor.matrix[:, used], dtype=vertices.dtype, device=vertices.device)
        return matrix @ vertices[..., torch.as_tensor(used, device=vertices.device), :]

    def pose_shapes(self) -> Tensor:
        """SMPL's pose blend shapes (207,V,3) m; their weights: the 23 local rotations minus the identity, in a row."""
        shapes = self._pose_blend(torch.eye(23 * 9, dtype=self.dtype, device=self.device))
        return shapes.T.reshape(23 * 9, -1, 3)

    # ---- inside: the batch is the last dimension --------------------------------------------------------------------

    def _tensor(self, values: Tensor | np.ndarray) -> Tensor:
        return torch.as_tensor(values, dtype=self.dtype, device=self.device)

    def _inputs(
        self,
        global_orient: Tensor | np.ndarray | None,
        body_pose: Tensor | np.ndarray | None,
        betas: Tensor | np.ndarray | None,
        transl: Tensor | np.ndarray | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """-> local rotations (24,3,3,B), betas (10, B or 1), translation (3, B or 1)."""
        values = {
            "global_orient": self._batched("global_orient", global_orient, (3, 3)),
            "body_pose": self._batched("body_pose", body_pose, (23, 3, 3)),
            "betas": self._batched("betas", betas, (NUM_BETAS,)),
            "transl": self._batched("transl", transl, (3,)),
        }
        sizes = {len(value) for value in values.values()} - {1}
        if len(sizes) > 1:
            found = ", ".join(f"{name} {len(value)}" for name, value in values.items())
            raise ValueError(f"expected one batch size (or 1), got {found}")
        batch = sizes.pop() if sizes else 1
        orient, pose = values["global_orient"].expand(batch, 3, 3), values["body_pose"].expand(batch, 23, 3, 3)
        rotations = torch.cat([orient[:, None], pose], 1).permute(1, 2, 3, 0).contiguous()
        return rotations, values["betas"].T, values["transl"].T

    def _batched(self, name: str, value: Tensor | np.ndarray | None, shape: tuple[int, ...]) -> Tensor:
        """`value` (B, *shape), or the identity or zero (1, *shape) where it was left out."""
        rotations = len(shape) > 1
        if value is None:
            rest = torch.eye(3) if rotations else torch.zeros(shape)
            return self._tensor(rest.expand(1, *shape))
        tensor = self._tensor(value)
        if name == "betas" and tensor.ndim == 1:
            tensor = tensor[None]
        if tensor.ndim != len(shape) + 1 or tensor.shape[1:] != shape:
            hint = " of rotation matrices (see hmrkit.geometry.axis_angle_to_matrix)" if rotations else ""
            raise ValueError(f"{name}: expected (B,{','.join(map(str, shape))}){hint}, got {tuple(tensor.shape)}")
        return tensor

    def _chain(self, rotations: Tensor, shape: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Forward kinematics -> world rotations (24,3,3,B), joints (24,3,B), rest joints (24,3, B or 1)."""
        rest = self._joint_template[..., None] + self._joint_shapedirs @ shape
        world, places = [rotations[:1]], [rest[:1].expand(1, 3, rotations.shape[-1])]
        for joints, parents, parent_slots in self._levels:
            parent_rotation, bone = world[-1][parent_slots], rest[joints] - rest[parents]
            world.append((parent_rotation[:, :, :, None] * rotations[joints][:, None]).sum(2))
            places.append(places[-1][parent_slots] + (parent_rotation * bone[:, None]).sum(2))
        return torch.cat(world)[self._joint_of_slot], torch.cat(places)[self._joint_of_slot], rest

    def _skinned(
        self, rotations: Tensor, transforms: Tensor, shaped: Tensor, offset: Tensor, pose_blend: bool
    ) -> Tensor:
        """One chunk's vertices (B,V,3).

        Local rotations (24,3,3,B), joint transforms (24,4,3,B), shaped template (V,3, B or 1), offset (3, B or 1).
        """
        batch = rotations.shape[-1]
        if pose_blend:
            identity = torch.eye(3, dtype=self.dtype, device=self.device)[..., None]
            correction = self._pose_blend((rotations[1:] - identity).reshape(-1, batch))
            shaped = shaped + correction.view(-1, 3, batch)
        blended = self._skin(transforms.reshape(24, -1)).view(-1, 4, 3, batch)
        vertices = blended[:, 3] + offset
        for axis in range(3):
            vertices = torch.addcmul(vertices, blended[:, axis], shaped[:, axis, None])
        return vertices.permute(2, 0, 1)


def load_body(
    source: str | Path | None = None,
    gender: str = "neutral",
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Body:
    """The free body of that gender, or the SMPL body in `source`: a ``.pkl`` or ``.npz``, a folder of them, or the name
    of an imported one (``smpl``, ``smplh``, ``smplx``).

    SMPL-H and SMPL-X files become bodies of SMPL's 24 joints (`hmrkit.body.smplx_files`, needs smplx).
    Files with more than 10 shape components give their first 10. A gender in the file's name wins over `gender`.
    Raises UsageError for an unknown gender, WeightsError for a file that is missing, damaged or no SMPL body.
    """
    path = find_body(source, gender)
    try:
        body = Body(as_smpl(read_smpl_file(path)), gender_in_name(path) or gender, device, dtype)
    except WeightsError as error:
        raise error if str(path) in str(error) else WeightsError(f"{path}: {error}") from error
    body.weights_sha256 = sha256_of(path)
    return body


def _tree_levels(parents: tuple[int, ...], device: torch.device) -> tuple[list[tuple[Tensor, Tensor, Tensor]], Tensor]:
    """Joints grouped by depth, which do not depend on one another: eight products instead of 23.

    Per level below the root: its joints, their parents, the parents' places within the level above. Then, for every
    joint, its place in the concatenation of all levels.
    """
    levels: list[list[int]] = [[0]]
    while below := [joint for joint, parent in enumerate(parents) if parent in levels[-1]]:
        levels.append(below)
    steps = []
    for above, level in pairwise(levels):
        slots = [above.index(parents[joint]) for joint in level]
        steps.append(tuple(torch.as_tensor(i, device=device) for i in (level, [parents[j] for j in level], slots)))
    return steps, torch.as_tensor(np.argsort([joint for level in levels for joint in level]), device=device)


def _chunks(*values: Tensor, size: int) -> list[tuple[Tensor, ...]]:
    """The batch (last dimension of each value) in pieces; a value of batch 1 goes with every piece."""
    count = -(-max(value.shape[-1] for value in values) // size)
    split = [value.split(size, -1) if value.shape[-1] > 1 else (value,) * count for value in values]
    return list(zip(*split, strict=True))


def _batch_first(joints: Tensor, world: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
    return (joints + offset).permute(2, 0, 1), world.permute(3, 0, 1, 2)
