"""BlazePose-heavy on tracks: crops that follow the person, landmarks in the image, 3D in the camera frame.

The network expects its crop as MediaPipe makes it: centred at the middle of the hips, 1.25 times the diameter of the
circle about the body, rotated so that the person stands upright. Where to cut is only known once the network has run
(auxiliary landmarks 33 and 34 are the circle's centre and its topmost point), or where a box shows all of somebody who
stands. MediaPipe takes the answer of the frame before; here a chunk of frames and all their people go through the
network together. Every fourth frame goes first, with a region guessed from its track's box and from how region and box
lay to each other last time; the others' regions lie between theirs. Only those whose guess was off run again. So where
a chunk ends shows in its results: chunks are the same for every --batch-size (`hmrkit.keypoints.KEYPOINTS`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from hmrkit.blazepose.network import CROP_SIZE
from hmrkit.camera import assume_camera, crop_cameras
from hmrkit.crops import crop_batch, image_from_crop
from hmrkit.device import download, inference
from hmrkit.errors import UsageError
from hmrkit.keypoints.blazepose_reading import BODY, HIPS, BlazePoseReader
from hmrkit.keypoints.blazepose_regions import (
    NEW_ROTATION_COST,
    TILT_COST,
    agree,
    as_region,
    between,
    held,
    leading,
    overlap,
    place,
    relation,
    rotated,
    smoothest_path,
    standing_regions,
    wrap,
)
from hmrkit.skeletons import BLAZEPOSE_33
from hmrkit.types import Camera

if TYPE_CHECKING:
    from hmrkit.keypoints import People

log = logging.getLogger(__name__)

SHOULDERS = BLAZEPOSE_33.indices("left_shoulder", "right_shoulder")
CENTER, TOP = 33, 34  # auxiliary landmarks: middle of the hips, topmost point of the circle about the body
CIRCLE_TO_CROP = 2.5  # MediaPipe: 1.25 x the diameter

MAX_RERUNS = 2
LEAD = 4  # every so many frames of a track go through the network first
LOW_SCORE = 0.35  # the region has slipped off the person: start from the box again
LOST_SCORE = 0.1  # nobody there: forget where they were
SURE_SCORE = 0.55  # upright people have 0.55 to 0.85
SURE_AT_FIRST = 0.7  # people who lie may have 0.6 by legs drawn along the depth axis
JUMP = np.radians(60)  # of the trunk from one frame to the next: one of the two is wrong
MUCH_WORSE = 0.25  # of score: a person who was detected badly is lost
FIRST_PAUSE, LONGEST_PAUSE = 8, 64  # frames


@dataclass
class Answers:
    """The network's output for N crops. Regions are rows of centre x, y, side in px and angle in rad."""

    used: np.ndarray  # (N,4)
    asked: np.ndarray  # (N,4) the region that the network would have liked to see
    points: np.ndarray  # (N,33,3) image px and confidence
    world: np.ndarray  # (N,33,3) m, axes of the crop's own camera
    score: np.ndarray  # (N,) presence x overlap with the track's box

    @staticmethod
    def empty(count: int) -> Answers:
        """Of `count` crops, to be put in."""
        shapes = (count, 4), (count, 4), (count, BODY, 3), (count, BODY, 3), (count,)
        return Answers(*(np.zeros(shape) for shape in shapes))

    def put(self, rows: np.ndarray, other: Answers, chosen: np.ndarray) -> None:
        """Replace `rows[chosen]` by `other[chosen]`."""
        for field in fields(self):
            getattr(self, field.name)[rows[chosen]] = getattr(other, field.name)[chosen]

    def trunk(self) -> np.ndarray:
        """Direction (N,) of the trunks in the image, rad: from the hips to the shoulders, 0 for upright, clockwise."""
        hips, shoulders = (self.points[:, rows, :2].mean(1) for rows in (HIPS, SHOULDERS))
        x, y = (shoulders - hips).T
        return np.arctan2(x, -y)

    def worth(self) -> np.ndarray:
        """Scores (N,), lower for trunks that do not stand upright in their crops."""
        return self.score - TILT_COST * np.abs(wrap(self.trunk() - self.used[:, 3])) / (np.pi / 2)

    def take(self, rows: np.ndarray) -> Answers:
        return Answers(*(getattr(self, field.name)[rows] for field in fields(self)))


@dataclass
class _Track:
    """What is kept of a track between calls. `relation`: see `relation`; `rest`: frames until rotations are tried
    again, or until a score is clearly lower than `in_vain`, at which they did not help; `trunk`: its last direction."""

    relation: np.ndarray | None = None
    trunk: float | None = None
    rest: int = 0
    in_vain: float = 0.0
    pause: int = FIRST_PAUSE


class BlazePoseEstimator:
    """See `hmrkit.keypoints.KeypointEstimator`. `flip_test` averages with the mirrored crop at twice the cost; without
    `points` 3D is BlazePose's alone.

    `runs` and `person_frames` count crops that went through the network and boxes that were asked for.
    """

    name = "blazepose-heavy"
    skeleton = BLAZEPOSE_33
    has_depth = True

    def __init__(
        self,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        camera: Camera | None = None,
        max_crops: int = 16,
        flip_test: bool = False,
        points: bool = True,
    ) -> None:
        if dtype == torch.bfloat16:
            log.warning("blazepose-heavy runs in float32: bfloat16 moves its landmarks by up to a tenth of a metre")
            dtype = torch.float32
        self.read = BlazePoseReader(device, points, flip_test)
        self.weights_sha256 = self.read.weights_sha256
        self.device, self.dtype, self.max_crops = device, dtype, max_crops
        self.runs = self.person_frames = 0
        self.reset(camera)

    def reset(self, camera: Camera | None = None) -> None:
        self.camera = camera
        self._tracks: dict[int, _Track] = {}

    def state(self) -> dict[str, Any]:
        """See `hmrkit.keypoints.Stateful`; numbers keep all their digits."""
        return {
            str(i): vars(track) | {"relation": None if track.relation is None else track.relation.tolist()}
            for i, track in self._tracks.items()
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """See `hmrkit.keypoints.Stateful`."""
        self._tracks = {
            int(i): _Track(**{**kept, "relation": None if kept["relation"] is None else np.array(kept["relation"])})
            for i, kept in state.items()
        }

    def __call__(
        self, frames: Tensor, frame_indices: Sequence[int], boxes: Sequence[Mapping[int, np.ndarray]]
    ) -> list[People]:
        people: list[People] = [{} for _ in boxes]
        who = [(row, track_id) for row, here in enumerate(boxes) for track_id in here]
        if not who:
            return people
        camera = self.camera or assume_camera(frames.shape[2], frames.shape[1])
        rows = np.array([row for row, _ in who])
        box = np.array([boxes[row][track_id] for row, track_id in who], np.float64)
        answers = self._follow(frames, rows, np.array([i for _, i in who]), box)
        joints = _to_camera(answers.world, answers.used, camera, camera.zoom_at(np.asarray(frame_indices)[rows]))
        for n, (row, track_id) in enumerate(who):
            people[row][track_id] = (answers.points[n].astype(np.float32), joints[n])
        return people

    def _follow(self, frames: Tensor, rows: np.ndarray, ids: np.ndarray, box: np.ndarray) -> Answers:
        """Run every box with its guessed region, then those again whose guess the network disagrees with.

        A few frames of each track go first, so that the guesses of those between are good."""
        tracks = [self._tracks.setdefault(int(i), _Track()) for i in ids]
        upright = standing_regions(box, frames.shape[1])
        guess = np.stack([place(t.relation, b, s) for t, b, s in zip(tracks, box, upright, strict=True)])
        self.person_frames += len(ids)
        first = leading(ids, LEAD)
        answers = Answers.empty(len(ids))
        self._settle(frames, rows, box, upright, guess, answers, np.flatnonzero(first))
        sure = first & (answers.score >= LOW_SCORE)
        for i in dict.fromkeys(ids):
            known, rest = np.flatnonzero(sure & (ids == i)), np.flatnonzero(~first & (ids == i))
            if len(known):
                guess[rest] = between(rows[rest], rows[known], answers.used[known])
        self._settle(frames, rows, box, upright, guess, answers, np.flatnonzero(~first))
        changed = [
            self._search(frames, rows, box, upright, answers, np.flatnonzero(ids == i), self._tracks[int(i)])
            for i in dict.fromkeys(ids)
        ]
        again = np.concatenate(changed)
        again = again[~agree(answers.used, answers.asked)[again]]
        self._again(frames, rows, box, answers, again, answers.asked[again])
        for n, (track, trunk) in enumerate(zip(tracks, answers.trunk(), strict=True)):
            if answers.score[n] >= LOW_SCORE:
                track.relation, track.trunk = relation(answers.asked[n], box[n]), float(trunk)
            elif answers.score[n] < LOST_SCORE:
                track.relation = track.trunk = None
        return answers

    def _settle(
        self,
        frames: Tensor,
        rows: np.ndarray,
        box: np.ndarray,
        upright: np.ndarray,
        guess: np.ndarray,
        answers: Answers,
        which: np.ndarray,
    ) -> None:
        """Answers of the boxes `which`, run once with their guess, and again where the network disagrees."""
        if not len(which):
            return
        answers.put(which, self._look(frames, rows[which], box[which], guess[which]), np.ones(len(which), bool))
        for attempt in range(MAX_RERUNS):
            used, low = answers.used[which], answers.score[which] < LOW_SCORE
            again = ~agree(used, answers.asked[which]) | (low & ~agree(used, upright[which]) & (attempt == 0))
            low, again = low[again], which[again]
            self._again(frames, rows, box, answers, again, np.where(low[:, None], upright[again], answers.asked[again]))

    def _again(
        self, frames: Tensor, rows: np.ndarray, box: np.ndarray, answers: Answers, again: np.ndarray, region: np.ndarray
    ) -> None:
        """Look again at the boxes `again` with other regions; keep what is not clearly worse."""
        if len(again):
            other = self._look(frames, rows[again], box[again], region)
            answers.put(again, other, other.score > answers.score[again] - 0.1)

    def _search(
        self,
        frames: Tensor,
        rows: np.ndarray,
        box: np.ndarray,
        upright: np.ndarray,
        answers: Answers,
        mine: np.ndarray,
        track: _Track,
    ) -> np.ndarray:
        """Try other rotations in those frames of one track (`mine`, in time order) where the person was not detected.

        The network hardly ever asks for a rotation of more than ten degrees: upside down it sees nobody, or a person
        with arms for legs. Of somebody new it has to be surer. Where the trunk jumps from one frame to the next all of
        `mine` are in doubt: a wrong body scores as well as the right one, only the frames about it tell them apart.

        Returns those of `mine` that changed. Where nothing helps, as with people behind things, the track is left alone
        for a while, twice as long each time, so that they do not cost eight times as much; but not while it gets worse:
        somebody who falls or somersaults has been detected badly before."""
        trunk = answers.trunk()
        before = trunk[mine[0]] if track.trunk is None else track.trunk
        jumps = bool((np.abs(wrap(np.diff(trunk[mine], prepend=before))) > JUMP).any())
        wanted = SURE_AT_FIRST if track.relation is None else SURE_SCORE
        worth = answers.worth()
        low = mine if jumps else mine[worth[mine] < wanted]
        track.rest -= len(mine)
        if not len(low) or (track.rest > 0 and worth[low].min() > track.in_vain - MUCH_WORSE):
            return low[:0]
        lowest = float(worth[low].min())
        cost = 0.0 if jumps else NEW_ROTATION_COST
        # Two of the frames first; the others only if that shows somebody.
        pilots = low if jumps else low[np.unique([len(low) // 3, 2 * len(low) // 3])]
        places, other = self._rotations(frames, rows, box, upright, pilots)
        best = other.worth().reshape(len(pilots), -1).max(1)
        if len(pilots) < len(low) and best.max() - cost > worth[pilots].min():
            places, other = self._rotations(frames, rows, box, upright, low)
        other_worth, other_trunk = other.worth(), other.trunk()
        more = [places.get(int(n), np.zeros(0, int)) for n in mine]
        scores = [np.append(worth[n], other_worth[m] - cost) for n, m in zip(mine, more, strict=True)]
        angles = [np.append(trunk[n], other_trunk[m]) for n, m in zip(mine, more, strict=True)]
        path = smoothest_path(scores, angles, track.trunk)
        changed = np.array([n for n, choice in zip(mine, path, strict=True) if choice], int)
        source = np.array([places[int(n)][c - 1] for n, c in zip(mine, path, strict=True) if c], int)
        gain = (other_worth[source] - worth[changed]).max(initial=0)
        answers.put(changed, other.take(source), np.ones(len(changed), bool))
        helped = gain > 0.1 or (jumps and len(changed) > 0)
        track.pause = FIRST_PAUSE if helped else min(2 * track.pause, LONGEST_PAUSE)
        track.rest = 0 if helped else track.pause
        track.in_vain = lowest
        return changed

    def _rotations(
        self, frames: Tensor, rows: np.ndarray, box: np.ndarray, upright: np.ndarray, which: np.ndarray
    ) -> tuple[dict[int, np.ndarray], Answers]:
        """Look at the boxes `which` at every rotation; the answers, and for each box where its own are among them."""
        regions = rotated(upright[which])
        each = regions.shape[1]
        other = self._look(frames, np.repeat(rows[which], each), np.repeat(box[which], each, 0), regions.reshape(-1, 4))
        return {int(n): np.arange(k * each, (k + 1) * each) for k, n in enumerate(which)}, other

    def _look(self, frames: Tensor, rows: np.ndarray, box: np.ndarray, region: np.ndarray) -> Answers:
        """One run of the network for each region (N,4) of frame `rows` (N)."""
        self.runs += len(rows)
        parts = []
        with inference(self.device, self.dtype):
            for start in range(0, len(rows), self.max_crops):
                part = slice(start, start + self.max_crops)
                crops = crop_batch(frames, rows[part], as_region(region[part]), CROP_SIZE)
                parts.append(self.read(crops.to(memory_format=torch.channels_last)))
            found = download(*(torch.cat(part) for part in zip(*parts, strict=True)))
        points, world, presence = (values.astype(np.float64) for values in found)
        xy = image_from_crop(points[..., :2], as_region(region), CROP_SIZE)
        toward = xy[:, TOP] - xy[:, CENTER]
        side = CIRCLE_TO_CROP * np.linalg.norm(toward, axis=-1)
        angle = np.arctan2(toward[:, 0], -toward[:, 1])
        height, width = frames.shape[1:3]
        asked = held(np.column_stack([xy[:, CENTER], side, angle]), box, xy[:, :BODY], height)
        confidence = points[:, :BODY, 2:] * presence[:, None, None]
        score = presence * overlap(xy[:, :BODY], box, np.array([width, height]))
        return Answers(region.copy(), asked, np.concatenate([xy[:, :BODY], confidence], -1), world, score)


def load(argument: str, *, device: torch.device, dtype: torch.dtype, camera: Camera | None, max_crops: int):
    """See `hmrkit.keypoints.load_keypoints`."""
    if argument not in ("", "alone"):
        raise UsageError(f"wanted blazepose-heavy or blazepose-heavy:alone, found blazepose-heavy:{argument}")
    return BlazePoseEstimator(device, dtype, camera, max_crops, points=not argument)


def _to_camera(world: np.ndarray, region: np.ndarray, camera: Camera, zoom: np.ndarray | None = None) -> np.ndarray:
    """World landmarks (N,33,3) in the axes of cameras that look at the crops' centres, rolled with them -> ``_c``.

    Root: the middle of the hips.
    """
    rotation = crop_cameras(camera, as_region(region), CROP_SIZE, zoom).camera_from_crop
    joints = (world - world[:, HIPS].mean(1, keepdims=True)) @ np.swapaxes(rotation, -1, -2)
    return joints.astype(np.float32)
