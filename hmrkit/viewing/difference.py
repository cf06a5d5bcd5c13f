"""Two takes of one clip: how far their people's joints are apart, frame by frame, and both over the footage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hmrkit.errors import InputError
from hmrkit.meshes import final_joints, mesh_slice
from hmrkit.pipeline import require_stage
from hmrkit.results.stream import match_tracks
from hmrkit.scene import person_name
from hmrkit.skeletons import SMPL_24
from hmrkit.types import Take, Track
from hmrkit.viewing.plots import Curves, Panel

if TYPE_CHECKING:
    from hmrkit.models import Models

TILES = 6
GROUPS = {
    "left_arm": ("left_shoulder", "left_elbow", "left_wrist", "left_hand"),
    "right_arm": ("right_shoulder", "right_elbow", "right_wrist", "right_hand"),
    "left_leg": ("left_hip", "left_knee", "left_ankle", "left_foot"),
    "right_leg": ("right_hip", "right_knee", "right_ankle", "right_foot"),
    "trunk_and_head": ("spine1", "spine2", "spine3", "neck", "left_collar", "right_collar", "head"),
}


@dataclass(frozen=True)
class Difference:
    """One person in both takes, `first` and `second`, in the T frames that both tracks have.

    `placed_mm` (T,24): distances of the joints in the camera frame; `aligned_mm` (T,24): with both pelvises in one
    place, so that depth does not count.
    """

    first: Track
    second: Track
    frames: np.ndarray
    seconds: np.ndarray
    placed_mm: np.ndarray
    aligned_mm: np.ndarray

    def as_json(self) -> dict[str, Any]:
        """Means over the frames by joint, and over all joints."""

        def by_joint(values: np.ndarray) -> dict[str, float]:
            means = np.nanmean(values, 0)
            found = {name: round(float(means[k]), 2) for k, name in enumerate(SMPL_24.joints)}
            return {**found, "mean": round(float(np.nanmean(values)), 2)}

        return {
            "first": self.first.track_id, "second": self.second.track_id, "frames": len(self.frames),
            "aligned_mm": by_joint(self.aligned_mm), "placed_mm": by_joint(self.placed_mm),
        }  # fmt: skip

    def curves(self, title: str) -> Curves:
        """Means over all joints, and over those of each limb, along the clip."""
        limbs = {name: self.aligned_mm[:, SMPL_24.indices(*joints)].mean(1) for name, joints in GROUPS.items()}
        panels = (
            Panel("mean of all joints, pelvises in one place", "mm", {"aligned": self.aligned_mm.mean(1)}),
            Panel("mean of all joints, as placed before the camera", "mm", {"placed": self.placed_mm.mean(1)}),
            Panel("joints of the limbs, pelvises in one place", "mm", limbs),
        )
        name = f"{person_name(self.first.track_id)}_difference"
        return Curves(name, title, self.frames, self.seconds, panels)


def differences(takes: Sequence[Take], models: Sequence[Models]) -> tuple[list[Difference], list[list[int]]]:
    """The people of two takes that overlap in the image, matched one to one, and the ids in each that nobody matches.

    InputError where the takes are not of one clip, or have no meshes.
    """
    a, b = takes
    if (a.video.sha256, a.video.width, a.video.height) != (b.video.sha256, b.video.width, b.video.height):
        raise InputError(f"wanted two takes of one clip, found those of {a.video.path} and {b.video.path}")
    for take, using in zip(takes, models, strict=True):
        require_stage(take, "regress", using.options)
    found = []
    for first, second in match_tracks(a.people_with_mesh(), b):
        frames, mine, theirs = np.intersect1d(first.frame_indices, second.frame_indices, return_indices=True)
        if not len(frames):
            continue
        joints = [
            final_joints(take, track.track_id, using)[rows].astype(np.float64)
            for take, track, using, rows in zip(takes, (first, second), models, (mine, theirs), strict=True)
        ]
        placed, aligned = (1000 * np.linalg.norm(p - q, axis=-1) for p, q in (joints, [j - j[:, :1] for j in joints]))
        at = np.searchsorted(a.video.frame_indices, frames)
        seconds = (a.video.frame_times[at] - a.video.frame_times[0]).astype(np.float64)
        found.append(Difference(first, second, frames, seconds, placed, aligned))
    matched = [{d.first.track_id for d in found}, {d.second.track_id for d in found}]
    alone = [
        [t.track_id for t in take.people_with_mesh() if t.track_id not in there]
        for take, there in zip(takes, matched, strict=True)
    ]
    return found, alone


def write_strip(
    takes: Sequence[Take], models: Sequence[Models], found: Sequence[Difference], titles: Sequence[str], path: Path
) -> Path:
    """Draw both takes' people over the footage, one above the other, in frames spread over what they share; one PNG.

    Matched people have the first take's number and colour in both.
    """
    from hmrkit.rendering.comparison import Comparison
    from hmrkit.rendering.options import RenderOptions
    from hmrkit.rendering.overlay import Overlay
    from hmrkit.rendering.sheet import ContactSheet
    from hmrkit.rendering.styles import Figure
    from hmrkit.video import read_frames

    video = takes[0].video
    shared = np.unique(np.concatenate([difference.frames for difference in found]))
    chosen = np.unique(shared[np.linspace(0, len(shared) - 1, TILES).round().astype(int)])
    some = replace(video.at(np.searchsorted(video.frame_indices, chosen)), failed_frames=())
    names = [{}, {d.second.track_id: d.first.track_id for d in found}]
    options = RenderOptions(("overlay",))
    overlays = [Overlay(take.camera, take.faces, video.sampled_fps, options) for take in takes]
    comparison = Comparison(overlays, titles, stacked=True)
    with ContactSheet(path, len(chosen), TILES, columns=3, tile_width=640) as sheet:
        for batch in read_frames(some, batch_size=1):
            versions, numbers = [], batch.frame_indices.tolist()
            for take, using, named in zip(takes, models, names, strict=True):
                people = []
                for track in take.people_with_mesh():
                    for row in np.flatnonzero(np.isin(track.frame_indices, batch.frame_indices)):
                        mesh = mesh_slice(take, track.track_id, slice(row, row + 1), using)
                        people.append(Figure(named.get(track.track_id, track.track_id), mesh.vertices_c[0]))
                versions.append([people] * len(batch.frames))
            if len(batch.frames):
                sheet.add_batch(comparison.draw(batch.frames, versions, numbers), numbers)
    return path
