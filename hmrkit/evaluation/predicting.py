"""What a method estimates of the people of a sequence: by the same stages that `hmrkit run` goes through, or by a file.

With true boxes each person's track is given and the chain runs from the keypoints on; with detection it runs whole and
its tracks are matched to the people frame by frame. Stills become clips in which nobody appears twice, so that nothing
is carried from one image into the next.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hmrkit.crops import box_iou
from hmrkit.datasets import EvalSequence, GroundTruth
from hmrkit.errors import InputError
from hmrkit.meshes import mesh_slice
from hmrkit.models import Models
from hmrkit.pipeline import Progress, open_clip, run_stages, stages_of
from hmrkit.skeletons import Skeleton
from hmrkit.types import Camera, Take, Track
from hmrkit.video.images import read_image

if TYPE_CHECKING:
    from hmrkit.regressors import Regressor

log = logging.getLogger(__name__)

MIN_IOU = 0.3  # below, a found box is somebody else's
STILLS_AT_ONCE = 128
Owners = dict[int, tuple[int, np.ndarray]]  # by track id: the person's number, and which rows of its truth these are


@dataclass(frozen=True)
class Prediction:
    """What is estimated of one person; T rows as in its `GroundTruth`, NaN where `found` (T,) is False.

    `rotations` (T,24,3,3) relative to the parent joint, root first in the camera frame; `betas` (T,10); `transl_c`
    (T,3) m. `meshes` gives vertices (n,V,3) and joints (n,24,3) in the camera frame of some rows; None: pose the body
    with the parameters. Results made elsewhere may be `joints_c` (T,J,3) m in the order of `skeleton` (None: the
    protocol's), and `parts` (T,9,3,3), global rotations as the 3DPW challenge has them, and nothing else. `track_ids`
    (T,) int: which detected person was taken for this one, -1 for none; None where the boxes were given.
    """

    found: np.ndarray
    rotations: np.ndarray | None = None
    betas: np.ndarray | None = None
    transl_c: np.ndarray | None = None
    meshes: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]] | None = None
    joints_c: np.ndarray | None = None
    skeleton: Skeleton | None = None
    parts: np.ndarray | None = None
    track_ids: np.ndarray | None = None


@dataclass(frozen=True)
class _Piece:
    """Some rows of a take's track that are some rows of a person."""

    take: Take
    track_id: int
    track_rows: np.ndarray
    rows: np.ndarray


def predict(
    sequence: EvalSequence, models: Models, detect: bool = False, progress: Progress = lambda *_: None
) -> list[Prediction]:
    """The chain's meshes of every person of a sequence, by the true boxes or by its own detections.

    InputError where the images are not there.
    """
    stages = [s for s in stages_of(models.options) if detect or s not in ("detect", "track")]
    if not detect:
        return predictions_of(sequence, takes_with_true_boxes(sequence, models, stages, progress), models)
    pieces: list[list[_Piece]] = [[] for _ in sequence.people]
    for take, frames in _open(sequence, models, alone=True):
        take = run_stages(take, stages, models, progress)
        for person, rows, track_id, track_rows in _matched(take, frames, sequence.people):
            pieces[person].append(_Piece(take, track_id, track_rows, rows))
    made = [_assembled(len(truth.valid), of, models) for truth, of in zip(sequence.people, pieces, strict=True)]
    if sequence.stills:
        return made
    return [
        replace(one, track_ids=_track_ids(len(truth.valid), of))
        for one, truth, of in zip(made, sequence.people, pieces, strict=True)
    ]


def predictions_of(sequence: EvalSequence, takes: Iterable[tuple[Take, Owners]], models: Models) -> list[Prediction]:
    """What finished takes of `takes_with_true_boxes` hold of every person of the sequence."""
    pieces: list[list[_Piece]] = [[] for _ in sequence.people]
    for take, owners in takes:
        for track_id, (person, rows) in owners.items():
            if track_id in take.body:
                pieces[person].append(_Piece(take, track_id, np.arange(len(rows)), rows))
    return [_assembled(len(truth.valid), of, models) for truth, of in zip(sequence.people, pieces, strict=True)]


def takes_with_true_boxes(
    sequence: EvalSequence, models: Models, stages: Sequence[str], progress: Progress = lambda *_: None
) -> Iterator[tuple[Take, Owners]]:
    """Takes of a sequence that went through `stages` by the true boxes; by track id whose track it is: the person's
    number, and which rows of the person's truth its rows are."""
    for take, frames in _open(sequence, models, alone=False):
        take, owners = _with_true_boxes(take, frames, sequence)
        yield run_stages(take, stages, models, progress), owners


def predict_crops(sequence: EvalSequence, regressor: Regressor, models: Models, batch: int = 16) -> list[Prediction]:
    """A regressor's bodies for images that are crops already (`EvalSequence.cropped`), each person's own image."""
    import torch

    from hmrkit.crops import Region, crop_batch, middle_columns
    from hmrkit.regressors.crop_camera import translation

    if not isinstance(sequence.frames, tuple):
        raise InputError(f"{sequence.name}: crops are wanted as single images")
    made: list[Prediction] = []
    for truth in sequence.people:
        parts: list[list[np.ndarray]] = [[], [], []]
        for start in range(0, len(truth.valid), batch):
            frames = truth.frame_indices[start : start + batch]
            stack = np.stack([read_image(sequence.frames[f]) for f in frames])
            cameras = [camera_of(sequence, int(f), stack.shape[2], stack.shape[1], models) for f in frames]
            height, width = regressor.input_size
            size = np.array([stack.shape[2], stack.shape[1]], np.float32)
            side, count = float(size[0]) * height / width, len(frames)
            whole = Region(np.tile(size / 2, (count, 1)), np.full(count, side), np.zeros(count))
            focal = torch.tensor([float(c.focal_px[0]) for c in cameras], dtype=torch.float64)
            context = {
                "boxes_xyxy": torch.tensor([*(size / 2 - side / 2), *(size / 2 + side / 2)]).expand(count, 4),
                "image_size": torch.from_numpy(size).expand(count, 2),
                "focal_px": focal.float(),
            }
            images = crop_batch(torch.from_numpy(stack).to(models.device), list(range(count)), whole, height)
            with torch.inference_mode():
                known = {key: value.to(models.device) for key, value in context.items()}
                estimate = regressor(images[..., middle_columns(regressor.input_size)], **known)
            placed = translation(estimate.crop_camera.double().cpu(), focal, side)
            rotated = torch.cat([estimate.global_orient[:, None], estimate.body_pose], 1)
            for part, values in zip(parts, (rotated.cpu(), estimate.betas.cpu(), placed), strict=True):
                part.append(np.asarray(values, np.float32))
        rotations, betas, transl = (np.concatenate(part) for part in parts)
        made.append(Prediction(np.asarray(np.isfinite(transl).all(-1)), rotations, betas, transl))
    return made


# --------------------------------------------------------------------------------------------- sequences as takes


def _open(sequence: EvalSequence, models: Models, alone: bool) -> Iterator[tuple[Take, np.ndarray]]:
    """Empty takes of a sequence's images and, for each of their frames, its number in the sequence.

    `alone`: stills are a take each, so that a tracker cannot join people of different images.
    """
    if sequence.frames is None:
        raise InputError(
            f"{sequence.name}: its images are not there, only results made elsewhere can be scored; "
            "put the images in their place or give --predictions FILE"
        )
    options = replace(models.options, fps=None if _is_file(sequence.frames) else sequence.fps)
    if isinstance(sequence.frames, Path):
        take = open_clip(sequence.frames, options, keep_numbers=False)
        take = _restricted(take, sequence.frame_count)
        yield (
            _seen_by(take, camera_of(sequence, 0, take.video.width, take.video.height, models)),
            take.video.frame_indices,
        )
        return
    for frames in _alike(sequence, 1 if alone else STILLS_AT_ONCE):
        with linked([sequence.frames[f] for f in frames]) as folder:
            take = open_clip(folder, options, keep_numbers=False)
            yield (
                _seen_by(take, camera_of(sequence, frames[0], take.video.width, take.video.height, models)),
                np.array(frames),
            )


def _is_file(frames: Path | tuple[Path, ...]) -> bool:
    return isinstance(frames, Path) and not frames.is_dir()


def _restricted(take: Take, frame_count: int) -> Take:
    """Only the frames that the sequence has: `--limit` cuts sequences short."""
    return replace(take, video=take.video.at(take.video.frame_indices < frame_count))


def _seen_by(take: Take, camera: Camera) -> Take:
    return replace(take, camera=camera)


def camera_of(sequence: EvalSequence, frame: int, width: int, height: int, models: Models) -> Camera:
    """The camera of a frame, assumed where the dataset does not know it."""
    from hmrkit.camera import assume_camera

    known = sequence.camera[frame] if isinstance(sequence.camera, tuple) else sequence.camera
    return known or assume_camera(width, height, models.options.focal, models.options.fov)


def _alike(sequence: EvalSequence, most: int) -> Iterator[list[int]]:
    """Runs of `most` stills that can be one take: of one size and one camera. A clip of single images is one run."""
    assert isinstance(sequence.frames, tuple)
    if not sequence.stills:
        yield list(range(min(sequence.frame_count, len(sequence.frames))))
        return
    from PIL import Image

    run: list[int] = []
    before: Any = None
    for frame in sorted({int(f) for truth in sequence.people for f in truth.frame_indices}):
        try:
            with Image.open(sequence.frames[frame]) as image:
                size = image.size
        except OSError as error:
            raise InputError(f"{sequence.frames[frame]}: cannot be read ({error.strerror or error})") from error
        camera = sequence.camera[frame] if isinstance(sequence.camera, tuple) else None
        kind = (size, None if camera is None else (camera.focal_px.tolist(), camera.center_px.tolist()))
        if run and (kind != before or len(run) == most):
            yield run
            run = []
        run.append(frame)
        before = kind
    if run:
        yield run


@contextmanager
def linked(paths: Sequence[Path]) -> Iterator[Path]:
    """A folder whose sorted images are `paths`, as the chain reads folders of frames; gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="hmrkit-eval-") as name:
        folder = Path(name)
        for k, path in enumerate(paths):
            if not path.is_file():
                raise InputError(f"{path}: no such image; check --data")
            (folder / f"{k:07d}{path.suffix.lower()}").symlink_to(path.resolve())
        yield folder


def _with_true_boxes(take: Take, frames: np.ndarray, sequence: EvalSequence) -> tuple[Take, Owners]:
    """The take with a track for each person (for each image of a person in stills), and whose rows these are."""
    place = {int(f): k for k, f in enumerate(frames)}
    indices = take.video.frame_indices
    tracks: list[Track] = []
    owners: Owners = {}
    for person, truth in enumerate(sequence.people):
        seen = np.asarray(np.isfinite(truth.boxes_xyxy).all(-1))
        rows = np.array([r for r, f in enumerate(truth.frame_indices) if seen[r] and int(f) in place], np.int64)
        for group in np.split(rows, len(rows)) if sequence.stills and len(rows) else [rows]:
            if not len(group):
                continue
            track_id = len(tracks) + 1
            here = np.array([indices[place[int(truth.frame_indices[r])]] for r in group], np.int64)
            boxes = truth.boxes_xyxy[group].astype(np.float32)
            ones = np.ones(len(group), np.float32)
            tracks.append(Track(track_id, here, boxes, ones, np.zeros(len(group), bool)))
            owners[track_id] = (person, group)
    given = {"options": {"boxes": "ground truth"}, "weights": {}, "input": take.video.sha256, "code": ""}
    return replace(take, tracks=tuple(tracks), provenance={"track": given}), owners


def _matched(
    take: Take, frames: np.ndarray, people: Sequence[GroundTruth]
) -> Iterator[tuple[int, np.ndarray, int, np.ndarray]]:
    """(person, its rows, track id, its rows): in each frame found boxes go to true ones for the largest sum of IoU."""
    from scipy.optimize import linear_sum_assignment

    place = {int(f): int(i) for f, i in zip(frames, take.video.frame_indices, strict=True)}
    tracks = take.people_with_mesh()
    where = [{int(f): r for r, f in enumerate(t.frame_indices)} for t in tracks]
    wanted: dict[int, list[tuple[int, int]]] = {}
    for person, truth in enumerate(people):
        for row, frame in enumerate(truth.frame_indices):
            if int(frame) in place:
                wanted.setdefault(place[int(frame)], []).append((person, row))
    pairs: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for index, who in wanted.items():
        here = [k for k in range(len(tracks)) if index in where[k]]
        if not here:
            continue
        true = np.stack([true_box(people[p], r) for p, r in who])
        found = np.stack([tracks[k].boxes_xyxy[where[k][index]] for k in here])
        overlap = np.nan_to_num(box_iou(true, found))
        for a, b in zip(*linear_sum_assignment(-overlap), strict=True):
            if overlap[a, b] >= MIN_IOU:
                person, row = who[a]
                pairs.setdefault((person, here[b]), []).append((row, where[here[b]][index]))
    for (person, k), rows in pairs.items():
        both = np.array(sorted(rows), np.int64)
        yield person, both[:, 0], tracks[k].track_id, both[:, 1]


def true_box(truth: GroundTruth, row: int) -> np.ndarray:
    """Box (4,) of a person in a frame: the annotated one, else the one about the annotated 2D keypoints, else NaN."""
    box = truth.boxes_xyxy[row]
    if np.isfinite(box).all() or truth.keypoints_2d is None:
        return box
    points = truth.keypoints_2d[row]
    points = points[(points[:, 2] > 0) & np.isfinite(points).all(-1), :2]
    return np.concatenate([points.min(0), points.max(0)]) if len(points) else box


def _track_ids(frames: int, pieces: Sequence[_Piece]) -> np.ndarray:
    """The track (frames,) that each row of a person lies in, -1 for none."""
    ids = np.full(frames, -1)
    for piece in pieces:
        ids[piece.rows] = piece.track_id
    return ids


def _assembled(frames: int, pieces: Sequence[_Piece], models: Models) -> Prediction:
    """One person's rows out of the takes and tracks that they lie in."""
    found = np.zeros(frames, bool)
    rotations = np.full((frames, 24, 3, 3), np.nan, np.float32)
    betas, transl = np.full((frames, 10), np.nan, np.float32), np.full((frames, 3), np.nan, np.float32)
    source = np.full((frames, 2), -1)  # which piece, and which row of its track
    for k, piece in enumerate(pieces):
        done = piece.take.calibrated.get(piece.track_id)
        params = done.params if done else piece.take.body[piece.track_id]
        rows, of = piece.rows, piece.track_rows
        rotations[rows] = np.concatenate([params.global_orient[of][:, None], params.body_pose[of]], 1)
        betas[rows], transl[rows] = params.betas[:10], params.transl_c[of]
        source[rows] = np.stack([np.full(len(rows), k), of], -1)
        found[rows] = np.isfinite(rotations[rows]).all((1, 2, 3)) & np.isfinite(transl[rows]).all(-1)

    def meshes(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        vertices = np.full((len(rows), models.body.num_vertices, 3), np.nan, np.float32)
        joints = np.full((len(rows), 24, 3), np.nan, np.float32)
        for k in np.unique(source[rows, 0]):
            if k >= 0:
                here = np.nonzero(source[rows, 0] == k)[0]
                mesh = mesh_slice(pieces[k].take, pieces[k].track_id, source[rows[here], 1], models)
                vertices[here], joints[here] = mesh.vertices_c, mesh.joints_c
        return vertices, joints

    # Without meshes the parameters are scored, by the body that they pose.
    return Prediction(found, rotations, betas, transl, None if models.options.params_only else meshes)
