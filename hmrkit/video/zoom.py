"""How a lens zooms through a clip, by what lies about the people: one focal length per frame.

Each frame is aligned to a key frame as a camera that rotates in place and zooms would see it: four numbers, by the
inverse compositional algorithm (Baker and Matthews, Lucas-Kanade 20 Years On, IJCV 2004, section 3.2) with robust
weights, from coarse to fine, on images of normalised local brightness and contrast. What lies in people's boxes is
left out. A frame that shows the scene much larger or smaller than the key frame, or other parts of it, is the next one.

A camera that moves towards the scene shows it larger, too, and no image of a wall tells the two apart. So nothing is
taken for a zoom unless the user says that the lens zooms (``--fov-track``); `people_disagree` looks at people's sizes.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial.transform import Rotation

from hmrkit.smoothing import smooth_series
from hmrkit.types import Camera, Track, VideoInfo, Zoom
from hmrkit.video.cuts import shots

log = logging.getLogger(__name__)

LONGER_SIDE = 240  # px that frames are reduced to
LEVELS = 3  # of the pyramid: at the coarsest an image moves a quarter as far
DENSE = 16_000  # pixels: of a larger level every second row and column is aligned
STEPS, PRECISION = 8, 1e-4  # Gauss-Newton steps at most on a level; a step that is this small is the last
NORMALISE_PX = 6.0  # radius over which brightness and contrast are normalised
CONTRAST = 3.0  # grey levels of noise: less contrast than this stays flat
BOX_MARGIN = 0.1  # of a box's size, for what a box leaves out of a person
LEAST_ALIKE, LEAST_SHARE = 0.6, 0.15  # correlation, and share of the image, of an alignment that counts
# The next key frame is due at such a log factor, or where less of this one is left. A focal length that is off bends a
# pan, the more the farther it is from the key frame: 0.9 has a quarter of the error of 0.6.
KEY_ZOOM, KEY_SHARE = 0.15, 0.9
PATIENCE = 3  # frames in a row that are not found before the next key frame
# Noise of a log factor, how fast a zoom's speed changes (per s^2), and the least range of a zoom: pans of a lens whose
# focal length is 40 % off look like zooms by 1 %.
NOISE, ACCELERATION, LEAST_ZOOM = 0.002, 2.0, 0.025


@dataclass(frozen=True)
class _Level:
    """A frame at one size: normalised grey values (H,W), whether a pixel counts (H,W), the camera in its pixels."""

    image: np.ndarray
    counts: np.ndarray
    focal: float
    center: np.ndarray

    @property
    def every(self) -> int:
        """Rows and columns from one aligned pixel to the next."""
        return 1 if self.image.size < DENSE else 2


@dataclass(frozen=True)
class _Key:
    """P pixels of a key frame at one size: `values` (P,), their viewing `rays` (P,3), and how values follow rotations
    about x, y and z and the log zoom: `slopes` (P,4)."""

    values: np.ndarray
    rays: np.ndarray
    slopes: np.ndarray


@dataclass(frozen=True)
class _Aligned:
    """`rotation` (3,3) and log `zoom` since the key frame; correlation, and the share of the image that both show."""

    rotation: np.ndarray
    zoom: float
    alike: float
    share: float


_HERE = _Aligned(np.eye(3), 0.0, 1.0, 1.0)


class ZoomFinder:
    """Takes the chosen frames of a clip in their order, then knows how the lens zoomed."""

    def __init__(self, camera: Camera) -> None:
        self.camera = camera
        self._key: list[_Key] = []
        self._key_zoom, self._key_share, self._lost = 0.0, 0.0, 0
        self._last = _HERE
        self._zoom: dict[int, float] = {}  # log factors

    def add(self, frame_index: int, frame: np.ndarray, boxes_xyxy: np.ndarray) -> None:
        """The next frame (H,W,3) uint8 RGB and the boxes (N,4) px of the people in it."""
        levels = self._levels(frame, boxes_xyxy)
        found = self._last
        for key, level in zip(self._key, levels, strict=bool(self._key)):
            found = _align(key, level, found)
        if self._key and found.alike >= LEAST_ALIKE and found.share >= LEAST_SHARE:
            self._zoom[frame_index] = self._key_zoom + found.zoom
            self._last, self._lost = found, 0
            if abs(found.zoom) < KEY_ZOOM and found.share > KEY_SHARE * self._key_share:
                return
        else:
            self._lost += 1
            if self._key and self._lost < PATIENCE:
                return
        # What was not found, as after a cut, goes on with the zoom that was last.
        self._key_zoom += self._last.zoom
        self._zoom[frame_index] = self._key_zoom
        self._key, self._last, self._lost = [_key(level) for level in levels], _HERE, 0
        self._key_share = float(levels[-1].counts.mean())

    def finish(self, video: VideoInfo) -> Zoom | None:
        """The zoom in the chosen frames of `video`, 1 in the first of each shot; None where no shot shows one."""
        frames = video.frame_indices
        known = np.array(sorted(self._zoom), np.int64)
        if not len(known):
            return None
        measured = np.interp(frames, known, [self._zoom[int(i)] for i in known])
        weights = np.isin(frames, known).astype(np.float64)
        factors = np.ones(len(frames))
        shot_of, times = shots(frames, video.cuts), video.seconds(frames)
        for shot in np.unique(shot_of):
            rows = np.flatnonzero(shot_of == shot)
            series = (measured[rows][:, None, None], weights[rows][:, None], times[rows])
            smooth = smooth_series(*series, NOISE, ACCELERATION)[:, 0, 0]
            if np.ptp(smooth) >= LEAST_ZOOM:  # NaN, where nothing was measured, is not
                factors[rows] = np.exp(smooth - smooth[0])
        if (factors == 1).all():
            log.info("%s: the lens does not zoom", video.path)
            return None
        log.info("%s: the lens zooms by %.3f to %.3f", video.path, factors.min(), factors.max())
        return Zoom(frames, factors)

    def _levels(self, frame: np.ndarray, boxes_xyxy: np.ndarray) -> list[_Level]:
        """The frame at all sizes, the coarsest first."""
        block = max(1, round(max(frame.shape[:2]) / LONGER_SIDE))
        image = np.asarray(Image.fromarray(np.ascontiguousarray(frame[..., 1])).reduce(block), np.float32)
        counts = np.ones(image.shape, bool)
        corners = np.nan_to_num(boxes_xyxy).reshape(-1, 2, 2)
        margin = BOX_MARGIN * (corners[:, 1] - corners[:, 0])
        low = np.floor((corners[:, 0] - margin) / block).clip(0).astype(int)
        high = np.ceil((corners[:, 1] + margin) / block).clip(0).astype(int)
        for (x0, y0), (x1, y1) in zip(low, high, strict=True):
            counts[y0:y1, x0:x1] = False
        focal, center = float(self.camera.focal_px.mean()), self.camera.center_px.astype(np.float64)
        levels = [_Level(_normalised(image), counts, focal / block, center / block)]
        for _ in range(1, LEVELS):
            block *= 2
            image = np.asarray(Image.fromarray(image).reduce(2), np.float32)
            rows, columns = (np.arange(side) * 2 for side in image.shape)
            counts = counts[rows[:, None], columns]
            levels.append(_Level(_normalised(image), counts, focal / block, center / block))
        return levels[::-1]


def people_disagree(zoom: Zoom, tracks: Sequence[Track], size: tuple[int, int]) -> bool:
    """Whether people in an image of `size` (W, H) keep their size there better than before a lens that zooms so.

    Of boxes that the image does not cut. People who walk against the zoom do so, and people before a camera that
    follows them, and zooms not at all.
    """
    before = after = 0.0
    for track in tracks:
        box = track.boxes_xyxy
        whole = ~track.interpolated & (box[:, :2] > 2).all(1) & (box[:, 2:] < np.array(size) - 2).all(1)
        if whole.any():
            height = np.log(np.maximum(box[whole, 3] - box[whole, 1], 1))
            before += whole.sum() * height.var()
            after += whole.sum() * (height - np.log(zoom.at(track.frame_indices[whole]))).var()
    return after > before


def _normalised(image: np.ndarray) -> np.ndarray:
    """Grey values (H,W) about their local mean, by their local contrast, a little smoothed."""
    image = gaussian_filter(image, 0.7)
    image = image - gaussian_filter(image, NORMALISE_PX)
    return image / np.sqrt(gaussian_filter(image**2, NORMALISE_PX) + CONTRAST**2)


def _key(level: _Level) -> _Key:
    y, x = np.nonzero(level.counts)
    chosen = (y % level.every == 0) & (x % level.every == 0)
    y, x = y[chosen], x[chosen]
    slope_y, slope_x = np.gradient(level.image)
    u, v = slope_x[y, x] * level.focal, slope_y[y, x] * level.focal
    values = level.image[y, x]
    x, y = (x + 0.5 - level.center[0]) / level.focal, (y + 0.5 - level.center[1]) / level.focal
    slopes = [-u * x * y - v * (1 + y * y), u * (1 + x * x) + v * x * y, v * x - u * y, u * x + v * y]
    return _Key(values, np.stack([x, y, np.ones_like(x)], 1), np.stack(slopes, 1))


def _align(key: _Key, now: _Level, start: _Aligned) -> _Aligned:
    """Rotation and zoom from the key frame to the frame `now`, at one size, improved from `start`."""
    height, width = now.image.shape
    rotation, zoom, alike, share = start.rotation, start.zoom, 0.0, 0.0
    for _ in range(STEPS):
        seen = key.rays @ rotation.T
        pixels = seen[:, :2] / seen[:, 2:] * (now.focal * np.exp(zoom)) + now.center - 0.5
        column, row = np.rint(pixels.T).astype(int)
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        inside[inside] = now.counts[row[inside], column[inside]]
        share = float(inside.sum()) * now.every**2 / now.image.size
        if share < LEAST_SHARE:
            break
        there = map_coordinates(now.image, pixels[inside, ::-1].T, order=1, mode="nearest")
        here, slopes = key.values[inside], key.slopes[inside]
        difference = there - here
        spread = 1.4826 * np.median(np.abs(difference)) + 1e-3
        weight = 1 / (1 + (difference / (2 * spread)) ** 2)
        power = (weight * here**2).sum() * (weight * there**2).sum()
        alike = float((weight * here * there).sum() / np.sqrt(power + 1e-9))
        weighted = slopes * weight[:, None]
        step = np.linalg.solve(weighted.T @ slopes + 1e-6 * np.eye(4), weighted.T @ difference)
        rotation, zoom = rotation @ Rotation.from_rotvec(-step[:3]).as_matrix(), zoom - float(step[3])
        if np.abs(step).max() < PRECISION:
            break
    return _Aligned(rotation, zoom, alike, share)
