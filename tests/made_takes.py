"""A small take of two people on the free body, one of them calibrated, and what its scenes are made with."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from hmrkit.calibration.track import refit
from hmrkit.geometry import axis_angle_to_matrix
from hmrkit.models import Models
from hmrkit.options import Options
from hmrkit.scene import ExportOptions
from hmrkit.scene.build import build_scene
from hmrkit.types import BodyParams, Calibration, Camera, Keypoints, Take, Track, VideoInfo

RATE = Fraction(30000, 1001)


@pytest.fixture(scope="session")
def models():
    return Models(Options(device="cpu"))


def make_params(body, seed, frames):
    """A person who moves about, three metres in front of the camera."""
    generator = torch.Generator().manual_seed(seed)
    start, speed = (torch.randn(1, 24, 3, generator=generator) for _ in range(2))
    time = torch.linspace(0, 0.4, frames)[:, None, None]
    rotations = axis_angle_to_matrix(0.4 * start + 0.6 * speed * time).numpy()
    betas = torch.randn(10, generator=generator).numpy()
    transl = np.array([0.2 * seed, 0.3, 3.0], np.float32) + 0.5 * time[:, 0].numpy()
    return BodyParams(rotations[:, 0], rotations[:, 1:], betas, transl.astype(np.float32), "neutral", body.model_id)


def make_take(models):
    """Frames 10..19 at 29.97 Hz, person 1 without frame 13, person 2 late and calibrated."""
    indices = np.arange(10, 20)
    video = VideoInfo("clips/some clip.mp4", "00", 640, 480, RATE, 20, indices, indices / float(RATE))
    camera = Camera(np.array([700, 710], np.float32), np.array([330, 236], np.float32), 640, 480, "given")
    tracks, keypoints, body = [], {}, {}
    random = np.random.default_rng(0)
    for track_id, frames in ((1, [10, 11, 12, 14, 15]), (2, [16, 17, 18])):
        count = len(frames)
        boxes, scores = np.zeros((count, 4), np.float32), np.ones(count, np.float32)
        tracks.append(Track(track_id, np.array(frames), boxes, scores, np.zeros(count, bool)))
        keypoints[track_id] = Keypoints(random.random((count, 17, 3)).astype(np.float32), None, "coco-17")
        body[track_id] = make_params(models.body, track_id, count)
    given = body[2].global_orient, body[2].body_pose, body[2].betas, body[2].transl_c
    joints = models.body.joints_only(*given).joints.numpy()
    joints = (joints + random.normal(0, 0.02, joints.shape)).astype(np.float32)
    refitted, residual = refit(models.body, body[2], joints, models.calibration)
    calibrated = {2: Calibration(joints, refitted, residual)}
    return Take(
        video, camera, tracks=tuple(tracks), keypoints=keypoints, body=body, calibrated=calibrated,
        faces=models.body.faces, provenance={"regress": {"options": {"mesh": "fit"}}},
    )  # fmt: skip


@pytest.fixture(scope="session")
def take(models):
    return make_take(models)


@pytest.fixture(scope="session")
def scene_of(take, models):
    """Makes a scene of the take with these options, and returns both."""

    def make(**options):
        chosen = ExportOptions(**options)
        return build_scene(take, models, chosen), chosen

    return make
