"""What the recipes of all ray lifters share: their numbers, the training steps, the weights file, and the evaluation.

A recipe is a module of `hmrkit.training.recipes`: a subclass of `LifterRecipe`, its presets, and a ``train`` that
calls `train_ray_network`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from hmrkit.camera import assume_camera
from hmrkit.device import mixed_precision
from hmrkit.geometry import rigid_align
from hmrkit.lifters import LIFTERS, Lifter
from hmrkit.lifters.inputs import convert_keypoints
from hmrkit.lifters.ray_lifter import RayNetwork
from hmrkit.lifters.rays import NETWORK_FPS, encode
from hmrkit.members import choose, unknown
from hmrkit.skeletons import COCO_17, H36M_17, Skeleton
from hmrkit.synthetic.mocap import Motion, load_motion
from hmrkit.training.lifter_samples import LifterSampler, SkinnedKeypoints, chain, random_people
from hmrkit.training.lifter_views import CLEAN, Noise, observe
from hmrkit.training.loop import LoopConfig, fit
from hmrkit.weights import load_into, load_state, save_state

log = logging.getLogger(__name__)

# Beside the joints' distance (m): bones as vectors, and movement from frame to frame.
_BONE_WEIGHT, _VELOCITY_WEIGHT = 0.3, 0.5


@dataclass(frozen=True, kw_only=True)
class LifterRecipe:
    """Numbers of a ray lifter's training; the weights file has them as JSON under ``recipe``.

    `network` is the dataclass of the network's sizes, which rebuilds it on loading; `frames` at 30 Hz a sample, `batch`
    samples a step. Networks that see single frames learn more from frames far apart: of a sample's features every
    `every`-th is learned from.
    """

    network: Any
    loop: LoopConfig
    frames: int = 81
    batch: int = 20
    every: int = 1
    noise: Noise = field(default_factory=Noise)


Recipe = TypeVar("Recipe", bound=LifterRecipe)


def choose_preset(presets: Mapping[str, Recipe], name: str, steps: int | None = None) -> Recipe:
    """The preset, for `steps` where given (the schedule ends there); UsageError lists the known names."""
    if name not in presets:
        raise unknown("preset", name, presets)
    recipe = presets[name]
    return replace(recipe, loop=recipe.loop.with_steps(steps or recipe.loop.steps))


def train_lifter(
    motion: str | Path,
    out: str | Path,
    preset: str = "cpu",
    steps: int | None = None,
    device: str | torch.device = "cpu",
    resume: bool = False,
    start: str | Path | None = None,
    name: str = "videopose3d",
) -> Path:
    """Train the lifter `name` on the training split of a motion file by its recipe; returns ``out/<name>.safetensors``.

    `steps` replaces the preset's number. `resume` goes on from ``out/checkpoint.pt``. `start` begins from a weights
    file. UsageError where the lifter, its recipe or the preset is unknown.
    """
    member, _ = choose(LIFTERS, name, "lifter")
    if not member.recipe:
        raise unknown("recipe of a lifter", name, (n for n in LIFTERS if LIFTERS[n].recipe))
    return member.load_recipe().train(
        out, motion, preset=preset, steps=steps, device=device, resume=resume, start=start
    )


def train_ray_network(
    build: Callable[[Any], RayNetwork],
    recipe: LifterRecipe,
    motion: str | Path,
    path: str | Path,
    device: str | torch.device = "cpu",
    resume: bool = False,
    start: str | Path | None = None,
) -> Path:
    """Train ``build(recipe.network)`` on the training split of a motion file; writes and returns the weights `path`.

    Checkpoints and the curve are written beside it; `resume` goes on from them. `start` begins from a weights file,
    also of a network with fewer tensors: the others begin as `build` leaves them. The held-out score in the log is of a
    fixed small part without noise; `evaluate_lifter` measures all.
    """
    device = torch.device(device)
    torch.manual_seed(recipe.loop.seed)
    network = build(recipe.network)
    if start is not None:
        begun = {key: value.float() for key, value in load_state(start).items()}
        load_into(network, network.state_dict() | begun, start)
    network = network.to(device)
    skeleton = network.output_skeleton
    columns = H36M_17.indices(*skeleton.joints)
    sampler = LifterSampler(load_motion(motion, "train"), recipe.frames, recipe.noise)
    held_out = LifterSampler(load_motion(motion, "test"), recipe.frames, CLEAN, augment=False, known=1.0)
    fixed = held_out(96, torch.Generator().manual_seed(1))

    def loss(model: nn.Module, generator: torch.Generator) -> Tensor:
        samples = sampler(recipe.batch, generator)
        features, real_from_virtual = encode(samples.keypoints, samples.focal_known)
        wanted = (samples.joints_c[:, :, columns] @ real_from_virtual)[:, :: recipe.every].to(device)
        with mixed_precision(device):
            joints = model(features[:, :: recipe.every].to(device))
        return lifting_loss(joints, wanted, skeleton, recipe.every)

    @torch.inference_mode()
    def evaluate(model: nn.Module) -> dict[str, float]:
        features, real_from_virtual = encode(fixed.keypoints, fixed.focal_known)
        joints = model(features.to(device)).cpu() @ real_from_virtual.mT
        mpjpe, aligned = joint_errors_mm(joints.flatten(0, 1), fixed.joints_c[:, :, columns].flatten(0, 1))
        return {"held-out MPJPE mm": float(mpjpe.mean()), "PA": float(aligned.mean())}

    average = fit(network, loss, recipe.loop, Path(path).parent, evaluate=evaluate, resume=resume)
    export_lifter(average, recipe, path)
    return Path(path)


def export_lifter(network: RayNetwork, recipe: LifterRecipe, path: str | Path) -> None:
    """Write a network as `hmrkit.lifters.ray_lifter.load_ray_lifter` reads it: float16, with its sizes and recipe."""
    metadata = {
        "network": json.dumps(asdict(recipe.network)),
        "input_skeleton": COCO_17.name,
        "output_skeleton": network.output_skeleton.name,
        "fps": str(NETWORK_FPS),
        "recipe": json.dumps(asdict(recipe)),
    }
    save_state({key: value.half() for key, value in network.state_dict().items()}, path, metadata)


def lifting_loss(joints: Tensor, wanted: Tensor, skeleton: Skeleton = H36M_17, every: int = 1) -> Tensor:
    """Mean distance (m) of joints (B,T,J,3) m of `skeleton`, plus weighted distances of bone vectors and of velocities
    per frame, where `every` frames lie between one of T and the next."""
    parents, children = (list(row) for row in zip(*skeleton.bones, strict=True))
    error = joints - wanted
    bones = error[..., children, :] - error[..., parents, :]
    velocity = (error[:, 1:] - error[:, :-1]) / every
    return _length(error) + _BONE_WEIGHT * _length(bones) + _VELOCITY_WEIGHT * _length(velocity)


def _length(vectors: Tensor) -> Tensor:
    return (vectors.square().sum(-1) + 1e-8).sqrt().mean()


def joint_errors_mm(joints: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Per frame (N,): MPJPE of joints (N,J,3) m about the pelvis, and the same after similarity alignment."""
    plain = (joints - wanted).norm(dim=-1).mean(-1) * 1000
    rotation, scale, translation = rigid_align(joints, wanted, scale=True)
    moved = scale[:, None, None] * joints @ rotation.mT + translation[:, None]
    return plain, (moved - wanted).norm(dim=-1).mean(-1) * 1000


_NOISY = replace(CLEAN, clean=0.0, jitter=0.015, offset=0.03, drift=0.0, exact=True)
_NOISY_BY_LENGTH = replace(_NOISY, jitter=_NOISY.jitter / 2**0.5, offset=_NOISY.offset / 2**0.5)


def evaluate_lifter(
    lifter: Lifter, motion_path: str | Path, seed: int = 0, cameras: int = 3
) -> dict[str, dict[str, float]]:
    """MPJPE / PA-MPJPE in mm of the lifter's joints on every frame of the held-out clips, each from `cameras` random
    static cameras.

    Through the lifter's public interface, with flip averaging, by protocol:

    - ``clean``: the template body, exact keypoints, focal length given; ``clean_martial_arts``: those clips alone;
    - ``noise``: 1.5 % jitter in each frame and a 3 % offset constant over the clip (Gaussian deviations of each
      coordinate of each joint, in parts of the box's mean height), as above otherwise;
    - ``noise_by_length``: the same where these figures are the root mean square length of a joint's displacement;
    - ``clean_focal_assumed``: the cameras' fields of view (30-90 degrees) are not given, 55 are assumed;
    - ``clean_other_bodies``: random shapes and limb lengths, brought to the template's total bone length.
    """
    motion = load_motion(motion_path, "test")
    protocols = {
        "clean": (CLEAN, 1.0, False),
        "noise": (_NOISY, 1.0, False),
        "noise_by_length": (_NOISY_BY_LENGTH, 1.0, False),
        "clean_focal_assumed": (CLEAN, 0.0, False),
        "clean_other_bodies": (CLEAN, 1.0, True),
    }
    result: dict[str, dict[str, float]] = {}
    for name, (noise, known, vary) in protocols.items():
        errors = [_clip_errors(lifter, motion, i, noise, known, vary, cameras, seed) for i in range(len(motion.clips))]
        result[name] = _summary(errors)
        if name == "clean":
            result["clean_martial_arts"] = _summary(
                [e for e, clip in zip(errors, motion.clips, strict=True) if "martial" in clip]
            )
    return result


def _summary(errors: list[np.ndarray]) -> dict[str, float]:
    mean = np.concatenate(errors, 1).mean(1) if errors else np.full(2, np.nan)
    frames = sum(e.shape[1] for e in errors)
    return {"mpjpe_mm": round(float(mean[0]), 2), "pa_mpjpe_mm": round(float(mean[1]), 2), "frames": frames}


def _clip_errors(
    lifter: Lifter, motion: Motion, clip: int, noise: Noise, known: float, vary: bool, cameras: int, seed: int
) -> np.ndarray:
    """MPJPE and PA-MPJPE (2, frames * cameras) mm of one clip, whose cameras depend on seed and clip name alone."""
    g = torch.Generator().manual_seed(seed * 7919 + sum(motion.clips[clip].encode()))
    frames = motion.clip(clip)
    local = torch.from_numpy(motion.local_rotations[frames]).permute(1, 2, 3, 0)[..., None, :]
    root = torch.from_numpy(motion.root_pos_m[frames]).T[:, None]
    betas, stretch = torch.zeros(1, 10), torch.ones(1, 24)
    if vary:
        betas, stretch = random_people(1, g)
    keypoints, joints = SkinnedKeypoints.shared()(chain(local), root, betas, stretch)
    many = (cameras, -1, -1, -1)
    samples = observe(keypoints.expand(many), joints.expand(many), noise, g, known)
    width, height, focal = 1280, 720, 1000.0
    center = np.array([width / 2, height / 2], np.float32)
    if not known:
        focal = float(assume_camera(width, height).focal_px[0])
    found = []
    for rays in samples.keypoints.numpy():
        pixels = np.concatenate([rays[..., :2] * focal + center, rays[..., 2:]], -1)
        pixels = convert_keypoints(pixels, COCO_17, lifter.input_skeleton)
        given = focal if known else None
        found.append(lifter(pixels, width=width, height=height, fps=motion.fps, flip=True, focal_px=given))
    wanted = samples.joints_c[:, :, H36M_17.indices(*lifter.output_skeleton.joints)].flatten(0, 1)
    return torch.stack(joint_errors_mm(torch.from_numpy(np.concatenate(found)), wanted)).numpy()
