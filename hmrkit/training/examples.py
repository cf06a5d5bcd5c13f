"""What regressors learn from: what the frozen part of the backbone sees in synthetic images, with the truth.

The frozen part never changes, so its answers can be kept (0.13 MB an image) and learned from many times: on a CPU the
images and the frozen part cost more than a step of the part that learns.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from safetensors.torch import load_file
from torch import Tensor

from hmrkit.backbones import Landmarks
from hmrkit.backbones.embedded import EmbeddedBackbone, Looked
from hmrkit.body import Body
from hmrkit.body_points import BodyPoints, IntegralHead
from hmrkit.camera import CropCameras
from hmrkit.device import inference
from hmrkit.errors import InputError
from hmrkit.geometry import mirrored_pose
from hmrkit.regressors.hmr import HmrRegressor
from hmrkit.regressors.projection import CROP, crop_camera, project
from hmrkit.skeletons import SMPL_24
from hmrkit.training.motion import Split
from hmrkit.types import BodyParams
from hmrkit.weights import save_state

log = logging.getLogger(__name__)

SHARD = 128
_EXAMPLES_AT_ONCE = 32
CLIP_FPS = 5

T = TypeVar("T")


@dataclass(frozen=True)
class Truth:
    """Bodies in B crops, in the crop's own camera: parameters as in `BodyEstimate`, `transl_c` (B,3) m, `focal_px`
    (B,), `joints_2d` (B,24,2) crop px."""

    global_orient: Tensor
    body_pose: Tensor
    betas: Tensor
    transl_c: Tensor
    focal_px: Tensor
    joints_2d: Tensor

    def mirrored(self) -> Truth:
        """The bodies that the crops show when they are flipped left to right."""
        pose = mirrored_pose(torch.cat([self.global_orient[:, None], self.body_pose], 1), SMPL_24.mirror)
        transl = self.transl_c * self.transl_c.new_tensor([-1.0, 1.0, 1.0])
        joints = self.joints_2d[:, list(SMPL_24.mirror)] * self.joints_2d.new_tensor([-1.0, 1.0])
        joints = joints + joints.new_tensor([CROP, 0.0])
        return Truth(pose[:, 0], pose[:, 1:], self.betas, transl, self.focal_px, joints)


@dataclass(frozen=True)
class Examples:
    """B examples: what the backbone's frozen part saw, and the truth."""

    looked: Looked
    truth: Truth

    def __len__(self) -> int:
        return len(self.truth.betas)

    def __getitem__(self, rows: Tensor | slice) -> Examples:
        return chosen(self, rows)

    def to(self, device: torch.device) -> Examples:
        """On `device`, in float32."""
        return moved(self, device)

    def tensors(self) -> dict[str, Tensor]:
        """By name, as files hold them."""
        looked = {
            "branch": self.looked.branch,
            "first32": self.looked.first32,
            "points_2d": self.looked.landmarks.points_2d,
            "world": self.looked.landmarks.world,
        }
        return looked | {f.name: getattr(self.truth, f.name) for f in fields(Truth)}

    @staticmethod
    def from_tensors(values: dict[str, Tensor]) -> Examples:
        """The inverse of `tensors`."""
        looked = Looked(values["branch"], values["first32"], Landmarks(values["points_2d"], values["world"]))
        return Examples(looked, Truth(**{f.name: values[f.name] for f in fields(Truth)}))


def fresh_examples(backbone: EmbeddedBackbone, images, batch: int, generator: torch.Generator) -> Examples:
    """`batch` new examples from a `SyntheticImages`, on its device: the second half is the first one mirrored, which
    costs a third of what another picture does."""
    samples = images(batch // 2, generator)
    pictures = torch.cat([samples.images, samples.images.flip(-1)])
    # Not in inference mode: what is seen is learned from.
    looked = backbone.look(pictures.contiguous(memory_format=torch.channels_last))
    truth = Truth(**{f.name: getattr(samples, f.name) for f in fields(Truth)})
    return Examples(looked, joined([truth, truth.mirrored()]))


def mapped(function: Callable[[Tensor], Tensor], values: T) -> T:
    """`function` of every tensor of a dataclass and of the dataclasses and tuples in it."""
    if isinstance(values, Tensor):
        return function(values)
    if isinstance(values, tuple):
        return tuple(mapped(function, value) for value in values)  # type: ignore[return-value]
    return replace(values, **{f.name: mapped(function, getattr(values, f.name)) for f in fields(values)})  # type: ignore[type-var, arg-type]


def moved(values: T, device: torch.device) -> T:
    """A dataclass of tensors on `device`, in float32."""
    return mapped(lambda value: value.to(device).float(), values)


def chosen(values: T, rows: Tensor | slice) -> T:
    """The `rows` (indices, a mask) of a dataclass of tensors."""
    return mapped(lambda value: value[rows], values)


def joined(several: Sequence[T]) -> T:
    """Dataclasses of tensors, one after the other."""
    first = several[0]
    if isinstance(first, Tensor):
        return torch.cat(several)  # type: ignore[arg-type]
    if isinstance(first, tuple):
        return tuple(joined(values) for values in zip(*several, strict=True))  # type: ignore[return-value, arg-type]
    parts = {f.name: joined([getattr(values, f.name) for values in several]) for f in fields(first)}  # type: ignore[arg-type]
    return replace(first, **parts)  # type: ignore[type-var]


@torch.no_grad()
def points_of(integral: IntegralHead, examples: Examples) -> BodyPoints:
    """What an integral head finds in kept examples, on its device."""
    device = integral.grid.device
    parts = (examples[slice(start, start + 128)].to(device).looked for start in range(0, len(examples), 128))
    return joined([integral(part.branch, part.first32) for part in parts])


def make_examples(
    folder: str | Path,
    count: int,
    backbone: EmbeddedBackbone,
    device: torch.device,
    split: Split = "train",
    part: int = 0,
    parts: int = 1,
) -> None:
    """Fill `folder` with shards of kept examples until there are `count`; what is there already stays.

    Shard k is made from seed k, whoever makes it: several processes may each make every `parts`-th shard.
    """
    from hmrkit.training.synthetic import SyntheticImages

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [k for k in range(part, -(-count // SHARD), parts) if not _shard(folder, k).is_file()]
    if not wanted:
        return
    images = SyntheticImages(split, device=device)
    console = Console(stderr=True)
    for k in track(wanted, f"examples ({SHARD} each)", console=console, disable=not console.is_terminal):
        generator = torch.Generator().manual_seed(k)
        made = []
        for _ in range(SHARD // _EXAMPLES_AT_ONCE):
            tensors = fresh_examples(backbone, images, _EXAMPLES_AT_ONCE, generator).tensors()
            made.append({key: v.half() if key in ("branch", "first32") else v for key, v in tensors.items()})
        save_state({key: torch.cat([m[key] for m in made]).cpu() for key in made[0]}, _shard(folder, k))
        log.info("%s: %d of %d shards", folder, k + 1, -(-count // SHARD))


def clip_examples(clips: Sequence[str | Path], regressor: HmrRegressor, device: torch.device) -> Examples:
    """Everybody in every frame of clips, as the chain crops them. Their truth is what the mesh stream ``fit`` says: the
    first fits of SPIN's loop. InputError where nobody is found.
    """
    from hmrkit.models import Models
    from hmrkit.options import Options
    from hmrkit.pipeline import open_clip, run_stages
    from hmrkit.regression import crop_pictures, crops_of

    found: list[dict[str, Tensor]] = []
    models = Models(Options(device=str(device)))
    for clip in clips:
        # Neighbouring frames teach the same.
        every = max(1, round(open_clip(clip, models.options).video.fps / CLIP_FPS))
        models.options = Options(device=str(device), every=every)
        take = run_stages(open_clip(clip, models.options), ("detect", "track", "pose", "regress"), models)
        people = take.people_with_mesh()
        if not people:
            continue
        crops = crops_of(take, people, regressor)
        fits = _in_crops([take.body[person.track_id] for person in people], crops.cameras, models.body)
        for rows, pictures in crop_pictures(take, crops, regressor.input_size[0], device):
            with inference(device):
                looked = regressor.backbone.look(pictures)
            truth = Truth(**{f.name: getattr(fits, f.name)[rows] for f in fields(Truth)})
            found.append({key: value.cpu() for key, value in Examples(looked, truth).tensors().items()})
    if not found:
        raise InputError(f"{', '.join(map(str, clips))}: wanted clips with people, found nobody in them")
    return Examples.from_tensors({key: torch.cat([part[key] for part in found]) for key in found[0]})


def _in_crops(people: Sequence[BodyParams], cameras: CropCameras, body: Body) -> Truth:
    """Bodies in the full camera, one person's frames after the other, as the cameras of their crops see them."""

    def rows(name: str) -> Tensor:
        return torch.from_numpy(np.concatenate([getattr(person, name) for person in people]))

    crop_from_camera = torch.from_numpy(cameras.camera_from_crop).float().mT
    betas = torch.cat([torch.from_numpy(p.betas).expand(len(p.transl_c), -1) for p in people])
    orient, pose = crop_from_camera @ rows("global_orient"), rows("body_pose")
    # A body turns about its pelvis, which does not lie in its origin.
    pelvis = body.joints_only(betas=betas.to(body.device)).joints[:, 0].cpu()
    transl = (crop_from_camera @ (pelvis + rows("transl_c"))[..., None])[..., 0] - pelvis
    focal = torch.from_numpy(cameras.focal_px).float()
    joints = body.joints_only(orient.to(body.device), pose.to(body.device), betas.to(body.device)).joints.cpu()
    return Truth(orient, pose, betas, transl, focal, project(joints, crop_camera(transl, focal), focal))


def load_examples(folder: str | Path, count: int) -> Examples:
    """The first `count` kept examples of a folder, in memory: 0.13 MB each."""
    shards = sorted(Path(folder).glob("examples-*.safetensors"))
    whole: dict[str, Tensor] = {}
    filled = 0
    for shard in shards:
        for key, value in load_file(shard).items():
            whole.setdefault(key, value.new_empty(count, *value.shape[1:]))
            part = value[: count - filled]
            whole[key][filled : filled + len(part)] = part
        filled = min(count, filled + len(value))
        if filled == count:
            return Examples.from_tensors(whole)
    raise InputError(f"{folder}: wanted {count} examples, found {filled}; make them first")


def _shard(folder: Path, k: int) -> Path:
    return folder / f"examples-{k:05d}.safetensors"
