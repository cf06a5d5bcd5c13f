"""``hmr4d_results.pt`` (Shen et al., GVHMR, 2024): one person of SMPL-X in every frame. ``smpl_params_incam`` and
``smpl_params_global`` (y up), each ``global_orient`` (T,3), ``body_pose`` (T,63), ``betas`` (T,10), ``transl`` (T,3);
``K_fullimg`` (T,3,3).

Checked in zju3dv/GVHMR, commit 44fbc19: ``tools/demo/demo.py`` and ``hmr4d/model/gvhmr/gvhmr_pl_demo.py``. Both
``transl`` are SMPL-X's. The demo works on a copy of the clip with all of its frames.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hmrkit.results.people import Results, Space, make_person
from hmrkit.types import VideoInfo

SPACES = ("camera", "world")
_KEYS = {"camera": "smpl_params_incam", "world": "smpl_params_global"}


def recognise(data: Any) -> bool:
    """Whether it has the parameters in the camera and the camera."""
    return isinstance(data, dict) and {"smpl_params_incam", "K_fullimg"} <= set(data)


def read(data: dict[str, Any], video: VideoInfo, space: Space) -> Results:
    """The person of the clip."""
    params = data[_KEYS[space]]
    pose = np.concatenate([np.asarray(params[key], float) for key in ("global_orient", "body_pose")], -1)
    person = make_person(1, np.arange(len(pose)), pose, params["betas"], params["transl"])
    intrinsics = np.asarray(data["K_fullimg"], float).reshape(-1, 3, 3).mean(0)
    center = float(intrinsics[0, 2]), float(intrinsics[1, 2])
    return Results((person,), body="smplx", space=space, focal_px=float(intrinsics[0, 0]), center_px=center)
