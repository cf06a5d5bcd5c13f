"""What there is to see in a take: people, their poses as the mesh stream and as calibration have them, one timeline.

The timeline is the chosen frames of the clip, as they are: nothing is resampled, bridged or smoothed.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from hmrkit.body.posing import body_for, posed_skeleton
from hmrkit.calibration import bone_transforms
from hmrkit.calibration.variants import start_of
from hmrkit.errors import InputError
from hmrkit.members import unknown
from hmrkit.pipeline import require_stage
from hmrkit.rendering.shading import track_colour
from hmrkit.scene.ground import IMAGE_UP, estimate_world, from_plane
from hmrkit.scene.resampling import make_clock, make_motion
from hmrkit.skeletons import SMPL_24, get_skeleton
from hmrkit.types import Take, Track
from hmrkit.viewing.evidence import Evidence, evidence_of

if TYPE_CHECKING:
    from hmrkit.body import Body
    from hmrkit.models import Models

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Posed:
    """The mesh stream's skeleton, camera frame: `rotations` (T,24,3,3) and `places` (T,24,3) m of the joints."""

    rotations: np.ndarray
    places: np.ndarray


@dataclass(frozen=True)
class Goal:
    """Calibration: `rotations` (T,23,3,3) of the bones (Psi of `bone_transforms`), `places` (T,24,3) m of the
    joints."""

    rotations: np.ndarray
    places: np.ndarray


@dataclass(frozen=True)
class Lifted:
    """The lifted pose: `places` (T,J,3) m about its root, camera axes; `bones` (pairs of joints)."""

    places: np.ndarray
    bones: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Shown:
    """A person: `rows` (N,) of the track on the timeline, -1 where not seen; the rest shape; T rows of poses."""

    track_id: int
    colour: tuple[int, int, int]
    rows: np.ndarray
    rest_vertices: np.ndarray
    rest_joints: np.ndarray
    posed: Posed
    goal: Goal | None
    lifted: Lifted | None
    evidence: Evidence


@dataclass(frozen=True)
class ViewClip:
    """`frames` (N,) source frame numbers and `times` (N,) s of the timeline; `world_from_camera` (4,4), y up."""

    take: Take
    frames: np.ndarray
    times: np.ndarray
    fps: float
    people: tuple[Shown, ...]
    world_from_camera: np.ndarray
    leveled: bool

    def frame_after(self, frame: int, seconds: float) -> tuple[int, float]:
        """What is shown `seconds` after the frame of that place in the timeline: each frame for its own time, and then
        from the start. Also for how many seconds it has been shown by then."""
        begins = self.times - self.times[0]
        length = float(begins[-1]) + 1 / self.fps
        now = (float(begins[frame]) + seconds) % length
        place = int(np.searchsorted(begins, now + 1e-9, side="right")) - 1
        return place, max(now - float(begins[place]), 0.0)


def make_clip(
    take: Take,
    models: Models,
    people: Sequence[int] | None = None,
    space: str = "world",
    world: tuple[np.ndarray, bool] | None = None,
) -> ViewClip:
    """Collect what there is to see of these `people` (track ids; None: all with a mesh).

    `space` ``world`` stands people on a ground estimated from them; ``camera`` keeps the camera level at the origin;
    `world` is one that was found already, see `world_of`. UsageError for people who are not there or another space;
    InputError where the take has no meshes.
    """
    if space not in ("world", "camera"):
        raise unknown("--space", space, ("world", "camera"))
    require_stage(take, "regress", models.options)
    chosen = take.people_with_mesh(people)
    matrix, leveled = world or (from_plane(IMAGE_UP, 0.0), False)
    if space == "world" and chosen and world is None:
        matrix, leveled = world_of(take, chosen, models.body)
    shown = tuple(_person(take, track, models, matrix[1, :3]) for track in chosen)
    video = take.video
    return ViewClip(take, video.frame_indices, video.frame_times, video.sampled_fps, shown, matrix, leveled)


def _person(take: Take, track: Track, models: Models, up: np.ndarray) -> Shown:
    i = track.track_id
    params, done, lifted = take.body[i], take.calibrated.get(i), take.lifted.get(i)
    body = body_for(params, models.body)
    if done is not None:
        params = start_of(body, params, done.joints_c, models.calibration)
    with torch.inference_mode():
        posed = posed_skeleton(body, params)
        rest = body(betas=params.betas)
        goal = None
        good = np.isfinite(posed.joints.cpu().numpy()).all((1, 2))
        if done is not None:
            # About the root, as `calibrate` does it, so that a person far from the camera loses no digits.
            target = torch.as_tensor(done.joints_c, dtype=body.dtype, device=body.device)
            start = posed.joints - posed.joints[:, :1]
            psi, _, _ = bone_transforms(start, target - target[:, :1], SMPL_24.parents, "chain")
            goal = Goal(psi.cpu().numpy(), done.joints_c)
            good &= np.isfinite(done.joints_c).all((1, 2))
    rows = np.full(len(take.video.frame_indices), -1, np.int32)
    at = np.searchsorted(take.video.frame_indices, track.frame_indices[good])
    rows[at] = np.flatnonzero(good)
    return Shown(
        track_id=i,
        colour=track_colour(i),
        rows=rows,
        rest_vertices=rest.vertices[0].cpu().numpy(),
        rest_joints=rest.joints[0].cpu().numpy(),
        posed=Posed(posed.joint_rotations.cpu().numpy(), posed.joints.cpu().numpy()),
        goal=goal,
        lifted=None if lifted is None else Lifted(lifted.joints_c, get_skeleton(lifted.skeleton).bones),
        evidence=evidence_of(take, track, models, up),
    )


def world_of(take: Take, people: Sequence[Track], body: Body) -> tuple[np.ndarray, bool]:
    """World from camera (4,4), y up, its 0 on the ground that these people stand on, and True; where no ground is
    found, its 0 at the camera, and False."""
    clock = make_clock(take, None, 0)
    motions = [make_motion(take, track.track_id, clock, body, str(track.track_id)) for track in people]
    try:
        world = estimate_world([motion for motion in motions if motion is not None], body, clock.motion_fps)
    except InputError:
        log.warning("%s: no ground found; shown as the camera sees it", take.video.path)
        return from_plane(IMAGE_UP, 0.0), False
    return world.world_from_camera, True
