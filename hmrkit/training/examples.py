"""What regressors learn from: what the frozen half of the backbone sees in synthetic images, with the truth.

The frozen half never changes, so its answers can be kept (0.13 MB an image) and learned from many times: on a CPU the
images and the frozen half cost twenty times as much as the part that learns.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from safetensors.torch import load_file
from torch import Tensor

from hmrkit.backbones import Landmarks
from hmrkit.backbones.embedded import EmbeddedBackbone, Looked
from hmrkit.body import Body
from hmrkit.camera import CropCameras
from hmrkit.device import inference
from hmrkit.errors import InputError
from hmrkit.regressors.hmr import HmrRegressor
from hmrkit.regressors.projection import crop_camera, project
from hmrkit.training.motion import Split
from hmrkit.types import BodyParams
from hmrkit.weights import save_state

log = logging.getLogger(__name__)

SHARD = 128
_IMAGES_AT_ONCE = 16
CLIP_FPS = 5


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


@dataclass(frozen=True)
class Examples:
    """B examples: what the backbone's frozen half saw, and the truth."""

    looked: Looked
    truth: Truth

    def __len__(self) -> int:
        return len(self.truth.betas)

    def __getitem__(self, rows: Tensor | slice) -> Examples:
        flat = self.tensors()
        return Examples.from_tensors({key: value[rows] for key, value in flat.items()})

    def to(self, device: torch.device) -> Examples:
        """On `device`, in float32."""
        return Examples.from_tensors({key: value.to(device).float() for key, value in self.tensors().items()})

    def tensors(self) -> dict[str, Tensor]:
        """By name, as files hold them."""
        looked = {
            "branch": self.looked.branch,
            "at32": self.looked.at32,
            "points_2d": self.looked.landmarks.points_2d,
            "world": self.looked.landmarks.world,
        }
        return looked | {f.name: getattr(self.truth, f.name) for f in fields(Truth)}

    @staticmethod
    def from_tensors(values: dict[str, Tensor]) -> Examples:
        """The inverse of `tensors`."""
        looked = Looked(values["branch"], values["at32"], Landmarks(values["points_2d"], values["world"]))
        return Examples(looked, Truth(**{f.name: values[f.name] for f in fields(Truth)}))


def fresh_examples(backbone: EmbeddedBackbone, images, batch: int, generator: torch.Generator) -> Examples:
    """`batch` new examples from a `SyntheticImages`, on its device."""
    samples = images(batch, generator)
    device = samples.images.device
    with inference(device):
        looked = backbone.look(samples.images.contiguous(memory_format=torch.channels_last))
    truth = Truth(**{f.name: getattr(samples, f.name) for f in fields(Truth)})
    return Examples(Looked(looked.branch, looked.at32, looked.landmarks), truth)


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
    for k in track(wanted, f"images ({SHARD} each)", console=console, disable=not console.is_terminal):
        generator = torch.Generator().manual_seed(k)
        made = []
        for _ in range(SHARD // _IMAGES_AT_ONCE):
            tensors = fresh_examples(backbone, images, _IMAGES_AT_ONCE, generator).tensors()
            made.append({key: v.half() if key in ("branch", "at32") else v for key, v in tensors.items()})
        save_state({key: torch.cat([m[key] for m in made]).cpu() for key in made[0]}, _shard(folder, k))
        log.info("%s: %d of %d shards", folder, k + 1, -(-count // SHARD))


def clip_examples(clips: Sequence[str | Path], regressor: HmrRegressor, device: torch.device) -> Examples:
    """Everybody in every frame of clips, as the chain crops them. Their truth is what the mesh stream ``fit`` says: the
    first fits of SPIN's loop. InputError where nobody is found.
    """
    from hmrkit.pipeline import Models, Options, open_clip, run_stages
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
