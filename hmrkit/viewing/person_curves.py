"""What of a person changes over time, as curves: joint angles, heights, speed, standing feet, confidence.

All of the final skeleton: calibrated where the take is. Frames in which the person is not seen are NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from hmrkit.body.posing import body_for
from hmrkit.errors import InputError
from hmrkit.members import unknown
from hmrkit.meshes import final_joints
from hmrkit.metrics.posture import flexion_deg
from hmrkit.pipeline import require_stage
from hmrkit.scene import person_name
from hmrkit.scene.foot_contact import sole_points, standing
from hmrkit.skeletons import SMPL_24
from hmrkit.types import Take, Track
from hmrkit.viewing.clip import world_of
from hmrkit.viewing.evidence import on_rows, stretch
from hmrkit.viewing.plots import Curves, Panel

if TYPE_CHECKING:
    from hmrkit.models import Models

SIDES = ("left", "right")


@dataclass(frozen=True)
class _Person:
    """A person on N consecutive chosen frames, from the first to the last of the track.

    `joints_c` (N,24,3) m in the camera frame, `soles_c` (N,2,2,3) m, see `sole_points`; `rest` (24,3) m in T-pose;
    `rows` (N,) of the track, -1 where not seen; `world` (4,4) world from camera, y up; `ground`: 0 is the ground, not
    the camera's height.
    """

    take: Take
    track: Track
    seconds: np.ndarray
    rows: np.ndarray
    joints_c: np.ndarray
    soles_c: np.ndarray
    rest: np.ndarray
    world: np.ndarray
    ground: bool

    @property
    def above(self) -> str:
        """What heights are above."""
        return "above the ground" if self.ground else "above the camera (no ground found)"

    def on_frames(self, values: np.ndarray) -> np.ndarray:
        """Rows of the track (T,...) on the N frames, NaN where there is none."""
        return on_rows(values, self.rows)

    def direction(self, start: str, end: str) -> np.ndarray:
        """Unit directions (N,3) from one joint, or the middle of ``hips``, to another."""
        points = [
            self.joints_c[:, SMPL_24.indices(*(("left_hip", "right_hip") if name == "hips" else (name,)))].mean(1)
            for name in (start, end)
        ]
        way = points[1] - points[0]
        return way / np.linalg.norm(way, axis=-1, keepdims=True).clip(1e-9)

    def speed(self, joint: str) -> np.ndarray:
        """Speed (N,) m/s in the world, also of a clip in slow motion, by central differences."""
        if len(self.seconds) < 2:
            return np.full(len(self.seconds), np.nan)
        place = self.joints_c[:, SMPL_24.index[joint]].astype(np.float64)
        return np.linalg.norm(np.gradient(place, self.seconds / self.take.video.slowdown, axis=0), axis=-1)

    def height(self, points_c: np.ndarray) -> np.ndarray:
        """Heights (...) m of points (...,3)."""
        return points_c @ self.world[1, :3] + self.world[1, 3]


def curves_of(take: Take, models: Models, kinds: Sequence[str], people: Sequence[int] | None = None) -> list[Curves]:
    """Curves of each of these `people` (None: all with a mesh), one for each of `kinds` (`KINDS`).

    InputError where the take has no meshes, UsageError for people or kinds that are not there.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise unknown("--what", kind, KINDS)
    require_stage(take, "regress", models.options)
    chosen = take.people_with_mesh(people)
    if not chosen:
        raise InputError(f"{take.video.path}: nobody in the take has a mesh; there is nothing to plot")
    world, ground = world_of(take, take.people_with_mesh(), models.body)
    found = []
    for track in chosen:
        person, name = _person(take, track, models, world, ground), person_name(track.track_id)
        frames = take.video.frame_indices
        inside = frames[(frames >= track.frame_indices[0]) & (frames <= track.frame_indices[-1])]
        cuts = tuple(cut for cut in take.video.cuts if inside[0] < cut <= inside[-1])
        for kind in kinds:
            title, panels = KINDS[kind]
            heading = f"{name} of {Path(take.video.path).name}: {title}"
            found.append(Curves(f"{name}_{kind}", heading, inside, person.seconds, panels(person), cuts))
    return found


def _person(take: Take, track: Track, models: Models, world: np.ndarray, ground: bool) -> _Person:
    (among, rows), i = stretch(take, track), track.track_id
    done, params = take.calibrated.get(i), take.body[i]
    with torch.inference_mode():
        rest = body_for(params, models.body).joints_only(betas=params.betas).joints[0].cpu().numpy()
    soles = sole_points(models.body, params if done is None else done.params)
    seconds = take.video.frame_times[among] - take.video.frame_times[0]
    on = (on_rows(final_joints(take, i, models), rows), on_rows(soles, rows))
    return _Person(take, track, seconds.astype(np.float64), rows, *on, rest, world, ground)


def _between_deg(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.degrees(np.arccos(np.clip((a * b).sum(-1), -1, 1)))


def _angles(person: _Person) -> tuple[Panel, ...]:
    down = person.direction("neck", "hips")

    def pair(joint: str, values: Callable[[str], np.ndarray]) -> dict[str, np.ndarray]:
        return {f"{side}_{joint}": values(side) for side in SIDES}

    def flexion(side: str, joint: str) -> np.ndarray:
        return flexion_deg(person.joints_c, person.rest, f"{side}_{joint}")

    return (
        Panel("knee: flexion from the T-pose", "deg", pair("knee", lambda s: flexion(s, "knee"))),
        Panel("elbow: flexion from the T-pose", "deg", pair("elbow", lambda s: flexion(s, "elbow"))),
        Panel("hip: thigh against the trunk's line, 0 is straight", "deg",
              pair("hip", lambda s: _between_deg(person.direction(f"{s}_hip", f"{s}_knee"), down))),
        Panel("shoulder: upper arm against the trunk's line, 0 hangs down", "deg",
              pair("shoulder", lambda s: _between_deg(person.direction(f"{s}_shoulder", f"{s}_elbow"), down))),
        Panel("trunk: lean from the vertical", "deg", {"trunk": _between_deg(-down, person.world[1, :3])}),
    )  # fmt: skip


def _heights(person: _Person) -> tuple[Panel, ...]:
    above = person.above
    joints = {name: person.height(person.joints_c[:, SMPL_24.index[name]]) for name in SMPL_24.joints}
    return (
        Panel(f"head and pelvis {above}", "m", {name: joints[name] for name in ("head", "pelvis")}),
        Panel(f"wrists {above}", "m", {f"{side}_wrist": joints[f"{side}_wrist"] for side in SIDES}),
        _soles(person),
    )


def _soles(person: _Person) -> Panel:
    soles = person.height(person.soles_c).min(-1)
    sides = {f"{side}_sole": soles[:, k] for k, side in enumerate(SIDES)}
    return Panel(f"lowest point of the soles {person.above}", "m", sides)


def _speed(person: _Person) -> tuple[Panel, ...]:
    return (
        Panel("pelvis", "m/s", {"pelvis": person.speed("pelvis")}),
        Panel("wrists", "m/s", {f"{side}_wrist": person.speed(f"{side}_wrist") for side in SIDES}),
        Panel("ankles", "m/s", {f"{side}_ankle": person.speed(f"{side}_ankle") for side in SIDES}),
    )


def _contact(person: _Person) -> tuple[Panel, ...]:
    stands = standing(person.soles_c, person.take.video.motion_fps, person.world[1, :3]).astype(float)
    stands[person.rows < 0] = np.nan
    return (
        Panel("feet that stand", "", {f"{side}_foot": stands[:, k] for k, side in enumerate(SIDES)}, states=True),
        _soles(person),
    )


def _confidence(person: _Person) -> tuple[Panel, ...]:
    i, lines = person.track.track_id, {"detection": person.on_frames(person.track.scores)}
    if i in person.take.keypoints:
        points = person.take.keypoints[i].keypoints_2d[..., 2]
        lines |= {
            "keypoints_mean": person.on_frames(points.mean(1)),
            "keypoints_lowest": person.on_frames(points.min(1)),
        }
    if i in person.take.overlap:
        lines["mask_iou"] = person.on_frames(person.take.overlap[i].iou)
    panels = [Panel("0 to 1; detection is missing where the box was filled in", "", lines, limits=(0.0, 1.02))]
    if i in person.take.calibrated:
        residual = person.on_frames(person.take.calibrated[i].refit_residual_mm)
        panels.append(Panel("refitted body against the calibrated mesh", "mm", {"refit_residual": residual}))
    return tuple(panels)


# Name of a kind -> title, and the function that makes its panels.
KINDS: dict[str, tuple[str, Callable[[_Person], tuple[Panel, ...]]]] = {
    "angles": ("joint angles", _angles),
    "heights": ("heights", _heights),
    "speed": ("speed", _speed),
    "contact": ("foot contact", _contact),
    "confidence": ("confidence", _confidence),
}
