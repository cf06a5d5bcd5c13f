"""How far the lifted and the direct pose err, joint by joint: measured by ``hmrkit train uncertainty``.

The file (JSON) has an entry for each pair of a lifter and a keypoint estimator, by name::

    {"videopose3d, blazepose-heavy": {"frames": 4000, "measured_on": ..., "joints": {
        "left_knee": {"lifted_mm": [24.1, 38.0], "direct_mm": [19.5, 41.2], "correlation": [0.61, 0.35]}, ...}}}

Two numbers each: along an axis of the image plane, and in depth. Errors are root mean squares about the pelvis, of
poses brought to the true size; the correlation says how far both err the same way.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from hmrkit.errors import WeightsError
from hmrkit.files import atomic_path, sha256_of
from hmrkit.skeletons import Skeleton
from hmrkit.weights import find_weights

WEIGHTS = "calibration/pose3d_uncertainty.json"
_FIELDS = ("lifted_mm", "direct_mm", "correlation")


@dataclass(frozen=True)
class PoseUncertainty:
    """Errors of two pose streams by joint name: `lifted_mm`, `direct_mm` and `correlation`, each (image, depth)."""

    joints: dict[str, dict[str, tuple[float, float]]]
    weights_sha256: str = ""

    def direct_share(self, skeleton: Skeleton) -> np.ndarray:
        """(J,3) in [0, 1]: the direct pose's share along x, y and z in the best mean of both, 0 where a joint was not
        measured.

        Of two unbiased estimates with variances a and b and covariance c, the mean of least variance has (a - c) /
        (a + b - 2 c) of the second; shares beyond [0, 1] are held there.
        """
        shares = np.zeros((len(skeleton), 3), np.float32)
        for i, name in enumerate(skeleton.joints):
            if name in self.joints:
                lifted, direct, same = (np.asarray(self.joints[name][field], float) for field in _FIELDS)
                covariance = same * lifted * direct
                spread = (lifted**2 + direct**2 - 2 * covariance).clip(1e-9)
                shares[i] = ((lifted**2 - covariance) / spread).clip(0, 1)[[0, 0, 1]]
        return shares


def pair_name(lifter: str, keypoints: str) -> str:
    """What the file calls a lifter with a keypoint estimator."""
    return f"{lifter}, {keypoints}"


@cache
def is_measured(lifter: str, keypoints: str) -> bool:
    """Whether the weights that are found here have the errors of that pair."""
    try:
        load_uncertainty(lifter, keypoints)
    except WeightsError:
        return False
    return True


def load_uncertainty(lifter: str, keypoints: str, path: str | Path = WEIGHTS) -> PoseUncertainty:
    """What was measured of that pair; WeightsError where it was not, or where the file is none of ours."""
    found = find_weights(path)
    try:
        entries = json.loads(found.read_text(encoding="utf-8"))
        entry = entries.get(pair_name(lifter, keypoints))
        if entry is not None:
            joints = {name: {key: tuple(facts[key]) for key in _FIELDS} for name, facts in entry["joints"].items()}
            return PoseUncertainty(joints, sha256_of(found))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{found}: wanted errors of joints as `hmrkit train uncertainty` writes them") from error
    measured = "; ".join(name for name, entry in entries.items() if "joints" in entry)
    raise WeightsError(
        f"{found}: has no errors of --lifter {lifter} with --keypoints {keypoints}, only of {measured}; "
        f"measure them: hmrkit train uncertainty --dataset synthetic-video --data FOLDER --lifter {lifter} "
        f"--keypoints {keypoints}"
    )


def save_entry(path: str | Path, name: str, entry: dict[str, Any]) -> None:
    """Write the entry of a pair of streams (its errors, and how they were measured) into the file; other pairs stay."""
    path = Path(path)
    entries = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    entries[name] = entry
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(entries, indent=1, sort_keys=True) + "\n", encoding="utf-8")
