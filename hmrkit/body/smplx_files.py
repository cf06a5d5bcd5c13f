"""SMPL-H and SMPL-X files, through the package smplx, as bodies of SMPL's 24 joints.

smplx says what such a file means: joints, shape components, pose corrections, vertices of nose and toes. It would open
pickles without care, so it is handed a plain copy of what `hmrkit.body.files.read_smpl_file` has read.

Fingers, jaw and eyes do not move by themselves here: they are at rest (hands are flat). A finger's weights go to its
hand, whose joint is the base of the middle finger, those of jaw and eyes to the head. Without the pose corrections of
fingers, which are zero at rest, posed vertices equal smplx's own.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hmrkit.body.files import NUM_BETAS, SMPL_KEYS, check_shapes, content_id
from hmrkit.errors import WeightsError, reason_of
from hmrkit.skeletons import SMPL_24

if TYPE_CHECKING:
    from hmrkit.body import Body

# Joints in a file -> the class of smplx that reads it.
KINDS = {24: "SMPL", 52: "SMPLH", 55: "SMPLX"}
# What smplx asks for besides SMPL's keys, for hand poses and face landmarks that are not used here: shapes of zeros.
_UNUSED = {
    "hands_componentsl": (45, 45), "hands_componentsr": (45, 45), "hands_meanl": (45,), "hands_meanr": (45,),
    "lmk_faces_idx": (51,), "lmk_bary_coords": (51, 3),
}  # fmt: skip
_MEAN_HANDS = ("hands_meanl", "hands_meanr")
_BODY_JOINTS = 22  # the first joints of all three models are SMPL's, but for its two hands
_HAND_BASES = {"left_hand": "left_middle1", "right_hand": "right_middle1"}
_CARRIERS = {"left_wrist": "left_hand", "right_wrist": "right_hand"}  # who takes the weights of what hangs on a joint
# Names of landmarks -> smplx's names of the vertices they lie at.
_LANDMARKS = {
    "nose": "nose", "left_eye": "leye", "right_eye": "reye", "left_ear": "lear", "right_ear": "rear",
    "left_thumb_tip": "lthumb", "right_thumb_tip": "rthumb", "left_index_tip": "lindex", "right_index_tip": "rindex",
    "left_pinky_tip": "lpinky", "right_pinky_tip": "rpinky", "left_big_toe": "LBigToe", "right_big_toe": "RBigToe",
    "left_small_toe": "LSmallToe", "right_small_toe": "RSmallToe", "left_heel": "LHeel", "right_heel": "RHeel",
}  # fmt: skip


def smplx_model(model: dict[str, Any], dtype: Any = None) -> Any:
    """smplx's own module (SMPL, SMPLH or SMPLX; batch 1, flat hands, 10 betas) of what `read_smpl_file` returned.

    `dtype` is torch's, by default float32. ImportError where smplx is not installed, WeightsError where it does not
    take the file.
    """
    import smplx
    import torch
    from smplx.utils import Struct

    kind = KINDS[np.shape(model["kintree_table"])[-1]]
    plain = {key: np.zeros(shape, np.int64 if "idx" in key else np.float32) for key, shape in _UNUSED.items()}
    for key in (*SMPL_KEYS, *_UNUSED):
        if key in model:
            plain[key] = np.asarray(model[key])
    flat = {} if kind == "SMPL" else {"use_pca": False, "flat_hand_mean": True, "ext": "npz"}
    try:
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):  # it prints warnings
            path = Path(folder) / "model.npz"
            np.savez(path, **plain)  # type: ignore[arg-type]
            given = {"data_struct": Struct(**plain)} if kind == "SMPL" else {}  # that class reads no npz
            return getattr(smplx, kind)(
                str(path), num_betas=NUM_BETAS, dtype=dtype or torch.float32, **given, **flat
            ).requires_grad_(False)
    except Exception as error:  # its constructors fail in any way, by what a file lacks
        reason = reason_of(error)
        raise WeightsError(f"smplx does not take it for a {kind} model: {reason}") from error


def as_smpl(model: dict[str, Any]) -> dict[str, Any]:
    """What `check_smpl_model` wants, made of a SMPL-H or SMPL-X file's contents; other contents come back unchanged.

    SMPL-H keeps SMPL's vertices; a SMPL-X body has its own, so its `model_id` says so, `landmark_names` with
    `landmark_vertices` where its face and toes are, and `mean_hands` (30,3) what hands that are not flat are about.
    WeightsError where smplx is wanted and not there, or does not take the file.
    """
    joints = np.shape(model.get("kintree_table", ()))[-1:]
    kind = KINDS.get(joints[0]) if joints else None
    if kind in (None, "SMPL"):
        return model
    check_shapes(model)
    try:
        import torch
        from smplx.joint_names import JOINT_NAMES, SMPLH_JOINT_NAMES
        from smplx.vertex_ids import vertex_ids
    except ImportError as error:
        raise WeightsError(
            f"expected a SMPL body model of 24 joints, found {kind} with {joints[0]}, which is read through smplx; pip "
            "install hmrkit[smplx] (non-commercial licence), or give the SMPL file"
        ) from error
    reference = smplx_model(model, torch.float64)
    parents = reference.parents.tolist()
    shared = list(SMPL_24.parents[1:_BODY_JOINTS])
    if parents[1:_BODY_JOINTS] != shared or any(parent >= joint for joint, parent in enumerate(parents)):
        raise WeightsError(f"kintree_table: expected {kind}'s tree of {joints[0]} joints, found another one")
    names = (SMPLH_JOINT_NAMES if kind == "SMPLH" else JOINT_NAMES)[: joints[0]]
    carriers, bases = _carriers(names, parents)
    skinning = reference.lbs_weights.numpy()
    weights = np.zeros((len(skinning), len(SMPL_24)))
    np.add.at(weights.T, carriers, skinning.T)
    corrections = reference.posedirs.numpy().T.reshape(len(skinning), 3, -1)[..., : 9 * (_BODY_JOINTS - 1)]
    made = {
        "v_template": reference.v_template.numpy(),
        "f": np.asarray(reference.faces, np.int64),
        "shapedirs": reference.shapedirs.numpy(),
        "posedirs": np.concatenate([corrections, np.zeros((len(skinning), 3, 9 * len(_HAND_BASES)))], -1),
        "J_regressor": reference.J_regressor.numpy()[bases],
        "weights": weights,
        "kintree_table": np.array([SMPL_24.parents, range(len(SMPL_24))]),
    }
    if kind == "SMPLX":
        made["model_id"] = content_id(made).replace("smpl-", "smplx-")
        made["landmark_names"] = np.array(list(_LANDMARKS))
        made["landmark_vertices"] = np.array([vertex_ids["smplx"][theirs] for theirs in _LANDMARKS.values()])
        if all(np.size(model.get(key, ())) == 45 for key in _MEAN_HANDS):
            made["mean_hands"] = np.concatenate([np.reshape(model[key], (15, 3)) for key in _MEAN_HANDS])
    return made


def skinning_difference_mm(model: dict[str, Any], body: Body, poses: int = 8) -> float:
    """Largest distance in mm between vertices of `body` and of smplx for random poses, shapes and places.

    `model` is what `read_smpl_file` returned, `body` was made of it on the CPU. Hands that are made of fingers stay at
    rest. ImportError where smplx is not installed, WeightsError where it does not take the file.
    """
    import torch

    from hmrkit.geometry import axis_angle_to_matrix

    reference = smplx_model(model, body.dtype)
    moving = len(SMPL_24) if len(reference.parents) == len(SMPL_24) else _BODY_JOINTS
    random = torch.Generator().manual_seed(0)
    pose = torch.zeros(poses, len(SMPL_24), 3, dtype=body.dtype)
    pose[:, :moving] = 0.6 * torch.randn(poses, moving, 3, generator=random, dtype=body.dtype)
    betas = torch.randn(poses, NUM_BETAS, generator=random, dtype=body.dtype)
    transl = torch.randn(poses, 3, generator=random, dtype=body.dtype)
    rotations = axis_angle_to_matrix(pose)
    ours = body(rotations[:, 0], rotations[:, 1:], betas, transl).vertices
    largest = 0.0
    for i in range(poses):
        given = {"betas": betas[i, None], "global_orient": pose[i, :1], "transl": transl[i, None]}
        theirs = reference(body_pose=pose[i, 1:moving].reshape(1, -1), **given).vertices[0]
        largest = max(largest, float((ours[i] - theirs).norm(dim=-1).max()))
    return 1000 * largest


def _carriers(names: list[str], parents: list[int]) -> tuple[list[int], list[int]]:
    """Which of SMPL's joints takes each joint's weights, and which joint stands where each of SMPL's does."""
    carriers = []
    for joint in range(len(names)):
        above = joint
        while above >= _BODY_JOINTS:
            above = parents[above]
        name = names[above] if above == joint else _CARRIERS.get(names[above], names[above])
        carriers.append(SMPL_24.index[name])
    return carriers, [names.index(_HAND_BASES.get(name, name)) for name in SMPL_24.joints]
