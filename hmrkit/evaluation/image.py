"""Meshes against what is annotated in the image: 2D keypoints of hidden and visible joints, silhouettes and parts."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from hmrkit import metrics
from hmrkit.body import Body
from hmrkit.camera import project
from hmrkit.datasets import EvalSequence, GroundTruth
from hmrkit.errors import InputError
from hmrkit.evaluation.bodies import Bodies
from hmrkit.evaluation.poses import predicted_meshes, stretches
from hmrkit.evaluation.predicting import Prediction, camera_of
from hmrkit.evaluation.protocols import EvalProtocol
from hmrkit.evaluation.scoring import Scores, counted_frames
from hmrkit.models import Models
from hmrkit.skeletons import SMPL_24
from hmrkit.types import Camera

# The six parts of Unite the People's LSP labels, by the kinematic joints whose skin they are. Which number each has is
# read off the labels themselves (`part_numbers`), because no public file says.
LSP_PARTS = (
    ("head", ("neck", "head")),
    ("torso", ("pelvis", "spine1", "spine2", "spine3", "left_collar", "right_collar")),
    ("right leg", ("right_hip", "right_knee", "right_ankle", "right_foot")),
    ("left leg", ("left_hip", "left_knee", "left_ankle", "left_foot")),
    ("right arm", ("right_shoulder", "right_elbow", "right_wrist", "right_hand")),
    ("left arm", ("left_shoulder", "left_elbow", "left_wrist", "left_hand")),
)


def image_scores(
    prediction: Prediction,
    truth: GroundTruth,
    sequence: EvalSequence,
    protocol: EvalProtocol,
    bodies: Bodies,
    models: Models,
) -> Scores:
    """The protocol's metrics in the image of one person. InputError where the truth lacks what it needs."""
    counted = counted_frames(truth, protocol, bodies)
    frames = len(counted)
    joints_c = np.full((frames, 24, 3), np.nan, np.float32)
    parts = np.full((frames, 9, 3, 3), np.nan, np.float32)
    scores = Scores(counted, prediction.found.copy(), {}, joints_c, parts)
    if prediction.rotations is None and prediction.found.any():
        raise InputError(f"protocol {protocol.name} needs bodies with their place in the camera, found joints alone")
    cameras = [_camera(sequence, int(f), models) for f in truth.frame_indices]
    if "silhouette" in protocol.metrics:
        _labels(scores, prediction, truth, bodies, cameras)
    else:
        _keypoints(scores, prediction, truth, protocol, bodies, cameras)
    return scores


def _camera(sequence: EvalSequence, frame: int, models: Models) -> Camera:
    if isinstance(sequence.frames, tuple):
        try:
            with Image.open(sequence.frames[frame]) as image:
                return camera_of(sequence, frame, image.width, image.height, models)
        except OSError as error:
            raise InputError(f"{sequence.frames[frame]}: cannot be read ({error.strerror or error})") from error
    if isinstance(sequence.camera, Camera):
        return sequence.camera
    raise InputError(f"{sequence.name}: its camera is not known and there are no single images to assume it from")


def _stretches(prediction: Prediction, counted: np.ndarray) -> list[np.ndarray]:
    return stretches(np.nonzero(prediction.found & counted)[0])


def _keypoints(
    scores: Scores,
    prediction: Prediction,
    truth: GroundTruth,
    protocol: EvalProtocol,
    bodies: Bodies,
    cameras: list[Camera],
) -> None:
    if truth.keypoints_2d is None or truth.keypoint_skeleton is None:
        raise InputError(f"protocol {protocol.name} wants 2D keypoints, the truth of {truth.person} has none")
    names = tuple("neck" if n == "upper_neck" else n for n in truth.keypoint_skeleton.joints)
    predicted = np.full((len(scores.counted), len(names), 2), np.nan)
    for rows in _stretches(prediction, scores.counted):
        vertices, joints, _ = predicted_meshes(prediction, bodies, rows)
        scores.joints_c[rows] = joints
        transl = None if prediction.transl_c is None else prediction.transl_c[rows]
        points = bodies.points(bodies.predicted, vertices, joints, names, "named", transl)
        for row, places in zip(rows, points, strict=True):
            predicted[row] = project(cameras[row], places)
    unknown = [n for n in names if not bodies.knows(bodies.predicted, n, "named")]
    if unknown:
        bodies.note(f"keypoints that the body does not have count as missing: {', '.join(unknown)}")
    true = truth.keypoints_2d.astype(np.float64)
    scores.pooled.update({"predicted_2d": predicted, "true_2d": true, "boxes_xyxy": truth.boxes_xyxy})
    scores.pooled.update({f"fact_{name}": np.asarray(values) for name, values in truth.facts.items()})
    if "hidden_2d_px" in protocol.metrics:
        hidden, visible = true[..., 2] == 1, true[..., 2] == 2
        known = np.isfinite(predicted).all(-1)
        true = np.where(np.isfinite(true), true, 0)
        values = {"hidden_2d_px": metrics.error_px_per_frame(predicted, true, hidden & known)}
        if "head_size_px" in truth.facts:
            heads = np.asarray(truth.facts["head_size_px"], np.float64)
            for name, select in (("hidden_pckh_percent", hidden), ("visible_pckh_percent", visible)):
                hits = metrics.pck_2d_per_joint(predicted, true, heads, 0.5, select)
                scores.pooled[name + "_hits"] = np.where(np.isfinite(heads)[:, None], hits, np.nan)
        scores.values.update({k: np.where(scores.counted, v, np.nan) for k, v in values.items()})
    elif "area_px2" in truth.facts:
        sigmas = metrics.CROWDPOSE_SIGMAS if len(names) == 14 else metrics.COCO_SIGMAS
        oks = metrics.oks(predicted, np.nan_to_num(true), np.asarray(truth.facts["area_px2"], np.float64), sigmas)
        scores.values["oks_percent"] = np.where(scores.counted, 100 * oks, np.nan)


def _labels(scores: Scores, prediction: Prediction, truth: GroundTruth, bodies: Bodies, cameras: list[Camera]) -> None:
    """Confusion counts of silhouettes (T,2,2) and parts (T,7,7), ignored pixels (T,7), and each image's accuracy."""
    frames = len(scores.counted)
    silhouettes, parts = np.zeros((frames, 2, 2), np.int64), np.zeros((frames, 7, 7), np.int64)
    ignored = np.zeros((frames, 7), np.int64)
    accuracy = np.full(frames, np.nan)
    labels = part_numbers(truth, bodies)[part_of_faces(bodies.predicted)]
    for row in np.nonzero(scores.counted)[0]:
        drawn = None
        if prediction.found[row]:
            vertices, joints, _ = predicted_meshes(prediction, bodies, np.array([row]))
            scores.joints_c[row] = joints[0]
            drawn = draw_labels(vertices[0], bodies.predicted.faces, labels, cameras[row])
        for paths, kind in ((truth.silhouettes, "silhouette"), (truth.parts, "parts")):
            path = None if paths is None else paths[row]
            if path is None:
                continue
            true = np.array(Image.open(path))
            true = true[..., 0] if true.ndim == 3 else true
            made = np.zeros(true.shape, np.int64) if drawn is None else drawn
            if made.shape != true.shape:
                raise InputError(f"{path}: labels of {true.shape[::-1]}, but its image is {made.shape[::-1]}")
            if kind == "silhouette":
                counts = metrics.silhouette_counts(made, true)
                silhouettes[row] = counts.confusion
                accuracy[row] = 100 * counts.accuracy
            else:
                counts = metrics.part_counts(made, true)
                parts[row], ignored[row] = counts.confusion, counts.ignored
    scores.pooled.update({"silhouette_confusion": silhouettes, "part_confusion": parts, "part_ignored": ignored})
    scores.values["silhouette_accuracy_percent"] = accuracy


def part_of_faces(body: Body) -> np.ndarray:
    """Part 1 to 6 of each face (F,): of the joint that moves its corners most."""
    part_of_joint = np.zeros(24, np.int64)
    for number, (_, joints) in enumerate(LSP_PARTS, 1):
        part_of_joint[SMPL_24.indices(*joints)] = number
    weights = body.weights.cpu().numpy()
    return part_of_joint[weights[body.faces].sum(1).argmax(-1)]


# Places that lie on a part for sure: halfway between two joints of LSP.
_ON_PART = (
    ("neck", "head_top"), ("left_shoulder", "right_hip"), ("right_knee", "right_ankle"), ("left_knee", "left_ankle"),
    ("right_elbow", "right_wrist"), ("left_elbow", "left_wrist"),
)  # fmt: skip


def part_numbers(truth: GroundTruth, bodies: Bodies, images: int = 100) -> np.ndarray:
    """(7,): the label that each of `LSP_PARTS` has in the dataset's files, 0 for the background.

    By vote: the label that most images have halfway along the forearm, the shin and so on. The order of `LSP_PARTS`
    where that does not give six different numbers.
    """
    votes = np.zeros((7, 7), np.int64)
    skeleton = truth.keypoint_skeleton
    if truth.parts is not None and truth.keypoints_2d is not None and skeleton is not None:
        rows = [r for r, path in enumerate(truth.parts) if path is not None][:images]
        for row in rows:
            labels = np.array(Image.open(truth.parts[row] or ""))
            labels = labels[..., 0] if labels.ndim == 3 else labels
            for part, (a, b) in enumerate(_ON_PART, 1):
                ends = truth.keypoints_2d[row, skeleton.indices(a, b)]
                if (ends[:, 2] == 2).all():
                    x, y = ends[:, :2].mean(0).astype(int)
                    if 0 <= y < labels.shape[0] and 0 <= x < labels.shape[1] and 0 < labels[y, x] < 7:
                        votes[part, labels[y, x]] += 1
    chosen = np.r_[0, votes[1:, 1:].argmax(1) + 1]
    if len(set(chosen.tolist())) < 7 or (votes[1:].sum(1) == 0).any():
        bodies.note("the parts' numbers could not be read off the labels: " + ", ".join(p for p, _ in LSP_PARTS))
        return np.arange(7)
    return chosen


def draw_labels(vertices_c: np.ndarray, faces: np.ndarray, labels: np.ndarray, camera: Camera) -> np.ndarray:
    """Label of the face that each pixel sees (H,W), 0 where none."""
    from hmrkit.rendering.rasteriser import visible_fragments

    found = visible_fragments(
        torch.from_numpy(vertices_c[None]),
        torch.from_numpy(np.asarray(faces, np.int64)),
        torch.from_numpy(camera.focal_px),
        torch.from_numpy(camera.center_px),
        (camera.height, camera.width),
        cull_back=True,
    )
    image = np.zeros(camera.height * camera.width, np.int64)
    image[found.pixel.numpy()] = labels[found.face.numpy()]
    return image.reshape(camera.height, camera.width)
