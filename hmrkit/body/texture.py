"""Where the corners of a body's faces lie in a texture: the free body has the charts of MakeHuman's base mesh (CC0)."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from hmrkit.weights import find_weights, verify

if TYPE_CHECKING:
    from hmrkit.body.model import Body

_ATLAS = "synthetic/atlas.npz"


def texture_coordinates(body: Body) -> np.ndarray | None:
    """(F,3,2) float32 in 0..1, u to the right and v upwards, of the corners of `body.faces`; None for a body without.

    SMPL's files hold none. WeightsError where the free body's are missing or damaged.
    """
    return _coordinates(body.topology_id) if body.family == "hmrkit" else None


@cache
def _coordinates(topology_id: str) -> np.ndarray | None:
    verify(_ATLAS)
    with np.load(find_weights(_ATLAS), allow_pickle=False) as atlas:
        return atlas["uv"].astype(np.float32) if str(atlas["model_id"]) == topology_id else None
