"""Where to cut BlazePose's crops: from a track's box, from the frame before, by search over rotations.

A region here is a row of centre x, y and side in px and angle in rad; many are (N,4).
"""

from __future__ import annotations

import numpy as np

from hmrkit.crops import Region, region_from_boxes
from hmrkit.keypoints.blazepose_reading import HIPS
from hmrkit.skeletons import BLAZEPOSE_33

UPRIGHT_ASPECT = 2.6  # height over width of a standing person's box, about
STANDING = 1.35  # side of a standing person's crop, in heights of the box
STANDING_ASPECT = 1.6  # height over width of the widest box about somebody who stands
SIZE_SLACK = 0.1  # regions larger than a standing person's by this part are given up for it
# A guessed region that is further off than this from what the network asks for is run again.
CENTER_TOLERANCE = 0.08  # of the crop's side
SIZE_TOLERANCE = 1.15
ANGLE_TOLERANCE = float(np.radians(12))

# Rotations tried when a person is not detected: somersaults, handstands, people who lie.
ROTATIONS = np.radians([0, 45, 90, 135, 180, 225, 270, 315])
NEW_ROTATION_COST = 0.1  # of score, for leaving what was found without a search
TILT_COST = 0.2  # of score, for a trunk that lies in its crop: wrong by 45 degrees scores as well as right
ROTATION_COST = 0.25  # of score, for a quarter rotation from one frame to the next

_NOSE, _WRISTS = BLAZEPOSE_33.indices("nose"), BLAZEPOSE_33.indices("left_wrist", "right_wrist")


def as_region(rows: np.ndarray) -> Region:
    return Region(rows[:, :2], rows[:, 2], rows[:, 3])


def standing_regions(box: np.ndarray, image_height: float) -> np.ndarray:
    """Regions (N,4) of people of whom only the box (N,4) is known: upright, hips in the box's middle.

    Of a box that ends at the image's lower edge the legs are taken to be hidden, and are given their room.
    """
    box = np.array(box, np.float64)
    cut = _ends_below(box, image_height)
    shortest = box[:, 1] + UPRIGHT_ASPECT * (box[:, 2] - box[:, 0])
    box[:, 3] = np.where(cut, np.maximum(box[:, 3], shortest), box[:, 3])
    region = region_from_boxes(box, STANDING)
    return np.column_stack([region.center, region.size, region.angle])


def held(asked: np.ndarray, box: np.ndarray, points: np.ndarray, image_height: float) -> np.ndarray:
    """The regions (N,4) that the network asks for, but no larger than `standing_regions` has them where a box (N,4)
    shows all of somebody who stands: by its shape and, by the landmarks `points` (N,33,2) px, from the head down.

    Of people seen from near by and above the network takes the hips to lie too low and asks for a larger crop about
    them, in which it finds them lower still: by up to an eighth of the person's height.
    """
    nose, hips, wrists = (points[:, rows, 1] for rows in (_NOSE, HIPS, _WRISTS))
    stands = (nose < hips).all(1) & (nose < wrists).all(1) & ~_ends_below(box, image_height)
    stands &= box[:, 3] - box[:, 1] > STANDING_ASPECT * (box[:, 2] - box[:, 0])
    upright = standing_regions(box, image_height)
    too_large = asked[:, 2] / np.maximum(upright[:, 2], 1e-6) - 1
    share = np.where(stands, np.clip(too_large / SIZE_SLACK, 0, 1), 0.0)[:, None]
    center = asked[:, :2] + share * (upright[:, :2] - asked[:, :2])
    side = np.where(stands, np.minimum(asked[:, 2], upright[:, 2]), asked[:, 2])
    return np.column_stack([center, side, asked[:, 3]])


def _ends_below(box: np.ndarray, image_height: float) -> np.ndarray:
    return box[:, 3] > 0.99 * image_height


def relation(region: np.ndarray, box: np.ndarray) -> np.ndarray:
    """How a region lies to the track's box: offset and side in units of the box's longer side, and the angle."""
    side = (box[2:] - box[:2]).max()
    return np.array([*(region[:2] - (box[:2] + box[2:]) / 2) / side, region[2] / side, region[3]])


def place(relation: np.ndarray | None, box: np.ndarray, upright: np.ndarray) -> np.ndarray:
    """The inverse of `relation`; `upright` where there is none yet."""
    if relation is None:
        return upright
    side = (box[2:] - box[:2]).max()
    return np.array([*(box[:2] + box[2:]) / 2 + relation[:2] * side, relation[2] * side, relation[3]])


def agree(used: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """(N,) whether regions (N,4) are close enough for the network not to mind."""
    off = np.linalg.norm(used[:, :2] - asked[:, :2], axis=-1) / used[:, 2]
    ratio = np.abs(np.log(np.maximum(asked[:, 2], 1e-3) / used[:, 2]))
    rotation = np.abs(wrap(asked[:, 3] - used[:, 3]))
    return (off < CENTER_TOLERANCE) & (ratio < np.log(SIZE_TOLERANCE)) & (rotation < ANGLE_TOLERANCE)


def leading(ids: np.ndarray, step: int) -> np.ndarray:
    """Which (N,) of the boxes of tracks `ids` (N,), in time order, go first: each track's first, last and every
    `step`-th between."""
    first = np.zeros(len(ids), bool)
    for i in dict.fromkeys(ids):
        mine = np.flatnonzero(ids == i)
        first[mine[::step]] = first[mine[-1]] = True
    return first


def between(rows: np.ndarray, known_rows: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Regions (M,4) at times `rows` (M,), on the way between those `known` (K,4) at rising times (K,)."""
    columns = [known[:, 0], known[:, 1], np.log(np.maximum(known[:, 2], 1e-3)), np.unwrap(known[:, 3])]
    x, y, side, angle = (np.interp(rows, known_rows, column) for column in columns)
    return np.column_stack([x, y, np.exp(side), angle])


def overlap(xy: np.ndarray, box: np.ndarray, image_size: np.ndarray) -> np.ndarray:
    """(N,) intersection over union of the landmarks' bounding box, cut at the image's edges, and the track's box."""
    low, high = np.clip(xy.min(1), 0, image_size), np.clip(xy.max(1), 0, image_size)
    common = np.clip(np.minimum(high, box[:, 2:]) - np.maximum(low, box[:, :2]), 0, None).prod(-1)
    union = (high - low).prod(-1) + (box[:, 2:] - box[:, :2]).prod(-1) - common
    return common / np.maximum(union, 1e-6)


def rotated(upright: np.ndarray) -> np.ndarray:
    """Regions (N,8,4): those given (N,4), rotated to each of `ROTATIONS`."""
    regions = np.repeat(upright[:, None], len(ROTATIONS), 1)
    regions[..., 3] = ROTATIONS
    return regions


def smoothest_path(scores: list[np.ndarray], angles: list[np.ndarray], start: float | None = None) -> list[int]:
    """Which of each frame's candidates to take, so that scores are high and the person does not spin back and forth.

    `scores` and `angles` hold one array a frame; `start` is the angle in the frame before,
    None where that is not known. Viterbi's algorithm.
    """
    total, back = scores[0].copy(), []
    if start is not None:
        total -= ROTATION_COST * np.abs(wrap(angles[0] - start)) / (np.pi / 2)
    for before, score, angle in zip(angles, scores[1:], angles[1:], strict=False):
        paths = total[:, None] - ROTATION_COST * np.abs(wrap(before[:, None] - angle[None])) / (np.pi / 2)
        back.append(paths.argmax(0))
        total = paths.max(0) + score
    path = [int(total.argmax())]
    for choice in reversed(back):
        path.append(int(choice[path[-1]]))
    return path[::-1]


def wrap(angle: np.ndarray) -> np.ndarray:
    """Angles in [-pi, pi)."""
    return (angle + np.pi) % (2 * np.pi) - np.pi
