"""Standing people stand: evidence over time that single frames cannot give.

From in front a knee bent by 20 degrees shortens a leg by a percent, so estimates of a straight one scatter about some
bend. But who rests on both feet under an upright trunk has nearly straight legs. What is left there of a shallow bend
is mostly error and is taken out. Deep bends are what the image shows: squats, lunges and seats stay as they are.

The constants follow held-out synthetic people who stand (seeds other than the benchmark's), estimated by ``hmr`` frame
by frame: bends below 15 degrees are mostly error, those above mostly true, and errors are smaller seen from the side.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from hmrkit.body import Body
from hmrkit.body.landmarks import body_landmarks, local_from_world, world_from_local
from hmrkit.body.posing import body_for
from hmrkit.camera import project, solve_translation
from hmrkit.fitting.inverse_kinematics import smoothstep
from hmrkit.fitting.observations import STATURE_M
from hmrkit.geometry import axis_angle_to_matrix, matrix_to_axis_angle, rotation_between
from hmrkit.skeletons import BLAZEPOSE_33, SMPL_24
from hmrkit.smoothing import standing_still
from hmrkit.types import BodyParams, Camera

_HIPS, _KNEES, _ANKLES = (list(SMPL_24.indices(f"left_{n}", f"right_{n}")) for n in ("hip", "knee", "ankle"))
_SOLES = BLAZEPOSE_33.indices("left_heel", "left_foot_index", "right_heel", "right_foot_index")
TAKEN_OUT = 0.75  # of a shallow bend: who stands at ease bends the knees by a few degrees
WINDOW_S = 0.6  # feet rest for so long; in walking both do for a fifth of it
RESTED = (0.4, 0.8)  # share of the window in which both feet rest: below it no stand, above it surely one
LEAN = (math.radians(15), math.radians(35))  # of the trunk against the line from the feet to the neck
BENT = (math.radians(15), math.radians(35))  # the bend of one that is straight but for errors, and of one that is bent
SEEN_SHARE = 0.3  # how much less is taken out where the camera sees the bend from the side


def standing_knees(
    params: BodyParams, times: np.ndarray, camera: Camera, body: Body, background: np.ndarray | None = None
) -> np.ndarray:
    """How surely (T,2) each knee of a track, left first, is a straight one with an error in its bend, 0 to 1.

    `times` (T,) s; `background` (T,2) px: where the image's background has gone, None where it rests. A single frame
    shows nothing that rests: 0. ModelMismatchError where the parameters are another body's.
    """
    body = body_for(params, body)
    if len(times) < 2:
        return np.zeros((len(times), 2), np.float32)
    local, betas, transl = _tensors(params, body)
    with torch.no_grad():
        world = world_from_local(local)
        marks, joints = body_landmarks(body)(world, betas)
        stands = _stands(marks + transl[:, None], joints, times, camera, background)
        ray = normalize(joints[:, _KNEES] + transl[:, None], dim=-1)
        seen = (world[:, _KNEES, :, 0] * ray).sum(-1).square()
        shallow = 1 - smoothstep(_bend(local), *BENT)
        return (stands[:, None] * shallow * (1 - SEEN_SHARE * seen)).float().cpu().numpy()


def straighten_stands(
    params: BodyParams, times: np.ndarray, camera: Camera, body: Body, background: np.ndarray | None = None
) -> BodyParams:
    """Bodies of T frames at `times` (T,) s, in the camera frame, with straighter knees wherever the person stands.

    Feet keep their rotations and their directions from the hips; everything above the hips is as it was. The body
    with its longer legs is put where it covers the same part of the image. ModelMismatchError: see `standing_knees`.
    """
    shares = standing_knees(params, times, camera, body, background)
    if not shares.any():
        return params
    body = body_for(params, body)
    points = body_landmarks(body)
    local, betas, _ = _tensors(params, body)
    with torch.no_grad():
        world = world_from_local(local)
        joints = points(world, betas)[1]
        less = TAKEN_OUT * torch.from_numpy(shares).to(local) * _bend(local).clamp_min(0)
        world = _unbent(world, joints, less)
        grown = points(world, betas)[1].cpu().numpy()
    moved = _placed(joints.cpu().numpy(), grown, params.transl_c, shares.mean(1), camera)
    pose = local_from_world(world).cpu().numpy()
    return replace(params, global_orient=pose[:, 0], body_pose=pose[:, 1:], transl_c=moved)


def _placed(
    joints: np.ndarray, grown: np.ndarray, transl: np.ndarray, weights: np.ndarray, camera: Camera
) -> np.ndarray:
    """Translation (T,3) m of joints `grown` (T,24,3) that covers in the image what `joints` did at `transl` (T,3).

    Who is taller is farther, by one factor for the track, so that feet do not slide when legs bend: the mean of what
    frames ask for, by `weights` (T,). Who is behind the camera stays there.
    """
    pixels = project(camera, joints + transl[:, None])
    seen = np.asarray(np.isfinite(pixels).all(-1))
    root = solve_translation(camera, grown, pixels, seen) + grown[:, 0]
    before = joints[:, 0, 2] + transl[:, 2]
    known = np.asarray(seen.any(1))
    farther = np.average(root[:, 2] / before, weights=weights * known)
    moved = root * (before * farther / root[:, 2])[:, None] - grown[:, 0]
    return np.where(known[:, None], moved, transl).astype(np.float32)


def _tensors(params: BodyParams, body: Body) -> tuple[Tensor, Tensor, Tensor]:
    """Local rotations (T,24,3,3), betas (10,) and translation (T,3) on the body's device."""
    rotations = np.concatenate([params.global_orient[:, None], params.body_pose], 1)
    local, betas, transl = (torch.from_numpy(x).to(body.device) for x in (rotations, params.betas, params.transl_c))
    return local, betas, transl


def _bend(local: Tensor) -> Tensor:
    """Knee flexion (T,2) beyond the T-pose, left first, rad, of local rotations (T,24,3,3)."""
    return matrix_to_axis_angle(local[:, _KNEES])[..., 0]


def _unbent(world: Tensor, joints: Tensor, angle: Tensor) -> Tensor:
    """World rotations (T,24,3,3) of the pose `joints` (T,24,3), knees unbent by `angle` (T,2), left first, rad.

    Ankles stay in their directions from the hips, feet as they are rotated."""
    hinge = angle.new_tensor([1.0, 0, 0])
    shin = world[:, _KNEES] @ axis_angle_to_matrix(-angle[..., None] * hinge)
    bone = joints[:, _ANKLES] - joints[:, _KNEES]
    thigh = joints[:, _KNEES] - joints[:, _HIPS]
    lowered = (shin @ world[:, _KNEES].mT @ bone[..., None])[..., 0]
    swing = rotation_between(thigh + lowered, thigh + bone)
    changed = world.clone()
    changed[:, _HIPS] = swing @ world[:, _HIPS]
    changed[:, _KNEES] = swing @ shin
    return changed


def _stands(marks: Tensor, joints: Tensor, times: np.ndarray, camera: Camera, background: np.ndarray | None) -> Tensor:
    """How surely (T,) the person stands, 0 to 1: both soles of `marks` (T,33,3) m rest in the image for a while, and
    the trunk is in line with the legs."""
    soles = marks[:, _SOLES].cpu().numpy()
    height = float(np.linalg.norm(camera.focal_px) / math.sqrt(2)) * STATURE_M / soles[..., 2].mean(1).clip(0.1)
    # A sole beside or behind the camera, of somebody very near, is nowhere in the image: nothing shows that it rests.
    pixels = project(camera, soles) - (0 if background is None else background[:, None])
    rest = np.nan_to_num(standing_still(pixels, np.ones(soles.shape[:2]), height, times))
    feet = rest.reshape(-1, 2, 2).max(2).min(1)  # a foot rolls from heel to toe; both feet have to rest
    share = _window_mean(feet, np.diff(times), times)
    neck = joints[:, SMPL_24.index["neck"]]
    reach, trunk = neck - joints[:, _ANKLES].mean(1), neck - joints[:, 0]
    lean = torch.acos((normalize(reach, dim=-1) * normalize(trunk, dim=-1)).sum(-1).clamp(-1, 1))
    return smoothstep(torch.from_numpy(share).to(joints), *RESTED) * (1 - smoothstep(lean, *LEAN))


def _window_mean(values: np.ndarray, lengths: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Means (T,) of what holds between frames, `values` (T-1,), over `WINDOW_S` seconds about each frame."""
    total = np.concatenate([[0.0], np.cumsum(values * lengths)])
    begin, end = (np.clip(times + side * WINDOW_S / 2, times[0], times[-1]) for side in (-1, 1))
    return (np.interp(end, times, total) - np.interp(begin, times, total)) / (end - begin)
