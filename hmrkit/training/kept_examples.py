"""Kept examples: what a backbone's frozen part makes of synthetic images, on disk.

The frozen part never changes, so its observation can be learned from many times: on a CPU the images and the frozen
part cost more than a step of the part that learns. An example of the embedded backbone takes 0.13 MB; with the map at
stride 4 (`pyramid`) 0.5 MB. `hmrkit train examples` fills a folder.
"""

from __future__ import annotations

import bisect
import contextlib
import hashlib
import logging
import multiprocessing
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress
from safetensors.torch import load_file
from torch import Tensor

from hmrkit.backbones import Backbone, load_backbone
from hmrkit.backbones.embedded import EmbeddedBackbone, TunedMaps
from hmrkit.blazepose.integral_head import BodyPoints
from hmrkit.errors import InputError
from hmrkit.files import make_folder
from hmrkit.synthetic.images import SyntheticImages
from hmrkit.synthetic.mocap import Split
from hmrkit.training.examples import Examples, fresh_examples, to_device
from hmrkit.weights import save_state

log = logging.getLogger(__name__)

SHARD = 128
_EXAMPLES_AT_ONCE = 32
_STALE_SECONDS = 600.0  # a shard takes a few seconds
_POLL_SECONDS = 0.5
TUNED = "tuned."
PYRAMID = "pyramid"  # the one part of an observation that is large, and kept only where it is wanted


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


class KeptExamples:
    """The first `count` examples of a folder, each read from its file when it is asked for: the system keeps in memory
    what fits.

    InputError where there are fewer, or where they were made without the pyramid or by another backbone.
    """

    def __init__(self, folder: str | Path, count: int, backbone: Backbone, keep_pyramid: bool = False) -> None:
        self._backbone, self._count, self._paths = backbone, count, []
        self._shards: list[dict[str, Tensor]] = []
        self._ends: list[int] = []
        for path in sorted(Path(folder).glob("examples-*.safetensors")):
            # Mapped, not read.
            shard = {key: value for key, value in load_file(path).items() if keep_pyramid or key != PYRAMID}
            if keep_pyramid and PYRAMID not in shard:
                raise InputError(
                    f"{path}: wanted examples with their pyramid, found none in it; make them in another folder"
                )
            self._paths.append(path)
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
        examples = Examples.from_tensors(whole, self._backbone.observation)
        if TUNED + "stride32" not in whole:
            return examples
        tuned = TunedMaps(whole[TUNED + "stride32"], tuned_points(whole))
        return replace(examples, observation=replace(examples.observation, tuned=tuned))

    def tune(self) -> None:
        """Add what the embedded backbone's integral head makes of each example, once that is not trained any more: it
        costs much more than what stands on it. It is kept in a folder named by the head's weights, and serves other
        trainings. Several runs may share the work, each in an order of its own."""
        assert isinstance(self._backbone, EmbeddedBackbone), "other backbones have no part that is trained first"
        state = b"".join(value.cpu().numpy().tobytes() for value in self._backbone.integral.state_dict().values())
        folder = self._paths[0].parent / f"tuned-{hashlib.sha256(state).hexdigest()[:12]}"
        make_folder(folder)
        for k in random.Random(os.getpid()).sample(range(len(self._shards)), len(self._shards)):
            path = folder / self._paths[k].name
            if not path.is_file():
                save_state(_tuned(self._backbone, self._shards[k]), path)
            self._shards[k] |= load_file(path)

    def without_maps(self, count: int) -> dict[str, Tensor]:
        """The first `count` examples in memory by the names of `Examples.tensors`, but for what is kept in float16."""
        small = [key for key, value in self._shards[0].items() if value.dtype != torch.float16]
        return {key: torch.cat([shard[key] for shard in self._shards])[:count] for key in small}

    def parts(self, rows: slice, size: int = 1024) -> Iterator[Examples]:
        """The examples of a slice, some at a time."""
        start, stop, _ = rows.indices(self._count)
        return (self[slice(at, min(at + size, stop))] for at in range(start, stop, size))


@torch.no_grad()
def _tuned(backbone: EmbeddedBackbone, shard: dict[str, Tensor]) -> dict[str, Tensor]:
    """By the names of files; the map is kept in float16."""
    device = backbone.integral.grid.device
    made = []
    for rows in torch.arange(len(shard["branch"])).split(_EXAMPLES_AT_ONCE):
        some = {key: value[rows] for key, value in shard.items()}
        observation = to_device(Examples.from_tensors(some, backbone.observation).observation, device)
        # Depthwise convolutions are faster this way.
        first = observation.first32.contiguous(memory_format=torch.channels_last)
        tuned = backbone.tune(replace(observation, first32=first))
        made.append({"stride32": tuned.stride32.half().contiguous(), **vars(tuned.points)})
    return {TUNED + key: torch.cat([part[key] for part in made]).cpu() for key in made[0]}


def tuned_points(values: dict[str, Tensor]) -> BodyPoints:
    """The points that `KeptExamples.tune` keeps, from tensors by the names of files."""
    return BodyPoints(*(values[TUNED + field.name] for field in fields(BodyPoints)))


def load_examples(folder: str | Path, count: int, backbone: Backbone, keep_pyramid: bool = False) -> Examples:
    """The first `count` kept examples of a folder, in memory. InputError as in `KeptExamples`."""
    return KeptExamples(folder, count, backbone, keep_pyramid)[slice(None)]


def _shard(folder: Path, k: int) -> Path:
    return folder / f"examples-{k:05d}.safetensors"
