"""One ``person_{id:02d}.npz`` a person, in AMASS's layout; read it with ``numpy.load``, it holds no pickles.

AMASS's own names (Mahmood et al. 2019; amass.is.tue.mpg.de), T frames:

==================== ============ =====================================================================================
``poses``            (T,72)       axis-angle, radians: SMPL's 24 joints x 3, root first. AMASS has 156, SMPL-H's 52
                                  joints; the first 66 mean the same, hands (66:72 here) have no fingers
``root_orient``      (T,3)        ``poses[:, :3]``
``pose_body``        (T,63)       ``poses[:, 3:66]``
``betas``            (10,)        shape coefficients of the body model `model_id`
``trans``            (T,3)        metres, added to the posed body's vertices
``mocap_framerate``  ()           Hz, also as ``mocap_frame_rate``: AMASS has used both names
``gender``           ()           neutral, male or female
==================== ============ =====================================================================================

What a clip adds: ``frame_indices`` (T,) in the source and ``frame_times`` (T,) s (frames may be missing from a track:
the rate alone does not say when a row is); ``joints_c`` (T,24,3) m of the final mesh; ``keypoints_2d`` (T,K,3) px and
confidence with ``keypoint_skeleton``; ``track_id``; ``model_id``; ``camera_focal_px`` (2,), ``camera_center_px`` (2,),
``image_size`` (width, height), ``camera_source``; ``coordinate_frame`` in words: unlike AMASS's z-up world, root and
translation are those of the camera. ``calibrated`` says whether the parameters are the refit to the calibrated mesh;
then ``refit_residual_mm`` (T,) is the mean distance between the two (the exact vertices are what ``obj`` writes).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from hmrkit.exporters import person_name
from hmrkit.geometry import matrix_to_axis_angle
from hmrkit.take import atomic_path
from hmrkit.types import BodyParams, MeshTrack, Take

COORDINATE_FRAME = "camera: x right, y down, z forward (OpenCV), metres"


class NpzExporter:
    """Gathers each person's joints and writes the file when the person's last frame has come."""

    def __init__(self, folder: Path, take: Take) -> None:
        self._folder, self._take = Path(folder), take
        self._joints: list[np.ndarray] = []
        self._person: int | None = None
        self._files: list[Path] = []

    def add(self, mesh: MeshTrack) -> None:
        """The next stretch of a person's frames."""
        if mesh.track_id != self._person:
            self._finish_person()
            self._person = mesh.track_id
        self._joints.append(mesh.joints_c)

    def close(self) -> list[Path]:
        """Write the last person; returns the files made."""
        self._finish_person()
        return self._files

    def _finish_person(self) -> None:
        if self._person is None:
            return
        path = self._folder / f"{person_name(self._person)}.npz"
        arrays = person_arrays(self._take, self._person, np.concatenate(self._joints))
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, **arrays)
        self._files.append(path)
        self._joints, self._person = [], None


def person_arrays(take: Take, track_id: int, joints_c: np.ndarray) -> dict[str, Any]:
    """The arrays listed in this module's docstring, for one person whose final meshes have `joints_c` (T,24,3)."""
    track, calibrated = take.track(track_id), take.calibrated.get(track_id)
    params = take.body[track_id] if calibrated is None else calibrated.params
    poses = axis_angle_poses(params)
    if len(joints_c) != len(poses):
        raise ValueError(f"person {track_id}: {len(poses)} frames in the take, meshes of {len(joints_c)} were added")
    video, camera, rate = take.video, take.camera, np.float64(take.video.sampled_fps)
    arrays: dict[str, Any] = {
        "poses": poses,
        "root_orient": poses[:, :3],
        "pose_body": poses[:, 3:66],
        "betas": params.betas.astype(np.float32),
        "trans": params.transl_c.astype(np.float32),
        "mocap_framerate": rate,
        "mocap_frame_rate": rate,
        "gender": np.array(params.gender),
        "frame_indices": track.frame_indices,
        "frame_times": _times(track.frame_indices, video.frame_indices, video.frame_times),
        "joints_c": joints_c.astype(np.float32),
        "track_id": np.int64(track_id),
        "model_id": np.array(params.model),
        "camera_focal_px": camera.focal_px,
        "camera_center_px": camera.center_px,
        "image_size": np.array([camera.width, camera.height]),
        "camera_source": np.array(camera.source),
        "coordinate_frame": np.array(COORDINATE_FRAME),
        "calibrated": np.bool_(calibrated is not None),
    }
    if track_id in take.keypoints:
        arrays["keypoints_2d"] = take.keypoints[track_id].keypoints_2d
        arrays["keypoint_skeleton"] = np.array(take.keypoints[track_id].skeleton)
    if calibrated is not None:
        arrays["refit_residual_mm"] = calibrated.refit_residual_mm
    return arrays


def axis_angle_poses(params: BodyParams) -> np.ndarray:
    """(T,72) float32: root and 23 joints as axis-angle, radians."""
    rotations = np.concatenate([params.global_orient[:, None], params.body_pose], 1)
    return matrix_to_axis_angle(torch.from_numpy(rotations).to(torch.float64)).flatten(1).to(torch.float32).numpy()


def _times(wanted: np.ndarray, frame_indices: np.ndarray, frame_times: np.ndarray) -> np.ndarray:
    """Presentation time of each wanted frame; NaN where the video has no such frame."""
    row = np.minimum(np.searchsorted(frame_indices, wanted), len(frame_indices) - 1)
    return np.where(frame_indices[row] == wanted, frame_times[row], np.nan)
