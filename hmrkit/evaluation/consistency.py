"""The same clip seen in another way must show the same people: mirrored, rotated by 90 degrees, every other frame.

Mirrored and rotated clips are folders of lossless images, so that they go through the whole chain like any clip. The
results are brought back into the clip's own camera frame and compared with its own results, without any truth.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from hmrkit.body.posing import skeleton_joints
from hmrkit.crops import paired_iou
from hmrkit.metrics import mpjpe_mm_per_frame
from hmrkit.models import Models
from hmrkit.options import Options
from hmrkit.pipeline import open_clip
from hmrkit.skeletons import SMPL_24
from hmrkit.types import Take
from hmrkit.video import read_frames

SAME_PERSON_IOU = 0.3


@dataclass(frozen=True)
class Variant:
    """Another way to see a clip: its `heading`, what is compared, what it does to `images` (B,H,W,3) (None: nothing),
    the `every` of the frames that it takes, and how boxes (T,4) px and joints (T,24,3) m are brought back to the clip.

    `boxes_back` gets the clip's width and height as well.
    """

    heading: str
    summary: str
    images: Callable[[np.ndarray], np.ndarray] | None = None
    every: int = 1
    boxes_back: Callable[[np.ndarray, int, int], np.ndarray] = lambda boxes, width, height: boxes
    joints_back: Callable[[np.ndarray], np.ndarray] = lambda joints: joints


def _unmirror_boxes(boxes: np.ndarray, width: int, height: int) -> np.ndarray:
    return np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], 1)


def _unmirror_joints(joints: np.ndarray) -> np.ndarray:
    return joints[:, list(SMPL_24.mirror)] * np.array([-1, 1, 1], joints.dtype)


# Rotated anticlockwise, the pixel (x, y) lies at (y, width - x), and so do directions: (x, y, z) is at (y, -x, z).
def _unrotate_boxes(boxes: np.ndarray, width: int, height: int) -> np.ndarray:
    return np.stack([width - boxes[:, 3], boxes[:, 0], width - boxes[:, 1], boxes[:, 2]], 1)


def _unrotate_joints(joints: np.ndarray) -> np.ndarray:
    return np.stack([-joints[..., 1], joints[..., 0], joints[..., 2]], -1)


VARIANTS: dict[str, Variant] = {
    "mirror": Variant(
        "mirror mm",
        "joints of the mirrored clip, flipped back, from the clip's own",
        lambda images: images[:, :, ::-1],
        boxes_back=_unmirror_boxes,
        joints_back=_unmirror_joints,
    ),
    "rotation": Variant(
        "rotated mm",
        "joints of the clip rotated by 90 degrees, rotated back, from the clip's own",
        lambda images: np.rot90(images, axes=(1, 2)),
        boxes_back=_unrotate_boxes,
        joints_back=_unrotate_joints,
    ),
    "frame_rate": Variant("every 2 mm", "joints of every other frame alone, from the clip's own", every=2),
}


def open_variant(take: Take, variant: Variant, options: Options, folder: Path) -> Take:
    """An empty take of the clip of `take` as `variant` sees it; images that it needs are written into `folder`.

    The camera is the options' own (`focal`, or `fov` across the longer side), which all variants share. Frames that
    cannot be decoded are black.
    """
    if variant.images is None:
        return open_clip(take.video.path, replace(options, every=options.every * variant.every))
    folder.mkdir(parents=True)
    rows = {int(f): k for k, f in enumerate(take.video.frame_indices)}
    black = np.zeros((1, take.video.height, take.video.width, 3), np.uint8)
    for batch in read_frames(take.video):
        images = np.concatenate([batch.frames, np.repeat(black, len(batch.failed), 0)])
        for number, image in zip([*batch.frame_indices, *batch.failed], variant.images(images), strict=True):
            path = folder / f"{rows[int(number)]:06d}.png"
            Image.fromarray(np.ascontiguousarray(image)).save(path, compress_level=1)
    # A folder has one rate; that of the frames chosen is what filters over time go by.
    return open_clip(folder, replace(options, start=None, end=None, every=1, fps=take.video.sampled_fps))


def consistency(take: Take, other: Take, variant: Variant, models: Models) -> dict[int, tuple[float, float]]:
    """Of each person with a mesh: mean distance (mm) of joints about the pelvis from those of the variant's take,
    brought back, and the share of their frames in which the variant has that person. NaN and 0 where it has not."""
    numbers = other.video.frame_indices if variant.images is None else take.video.frame_indices
    at = dict(zip(other.video.frame_indices.tolist(), numbers.tolist(), strict=True))
    width, height = take.video.width, take.video.height
    found = []
    for track in other.people_with_mesh():
        frames = np.array([at[int(f)] for f in track.frame_indices])
        boxes = variant.boxes_back(track.boxes_xyxy, width, height)
        found.append((frames, boxes, variant.joints_back(final_joints(other, track.track_id, models))))
    result = {}
    for track in take.people_with_mesh():
        wanted = np.isin(track.frame_indices, numbers).sum()
        best, error, share = SAME_PERSON_IOU, np.nan, 0.0
        for frames, boxes, joints in found:
            _, mine, theirs = np.intersect1d(track.frame_indices, frames, return_indices=True)
            if not len(mine):
                continue
            # Over all frames of the person, so that a short piece that fits is not the best.
            overlap = float(paired_iou(track.boxes_xyxy[mine], boxes[theirs]).sum()) / max(int(wanted), 1)
            if overlap > best:
                a, b = final_joints(take, track.track_id, models)[mine], joints[theirs]
                best, share = overlap, len(mine) / wanted
                error = float(np.nanmean(mpjpe_mm_per_frame(a - a[:, :1], b - b[:, :1])))
        result[track.track_id] = (error, share)
    return result


def final_joints(take: Take, track_id: int, models: Models) -> np.ndarray:
    """Joints (T,24,3) m of a person's final mesh in the camera frame: calibrated where the take is."""
    calibrated = take.calibrated.get(track_id)
    return skeleton_joints(models.body, take.body[track_id]) if calibrated is None else calibrated.joints_c
