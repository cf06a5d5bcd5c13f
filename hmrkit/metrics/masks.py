"""Silhouettes and body parts in the image (LSP as UP-3D and SPIN score it), and surface correspondence (DensePose)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hmrkit.metrics.frames import Array, tensor, tensors


@dataclass(frozen=True)
class SegmentationCounts:
    """Pixels counted by class; add those of many images up, then ask for a figure: UP-3D pools pixels of the whole set.

    `confusion` (C,C) counts pixels by true class (row) and predicted class; `ignored` (C,) counts those whose truth
    is to be ignored by predicted class.
    """

    confusion: np.ndarray
    ignored: np.ndarray

    def __add__(self, other: SegmentationCounts) -> SegmentationCounts:
        return SegmentationCounts(self.confusion + other.confusion, self.ignored + other.ignored)

    @property
    def accuracy(self) -> float:
        """Share in [0, 1] of all pixels with the right class; ignored ones count as background, as in SPIN's code."""
        pixels = self.confusion.sum() + self.ignored.sum()
        return float((self.confusion.trace() + self.ignored[0]) / pixels) if pixels else float("nan")

    @property
    def f1_per_class(self) -> np.ndarray:
        """``2 TP / (2 TP + FP + FN)`` of each class, background first, (C,); NaN for a class that is nowhere."""
        hits = np.diagonal(self.confusion).astype(np.float64)
        either = self.confusion.sum(0) + self.confusion.sum(1)
        return np.divide(2 * hits, either, out=np.full(len(hits), np.nan), where=either > 0)

    @property
    def f1(self) -> float:
        """Mean of `f1_per_class`, background included."""
        known = self.f1_per_class[~np.isnan(self.f1_per_class)]
        return float(known.mean()) if known.size else float("nan")


def silhouette_counts(predicted: np.ndarray, truth: np.ndarray) -> SegmentationCounts:
    """Counts of silhouettes (H,W), person where not 0, for accuracy and F1 over background and person."""
    return part_counts((np.asarray(predicted) > 0).astype(int), (np.asarray(truth) > 0).astype(int), classes=2)


def part_counts(predicted: np.ndarray, truth: np.ndarray, classes: int = 7, ignore: int = 255) -> SegmentationCounts:
    """Counts of part maps (H,W) with classes 0 (background) ... `classes` - 1; truth `ignore` is not judged by F1.

    LSP has six parts. ValueError for maps of two shapes or for another class.
    """
    p, t = np.asarray(predicted), np.asarray(truth)
    if p.shape != t.shape:
        raise ValueError(f"expected part maps of one shape, got {p.shape} and {t.shape}")
    judged = t != ignore
    for name, labels in (("predicted", p), ("true", t[judged])):
        if labels.size and (labels.min() < 0 or labels.max() >= classes):
            raise ValueError(f"expected {name} classes 0 to {classes - 1}, got {labels.min()} to {labels.max()}")
    pairs = t[judged].astype(np.int64) * classes + p[judged]
    confusion = np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
    return SegmentationCounts(confusion, np.bincount(p[~judged], minlength=classes))


def surface_auc(distances_m: Array, limit_m: float = 0.10) -> float:
    """Area under the share of correct points over thresholds 0 ... `limit_m`, in [0, 1] (DensePose's AUC_10, AUC_30).

    ``1/a int_0^a share(d <= x) dx = mean(max(0, 1 - d / a))``, exactly. `distances_m` are distances on the body's
    surface between where a pixel was predicted to lie and where it lies (geodesic in DensePose); give infinity where no
    body was predicted. NaN is left out.
    """
    distance = tensor(distances_m).cpu().numpy()
    distance = distance[~np.isnan(distance)]
    return float(np.clip(1 - distance / limit_m, 0, None).mean()) if distance.size else float("nan")


def surface_auc_of_points(predicted: Array, truth: Array, limit_m: float = 0.10) -> float:
    """`surface_auc` without geodesics: points (...,3) m of the rest body to which predicted and true IUV lead.

    The straight way in the T-pose is shorter than the one over the skin, so this figure is never below DensePose's.
    Within 10 cm they differ little, except between the legs. A point that was not predicted (NaN) is a miss.
    """
    p, t = tensors(predicted, truth)
    distance = (p - t).norm(dim=-1)[t.isfinite().all(-1)]
    return surface_auc(distance.nan_to_num(nan=float("inf")), limit_m)
