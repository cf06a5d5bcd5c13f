"""Mesh streams ``hmr``, ``spin`` ...: a regressor's bodies in the crops of every track -> parameters in the camera.

A second pass over the clip: the crops of all people in a batch of frames go through the network together, and only
its codes are kept; then every track is decoded as a whole. Crops are not cut straight out of the image but seen by a
camera that looks at the person (`hmrkit.camera.crop_cameras`): an estimate for the crop is then rotated into the full
camera by one rotation, and every joint keeps its pixel, wherever in the image the person is. Only crops of framing
``plain`` are cut straight: their networks read where in the image they are.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from hmrkit.body import Body
from hmrkit.camera import CropCameras, crop_cameras, mean_focal, plain_crop_cameras
from hmrkit.crops import REGION_POINTS, Region, crop_batch, middle_columns, person_region, region_from_boxes
from hmrkit.device import inference, upload
from hmrkit.regressors import CropContext, Framing, Regressor
from hmrkit.regressors.crop_camera import to_full_camera, translation
from hmrkit.regressors.frame import BETAS, CROP_CAMERA, ROTATIONS, flatten
from hmrkit.skeletons import BLAZEPOSE_33, SMPL_24, get_skeleton
from hmrkit.smoothing import bridge, bridge_bodies, smooth_series
from hmrkit.types import BodyParams, Keypoints, Take, Track
from hmrkit.video import read_frames

if TYPE_CHECKING:
    from hmrkit.models import Models

log = logging.getLogger(__name__)

MAX_CROPS = 8  # through the network at once, where the frames in flight are fewer
BOX_EXPAND = 1.2  # framing "box": the published networks' crops
# A region's jitter, which is the keypoints', and how people move: in sides of the region, e-folds of it, and radians.
REGION_NOISE = 0.02
REGION_ACCELERATION = 2.0  # per second squared


@dataclass(frozen=True)
class Crops:
    """All crops of a clip, one a person and frame: `track_index` (N,), frame (N,), region, camera."""

    track_index: np.ndarray
    frame: np.ndarray
    region: Region
    cameras: CropCameras


def load(name: str, models: Models) -> RegressorStream:
    """See `hmrkit.mesh_streams`. The regressor is that of `models`, whose options name it."""
    return RegressorStream(models)


class RegressorStream:
    """See `hmrkit.mesh_streams.MeshStream`: `regress_tracks` with the regressor that the options name."""

    def __init__(self, models: Models) -> None:
        self.models = models

    def __call__(
        self, take: Take, tracks: Sequence[Track], progress: Callable[[int, int], None]
    ) -> dict[int, BodyParams]:
        m = self.models
        return regress_tracks(take, tracks, m.regressor, m.body, m.device, m.batch_size, progress)


def regress_tracks(
    take: Take,
    tracks: Sequence[Track],
    regressor: Regressor,
    body: Body,
    device: torch.device,
    batch_size: int = 8,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> dict[int, BodyParams]:
    """Body parameters by track id, one shape a track; `progress` gets frames done and in all.

    `take` has the clip, its camera and the keypoints that say where to look. Frames that cannot be decoded get the
    pose between their neighbours; a track of which none can is left out, with a warning. Networks run in float32:
    half precision moves the embedded backbone's landmarks. A regressor trained on SMPL says nothing about the shape of
    the free body, nor the other way round: people get the mean shape, with a warning. InputError where the clip cannot
    be read any more.
    """
    if not tracks:
        return {}
    crops = crops_of(take, tracks, regressor)
    codes, readable = _encoded(take, tracks, crops, regressor, device, batch_size, progress)
    knows_shape = regressor.shape_space == body.family
    if not knows_shape:
        log.warning("%s was trained on another body than %s: people get its mean shape", regressor.name, body.model_id)
    params: dict[int, BodyParams] = {}
    for k, track in enumerate(tracks):
        mine = crops.track_index == k
        seen = readable[mine]
        if not seen.any():
            log.warning("%s: no frame of track %d could be read; it gets no mesh", take.video.path, track.track_id)
            continue
        times = take.video.seconds(track.frame_indices)
        with inference(device):
            estimate = regressor.decode(codes[mine & readable].to(device), torch.from_numpy(times[seen]).to(device))
        estimates = np.full((len(seen), CROP_CAMERA.stop), np.nan, np.float32)
        estimates[seen] = flatten(estimate).float().cpu().numpy()
        if not knows_shape:
            estimates[:, BETAS] = 0
        rotation, focal = crops.cameras.camera_from_crop[mine], crops.cameras.focal_px[mine]
        center = crops.cameras.center_px[mine]
        params[track.track_id] = bodies_in_camera(
            estimates, rotation, focal, regressor.input_size[0], body, times, center
        )
    return params


def _encoded(
    take: Take,
    tracks: Sequence[Track],
    crops: Crops,
    regressor: Regressor,
    device: torch.device,
    batch_size: int,
    progress: Callable[[int, int], None],
) -> tuple[Tensor, np.ndarray]:
    """Codes (N,D) of all crops on the CPU, and which of them (N,) could be read."""
    context = crop_contexts(take, tracks, crops, regressor.input_size)
    codes, readable = torch.empty(0), np.zeros(len(crops.track_index), bool)
    for rows, images in crop_images(take, crops, regressor.input_size, device, batch_size, progress):
        with inference(device):
            found = regressor.encode(images, context.rows(torch.from_numpy(rows)).to(device)).cpu()
        if not len(codes):
            codes = found.new_empty(len(readable), *found.shape[1:])
        codes[rows], readable[rows] = found, True
    return codes, readable


def track_regions(
    track: Track, keypoints: Keypoints, framing: Framing, times: np.ndarray, aspect: float = 1.0
) -> Region:
    """Where to cut one person's crops, (T), by a regressor's `framing`, without jitter.

    "upright" goes by the keypoints: points that are not seen in a frame are taken to lie between where they were
    before and after. A track that never shows hips and shoulders is framed by its boxes. `aspect`: width by height of
    what the network sees of the square; boxes fit into that.
    """
    region = _upright(keypoints, times) if framing == "upright" else None
    if region is None:
        region = region_from_boxes(track.boxes_xyxy, BOX_EXPAND, aspect=aspect)
    side = max(float(np.median(region.size)), 1.0)
    logarithm = np.log(np.maximum(region.size, 1.0))
    series = np.column_stack([region.center / side, logarithm, np.unwrap(region.angle)])[:, None]
    smooth = smooth_series(series, np.ones((len(times), 1)), times, REGION_NOISE, REGION_ACCELERATION)[:, 0]
    return Region(smooth[:, :2] * side, np.exp(smooth[:, 2]), smooth[:, 3])


def bodies_in_camera(
    estimates: np.ndarray,
    camera_from_crop: np.ndarray,
    focal_px: np.ndarray,
    out: int,
    body: Body,
    times: np.ndarray,
    center_px: np.ndarray | None = None,
) -> BodyParams:
    """A regressor's estimates (T,229), NaN where a frame could not be read, as parameters in the full camera.

    The columns are those of `hmrkit.regressors.frame.flatten`.

    ``s, tx, ty`` of a crop of side `out` seen with focal length f put the body at ``t = (tx, ty, 2 f / (s out))`` m
    in the crop's camera, so that its scale at the root's depth is the weak-perspective one; `center_px` (T,2) is the
    principal point of crops that have it elsewhere than in the middle. In the full camera it is
    ``X_c = R (X + t)`` with R = `camera_from_crop` (T,3,3): the body rotates about the camera, its own origin is the
    pelvis J of the resting body, hence ``global_orient_c = R global_orient`` and ``transl_c = R (J + t) - J``.
    One shape a track, the median: a frame in which the network saw a larger person is brought nearer or farther by
    the ratio of the two bodies, so that the person keeps its size in the image.
    """
    seen = np.all(np.isfinite(estimates), axis=1)
    rotations = estimates[:, ROTATIONS].reshape(-1, 24, 3, 3).astype(np.float64)
    cameras = torch.from_numpy(estimates[:, CROP_CAMERA].astype(np.float64))
    center = None if center_px is None else torch.from_numpy(center_px.astype(np.float64))
    transl = translation(cameras, torch.from_numpy(focal_px.astype(np.float64)), out, center).numpy()
    betas = estimates[:, BETAS]
    shape = np.median(betas[seen], 0).astype(np.float32)
    each = _rest_joints(body, np.where(seen[:, None], betas, shape))
    rest = _rest_joints(body, shape[None])
    pelvis = (each[:, 0] + transl) * (_spread(rest) / _spread(each))[:, None]
    rotations[:, 0], pelvis = to_full_camera(rotations[:, 0], pelvis, camera_from_crop)
    transl_c = pelvis - rest[0, 0]
    if not seen.all():
        rotations, transl_c = bridge_bodies(rotations, transl_c, seen, times)
    pose = rotations.astype(np.float32)
    return BodyParams(pose[:, 0], pose[:, 1:], shape, transl_c.astype(np.float32), body.gender, body.model_id)


def crops_of(take: Take, tracks: Sequence[Track], regressor: Regressor) -> Crops:
    """Where a regressor has its crops of these tracks. Where they are not square, these are squares of their height."""
    seconds, (height, width) = take.video.seconds, regressor.input_size
    regions = [
        track_regions(t, take.keypoints[t.track_id], regressor.framing, seconds(t.frame_indices), aspect=width / height)
        for t in tracks
    ]
    track_index = np.repeat(np.arange(len(tracks)), [len(t.frame_indices) for t in tracks])
    frame = np.concatenate([t.frame_indices for t in tracks])
    region = Region(*(np.concatenate([getattr(r, part) for r in regions]) for part in ("center", "size", "angle")))
    see = plain_crop_cameras if regressor.framing == "plain" else crop_cameras
    cameras = see(take.camera, region, height, take.camera.zoom_at(frame))
    return Crops(track_index, frame, region, cameras)


def crop_images(
    take: Take,
    crops: Crops,
    size: tuple[int, int],
    device: torch.device,
    batch_size: int = 8,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Go through the clip once: rows (n,) of `crops` and their images (n,3,H,W) in [0, 1] of `size` (H, W), a few at a
    time. Where W is less than H they are the middle columns of the squares."""
    out, columns = size[0], middle_columns(size)
    done, total, at_once = 0, len(take.video.frame_indices), max(batch_size, MAX_CROPS)
    for batch in read_frames(take.video, batch_size=batch_size):
        rows = np.flatnonzero(np.isin(crops.frame, batch.frame_indices))
        frames = upload(batch.frames, device) if len(rows) else None
        for start in range(0, len(rows), at_once):
            part = rows[start : start + at_once]
            places = np.searchsorted(batch.frame_indices, crops.frame[part])
            maps = crops.cameras.image_from_crop[part]
            assert frames is not None
            images = crop_batch(frames, places, crops.region[part], out, maps)
            yield part, images[..., columns].contiguous(memory_format=torch.channels_last)
        done += len(batch.frame_indices) + len(batch.failed)
        progress(done, total)


def crop_contexts(take: Take, tracks: Sequence[Track], crops: Crops, size: tuple[int, int]) -> CropContext:
    """What is known of all `crops`, whose images are `size` (H, W) px, besides their pixels; on the CPU."""
    found = [_in_blazepose_order(take.keypoints[track.track_id]) for track in tracks]
    keypoints = np.concatenate(found).astype(np.float64)
    image = np.concatenate([keypoints[..., :2], np.ones_like(keypoints[..., :1])], -1)
    crop = image @ np.linalg.inv(crops.cameras.image_from_crop).swapaxes(1, 2)
    joints = np.concatenate([crop[..., :2] / crop[..., 2:], keypoints[..., 2:]], -1)
    joints[..., 0] -= middle_columns(size).start
    joints[~np.isfinite(joints).all(-1)] = 0
    camera, count, half = take.camera, len(keypoints), crops.region.size[:, None] / 2
    return CropContext(
        torch.from_numpy(joints).float(),
        torch.from_numpy(np.concatenate([crops.region.center - half, crops.region.center + half], 1)).float(),
        torch.tensor([[camera.width, camera.height]]).expand(count, 2).float(),
        torch.as_tensor(mean_focal(camera, camera.zoom_at(crops.frame))).float().expand(count),
    )


def _in_blazepose_order(keypoints: Keypoints) -> np.ndarray:
    """`keypoints_2d` (T,K,3) as (T,33,3) in the order of `BLAZEPOSE_33`; joints that it lacks are NaN."""
    index = get_skeleton(keypoints.skeleton).index
    joints = np.full((len(keypoints.keypoints_2d), len(BLAZEPOSE_33), 3), np.nan, np.float32)
    for k, name in enumerate(BLAZEPOSE_33.joints):
        if name in index:
            joints[:, k] = keypoints.keypoints_2d[:, index[name]]
    return joints


def _upright(keypoints: Keypoints, times: np.ndarray) -> Region | None:
    """`person_region` of every frame; None where hips and shoulders were never seen."""
    index = get_skeleton(keypoints.skeleton).index
    points = np.full((len(times), len(REGION_POINTS), 2), np.nan)
    seen = np.zeros(points.shape[:2], bool)
    here = [k for k, name in enumerate(REGION_POINTS) if name in index]
    given = keypoints.keypoints_2d[:, [index[REGION_POINTS[k]] for k in here]]
    points[:, here] = given[..., :2]
    seen[:, here] = np.isfinite(given).all(-1) & (given[..., 2] > 0)
    trunk = [REGION_POINTS.index(f"{side}_{name}") for name in ("shoulder", "hip") for side in ("left", "right")]
    if not seen[:, trunk].any(0).all():
        return None
    filled = bridge(points, seen, times)
    # A point that the track never shows must not decide how far the person reaches.
    filled[:, ~seen.any(0)] = filled[:, trunk[2:]].mean(1, keepdims=True)
    return person_region(filled)


def _rest_joints(body: Body, betas: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return body.joints_only(betas=torch.from_numpy(betas).to(body.device)).joints.cpu().numpy().astype(np.float64)


def _spread(joints: np.ndarray) -> np.ndarray:
    """Size (T) of resting bodies: root mean square distance of their joints from the pelvis."""
    off = joints - joints[:, SMPL_24.index["pelvis"], None]
    return np.sqrt((off**2).sum(-1).mean(-1))
