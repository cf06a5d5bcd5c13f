"""A small take of two people, one of them calibrated, and its meshes."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from hmrkit.geometry import axis_angle_to_matrix
from hmrkit.types import BodyParams, Calibration, Camera, Keypoints, MeshTrack, Take, Track, VideoInfo

FACES = np.array([[0, 1, 2], [0, 2, 3], [0, 3, 1], [1, 3, 2]], np.int32)


def _params(seed, frames):
    generator = torch.Generator().manual_seed(seed)
    rotations = axis_angle_to_matrix(torch.randn(frames, 24, 3, generator=generator)).numpy()
    betas, transl = (torch.randn(n, generator=generator).numpy() for n in ((10,), (frames, 3)))
    return BodyParams(rotations[:, 0], rotations[:, 1:], betas, transl, "neutral", "a-body")


def _track(track_id, indices):
    indices = np.array(indices)
    boxes, scores = np.zeros((len(indices), 4), np.float32), np.ones(len(indices), np.float32)
    return Track(track_id, indices, boxes, scores, np.zeros(len(indices), bool))


@pytest.fixture
def take():
    """Frames 10..19 at 29.97 Hz, person 1 without frame 13, person 2 late and calibrated."""
    rate, indices = Fraction(30000, 1001), np.arange(10, 20)
    video = VideoInfo("clips/some clip.mp4", "00", 64, 48, rate, 20, indices, indices / float(rate))
    camera = Camera(np.array([70, 71], np.float32), np.array([32, 24], np.float32), 64, 48, "given")
    tracks = (_track(1, [10, 11, 12, 14, 15]), _track(2, [16, 17, 18]))
    keypoints = {t.track_id: Keypoints(np.random.rand(len(t.scores), 17, 3), None, "coco-17") for t in tracks}  # noqa: NPY002
    residual = np.array([4.0, 5.0, np.nan], np.float32)
    calibrated = {2: Calibration(np.zeros((3, 24, 3), np.float32), _params(3, 3), residual)}
    body = {1: _params(1, 5), 2: _params(2, 3)}
    return Take(video, camera, tracks=tracks, keypoints=keypoints, body=body, calibrated=calibrated, faces=FACES)


@pytest.fixture
def meshes(take):
    """Each person's meshes in stretches of two frames."""
    random = np.random.default_rng(0)
    out = []
    for track in take.tracks:
        vertices = random.normal(size=(len(track.frame_indices), 4, 3)).astype(np.float32)
        joints = random.normal(size=(len(track.frame_indices), 24, 3)).astype(np.float32)
        for k in range(0, len(vertices), 2):
            part = slice(k, k + 2)
            out.append(MeshTrack(track.track_id, track.frame_indices[part], vertices[part], joints[part]))
    return out
