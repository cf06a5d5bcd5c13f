"""Single images of a sequence, whatever it is stored as."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hmrkit.datasets import EvalSequence
from hmrkit.errors import InputError
from hmrkit.video import probe, read_frames
from hmrkit.video.images import read_image
from hmrkit.video.sequences import list_images


def image_of(sequence: EvalSequence, frame: int) -> np.ndarray:
    """An image (H,W,3) uint8 RGB of a sequence; InputError where it cannot be read."""
    frames = sequence.frames
    if frames is None:
        raise InputError(f"{sequence.name}: its images are not there")
    if isinstance(frames, tuple):
        return read_image(frames[frame])
    if frames.is_dir():
        return read_image(list_images(frames)[frame])
    for batch in read_frames(probe(frames, start=frame, end=frame + 1, keep_numbers=False), batch_size=1):
        if len(batch.frames):
            return batch.frames[0]
    raise InputError(f"{frames}: frame {frame} cannot be read")


def images_of(sequence: EvalSequence) -> Iterator[tuple[int, np.ndarray]]:
    """Every image with its number, one at a time; a video's frames that cannot be decoded are left out."""
    frames = sequence.frames
    if frames is None:
        raise InputError(f"{sequence.name}: its images are not there")
    if isinstance(frames, tuple) or frames.is_dir():
        paths = frames if isinstance(frames, tuple) else list_images(frames)
        for k, path in enumerate(paths[: sequence.frame_count]):
            yield k, read_image(path)
        return
    for batch in read_frames(probe(frames, end=sequence.frame_count, keep_numbers=False)):
        yield from zip((int(i) for i in batch.frame_indices), batch.frames, strict=True)
