"""What a take shows of itself: figures that need no truth, for any footage. The regression test for looks.

How to add one: write a function of a `Subject` and add its line to `MEASURES`. It returns NaN where the clip does not
show what it measures. What needs the clip a second time is in `hmrkit.evaluation.consistency`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from hmrkit import metrics
from hmrkit.body import Body
from hmrkit.body.posing import body_for
from hmrkit.fitting.masks import PersonMasks
from hmrkit.meshes import mesh_slice
from hmrkit.models import Models
from hmrkit.scene import person_name
from hmrkit.scene.flights import Flight, find_flights
from hmrkit.scene.foot_contact import sole_points, standing
from hmrkit.scene.ground import World, estimate_world
from hmrkit.scene.resampling import Motion, make_clock, make_motion
from hmrkit.types import Take


@dataclass(frozen=True)
class Subject:
    """One person of a take, on a clock without gaps: T frames at `fps` Hz.

    `joints_c` (T,24,3) m in the camera frame, NaN in frames in which the person is not seen; `rest` (24,3) m: the
    same body's joints in its T-pose; `soles_c` (T,2 feet,2,3) m: heel and ball on the sole; `stands` (T,2): which feet
    stand; `world`: ground and gravity of the whole take; `flights`: the person's jumps and falls; `mask_iou` (S,): of
    the final mesh and the person's masks.
    """

    take: Take
    track_id: int
    motion: Motion
    joints_c: np.ndarray
    rest: np.ndarray
    soles_c: np.ndarray
    stands: np.ndarray
    world: World
    fps: float
    flights: tuple[Flight, ...] = ()
    mask_iou: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def heights(self) -> np.ndarray:
        """Height (T,2) m of the lower of heel and ball above what that foot stands on, NaN where it does not stand."""
        return self.world.above_level(self.soles_c, self.stands)


@dataclass(frozen=True)
class Measure:
    """A line of `MEASURES`: the column's heading, what it is, and how it is worked out. `worst`: of several people the
    largest value counts, not the mean."""

    heading: str
    summary: str
    of: Callable[[Subject], float]
    worst: bool = False


def subjects(take: Take, models: Models, masks: Mapping[int, PersonMasks] | None = None) -> list[Subject]:
    """The people of a take that have a mesh, with the ground that all of them show together; `masks` by track id."""
    body, clock = models.body, make_clock(take, None, 0)
    made = [make_motion(take, t.track_id, clock, body, person_name(t.track_id)) for t in take.people_with_mesh()]
    motions = [motion for motion in made if motion is not None]
    world = estimate_world(motions, body, clock.fps)
    people = [_subject(take, motion, body, world, float(clock.fps)) for motion in motions]
    flights = find_flights(motions, body, clock.fps, world)
    return [
        replace(
            person,
            flights=tuple(flight for flight in flights if flight.person == person.motion.name),
            mask_iou=_mask_iou(take, person.track_id, models, (masks or {}).get(person.track_id)),
        )
        for person in people
    ]


def measure(subject: Subject) -> dict[str, float]:
    """Every figure of one person by its name in `MEASURES`."""
    return {name: float(facts.of(subject)) for name, facts in MEASURES.items()}


def _subject(take: Take, motion: Motion, body: Body, world: World, fps: float) -> Subject:
    with torch.inference_mode():
        person = body_for(motion.params, body)
        rest = person.joints_only(betas=torch.from_numpy(motion.params.betas).to(body.device)).joints[0].cpu().numpy()
    soles = sole_points(body, motion.params)
    stands = standing(soles, fps, world.up_c) & motion.visible[:, None]
    joints = np.where(motion.visible[:, None, None], motion.joints_c, np.nan)
    return Subject(take, motion.track_id, motion, joints, rest, soles, stands, world, fps)


def _mask_iou(take: Take, track_id: int, models: Models, masks: PersonMasks | None) -> np.ndarray:
    if masks is None:
        return np.zeros(0)
    return masks.overlap(mesh_slice(take, track_id, masks.rows, models).vertices_c, models.body.faces)


def _standing(subject: Subject) -> np.ndarray:
    return metrics.standing_mask(subject.joints_c, subject.rest, subject.fps, subject.world.up_c)


def _flexion(subject: Subject, joint: str) -> float:
    """Mean over the sides of the median flexion while standing, degrees."""
    values = metrics.flexion_while_standing_deg(subject.joints_c, subject.rest, subject.fps, subject.world.up_c)
    return float(np.mean([values[f"{side}_{joint}"] for side in ("left", "right")]))


def _foot_slide_mm(subject: Subject) -> float:
    """Mean step of heel and ball along the ground in a frame while the foot stands, mm."""
    world = subject.soles_c @ subject.world.world_from_camera[:3, :3].T
    points, contact = world.reshape(len(world), 4, 3), np.repeat(subject.stands, 2, axis=1)
    return metrics.foot_sliding(points, fps=1.0, contact=contact) * 1000


def _sole_gap_mm(subject: Subject) -> float:
    """Median distance of standing soles from the ground or what they stand on, mm."""
    heights = subject.heights()
    return float(np.nanmedian(np.abs(heights))) * 1000 if subject.stands.any() else np.nan


def _penetration_mm(subject: Subject) -> float:
    """How far the deepest standing sole is below the ground or what it stands on, mm."""
    heights = subject.heights()
    return max(0.0, -float(np.nanmin(heights))) * 1000 if subject.stands.any() else np.nan


def _mean(values: Sequence[float] | np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else np.nan


MEASURES: dict[str, Measure] = {
    "standing_frames": Measure("standing", "frames in which the person stands still", lambda s: _standing(s).sum()),
    "knee_flexion_deg": Measure(
        "knees deg", "median flexion while standing, beyond the body's T-pose", lambda s: _flexion(s, "knee")
    ),
    "elbow_flexion_deg": Measure("elbows deg", "the same of the elbows", lambda s: _flexion(s, "elbow")),
    "foot_slide_mm": Measure("slide mm", "mean step in a frame of feet that stand, along the ground", _foot_slide_mm),
    "sole_gap_mm": Measure("sole mm", "median distance of standing soles from their level", _sole_gap_mm),
    "penetration_mm": Measure("below mm", "how deep a standing sole is below its level", _penetration_mm, worst=True),
    "jitter_10m_per_s3": Measure(
        "jitter", "mean jerk of the joints, 10 m/s^3", lambda s: metrics.jitter(s.joints_c, s.fps) / 10
    ),
    "mask_iou_percent": Measure(
        "mask IoU %", "overlap of the final mesh's silhouette with the person's mask", lambda s: 100 * _mean(s.mask_iou)
    ),
    "free_fall_m_per_s2": Measure(
        "fall m/s2",
        "mean acceleration in jumps and falls, 9.81 where size, focal length and clock are right",
        lambda s: _mean([flight.gravity for flight in s.flights]),
    ),
}
