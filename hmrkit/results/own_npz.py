"""``person_01.npz`` of `hmrkit.exporters.npz`: AMASS's layout with frame numbers and camera."""

from __future__ import annotations

from typing import Any

import numpy as np

from hmrkit.errors import InputError
from hmrkit.results.people import Results, Space, make_person, to_fingers, to_rotations
from hmrkit.types import VideoInfo

SPACES = ("camera",)


def recognise(data: Any) -> bool:
    """Whether it has AMASS's keys and those of a clip."""
    return isinstance(data, dict) and {"poses", "trans", "model_id", "frame_indices", "coordinate_frame"} <= set(data)


def read(data: dict[str, Any], video: VideoInfo, space: Space) -> Results:
    """The person of the file; frames that were resampled to between the clip's go to the nearest.

    InputError where it was made of images of another size.
    """
    size = tuple(int(side) for side in np.asarray(data.get("image_size", (video.width, video.height))))
    if size != (video.width, video.height):
        raise InputError(
            f"wanted a person of this clip ({video.width}x{video.height}), found one of {size[0]}x{size[1]} images; "
            "give the clip that it was made of"
        )
    center, focal = np.asarray(data["camera_center_px"], float), np.asarray(data["camera_focal_px"], float)
    poses, place = np.asarray(data["poses"], float), np.asarray(data["trans"], float)
    frames, number = np.round(np.asarray(data["frame_indices"], float)), int(data["track_id"])
    in_world = "world_from_camera" in data
    if in_world:  # back into the camera; the pelvis is what moves with it, not the body's origin
        world_from_camera = np.asarray(data["world_from_camera"], float)
        rotation = world_from_camera[:, :3]
        rotations = to_rotations(poses)
        rotations[:, 0] = rotation.T @ rotations[:, 0]
        poses, place = rotations, (np.asarray(data["joints_w"], float)[:, 0] - world_from_camera[:, 3]) @ rotation
    model = str(data["model_id"])
    return Results(
        people=(make_person(number, frames, poses, data["betas"], place, to_fingers(data["poses"])),),
        body=model.partition("-")[0],
        gender=str(data["gender"]),
        model=model,
        at="pelvis" if in_world else "origin",
        focal_px=float(focal.mean()),
        center_px=(float(center[0]), float(center[1])),
    )
