"""A clip of the free body before a grey wall, plainly shaded: no clothes, no scene, all truth known.

The default detector and keypoints see a person in it, so it shows in seconds whether the chain works.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

from hmrkit.body import load_body
from hmrkit.camera import assume_camera
from hmrkit.geometry import axis_angle_to_matrix
from hmrkit.rendering.options import RenderOptions
from hmrkit.rendering.overlay import Overlay
from hmrkit.rendering.styles import Figure
from hmrkit.rendering.writer import open_writer
from hmrkit.skeletons import SMPL_24

WALL = 150  # grey level


def draw_clip(folder: Path, frames: int, fps: float, size: int = 320) -> np.ndarray:
    """Write PNGs of `size` x `size` px of somebody who lifts a knee and moves to the side; returns the joints
    (T,24,3) m in the camera frame."""
    body, camera = load_body(), assume_camera(size, size)
    time_s = torch.arange(frames) / fps
    pose = torch.zeros(frames, 23, 3)
    left, right, knee = (i - 1 for i in SMPL_24.indices("left_shoulder", "right_shoulder", "left_knee"))
    pose[:, left, 2], pose[:, right, 2], pose[:, knee, 0] = -1.1, 1.1, 1.5 * time_s
    place = torch.stack([0.6 * time_s, torch.zeros(frames), torch.full((frames,), 3.0)], 1)
    upright = axis_angle_to_matrix(torch.tensor([math.pi, 0.0, 0.0])).expand(frames, 3, 3)
    with torch.inference_mode():
        mesh = body(upright, axis_angle_to_matrix(pose), torch.zeros(10), place)
    overlay = Overlay(camera, body.faces, fps, RenderOptions(("overlay",), opacity=1.0, labels=False))
    people = [[Figure(1, vertices)] for vertices in mesh.vertices.numpy()]
    images = overlay.draw(np.full((frames, size, size, 3), WALL, np.uint8), people, range(frames))
    with open_writer(folder, size, size, fps) as writer:
        for k, image in enumerate(images):
            writer.write(image, k)
    return mesh.joints.numpy()
