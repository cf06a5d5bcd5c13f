"""PromptHMR (Wang et al. 2025). ``results.pkl`` of its video pipeline (joblib): ``people`` -> ``frames`` (T,),
``smplx_cam`` and ``smplx_world`` (y up), each SMPL-X's ``pose`` (T,75 or 165) axis-angle, ``shape`` (T,10), ``trans``
(T,3); ``camera`` with ``img_focal`` and ``img_center`` in pixels of the frames that it worked on, which are smaller
than the clip's where those have more than 896 rows. Of a clip above 60 Hz it takes the last of every 2, 3, ... frames.

``output.pt`` of its image demo: ``rotmat`` (N,22,3,3), ``betas`` (N,10), ``transl`` (N,3) of N people, and ``cam_int``
(N,3,3) of the image once it is fitted into 896 x 896 px.

Checked in yufu-wang/PromptHMR, commit ea85d0a: ``pipeline/pipeline.py``, ``pipeline/phmr_vid.py``,
``pipeline/world.py``, ``pipeline/utils.py``, ``scripts/demo_phmr.py``, ``prompt_hmr/models/phmr.py``,
``prompt_hmr/models/inference.py``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hmrkit.errors import InputError
from hmrkit.results.people import BODY_JOINTS, Results, Space, make_person
from hmrkit.types import VideoInfo

SPACES = ("camera", "world")
_KEYS = {"camera": "smplx_cam", "world": "smplx_world"}
_MOST_HZ, _IMAGE = 60, 896
_IMAGE_KEYS = {"rotmat", "betas", "transl", "cam_int"}


def recognise(data: Any) -> bool:
    """Whether it has people with SMPL-X's parameters, and their camera."""
    if isinstance(data, dict) and set(data) >= _IMAGE_KEYS:
        return True
    if not (isinstance(data, dict) and isinstance(data.get("people"), dict) and "camera" in data):
        return False
    return all(isinstance(one, dict) and {"frames", "smplx_cam"} <= set(one) for one in data["people"].values())


def read(data: dict[str, Any], video: VideoInfo, space: Space) -> Results:
    """All people of the clip, or of the image, which is the first frame."""
    if set(data) >= _IMAGE_KEYS:
        return _read_image(data, video, space)
    skip = max(round(float(video.fps) / _MOST_HZ), 1)
    people = []
    for number, one in enumerate(data["people"].values(), 1):
        params = one[_KEYS[space]]
        # Its hands are no rotations: it has none.
        pose = (
            np.asarray(params["pose"])[:, : 3 * BODY_JOINTS] if "pose" in params else params["rotmat"][:, :BODY_JOINTS]
        )
        frames = (np.asarray(one["frames"]).astype(int) + 1) * skip - 1
        people.append(make_person(number, frames, pose, params["shape"], params["trans"]))
    focal = float(np.asarray(data["camera"]["img_focal"], float).mean())
    center = np.asarray(data["camera"]["img_center"], float).reshape(-1)[:2]
    enlarged = video.width / (2 * center[0])
    return Results(tuple(people), body="smplx", space=space, focal_px=focal * float(enlarged))


def _read_image(data: dict[str, Any], video: VideoInfo, space: Space) -> Results:
    if space == "world":
        raise InputError("wanted people in a world, found those of one image; leave out --space world")
    people = tuple(
        make_person(k + 1, [0], data["rotmat"][k][None], data["betas"][k], data["transl"][k])
        for k in range(len(data["rotmat"]))
    )
    focal = float(np.asarray(data["cam_int"], float).reshape(-1, 3, 3)[:, 0, 0].mean())
    return Results(people, body="smplx", focal_px=focal * max(video.width, video.height) / _IMAGE)
