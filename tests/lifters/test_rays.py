"""The features: what they remove must come back exactly, and missing joints must not change them."""

import math

import numpy as np
import pytest
import torch

from hmrkit.camera import assume_camera, camera_from_ray
from hmrkit.lifters.rays import FEATURES, _facing, encode
from hmrkit.skeletons import COCO_17


@pytest.fixture
def people() -> torch.Tensor:
    """Joints (2,40,17,3) m in front of a camera, with x, y, z."""
    g = torch.Generator().manual_seed(0)
    rest = torch.randn(2, 1, 17, 3, generator=g) * torch.tensor([0.2, 0.4, 0.2])
    rest[:, :, COCO_17.indices("left_shoulder", "right_shoulder")] = torch.tensor([[0.18, -0.5, 0], [-0.18, -0.5, 0.1]])
    rest[:, :, COCO_17.indices("left_hip", "right_hip")] = torch.tensor([[0.1, 0, 0.1], [-0.1, 0, 0]])
    path = torch.linspace(0, 1, 40)[None, :, None, None] * torch.tensor([1.0, 0.3, -0.5])
    return rest + path + torch.tensor([-0.8, 0.4, 4.0]) + 0.02 * torch.randn(2, 40, 17, 3, generator=g)


def rays_of(points: torch.Tensor) -> torch.Tensor:
    return torch.cat([points[..., :2] / points[..., 2:], torch.ones_like(points[..., :1])], -1)


def test_features_are_the_projection_in_the_virtual_camera(people):
    features, real_from_virtual = encode(rays_of(people), torch.ones(2))
    virtual = people @ real_from_virtual
    plane = virtual[..., :2] / virtual[..., 2:]
    joints = features[..., :51].unflatten(-1, (17, 3))
    size = (features[..., 51] * 2 - 2).exp()[..., None, None]
    torch.testing.assert_close(joints[..., :2] * size, plane, atol=1e-5, rtol=1e-4)
    assert features.shape[-1] == FEATURES


def test_axes_are_rotations_and_face_the_trunk(people):
    _, rotation = encode(rays_of(people), torch.ones(2))
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).expand_as(rotation), atol=1e-5, rtol=0)
    assert (torch.linalg.det(rotation) > 0.99).all()
    trunk = people[:, :, COCO_17.indices("left_hip", "right_hip", "left_shoulder", "right_shoulder")].mean(2)
    forward = torch.nn.functional.normalize(trunk, dim=-1)
    assert ((rotation[..., 2] * forward).sum(-1) > math.cos(math.radians(3))).all()


def test_roll_of_the_camera_is_removed(people):
    angle = math.radians(25)
    spin = torch.tensor([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]])
    trunk = {}
    for name, points in (("level", people), ("rolled", people @ spin.mT)):
        features, _ = encode(rays_of(points), torch.ones(2))
        joints = features[..., :51].unflatten(-1, (17, 3))[..., :2]
        hips = joints[:, :, COCO_17.indices("left_hip", "right_hip")].mean(2)
        up = joints[:, :, COCO_17.indices("left_shoulder", "right_shoulder")].mean(2) - hips
        trunk[name] = torch.rad2deg(torch.atan2(up[..., 0], -up[..., 1])).abs().max()
    assert trunk["rolled"] < 9  # the upright prior keeps a little of 25 degrees
    assert trunk["level"] < 9


def test_missing_joints_change_nothing(people):
    rays = rays_of(people)
    gone = torch.rand(2, 40, 17, generator=torch.Generator().manual_seed(1)) < 0.3
    as_nan = torch.where(gone[..., None], torch.nan, rays)
    as_junk = torch.where(gone[..., None], torch.tensor([7.0, -9.0, 0.0]), rays)
    for mine, other in zip(encode(as_nan, torch.ones(2)), encode(as_junk, torch.ones(2)), strict=True):
        assert torch.isfinite(mine).all()
        assert torch.equal(mine, other)


def test_clip_with_nobody_is_finite():
    features, rotation = encode(torch.full((1, 5, 17, 3), torch.nan), torch.zeros(1))
    assert torch.isfinite(features).all()
    assert torch.isfinite(rotation).all()


def test_facing_is_camera_from_ray():
    camera = assume_camera(1280, 720)
    pixels = np.random.default_rng(0).uniform(0, 1280, (50, 2)).astype(np.float32)
    center = torch.from_numpy((pixels - camera.center_px) / camera.focal_px)
    np.testing.assert_allclose(_facing(center).numpy(), camera_from_ray(camera, pixels), atol=1e-5)
