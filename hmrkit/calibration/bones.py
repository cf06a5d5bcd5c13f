"""PC-HMR's calibration: a mesh moved onto a target pose, bone by bone (Luan et al. 2021, section 3.3).

Every bone, a parent joint and a child joint, gets a rotation Psi, a translation T and a non-rigid rest Delta that
carry it onto the target's bone, whatever its length (equations 6-10). A vertex follows the bones that it hangs on:

    v' = sum_i A_i (Psi_i v + T_i + W_i Delta_i)                                       (equations 12 and 13)

`A` says how much of each bone a vertex follows, `W` how much of the bone's change of length it takes along: 0 at the
parent joint, 1 at the child. Both start from geometry (`initial_weights`); those of the free bodies are learned
(`hmrkit.training.calibration`).

A bone is named by its child, so bone i of 23 ends at joint i + 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload

import numpy as np
import torch
from torch import Tensor

from hmrkit.errors import ModelMismatchError, WeightsError
from hmrkit.files import sha256_of
from hmrkit.geometry import (
    axis_angle_to_matrix,
    matrix_to_quaternion,
    project_to_rotation,
    quaternion_to_matrix,
    rotation_between,
)
from hmrkit.skeletons import SMPL_24
from hmrkit.weights import find_weights, load_state, save_state

if TYPE_CHECKING:
    from hmrkit.body import Body
    from hmrkit.calibration.variants import CalibrationNetwork

Rotations = Literal["paper", "chain"]
# Frames whose per-vertex transforms (12 numbers) are held at once: few, so that they stay in the cache.
_FRAMES_AT_ONCE = 16
_LEAST_SHARE = 1e-3


@dataclass(frozen=True)
class CalibrationWeights:
    """`attachment` (V,Bn), rows summing to 1, and `place` (V,Bn) in [0, 1]: the paper's A and W for one body.

    `template` and `network` are the paper's other designs (`hmrkit.calibration.variants`): a template's mesh in place
    of the mesh stream's, and what a trained network adds to the transforms or the mesh."""

    attachment: Tensor
    place: Tensor
    model_id: str
    weights_sha256: str = ""
    template: bool = False
    network: CalibrationNetwork | None = None

    def to(self, device: str | torch.device, dtype: torch.dtype | None = None) -> CalibrationWeights:
        """The same weights on another device."""
        return replace(self, attachment=self.attachment.to(device, dtype), place=self.place.to(device, dtype))


def bone_transforms(
    joints_from: Tensor | np.ndarray,
    joints_to: Tensor | np.ndarray,
    parents: Sequence[int] = SMPL_24.parents,
    rotations: Rotations = "paper",
) -> tuple[Tensor, Tensor, Tensor]:
    """Transform of every bone from pose `joints_from` to pose `joints_to` (T,J,3) m (equations 6-10).

    Returns rotation Psi (T,Bn,3,3), translation (T,Bn,3) and delta (T,Bn,3), with Bn = J - 1 bones in the order of
    their child joints: ``Psi @ parent + translation`` is the target's parent and the same of the child, plus delta, the
    target's child. `parents` (J): -1 for the root, which comes first; a parent comes before its children.

    `rotations` says which of the many rotations between two directions Psi is. ``paper``: the shortest (equation 6),
    bone by bone. It leaves the self-rotation of each bone alone even where the whole person rotated, so a mesh that has
    to rotate would be wrung at every joint. ``chain``: the bone first rotates with the bone above it and then takes the
    shortest way; joints with several children (pelvis, chest) rotate as one rigid piece, and bones between two such
    pieces share the rotation from one to the other. A target that is rotated as a whole then rotates the mesh as a
    whole."""
    if isinstance(joints_from, np.ndarray):
        joints_from = torch.from_numpy(joints_from)
    joints_to = torch.as_tensor(joints_to, dtype=joints_from.dtype, device=joints_from.device)
    if joints_from.shape != joints_to.shape or joints_from.shape[-2:] != (len(parents), 3):
        raise ValueError(
            f"expected two poses (T,{len(parents)},3), got {tuple(joints_from.shape)} and {tuple(joints_to.shape)}"
        )
    above = list(parents[1:])
    bones_from, bones_to = joints_from[:, 1:] - joints_from[:, above], joints_to[:, 1:] - joints_to[:, above]
    if rotations == "paper":
        psi = rotation_between(bones_from, bones_to)
    else:
        psi = _chain_rotations(bones_from, bones_to, parents)
    translation = joints_to[:, above] - (psi @ joints_from[:, above, :, None]).squeeze(-1)
    # Equation 10 without the joints' places, which may be metres away and would cost digits.
    delta = bones_to - (psi @ bones_from[..., None]).squeeze(-1)
    return psi, translation, delta


def _chain_rotations(bones_from: Tensor, bones_to: Tensor, parents: Sequence[int]) -> Tensor:
    """(T,Bn,3,3): see `bone_transforms`. The loop runs over bones, every step over all frames."""
    joints = len(parents)
    children = [[c for c in range(joints) if parents[c] == j] for j in range(joints)]
    rigid: dict[int, Tensor] = {}
    for j in range(joints):
        if len(children[j]) > 1 or j == 0:
            bones = [c - 1 for c in children[j]]
            rigid[j] = project_to_rotation(bones_to[:, bones].mT @ bones_from[:, bones])
    rotations: list[Tensor] = []
    for child in range(1, joints):
        parent = parents[child]
        if parent in rigid:
            rotations.append(rigid[parent])
            continue
        start, end, share = _between_rigid(parent, parents, children, rigid)
        base = _between(rigid[start], rigid[end], share) if end is not None else rotations[parent - 1]
        swing = rotation_between((base @ bones_from[:, child - 1, :, None]).squeeze(-1), bones_to[:, child - 1])
        rotations.append(swing @ base)
    return torch.stack(rotations, 1)


def _between_rigid(
    joint: int, parents: Sequence[int], children: list[list[int]], rigid: dict[int, Tensor]
) -> tuple[int, int | None, float]:
    """The rigid joints above and below `joint` in the tree and how far it lies between them; no end on a limb."""
    up, start = 0, joint
    while start not in rigid:
        start, up = parents[start], up + 1
    down, end = 0, joint
    while end not in rigid:
        if not children[end]:
            return start, None, 0.0
        end, down = children[end][0], down + 1
    return start, end, up / (up + down)


def _between(first: Tensor, second: Tensor, share: float) -> Tensor:
    """Rotation `share` of the way from `first` to `second` (...,3,3) (normalised linear blend of quaternions)."""
    a, b = matrix_to_quaternion(first), matrix_to_quaternion(second)
    b = torch.where((a * b).sum(-1, keepdim=True) < 0, -b, b)
    return quaternion_to_matrix((1 - share) * a + share * b)


@overload
def calibrate(
    vertices: Tensor,
    joints_from: Tensor,
    joints_to: Tensor,
    weights: CalibrationWeights,
    parents: Sequence[int] = ...,
    self_rotation: Tensor | None = ...,
) -> Tensor: ...
@overload
def calibrate(
    vertices: np.ndarray,
    joints_from: np.ndarray,
    joints_to: np.ndarray,
    weights: CalibrationWeights,
    parents: Sequence[int] = ...,
) -> np.ndarray: ...
def calibrate(vertices, joints_from, joints_to, weights, parents=SMPL_24.parents, self_rotation=None):
    """Move meshes `vertices` (T,V,3) m of pose `joints_from` (T,24,3) m onto pose `joints_to` (T,24,3) m.

    Tensors in, tensor out, on the vertices' device, differentiable in all of them and in A and W; NumPy in, NumPy out.
    The bones rotate along the chain (`bone_transforms`), then each by `self_rotation` (T,Bn) radians about its own axis
    where that is given (tensors only). A mesh calibrated to its own pose comes back unchanged.
    ValueError where shapes do not fit the weights.
    """
    if isinstance(vertices, np.ndarray):
        device = weights.attachment.device
        mesh, start, end = (
            torch.as_tensor(x, dtype=torch.float32, device=device) for x in (vertices, joints_from, joints_to)
        )
        return calibrate(mesh, start, end, weights, parents).detach().cpu().numpy()
    bones = len(parents) - 1
    if vertices.shape[-2:] != (len(weights.attachment), 3) or weights.attachment.shape[1] != bones:
        raise ValueError(
            f"expected vertices (T,{len(weights.attachment)},3) and weights of {bones} bones, "
            f"got {tuple(vertices.shape)} and {tuple(weights.attachment.shape)}"
        )
    # Places relative to each pose's root, so that a person far from the camera loses no digits.
    root_from, root_to = joints_from[:, :1], joints_to[:, :1]
    psi, translation, delta = bone_transforms(joints_from - root_from, joints_to - root_to, parents, "chain")
    if self_rotation is not None:
        psi, translation = _about_own_axes(psi, translation, joints_from - root_from, parents, self_rotation)
    # What is blended is how far the bones move a vertex, not where to, so that no movement is exactly none.
    rotation = psi - torch.eye(3, dtype=psi.dtype, device=psi.device)
    moves = torch.cat([rotation.movedim(1, -1).flatten(1, 2), translation.mT], 1)  # (T, 9 + 3, Bn)
    attachment = weights.attachment.to(vertices)
    stretch = attachment * weights.place.to(vertices)
    local = (vertices - root_from).mT
    shifts = []
    for m, d, v in zip(*(x.split(_FRAMES_AT_ONCE) for x in (moves, delta, local)), strict=True):
        blended = (m.reshape(-1, bones) @ attachment.T).view(len(m), 12, -1)
        shift = blended[:, 9:] + (d.mT.reshape(-1, bones) @ stretch.T).view(len(d), 3, -1)
        for axis in range(
            3
        ):  # column by column of the blended rotation, so that no (T,3,3,V) product is made beside it
            shift = shift + blended[:, axis:9:3] * v[:, axis : axis + 1]
        shifts.append(shift)
    return vertices + (root_to - root_from) + torch.cat(shifts).mT


def _about_own_axes(
    psi: Tensor, translation: Tensor, joints_from: Tensor, parents: Sequence[int], angles: Tensor
) -> tuple[Tensor, Tensor]:
    """Psi and T of bones that rotate by `angles` (T,Bn) about themselves as well: their ends, and so Delta, stay."""
    start = joints_from[:, list(parents[1:])]
    axis = torch.nn.functional.normalize((psi @ (joints_from[:, 1:] - start)[..., None]).squeeze(-1), dim=-1)
    rotated = axis_angle_to_matrix(angles[..., None] * axis) @ psi
    return rotated, translation + ((psi - rotated) @ start[..., None]).squeeze(-1)


def initial_weights(
    rest_vertices: Tensor, rest_joints: Tensor, skinning: Tensor, parents: Sequence[int] = SMPL_24.parents
) -> tuple[Tensor, Tensor]:
    """A and W (V,Bn) from geometry: rest pose (V,3), (J,3) m and skinning weights (V,J).

    A: what a vertex follows of a joint, it follows of the bone that starts there; of several such bones, of the nearer
    ones; where none starts (head, hands, feet), of the bone that ends there. W: the vertex's place along the bone's
    line, 0 up to the parent joint, 1 from the child joint on. Joint by joint the bones' moves agree, and skinning
    weights blend smoothly across it, so that a change of length is spread over the whole bone.
    """
    above = list(parents[1:])
    start, bone = rest_joints[above], rest_joints[1:] - rest_joints[above]
    offset = rest_vertices[:, None] - start
    place = ((offset * bone).sum(-1) / (bone * bone).sum(-1)).clamp(0, 1)
    distance = (offset - place[..., None] * bone).norm(dim=-1)
    attachment = torch.zeros_like(place)
    for joint in range(len(parents)):
        bones = [child - 1 for child, parent in enumerate(parents) if parent == joint]
        if bones:
            nearness = distance[:, bones].clamp_min(1e-3) ** -2
            attachment[:, bones] += skinning[:, joint, None] * nearness / nearness.sum(-1, keepdim=True)
        else:
            attachment[:, joint - 1] += skinning[:, joint]
            # Carried whole: the bone's full change of length, nothing of it within hand, foot or head.
            share = skinning[:, joint] / attachment[:, joint - 1].clamp_min(1e-9)
            place[:, joint - 1] += share * (1 - place[:, joint - 1])
    return attachment / attachment.sum(-1, keepdim=True), place


def geometric_calibration(body: Body) -> CalibrationWeights:
    """A and W of `body` from its own geometry (`initial_weights`), on its device."""
    made = initial_weights(body.v_template.double(), body.joints_only().joints[0].double(), body.weights.double())
    # From the body alone: the body's own hash already says all that these hang on.
    name = f"geometric-{body.topology_id}"
    return CalibrationWeights(*made, body.topology_id, name).to(body.device, body.dtype)


def load_calibration(body: Body, path: str | Path | None = None) -> CalibrationWeights:
    """A and W for `body`, on its device: those in `path`, or the stored ones of this body, or else from its geometry.

    Stored ones are ``calibration/<topology id>.safetensors`` in a weights folder (written by `save_calibration`).
    ModelMismatchError where `path` was made for another body; WeightsError where it holds something else.
    """
    if path is None:
        try:
            path = find_weights(f"calibration/{body.topology_id}.safetensors")
        except WeightsError:
            return geometric_calibration(body)
    path = find_weights(path)
    state = load_state(path, device="cpu")
    if set(state) != {"attachment", "bones", "model_id", "place"}:
        raise WeightsError(f"{path}: expected attachment, bones, model_id and place, found {', '.join(sorted(state))}")
    model_id = bytes(state["model_id"].tolist()).decode()
    if model_id != body.topology_id or len(state["bones"]) != body.num_vertices:
        raise ModelMismatchError(
            f"{path}: made for body {model_id}, but the body is {body.topology_id} (another vertex order); "
            "use that body's"
        )
    bones = state["bones"].long()
    dense = torch.zeros(2, len(bones), len(body.parents) - 1, dtype=torch.float64)
    attachment, place = (dense[i].scatter_(1, bones, state[k].double()) for i, k in enumerate(("attachment", "place")))
    attachment = attachment / attachment.sum(-1, keepdim=True)  # stored in half precision
    return CalibrationWeights(attachment, place, model_id, sha256_of(path)).to(body.device, body.dtype)


def save_calibration(weights: CalibrationWeights, path: str | Path) -> None:
    """Write A and W as safetensors: `bones` (V,K) that each vertex follows, `attachment` and `place` (V,K) float16.

    Shares of A below a thousandth, of which learned ones have many, are left out.
    """
    shares = weights.attachment.detach().cpu()
    shares = torch.where(shares > _LEAST_SHARE, shares, 0.0)
    attachment, bones = (shares / shares.sum(-1, keepdim=True)).topk(int((shares > 0).sum(-1).max()), dim=-1)
    tensors = {
        "bones": bones.to(torch.uint8),
        "attachment": attachment.half(),
        "place": weights.place.detach().cpu().gather(1, bones).half(),
        "model_id": torch.tensor(list(weights.model_id.encode()), dtype=torch.uint8),
    }
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    save_state(tensors, path)
