"""Gravity as a clip shows it: who is in the air falls at 9.81 m/s2, unless size, focal length or clock is wrong.

In the air the centre of mass moves on a parabola. One is fitted to each flight by least squares; its second derivative
is the measured acceleration, in metres of the body and seconds of the clip. A wrong size scales it, a wrong clock
scales it by the square of its error, and a wrong focal length adds acceleration along the line of sight.

Masses of segments: de Leva (1996), Table 4, the mean of women and men; each lies on the line between two joints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from hmrkit.body.posing import skeleton_joints
from hmrkit.scene.foot_contact import sole_points, standing, stretches
from hmrkit.scene.ground import World
from hmrkit.scene.resampling import Motion
from hmrkit.skeletons import SMPL_24

if TYPE_CHECKING:
    from hmrkit.body import Body

GRAVITY = 9.81  # m/s2
TOLERANCE = 0.05
OFF_GROUND_M = 0.06  # both soles as far above the ground: in the air
SHORTEST_S, FEWEST = 0.2, 5  # a shorter parabola shows nothing
FREE_FALL = (0.05, 5.0)  # of gravity: outside of it this is no flight, at any likely clock
REST_S = 0.25  # a foot that is still for longer stands on something; at the top of a jump it is for less
RESIDUAL_M = 0.05
LARGEST_SIZE_ERROR = 0.25  # people differ by less; what is more is the clock
SIDEWAYS = 0.25  # of gravity, in depth: more is the focal length's
# Segment: two joints, how far its centre lies from the first to the second, its share of the mass.
SEGMENTS = (
    ("neck", "head", 0.9, 0.068),
    ("pelvis", "neck", 0.45, 0.430),
    *((f"{s}_shoulder", f"{s}_elbow", 0.576, 0.0263) for s in ("left", "right")),
    *((f"{s}_elbow", f"{s}_wrist", 0.457, 0.0150) for s in ("left", "right")),
    *((f"{s}_wrist", f"{s}_hand", 0.9, 0.0059) for s in ("left", "right")),
    *((f"{s}_hip", f"{s}_knee", 0.385, 0.1447) for s in ("left", "right")),
    *((f"{s}_knee", f"{s}_ankle", 0.443, 0.0457) for s in ("left", "right")),
    *((f"{s}_ankle", f"{s}_foot", 0.5, 0.0133) for s in ("left", "right")),
)


@dataclass(frozen=True)
class Flight:
    """One flight of one person: `begin` to `end` (inclusive) of the motion's frames.

    `gravity` m/s2, downwards; `aside` and `in_depth` m/s2, the accelerations across that should be none (`in_depth`
    away from the camera); `residual_m`, the parabola's middle miss.
    """

    person: str
    begin: int
    end: int
    gravity: float
    aside: float
    in_depth: float
    residual_m: float

    def as_json(self) -> dict[str, Any]:
        """Plain values, rounded."""
        return {key: round(v, 3) if isinstance(v, float) else v for key, v in vars(self).items()}


def find_flights(motions: Sequence[Motion], body: Body, fps: Fraction | float, world: World) -> list[Flight]:
    """All flights of these people in a world whose camera stands still, in the order of people and frames."""
    flights = []
    up = world.up_c
    away = np.array([0.0, 0.0, 1.0]) - up[2] * up
    away /= max(float(np.linalg.norm(away)), 1e-6)
    aside = np.cross(up, away)
    for motion in motions:
        points = sole_points(body, motion.params)
        soles = world.height(points).reshape(len(motion), -1)
        places = centre_of_mass(skeleton_joints(body, motion.params))
        resting = standing(points, float(fps), up)
        free = (soles.min(1) > OFF_GROUND_M) & motion.visible
        for foot in range(2):
            for begin, end in stretches(resting[:, foot]):
                free[begin:end] &= end - begin < REST_S * float(fps)
        for begin, end in stretches(free):
            time = np.arange(end - begin) / float(fps)
            if len(time) < FEWEST or time[-1] < SHORTEST_S:
                continue
            acceleration, residual = parabola(places[begin:end], time)
            falling = -float(acceleration @ up)
            if residual > RESIDUAL_M or not FREE_FALL[0] < falling / GRAVITY < FREE_FALL[1]:
                continue  # carried, climbing, or on something
            first, last = int(motion.frames[begin]), int(motion.frames[end - 1])
            across = float(acceleration @ aside), float(acceleration @ away)
            flights.append(Flight(motion.name, first, last, falling, *across, residual))
    return flights


def centre_of_mass(joints: np.ndarray) -> np.ndarray:
    """(T,3) m of SMPL's joints (T,24,3) m."""
    index, mass = SMPL_24.index, sum(share for *_, share in SEGMENTS)
    parts = [
        share * (joints[:, index[a]] + along * (joints[:, index[b]] - joints[:, index[a]]))
        for a, b, along, share in SEGMENTS
    ]
    return np.sum(parts, 0) / mass


def parabola(places: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, float]:
    """Constant acceleration (3,) m/s2 of points (n,3) m at `times` (n,) s by least squares, and the median miss, m."""
    time = times - times.mean()
    design = np.stack([np.ones_like(time), time, time**2 / 2], 1)
    solution = np.linalg.lstsq(design, places.astype(np.float64), rcond=None)[0]
    return solution[2], float(np.median(np.linalg.norm(design @ solution - places, axis=1)))


def verdict(flights: Sequence[Flight]) -> str:
    """One sentence: size, focal length and clock agree with gravity, or which of them is off and by how much."""
    if not flights:
        return "nobody is seen in the air: gravity says nothing about this clip"
    ratio = float(np.median([flight.gravity for flight in flights])) / GRAVITY
    in_depth = float(np.median([flight.in_depth for flight in flights])) / GRAVITY
    if abs(in_depth) > SIDEWAYS:
        return (
            f"focal length or ground is off: people in the air accelerate by {in_depth * GRAVITY:+.1f} m/s2 in depth; "
            "give --fov, or --ground"
        )
    if abs(ratio - 1) <= TOLERANCE:
        return "size, focal length and clock agree with gravity"
    if abs(ratio - 1) > LARGEST_SIZE_ERROR:
        return (
            f"the clock is off: the clip lasts {ratio**-0.5:.2f} times as long as what it shows (slow or fast motion?)"
        )
    people = {f.person: np.median([g.gravity for g in flights if g.person == f.person]) / GRAVITY for f in flights}
    if len(people) > 1 and np.ptp(list(people.values())) < TOLERANCE:
        return f"size or clock is off: all {len(people)} people fall at {ratio:.2f} of gravity"
    sizes = ", ".join(f"{name} {share:.2f}" for name, share in people.items())
    return f"size is off: people are made this much too large (below 1: too small): {sizes}"
