"""What is read of crops: 3D of both networks, nearer to rendered people than BlazePose alone."""

from __future__ import annotations

import pytest
import torch

from hmrkit.body import load_body
from hmrkit.body.landmarks import body_landmarks, world_from_local
from hmrkit.errors import UsageError
from hmrkit.keypoints import load_keypoints
from hmrkit.keypoints.blazepose_reading import FACE, HIPS, BlazePoseReader, blend_world
from hmrkit.skeletons import BLAZEPOSE_33
from hmrkit.synthetic.images import SyntheticImages


def test_3d_lies_between_both_about_the_hips_and_faces_keep_their_shape() -> None:
    own, points = torch.randn(2, 5, 33, 3, generator=torch.Generator().manual_seed(0))
    both = blend_world(own, points)
    torch.testing.assert_close(both[:, HIPS].mean(1), torch.zeros(5, 3), atol=1e-6, rtol=0)
    torch.testing.assert_close(blend_world(own, own), own - own[:, HIPS].mean(1, keepdim=True))
    apart = points - points[:, HIPS].mean(1, keepdim=True) - (own - own[:, HIPS].mean(1, keepdim=True))
    moved = both - (own - own[:, HIPS].mean(1, keepdim=True))
    knee = BLAZEPOSE_33.index["left_knee"]
    along = (moved * apart).sum(-1) / apart.square().sum(-1)
    assert ((along[:, knee] > 0) & (along[:, knee] < 1)).all()
    torch.testing.assert_close(moved[:, FACE], moved[:, FACE].mean(1, keepdim=True).expand(-1, len(FACE), -1))


@torch.no_grad()
def test_rendered_people_are_read_more_exactly_than_by_blazepose_alone() -> None:
    samples = SyntheticImages("test")(32, torch.Generator().manual_seed(5))
    local = torch.cat([samples.global_orient[:, None], samples.body_pose], 1)
    truth, _ = body_landmarks(load_body())(world_from_local(local), samples.betas)
    truth = truth - truth[:, HIPS].mean(1, keepdim=True)
    errors = []
    for points in (True, False):
        world = BlazePoseReader(torch.device("cpu"), points)(samples.images)[1]
        off = world - world[:, HIPS].mean(1, keepdim=True) - truth
        errors.append(off.norm(dim=-1).mean(1).median())
    assert errors[0] < 0.8 * errors[1]


def test_blazepose_alone_is_chosen_by_its_argument() -> None:
    alone, both = load_keypoints("blazepose-heavy:alone"), load_keypoints("blazepose-heavy")
    assert both.weights_sha256 != alone.weights_sha256
    with pytest.raises(UsageError, match="found blazepose-heavy:mirrored"):
        load_keypoints("blazepose-heavy:mirrored")
