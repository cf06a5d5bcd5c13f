"""``res.pk`` of HybrIK's and HybrIK-X's video demos (Li et al. 2021, 2023): lists with an entry a frame in which the
person is found: ``pred_thetas`` (216,) matrices of SMPL's joints or (495,) of SMPL-X's, ``pred_betas``, ``transl``
(3,), the pelvis in front of a camera of focal length 1000 in 256 px, ``bbox`` (x0, y0, x1, y1), ``img_path`` (from 1).

Checked in jeffffffli/HybrIK, commit c281eee: ``scripts/demo_video.py`` draws with a focal length of 1000 / 256 times
the box's width, the centre in the image's middle (``hybrik/utils/render_pytorch3d.py``); ``transl`` moves a skeleton
about its pelvis (``hybrik/models/HRNetWithCam.py``, ``hybrik/models/layers/smpl/SMPL.py``). A box of another width is
another camera, and people beside the middle are seen under another angle: what they all have in common is how somebody
looks along the ray to them. Today's ``demo_video_x.py`` saves nothing any more.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from hmrkit.geometry import rotation_between
from hmrkit.results.people import Results, Space, frames_of_names, make_person, to_fingers, to_rotations
from hmrkit.types import VideoInfo

SPACES = ("camera",)
FOCAL, CROP = 1000.0, 256.0
_SMPL_NUMBERS = 216


def recognise(data: Any) -> bool:
    """Whether it has the demo's names."""
    return isinstance(data, dict) and {"pred_thetas", "pred_betas", "transl", "bbox"} <= set(data)


def read(data: dict[str, Any], video: VideoInfo, space: Space) -> Results:
    """The person of the clip."""
    pose, boxes = np.asarray(data["pred_thetas"], float), np.asarray(data["bbox"], float)
    pose = pose.reshape(len(pose), -1)
    rotations, place = to_rotations(pose), np.array(data["transl"], float).reshape(-1, 3)
    ahead = torch.tensor([0.0, 0, 1], dtype=torch.float64).expand(len(place), 3)
    rotations[:, 0] = rotation_between(torch.from_numpy(place), ahead).numpy() @ rotations[:, 0]
    place[:, 2] *= CROP / (FOCAL * (boxes[:, 2] - boxes[:, 0]))
    names = [str(name) for name in data.get("img_path", range(len(pose)))]
    frames = frames_of_names(names, video.frame_count, first=1)
    person = make_person(1, frames, rotations, np.stack(data["pred_betas"]), place, to_fingers(pose))
    return Results((person,), body="smpl" if pose.shape[1] == _SMPL_NUMBERS else "smplx", at="pelvis")
