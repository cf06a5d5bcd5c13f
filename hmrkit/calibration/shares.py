"""How much of a bone's direction the lifted pose and the keypoints' rays have beside the mesh stream: what each of them
errs decides, piece by piece, in the image plane and in depth (measured by ``hmrkit train uncertainty --mesh ...``).

The file is that of `hmrkit.calibration.pose_uncertainty`; an entry for each pair of a mesh and a pose stream, by name::

    {"hmr with lifted, videopose3d, blazepose-heavy": {"frames": 900, "bones": {
        "knee": {"image": [[19.4, 9.2, 7.8], [...], [...]], "depth": [[...], [...], [...]], "frames": 800,
                 "hidden": {"frames": 100, "mesh_deg": 24.5, "pose_deg": 21.3}}, ...}}}

`image` and `depth` are mean products, in square degrees, of the errors of mesh, lifted pose and rays: rotations from
the true direction, about the camera's z axis and across it. A bone is named by the joint at its end, both sides
together. Only keypoints in sight count; what is hidden has no share (`hidden` says how both err there)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from hmrkit.calibration.bone_rotations import PIECES
from hmrkit.calibration.pose_uncertainty import WEIGHTS
from hmrkit.errors import WeightsError
from hmrkit.files import sha256_of
from hmrkit.weights import find_weights

AXES = ("image", "depth")
# Of streams that were not measured, from those that were: a lifted forearm is no better than a mesh's, and keypoints of
# hips and shoulders do not rotate the trunk. Of the lifted pose half of what its errors alone would give it: they are
# much like the mesh's, and on held-out clips (17 people) this half is best for both ``hmr`` and ``fit``.
_DEFAULTS: dict[str, tuple[tuple[float, float], tuple[float, float]]] = {  # lifted, rays; each in the image, in depth
    "pelvis": ((0.3, 0.15), (0.0, 0.0)),
    "chest": ((0.2, 0.15), (0.0, 0.0)),
    "knee": ((0.15, 0.25), (0.3, 0.0)),
    "ankle": ((0.15, 0.15), (0.3, 0.0)),
    "elbow": ((0.15, 0.15), (0.4, 0.0)),
    "wrist": ((0.05, 0.0), (0.2, 0.0)),
}


@dataclass(frozen=True)
class Shares:
    """Shares in [0, 1] of `PIECES`, each (image, depth): `lifted` (10,2) and `rays` (10,2) in the mean of all three."""

    lifted: np.ndarray
    rays: np.ndarray
    weights_sha256: str = "default shares"


def default_shares() -> Shares:
    """Those of streams that were not measured."""
    table = np.array([_DEFAULTS[_both(name)] for name in PIECES])
    return Shares(table[:, 0], table[:, 1])


def best_mean(products: np.ndarray) -> np.ndarray:
    """Weights (n,) of the mean of n estimates of least variance, by the mean products (n,n) of their errors.

    With C of full rank it has C^-1 1, scaled to sum 1; where that has negative weights, the best of fewer estimates."""
    count = len(products)
    # Errors measured on few frames correlate by chance: a little of its own for each.
    covariance = products + np.diag(0.05 * products.diagonal() + 1e-9)
    best, least = np.eye(count)[0], np.inf
    for size in range(1, count + 1):
        for some in combinations(range(count), size):
            part = np.linalg.solve(covariance[np.ix_(some, some)], np.ones(size))
            if (part >= 0).all() and 1 / part.sum() < least:
                best, least = np.zeros(count), 1 / part.sum()
                best[list(some)] = part / part.sum()
    return best


def stream_names(mesh: str, pose: str) -> str:
    """What the file calls a mesh stream with a pose stream."""
    return f"{mesh} with {pose}"


def load_shares(mesh: str, pose: str, path: str | Path = WEIGHTS) -> Shares:
    """The shares of a mesh and a pose stream, `default_shares` where they were not measured. WeightsError where the
    file is none of ours."""
    try:
        found = find_weights(path)
    except WeightsError:
        return default_shares()
    try:
        entry = json.loads(found.read_text(encoding="utf-8")).get(stream_names(mesh, pose))
        if entry is None:
            return default_shares()
        return shares_of(entry["bones"], sha256_of(found))
    except (ValueError, KeyError, TypeError, AttributeError, np.linalg.LinAlgError) as error:
        raise WeightsError(f"{found}: wanted errors of bones as `hmrkit train uncertainty` writes them") from error


def shares_of(bones: dict[str, Any], sha256: str = "") -> Shares:
    """Shares of measured errors; those of a bone that was not measured are the default."""
    made = default_shares()
    for i, name in enumerate(PIECES):
        if _both(name) in bones:
            for k, axis in enumerate(AXES):
                _, made.lifted[i, k], made.rays[i, k] = best_mean(np.asarray(bones[_both(name)][axis], float))
    return Shares(made.lifted, made.rays, sha256)


def _both(name: str) -> str:
    """A piece's name without its side."""
    return name.removeprefix("left_").removeprefix("right_")
