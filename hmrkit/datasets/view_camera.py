"""A calibrated camera of a multi-view recording: where it stands, its lens, and its distortion both ways.

Two lens models, as OpenCV defines them (calib3d, "Detailed Description"): Brown-Conrady with the coefficients k1, k2,
p1, p2[, k3[, k4, k5, k6[, s1, s2, s3, s4]]], and the equidistant fisheye of Kannala and Brandt 2006 with k1 to k4.
Both are written here so that reading a calibration needs no OpenCV.

Calibrations put the MIDDLE of the first pixel at (0, 0); hmrkit's pixels start at the image's corner (`hmrkit.types`).
`ViewCamera` keeps the file's matrix and adds the half pixel on its way out: everything it returns is hmrkit's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from hmrkit.types import Camera

HALF_PIXEL = 0.5
_BROWN_LENGTHS = (0, 2, 4, 5, 8, 12)


@dataclass(frozen=True)
class ViewCamera:
    """`matrix` (3,3) and `distortion` (D,) as in the calibration file (px, first pixel's middle at 0);
    `camera_from_world` (4,4) in metres: x_c = R x_w + t, camera axes x right, y down, z forward.
    """

    name: str
    width: int
    height: int
    matrix: np.ndarray
    distortion: np.ndarray
    camera_from_world: np.ndarray
    fisheye: bool = False

    def __post_init__(self) -> None:
        if self.matrix.shape != (3, 3) or not np.isfinite(self.matrix).all() or self.matrix[0, 0] <= 0:
            raise ValueError(f"camera {self.name}: expected a 3x3 camera matrix with a positive focal length")
        lengths = (0, 4) if self.fisheye else _BROWN_LENGTHS
        if self.distortion.shape not in [(n,) for n in lengths]:
            raise ValueError(
                f"camera {self.name}: expected {' or '.join(map(str, lengths))} distortion coefficients, "
                f"got {self.distortion.size}"
            )
        rotation = self.camera_from_world[:3, :3]
        if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3) or np.linalg.det(rotation) < 0:
            raise ValueError(f"camera {self.name}: its rotation is none (not orthogonal, or mirrored)")

    @property
    def position_w(self) -> np.ndarray:
        """Where the camera stands (3,), m."""
        return -self.camera_from_world[:3, :3].T @ self.camera_from_world[:3, 3]

    def to_camera(self, points_w: np.ndarray) -> np.ndarray:
        """World points (...,3) m -> the camera frame."""
        return points_w @ self.camera_from_world[:3, :3].T + self.camera_from_world[:3, 3]

    def pinhole(self) -> Camera:
        """The camera without its distortion, for hmrkit's stages."""
        focal = np.array([self.matrix[0, 0], self.matrix[1, 1]], np.float32)
        center = (self.matrix[:2, 2] + HALF_PIXEL).astype(np.float32)
        return Camera(focal, center, self.width, self.height, "given")

    def project(self, points_c: np.ndarray) -> np.ndarray:
        """Points (...,3) m in the camera frame -> pixels (...,2) of the image as filmed.

        NaN behind the camera, and beyond the angle up to which the lens polynomial was fitted (past its turning point
        it would fold what is far outside back into the image).
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            xy = points_c[..., :2] / np.where(points_c[..., 2:] > 0, points_c[..., 2:], np.nan)
            xy = np.where(np.linalg.norm(xy, axis=-1, keepdims=True) < self._widest, xy, np.nan)
        return self._to_pixels(self.distort(xy))

    def undistort(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels (...,2) of the image as filmed -> pixels of the camera without its distortion (`pinhole`).

        Newton's method on `distort`; NaN where it does not come back to the pixel within 1e-6 px.
        """
        wanted = self._from_pixels(np.asarray(pixels, np.float64))
        radius = np.linalg.norm(wanted, axis=-1, keepdims=True)
        xy = wanted * (np.tan(np.minimum(radius, 1.4)) / np.maximum(radius, 1e-12) if self.fisheye else 1.0)
        step_x, step_y = np.array([1e-6, 0.0]), np.array([0.0, 1e-6])
        for _ in range(20):
            error = self.distort(xy) - wanted
            dx = (self.distort(xy + step_x) - self.distort(xy - step_x)) / 2e-6
            dy = (self.distort(xy + step_y) - self.distort(xy - step_y)) / 2e-6
            with np.errstate(divide="ignore", invalid="ignore"):
                area = dx[..., 0] * dy[..., 1] - dx[..., 1] * dy[..., 0]
                move_x = (error[..., 0] * dy[..., 1] - error[..., 1] * dy[..., 0]) / area
                move_y = (error[..., 1] * dx[..., 0] - error[..., 0] * dx[..., 1]) / area
            xy = xy - np.stack([move_x, move_y], -1)
        with np.errstate(invalid="ignore"):
            back = np.linalg.norm(self.distort(xy) - wanted, axis=-1, keepdims=True) * self.matrix[0, 0] < 1e-6
        return self._to_pixels(np.where(back, xy, np.nan))

    def distort(self, xy: np.ndarray) -> np.ndarray:
        """Directions (...,2) = (x / z, y / z) -> where the lens puts them, still over z = 1."""
        x, y = xy[..., 0], xy[..., 1]
        squared = x * x + y * y
        if self.fisheye:
            k1, k2, k3, k4 = _padded(self.distortion, 4)
            radius = np.sqrt(squared)
            theta = np.arctan(radius)
            t = theta * theta
            bent = theta * (1 + t * (k1 + t * (k2 + t * (k3 + t * k4))))
            return xy * np.where(radius > 1e-9, bent / np.maximum(radius, 1e-9), 1.0)[..., None]
        k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4 = _padded(self.distortion, 12)
        radial = (1 + squared * (k1 + squared * (k2 + squared * k3))) / (
            1 + squared * (k4 + squared * (k5 + squared * k6))
        )
        bent_x = x * radial + 2 * p1 * x * y + p2 * (squared + 2 * x * x) + s1 * squared + s2 * squared**2
        bent_y = y * radial + p1 * (squared + 2 * y * y) + 2 * p2 * x * y + s3 * squared + s4 * squared**2
        return np.stack([bent_x, bent_y], -1)

    def resized(self, width: int, height: int) -> ViewCamera:
        """The same camera with its image scaled to this size."""
        sx, sy = width / self.width, height / self.height
        matrix = np.diag([sx, sy, 1.0]) @ self.matrix
        # The corner of the image stays, not the middle of its first pixel.
        matrix[:2, 2] += HALF_PIXEL * (np.array([sx, sy]) - 1)
        return replace(self, width=width, height=height, matrix=matrix)

    @cached_property
    def _widest(self) -> float:
        """Largest x / z that the lens polynomial still moves outwards."""
        radius = np.linspace(0, 6, 6001)
        moved = self.distort(np.stack([radius, np.zeros_like(radius)], -1))[:, 0]
        falling = np.nonzero(~(np.diff(moved) > 0))[0]
        return float(radius[falling[0]]) if len(falling) else np.inf

    def _to_pixels(self, xy: np.ndarray) -> np.ndarray:
        return xy @ self.matrix[:2, :2].T + self.matrix[:2, 2] + HALF_PIXEL

    def _from_pixels(self, pixels: np.ndarray) -> np.ndarray:
        return (pixels - HALF_PIXEL - self.matrix[:2, 2]) @ np.linalg.inv(self.matrix[:2, :2]).T


def _padded(values: np.ndarray, length: int) -> np.ndarray:
    return np.concatenate([values, np.zeros(length - len(values))])
