"""Video in: what a clip is, and its chosen frames in batches."""

from hmrkit.video.reading import FrameBatch, probe, read_frames, to_frame

__all__ = ["FrameBatch", "probe", "read_frames", "to_frame"]
