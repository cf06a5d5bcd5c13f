"""GLNet's recipe: global estimate and grid together, on images and, for the global part, on synthetic landmarks.

The backbone that ships is trained already and stays as it is; one without shipped weights is trained, too."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hmrkit.members import unknown
from hmrkit.regressors.glnet import GlnetNetwork, build
from hmrkit.training.ablation import Variant
from hmrkit.training.example_source import ImageData
from hmrkit.training.glnet_matching import MatchedLoss, Matching
from hmrkit.training.loop import LoopConfig
from hmrkit.training.recipe import RegressorRecipe, changed
from hmrkit.training.regressors import on_shipped_backbone, train_supervised

EXTRAS = ("rotations",)
ROTATIONS = ("direct", "swing-twist")


@dataclass(frozen=True, kw_only=True)
class GlnetRecipe(RegressorRecipe):
    """`matching`: which cells of the grid learn, and the weights of what they learn."""

    network: GlnetNetwork = field(default_factory=GlnetNetwork)
    matching: Matching = field(default_factory=Matching)


PRESETS: dict[str, GlnetRecipe] = {
    "cpu": GlnetRecipe(
        loop=LoopConfig(steps=3_500, learning_rate=1e-3, weight_decay=0.04, log_every=50),
        data=ImageData(images=81_920),
    ),
    "gpu": GlnetRecipe(
        loop=LoopConfig(steps=20_000, learning_rate=1e-3, warmup=500, weight_decay=0.04, log_every=200),
        matching=Matching(bodies=20),
        data=ImageData(batch=256),
    ),
}


def train(
    name: str,
    recipe: GlnetRecipe,
    out: str | Path,
    *,
    rotations: str | None = None,
    **rest: Any,
) -> Path:
    """See `hmrkit.training.recipes.Recipe`. `rotations` instead of the recipe's own: one of `ROTATIONS`."""
    if rotations not in (None, *ROTATIONS):
        raise unknown("--rotations", rotations, ROTATIONS)
    if rotations:
        recipe = changed(recipe, {"network.rotations": rotations})
    regressor = on_shipped_backbone(build, name, recipe)
    return train_supervised(regressor, recipe, out, loss=MatchedLoss(recipe.matching), **rest)


def _printed(*figures: float) -> dict[str, float]:
    """A line of the paper's tables."""
    names = ("3DPW PA-MPJPE mm", "3DPW MPJPE mm", "3DPW PVE mm", "Human3.6M PA-MPJPE mm", "Human3.6M MPJPE mm")
    return dict(zip(names, figures, strict=True))


_OWN = _printed(39.7, 66.3, 77.7, 29.8, 47.5)
_DIRECT = {"network.rotations": "direct"}

# Tables 2, 4, 5 and 6. Table 3 compares with part segmentation and IUV maps, of which the kept examples have none.
ABLATION: tuple[Variant, ...] = (
    Variant(
        "components", "global estimate alone", {**_DIRECT, "network.local": "none"},
        _printed(49.6, 76.9, 88.0, 36.4, 54.3),
    ),
    Variant(
        "components", "local encoding (central cells positive)", {**_DIRECT, "matching.cost": "centre"},
        _printed(43.7, 74.3, 82.3, 32.7, 52.9),
    ),
    Variant(
        "components", "dynamic matching (features of the cell)", {**_DIRECT, "network.local": "cell"},
        _printed(43.5, 73.1, 81.2, 33.5, 53.3),
    ),
    Variant("components", "both, direct rotations", _DIRECT, _printed(40.8, 68.7, 79.7, 30.6, 48.4)),
    Variant("components", "both, swing and twist", paper=_OWN),
    Variant("refined", "none (global)", {"network.local": "none"}, _printed(45.5, 73.9, 84.2, 33.2, 53.5)),
    Variant(
        "refined", "shape, rotations, camera", {"network.refined": "rotations+shape+camera"},
        _printed(42.7, 71.2, 83.4, 33.8, 52.1),
    ),
    Variant(
        "refined", "shape, rotations", {"network.refined": "rotations+shape"}, _printed(40.6, 68.2, 79.4, 30.6, 48.3)
    ),
    Variant("refined", "rotations", paper=_OWN),
    *(
        Variant("T", str(count), {"matching.positives": count}, {"3DPW MPJPE mm": mpjpe, "3DPW PVE mm": pve})
        for count, mpjpe, pve in (
            (1, 70.5, 81.1), (10, 67.4, 77.5), (20, 66.3, 77.7), (50, 66.5, 77.9), (100, 68.4, 79.5)
        )
    ),
    Variant("cost", "classification, 2D keypoints", paper=_OWN),
    Variant(
        "cost", "classification, 2D keypoints, depth", {"matching.cost": "2d+depth"},
        _printed(42.3, 70.4, 80.2, 31.5, 50.3),
    ),
    Variant(
        "cost", "classification, 2D keypoints, depth, rotations", {"matching.cost": "2d+depth+rotations"},
        _printed(41.2, 71.3, 80.6, 30.6, 48.0),
    ),
)  # fmt: skip
