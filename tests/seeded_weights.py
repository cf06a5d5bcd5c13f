"""Checkpoints of exactly the published names and shapes, with values that anyone can make again anywhere."""

from __future__ import annotations

import ast
import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

KEYS = Path(__file__).parent / "data" / "checkpoint_keys"


def published_keys(name: str, prefix: str = "") -> dict[str, tuple[int, ...]]:
    """Names and shapes of a published checkpoint's tensors; those below `prefix` only, without it."""
    with gzip.open(KEYS / f"{name}.keys.gz", "rt", encoding="ascii") as file:
        lines = [line.split("\t") for line in file if line.startswith(prefix)]
    return {key.removeprefix(prefix): ast.literal_eval(shape) for key, shape, _ in lines}


def seeded_state(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Values that depend on a tensor's name and shape alone, of sizes that keep a deep network's numbers in bounds."""
    return {key: torch.from_numpy(_values(key, shape)) for key, shape in shapes.items()}


def stored_rule_state(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Values by the rule under which outputs of the published HMR 2.0 and VIBE were stored (tests/data/README.md)."""
    return {key: _by_stored_rule(key, shape) for key, shape in shapes.items()}


def _by_stored_rule(key: str, shape: tuple[int, ...]) -> Tensor:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(key.encode())))
    if key.endswith(("init_pose", "init_body_pose")):
        return torch.tensor([1.0, 0, 0, 1, 0, 0]).repeat(24)[None]
    if key.endswith(("init_shape", "init_betas")):
        return torch.zeros(shape)
    if key.endswith("init_cam"):
        return torch.tensor([[0.9, 0, 0]])
    if key.endswith(("pos_embed", "pos_embedding")):
        return 0.3 * x
    if key.endswith(("norm.weight", "norm1.weight", "norm2.weight")):
        return 1 + 0.1 * x
    return x / (x.numel() / shape[0]) ** 0.5 if len(shape) >= 2 else 0.1 * x


def seeded_crops(count: int, height: int, width: int) -> Tensor:
    """Coarse coloured blocks and noise, (count,3,height,width) in [0, 1]."""
    random = np.random.RandomState(7)
    blocks = random.rand(count, 3, height // 32, width // 32).repeat(32, 2).repeat(32, 3)
    return torch.from_numpy((0.7 * blocks + 0.3 * random.rand(count, 3, height, width)).astype(np.float32))


def ruled_state(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """The values under which the authors' own networks made the stored outputs of their repositories."""
    found = {}
    for key, shape in shapes.items():
        x = torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(key.encode())))
        normed = key.rsplit(".", 1)[0] + ".running_var" in shapes
        if key.endswith("num_batches_tracked"):
            x = torch.tensor(0)
        elif key.endswith("running_var"):
            x = 0.5 + (0.5 * x).abs()
        elif len(shape) >= 2:
            x = x / (x.numel() / shape[0]) ** 0.5
        else:
            x = 1 + 0.1 * x if key.endswith(".weight") and normed else 0.1 * x
        found[key] = x
    return found


def _values(key: str, shape: tuple[int, ...]) -> np.ndarray:
    random = np.random.RandomState(zlib.crc32(key.encode()))  # the one generator whose stream NumPy promises to keep
    normal = random.standard_normal(shape)
    kind = key.rsplit(".", 1)[-1]
    if kind == "num_batches_tracked":
        return np.array(100)
    if kind == "running_var" or (kind == "weight" and len(shape) == 1):
        values = 0.5 + 0.5 * random.rand(*shape) if kind == "weight" else 1 + random.rand(*shape)
    elif kind == "weight":
        values = normal * math.sqrt(2 / math.prod(shape[1:])) * (0.2 if key.startswith("dec") else 1)
    else:
        values = 0.1 * normal
    return np.asarray(values, np.float32)
