"""Legs that bring their ankles to given places: the root and the pelvis come first, the knees take up what remains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from hmrkit.geometry import axis_angle_to_matrix, rotation_between
from hmrkit.skeletons import SMPL_24
from hmrkit.smoothing import bridge
from hmrkit.types import BodyParams

LEGS = [SMPL_24.indices(f"{side}_hip", f"{side}_knee", f"{side}_ankle") for side in ("left", "right")]
HIPS, KNEES, ANKLES = (list(joints) for joints in zip(*LEGS, strict=True))
SPINE = SMPL_24.index["spine1"]
# How far each may ordinarily go from where it is: the knees' flexion, the pelvis tipping to one side, the root.
KNEE_SIGMA, TIP_SIGMA = np.radians(2.0), np.radians(3.0)
LIFT_SIGMA_M, ASIDE_SIGMA_M = 0.05, 0.01
STIFFEST_M = 0.0015  # of a straight leg, whose length hardly changes with the knee
ROUNDS = 12
ROOT_EASE_S, KNEE_EASE_S = 0.15, 0.06  # spread of the windows that smooth what is added


def spare_knees(
    rotations: np.ndarray,
    joints: np.ndarray,
    wanted: np.ndarray,
    hold: np.ndarray,
    start: np.ndarray,
    up: np.ndarray,
    fps: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Shifts (T,3) m of the root and rotations (T,3,3) of the pelvis that leave legs as long from hip to ankle as they
    are, as far as they can, while the ankles move by `wanted` (T,2,3) m.

    `rotations` (T,24,3,3) and `joints` (T,24,3) m are the posed skeleton; `hold` (T,2) in [0, 1] says how firmly each
    ankle is held at its place, which else goes along with the root; `start` (T,3) m is where to start from; `up` (3,)
    is against gravity. The pelvis tips about the horizontal in which it faces. Least squares in each frame
    (Gauss-Newton), where a leg that misses by more than its sigma pulls no harder (pseudo-Huber), smoothed over time.
    """
    hips, knees, ankles = joints[:, HIPS], joints[:, KNEES], joints[:, ANKLES]
    length = np.linalg.norm(ankles - hips, axis=-1)
    # By how much a radian of the knee changes the leg's length: little where it is straight.
    worth = np.linalg.norm(np.cross(knees - hips, ankles - knees), axis=-1) / length
    sigma = np.hypot(KNEE_SIGMA * worth, STIFFEST_M)
    forward = rotations[:, 0, :, 2] - (rotations[:, 0, :, 2] @ up)[:, None] * up
    forward = forward / np.linalg.norm(forward, axis=1, keepdims=True).clip(1e-6)
    lever = np.cross(forward[:, None], hips - joints[:, :1])
    prior = np.zeros((4, 4))
    prior[:3, :3] = np.eye(3) * ASIDE_SIGMA_M**-2 + np.outer(up, up) * (LIFT_SIGMA_M**-2 - ASIDE_SIGMA_M**-2)
    prior[3, 3] = TIP_SIGMA**-2
    at_start = np.pad(start, ((0, 0), (0, 1)))  # the fourth is the angle by which the pelvis tips
    place = at_start
    times, held = np.arange(len(start)) / fps, (hold == 1).any(1)
    for _ in range(ROUNDS):
        away = ankles + wanted - hips - hold[..., None] * (place[:, None, :3] + place[:, None, 3:] * lever)
        far = np.linalg.norm(away, axis=-1).clip(1e-6)
        direction = away / far[..., None]
        rows = np.concatenate([direction, (direction * lever).sum(-1, keepdims=True)], -1)
        miss = far - length
        trust = hold / sigma**2 / np.hypot(1, miss / sigma)
        normal = np.einsum("tfi,tfj,tf->tij", rows, rows, trust) + prior
        right = np.einsum("tfi,tf->ti", rows, trust * miss) - (place - at_start) @ prior
        best = place + np.linalg.solve(normal, right[..., None])[..., 0]
        best = bridge(best[:, None], held[:, None], times)[:, 0]
        place = place + gaussian(best - place, ROOT_EASE_S * fps)
    tipped = axis_angle_to_matrix(torch.from_numpy(forward * place[:, 3:])).numpy()
    return place[:, :3], tipped


def hips_moved(joints: np.ndarray, tipped: np.ndarray) -> np.ndarray:
    """(T,2,3) m: by how much hips of `joints` (T,24,3) move when the pelvis rotates by `tipped` (T,3,3)."""
    lever = joints[:, HIPS] - joints[:, :1]
    return np.einsum("tij,tfj->tfi", tipped, lever) - lever


def legs_moved(
    params: BodyParams,
    rotations: np.ndarray,
    joints: np.ndarray,
    shift: np.ndarray,
    tipped: np.ndarray,
    moves: np.ndarray,
    fps: float,
) -> BodyParams:
    """The body with its root moved by `shift` (T,3) m, its pelvis rotated by `tipped` (T,3,3) and its ankles moved by
    `moves` (T,2,3) m.

    `rotations` (T,24,3,3) and `joints` (T,24,3) are its posed skeleton. All above the pelvis and the feet keep their
    rotations.
    """
    local = np.concatenate([params.global_orient[:, None], params.body_pose], 1).astype(np.float64)
    world, carried = rotations.astype(np.float64), joints + shift[:, None]
    world[:, 0] = tipped @ world[:, 0]
    local[:, 0] = world[:, 0]
    local[:, SPINE] = np.swapaxes(world[:, 0], -1, -2) @ world[:, SPINE]
    swung = hips_moved(joints, tipped)
    for foot, leg in enumerate(LEGS):
        carried[:, leg] += swung[:, foot, None]
        goal = joints[:, ANKLES[foot]] + moves[:, foot]
        local[:, leg] = reach(world, carried, leg, goal, KNEE_EASE_S * fps)
    pose = local.astype(np.float32)
    transl = (params.transl_c + shift).astype(np.float32)
    return replace(params, global_orient=pose[:, 0], body_pose=pose[:, 1:], transl_c=transl)


def reach(rotations: np.ndarray, joints: np.ndarray, leg: Sequence[int], goal: np.ndarray, ease: float) -> np.ndarray:
    """Local rotations (T,3,3,3) of hip, knee and ankle that bring the ankle towards `goal` (T,3) m; the foot keeps its
    rotation.

    `rotations` (T,24,3,3) and `joints` (T,24,3) are the posed skeleton. The knee bends in its own plane, then the leg
    swings the shortest way; a goal out of reach leaves the leg straight towards it. What is added to a knee's bend is
    smoothed over `ease` frames: a straight leg's knee magnifies millimetres.
    """
    hip, knee, ankle = (torch.from_numpy(joints[:, j]).double() for j in leg)
    rotation = [torch.from_numpy(rotations[:, j]).double() for j in leg]
    above = torch.from_numpy(rotations[:, SMPL_24.parents[leg[0]]]).double()
    goal_t = torch.from_numpy(goal).double()
    thigh, shin = knee - hip, ankle - knee
    upper, lower = thigh.norm(dim=-1), shin.norm(dim=-1)
    far = (goal_t - hip).norm(dim=-1).clamp((upper - lower).abs() * 1.01 + 1e-4, None)
    far = torch.minimum(far, (upper + lower) * 0.9999)
    axis = torch.linalg.cross(thigh, shin)
    bend_now = torch.atan2(axis.norm(dim=-1), (thigh * shin).sum(-1))
    bend = torch.acos(((far**2 - upper**2 - lower**2) / (2 * upper * lower)).clamp(-1, 1))
    change = torch.from_numpy(gaussian((bend - bend_now).numpy()[:, None], ease)[:, 0])
    own = rotation[0][..., 0]  # a straight leg has no plane: SMPL's knees bend about x
    own = own - (own * thigh).sum(-1, keepdim=True) / (upper**2)[:, None] * thigh
    axis = torch.where((bend_now > 0.02)[:, None], axis, own)
    axis = torch.nn.functional.normalize(axis, dim=-1)
    bending = axis_angle_to_matrix(axis * change[:, None])
    foot = hip + thigh + (bending @ shin[..., None])[..., 0]
    swing = rotation_between(foot - hip, goal_t - hip)
    new_hip, new_knee = swing @ rotation[0], swing @ bending @ rotation[1]
    local = torch.stack([above.mT @ new_hip, new_hip.mT @ new_knee, new_knee.mT @ rotation[2]], 1)
    return local.numpy()


def gaussian(values: np.ndarray, sigma: float) -> np.ndarray:
    """`values` (T,C) smoothed by a Gaussian of `sigma` frames; ends are held."""
    around = max(round(3 * sigma), 1)
    kernel = np.exp(-0.5 * (np.arange(-around, around + 1) / max(sigma, 1e-3)) ** 2)
    padded = np.pad(values, ((around, around), (0, 0)), mode="edge")
    columns = [np.convolve(column, kernel / kernel.sum(), mode="valid") for column in padded.T]
    return np.stack(columns, 1)
