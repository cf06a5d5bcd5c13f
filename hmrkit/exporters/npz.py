"""One ``person_{id:02d}.npz`` a person, in AMASS's layout; read it with ``numpy.load``, it holds no pickles.

AMASS's own names (Mahmood et al. 2019; amass.is.tue.mpg.de), T frames, those in which the person is seen:

==================== ============ =====================================================================================
``poses``            (T,72)       axis-angle, radians: SMPL's 24 joints x 3, root first. AMASS has 156, SMPL-H's 52
                                  joints; the first 66 mean the same, hands (66:72 here) have no fingers. People of
                                  imported results whose fingers are known have AMASS's (T,156)
``root_orient``      (T,3)        ``poses[:, :3]``
``pose_body``        (T,63)       ``poses[:, 3:66]``
``betas``            (10,)        shape coefficients of the body model `model_id`
``trans``            (T,3)        metres, added to the posed body's vertices
``mocap_framerate``  ()           Hz of the scene's frames, also as ``mocap_frame_rate``: AMASS has used both names
``gender``           ()           neutral, male or female
==================== ============ =====================================================================================

What a clip adds: ``frame_indices`` (T,) in the source and ``frame_times`` (T,) s (frames may be missing from a track,
and a clip's rate may vary: the rate alone says when a row is only where ``contiguous`` is true; after ``--fps`` they
lie between the source's),
``frames`` (T,) their numbers in the exported scene; ``joints_c`` (T,24,3) m of the final mesh; ``keypoints_2d`` (T,K,3)
px and confidence with ``keypoint_skeleton``, unless resampled; ``track_id``; ``model_id``; ``camera_focal_px`` (2,),
``camera_center_px`` (2,), ``camera_zoom`` (T,) factors on the focal length where the lens zooms,
``image_size`` (width, height), ``camera_source``; ``coordinate_frame`` in words;
``metadata``, JSON.

Root and translation are those of the camera frame (x right, y down, z forward), unlike AMASS's z-up world. With
``--space world`` they are those of the world, y up or, like AMASS, z up (``--up z``), as are the joints, ``joints_w``;
``world_from_camera`` (3,4) takes the camera frame there. Always metres, and without ``--scale``, which SMPL cannot say.
``calibrated`` says whether the parameters are the refit to the calibrated mesh; then ``refit_residual_mm`` (T,) is the
mean distance between the two (the exact vertices are what ``obj`` writes), after ``--params-only`` that between the
target joints and the parameters'.

``--npz amass`` writes only what AMASS has, in the sizes that its readers index: ``poses`` (T,156) of SMPL-H or, of a
person on SMPL-X, (T,165), without known fingers flat hands; ``betas`` (16,), ``dmpls`` (T,8) zeros, ``trans`` with z
up, ``gender``, ``mocap_framerate``, ``surface_model_type``. T are consecutive frames: gaps are bridged.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hmrkit.files import atomic_path
from hmrkit.geometry import matrix_to_axis_angle
from hmrkit.scene import Character, ExportOptions, Scene
from hmrkit.types import BodyParams

log = logging.getLogger(__name__)
COORDINATE_FRAME = "camera: x right, y down, z forward (OpenCV), metres"
WORLD_FRAME = {"y": "world: y up, ground at y = 0, metres", "z": "world: z up, ground at z = 0, metres"}


class NpzExporter:
    """One file a person."""

    def write(self, scene: Scene, folder: Path, options: ExportOptions) -> list[Path]:
        """The files made."""
        files = []
        for character in scene.characters:
            path = Path(folder) / f"{character.name}.npz"
            arrays = (amass_arrays if options.npz == "amass" else person_arrays)(scene, character)
            with atomic_path(path) as temporary, open(temporary, "wb") as file:
                np.savez_compressed(file, **arrays)
            files.append(path)
        return files


def person_arrays(scene: Scene, character: Character) -> dict[str, Any]:
    """The arrays listed in this module's docstring, for one person."""
    take, seen = scene.take, character.visible
    if take is None or character.params_c is None or character.source_rows is None:
        raise ValueError(f"{character.name}: the scene was not made of a take")
    in_world = scene.space == "world"
    params = scene.smpl_parameters(character) if in_world else character.params_c
    poses = axis_angle_poses(params)[seen]
    resampled = not np.array_equal(character.source_rows[seen], np.floor(character.source_rows[seen]))
    own_times = take.video.variable and not scene.metadata.get("resampled")
    rate = np.float64(take.video.sampled_fps if own_times else float(scene.fps))
    assert character.source_frames is not None
    assert character.source_times is not None
    indices, camera = character.source_frames[seen], take.camera
    arrays: dict[str, Any] = {
        "poses": poses,
        "root_orient": poses[:, :3],
        "pose_body": poses[:, 3:66],
        "betas": params.betas.astype(np.float32),
        "trans": params.transl_c[seen].astype(np.float32),
        "mocap_framerate": rate,
        "mocap_frame_rate": rate,
        "gender": np.array(params.gender),
        "frame_indices": indices if resampled else indices.round().astype(np.int64),
        "frame_times": character.source_times[seen],
        "frames": character.frames[seen],
        "contiguous": np.bool_(not own_times and np.all(np.diff(character.frames[seen]) == 1)),
        "track_id": np.int64(character.track_id),
        "model_id": np.array(params.model),
        "camera_focal_px": camera.focal_px,
        "camera_center_px": camera.center_px,
        "image_size": np.array([camera.width, camera.height]),
        "camera_source": np.array(camera.source),
        "coordinate_frame": np.array(WORLD_FRAME[scene.up] if in_world else COORDINATE_FRAME),
        "calibrated": np.bool_(character.calibrated),
        "metadata": np.array(json.dumps(scene.metadata, sort_keys=True)),
    }
    zoom = camera.zoom_at(indices)
    arrays |= {} if zoom is None else {"camera_zoom": zoom}
    joints_c = _joints_c(scene, character)[seen]
    if in_world:
        matrix = scene.metric_from_camera()
        arrays["world_from_camera"] = matrix
        arrays["joints_w"] = (joints_c @ matrix[:, :3].T + matrix[:, 3]).astype(np.float32)
    else:
        arrays["joints_c"] = joints_c.astype(np.float32)
    if not resampled:
        rows = character.source_rows[seen].astype(int)
        if character.track_id in take.keypoints:
            arrays["keypoints_2d"] = take.keypoints[character.track_id].keypoints_2d[rows]
            arrays["keypoint_skeleton"] = np.array(take.keypoints[character.track_id].skeleton)
        if character.calibrated:
            arrays["refit_residual_mm"] = take.calibrated[character.track_id].refit_residual_mm[rows]
    return arrays


def amass_arrays(scene: Scene, character: Character) -> dict[str, Any]:
    """What AMASS's files hold of one person, in their sizes: a row for each frame, also in gaps."""
    warn_of_other_body(character, "AMASS")
    params = scene.smpl_parameters(character, up="z")
    poses, is_smplx = axis_angle_poses(params), params.model.startswith("smplx")
    hands = poses[:, 66:] if params.fingers is not None else np.zeros((len(poses), 90), np.float32)
    face = np.zeros((len(poses), 9 if is_smplx else 0), np.float32)  # jaw and eyes
    betas = np.zeros(16, np.float32)
    betas[: min(len(params.betas), 16)] = params.betas[:16]
    return {
        "poses": np.concatenate([poses[:, :66], face, hands], 1),
        "trans": params.transl_c.astype(np.float32),
        "betas": betas,
        "dmpls": np.zeros((len(poses), 8), np.float32),
        "gender": np.array(params.gender),
        "mocap_framerate": np.float64(scene.fps),
        "mocap_frame_rate": np.float64(scene.fps),
        "surface_model_type": np.array("smplx" if is_smplx else "smplh"),
    }


def warn_of_other_body(character: Character, readers: str) -> None:
    """A warning where the parameters are of a body that readers of SMPL's parameters do not have."""
    params = character.params_c
    if params is not None and not params.model.startswith("smpl"):
        log.warning(
            "%s is on %s: programs that read %s would give it SMPL's shape; put the take on SMPL first: "
            "hmrkit convert-body --to smpl", character.name, params.model, readers,
        )  # fmt: skip


def axis_angle_poses(params: BodyParams) -> np.ndarray:
    """(T,72) float32: root and 23 joints as axis-angle, radians; (T,156), SMPL-H's joints, where fingers are known."""
    rotations = np.concatenate([params.global_orient[:, None], params.body_pose], 1)
    if params.fingers is not None:
        rotations = np.concatenate([rotations[:, :22], params.fingers], 1)
    return matrix_to_axis_angle(torch.from_numpy(rotations).to(torch.float64)).flatten(1).to(torch.float32).numpy()


def _joints_c(scene: Scene, character: Character) -> np.ndarray:
    """Final joints (T,J,3) m in the take's camera frame."""
    matrix = scene.scene_from_camera_cv
    assert matrix is not None
    return (character.joints - matrix[:, 3]) @ np.linalg.inv(matrix[:, :3]).T
