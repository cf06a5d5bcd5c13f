"""The pose that a mesh is calibrated to: the mesh stream's joints, corrected by a lifted pose and by 2D keypoints.

PC-HMR (Luan et al. 2021) takes the lifter's pose as it is. On footage neither source is right alone, and a lifter's
skeleton is not the body's, so here the target keeps the mesh stream's skeleton and root, and every bone is *rotated*
part of the way to where the lifter (`lifted_bones`) and the keypoints (`viewing_rays`) see it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from hmrkit.calibration.bone_rotations import (
    SEEN_JOINTS,
    assemble,
    no_rotations,
    of_bones,
    with_bends,
)
from hmrkit.calibration.lifted_bones import follow_lifted
from hmrkit.calibration.shares import Shares, default_shares
from hmrkit.calibration.time_filter import TimeFilter
from hmrkit.calibration.viewing_rays import Rays, pieces_on_rays, rotations_to_rays
from hmrkit.geometry import axis_angle_to_matrix, matrix_to_axis_angle
from hmrkit.skeletons import get_skeleton
from hmrkit.types import Camera, Keypoints, LiftedPose

# Few passes on purpose: each brings the joints nearer to rays that are a little wrong themselves.
_SNAPS = 2


@dataclass(frozen=True)
class TargetOptions:
    """How the target is made.

    `shares`: how much of a bone's direction comes from the lifted pose and from the keypoints' rays, by what was
    measured of each. `lift_weight` and `ray_weight` in [0, 1] say it for all bones alike, instead (0: not followed).
    `align` in [0, 1]: a lifted pose that is rotated against the mesh by the same rotation in the whole track is first
    rotated back by this share of it (1 trusts the mesh's orientation alone, 0 both alike). `keep_lengths`: bones keep
    the mesh's lengths; else they take the lifted pose's proportions. `smooth_s`: standard deviation of the smoothing of
    corrections, seconds.
    """

    shares: Shares = field(default_factory=default_shares)
    lift_weight: float | None = None
    ray_weight: float | None = None
    align: float = 0.5
    keep_lengths: bool = True
    smooth_s: float = 0.07

    @property
    def of_rays(self) -> Tensor:
        """(10,3) of `PIECES`, about each axis of the camera."""
        return _about_axes(self.shares.rays if self.ray_weight is None else np.full((10, 2), self.ray_weight))

    @property
    def of_lifted(self) -> Tensor:
        """(10,3) of `PIECES`, about each axis of the camera, before the rays take theirs of what that gives."""
        if self.lift_weight is not None:
            return torch.full((10, 3), self.lift_weight, dtype=torch.float64)
        return (_about_axes(self.shares.lifted) / (1 - self.of_rays).clamp_min(0.1)).clamp(max=1)


def _about_axes(shares: np.ndarray) -> Tensor:
    """Shares (10,2) in the image and in depth -> (10,3) about the axes: a rotation about z stays in the image."""
    return torch.from_numpy(shares[:, [1, 1, 0]].astype(np.float64))


def build_target(
    joints_mesh_c: np.ndarray,
    lifted: LiftedPose | None,
    keypoints: Keypoints | None,
    camera: Camera,
    times: np.ndarray,
    options: TargetOptions | None = None,
    keypoint_offsets_c: np.ndarray | None = None,
    straight: np.ndarray | None = None,
) -> np.ndarray:
    """Target joints (T,24,3) m in the camera frame, of the mesh stream's joints (T,24,3) m of the same frames.

    `times` (T,) s are the frames', of the world, rising. `lifted` is matched by joint name; frames that it lacks (NaN)
    are left to the mesh. `keypoints` give its confidence and the rays. `keypoint_offsets_c` (T,12,3) m: from each of
    `SEEN_JOINTS` to the point of the body that its keypoint marks (a hip's keypoint is not the hip joint), zero where
    not given. `straight` (T,2): how surely each knee, left first, is one of somebody who stands
    (`hmrkit.fitting.standing`); so much of its bend stays the mesh stream's. ValueError where the numbers of frames
    differ.
    """
    options = options or TargetOptions()
    mesh = torch.from_numpy(np.asarray(joints_mesh_c, np.float64))
    counts = {len(mesh), len(times)} | ({len(lifted.joints_c)} if lifted else set())
    counts |= {len(keypoints.keypoints_2d)} if keypoints else set()
    if len(counts) > 1:
        raise ValueError(f"expected mesh, times, lifted pose and keypoints of the same frames, got {sorted(counts)}")
    filtered = TimeFilter(times, options.smooth_s)
    rays = viewing_rays(keypoints, camera, mesh, keypoint_offsets_c)
    rotations, root = no_rotations(mesh), mesh[:, 0]
    lengths = torch.ones(23, dtype=mesh.dtype)
    if lifted is not None and options.of_lifted.any():
        pose = torch.from_numpy(lifted.joints_c.astype(np.float64))
        sure = torch.ones(len(mesh), len(SEEN_JOINTS), dtype=mesh.dtype)
        if rays:
            sure = rays.sure * rays.agreement(_seen_of(pose, lifted.skeleton), root)
        rotations, lengths = follow_lifted(
            mesh, pose, lifted.skeleton, sure, options.of_lifted, filtered, options.align, options.keep_lengths
        )
    if rays and options.of_rays.any():
        rotations, root = follow_rays(mesh, rotations, lengths, rays, options.of_rays, filtered)
    if straight is not None:
        rotations = with_bends(rotations, torch.from_numpy(np.asarray(straight, np.float64)))
    return assemble(mesh, rotations, lengths, root).numpy().astype(np.float32)


def follow_rays(
    mesh: Tensor, lifted: Tensor, lengths: Tensor, rays: Rays, share: Tensor, filtered: TimeFilter
) -> tuple[Tensor, Tensor]:
    """Rotations (T,23,3,3) and root (T,3) m of bones that are rotated by `lifted` (T,23,3,3) and then by `share` (10,3)
    of what brings them onto their rays."""
    # The depth stays the mesh stream's, which has fitted its shape and size to the image at that depth.
    root, rotations, weight = mesh[:, 0], lifted, rays.sure
    for _ in range(_SNAPS):
        root = root + rays.shift(assemble(mesh, rotations, lengths, root), filtered)
        rotations, weight = rotations_to_rays(mesh, rotations, lengths, root, rays)
    further = of_bones(share) * matrix_to_axis_angle(rotations @ lifted.mT)
    trusted = of_bones(pieces_on_rays(weight)[..., None])[..., 0]
    rotations = axis_angle_to_matrix(filtered.correct(further, trusted)) @ lifted
    root = root + rays.shift(assemble(mesh, rotations, lengths, root), filtered)
    seen = filtered.fade(rays.seen_body(mesh))
    return rotations, mesh[:, 0] + seen[:, None] * (root - mesh[:, 0])


def _seen_of(pose: Tensor, skeleton: str) -> Tensor:
    """`SEEN_JOINTS` (T,12,3) of a pose, NaN where its skeleton lacks one."""
    index = get_skeleton(skeleton).index
    missing = torch.full_like(pose[:, 0], torch.nan)
    return torch.stack([pose[:, index[name]] if name in index else missing for name in SEEN_JOINTS], 1)


def viewing_rays(
    keypoints: Keypoints | None, camera: Camera, mesh: Tensor, offsets_c: np.ndarray | None
) -> Rays | None:
    """The keypoints' viewing rays; None without keypoints, where nothing says that a joint is not seen."""
    if keypoints is None:
        return None
    index = get_skeleton(keypoints.skeleton).index
    pixels = np.full((len(mesh), len(SEEN_JOINTS), 2), np.nan, np.float32)
    confidence = np.zeros((len(mesh), len(SEEN_JOINTS)))
    for i, name in enumerate(SEEN_JOINTS):
        if name in index:
            pixels[:, i] = keypoints.keypoints_2d[:, index[name], :2]
            confidence[:, i] = keypoints.keypoints_2d[:, index[name], 2]
    confidence = np.where(np.isfinite(pixels).all(-1), np.nan_to_num(confidence).clip(0, 1), 0)
    offsets = np.zeros((len(mesh), len(SEEN_JOINTS), 3)) if offsets_c is None else np.asarray(offsets_c, np.float64)
    return Rays(camera, pixels, torch.from_numpy(confidence), torch.from_numpy(offsets))
