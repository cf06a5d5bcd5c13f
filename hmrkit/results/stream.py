"""Mesh stream ``file``: bodies that a take or another tool's results have, for the people that were tracked here.

So meshes that were made once, or elsewhere, can be calibrated, smoothed and exported without being made again. A
person is matched to the one in the file whose boxes overlap the track's most. Which results can be read stands in
`hmrkit.results`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hmrkit.body import Body
from hmrkit.crops import paired_iou
from hmrkit.errors import InputError
from hmrkit.results.files import read_file
from hmrkit.results.formats import read_results, recognised
from hmrkit.results.imported import camera_of, results_sha256, results_take
from hmrkit.smoothing import bridge_bodies
from hmrkit.take import is_take, load_take
from hmrkit.types import BodyParams, Take, Track

if TYPE_CHECKING:
    from hmrkit.models import Models

log = logging.getLogger(__name__)

MIN_OVERLAP = 0.3  # mean intersection over union of two tracks; below they are two people


def load(name: str, models: Models) -> FileStream:
    """See `hmrkit.mesh_streams`. InputError where the file is neither a take nor results, or holds no bodies."""
    return FileStream(name.partition(":")[2], models.body)


class FileStream:
    """See `hmrkit.mesh_streams.MeshStream`. A take's bodies are those of its mesh stream, before calibration."""

    def __init__(self, path: str, body: Body) -> None:
        self.path, self.body = path, body
        self.source: Take | None = None
        if not Path(path).exists():
            raise InputError(f"{path}: no such file; wanted a take or another tool's results, check the path")
        if is_take(path):
            self.source = load_take(path)
            if not self.source.body:
                raise InputError(
                    f"{path}: wanted a take with meshes, found none in it; run `hmrkit regress` on it first"
                )
        else:
            recognised(path, read_file(path))
        self.weights_sha256 = results_sha256(path)

    def __call__(
        self, take: Take, tracks: Sequence[Track], progress: Callable[[int, int], None]
    ) -> dict[int, BodyParams]:
        """See `hmrkit.mesh_streams.MeshStream`. Frames that the file lacks get the pose between their neighbours, at
        the ends the nearest one, with a warning. InputError where the file was made with another camera or body."""
        source = self._source_of(take)
        if take.video.sha256 != source.video.sha256:
            log.warning("%s was made from another clip than %s", self.path, take.video.path)
        found: dict[int, BodyParams] = {}
        for track, person in match_tracks(tracks, source):
            params = source.body[person.track_id]
            if params.model != self.body.model_id:
                raise InputError(
                    f"{self.path}: wanted bodies of {self.body.model_id}, found those of {params.model}; "
                    "give the --body or --gender that it was made with"
                )
            missing = int((~np.isin(track.frame_indices, person.frame_indices)).sum())
            if missing:
                log.warning(
                    "%s lacks %d of %d frames of track %d; their poses are taken from the frames nearest to them",
                    self.path, missing, len(track.frame_indices), track.track_id,
                )  # fmt: skip
            times = take.video.seconds(track.frame_indices)
            found[track.track_id] = _on_frames(params, person.frame_indices, track.frame_indices, times)
        for track in tracks:
            if track.track_id not in found:
                log.warning("%s has nobody where track %d is; it gets no mesh", self.path, track.track_id)
        progress(1, 1)
        return found

    def check(self, take: Take) -> None:
        """InputError where `__call__` would refuse the take's clip or its camera."""
        self._source_of(take)

    def _source_of(self, take: Take) -> Take:
        """The file's people. InputError where another camera saw them than the take's."""
        source = self.source or self._results_of(take)
        made, now = source.camera, take.camera
        if not np.allclose([made.focal_px, made.center_px], [now.focal_px, now.center_px], rtol=1e-3):
            raise InputError(
                f"{self.path}: wanted bodies seen with focal length {now.focal_px[0]:.0f} px, found them made with "
                f"{made.focal_px[0]:.0f} px; give --focal {made.focal_px[0]:.3f}"
            )
        return source

    def _results_of(self, take: Take) -> Take:
        """The file's people before the camera that they were made with, else before the take's."""
        # Other tools count a folder's images from 0, whatever numbers the plates have.
        numbers, whole = take.video.frame_indices, len(take.video.frame_indices) == take.video.frame_count
        counted = np.arange(len(numbers)) if whole else numbers - take.video.first_number
        video = replace(take.video, frame_indices=counted, first_number=0)
        name, results = read_results(self.path, video)
        if results.space == "world":
            raise InputError(
                f"{self.path}: wanted people as the camera of {take.video.path} sees them, found a world without one "
                f"({name}); make a take of it with `hmrkit import`"
            )
        camera = take.camera if results.focal_px is None else camera_of(results, video)
        source = results_take(results, video, camera, self.body, self.path)
        moved = [replace(t, frame_indices=numbers[np.searchsorted(counted, t.frame_indices)]) for t in source.tracks]
        return replace(source, tracks=tuple(moved))


def match_tracks(tracks: Sequence[Track], source: Take) -> list[tuple[Track, Track]]:
    """Each of `tracks` that somebody in the source fits, with that person; nobody is given away twice."""
    from scipy.optimize import linear_sum_assignment

    people = source.people_with_mesh()
    overlaps = np.array([[_overlap(track, person) for person in people] for track in tracks]).reshape(
        len(tracks), len(people)
    )
    rows, columns = linear_sum_assignment(-overlaps)
    return [(tracks[i], people[j]) for i, j in zip(rows, columns, strict=True) if overlaps[i, j] >= MIN_OVERLAP]


def _overlap(a: Track, b: Track) -> float:
    """Mean intersection over union of track `a`'s boxes with those of `b` at the same time; 0 where there are none."""
    inside = (a.frame_indices >= b.frame_indices[0]) & (a.frame_indices <= b.frame_indices[-1])
    if not inside.any():
        return 0.0
    at = a.frame_indices[inside]
    boxes = np.stack([np.interp(at, b.frame_indices, side) for side in b.boxes_xyxy.T], 1)
    return float(paired_iou(a.boxes_xyxy[inside], boxes).mean())


def _on_frames(params: BodyParams, given: np.ndarray, wanted: np.ndarray, times: np.ndarray) -> BodyParams:
    """Bodies of the frames `given` on the frames `wanted` (T,), at `times` (T,) s."""
    _, into, rows = np.intersect1d(wanted, given, return_indices=True)
    seen = np.zeros(len(wanted), bool)
    seen[into] = True
    parts = [params.global_orient[:, None], params.body_pose, *([] if params.fingers is None else [params.fingers])]
    known = np.concatenate(parts, 1)
    rotations = np.zeros((len(wanted), *known.shape[1:]), np.float32)
    rotations[into] = known[rows]
    transl = np.zeros((len(wanted), 3), np.float32)
    transl[into] = params.transl_c[rows]
    if not seen.all():
        rotations, transl = bridge_bodies(rotations, transl, seen, times)
    rotations, transl = rotations.astype(np.float32), transl.astype(np.float32)
    fingers = None if params.fingers is None else rotations[:, 24:]
    return replace(
        params, global_orient=rotations[:, 0], body_pose=rotations[:, 1:24], transl_c=transl, fingers=fingers, seen=None
    )  # fmt: skip
