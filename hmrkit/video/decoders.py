"""Which decoder reads videos, and the one that is chosen rather than found: torchcodec (extra ``hmrkit[torchcodec]``).

On a GPU its video unit (NVDEC) decodes, which leaves the CPU free. Frames come back to the CPU, where colours and
appearance are read too."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from hmrkit.errors import UsageError
from hmrkit.members import unknown

if TYPE_CHECKING:
    from hmrkit.video.index import ClipIndex

Decoder = Literal["auto", "decord", "pyav", "torchcodec"]
CHOICES = ("auto", "pyav", "torchcodec")
_preferred: Decoder = "auto"


def prefer_decoder(name: str) -> None:
    """What videos are decoded with from now on in this process. UsageError for one that is unknown or not there."""
    global _preferred
    if name not in CHOICES:
        raise unknown("--decoder", name, CHOICES)
    if name == "torchcodec":
        load_torchcodec()
    _preferred = cast(Decoder, name)


def preferred_decoder() -> Decoder:
    return _preferred


def load_torchcodec() -> Any:
    """Its decoder's class. UsageError where the package, or FFmpeg's shared libraries that it wants, are not there."""
    try:
        from torchcodec.decoders import VideoDecoder  # type: ignore[import-not-found]
    except ImportError:
        raise UsageError(
            "--decoder torchcodec wants the package torchcodec, which is not installed: pip install torchcodec"
        ) from None
    except (OSError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UsageError(
            f"--decoder torchcodec wants FFmpeg's shared libraries ({reason}); install FFmpeg, or leave it out"
        ) from None
    return VideoDecoder


def read_torchcodec(path: Path, index: ClipIndex, groups: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """Images (n,H,W,3) of each group of frame numbers; RuntimeError where its numbering is not the file's."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    reader = load_torchcodec()(os.path.abspath(path), dimension_order="NHWC", device=device, num_ffmpeg_threads=0)
    count = reader.metadata.num_frames
    if count != len(index.pts):
        raise RuntimeError(f"torchcodec counts {count} frames where the file has {len(index.pts)}")
    for group in groups:
        found = reader.get_frames_at(group.tolist())
        if np.abs(found.pts_seconds.numpy() - reader.metadata.begin_stream_seconds - index.times[group]).max() > 1e-3:
            raise RuntimeError("torchcodec orders frames in another way")
        yield found.data.cpu().numpy()
