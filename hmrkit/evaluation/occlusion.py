"""HKMR's test of robustness to occlusion: one joint after another is covered by a bar, a circle or a rectangle.

Georgakis et al. 2020, section 4, after Sarandi et al. 2018. Sizes are pixels of the network's input of 224 pixels at
degree of occlusion 1 ... 5: bars 10 ... 50 wide, circles of radius 10 ... 50, rectangles of 3,000 ... 15,000 square
pixels. "In each case, we perform the occlusion on one joint at a time and compute the average MPJPE over all the
joints." The papers leave open, and we choose: black; a bar crosses the whole image, through the joint, at an angle
of its own for each joint (`bar_angle`); a rectangle stands upright, half as high again as it is wide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from hmrkit.errors import UsageError
from hmrkit.files import atomic_path

Kind = Literal["bar", "circle", "rectangle"]
KINDS: tuple[Kind, ...] = get_args(Kind)
DEGREES = (1, 2, 3, 4, 5)
INPUT_PX = 224
"""Side in pixels of the input that the papers' sizes refer to (HMR's)."""


def bar_angle(joint: int) -> float:
    """Angle in rad between the x axis and the bar over joint number `joint`: steps by the golden ratio of half a
    rotation.

    So that all directions occur, none depends on chance, and adding a joint moves no other's bar.
    """
    return float(np.pi * (joint * (np.sqrt(5) - 1) / 2 % 1))


def occlusion_mask(
    height: int,
    width: int,
    joints_px: np.ndarray,
    boxes_xyxy: np.ndarray,
    kind: Kind,
    degree: int,
    angle: float = 0.0,
    expand: float = 1.25,
) -> np.ndarray:
    """Where images of `height` and `width` are covered -> bool (...,H,W).

    `joints_px` (...,2): one joint a person; `boxes_xyxy` (...,4): the person's box in the same pixels. The square that
    the network sees has `expand` times the box's longer side and counts as 224 pixels (for crops: the crop's own frame
    as the box, and 1). `angle` in rad is that of a bar. A pixel is covered if its middle lies under the shape. Nothing
    is covered where joint or box is NaN. UsageError for an unknown kind or degree.
    """
    if kind not in KINDS or degree not in DEGREES:
        raise UsageError(
            f"expected an occlusion of {', '.join(KINDS)} and a degree from 1 to 5, got {kind!r} and {degree!r}"
        )
    box = np.asarray(boxes_xyxy, np.float64)
    # One pixel of the network's input in image pixels, and each image pixel's way from the joint, in input pixels.
    pixel = (expand * np.maximum(box[..., 2] - box[..., 0], box[..., 3] - box[..., 1]) / INPUT_PX)[..., None, None]
    joint = np.asarray(joints_px, np.float64)
    x = (np.arange(width) + 0.5 - joint[..., 0, None, None]) / pixel
    y = (np.arange(height)[:, None] + 0.5 - joint[..., 1, None, None]) / pixel
    if kind == "bar":
        return np.abs(np.cos(angle) * y - np.sin(angle) * x) <= 5 * degree
    if kind == "circle":
        return x**2 + y**2 <= (10 * degree) ** 2
    half_width = np.sqrt(3000 * degree / 1.5) / 2
    return (np.abs(x) <= half_width) & (np.abs(y) <= 1.5 * half_width)


def occlude(
    images: np.ndarray,
    joints_px: np.ndarray,
    boxes_xyxy: np.ndarray,
    kind: Kind,
    degree: int,
    angle: float = 0.0,
    expand: float = 1.25,
    fill: Sequence[int] = (0, 0, 0),
) -> np.ndarray:
    """Images (...,H,W,3) with a shape over one joint of each person, in `fill`; a copy of the same type.

    Arguments as `occlusion_mask`; the same arguments give the same pixels, always.
    """
    height, width = images.shape[-3:-1]
    mask = occlusion_mask(height, width, joints_px, boxes_xyxy, kind, degree, angle, expand)
    return np.where(mask[..., None], np.asarray(fill, images.dtype), images)


@dataclass(frozen=True)
class OcclusionCurve:
    """Errors of one method under one kind of occlusion: `errors` (D,J), the mean over all people with joint j covered.

    `clean` is the error without any occlusion, `unit` that of both, `degrees` (D,) and `joint_names` (J,) their axes.
    """

    kind: Kind
    degrees: tuple[int, ...]
    joint_names: tuple[str, ...]
    errors: np.ndarray
    clean: float = float("nan")
    unit: str = "MPJPE [mm]"

    def __post_init__(self) -> None:
        expected = (len(self.degrees), len(self.joint_names))
        if self.errors.shape != expected:
            raise ValueError(f"expected errors of shape {expected}, got {self.errors.shape}")

    @property
    def mean(self) -> np.ndarray:
        """What HKMR's figure 6 shows, (D,): the mean over the covered joints; NaN (joint never seen) is left out."""
        known = ~np.isnan(self.errors)
        total = np.where(known, self.errors, 0.0).sum(1)
        return np.divide(total, known.sum(1), out=np.full(len(total), np.nan), where=known.any(1))


def save_curves_png(curves: Mapping[str, OcclusionCurve], path: Path) -> None:
    """Draw the curves of several methods (name -> curve) under one kind of occlusion as HKMR's figure 6 does.

    Degree 0 is the clean image. ValueError for curves of different kinds.
    """
    from matplotlib.figure import Figure  # not pyplot: a figure needs no window and no global state

    kinds = {curve.kind for curve in curves.values()}
    if len(kinds) != 1:
        raise ValueError(f"expected curves of one kind of occlusion, got {', '.join(sorted(kinds)) or 'none'}")
    figure = Figure(figsize=(5, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for name, curve in curves.items():
        (line,) = axes.plot((0, *curve.degrees), (curve.clean, *curve.mean), marker="o", markersize=4, label=name)
        low, high = np.fmin.reduce(curve.errors, 1), np.fmax.reduce(curve.errors, 1)  # a missing joint has no say
        axes.fill_between(curve.degrees, low, high, color=line.get_color(), alpha=0.12, linewidth=0)
    first = next(iter(curves.values()))
    axes.set(title=f"Occlusion: {first.kind}", xlabel="degree of occlusion (0: clean)", ylabel=first.unit)
    axes.set_xticks((0, *first.degrees))
    axes.grid(alpha=0.3)
    axes.legend(title="mean over covered joints;\nband: easiest to hardest joint", fontsize=8, title_fontsize=7)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150, format="png")
