"""Whether the camera moves: where the background of each frame has gone since the first, without the people.

Small tiles of a reduced image are compared by phase correlation (Kuglin and Hines 1975) with those of an earlier frame,
the last one that is still near enough, so that errors do not add up while the camera stands. Most tiles of a background
move alike under a pan or a tilt; tiles with people or without texture have no say. A zoom or a walk-along moves tiles
apart: then their median is what is kept.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hmrkit.types import Take, VideoInfo

WIDTH = 256  # px of the reduced image, at most
TILE = 32
TEXTURE = 3.0  # grey levels (standard deviation) below which a tile shows nothing
PEAK = 0.1  # of phase correlation, below which two tiles have nothing in common
ALIKE, FEWEST = 1.5, 3  # px of the reduced image within which so many tiles, and half of all, agree
RENEW = 3.0  # px of the reduced image after which another frame is compared with
MOVES = 0.02  # of the image's width: how far the background of a moving camera goes at least


class BackgroundPath:
    """Called with one frame after another, says where the background has gone since the first. `kept`: the `state`
    after which it goes on."""

    def __init__(self, kept: Mapping[str, np.ndarray] | None = None) -> None:
        kept = kept or {}
        self._key = kept.get("path_key")  # tiles that are compared with, NaN where people are
        self._key_at = kept.get("path_key_at", np.zeros(2))
        self._at = kept.get("path_at", np.zeros(2))

    def state(self) -> dict[str, np.ndarray]:
        """What is kept from frame to frame."""
        key = {} if self._key is None else {"path_key": self._key}
        return key | {"path_key_at": self._key_at, "path_at": self._at}

    def __call__(self, frame: np.ndarray, boxes_xyxy: np.ndarray) -> np.ndarray:
        """(2,) px right and down. `frame` (H,W,3) RGB uint8, `boxes_xyxy` (N,4) px of the people in it.

        Where two frames have too little in common, as at a cut, the background counts as unmoved.
        """
        scale = max(1, -(-frame.shape[1] // WIDTH))
        tiles = _tiles(frame, boxes_xyxy, scale)
        if self._key is None or self._key.shape != tiles.shape:
            self._key = tiles
            return self._at.copy()
        shift = _shift(self._key, tiles)
        if shift is None:
            self._key, self._key_at = tiles, self._at
        else:
            self._at = self._key_at + shift * scale
            if np.abs(shift).max() > RENEW:
                self._key, self._key_at = tiles, self._at
        return self._at.copy()


def camera_travel(video: VideoInfo) -> float:
    """How far the background goes, as a share of the image's width; 0 where that was not measured."""
    if video.background_px is None or not len(video.background_px):
        return 0.0
    return float(np.linalg.norm(np.ptp(video.background_px, axis=0)) / video.width)


def camera_moves(video: VideoInfo) -> bool:
    """Whether the background goes so far that the camera does not stand still."""
    return camera_travel(video) > MOVES


def moving_background(take: Take, frame_indices: np.ndarray) -> np.ndarray:
    """Where the background (T,2) px has gone at some of the chosen frames; zeros where the camera stands still, or
    where a zoom is followed (then keypoints are as without it)."""
    video = take.video
    if video.background_px is None or take.camera.zoom is not None or not camera_moves(video):
        return np.zeros((len(frame_indices), 2), np.float32)
    return video.background_px[np.searchsorted(video.frame_indices, frame_indices)]


def _tiles(frame: np.ndarray, boxes_xyxy: np.ndarray, scale: int) -> np.ndarray:
    """Grey tiles (N,TILE,TILE) of a frame reduced by `scale`, all NaN where a box touches them."""
    rows, columns = (side // scale // TILE for side in frame.shape[:2])
    grey = frame[: rows * TILE * scale, : columns * TILE * scale, 1]
    corners = [grey[i::scale, j::scale] for i in (0, scale // 2) for j in (0, scale // 2)]  # four pixels of each block
    small = np.mean(corners, 0, dtype=np.float32)
    tiles = small.reshape(rows, TILE, columns, TILE).swapaxes(1, 2).copy()
    x, y = np.arange(columns) * TILE * scale, np.arange(rows) * TILE * scale
    for left, top, right, bottom in np.nan_to_num(boxes_xyxy):
        inside = ((y < bottom) & (y + TILE * scale > top))[:, None] & ((x < right) & (x + TILE * scale > left))
        tiles[inside] = np.nan
    return tiles.reshape(-1, TILE, TILE)


def _shift(before: np.ndarray, after: np.ndarray) -> np.ndarray | None:
    """(2,) px right and down by which most tiles (N,TILE,TILE) have moved; None where too few agree."""
    shown = [np.nan_to_num(tiles.std((1, 2)), nan=0) > TEXTURE for tiles in (before, after)]
    both = shown[0] & shown[1]
    if both.sum() < FEWEST:
        return None
    window = np.hanning(TILE + 2)[1:-1]
    spectra = [
        np.fft.rfft2((t[both] - t[both].mean((1, 2), keepdims=True)) * np.outer(window, window))
        for t in (before, after)
    ]  # fmt: skip
    cross = np.conj(spectra[0]) * spectra[1]
    surface = np.fft.irfft2(cross / np.maximum(np.abs(cross), 1e-6), s=(TILE, TILE))
    best = surface.reshape(len(surface), -1).argmax(1)
    row, column = np.divmod(best, TILE)
    sure = surface.reshape(len(surface), -1).max(1) > PEAK
    if sure.sum() < FEWEST:
        return None
    each = np.arange(len(surface))
    down = row + _offset(*(surface[each, (row + k) % TILE, column] for k in (-1, 0, 1)))
    right = column + _offset(*(surface[each, row, (column + k) % TILE] for k in (-1, 0, 1)))
    shifts = np.stack([right, down], 1)[sure]
    shifts -= TILE * (shifts > TILE / 2)
    middle = np.median(shifts, 0)
    agree = np.abs(shifts - middle).max(1) < ALIKE
    return shifts[agree].mean(0) if agree.sum() >= max(FEWEST, len(shifts) / 2) else None


def _offset(low: np.ndarray, peak: np.ndarray, high: np.ndarray) -> np.ndarray:
    """(N,) in [-1/2, 1/2]: where between pixels a peak lies, by the larger of its neighbours (Foroosh et al. 2002)."""
    low, peak, high = (np.maximum(v, 0) for v in (low, peak, high))
    return np.where(high > low, high / (high + peak + 1e-9), -low / (low + peak + 1e-9))
