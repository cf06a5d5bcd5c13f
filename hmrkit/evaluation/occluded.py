"""HKMR's test of robustness (``--occlude``): one joint of everybody is covered, and the whole evaluation is run again.

For every joint and degree the images are written with the cover on them and go through the very same chain. The
results are files like any others, below ``occlusion_KIND``, so that an interrupted test goes on where it stopped.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import Image

from hmrkit import metrics
from hmrkit.camera import project
from hmrkit.datasets import EvalSequence, GroundTruth
from hmrkit.errors import HmrkitError, UsageError
from hmrkit.evaluation.occlusion import DEGREES, KINDS, Kind, OcclusionCurve, bar_angle, occlude, save_curves_png
from hmrkit.evaluation.predicting import true_box
from hmrkit.evaluation.protocols import EvalProtocol
from hmrkit.evaluation.runner import (
    Entry,
    EvalOptions,
    ProgressBar,
    claim,
    load_entries,
    prepare,
    run_sequence,
    silent,
)
from hmrkit.evaluation.score_files import read_record, read_scores
from hmrkit.evaluation.sequence_images import images_of
from hmrkit.evaluation.subsets import limited
from hmrkit.files import atomic_path
from hmrkit.members import unknown
from hmrkit.skeletons import LSP_14
from hmrkit.types import Camera

log = logging.getLogger(__name__)

METRIC = "mpjpe_mm"
BOX_EXPAND = 1.25  # from a person's box to the square that a network sees


def evaluate_occluded(
    options: EvalOptions, kind: str, degrees: str, progress: ProgressBar = silent
) -> tuple[list[Path], dict[str, Any]]:
    """Run the test; returns the files written (the curves as PNG and JSON) and the JSON's content.

    `degrees` are numbers 1 to 5 with commas. UsageError for other kinds and degrees, for a protocol without MPJPE, and
    for results made elsewhere, which have not seen the covered images.
    """
    chosen_kind = cast(Kind, kind)
    if kind not in KINDS:
        raise unknown("--occlude", kind, KINDS)
    chosen = _degrees(degrees)
    protocol, dataset = prepare(options)
    if METRIC not in protocol.metrics:
        raise UsageError(
            f"--occlude measures MPJPE, which protocol {protocol.name} does not; choose another --protocol"
        )
    if options.predictions:
        raise UsageError("--occlude runs methods on covered images; --predictions cannot be tested so")
    entries = load_entries(options)
    claim(options, protocol)
    base = options.out / f"occlusion_{kind}"
    records = {entry.label: entry.record(options, protocol) for entry in entries}
    files: dict[tuple[str, int, str], list[Path]] = {}
    names: list[str] = []
    for sequence in limited(dataset.sequences(), options.limit):
        points = [joint_pixels(truth, sequence) for truth in sequence.people]
        names = names or sorted(set().union(*points), key=LSP_14.joints.index)
        for degree in (0, *chosen):
            for joint in names if degree else ("clean",):
                with _covered(sequence, points, joint, chosen_kind, degree) as changed:
                    for entry in entries:
                        path = base / entry.folder / f"{sequence.name}_{joint}_{degree}.npz"
                        record = {
                            **records[entry.label],
                            "frames": sequence.frame_count,
                            "cover": [kind, joint, degree],
                        }
                        if _done(entry, changed, protocol, options, path, record, progress):
                            files.setdefault((entry.label, degree, joint), []).append(path)
    curves = {entry.label: _curve(entry.label, files, chosen_kind, chosen, names) for entry in entries}
    image = options.out / f"occlusion_{kind}.png"
    save_curves_png(curves, image)
    summary = {
        "dataset": options.dataset,
        "protocol": protocol.name,
        "kind": kind,
        "degrees": list(chosen),
        "joints": names,
        "methods": {
            label: {
                "clean_mm": round(curve.clean, 3),
                "mean_mm": np.round(curve.mean, 3).tolist(),
                "by_joint_mm": np.round(curve.errors, 3).tolist(),
            }
            for label, curve in curves.items()
        },
    }
    data = image.with_suffix(".json")
    with atomic_path(data) as temporary:
        temporary.write_text(json.dumps(summary, indent=1) + "\n")
    return [image, data], summary


def joint_pixels(truth: GroundTruth, sequence: EvalSequence) -> dict[str, np.ndarray]:
    """Where a person's joints are in the images: name -> (T,2) px, annotated ones first, else projected."""
    found: dict[str, np.ndarray] = {}
    if truth.joints_c is not None and truth.skeleton is not None and sequence.camera is not None:
        cameras = sequence.camera
        rows = range(len(truth.valid))
        each = [cameras if isinstance(cameras, Camera) else cameras[int(truth.frame_indices[r])] for r in rows]
        pixels = np.stack([project(camera, truth.joints_c[r]) for r, camera in zip(rows, each, strict=True)])
        found |= {n: pixels[:, k] for n, k in truth.skeleton.index.items() if n in LSP_14.index}
    if truth.keypoints_2d is not None and truth.keypoint_skeleton is not None:
        for name, k in truth.keypoint_skeleton.index.items():
            if name in LSP_14.index:
                found[name] = np.where(truth.keypoints_2d[:, k, 2:] > 0, truth.keypoints_2d[:, k, :2], np.nan)
    return found


@contextmanager
def _covered(
    sequence: EvalSequence, points: list[dict[str, np.ndarray]], joint: str, kind: Kind, degree: int
) -> Iterator[EvalSequence]:
    """The sequence with the joint covered in all its images, which are gone afterwards; degree 0: as it is."""
    if degree == 0:
        yield sequence
        return
    with tempfile.TemporaryDirectory(prefix="hmrkit-covered-") as name:
        paths = []
        for frame, image in images_of(sequence):
            for truth, of in zip(sequence.people, points, strict=True):
                rows = np.nonzero(truth.frame_indices == frame)[0]
                if len(rows) and joint in of:
                    height, width = image.shape[:2]
                    box = np.array([0, 0, width, height]) if sequence.cropped else true_box(truth, int(rows[0]))
                    expand = 1.0 if sequence.cropped else BOX_EXPAND
                    angle = bar_angle(LSP_14.index[joint])
                    image = occlude(image, of[joint][rows[0]], box, kind, degree, angle, expand)
            paths.append(Path(name) / f"{frame:06d}.png")
            Image.fromarray(image).save(paths[-1], compress_level=1)
        yield replace(sequence, frames=tuple(paths))


def _done(
    entry: Entry,
    sequence: EvalSequence,
    protocol: EvalProtocol,
    options: EvalOptions,
    path: Path,
    record: dict[str, Any],
    progress: ProgressBar,
) -> bool:
    if not options.overwrite and read_record(path) == record:
        return True
    try:
        with progress(f"{entry.label} {path.stem}") as report:
            run_sequence(entry, sequence, protocol, options, path, record, 0, report)
    except HmrkitError as error:
        log.warning("%s: %s: %s", entry.label, path.stem, error)
        return False
    return True


def _curve(
    label: str, files: dict[tuple[str, int, str], list[Path]], kind: Kind, degrees: tuple[int, ...], names: list[str]
) -> OcclusionCurve:
    def error(degree: int, joint: str) -> float:
        values = [p[METRIC] for path in files.get((label, degree, joint), []) for p in read_scores(path)[1]]
        return metrics.mean_known(np.concatenate(values)) if values else float("nan")

    errors = np.array([[error(degree, joint) for joint in names] for degree in degrees])
    return OcclusionCurve(kind, degrees, tuple(names), errors, error(0, "clean"))


def _degrees(text: str) -> tuple[int, ...]:
    try:
        degrees = tuple(sorted({int(word) for word in text.split(",")}))
    except ValueError:
        degrees = ()
    if not degrees or not set(degrees) <= set(DEGREES):
        raise UsageError(f"--degree wants numbers from 1 to 5 with commas, got {text!r}")
    return degrees
