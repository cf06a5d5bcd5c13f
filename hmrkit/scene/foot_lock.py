"""Feet kept where they stand, flat on the ground or on what they stand on, with knees as they are where that can be."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hmrkit.body.posing import posed_skeleton
from hmrkit.geometry import axis_angle_to_matrix, matrix_to_axis_angle, rotation_between
from hmrkit.scene.foot_contact import sole_points, standing, stretches
from hmrkit.scene.ground import World
from hmrkit.scene.leg_reach import LEGS, gaussian, hips_moved, legs_moved, spare_knees
from hmrkit.smoothing import bridge
from hmrkit.types import BodyParams

if TYPE_CHECKING:
    from hmrkit.body import Body

EASE_S, LIFT_EASE_S = 0.3, 0.15  # how long a locked foot, and one out of the ground, takes to come and to go
MOST_SLIP_M = 0.35
MOST_LIFT_M = 0.15  # a foot farther from its level than this is in the wrong place, not on it
SINK_M = 0.005  # shoes and soles give way
FLAT_DEG, ROLLING_DEG = 15.0, 25.0
PIVOT_DEG = 20.0  # a foot whose heading changes by more in one stand pivots, and may
ROOT_EASE_S = 0.25


def feet_locked(
    params: BodyParams, visible: np.ndarray, body: Body, fps: float, up_c: np.ndarray, ground: World | None
) -> tuple[BodyParams, dict[str, Any]]:
    """Body parameters whose feet do not slip while they stand, and what was done.

    A standing foot may roll from heel to ball; what the stiller of the two still moves is slip, and is taken out. What
    the standing feet have in common moves the root, slowly. Where a foot's place is too near for its leg or too far,
    the root gives way, and the pelvis tips a little; only the remainder bends the knee. A lock comes and goes within
    `EASE_S`. Stands that would have to be moved by more than `MOST_SLIP_M` are left alone: there the foot slid, or the
    depth is wrong. With `ground`, feet that lie nearly flat are laid flat, stands are brought onto their level, and no
    foot goes below it."""
    soles = sole_points(body, params)
    stands = standing(soles, fps, up_c) & visible[:, None]
    if ground is not None:
        params = laid_flat(params, soles, stands, body, fps, up_c)
        soles = sole_points(body, params)
    wanted, floor, held = _corrections(soles, stands, up_c, ground)
    facts = {
        "stands": sum(len(stretches(held[:, foot])) for foot in range(2)),
        "stands_left_alone": sum(len(stretches(stands[:, foot] & ~held[:, foot])) for foot in range(2)),
        "frames": int(held.any(1).sum()),
        "largest_correction_mm": round(float(np.linalg.norm(wanted, axis=-1).max(initial=0)) * 1000, 1),
    }
    if not held.any():
        return params, facts
    shift = _root_shift(wanted, held, fps)
    wanted, hold = _eased(wanted, held, max(round(EASE_S * fps), 1))
    hold = hold[..., None]
    rotations, joints = _posed(body, params)
    if ground is not None:
        heights = ground.height(soles + (wanted + (1 - hold) * shift[:, None])[:, :, None]).min(-1)
        wanted = wanted + hold * _lift(floor - SINK_M - heights, fps)[..., None] * up_c
    shift, tipped = spare_knees(rotations, joints, wanted, hold[..., 0], shift, up_c, fps)
    moves = wanted + (1 - hold) * (shift[:, None] + hips_moved(joints, tipped))
    if ground is not None:
        heights = ground.height(soles + moves[:, :, None]).min(-1)
        lift = _lift(floor - SINK_M - heights, fps)
        moves = moves + lift[..., None] * up_c
        # Who is below the ground with both feet is raised as a whole.
        shift = shift + gaussian(lift.min(1, keepdims=True), LIFT_EASE_S * fps) * up_c
    return legs_moved(params, rotations, joints, shift, tipped, moves, fps), facts


def _corrections(
    soles: np.ndarray, stands: np.ndarray, up_c: np.ndarray, ground: World | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How far each ankle must move (T,2,3) m, the height that no sole goes below (T,2) m, and which stands (T,2) are
    held. `soles` (T,2,2,3) m and `stands` (T,2) as `foot_contact` gives them."""
    wanted, floor = np.zeros((*stands.shape, 3)), np.zeros(stands.shape)
    above = np.zeros(stands.shape)  # by how much a stand is above its level, m
    held = stands.copy()
    for foot in range(2):
        for begin, end in stretches(stands[:, foot]):
            steady = _without_slip(soles[begin:end, foot])
            if np.linalg.norm(steady, axis=1).max() > MOST_SLIP_M:
                held[begin:end, foot] = False
                continue
            wanted[begin:end, foot] = steady
            if ground is not None:
                height = float(np.median(ground.height(soles[begin:end, foot] + steady[:, None]).min(-1)))
                floor[begin:end, foot] = ground.level(height)
                above[begin:end, foot] = height - ground.level(height)
    above[np.abs(above) > MOST_LIFT_M] = 0
    return wanted - _leveled(above, held)[..., None] * up_c, floor, held


def laid_flat(
    params: BodyParams, soles: np.ndarray, stands: np.ndarray, body: Body, fps: float, up_c: np.ndarray
) -> BodyParams:
    """Body parameters whose standing feet lie on the ground with heel and ball, where they nearly do already.

    `soles` (T,2,2,3) m and `stands` (T,2) as `foot_contact` gives them. Feet pitched by up to `FLAT_DEG` are rotated
    about the ankle until they are level, those from `ROLLING_DEG` on (rising onto the ball) keep their pitch. While
    it lies flat a foot keeps its heading.
    """
    along = soles[:, :, 1] - soles[:, :, 0]
    flat = along - (along @ up_c)[..., None] * up_c
    pitch = np.degrees(np.arctan2(np.abs(along @ up_c), np.linalg.norm(flat, axis=-1)))
    share = stands * np.clip((ROLLING_DEG - pitch) / (ROLLING_DEG - FLAT_DEG), 0, 1)
    for foot in range(2):
        for begin, end in stretches(share[:, foot] > 0.5):
            flat[begin:end, foot] = _steady(flat[begin:end, foot])
    share = gaussian(share, EASE_S * fps / 2)
    level = rotation_between(torch.from_numpy(along), torch.from_numpy(flat))
    change = axis_angle_to_matrix(matrix_to_axis_angle(level) * torch.from_numpy(share)[..., None]).numpy()
    rotations, _ = _posed(body, params)
    pose = params.body_pose.astype(np.float64)
    for foot, (_, knee, ankle) in enumerate(LEGS):
        pose[:, ankle - 1] = np.swapaxes(rotations[:, knee], -1, -2) @ change[:, foot] @ rotations[:, ankle]
    return replace(params, body_pose=pose.astype(np.float32))


def _steady(along: np.ndarray) -> np.ndarray:
    """Directions (n,3) of a foot along the ground with one heading, unless it pivots by more than `PIVOT_DEG`."""
    headings = along / np.linalg.norm(along, axis=1, keepdims=True).clip(1e-6)
    one = np.median(headings, 0)
    one /= np.linalg.norm(one).clip(1e-6)
    pivots = (headings @ one).min() < np.cos(np.radians(PIVOT_DEG))
    return headings if pivots else np.broadcast_to(one, headings.shape)


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
    around = max(round(LIFT_EASE_S * fps), 1)
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


def _eased(wanted: np.ndarray, held: np.ndarray, ease: int) -> tuple[np.ndarray, np.ndarray]:
    """Corrections (T,2,3) faded out over `ease` frames around each stand, and how firmly (T,2) each foot is held."""
    wanted, hold = wanted.copy(), held.astype(float)
    fade = 0.5 + 0.5 * np.cos(np.pi * np.arange(1, ease) / ease)
    for foot in range(2):
        for begin, end in stretches(held[:, foot]):
            for edge, direction in ((begin, -1), (end - 1, 1)):
                around = edge + direction * np.arange(1, ease)
                inside = (around >= 0) & (around < len(held))
                inside[inside] &= ~np.maximum.accumulate(held[around[inside], foot])  # as far as the next stand
                wanted[around[inside], foot] += fade[inside, None] * wanted[edge, foot]
                hold[around[inside], foot] += fade[inside]
    return wanted / np.maximum(hold, 1)[..., None], np.minimum(hold, 1)


def _root_shift(wanted: np.ndarray, stands: np.ndarray, fps: float) -> np.ndarray:
    """(T,3) m: what the standing feet need in common, bridged between stands and smoothed."""
    weight = stands.astype(float)
    common = (wanted * weight[..., None]).sum(1) / np.maximum(weight.sum(1), 1)[:, None]
    times = np.arange(len(wanted)) / fps
    filled = bridge(common[:, None], (weight.sum(1) > 0)[:, None], times)[:, 0]
    return gaussian(filled, ROOT_EASE_S * fps)


def _posed(body: Body, params: BodyParams) -> tuple[np.ndarray, np.ndarray]:
    """World rotations (T,24,3,3) and joints (T,24,3) m of the body."""
    with torch.inference_mode():
        posed = posed_skeleton(body, params)
    return posed.joint_rotations.cpu().numpy(), posed.joints.cpu().numpy().astype(np.float64)
