"""The landmarks whose movement is known in closed form are those of the body."""

import torch

from hmrkit.body import load_body
from hmrkit.body.landmark_motion import LandmarkMotion
from hmrkit.body.landmarks import body_landmarks
from hmrkit.geometry import axis_angle_to_matrix


def test_points_are_the_bodys_landmarks_and_joints():
    generator = torch.Generator().manual_seed(0)
    world = axis_angle_to_matrix(torch.randn(5, 24, 3, generator=generator))
    betas = torch.randn(5, 10, generator=generator)
    points = body_landmarks(load_body())
    landmarks, joints = points(world, betas)
    found, _ = LandmarkMotion(points, betas)(world)
    torch.testing.assert_close(found.mT, torch.cat([landmarks, joints], 1), rtol=0, atol=1e-5)
