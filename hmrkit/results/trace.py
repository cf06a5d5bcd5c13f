"""TRACE's ``.npz`` of a clip (Sun et al. 2023): ``outputs`` with a row a person and frame: ``reorganize_idx`` (N,),
the frame from 0, ``track_ids`` (N,), ``smpl_thetas`` (N,72), ``smpl_betas`` (N,10), ``cam_trans`` (N,3) m, ``j3d``
(N,44,3) m; in a world, which is the first frame's camera with y down, ``world_global_rots`` (N,3) axis-angle and
``world_trans`` (N,3) m.

Bodies are about the middle of their hips, and ``j3d``, which begins with SMPL's joints in the camera, says where the
pelvis is. The focal length is 548 in an image of 512 px into which the longer side fits, its centre in the middle.

Checked in Arthur151/ROMP, commit a8558ae, ``simple_romp/trace2``: ``main.py``, ``utils/infer_utils.py``,
``utils/utils.py``, ``models/smpl.py``, ``results_parser/smpl_wrapper_relative_temp.py``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hmrkit.results.people import Results, Space, make_person, to_rotations
from hmrkit.types import VideoInfo

SPACES = ("camera", "world")
_FOCAL = 548 / 512  # of the longer side
_WANTED = {"reorganize_idx", "track_ids", "smpl_thetas", "smpl_betas", "cam_trans", "j3d"}


def recognise(data: Any) -> bool:
    """Whether it has the outputs of a clip."""
    outputs = data.get("outputs") if isinstance(data, dict) else None
    return isinstance(outputs, dict) and set(outputs) >= _WANTED


def read(data: dict[str, Any], video: VideoInfo, space: Space) -> Results:
    """All people of the clip."""
    outputs = data["outputs"]
    frames, who = (np.asarray(outputs[key]).reshape(-1).astype(int) for key in ("reorganize_idx", "track_ids"))
    rotations, pelvis = to_rotations(outputs["smpl_thetas"]), np.asarray(outputs["j3d"], float)[:, 0]
    place = np.asarray(outputs["cam_trans"], float)
    if space == "world":
        pose = np.array(outputs["smpl_thetas"], float)
        pose[:, :3] = outputs["world_global_rots"]
        in_world, place = to_rotations(pose), np.asarray(outputs["world_trans"], float)
        world_from_camera = in_world[:, 0] @ rotations[:, 0].swapaxes(1, 2)
        rotations, pelvis = in_world, (world_from_camera @ pelvis[..., None])[..., 0]
    betas = np.asarray(outputs["smpl_betas"], float)
    people = tuple(
        make_person(number, frames[mine], rotations[mine], betas[mine], (place + pelvis)[mine])
        for number in np.unique(who)
        for mine in [who == number]
    )
    focal = _FOCAL * max(video.width, video.height)
    return Results(people, at="pelvis", space=space, up=(0.0, -1.0, 0.0), focal_px=focal)
