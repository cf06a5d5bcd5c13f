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

from hmrkit.geometry import axis_angle_to_matrix, matrix_to_axis_angle, rotation_between
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
MOST_LIFT_M = 0.15  # a foot farther from its level than this is in the wrong place, not on it
SINK_M = 0.005  # shoes and soles give way
FLAT_DEG, ROLLING_DEG = 15.0, 25.0
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
    are left alone: there the foot slid, or the depth is wrong. With `ground`, feet that lie nearly flat are laid flat,
    stands are brought onto their level, and no foot goes below it."""
    soles = sole_points(body, params)
    stands = standing(soles, fps, up_c) & visible[:, None]
    if ground is not None:
        params = laid_flat(params, soles, stands, body, fps, up_c)
        soles = sole_points(body, params)
    rotations, joints = _posed(body, params)
    wanted = np.zeros((len(visible), 2, 3))  # how far each ankle must move
    locked = np.zeros((len(visible), 2))
    floor = np.zeros((len(visible), 2))  # height in m that no sole goes below
    above = np.zeros((len(visible), 2))  # by how much a stand is above its level, m
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
                floor[begin:end, foot] = ground.level(height)
                above[begin:end, foot] = height - ground.level(height)
            wanted[begin:end, foot], locked[begin:end, foot] = steady, 1
    above[np.abs(above) > MOST_LIFT_M] = 0
    wanted -= _leveled(above, stands)[..., None] * up_c
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
    hold = np.minimum(locked, 1)[..., None]
    shift = _root_shift(wanted, stands, fps)
    lift = np.zeros_like(locked)
    if ground is not None:
        heights = ground.height(soles + (wanted + (1 - hold) * shift[:, None])[:, :, None]).min(-1)
        lift = _lift(floor - SINK_M - heights, fps)
    goals = joints[:, ANKLES] + wanted + lift[..., None] * up_c
    for _ in range(ROOT_ROUNDS):  # nearer to feet that the legs would not reach
        beyond = [_beyond(joints, leg, goals[:, f] + (1 - hold[:, f]) * shift, shift) for f, leg in enumerate(LEGS)]
        shift = shift + _smoothed_path(beyond[0] * hold[:, 0] + beyond[1] * hold[:, 1], ROOT_EASE_S * fps / 4)
    joints = joints + shift[:, None]
    local = np.concatenate([params.global_orient[:, None], params.body_pose], 1).astype(np.float64)
    for foot, leg in enumerate(LEGS):
        moving = np.flatnonzero((locked[:, foot] > 0) | (lift[:, foot] > 0))
        goal = goals[moving, foot] + (1 - hold[moving, foot]) * shift[moving]
        local[moving[:, None], leg] = reach(rotations[moving], joints[moving], leg, goal)
    moved = params.transl_c + shift
    return replace(params, body_pose=local[:, 1:].astype(np.float32), transl_c=moved.astype(np.float32)), facts


def laid_flat(
    params: BodyParams, soles: np.ndarray, stands: np.ndarray, body: Body, fps: float, up_c: np.ndarray
) -> BodyParams:
    """Body parameters whose standing feet lie on the ground with heel and ball, where they nearly do already.

    `soles` (T,2,2,3) m and `stands` (T,2) as `foot_contact` gives them. Feet pitched by up to `FLAT_DEG` are rotated
    about the ankle until they are level, those from `ROLLING_DEG` on (rising onto the ball) keep their pitch.
    """
    along = soles[:, :, 1] - soles[:, :, 0]
    flat = along - (along @ up_c)[..., None] * up_c
    pitch = np.degrees(np.arctan2(np.abs(along @ up_c), np.linalg.norm(flat, axis=-1)))
    share = stands * np.clip((ROLLING_DEG - pitch) / (ROLLING_DEG - FLAT_DEG), 0, 1)
    share = _smoothed_path(share, EASE_S * fps / 2)
    level = rotation_between(torch.from_numpy(along), torch.from_numpy(flat))
    change = axis_angle_to_matrix(matrix_to_axis_angle(level) * torch.from_numpy(share)[..., None]).numpy()
    rotations, _ = _posed(body, params)
    pose = params.body_pose.astype(np.float64)
    for foot, (_, knee, ankle) in enumerate(LEGS):
        pose[:, ankle - 1] = np.swapaxes(rotations[:, knee], -1, -2) @ change[:, foot] @ rotations[:, ankle]
    return replace(params, body_pose=pose.astype(np.float32))


def _leveled(above: np.ndarray, stands: np.ndarray) -> np.ndarray:
    """(T,2) m: how far down each stand goes to its level, give or take `SINK_M` where that spares the knees.

    `above` (T,2) m is constant over each stand. Two feet down together that differ in height would bend one knee.
    """
    down = above.copy()
    both = stands[:, 0] & stands[:, 1]
    for foot in range(2):
        for begin, end in stretches(stands[:, foot]):
            together = both[begin:end]
            if together.any():
                other = float(above[begin:end, 1 - foot][together].mean())
                down[begin:end, foot] -= np.clip((above[begin, foot] - other) / 2, -SINK_M, SINK_M)
    return down


def _lift(below: np.ndarray, fps: float) -> np.ndarray:
    """Lifts (T,2) m that come and go smoothly and are at least `below` (T,2) m, as far as `MOST_LIFT_M` allows."""
    around = max(round(EASE_S * fps), 1)
    padded = np.pad(below.clip(0, MOST_LIFT_M), ((around, around), (0, 0)))
    most = np.lib.stride_tricks.sliding_window_view(padded, 2 * around + 1, axis=0).max(-1)
    # The mean over a window of what is the window's largest is nowhere less than the value in its middle.
    padded = np.pad(most, ((around, around), (0, 0)), mode="edge")
    return np.lib.stride_tricks.sliding_window_view(padded, 2 * around + 1, axis=0).mean(-1)


def _without_slip(points: np.ndarray) -> np.ndarray:
    """Corrections (n,3) m that keep a standing foot's heel and ball (n,2,3), whichever is stiller, in one place."""
    steps = np.diff(points, axis=0)
    trust = ((steps**2).sum(-1, keepdims=True) + 1e-6) ** -4.0
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
    """`values` (T,C) smoothed by a Gaussian of `sigma` frames; ends are held."""
    around = max(round(3 * sigma), 1)
    kernel = np.exp(-0.5 * (np.arange(-around, around + 1) / max(sigma, 1e-3)) ** 2)
    padded = np.pad(values, ((around, around), (0, 0)), mode="edge")
    columns = [np.convolve(column, kernel / kernel.sum(), mode="valid") for column in padded.T]
    return np.stack(columns, 1)


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
