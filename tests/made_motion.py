"""The excerpt of motion capture that the tests carry, with a training split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from conftest import DATA

EXCERPT = DATA / "motion_excerpt.npz"


def both_splits(path: Path) -> Path:
    """The excerpt as a motion file whose first clip belongs to the training split."""
    whole = np.load(EXCERPT)
    names = ["cmu_daz_01-09/02/a.bvh", *whole["clips"].tolist()[1:]]
    np.savez(path, **{key: whole[key] for key in whole.files if key != "clips"}, clips=names)
    return path
