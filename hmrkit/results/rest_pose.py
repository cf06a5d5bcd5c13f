"""Where the pelvis is in the rest pose of the bodies that results are of: SMPL's files need not be there for it."""

from __future__ import annotations

import numpy as np

# m from the body's origin, for the mean shape of the neutral bodies, to a centimetre; a shape moves it by a few.
PELVIS = {"smpl": np.array([0.0, -0.23, 0.03]), "smplx": np.array([0.0, -0.35, 0.01])}
