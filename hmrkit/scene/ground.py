"""Ground and gravity for a camera that stands still: one world, y up, in which people stand at y = 0.

The ground is a plane through the soles of feet that stand. How well they show its tilt hangs on how far apart people
step, and on how steeply the camera looks down at them: one camera knows depth least, and from above an error in depth
is one in height. What feet leave open is taken from the people themselves, who on the whole stand upright, and from the
camera, which is mostly held level. All are weighed in one least-squares problem. One person's steps count besides the
places: a wrong size or depth shifts all stands of a person and leaves the differences. Who stands on something has a
level of their own. Nothing here notices that a camera moves: then give its pose, or stay in camera space.

The world's origin is on the ground beneath the camera; -z is where the camera looks, x its right.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from hmrkit.errors import InputError, UsageError
from hmrkit.scene.foot_contact import body_up, sole_points, standing, stretches
from hmrkit.scene.resampling import Motion

if TYPE_CHECKING:
    from hmrkit.body import Body

log = logging.getLogger(__name__)
UPRIGHT_SIGMA = np.tan(np.radians(6.0))  # how far the middle of people's lean may be from gravity
ROLL_SIGMA = np.tan(np.radians(3.0))  # how far the camera may be from level; much farther, and it is held askew
STAND_SIGMA_M = 0.05  # how well a standing foot's place is known across the line of sight
DEPTH_SIGMA = 0.1  # and along it, as a share of the distance: sizes of people and focal lengths are guesses
STEP_SIGMA_M, STEP_DEPTH_SIGMA_M = 0.07, 0.1  # the same of a step that one person took
FAR = 0.15  # metres off the ground, or metres a metre for the image's horizontal, that have lost most of their say
STEP_S = 1.0  # longer between two stands is no step
LEVEL_GAP_M, LEVEL_SIGMAS = 0.15, 2  # stands that are farther from the ground than both are on something else
DOUBTFUL_M = 0.1
LEVEL_WIDTH_M, LEVEL_SHARE = 0.15, 0.2
IMAGE_UP, IMAGE_RIGHT = np.array([0.0, -1.0, 0.0]), np.array([1.0, 0.0, 0.0])


@dataclass(frozen=True)
class World:
    """`world_from_camera` (4,4): rigid, metres, OpenCV camera axes to y up. `up_c` (3,): against gravity, camera frame.

    `source`: estimated, ground (given) or camera pose (given). `stands` that the estimate is made of, and
    `residual_m`, the middle distance of their soles from the ground. `levels` (m, rising): heights on which people
    stand, the ground's 0 among them.
    """

    world_from_camera: np.ndarray
    up_c: np.ndarray
    source: str
    stands: int = 0
    residual_m: float = float("nan")
    levels: tuple[float, ...] = (0.0,)

    @property
    def doubtful(self) -> bool:
        """Whether people do not stand on one plane, as when the camera moves."""
        return self.residual_m > DOUBTFUL_M

    def level(self, height: float) -> float:
        """The level nearest to a height, both in m."""
        return min(self.levels, key=lambda level: abs(level - height))

    def height(self, points_c: np.ndarray) -> np.ndarray:
        """Height (...) m above the ground of points (...,3) m in the camera frame."""
        return points_c @ self.world_from_camera[1, :3] + self.world_from_camera[1, 3]

    def above_level(self, soles_c: np.ndarray, stands: np.ndarray) -> np.ndarray:
        """Height (T,2) m of each foot's lower sole point above the level it stands on; NaN where it does not stand.

        `soles_c` (T,2,2,3) m and `stands` (T,2) as `foot_contact` gives them. Of one stand all frames share a level.
        """
        lowest = np.where(stands, self.height(soles_c).min(-1), np.nan)
        for foot in range(2):
            for begin, end in stretches(stands[:, foot]):
                lowest[begin:end, foot] -= self.level(float(np.median(lowest[begin:end, foot])))
        return lowest

    def as_json(self) -> dict[str, Any]:
        """Plain values for a file's metadata."""
        facts = {"source": self.source, "world_from_camera": self.world_from_camera.round(9).tolist()}
        if self.source == "estimated":
            facts |= {"stands": self.stands, "residual_m": round(self.residual_m, 4) if self.stands else None}
            facts |= {"levels_m": [round(level, 4) for level in self.levels]}
        return facts


def estimate_world(
    motions: Sequence[Motion],
    body: Body,
    fps: Fraction | float,
    ground: Sequence[float] | None = None,
    camera_pose: Sequence[float] | None = None,
) -> World:
    """The world of these people, found from them or given.

    `ground`: a point and the normal, six numbers in the camera frame, metres; `camera_pose`: world from camera, 12 or
    16 numbers row by row (OpenCV camera axes, y-up world, metres). InputError where there is nobody to find it from.
    """
    if camera_pose is not None:
        matrix = given_pose(camera_pose)
        return World(matrix, matrix[1, :3].copy(), "camera pose")
    if ground is not None:
        if len(ground) != 6 or not np.linalg.norm(ground[3:]) > 0:
            raise UsageError(f"--ground wants six numbers, a point and a normal, got {len(ground)}")
        normal = np.asarray(ground[3:], float) / np.linalg.norm(ground[3:])
        normal = normal if normal @ IMAGE_UP >= 0 else -normal
        return World(from_plane(normal, float(normal @ np.asarray(ground[:3], float))), normal, "ground")
    if not motions:
        return World(from_plane(IMAGE_UP, 0.0), IMAGE_UP, "estimated")
    prior = lean(motions, body)
    points, steps = _stands(motions, body, float(fps), prior)
    if not len(points):  # nobody stands still: the lowest that feet ever are, under the people's own lean
        soles = np.concatenate([sole_points(body, motion.params).reshape(-1, 3) for motion in motions])
        if not np.isfinite(soles).all():
            raise InputError("no ground can be found from these people; give --ground or --camera-pose")
        lowest = soles[np.argsort(soles @ prior)[[len(soles) // 20]]]
        normal, offset, _ = fit_ground(lowest, prior)
        return World(from_plane(normal, offset), normal, "estimated")
    normal, offset, residual = fit_ground(points, prior, steps)
    levels = find_levels(points @ normal - offset, stand_sigmas(points, normal))
    world = World(from_plane(normal, offset), normal, "estimated", len(points), residual, levels)
    if world.doubtful:
        log.warning(
            "feet stand %.2f m off one plane on the median: does the camera move? (--camera-pose, or --space camera)",
            residual,
        )
    return world


def _stands(motions: Sequence[Motion], body: Body, fps: float, up: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places (N,3) m of all stands, and the steps (M,2) from one to the next of the same person, as rows of them."""
    places: list[np.ndarray] = []
    steps = []
    for motion in motions:
        soles = sole_points(body, motion.params)
        stands = standing(soles, fps, up) & motion.visible[:, None]
        found = sorted((*run, foot) for foot in range(2) for run in stretches(stands[:, foot]))
        near = [after[0] - before[1] < STEP_S * fps for before, after in pairwise(found)]
        steps += [(len(places) + k, len(places) + k + 1) for k in np.flatnonzero(near)]
        for begin, end, foot in found:
            # One stand is one measurement, however long it lasts. The lower of heel and ball touches.
            both = soles[begin:end, foot]
            places.append(np.median(both[np.arange(end - begin), (both @ up).argmin(1)], 0))
    return np.array(places).reshape(-1, 3), np.array(steps, int).reshape(-1, 2)


def stand_sigmas(points: np.ndarray, up: np.ndarray) -> np.ndarray:
    """How well (N,) m the heights of standing feet at `points` (N,3) m are known, `up` (3,) being against gravity."""
    return np.hypot(STAND_SIGMA_M, DEPTH_SIGMA * (points @ up))


def find_levels(heights: np.ndarray, sigmas: np.ndarray) -> tuple[float, ...]:
    """Levels (m, rising, 0 among them) on which feet at `heights` (N,) m above the ground stand.

    They are known to `sigmas` (N,) m. Heights that lie together make a level, their median. Who is less than
    `LEVEL_GAP_M` off the ground, or off by no more than chance, stands on it.
    """
    others = np.sort(heights[np.abs(heights) > np.maximum(LEVEL_GAP_M, LEVEL_SIGMAS * sigmas)])
    if not len(others):
        return (0.0,)
    groups = np.split(others, np.flatnonzero(np.diff(others) > LEVEL_GAP_M / 2) + 1)
    return tuple(sorted([0.0, *(float(np.median(group)) for group in groups)]))


def lean(motions: Sequence[Motion], body: Body) -> np.ndarray:
    """Direction (3,) against gravity that the people's bodies show: the median of ankles to neck of those who stand."""
    directions = np.concatenate([body_up(body, motion.params)[motion.visible] for motion in motions])
    reach = np.linalg.norm(directions, axis=1)
    tall = directions[reach > 0.9]
    if not len(tall):
        return IMAGE_UP
    up = np.median(tall / reach[reach > 0.9, None], 0)
    return up / np.linalg.norm(up) if np.linalg.norm(up) > 0.5 else IMAGE_UP


def fit_ground(
    points: np.ndarray, prior: np.ndarray, steps: np.ndarray | None = None
) -> tuple[np.ndarray, float, float]:
    """Plane ``normal @ p = offset`` through points (N,3) m in the camera frame, drawn towards the normal `prior` (3,).

    `steps` (M,2), rows of points, lie within the plane, wherever it is. The image's horizontal does, too, unless the
    prior says that the camera is far from level.

    Least squares in the tilt and the offset, reweighted so that points far off (a foot on a stair, a wrong depth) lose
    their say (Geman and McClure 1987), less and less far as the fit settles. It starts at the lowest height at which a
    fair share of the points lies: people stand on walls and boxes, but not below the ground. Returns normal (3,),
    offset m and the median distance of the points that count, m.
    """
    steps = np.zeros((0, 2), int) if steps is None else steps
    first = np.cross(prior, [0.0, 0.0, 1.0] if abs(prior[2]) < 0.9 else [1.0, 0.0, 0.0])
    first /= np.linalg.norm(first)
    second = np.cross(prior, first)
    middle = np.median(points, 0)
    local, pairs = points - middle, points[steps]
    ray = pairs.mean(1) / np.linalg.norm(pairs.mean(1), axis=1, keepdims=True).clip(1e-6)
    step_sigmas = np.hypot(STEP_SIGMA_M, STEP_DEPTH_SIGMA_M * (ray @ prior))
    inside = np.concatenate([local, pairs[:, 1] - pairs[:, 0], IMAGE_RIGHT[None]])  # what the plane should hold
    sigma = np.concatenate([stand_sigmas(points, prior), step_sigmas, [ROLL_SIGMA]])
    offsets = np.repeat([-1.0, 0.0], [len(local), len(steps) + 1])
    rows = np.stack([inside @ first, inside @ second, offsets], 1) / sigma[:, None]
    wanted = -(inside @ prior) / sigma
    pull = np.diag([UPRIGHT_SIGMA**-2, UPRIGHT_SIGMA**-2, 1e-6])
    solution = np.array([0, 0, _lowest_level(local @ prior)])
    trust = np.ones(len(rows))
    for reach in (*np.geomspace(0.4, FAR, 8), *[FAR] * 12):
        trust = 1 / (1 + (sigma * (rows @ solution - wanted) / reach) ** 2) ** 2
        solution = np.linalg.solve(rows.T @ (rows * trust[:, None]) + pull, rows.T @ (trust * wanted))
    normal = prior + solution[0] * first + solution[1] * second
    size = np.linalg.norm(normal)
    normal, offset = normal / size, (solution[2] + normal @ middle) / size
    near = (trust > 1 / 4)[: len(points)]
    residual = np.median(np.abs(points[near] @ normal - offset)) if near.any() else np.nan
    return normal, float(offset), float(residual)


def _lowest_level(heights: np.ndarray) -> float:
    """The lowest height about which `LEVEL_SHARE` of all `heights` (N,) m lies, m."""
    supported = (np.abs(heights[:, None] - heights) < LEVEL_WIDTH_M).mean(1) >= LEVEL_SHARE
    level = heights[supported].min() if supported.any() else np.median(heights)
    return float(np.median(heights[np.abs(heights - level) < 2 * LEVEL_WIDTH_M]))


def from_plane(up_c: np.ndarray, offset: float) -> np.ndarray:
    """world_from_camera (4,4) for the ground ``up_c @ p = offset`` in the camera frame."""
    forward = np.array([0.0, 0.0, 1.0]) if abs(up_c[2]) < 0.999 else -np.sign(up_c[2]) * IMAGE_UP
    back = -(forward - (forward @ up_c) * up_c)
    back /= np.linalg.norm(back)
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([np.cross(up_c, back), up_c, back])
    matrix[:3, 3] = -matrix[:3, :3] @ (offset * up_c)
    return matrix


def given_pose(numbers: Sequence[float]) -> np.ndarray:
    """(4,4) from 12 or 16 numbers row by row; UsageError unless it is a rigid motion."""
    values = np.asarray(numbers, float)
    if values.size not in (12, 16):
        raise UsageError(f"--camera-pose wants 12 or 16 numbers (world from camera, row by row), got {values.size}")
    matrix = np.eye(4)
    matrix[:3] = values.reshape(-1, 4)[:3]
    rotation = matrix[:3, :3]
    if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3) or np.linalg.det(rotation) < 0:
        raise UsageError("--camera-pose must be a rotation and a translation (no scale, no mirror), row by row")
    return matrix
