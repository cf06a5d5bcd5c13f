"""Examples that regressors learn from: a backbone's observation of synthetic images, with the ground truth.

The backbone's frozen part never changes, so its observation can be kept on disk and learned from many times: on a CPU
the images and the frozen part cost more than a step of the part that learns. An example of the embedded backbone takes
0.13 MB; with the map at stride 4 (`pyramid`) 0.5 MB.
"""

from __future__ import annotations

import bisect
import contextlib
import logging
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from hmrkit.backbones import Backbone, Observation, load_backbone
from hmrkit.body import Body
from hmrkit.camera import CropCameras
from hmrkit.device import inference
from hmrkit.errors import InputError
from hmrkit.files import make_folder
from hmrkit.geometry import mirrored_pose
from hmrkit.regressors.crop_camera import CROP, crop_camera, project, to_crop_camera
from hmrkit.regressors.frame import FrameRegressor
from hmrkit.skeletons import SMPL_24
from hmrkit.synthetic.images import SyntheticImages
from hmrkit.synthetic.mocap import Split
from hmrkit.types import BodyParams
from hmrkit.weights import save_state

log = logging.getLogger(__name__)

SHARD = 128
_EXAMPLES_AT_ONCE = 32
_STALE_SECONDS = 600.0  # a shard takes a few seconds
_POLL_SECONDS = 0.5
CLIP_FPS = 5
PYRAMID = "pyramid"  # the one part of an observation that is large, and kept only where it is wanted

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
    """B examples: what the backbone's `encode` returned (on any device, maps perhaps in float16), and the truth."""

    observation: Observation
    truth: Truth

    def __len__(self) -> int:
        return len(self.truth.betas)

    def __getitem__(self, rows: Tensor | slice) -> Examples:
        return select_rows(self, rows)

    def to(self, device: torch.device) -> Examples:
        """On `device`, in float32."""
        return to_device(self, device)

    def tensors(self) -> dict[str, Tensor]:
        """By name, as files hold them: maps and images of the observation in float16."""
        observation = {k: v.half() if v.ndim == 4 else v for k, v in _named_tensors(self.observation).items()}
        return observation | _named_tensors(self.truth)

    @staticmethod
    def from_tensors(values: dict[str, Tensor], observation: type) -> Examples:
        """The inverse of `tensors`, for the class that the backbone's observations have."""
        return Examples(_from_named_tensors(observation, values), _from_named_tensors(Truth, values))


def _named_tensors(values: Any) -> dict[str, Tensor]:
    """The tensors of a dataclass and of the dataclasses in it by their own fields' names, which must differ."""
    found: dict[str, Tensor] = {}
    for f in fields(values):
        value = getattr(values, f.name)
        if isinstance(value, Tensor):
            found[f.name] = value
        elif value is not None:
            found |= _named_tensors(value)
    return found


def _from_named_tensors(kind: type, values: dict[str, Tensor]) -> Any:
    """The inverse of `_named_tensors`. Only fields with a default may be missing: KeyError names another."""
    hints = get_type_hints(kind, localns={"Tensor": Tensor})  # a name that some modules import for type checkers only
    parts = {}
    for f in fields(kind):
        if is_dataclass(hints[f.name]):
            parts[f.name] = _from_named_tensors(hints[f.name], values)  # type: ignore[arg-type]
        elif f.name in values or f.default is not None:
            parts[f.name] = values[f.name]
    return kind(**parts)


def fresh_examples(backbone: Backbone, images, batch: int, generator: torch.Generator) -> Examples:
    """`batch` new examples from a `SyntheticImages`, on its device: the second half is the first one mirrored, which
    costs a third of what another image does."""
    samples = images(batch // 2, generator)
    return with_mirrored(backbone, samples)


def with_mirrored(backbone: Backbone, samples: Any) -> Examples:
    """Examples of `Samples` of synthetic images, then of their mirror images."""
    crops = torch.cat([samples.images, samples.images.flip(-1)])
    if crops.shape[-2:] != backbone.input_size:
        crops = functional.interpolate(crops, backbone.input_size, mode="bilinear", antialias=True)
    # Not in inference mode: training takes gradients of what follows.
    observation = backbone.encode(crops.contiguous(memory_format=torch.channels_last))
    truth = Truth(**{f.name: getattr(samples, f.name) for f in fields(Truth)})
    return Examples(observation, concatenate([truth, truth.mirrored()]))


def map_tensors(function: Callable[[Tensor], Tensor], values: T) -> T:
    """`function` of every tensor of a dataclass and of the dataclasses and tuples in it; None stays."""
    if values is None:
        return values
    if isinstance(values, Tensor):
        return function(values)
    if isinstance(values, tuple):
        return tuple(map_tensors(function, value) for value in values)  # type: ignore[return-value]
    return replace(values, **{f.name: map_tensors(function, getattr(values, f.name)) for f in fields(values)})  # type: ignore[type-var, arg-type]


def to_device(values: T, device: torch.device) -> T:
    """A dataclass of tensors on `device`, in float32."""
    return map_tensors(lambda value: value.to(device).float(), values)


def select_rows(values: T, rows: Tensor | slice) -> T:
    """The `rows` (indices, a mask) of a dataclass of tensors."""
    return map_tensors(lambda value: value[rows], values)


def concatenate(several: Sequence[T]) -> T:
    """Dataclasses of tensors, one after the other."""
    first = several[0]
    if first is None:
        return first
    if isinstance(first, Tensor):
        return torch.cat(several)  # type: ignore[arg-type]
    if isinstance(first, tuple):
        return tuple(concatenate(values) for values in zip(*several, strict=True))  # type: ignore[return-value, arg-type]
    parts = {f.name: concatenate([getattr(values, f.name) for values in several]) for f in fields(first)}  # type: ignore[arg-type]
    return replace(first, **parts)  # type: ignore[type-var]


def make_examples(
    folder: str | Path,
    count: int,
    backbone: Backbone,
    device: torch.device,
    split: Split = "train",
    keep_pyramid: bool = False,
    images: Callable[[], Any] | None = None,
    fresh: Callable[..., Examples] = fresh_examples,
) -> None:
    """Fill `folder` with shards of kept examples until there are `count`; what is there already stays.

    They are drawn by ``fresh(backbone, images(), batch, generator)``, by default single images of a split.

    Shard k is made from seed k, whoever makes it. Several runs may fill one folder side by side: each takes shards that
    no other is making, and waits for the last ones. `keep_pyramid` also keeps the backbone's map at stride 4, four
    times the size."""
    folder = Path(folder)
    make_folder(folder)
    shards = [_shard(folder, k) for k in range(-(-count // SHARD))]
    console = Console(stderr=True)
    renderer: Any = None
    with Progress(console=console, disable=not console.is_terminal) as bars:
        bar = bars.add_task(f"examples ({SHARD} each)", total=len(shards))
        while missing := [k for k, shard in enumerate(shards) if not shard.is_file()]:
            bars.update(bar, completed=len(shards) - len(missing))
            mine = next((k for k in missing if _claim(shards[k])), None)
            if mine is None:
                time.sleep(_POLL_SECONDS)  # the last shards are being made by others
                continue
            renderer = renderer or (images() if images else SyntheticImages(split, device=device))
            draw = partial(fresh, backbone, renderer)
            try:
                _make_shard(shards[mine], mine, draw, keep_pyramid)
            finally:
                _lock(shards[mine]).unlink(missing_ok=True)
            log.info("%s: %d of %d shards", folder, len(shards) - len(missing) + 1, len(shards))


def make_side_by_side(
    folder: str | Path, count: int, backbone: str, device: str, processes: int, keep_pyramid: bool = False
) -> None:
    """`make_examples` by several processes of one thread each: on a CPU that is twice as fast as one with all
    threads."""
    make_folder(Path(folder))
    context = multiprocessing.get_context("spawn")
    arguments = (str(folder), count, backbone, device, keep_pyramid)
    others = [context.Process(target=_make_alone, args=arguments, daemon=True) for _ in range(processes)]
    for process in others:
        process.start()
    for process in others:
        process.join()
    # What a process that ended early left.
    make_examples(
        folder, count, load_backbone(backbone, device=device), torch.device(device), keep_pyramid=keep_pyramid
    )


def _make_alone(folder: str, count: int, backbone: str, device: str, keep_pyramid: bool) -> None:
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    make_examples(
        folder, count, load_backbone(backbone, device=device), torch.device(device), keep_pyramid=keep_pyramid
    )


def _end_with_parent() -> None:
    """A parent that is killed cannot stop its processes."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _make_shard(path: Path, seed: int, draw: Callable[[int, torch.Generator], Examples], keep_pyramid: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    made = []
    for _ in range(SHARD // _EXAMPLES_AT_ONCE):
        tensors = draw(_EXAMPLES_AT_ONCE, generator).tensors()
        made.append({key: value for key, value in tensors.items() if keep_pyramid or key != PYRAMID})
    save_state({key: torch.cat([m[key] for m in made]).cpu() for key in made[0]}, path)


def _lock(shard: Path) -> Path:
    return shard.with_suffix(".lock")


def _claim(shard: Path) -> bool:
    """Whether this run may make a shard: no other does, or the one that did was killed."""
    lock = _lock(shard)
    with contextlib.suppress(FileNotFoundError):
        if time.time() - lock.stat().st_mtime > _STALE_SECONDS:
            lock.unlink(missing_ok=True)
    try:
        lock.touch(exist_ok=False)
    except FileExistsError:
        return False
    return not shard.is_file()


def clip_examples(clips: Sequence[str | Path], regressor: FrameRegressor, device: torch.device) -> Examples:
    """Everybody in every frame of clips, as the chain crops them. Their truth is the result of the mesh stream ``fit``:
    the first fits of SPIN's loop. InputError where nobody is found.
    """
    from hmrkit.models import Models
    from hmrkit.options import Options
    from hmrkit.pipeline import open_clip, run_stages
    from hmrkit.regressors.stream import crop_images, crops_of

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
        for rows, images in crop_images(take, crops, regressor.input_size[0], device):
            with inference(device):
                observation = regressor.backbone.encode(images)
            tensors = _named_tensors(observation) | {f.name: getattr(fits, f.name)[rows] for f in fields(Truth)}
            found.append({key: value.cpu() for key, value in tensors.items() if key != PYRAMID})
    if not found:
        raise InputError(f"{', '.join(map(str, clips))}: wanted clips with people, found nobody in them")
    joined_tensors = {key: torch.cat([part[key] for part in found]) for key in found[0]}
    return Examples.from_tensors(joined_tensors, regressor.backbone.observation)


def _in_crops(people: Sequence[BodyParams], cameras: CropCameras, body: Body) -> Truth:
    """Bodies in the full camera, one person's frames after the other, as the cameras of their crops see them."""

    def rows(name: str) -> Tensor:
        return torch.from_numpy(np.concatenate([getattr(person, name) for person in people]))

    betas = torch.cat([torch.from_numpy(p.betas).expand(len(p.transl_c), -1) for p in people])
    rest_pelvis = body.joints_only(betas=betas.to(body.device)).joints[:, 0].cpu()
    camera_from_crop = torch.from_numpy(cameras.camera_from_crop).float()
    orient, pelvis = to_crop_camera(rows("global_orient"), rest_pelvis + rows("transl_c"), camera_from_crop)
    pose, transl = rows("body_pose"), pelvis - rest_pelvis
    focal = torch.from_numpy(cameras.focal_px).float()
    joints = body.joints_only(orient.to(body.device), pose.to(body.device), betas.to(body.device)).joints.cpu()
    return Truth(orient, pose, betas, transl, focal, project(joints, crop_camera(transl, focal), focal))


class KeptExamples:
    """The first `count` examples of a folder, each read from its file when it is asked for: the system keeps in memory
    what fits.

    InputError where there are fewer, or where they were made without the pyramid or by another backbone.
    """

    def __init__(self, folder: str | Path, count: int, backbone: Backbone, keep_pyramid: bool = False) -> None:
        self._observation, self._count = backbone.observation, count
        self._shards: list[dict[str, Tensor]] = []
        self._ends: list[int] = []
        for path in sorted(Path(folder).glob("examples-*.safetensors")):
            # Mapped, not read.
            shard = {key: value for key, value in load_file(path).items() if keep_pyramid or key != PYRAMID}
            if keep_pyramid and PYRAMID not in shard:
                raise InputError(
                    f"{path}: wanted examples with their pyramid, found none in it; make them in another folder"
                )
            self._shards.append(shard)
            self._ends.append((self._ends[-1] if self._ends else 0) + len(next(iter(shard.values()))))
            if self._ends[-1] >= count:
                break
        found = self._ends[-1] if self._ends else 0
        if found < count:
            raise InputError(f"{folder}: wanted {count} examples, found {found}; make them first")
        try:
            self[slice(0, 1)]
        except KeyError as error:
            known = ", ".join(self._shards[0])
            raise InputError(f"{folder}: wanted examples with {error}, found {known}; of another backbone") from error

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, rows: Tensor | slice) -> Examples:
        """Some examples, in memory: 0.13 MB each, with the pyramid 0.5 MB."""
        chosen = range(self._count)[rows] if isinstance(rows, slice) else rows.tolist()
        shards = [bisect.bisect_right(self._ends, row) for row in chosen]
        starts = [0, *self._ends]
        at = [(self._shards[k], row - starts[k]) for k, row in zip(shards, chosen, strict=True)]
        whole = {key: torch.stack([shard[key][row] for shard, row in at]) for key in self._shards[0]}
        return Examples.from_tensors(whole, self._observation)

    def parts(self, rows: slice, size: int = 1024) -> Iterator[Examples]:
        """The examples of a slice, some at a time."""
        start, stop, _ = rows.indices(self._count)
        return (self[slice(at, min(at + size, stop))] for at in range(start, stop, size))


def load_examples(folder: str | Path, count: int, backbone: Backbone, keep_pyramid: bool = False) -> Examples:
    """The first `count` kept examples of a folder, in memory. InputError as in `KeptExamples`."""
    return KeptExamples(folder, count, backbone, keep_pyramid)[slice(None)]


def _shard(folder: Path, k: int) -> Path:
    return folder / f"examples-{k:05d}.safetensors"
