"""What a person or a script wants to know of a finished take, as plain JSON values."""

from __future__ import annotations

from typing import Any

import numpy as np

from hmrkit.body.files import GENDERS
from hmrkit.keypoints.visibility import unseen_shares
from hmrkit.meshes import mesh_slice
from hmrkit.models import Models
from hmrkit.pipeline import STAGES
from hmrkit.skeletons import get_skeleton
from hmrkit.types import Take
from hmrkit.video.camera_motion import camera_moves, camera_travel


def report(take: Take) -> dict[str, Any]:
    """What a person or a script wants to know of a take, as plain JSON values; nothing that went wrong is left out."""
    video = take.video
    empty = [
        int(f) for f, d in zip(video.frame_indices, take.detections, strict=bool(take.detections)) if not len(d.scores)
    ]
    people = []
    for person in take.tracks:
        i, frames = person.track_id, person.frame_indices
        entry: dict[str, Any] = {
            "track_id": i,
            "frames": len(frames),
            "first_frame": int(frames[0]),
            "last_frame": int(frames[-1]),
            "interpolated_frames": int(person.interpolated.sum()),
            "mesh": i in take.body,
        }
        if i in take.keypoints:
            entry["keypoint_confidence"] = round(float(np.nanmean(take.keypoints[i].keypoints_2d[..., 2])), 3)
        if i in take.body and (mask := take.body[i].seen) is not None:
            entry["unseen_limbs"] = {limb: round(share, 3) for limb, share in unseen_shares(mask).items()}
        if i in take.body:
            entry["gender"] = take.body[i].gender
        if i in take.overlap and (genders := take.overlap[i].genders) is not None:
            entry["gender_probability"] = {g: round(float(p), 3) for g, p in zip(GENDERS, genders, strict=True)}
        if i in take.overlap and np.isfinite(take.overlap[i].iou).any():
            entry["mask_iou"] = round(float(np.nanmean(take.overlap[i].iou)), 3)
        if i in take.calibrated:
            entry["refit_residual_mm"] = round(float(np.mean(take.calibrated[i].refit_residual_mm)), 2)
        people.append(entry)
    return {
        "video": video.path,
        "width": video.width,
        "height": video.height,
        "fps": float(video.fps),
        "variable_fps": video.variable,
        "slowdown": video.slowdown,
        "notes": [*video.notes, *_small_people(take), *_moving_camera(take)],
        "frames": len(video.frame_indices),
        "failed_frames": list(video.failed_frames),
        "cuts": list(video.cuts),
        "frames_without_people": empty,
        "focal_px": float(take.camera.focal_px[0]),
        "focal_source": take.camera.source,
        **({} if (zoom := take.camera.zoom) is None else {"zoom": [round(float(z), 4) for z in zoom.factors]}),
        "people": people,
        "dropped_tracks": [dropped.as_record() for dropped in take.dropped_tracks],
        "stages": [name for name in STAGES if name in take.provenance],
    }


def _moving_camera(take: Take) -> list[str]:
    """A note where the background moves, and what that means for world space."""
    travel = camera_travel(take.video)
    if not camera_moves(take.video):
        return []
    return [
        f"the camera moves: the background goes {100 * travel:.0f} % of the image's width; world space is for cameras "
        "that stand still, so people drift in it and feet are not locked; give --camera-pose, or use --space camera"
    ]


def _small_people(take: Take) -> list[str]:
    """A note where YOLOX sees people so small that it is likely to miss them in other frames, and what to do."""
    from hmrkit.detectors.yolox import SURE_HEIGHT, default_size

    chosen, video = take.provenance.get("detect", {}).get("options", {}), take.video
    if not take.detections or not str(chosen.get("detector")).startswith("yolox"):
        return []
    longer = max(video.width, video.height)
    size = chosen.get("detector_size") or default_size(video.height, video.width)
    boxes = np.concatenate([found.boxes_xyxy for found in take.detections])
    heights = boxes[:, 3] - boxes[:, 1]
    small = heights[heights * size / longer < SURE_HEIGHT]
    if len(small) < 3 or len(small) < 0.05 * len(heights) or size >= longer:
        return []
    better = min(longer, 32 * round(1.5 * SURE_HEIGHT * longer / float(np.median(small)) / 32))
    return [
        f"{len(small)} of {len(heights)} boxes are of people so small ({np.median(small):.0f} px high) that the "
        f"detector misses them in many frames; --detector-size {better} shows them larger"
    ]


def reprojection(take: Take, models: Models, frames: int = 64) -> dict[int, float]:
    """Per track id: median distance of the final mesh's COCO keypoints from the 2D keypoints, over the box's height.

    Of `frames` frames spread over each track. A body without a keypoint regressor is measured by its joints.
    """
    from hmrkit.camera import project, unzoomed
    from hmrkit.metrics import reprojection_error
    from hmrkit.rendering.heat import mesh_keypoints

    errors = {}
    for person in take.people_with_mesh():
        person, points = unzoomed(take.camera, person, take.keypoints[person.track_id])
        rows = np.unique(np.linspace(0, len(person.frame_indices) - 1, frames).round().astype(int))
        mesh = mesh_slice(take, person.track_id, rows, models)
        names, places = mesh_keypoints(mesh.vertices_c, mesh.joints_c, models.body)
        index = get_skeleton(points.skeleton).index
        common = [k for k, name in enumerate(names) if name in index]
        seen = points.keypoints_2d[rows][:, [index[names[k]] for k in common]]
        heights = person.boxes_xyxy[rows, 3] - person.boxes_xyxy[rows, 1]
        errors[person.track_id] = reprojection_error(project(take.camera, places[:, common]), seen, heights)
    return errors
