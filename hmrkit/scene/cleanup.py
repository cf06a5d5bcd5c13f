"""Motion made clean for animators: gaps split, jitter taken out without delay, feet kept where they stand.

All of it is off unless asked for, works on the skeleton (`Motion.cleaned`), and says what it did. The exact vertices
then follow by what the skeleton's own mesh moves (`hmrkit.scene.build`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hmrkit.geometry import axis_angle_to_matrix, rotation_between
from hmrkit.scene import ExportOptions
from hmrkit.scene.foot_contact import ANKLES, sole_points, standing, stretches
from hmrkit.scene.ground import World
from hmrkit.scene.resampling import Motion
from hmrkit.skeletons import SMPL_24
from hmrkit.smoothing import bridge, smooth_body
from hmrkit.types import BodyParams

if TYPE_CHECKING:
    from hmrkit.body import Body
from hmrkit.body.posing import posed_skeleton

HANDS = SMPL_24.indices("left_hand", "right_hand")
LEGS = [SMPL_24.indices(f"{side}_hip", f"{side}_knee", f"{side}_ankle") for side in ("left", "right")]
EASE_S = 0.15  # how long a locked foot takes to come and to go
MOST_SLIP_M = 0.35
STRAIGHTEST = 0.995  # of a leg's length: straighter, the knee would snap
ROOT_ROUNDS = 6
MOST_LIFT_M = 0.15  # a foot farther from the ground than this stands on something else
ROOT_EASE_S = 0.25


def split_at_gaps(motion: Motion) -> list[Motion]:
    """The stretches in which the person is seen, each a motion of its own, ``_part_01`` and on where there are more."""
    runs = stretches(motion.visible)
    if len(runs) <= 1:
        return [motion.part(slice(*run)) for run in runs]
    return [replace(motion.part(slice(*r)), name=f"{motion.name}_part_{k:02d}") for k, r in enumerate(runs, 1)]


def clean(
    motions: Sequence[Motion],
    body: Body,
    fps: Fraction | float,
    options: ExportOptions,
    up_c: np.ndarray | None = None,
    ground: World | None = None,
) -> tuple[list[Motion], dict[str, Any]]:
    """Motions with `cleaned` filled in as `options` ask (smooth, then flat hands, then feet), and what was done.

    `up_c` (3,) is needed to lock feet; with `ground` they are also brought down (or up) to it.
    """
    done: dict[str, Any] = {}
    out = []
    for motion in motions:
        facts: dict[str, Any] = {}
        params = motion.params
        if options.smooth:
            times = np.arange(len(motion.visible)) / float(fps)
            params = smooth_body(params, motion.visible, times, options.smooth)
            facts["smooth"] = options.smooth
        if options.fingers == "rest":
            pose = params.body_pose.copy()
            pose[:, [hand - 1 for hand in HANDS]] = np.eye(3)
            params = replace(params, body_pose=pose, fingers=None)
            facts["fingers"] = "rest"
        if options.lock_feet and up_c is not None:
            params, facts["lock_feet"] = feet_locked(params, motion.visible, body, float(fps), up_c, ground)
        out.append(replace(motion, cleaned=params))
        done[motion.name] = facts
    return out, done


def feet_locked(
    params: BodyParams, visible: np.ndarray, body: Body, fps: float, up_c: np.ndarray, ground: World | None
) -> tuple[BodyParams, dict[str, Any]]:
    """Body parameters whose feet do not slip while they stand, and what was done.

    A standing foot may roll from heel to ball; what the stiller of the two still moves is slip, and is taken out. What
    the standing feet have in common moves the root, slowly; the rest is taken up by hip and knee, and the foot keeps
    its rotation. A lock comes and goes within `EASE_S`. Stands that would have to be moved by more than `MOST_SLIP_M`
    are left alone: there the foot slid, or the depth is wrong."""
    soles = sole_points(body, params)
    stands = standing(soles, fps, up_c) & visible[:, None]
    rotations, joints = _posed(body, params)
    wanted = np.zeros((len(visible), 2, 3))  # how far each ankle must move
    locked = np.zeros((len(visible), 2))
    left_alone = 0
    for foot in range(2):
        for begin, end in stretches(stands[:, foot]):
            steady = _without_slip(soles[begin:end, foot])
            if np.linalg.norm(steady, axis=1).max() > MOST_SLIP_M:
                stands[begin:end, foot] = False
                left_alone += 1
                continue
            if ground is not None:
                height = float(np.median(ground.height(soles[begin:end, foot] + steady[:, None]).min(-1)))
                steady = steady - (height if abs(height) < MOST_LIFT_M else 0.0) * up_c
            wanted[begin:end, foot], locked[begin:end, foot] = steady, 1
    for foot in range(2):
        for begin, end in stretches(stands[:, foot]):
            _ease(wanted[:, foot], locked[:, foot], stands[:, foot], (begin, end - 1), max(round(EASE_S * fps), 1))
    wanted /= np.maximum(locked, 1)[..., None]
    facts = {
        "stands": sum(len(stretches(stands[:, foot])) for foot in range(2)),
        "stands_left_alone": left_alone,
        "frames": int(stands.any(1).sum()),
        "largest_correction_mm": round(float(np.linalg.norm(wanted, axis=-1).max(initial=0)) * 1000, 1),
    }
    if not stands.any():
        return params, facts
    goals = joints[:, ANKLES] + wanted
    hold = np.minimum(locked, 1)[..., None]
    shift = _root_shift(wanted, stands, fps)
    for _ in range(ROOT_ROUNDS):  # nearer to feet that the legs would not reach
        beyond = [_beyond(joints, leg, goals[:, f] + (1 - hold[:, f]) * shift, shift) for f, leg in enumerate(LEGS)]
        shift = shift + _smoothed_path(beyond[0] * hold[:, 0] + beyond[1] * hold[:, 1], ROOT_EASE_S * fps / 4)
    joints = joints + shift[:, None]
    local = np.concatenate([params.global_orient[:, None], params.body_pose], 1).astype(np.float64)
    for foot, leg in enumerate(LEGS):
        moving = np.flatnonzero(locked[:, foot] > 0)
        goal = goals[moving, foot] + (1 - hold[moving, foot]) * shift[moving]
        local[moving[:, None], leg] = reach(rotations[moving], joints[moving], leg, goal)
    moved = params.transl_c + shift
    return replace(params, body_pose=local[:, 1:].astype(np.float32), transl_c=moved.astype(np.float32)), facts


def _without_slip(points: np.ndarray) -> np.ndarray:
    """Corrections (n,3) m that keep a standing foot's heel and ball (n,2,3), whichever is stiller, in one place."""
    steps = np.diff(points, axis=0)
    trust = ((steps**2).sum(-1, keepdims=True) + 1e-6) ** -2.0
    slip = (steps * trust).sum(1) / trust.sum(1)
    steady = -np.concatenate([np.zeros((1, 3)), np.cumsum(slip, 0)])
    return steady - np.median(steady, 0)


def _beyond(joints: np.ndarray, leg: Sequence[int], goal: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """(T,3) m: what is missing for the moved leg to reach `goal` (T,3) without being straighter than it was."""
    hip, knee, ankle = (joints[:, j] for j in leg)
    length = np.linalg.norm(knee - hip, axis=1) + np.linalg.norm(ankle - knee, axis=1)
    most = np.maximum(STRAIGHTEST * length, np.linalg.norm(ankle - hip, axis=1))
    away = goal - hip - shift
    far = np.linalg.norm(away, axis=1)
    return away * (np.maximum(far - most, 0) / np.maximum(far, 1e-6))[:, None]


def _ease(wanted: np.ndarray, locked: np.ndarray, stands: np.ndarray, edges: tuple[int, int], ease: int) -> None:
    """Fade the corrections `wanted` (T,3) at the edges of a stand out over the frames around it that are none."""
    fade = 0.5 + 0.5 * np.cos(np.pi * np.arange(1, ease) / ease)
    for edge, direction in zip(edges, (-1, 1), strict=True):
        around = edge + direction * np.arange(1, ease)
        inside = (around >= 0) & (around < len(locked))
        inside[inside] &= ~np.maximum.accumulate(stands[around[inside]])  # as far as the next stand
        wanted[around[inside]] += fade[inside, None] * wanted[edge]
        locked[around[inside]] += fade[inside]


def _root_shift(wanted: np.ndarray, stands: np.ndarray, fps: float) -> np.ndarray:
    """(T,3) m: what the standing feet need in common, bridged between stands and smoothed."""
    weight = stands.astype(float)
    common = (wanted * weight[..., None]).sum(1) / np.maximum(weight.sum(1), 1)[:, None]
    times = np.arange(len(wanted)) / fps
    filled = bridge(common[:, None], (weight.sum(1) > 0)[:, None], times)[:, 0]
    return _smoothed_path(filled, ROOT_EASE_S * fps)


def _smoothed_path(values: np.ndarray, sigma: float) -> np.ndarray:
    """`values` (T,3) smoothed by a Gaussian of `sigma` frames; ends are held."""
    around = max(round(3 * sigma), 1)
    kernel = np.exp(-0.5 * (np.arange(-around, around + 1) / max(sigma, 1e-3)) ** 2)
    padded = np.pad(values, ((around, around), (0, 0)), mode="edge")
    return np.stack([np.convolve(padded[:, axis], kernel / kernel.sum(), mode="valid") for axis in range(3)], 1)


def reach(rotations: np.ndarray, joints: np.ndarray, leg: Sequence[int], goal: np.ndarray) -> np.ndarray:
    """Local rotations (n,3,3,3) of hip, knee and ankle that bring the ankle to `goal` (n,3) m; the foot keeps its
    rotation.

    `rotations` (n,24,3,3) and `joints` (n,24,3) are the posed skeleton. The knee bends in its own plane, then the leg
    swings the shortest way; a goal out of reach leaves the leg straight towards it.
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
    own = rotation[0][..., 0]  # a straight leg has no plane: SMPL's knees bend about x
    own = own - (own * thigh).sum(-1, keepdim=True) / (upper**2)[:, None] * thigh
    axis = torch.where((bend_now > 0.02)[:, None], axis, own)
    axis = torch.nn.functional.normalize(axis, dim=-1)
    bending = axis_angle_to_matrix(axis * (bend - bend_now)[:, None])
    foot = hip + thigh + (bending @ shin[..., None])[..., 0]
    swing = rotation_between(foot - hip, goal_t - hip)
    new_hip, new_knee = swing @ rotation[0], swing @ bending @ rotation[1]
    local = torch.stack([above.mT @ new_hip, new_hip.mT @ new_knee, new_knee.mT @ rotation[2]], 1)
    return local.numpy()


def _posed(body: Body, params: BodyParams) -> tuple[np.ndarray, np.ndarray]:
    with torch.inference_mode():
        posed = posed_skeleton(body, params)
    return posed.joint_rotations.cpu().numpy(), posed.joints.cpu().numpy().astype(np.float64)
