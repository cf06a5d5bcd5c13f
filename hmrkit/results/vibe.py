"""``vibe_output.pkl`` (Kocabas et al., VIBE, 2020; joblib) and what PARE and PyMAF write: person -> ``pose`` (T,72)
axis-angle or (T,24,3,3) matrices, ``betas`` (T,10), ``frame_ids`` (T,), and a weak-perspective camera.

``orig_cam`` (T,4), sx, sy, tx, ty: a point X of the body is seen at ``W/2 + W/2 sx (X + tx)`` px and ``H/2 + H/2 sy (Y
+ ty)``. Where it is missing, it follows from that of the crop, ``pred_cam`` (T,3), and ``bboxes`` (T,4), middle and
sides: ``H/2 sy = side/2 s`` with ``pred_cam = s, tx, ty``.

Checked in mkocabas/VIBE (851f779: ``lib/utils/demo_utils.py``, ``lib/utils/renderer.py``), mkocabas/PARE (f848b2f:
``pare/core/tester.py``) and HongwenZhang/PyMAF (c866830: ``demo.py``): all three draw bodies about SMPL's origin under
``orig_cam``, without perspective.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hmrkit.results.people import Results, Space, make_person, weak_place
from hmrkit.types import VideoInfo

SPACES = ("camera",)


def recognise(data: Any) -> bool:
    """Whether each value is a person with poses and one of the two cameras."""
    if not isinstance(data, dict) or not data:
        return False
    return all(
        isinstance(one, dict)
        and {"pose", "betas", "frame_ids"} <= set(one)
        and ("orig_cam" in one or {"pred_cam", "bboxes"} <= set(one))
        for one in data.values()
    )


def read(data: dict[Any, dict[str, Any]], video: VideoInfo, space: Space) -> Results:
    """All people of the clip."""
    people = tuple(
        make_person(number, one["frame_ids"], one["pose"], one["betas"], _place(one, video.width, video.height))
        for number, one in enumerate(data.values(), 1)
    )
    return Results(people)


def _place(one: dict[str, Any], width: int, height: int) -> np.ndarray:
    if one.get("orig_cam") is not None:
        sx, sy, x, y = np.asarray(one["orig_cam"], float).T
        return weak_place((sx * width + sy * height) / 4, x, y)
    scale, x, y = np.asarray(one["pred_cam"], float).T
    boxes = np.asarray(one["bboxes"], float)
    pixels = scale * boxes[:, 2] / 2
    return weak_place(pixels, x + (boxes[:, 0] - width / 2) / pixels, y + (boxes[:, 1] - height / 2) / pixels)
