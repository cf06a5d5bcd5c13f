"""Fewer frames of a dataset: `--limit`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from hmrkit.datasets import EvalSequence, GroundTruth


def limited(sequences: Iterator[EvalSequence], limit: int | None) -> Iterator[EvalSequence]:
    """Sequences until `limit` images were given; the last one is cut short."""
    left = limit
    for sequence in sequences:
        if left is None:
            yield sequence
            continue
        if sequence.frame_count > left:
            sequence = first_frames(sequence, left)
        if sequence.people:
            yield sequence
        left -= sequence.frame_count
        if left <= 0:
            return


def first_frames(sequence: EvalSequence, count: int) -> EvalSequence:
    """The first `count` frames of a sequence; people who are not in them are left out."""
    people = []
    for truth in sequence.people:
        keep = truth.frame_indices < count
        if keep.any():
            people.append(rows_of(truth, keep))
    return replace(sequence, frame_count=count, people=tuple(people))


def rows_of(truth: GroundTruth, keep: np.ndarray) -> GroundTruth:
    """Some rows (T,) bool of a person."""
    rows = np.nonzero(keep)[0]

    def cut(values):
        return None if values is None else values[rows]

    def picked(paths):
        return None if paths is None else tuple(paths[r] for r in rows)

    body = truth.body
    if body is not None:
        body = replace(
            body,
            global_orient=body.global_orient[rows],
            body_pose=body.body_pose[rows],
            betas=body.betas if body.betas.ndim == 1 else body.betas[rows],
            transl=body.transl[rows],
        )
    return replace(
        truth,
        frame_indices=truth.frame_indices[rows],
        valid=truth.valid[rows],
        boxes_xyxy=truth.boxes_xyxy[rows],
        joints_c=cut(truth.joints_c),
        keypoints_2d=cut(truth.keypoints_2d),
        body=body,
        camera_from_world=cut(truth.camera_from_world),
        silhouettes=picked(truth.silhouettes),
        parts=picked(truth.parts),
        facts={key: np.asarray(values)[rows] for key, values in truth.facts.items()},
    )
