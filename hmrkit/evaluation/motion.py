"""Metrics of a person's way through time: acceleration, jitter, and WHAM's in the world."""

from __future__ import annotations

import numpy as np

from hmrkit import metrics
from hmrkit.datasets import BodyTruth, GroundTruth
from hmrkit.evaluation.bodies import SMPL_FEET, Bodies, posed_truth
from hmrkit.evaluation.poses import stretches
from hmrkit.evaluation.protocols import EvalProtocol

# EMDB's jitter takes these as not moving, yet averages over all 24.
EMDB_STILL = (0, 7, 8, 10, 11, 20, 21, 22, 23)


class _Grid:
    """Rows of a person on a line of all its frames: a gap in the frames is a gap in every difference, too."""

    def __init__(self, frame_indices: np.ndarray, counted: np.ndarray) -> None:
        self._places = frame_indices - frame_indices[:1]
        self._counted = counted
        self.length = int(self._places[-1]) + 1 if len(self._places) else 0

    def spread(self, values: np.ndarray) -> np.ndarray:
        """(T,...) -> (length,...), NaN in gaps and where a frame does not count."""
        full = np.full((self.length, *values.shape[1:]), np.nan)
        full[self._places] = np.where(self._counted.reshape(-1, *[1] * (values.ndim - 1)), values, np.nan)
        return full

    def gather(self, full: np.ndarray, first: int) -> np.ndarray:
        """Values of the frames from `first` on -> (T,), NaN where there is none."""
        padded = np.full(self.length, np.nan)
        padded[first : first + len(full)] = full
        return padded[self._places]


def motion_values(
    p: np.ndarray,
    t: np.ndarray,
    joints_c: np.ndarray,
    feet_c: np.ndarray,
    truth: GroundTruth,
    body_truth: BodyTruth | None,
    protocol: EvalProtocol,
    bodies: Bodies,
    fps: float,
    counted: np.ndarray,
) -> dict[str, np.ndarray]:
    """Name -> (T,), from pelvis-relative joints `p`, `t` (T,J,3) m and the predicted joints and feet in the camera."""
    wanted = set(protocol.metrics)
    values: dict[str, np.ndarray] = {}
    grid = _Grid(truth.frame_indices, counted)
    if grid.length >= 3 and "accel_mm_per_frame2" in wanted:
        values["accel_mm_per_frame2"] = grid.gather(metrics.accel_error_per_frame(grid.spread(p), grid.spread(t)), 1)
    if grid.length >= 5 and "accel_m_per_s2" in wanted:
        full = metrics.accel_error_per_frame(grid.spread(p), grid.spread(t), fps)
        # WHAM drops the outermost values of a sequence.
        wham = protocol.name.startswith("wham")
        values["accel_m_per_s2"] = grid.gather(full[1:-1], 2) if wham else grid.gather(full, 1)
    if grid.length >= 4 and "jitter_emdb_10m_per_s3" in wanted:
        placed = grid.spread(joints_c - joints_c[:, :1])
        values["jitter_emdb_10m_per_s3"] = grid.gather(metrics.jitter_per_frame(placed, fps, EMDB_STILL) / 10, 2)
    in_world = bool(wanted & {"w_mpjpe_mm", "jitter_10m_per_s3"})
    if body_truth is not None and truth.camera_from_world is not None and in_world:
        values |= _world_values(joints_c, feet_c, truth, body_truth, bodies, fps, counted, grid)
    return values


def _world_values(
    joints_c: np.ndarray,
    feet_c: np.ndarray,
    truth: GroundTruth,
    body_truth: BodyTruth,
    bodies: Bodies,
    fps: float,
    counted: np.ndarray,
    grid: _Grid,
) -> dict[str, np.ndarray]:
    """WHAM's world metrics, of what the true motion of the camera makes of the prediction."""
    bodies.note("predictions are carried into the world by the camera's true motion: no method here estimates it")
    assert truth.camera_from_world is not None
    world_from_camera = np.linalg.inv(truth.camera_from_world.astype(np.float64))
    rotation, shift = np.swapaxes(world_from_camera[:, :3, :3], 1, 2), world_from_camera[:, None, :3, 3]
    joints, feet = joints_c @ rotation + shift, feet_c @ rotation + shift
    body = bodies.true(body_truth.model, body_truth.gender)
    true_joints, true_feet = np.full_like(joints, np.nan), np.full_like(feet, np.nan)
    rows = np.nonzero(counted)[0]
    for stretch in stretches(rows):
        vertices, true_joints[stretch], _ = posed_truth(body, body_truth, stretch, None, world=True)
        if body.is_smpl:
            true_feet[stretch] = vertices[:, SMPL_FEET]
    known = np.nonzero(counted & np.isfinite(joints).all((1, 2)))[0]
    values = {name: np.full(len(counted), np.nan) for name in ("w_mpjpe_mm", "wa_mpjpe_mm", "rte_percent")}
    if len(known) > 1:
        p, t = joints[known], true_joints[known]
        values["w_mpjpe_mm"][known] = metrics.w_mpjpe_mm_per_frame(p, t)
        values["wa_mpjpe_mm"][known] = metrics.wa_mpjpe_mm_per_frame(p, t)
        values["rte_percent"][known] = metrics.rte_percent_per_frame(p[:, 0], t[:, 0])
    if grid.length >= 4:
        for name, points in (("jitter_10m_per_s3", joints), ("true_jitter_10m_per_s3", true_joints)):
            values[name] = grid.gather(metrics.jitter_per_frame(grid.spread(points), fps) / 10, 2)
    if grid.length >= 2 and np.isfinite(feet).any():
        # A frame's value is the mean of its feet at rest; frames weigh alike, not feet.
        sliding = metrics.foot_sliding_mm_per_frame(grid.spread(feet), grid.spread(true_feet))
        resting = np.isfinite(sliding).sum(1)
        with np.errstate(invalid="ignore"):
            values["foot_sliding_mm"] = grid.gather(np.nansum(sliding, 1) / np.where(resting, resting, np.nan), 1)
    return values
