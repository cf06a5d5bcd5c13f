"""Examples that regressors learn from: a backbone's observation of images, with the ground truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, TypeVar, get_type_hints

import torch
from torch import Tensor
from torch.nn import functional

from hmrkit.backbones import Backbone, Observation
from hmrkit.geometry import mirrored_pose
from hmrkit.regressors.crop_camera import CROP
from hmrkit.skeletons import SMPL_24

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
        observation = {k: v.half() if v.ndim == 4 else v for k, v in named_tensors(self.observation).items()}
        return observation | named_tensors(self.truth)

    @staticmethod
    def from_tensors(values: dict[str, Tensor], observation: type) -> Examples:
        """The inverse of `tensors`, for the class that the backbone's observations have."""
        return Examples(from_named_tensors(observation, values), from_named_tensors(Truth, values))


def named_tensors(values: Any) -> dict[str, Tensor]:
    """The tensors of a dataclass and of the dataclasses in it by their own fields' names, which must differ."""
    found: dict[str, Tensor] = {}
    for f in fields(values):
        value = getattr(values, f.name)
        if isinstance(value, Tensor):
            found[f.name] = value
        elif value is not None:
            found |= named_tensors(value)
    return found


def from_named_tensors(kind: type, values: dict[str, Tensor]) -> Any:
    """The inverse of `named_tensors`. Only fields with a default may be missing: KeyError names another."""
    hints = get_type_hints(kind, localns={"Tensor": Tensor})  # a name that some modules import for type checkers only
    parts = {}
    for f in fields(kind):
        if is_dataclass(hints[f.name]):
            parts[f.name] = from_named_tensors(hints[f.name], values)  # type: ignore[arg-type]
        elif f.name in values or f.default is not None:
            parts[f.name] = values[f.name]
    return kind(**parts)


def fresh_examples(backbone: Backbone, images, batch: int, generator: torch.Generator) -> Examples:
    """`batch` new examples from a `SyntheticImages`, on its device: the second half is the first one mirrored, which
    costs a third of what another image does."""
    return with_mirrored(backbone, images(batch // 2, generator))


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
