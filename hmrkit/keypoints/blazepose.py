"""BlazePose-heavy on tracks: crops that follow the person, landmarks in the image, 3D in the camera frame.

The network expects its crop as MediaPipe makes it: centred at the middle of the hips, 1.25 times the diameter of the
circle about the body, turned so that the person stands upright. Where to cut is only known once the network has looked
(auxiliary landmarks 33 and 34 are the circle's centre and its topmost point). MediaPipe takes the answer of the frame
before; here a chunk of frames and all their people go through the network together, each with a region guessed from
its track's box and from how region and box lay to each other last time, and only those whose guess was off are run again.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from hmrkit.camera import assume_camera, camera_from_ray
from hmrkit.crops import Region, crop_batch, image_from_crop, region_from_boxes
from hmrkit.device import inference
from hmrkit.keypoints import People
from hmrkit.keypoints.blazepose_net import CROP_SIZE, WEIGHTS, BlazePoseOutput, load_network
from hmrkit.skeletons import BLAZEPOSE_33
from hmrkit.types import Camera
from hmrkit.weights import verify

log = logging.getLogger(__name__)

BODY = len(BLAZEPOSE_33)
HIPS = BLAZEPOSE_33.indices("left_hip", "right_hip")
CENTER, TOP = 33, 34  # auxiliary landmarks: middle of the hips, topmost point of the circle about the body
CIRCLE_TO_CROP = 2.5  # MediaPipe: 1.25 x the diameter
STANDING = 1.35  # side of a standing person's crop, in heights of the box

# A guessed region that is further off than this from what the network asks for is run again.
CENTER_TOLERANCE = 0.08  # of the crop's side
SIZE_TOLERANCE = 1.15
ANGLE_TOLERANCE = float(np.radians(12))
MAX_RERUNS = 2
LOW_SCORE = 0.35


@dataclass
class Answers:
    """What the network said about N crops. Regions are rows of centre x, y, side in px and angle in rad."""

    used: np.ndarray  # (N,4)
    asked: np.ndarray  # (N,4) the region that the network would have liked to see
    points: np.ndarray  # (N,33,3) image px and confidence
    world: np.ndarray  # (N,33,3) m, axes of the crop's own camera
    score: np.ndarray  # (N,) presence x overlap with the track's box

    def put(self, rows: np.ndarray, other: Answers, chosen: np.ndarray) -> None:
        """Replace `rows[chosen]` by `other[chosen]`."""
        for field in fields(self):
            getattr(self, field.name)[rows[chosen]] = getattr(other, field.name)[chosen]


class BlazePoseEstimator:
    """See `hmrkit.keypoints.KeypointEstimator`. `flip_test` averages with the mirrored crop at twice the cost.

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
        refine: bool = True,
    ) -> None:
        if dtype == torch.bfloat16:
            log.warning("blazepose-heavy runs in float32: bfloat16 moves its landmarks by up to a tenth of a metre")
            dtype = torch.float32
        self.weights_sha256 = hashlib.sha256("".join(verify(name) for name in WEIGHTS).encode()).hexdigest()
        self.network = load_network(device)
        self.device, self.dtype, self.max_crops = device, dtype, max_crops
        self.flip_test, self.refine = flip_test, refine
        self.runs = self.person_frames = 0
        self.reset(camera)

    def reset(self, camera: Camera | None = None) -> None:
        self.camera = camera
        self._relations: dict[int, np.ndarray] = {}

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
        joints = _to_camera(answers.world, answers.used, camera)
        for n, (row, track_id) in enumerate(who):
            people[row][track_id] = (answers.points[n].astype(np.float32), joints[n])
        return people

    def _follow(self, frames: Tensor, rows: np.ndarray, ids: np.ndarray, box: np.ndarray) -> Answers:
        """Run every box once with its guessed region, then those again whose guess the network disagrees with."""
        standing = _standing(box)
        guess = np.stack([_place(self._relations.get(i), b, s) for i, b, s in zip(ids, box, standing, strict=True)])
        answers = self._look(frames, rows, box, guess)
        self.person_frames += len(ids)
        for _ in range(MAX_RERUNS):
            again = np.flatnonzero(~_agree(answers.used, answers.asked))
            if not len(again):
                break
            low = answers.score[again] < LOW_SCORE
            region = np.where(low[:, None], standing[again], answers.asked[again])
            other = self._look(frames, rows[again], box[again], region)
            answers.put(again, other, other.score > answers.score[again] - 0.1)
        for n in range(len(ids)):
            self._relations[int(ids[n])] = _relation(answers.asked[n], box[n])
        return answers

    def _look(self, frames: Tensor, rows: np.ndarray, box: np.ndarray, region: np.ndarray) -> Answers:
        """One run of the network for each region (N,4) of frame `rows` (N)."""
        self.runs += len(rows)
        parts = []
        with inference(self.device, self.dtype):
            for start in range(0, len(rows), self.max_crops):
                part = slice(start, start + self.max_crops)
                crops = crop_batch(frames, rows[part], _as_region(region[part]), CROP_SIZE)
                parts.append(self._network(crops.to(memory_format=torch.channels_last)))
            points, world, presence = (torch.cat(p).cpu().numpy().astype(np.float64) for p in zip(*parts, strict=True))
        xy = image_from_crop(points[..., :2], _as_region(region), CROP_SIZE)
        toward = xy[:, TOP] - xy[:, CENTER]
        side = CIRCLE_TO_CROP * np.linalg.norm(toward, axis=-1)
        angle = np.arctan2(toward[:, 0], -toward[:, 1])
        asked = np.column_stack([xy[:, CENTER], side, angle])
        confidence = points[:, :BODY, 2:] * presence[:, None, None]
        height, width = frames.shape[1:3]
        score = presence * _overlap(xy[:, :BODY], box, np.array([width, height]))
        return Answers(region.copy(), asked, np.concatenate([xy[:, :BODY], confidence], -1), world, score)

    def _network(self, crops: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Crops -> x, y px and visibility (N,39,3), world (N,33,3), presence (N)."""
        outputs = [self.network(crops, heatmaps=self.refine)]
        if self.flip_test:
            outputs.append(_mirrored(self.network(crops.flip(-1), heatmaps=self.refine)))
        points = torch.stack([_points(output) for output in outputs]).mean(0)
        world = torch.stack([output.world[:, :BODY] for output in outputs]).mean(0)
        return points, world, torch.stack([output.presence for output in outputs]).mean(0)


def load(argument: str, *, device: torch.device, dtype: torch.dtype, camera: Camera | None, max_crops: int):
    """See `hmrkit.keypoints.load_keypoints`."""
    return BlazePoseEstimator(device, dtype, camera, max_crops)


def _points(output: BlazePoseOutput) -> Tensor:
    """Landmarks as x, y px of the crop and visibility in [0, 1]: (N,39,3)."""
    xy = output.landmarks[..., :2]
    if output.heatmaps is not None:
        xy = refine_by_heatmaps(xy, output.heatmaps)
    return torch.cat([xy, output.landmarks[..., 3:4].sigmoid()], -1)


def refine_by_heatmaps(xy: Tensor, heatmaps: Tensor, kernel: int = 7, threshold: float = 0.5) -> Tensor:
    """Move landmarks (N,K,2) crop px to the centre of mass of the heatmap (N,K,h,w), logits, about each.

    As MediaPipe's ``RefineLandmarksFromHeatmap``: a window of `kernel` cells about the landmark, and only where the
    heatmap's peak in it reaches `threshold`.
    """
    cells = heatmaps.shape[-1]
    stride = CROP_SIZE / cells
    half = kernel // 2
    offsets = torch.arange(-half, half + 1, device=xy.device)
    cell = (xy / stride).floor().long().clamp(-kernel, cells + kernel)
    across = cell[..., 0, None] + offsets  # (N,K,7)
    down = cell[..., 1, None] + offsets
    inside = ((across >= 0) & (across < cells))[..., None, :] & ((down >= 0) & (down < cells))[..., :, None]
    index = down.clamp(0, cells - 1)[..., :, None] * cells + across.clamp(0, cells - 1)[..., None, :]
    window = heatmaps.flatten(2).gather(2, index.flatten(2)).view(index.shape).sigmoid() * inside
    mass = window.sum((-1, -2)).clamp_min(1e-6)
    x = (window.sum(-2) * (across + 0.5)).sum(-1) / mass
    y = (window.sum(-1) * (down + 0.5)).sum(-1) / mass
    sure = window.amax((-1, -2)) >= threshold
    return torch.where(sure[..., None], torch.stack([x, y], -1) * stride, xy)


def _mirrored(output: BlazePoseOutput) -> BlazePoseOutput:
    """The answer to a mirrored crop, as if to the crop itself."""
    order = [*BLAZEPOSE_33.mirror, *range(BODY, output.landmarks.shape[1])]
    landmarks, world = output.landmarks[:, order].clone(), output.world[:, order].clone()
    landmarks[..., 0] = CROP_SIZE - landmarks[..., 0]
    world[..., 0] *= -1
    heatmaps = None if output.heatmaps is None else output.heatmaps[:, order].flip(-1)
    return BlazePoseOutput(landmarks, world, output.presence, heatmaps)


def _as_region(rows: np.ndarray) -> Region:
    return Region(rows[:, :2], rows[:, 2], rows[:, 3])


def _standing(box: np.ndarray) -> np.ndarray:
    """Regions (N,4) of people of whom only the box is known: upright, hips in the box's middle."""
    region = region_from_boxes(box, STANDING)
    return np.column_stack([region.center, region.size, region.angle])


def _relation(region: np.ndarray, box: np.ndarray) -> np.ndarray:
    """How a region lies to the track's box: offset and side in units of the box's longer side, and the angle."""
    side = (box[2:] - box[:2]).max()
    return np.array([*(region[:2] - (box[:2] + box[2:]) / 2) / side, region[2] / side, region[3]])


def _place(relation: np.ndarray | None, box: np.ndarray, standing: np.ndarray) -> np.ndarray:
    """The inverse of `_relation`; `standing` where there is none yet."""
    if relation is None:
        return standing
    side = (box[2:] - box[:2]).max()
    return np.array([*(box[:2] + box[2:]) / 2 + relation[:2] * side, relation[2] * side, relation[3]])


def _agree(used: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """(N,) whether regions (N,4) are close enough for the network not to mind."""
    off = np.linalg.norm(used[:, :2] - asked[:, :2], axis=-1) / used[:, 2]
    ratio = np.abs(np.log(np.maximum(asked[:, 2], 1e-3) / used[:, 2]))
    turn = np.abs((asked[:, 3] - used[:, 3] + np.pi) % (2 * np.pi) - np.pi)
    return (off < CENTER_TOLERANCE) & (ratio < np.log(SIZE_TOLERANCE)) & (turn < ANGLE_TOLERANCE)


def _overlap(xy: np.ndarray, box: np.ndarray, image_size: np.ndarray) -> np.ndarray:
    """(N,) intersection over union of the landmarks' bounding box, cut off at the image's edges, and the track's box."""
    low, high = np.clip(xy.min(1), 0, image_size), np.clip(xy.max(1), 0, image_size)
    common = np.clip(np.minimum(high, box[:, 2:]) - np.maximum(low, box[:, :2]), 0, None).prod(-1)
    union = (high - low).prod(-1) + (box[:, 2:] - box[:, :2]).prod(-1) - common
    return common / np.maximum(union, 1e-6)


def _to_camera(world: np.ndarray, region: np.ndarray, camera: Camera) -> np.ndarray:
    """World landmarks (N,33,3) in the axes of cameras that look at the crops' centres, rolled with them -> ``_c``.

    Root: the middle of the hips.
    """
    cosine, sine, zero = np.cos(region[:, 3]), np.sin(region[:, 3]), np.zeros(len(region))
    roll = np.stack([cosine, -sine, zero, sine, cosine, zero, zero, zero, zero + 1], -1).reshape(-1, 3, 3)
    turn = camera_from_ray(camera, region[:, :2]) @ roll
    joints = (world - world[:, HIPS].mean(1, keepdims=True)) @ np.swapaxes(turn, -1, -2)
    return joints.astype(np.float32)
