"""Pinhole projection, viewing rays, and what is assumed of a camera that nobody measured.

Of a lens that zooms, crops are cut out of the frames as they are, each by a camera of its frame's focal length. Where
bodies are fitted to keypoints, over time, the keypoints are brought to one focal length first (`unzoomed`): bodies live
in front of a camera that does not zoom, and only what draws or exports that camera has to know of the zoom.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from hmrkit.errors import UsageError
from hmrkit.types import Camera, Keypoints, Track

if TYPE_CHECKING:  # crops need torch, projection does not
    from hmrkit.crops import Region

# Field of view across the longer side of the image: between a phone's main camera and a 35 mm lens.
ASSUMED_FOV_DEG = 55.0


def assume_camera(width: int, height: int, focal_px: float | None = None, fov_deg: float | None = None) -> Camera:
    """Camera with its centre in the middle of the image.

    `focal_px` (pixels) or `fov_deg` (across the longer side) where the user knows it; else `ASSUMED_FOV_DEG`.
    """
    if focal_px is not None and fov_deg is not None:
        raise UsageError("give --focal or --fov, not both")
    given = focal_px is not None or fov_deg is not None
    if fov_deg is not None and not 1 < fov_deg < 179:
        raise UsageError(f"--fov must lie between 1 and 179 degrees, got {fov_deg:g}")
    if focal_px is None:
        focal_px = max(width, height) / 2 / float(np.tan(np.radians(fov_deg or ASSUMED_FOV_DEG) / 2))
    if focal_px <= 0:
        raise UsageError(f"--focal must be positive pixels, got {focal_px:g}")
    focal = np.array([focal_px, focal_px], np.float32)
    center = np.array([width / 2, height / 2], np.float32)
    return Camera(focal, center, width, height, "given" if given else "assumed")


def project(camera: Camera, points_c: np.ndarray) -> np.ndarray:
    """Points (...,3) m in the camera frame -> pixels (...,2). Points at or behind the camera give NaN."""
    depth = points_c[..., 2:]
    with np.errstate(divide="ignore", invalid="ignore"):
        pixels = points_c[..., :2] / np.where(depth > 0, depth, np.nan) * camera.focal_px + camera.center_px
    return pixels.astype(np.float32)


def unzoomed(camera: Camera, track: Track, points: Keypoints) -> tuple[Track, Keypoints]:
    """A track's boxes and 2D keypoints as `camera` would have them if its lens did not zoom: ``(u - c) / zoom + c``."""
    zoom = camera.zoom_at(track.frame_indices)
    if zoom is None:
        return track, points
    flat = points.keypoints_2d.copy()
    flat[..., :2] = (flat[..., :2] - camera.center_px) / zoom[:, None, None] + camera.center_px
    corners = track.boxes_xyxy.reshape(-1, 2, 2)
    boxes = ((corners - camera.center_px) / zoom[:, None, None] + camera.center_px).reshape(-1, 4)
    return replace(track, boxes_xyxy=boxes.astype(np.float32)), replace(points, keypoints_2d=flat)


def pixel_rays(camera: Camera, pixels: np.ndarray, zoom: np.ndarray | None = None) -> np.ndarray:
    """Pixels (...,2) -> directions (...,3) with z = 1 in the camera frame; `zoom` (...) are the lens's factors."""
    xy = (pixels[..., :2] - camera.center_px) / _focal(camera, zoom)
    return np.concatenate([xy, np.ones_like(xy[..., :1])], -1).astype(np.float32)


def camera_from_ray(camera: Camera, pixels: np.ndarray, zoom: np.ndarray | None = None) -> np.ndarray:
    """Rotations (...,3,3) from a virtual camera that looks along each pixel's ray to the real camera's axes.

    A network that sees a crop has no way to know where in the image it was cut: its 3D is in the axes of a camera
    rotated to face the crop. This is the smallest rotation that undoes that.
    """
    ray = pixel_rays(camera, pixels, zoom).astype(np.float64)
    x, y, z = np.moveaxis(ray / np.linalg.norm(ray, axis=-1, keepdims=True), -1, 0)
    # Rodrigues from (0, 0, 1) to (x, y, z); z > 0 always, so 1 + z never vanishes.
    c = 1 / (1 + z)
    rows = [1 - c * x * x, -c * x * y, x, -c * x * y, 1 - c * y * y, y, -x, -y, z]
    return np.stack(rows, -1).reshape(*x.shape, 3, 3).astype(np.float32)


@dataclass(frozen=True)
class CropCameras:
    """Virtual cameras that see N regions of an image as images of their own.

    `camera_from_crop` (N,3,3) rotates their axes into the full camera's, both stand in the same place; `focal_px` (N,)
    in crop pixels; `image_from_crop` (N,3,3) is the homography from crop pixels (x, y, 1) to image pixels times z;
    `center_px` (N,2), the principal point in crop pixels.
    """

    camera_from_crop: np.ndarray
    focal_px: np.ndarray
    image_from_crop: np.ndarray
    center_px: np.ndarray


def crop_cameras(camera: Camera, region: Region, out: int, zoom: np.ndarray | None = None) -> CropCameras:
    """The cameras that look along the middles of `region` (N), rolled with it, with images of side `out` px.

    `zoom` (N,): the lens's factors in the regions' frames.

    Two pinhole cameras in one place see the same rays, so with ``R = camera_from_ray(middle) @ roll(angle)`` no
    point's projection is lost between them: ``image_from_crop = K R K_crop^-1``, exactly, however far off the axis.
    The focal length is ``f_crop = f |ray| out / size`` with ``|ray| = 1 / cos(off-axis angle)``, the distance of the
    middle's pixel from the pinhole in units of f. With it the crop has the region's scale across the direction that
    points away from the image's centre; along that direction an image is stretched by ``|ray|``, and the crop is not.
    At the image's centre the homography is the plain map of `hmrkit.crops.crop_affine`.
    """
    ray = pixel_rays(camera, region.center, zoom).astype(np.float64)
    cosine, sine, zero = np.cos(region.angle), np.sin(region.angle), np.zeros(np.shape(region.angle))
    roll = np.stack([cosine, -sine, zero, sine, cosine, zero, zero, zero, zero + 1], -1).reshape(*zero.shape, 3, 3)
    rotation = camera_from_ray(camera, region.center, zoom).astype(np.float64) @ roll
    focal = mean_focal(camera, zoom) * np.linalg.norm(ray, axis=-1) * out / region.size
    return _crop_cameras(camera, rotation, focal, np.full((*zero.shape, 2), out / 2), zoom)


def plain_crop_cameras(camera: Camera, region: Region, out: int, zoom: np.ndarray | None = None) -> CropCameras:
    """Cameras with images of side `out` px that are plain pieces of the image: `region` (N), not rotated.

    Their axes are the full camera's. The principal point is then the full image's, in crop pixels: mostly not in the
    middle, and often outside of the crop. ``f_crop = f out / size``; where the full camera has two focal lengths f is
    their geometric mean, and the crop's pixels are square.
    """
    focal = mean_focal(camera, zoom) * out / region.size
    center = out / 2 - focal[..., None] * pixel_rays(camera, region.center, zoom)[..., :2]
    return _crop_cameras(camera, np.broadcast_to(np.eye(3), (*focal.shape, 3, 3)), focal, center, zoom)


def mean_focal(camera: Camera, zoom: np.ndarray | None = None) -> float | np.ndarray:
    """The geometric mean of a camera's two focal lengths, px: one, or with `zoom` (N,) one each."""
    mean = float(np.sqrt(np.prod(camera.focal_px.astype(np.float64))))
    return mean if zoom is None else mean * zoom


def _focal(camera: Camera, zoom: np.ndarray | None) -> np.ndarray:
    return camera.focal_px if zoom is None else camera.focal_px * zoom[..., None]


def _crop_cameras(
    camera: Camera, rotation: np.ndarray, focal: np.ndarray, center: np.ndarray, zoom: np.ndarray | None
) -> CropCameras:
    intrinsics = np.zeros((*np.shape(zoom), 3, 3)) if zoom is not None else np.zeros((3, 3))
    intrinsics[..., :2, :2] = _focal(camera, zoom)[..., None] * np.eye(2)
    intrinsics[..., :2, 2], intrinsics[..., 2, 2] = camera.center_px, 1
    zero, (x, y) = np.zeros(focal.shape), np.moveaxis(center, -1, 0)
    ray_from_crop = np.stack([1 / focal, zero, -x / focal, zero, 1 / focal, -y / focal, zero, zero, zero + 1], -1)
    image_from_crop = intrinsics @ rotation @ ray_from_crop.reshape(*zero.shape, 3, 3)
    return CropCameras(rotation, focal, image_from_crop, center)


def solve_translation(
    camera: Camera,
    joints: np.ndarray,
    pixels: np.ndarray,
    weights: np.ndarray,
    prior: np.ndarray | None = None,
    prior_weight: float = 0.0,
) -> np.ndarray:
    """Translation (T,3) m that projects root-relative `joints` (T,K,3) onto `pixels` (T,K,2) by least squares.

    Linear in the translation: ``(u - cx) / fx * (z + tz) = x + tx``. `weights` (T,K) >= 0 (0 for missing).
    `prior` (T,3) with `prior_weight` pulls frames that are badly conditioned. Residuals are scaled by depth once, so
    that they are pixels and not metres.
    """
    joints, pixels, w = (np.nan_to_num(a).astype(np.float64) for a in (joints, pixels, weights))
    a = (pixels - camera.center_px) / camera.focal_px
    translation = np.zeros((len(joints), 3))
    depth = np.ones(w.shape)
    for _ in range(3):
        scaled = w / depth**2
        # Normal equations of rows [1, 0, -ax] t = ax z - x and [0, 1, -ay] t = ay z - y.
        s0, sa, saa = scaled.sum(1), (scaled[..., None] * a).sum(1), (scaled * (a * a).sum(-1)).sum(1)
        rhs_xy = a * joints[..., 2:] - joints[..., :2]
        b = np.concatenate([(scaled[..., None] * rhs_xy).sum(1), -(scaled * (a * rhs_xy).sum(-1)).sum(1)[:, None]], 1)
        m = np.zeros((len(joints), 3, 3))
        m[:, 0, 0] = m[:, 1, 1] = s0
        m[:, 0, 2] = m[:, 2, 0] = -sa[:, 0]
        m[:, 1, 2] = m[:, 2, 1] = -sa[:, 1]
        m[:, 2, 2] = saa
        if prior is not None:
            m += prior_weight * np.eye(3)
            b += prior_weight * prior
        translation = np.linalg.solve(m + 1e-9 * np.eye(3), b[..., None])[..., 0]
        depth = np.maximum(joints[..., 2] + translation[:, None, 2], 0.1)
    return translation.astype(np.float32)
