"""``.npz`` of MMHuman3D's HumanData (OpenMMLab 2021): ``smpl`` (``global_orient`` (N,3), ``body_pose`` (N,23,3),
``betas`` (N,10)) or ``smplx`` (21 joints), a row a person and frame.

The demo's ``inference_result.npz`` has ``frame_id`` (N,) from 0, ``person_id`` (N,), ``pred_cams`` (N,3), a
weak-perspective s, tx, ty of a crop whose side is 1.25 times the longer side of ``bboxes_xyxy`` (N,5). Files of data
sets have ``transl`` (N,3) m in the camera, ``image_path`` and, in ``misc`` or ``meta``, ``focal_length`` and
``principal_point`` (1 or N,2) px.

SMPL-X's hands are meant about its mean hand, which is in its file, but where ``misc`` says ``flat_hand_mean``.

Checked in open-mmlab/mmhuman3d, commit 8c95747: ``docs/human_data.md``, ``demo/estimate_smpl.py``,
``mmhuman3d/core/visualization/visualize_smpl.py`` (`visualize_smpl_hmr`), ``mmhuman3d/utils/demo_utils.py``.
``demo/estimate_smplx.py`` leaves out the boxes, so that nobody can say where its people are.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hmrkit.errors import InputError
from hmrkit.results.people import Results, Space, file_number, frames_of_names, make_person, weak_place
from hmrkit.types import VideoInfo

SPACES = ("camera",)
_CROP = 1.25  # of a box's longer side
_GENDERS = {"m": "male", "f": "female", "male": "male", "female": "female"}


def recognise(data: Any) -> bool:
    """Whether it has bodies under MMHuman3D's names."""
    if not isinstance(data, dict):
        return False
    bodies = [data[key] for key in ("smpl", "smplx") if isinstance(data.get(key), dict)]
    return any({"betas", "body_pose"} <= set(one) or "fullpose" in one for one in bodies)


def read(data: dict[str, Any], video: VideoInfo, space: Space) -> Results:
    """All people of the clip; without ``person_id`` each row is a person of its own, still to be linked."""
    kind = "smpl" if isinstance(data.get("smpl"), dict) else "smplx"
    params = data[kind]
    if "pred_cams" in data and "bboxes_xyxy" in data:
        place, focal, center = _weak_place(data, video), None, None
    else:
        place, focal, center = _metric_place(data, params)
    count = len(params["betas"])
    hands = ("left_hand_pose", "right_hand_pose")
    has_hands = kind == "smplx" and set(hands) <= set(params)
    flat = bool(np.all(_metadata(data, "flat_hand_mean") or False))
    keys = ("global_orient", "body_pose", *(hands if has_hands else ()))
    pose = np.concatenate([np.asarray(params[key], float).reshape(count, -1) for key in keys], 1)
    frames, linked = _frames(data, video, count), "person_id" in data
    who = np.asarray(data["person_id"]).reshape(-1).astype(int) if linked else np.arange(count)
    betas = np.asarray(params["betas"], float)
    people = tuple(
        make_person(number + 1, frames[mine], pose[mine], betas[mine], place[mine])
        for number in np.unique(who)
        for mine in [who == number]
    )
    genders = {_GENDERS.get(str(one), "neutral") for one in np.ravel(_metadata(data, "gender"))}
    gender = genders.pop() if len(genders) == 1 else "neutral"
    return Results(
        people, body=kind, gender=gender, focal_px=focal, center_px=center, linked=linked, mean_hands=not flat
    )


def _weak_place(data: dict[str, Any], video: VideoInfo) -> np.ndarray:
    scale, x, y = np.asarray(data["pred_cams"], float).reshape(-1, 3).T
    boxes = np.asarray(data["bboxes_xyxy"], float)[:, :4]
    middle, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    pixels = scale * _CROP * sides.max(1) / 2
    return weak_place(
        pixels, x + (middle[:, 0] - video.width / 2) / pixels, y + (middle[:, 1] - video.height / 2) / pixels
    )


def _metric_place(data: dict[str, Any], params: dict[str, Any]) -> tuple[np.ndarray, float, tuple[float, float] | None]:
    focal, center = (np.asarray(_metadata(data, key), float).reshape(-1) for key in ("focal_length", "principal_point"))
    if "transl" not in params or not focal.size:
        raise InputError(
            "wanted pred_cams with bboxes_xyxy, or transl with a focal_length in misc or meta, found neither; without "
            "them nobody can say where the people are"
        )
    middle = center.reshape(-1, 2).mean(0) if center.size else None
    return (
        np.asarray(params["transl"], float),
        float(focal.mean()),
        None if middle is None else (float(middle[0]), float(middle[1])),
    )


def _frames(data: dict[str, Any], video: VideoInfo, count: int) -> np.ndarray:
    """Frame numbers (N,) from 0; several people of a frame have the same image."""
    if "frame_id" in data:
        return np.asarray(data["frame_id"]).reshape(-1).astype(int)
    names = [str(name) for name in np.ravel(data.get("image_path", np.arange(count)))]
    images = sorted(set(names), key=lambda name: (file_number(name) or 0, name))
    numbers = frames_of_names(images, video.frame_count, first=0)
    return np.array([dict(zip(images, numbers, strict=True))[name] for name in names])


def _metadata(data: dict[str, Any], key: str) -> Any:
    """What `misc` or `meta` have under `key`, else nothing."""
    parts = [data[part] for part in ("misc", "meta") if isinstance(data.get(part), dict)]
    return next((part[key] for part in parts if key in part), ())
