"""The recipes of the regressors that ship."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from hmrkit import metrics
from hmrkit.body import Body, load_body
from hmrkit.errors import UsageError
from hmrkit.regressors import BodyEstimate
from hmrkit.regressors.hmr import HmrRegressor, build
from hmrkit.training.examples import Examples, Truth, fresh_examples, load_examples, make_examples
from hmrkit.training.loop import LoopConfig, fit
from hmrkit.weights import load_into, load_state, save_state

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RegressorPreset:
    """Numbers of a recipe. `images` are made once and kept; 0 makes new ones for every step."""

    loop: LoopConfig
    images: int = 0
    batch: int = 64
    hidden: int = 1024
    held_out: int = 1024


PRESETS: dict[str, RegressorPreset] = {
    "cpu": RegressorPreset(
        LoopConfig(steps=12_000, learning_rate=5e-4, warmup=200, log_every=100, slow_part="backbone.", slow_rate=0.3),
        images=40_960,
    ),
    "gpu": RegressorPreset(
        LoopConfig(
            steps=60_000, learning_rate=5e-4, warmup=1000, log_every=200, ema=0.9995,
            slow_part="backbone.", slow_rate=0.3,
        ),
        batch=256,
        hidden=2048,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class LossWeights:
    """Of the terms of `body_loss`; `early` is what the estimates before the last one count."""

    rotations: float = 8.0
    betas: float = 0.02
    joints: float = 5.0
    vertices: float = 5.0
    projection: float = 4.0
    camera: float = 1.0
    early: float = 0.3


def train_regressor(
    name: str,
    out: str | Path,
    preset: str = "cpu",
    steps: int | None = None,
    images: int | None = None,
    device: str | torch.device = "cpu",
    resume: bool = False,
    start: str | Path | None = None,
) -> Path:
    """Train on synthetic images; returns ``out/<name>.safetensors``.

    `steps` and `images` replace the preset's numbers. `resume` goes on from ``out/checkpoint.pt``; kept images in
    ``out/images`` are used again. `start` begins from a trained regressor's file.
    """
    if preset not in PRESETS:
        raise UsageError(f"unknown preset {preset!r}; known: {', '.join(PRESETS)}")
    numbers = PRESETS[preset]
    loop = replace(numbers.loop, steps=steps or numbers.loop.steps)
    images = numbers.images if images is None else images
    out, device = Path(out), torch.device(device)
    torch.manual_seed(loop.seed)
    regressor = build(name, hidden=numbers.hidden).to(device)
    body = load_body(device=device)
    make_examples(out / "held_out", numbers.held_out, regressor.backbone, device, "test")
    held_out = load_examples(out / "held_out", numbers.held_out)
    draw = _Source(regressor, out / "images", images, numbers.batch, device)
    if start is not None:
        load_into(regressor, {key: value.float() for key, value in load_state(start).items()}, start)
    else:
        standardise(regressor, draw)

    def loss(model: nn.Module, generator: torch.Generator) -> Tensor:
        examples = draw(generator)
        with torch.autocast(device.type, torch.bfloat16):
            estimate = model.regress(model.backbone.features(examples.looked))  # type: ignore[operator]
        return body_loss(estimate, examples.truth, body)

    def evaluate(model: nn.Module) -> dict[str, float]:
        return score(model, held_out, body, device)  # type: ignore[arg-type]

    average = fit(regressor, loss, loop, out, evaluate=evaluate, evaluate_every=500, resume=resume)
    path = out / f"{name}.safetensors"
    export_regressor(average, path, {"preset": preset, "images": images, "loop": asdict(loop)})  # type: ignore[arg-type]
    return path


class _Source:
    """Batches of examples: out of kept ones, or new ones each time."""

    def __init__(self, regressor: HmrRegressor, folder: Path, images: int, batch: int, device: torch.device) -> None:
        self.backbone, self.batch, self.device = regressor.backbone, batch, device
        self.kept: Examples | None = None
        if images:
            make_examples(folder, images, self.backbone, device)
            self.kept = load_examples(folder, images)
        else:
            from hmrkit.training.synthetic import SyntheticImages

            self.images = SyntheticImages("train", device=device)

    def __call__(self, generator: torch.Generator) -> Examples:
        if self.kept is None:
            return fresh_examples(self.backbone, self.images, self.batch, generator)
        rows = torch.randint(len(self.kept), (self.batch,), generator=generator)
        return self.kept[rows].to(self.device)


@torch.no_grad()
def standardise(regressor: HmrRegressor, draw: _Source, batches: int = 16) -> None:
    """Set the scale of every feature from some batches."""
    found = [draw(torch.Generator().manual_seed(-1 - k)) for k in range(batches)]
    features = torch.cat([regressor.backbone.features(examples.looked).global_feature for examples in found])
    regressor.feature_mean.copy_(features.mean(0))
    regressor.feature_scale.copy_(1 / features.std(0).clamp_min(1e-3))


def body_loss(estimate: BodyEstimate, truth: Truth, body: Body, weights: LossWeights | None = None) -> Tensor:
    """HMR's and SPIN's supervised terms: rotations, shape, joints and vertices about the pelvis (m), joints in the
    picture, the crop's camera. Distances count linearly, so that a few wrecked samples do not rule a batch."""
    w = weights or LossWeights()
    wanted = body(truth.global_orient, truth.body_pose, truth.betas)
    total = _terms(estimate, truth, wanted.vertices, wanted.joints, body, w)
    for earlier in estimate.iterations:
        total = total + w.early * _terms(earlier, truth, None, wanted.joints, body, w)
    return total


def _terms(
    estimate: BodyEstimate, truth: Truth, vertices: Tensor | None, joints: Tensor, body: Body, w: LossWeights
) -> Tensor:
    pose = body if vertices is not None else body.joints_only
    made = pose(estimate.global_orient, estimate.body_pose, estimate.betas)
    root, wanted_root = made.joints[:, :1], joints[:, :1]
    rotations = torch.cat([estimate.global_orient[:, None], estimate.body_pose], 1)
    wanted_rotations = torch.cat([truth.global_orient[:, None], truth.body_pose], 1)
    projected = project_crop(made.joints, estimate.crop_camera, truth.focal_px)
    off = (projected - truth.joints_2d) / (CROP / 2)
    wanted_camera = crop_camera(truth.transl_c, truth.focal_px)
    total = w.rotations * (rotations - wanted_rotations).square().mean()
    total = total + w.betas * (estimate.betas - truth.betas).square().mean()
    total = total + w.joints * _length((made.joints - root) - (joints - wanted_root))
    total = total + w.projection * _length(off.clamp(-2, 2))
    total = total + w.camera * (estimate.crop_camera - wanted_camera).abs().clamp_max(2).mean()
    if vertices is not None:
        total = total + w.vertices * _length((made.vertices - root) - (vertices - wanted_root))
    return total


CROP = 256


def crop_camera(transl_c: Tensor, focal_px: Tensor, size: int = CROP) -> Tensor:
    """Translations (B,3) m in the crop's camera -> s, tx, ty (B,3); see `BodyEstimate`."""
    return torch.cat([(2 * focal_px / (size * transl_c[:, 2]))[:, None], transl_c[:, :2]], 1)


def project_crop(points: Tensor, camera: Tensor, focal_px: Tensor, size: int = CROP) -> Tensor:
    """Points (B,J,3) m under `crop_camera` (B,3), seen in perspective with `focal_px` (B,) -> (B,J,2) crop px."""
    depth = 2 * focal_px / (size * camera[:, 0].clamp_min(0.05))
    moved = points + torch.stack([camera[:, 1], camera[:, 2], depth], -1)[:, None]
    return focal_px[:, None, None] * moved[..., :2] / moved[..., 2:].clamp_min(0.1) + size / 2


def _length(vectors: Tensor) -> Tensor:
    return (vectors.square().sum(-1) + 1e-8).sqrt().mean()


@torch.no_grad()
def score(regressor: HmrRegressor, examples: Examples, body: Body, device: torch.device) -> dict[str, float]:
    """MPJPE, PA-MPJPE (24 joints) and PVE in mm about the pelvis, and the joints' median distance in the picture, px."""
    found, wanted, pixels = [], [], []
    for start in range(0, len(examples), 128):
        part = examples[slice(start, start + 128)].to(device)
        estimate, truth = regressor.regress(regressor.backbone.features(part.looked)), part.truth
        found.append(body(estimate.global_orient, estimate.body_pose, estimate.betas))
        wanted.append(body(truth.global_orient, truth.body_pose, truth.betas))
        projected = project_crop(found[-1].joints, estimate.crop_camera, truth.focal_px)
        pixels.append((projected - truth.joints_2d).norm(dim=-1))
    joints, true_joints = (torch.cat([o.joints for o in outs]) for outs in (found, wanted))
    vertices, true_vertices = (torch.cat([o.vertices for o in outs]) for outs in (found, wanted))
    return {
        "MPJPE": metrics.mpjpe_mm(joints, true_joints),
        "PA": metrics.pa_mpjpe_mm(joints, true_joints),
        "PVE": metrics.pve_mm(vertices, true_vertices, joints[:, 0], true_joints[:, 0]),
        "px": float(torch.cat(pixels).median()),
    }


def export_regressor(regressor: HmrRegressor, path: str | Path, recipe: dict) -> None:
    """Write a regressor as `load_regressor` reads it: float16, with what is needed to rebuild it."""
    shape = {"backbone": "embedded", "hidden": regressor.head.fc2.out_features}
    metadata = {"network": json.dumps(shape), "recipe": json.dumps(recipe)}
    save_state({key: value.half() for key, value in regressor.state_dict().items()}, path, metadata)
