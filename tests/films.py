"""Little films for tests: a bright figure that walks over a dark ground, made by PyAV."""

from fractions import Fraction

import av
import numpy as np


def write_film(path, frames=12, size=(96, 128), rate=Fraction(10), empty=False, step=3):
    """An H.264 film of `frames` images (H, W) with one figure that moves by `step` px a frame, or with nobody."""
    height, width = size
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for t in range(frames):
            image = np.full((height, width, 3), 20, np.uint8)
            if not empty:
                left = round(20 + step * t)
                image[15:85, left : left + 26] = 220
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


TOYS = ["--detector", "toy", "--tracker", "toy", "--keypoints", "toy", "--lifter", "toy", "--device", "cpu"]
