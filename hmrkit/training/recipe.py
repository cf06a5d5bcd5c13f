"""What a regressor is trained by: its sizes, data, losses and loop, as one dataclass that the weights file keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, TypeVar

from hmrkit.errors import UsageError
from hmrkit.members import unknown
from hmrkit.training.example_source import ImageData
from hmrkit.training.kept_examples import SHARD
from hmrkit.training.loop import LoopConfig
from hmrkit.training.losses import LossWeights

R = TypeVar("R", bound="RegressorRecipe")


@dataclass(frozen=True)
class Losses:
    """Weights of the body's loss; its mesh counts once in `mesh_every` steps, because it costs ten times what the
    joints do and adds little to them. Weights of HMR's adversarial prior and of SPIN's fitted clips (once in
    `clips_every`)."""

    body: LossWeights = field(default_factory=LossWeights)
    mesh_every: int = 16
    adversary: float = 0.05
    clips: float = 0.5
    clips_every: int = 2


@dataclass(frozen=True, kw_only=True)
class RegressorRecipe:
    """The fields that every recipe has. A regressor's own adds `network`, a frozen dataclass of plain values beside the
    network's code that says how to build it, and what else it needs."""

    loop: LoopConfig
    network: Any
    data: ImageData = field(default_factory=ImageData)
    losses: Losses = field(default_factory=Losses)

    def with_steps(self: R, steps: int) -> R:
        """The same for at most so many steps of each loop. A short run keeps fewer images, in proportion: making all of
        them would take hours for its minutes."""
        loops = {f.name: value for f in fields(self) if isinstance(value := getattr(self, f.name), LoopConfig)}
        shorter = {name: loop.with_steps(min(loop.steps, steps)) for name, loop in loops.items()}
        share = max(shorter[name].steps / loops[name].steps for name in loops)
        images = min(self.data.images, max(SHARD, int(self.data.images * share)))
        return replace(self, **shorter, data=replace(self.data, images=images))


def choose_recipe(presets: Mapping[str, R], preset: str, steps: int | None = None, images: int | None = None) -> R:
    """A preset with the numbers that were asked for instead of its own. UsageError lists the known ones."""
    if preset not in presets:
        raise unknown("preset", preset, presets)
    recipe = presets[preset]
    recipe = recipe.with_steps(steps) if steps else recipe
    return recipe if images is None else replace(recipe, data=replace(recipe.data, images=images))


def changed(recipe: Any, changes: Mapping[str, Any]) -> Any:
    """A recipe with other values at dotted places: ``{"network.hidden": 512, "loop.seed": 1}``."""
    for place, value in changes.items():
        name, _, rest = place.partition(".")
        part = getattr(recipe, name)
        if rest and not is_dataclass(part):
            raise UsageError(f"{place}: {name} has no parts")
        recipe = replace(recipe, **{name: changed(part, {rest: value}) if rest else value})
    return recipe
