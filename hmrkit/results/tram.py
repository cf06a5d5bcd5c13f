"""TRAM's folder of a clip (Wang et al. 2024): ``hps/hps_track_0.npy`` ..., each ``pred_rotmat`` (T,24,3,3),
``pred_shape`` (T,10), ``pred_trans`` (T,1,3), ``frame`` (T,), tensors in a dictionary; and ``camera.npy``:
``img_focal``, ``img_center`` (2,), and in a world with y up ``world_cam_R`` (N,3,3) and ``world_cam_T`` (N,3) of all
frames, from the camera to the world.

Checked in yufu-wang/tram, commit 4861c11: ``pred_trans`` is SMPL's ``transl`` in the full camera
(``lib/pipeline/visualization.py``; ``get_trans`` of ``lib/models/hmr_vimo.py``); ``lib/camera/est_gravity.py`` negates
y and z on the way to the world, whose floor is where y is smallest.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hmrkit.results.people import Results, Space, file_number, make_person
from hmrkit.results.rest_pose import PELVIS
from hmrkit.types import VideoInfo

SPACES = ("camera", "world")


def recognise(data: Any) -> bool:
    """Whether it has the camera and a track."""
    return isinstance(data, dict) and "camera.npy" in data and any(name.startswith("hps/") for name in data)


def read(data: dict[str, Any], video: VideoInfo, space: Space) -> Results:
    """All people of the clip, the longest track first."""
    camera = data["camera.npy"]
    tracks = sorted((file_number(name), item) for name, item in data.items() if name.startswith("hps/"))
    people = []
    for number, one in tracks:
        frames = np.asarray(one["frame"]).reshape(-1).astype(int)
        rotations, pelvis = np.array(one["pred_rotmat"], float), np.asarray(one["pred_trans"], float).reshape(-1, 3)
        pelvis = pelvis + PELVIS["smpl"]
        if space == "world":
            rotate, move = np.asarray(camera["world_cam_R"], float), np.asarray(camera["world_cam_T"], float)
            rotations[:, 0] = rotate[frames] @ rotations[:, 0]
            pelvis = (rotate[frames] @ pelvis[..., None])[..., 0] + move[frames]
        people.append(make_person((number or 0) + 1, frames, rotations, one["pred_shape"], pelvis - PELVIS["smpl"]))
    center = np.asarray(camera["img_center"], float).reshape(-1)
    return Results(
        tuple(people),
        space=space,
        focal_px=float(np.asarray(camera["img_focal"], float).mean()),
        center_px=(float(center[0]), float(center[1])),
    )
