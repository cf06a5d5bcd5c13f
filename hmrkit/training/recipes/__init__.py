"""Recipes: how the networks that ship are trained, one module each.

How to add one for a regressor: write a module, or take the network's own, and name it as `recipe` in the regressor's
line of `REGRESSORS`. ``hmrkit train NAME`` then exists. The module has

- ``PRESETS``: recipes by name, ``cpu`` and ``gpu``. Each is a `hmrkit.training.recipe.RegressorRecipe`, mostly of a
  subclass of its own. It is stored in the weights file as JSON, and `load` rebuilds the network from its `network` part
  (`hmrkit.regressors.files`);
- ``EXTRAS: tuple[str, ...]``, which of ``clips`` (SPIN's loop on unlabelled videos), ``tune_points`` (train the
  integral head of the file to start from, too), ``adversarial`` (HMR's prior) and ``rotations`` (GLNet's two kinds) it
  has;
- ``train(name, recipe, out, *, device, resume, start, examples, run) -> Path`` (`Recipe`), which ends in
  ``out/<name>.safetensors``, with its extras as further keywords.

An ordinary regressor's `train` builds the network and calls `hmrkit.training.regressors.train_supervised`, as long as
ten lines. A lifter's recipe is a subclass of `hmrkit.training.lifter.LifterRecipe`, presets and a `train` that calls
`hmrkit.training.lifter.train_ray_network`; `hmrkit.training.recipes.videopose3d` is the pattern. Nothing here imports
torch; a recipe's module is imported when it is run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from hmrkit.lifters import LIFTERS
from hmrkit.members import Member
from hmrkit.regressors import REGRESSORS

if TYPE_CHECKING:
    import torch

    from hmrkit.training.recipe import RegressorRecipe


class Recipe(Protocol):
    """A regressor's recipe, a module (see above)."""

    PRESETS: dict[str, Any]
    EXTRAS: tuple[str, ...]

    def train(
        self,
        name: str,
        recipe: RegressorRecipe,
        out: str | Path,
        *,
        device: str | torch.device = "cpu",
        resume: bool = False,
        start: str | Path | None = None,
        examples: str | Path | None = None,
        run: dict[str, Any] | None = None,
        **extras: Any,
    ) -> Path:
        """Train the regressor `name` by `recipe` and return the path of its weights.

        `resume` goes on from the checkpoints in `out`. `start` begins from a trained regressor's file. `examples` is a
        folder of `hmrkit train examples`, else kept ones lie in ``out/images``. `run`, what was asked for, is stored
        with the weights."""
        ...


def trainable(table: Mapping[str, Member]) -> dict[str, Member]:
    """The members of a table that have a recipe."""
    return {name: member for name, member in table.items() if member.recipe}


RECIPES: dict[str, Member] = trainable(REGRESSORS) | trainable(LIFTERS)
