"""What colours a person wears, in 24 numbers: enough to tell two people apart after one walked behind the other."""

from __future__ import annotations

import numpy as np

HUES, GREYS = 8, 4
SIZE = 2 * (HUES + GREYS)
# Rows of the box that are described, upper then lower body; columns keep to the middle, away from the background.
_ROWS = np.concatenate([np.linspace(0.08, 0.48, 12), np.linspace(0.52, 0.92, 12)])
_COLUMNS = np.linspace(0.3, 0.7, 9)


def describe(frame: np.ndarray | None, boxes_xyxy: np.ndarray) -> np.ndarray:
    """Colours (N,24) float32 of boxes (N,4) px in a frame (H,W,3) RGB uint8; NaN where there is no frame.

    Square roots of two histograms (upper, lower body): hue where there is colour, brightness where there is none. The
    Euclidean distance of two rows, over 2, is the Hellinger distance, in [0, 1].
    """
    boxes = np.asarray(boxes_xyxy, np.float32).reshape(-1, 4)
    if frame is None or len(boxes) == 0:
        return np.full((len(boxes), SIZE), np.nan, np.float32)
    height, width = frame.shape[:2]
    x0, y0, x1, y1 = np.nan_to_num(boxes).T
    x = np.clip(x0[:, None] + (x1 - x0)[:, None] * _COLUMNS, 0, width - 1).astype(int)
    y = np.clip(y0[:, None] + (y1 - y0)[:, None] * _ROWS, 0, height - 1).astype(int)
    rgb = frame[y[:, :, None], x[:, None, :]].astype(np.float32) / 255  # (N,24,9,3)
    value, chroma = rgb.max(-1), rgb.max(-1) - rgb.min(-1)
    # Hue as an angle from two opponent colours: no division by a vanishing chroma.
    hue = np.arctan2(np.sqrt(3) * (rgb[..., 1] - rgb[..., 2]), 2 * rgb[..., 0] - rgb[..., 1] - rgb[..., 2])
    hue_bin = ((hue / (2 * np.pi)) % 1 * HUES).astype(int) % HUES
    grey_bin = np.minimum((value * GREYS).astype(int), GREYS - 1)
    coloured = np.clip((chroma - 0.08) / 0.12, 0, 1)
    weights = np.concatenate(
        [
            np.eye(HUES, dtype=np.float32)[hue_bin] * coloured[..., None],
            np.eye(GREYS, dtype=np.float32)[grey_bin] * (1 - coloured)[..., None],
        ],
        -1,
    )
    halves = weights.reshape(len(boxes), 2, -1, HUES + GREYS).mean(2)
    return np.sqrt(halves).reshape(len(boxes), SIZE).astype(np.float32)
