"""Final meshes of a take, by rows: calibrated where the take is, else the mesh stream's own."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hmrkit.body.posing import body_meshes, skeleton_joints
from hmrkit.calibration.track import calibrated_vertices
from hmrkit.models import Models
from hmrkit.types import MeshTrack, Take


def mesh_slice(take: Take, track_id: int, rows: slice | np.ndarray, models: Models) -> MeshTrack:
    """Final meshes of some rows of a track: calibrated where the take is, else the mesh stream's own."""
    person, params = take.track(track_id), take.body[track_id]
    calibrated = take.calibrated.get(track_id)
    if calibrated is None:
        vertices, joints = body_meshes(models.body, params, rows)
    else:
        joints = calibrated.joints_c[rows]
        vertices = calibrated_vertices(models.body, params, calibrated.joints_c, models.calibration, rows)
    return MeshTrack(track_id, person.frame_indices[rows], vertices, joints)


def final_joints(take: Take, track_id: int, models: Models) -> np.ndarray:
    """Joints (T,24,3) m of a track's final meshes, in the camera frame."""
    calibrated = take.calibrated.get(track_id)
    return skeleton_joints(models.body, take.body[track_id]) if calibrated is None else calibrated.joints_c


def iter_meshes(take: Take, track_id: int, models: Models, batch: int = 32) -> Iterator[MeshTrack]:
    """A track's final meshes in stretches of `batch` frames, so that no clip's vertices are ever held at once."""
    for start in range(0, len(take.track(track_id).frame_indices), batch):
        yield mesh_slice(take, track_id, slice(start, start + batch), models)
