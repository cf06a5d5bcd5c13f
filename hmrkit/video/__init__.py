"""Video in: what a clip is, and its chosen frames in batches."""

from hmrkit.video.probing import frame_number, probe
from hmrkit.video.reading import FrameBatch, read_frames

__all__ = ["FrameBatch", "frame_number", "probe", "read_frames"]
