"""SGRE's published checkpoint: its tensors by name and shape, and the whole network against plain code."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from plain_pose_guided import Plain, rotation
from seeded_weights import published_keys, ruled_state, seeded_crops, seeded_state
from torch import Tensor

from hmrkit.errors import UsageError, WeightsError
from hmrkit.regressors import BodyEstimate, load_regressor
from hmrkit.regressors.crop_camera import translation
from hmrkit.regressors.pose_guided import GRAPH_15, JOINTS_30, heatmaps, joints_30
from hmrkit.regressors.sgre_published import CONFIDENT, PublishedSgre
from hmrkit.skeletons import BLAZEPOSE_33, SMPL_24

KEYS = published_keys("sgre")
STORED = Path(__file__).parent.parent / "data" / "sgre_oracle.npz"


@pytest.fixture(scope="module")
def state():
    found = seeded_state(KEYS)
    # Rotations add up along the chain; small steps keep them away from the poles of 6D.
    return {k: v * (0.3 if "pose_branch" in k or "position_net" in k else 1) for k, v in found.items()}


@pytest.fixture(scope="module")
def checkpoint(state, tmp_path_factory):
    """A file laid out as the published one: data-parallel names below ``network``, an optimizer beside it."""
    path = tmp_path_factory.mktemp("sgre") / "snapshot_10.pth.tar"
    torch.save({"epoch": 10, "network": {f"module.{k}": v for k, v in state.items()}, "optimizer": {"state": {}}}, path)
    return path


@pytest.fixture
def keypoints(rng) -> Tensor:
    joints = torch.rand(2, 33, 3, generator=rng) * torch.tensor([256.0, 256.0, 1.0])
    joints[0, BLAZEPOSE_33.index["left_wrist"], 2] = 0
    return joints


class PlainSgre(Plain):
    """SGRE's own part."""

    def __call__(self, image: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        """An image feature (2048,8,8) -> 24 global 6D rotations, betas, camera."""
        volumes = self.conv(image[None], "position_net.conv.0")[0].view(30, 8, 8, 8)
        found = [self.joint(volume) for volume in volumes]
        local = [self.sample(image, at) for at, _ in found]
        every = [torch.cat([local[j], found[j][0], found[j][1][None]]) for j in range(30)]
        feature = self.graph([every[JOINTS_30.index[n]] for n in GRAPH_15.joints])
        six = [self.linear(feature, "rotation_net.global_rot.0")]
        for joint in range(1, 24):
            above, key = six[SMPL_24.parents[joint]], f"rotation_net.pose_branch.{joint - 1}"
            hidden = self.linear(torch.cat([feature, local[joint], above]), f"{key}.0").relu()
            six.append(above + self.linear(self.linear(hidden, f"{key}.2").relu(), f"{key}.4"))
        return six, self.linear(feature, "rotation_net.shape_out.0"), self.linear(feature, "rotation_net.cam_out.0")


@torch.no_grad()
def test_the_published_checkpoint_is_the_published_network(checkpoint, state, keypoints) -> None:
    regressor = load_regressor("sgre", checkpoint=checkpoint)
    assert (regressor.framing, regressor.shape_space, regressor.input_size) == ("box", "smpl", (256, 256))
    assert {k: tuple(v.shape) for k, v in regressor.state_dict().items()} == KEYS
    assert len(KEYS) == 1416
    crops, plain = seeded_crops(2, 256, 256), PlainSgre(state)
    found: BodyEstimate = regressor(crops, joints_2d=keypoints)
    images = plain.image_feature(crops, heatmaps(joints_30(keypoints), CONFIDENT))
    cameras = []
    for b, image in enumerate(images):
        six, betas, camera = plain(image)
        world = [rotation(numbers) for numbers in six]
        wanted = [world[p].T @ world[j] if j else world[0] for j, p in enumerate(SMPL_24.parents)]
        assert (torch.cat([found.global_orient[b, None], found.body_pose[b]]) - torch.stack(wanted)).abs().max() < 1e-4
        assert (found.betas[b] - betas).abs().max() < 1e-4
        cameras.append(camera)
    # The place of the body in the published camera is that of ours, seen with the same focal length.
    camera = torch.stack(cameras)
    depth = camera[:, 2].sigmoid() * math.sqrt(5000**2 * 2.5**2 / 256**2)
    wanted = torch.cat([camera[:, :2], depth[:, None]], 1)
    torch.testing.assert_close(translation(found.crop_camera, torch.full((2,), 5000.0)), wanted, atol=1e-4, rtol=1e-4)
    assert (found.body_pose[0] - found.body_pose[1]).abs().max() > 1e-3  # it depends on what it reads
    moved = regressor(crops, joints_2d=keypoints.flip(1))
    assert (moved.body_pose - found.body_pose).abs().max() > 1e-3


def test_the_published_network_wants_2d_joints(checkpoint) -> None:
    with pytest.raises(UsageError, match="joints_2d"):
        load_regressor("sgre", checkpoint=checkpoint)(torch.rand(1, 3, 256, 256))
    with pytest.raises(UsageError, match="was trained on backbone resnet50"):
        load_regressor("sgre", checkpoint=checkpoint, backbone="embedded")


def test_no_constant_stays_on_another_device() -> None:
    regressor = PublishedSgre("sgre").to("meta")
    crops, joints = torch.empty(2, 3, 256, 256, device="meta"), torch.empty(2, 33, 3, device="meta")
    assert {value.device.type for value in vars(regressor.eval()(crops, joints_2d=joints)).values()} == {"meta"}


def test_heatmaps_are_gaussians_at_the_joints_that_are_known(keypoints) -> None:
    joints = joints_30(keypoints)
    found = heatmaps(joints, CONFIDENT)
    assert found.shape == (2, 30, 64, 64)
    b, knee = 1, JOINTS_30.index["right_knee"]
    keypoints[b, BLAZEPOSE_33.index["right_knee"], 2] = 0.9
    found = heatmaps(joints_30(keypoints), CONFIDENT)
    x, y = (keypoints[b, BLAZEPOSE_33.index["right_knee"], :2] / 4).tolist()
    for v, u in ((10, 20), (round(y), round(x))):
        wanted = math.exp(-((u - x) ** 2 + (v - y) ** 2) / (2 * 2.5**2))
        assert float(found[b, knee, v, u]) == pytest.approx(wanted, abs=1e-5)
    assert found[0, JOINTS_30.index["left_wrist"]].abs().max() == 0
    lacking = [name for name in JOINTS_30.joints if name not in BLAZEPOSE_33.index and name not in ("pelvis", "neck")]
    assert found[:, JOINTS_30.indices(*lacking)].abs().max() == 0
    hips = keypoints[:, BLAZEPOSE_33.indices("left_hip", "right_hip")]
    torch.testing.assert_close(joints[:, 0, :2], hips[..., :2].mean(1))


def test_a_checkpoint_of_3dcrowdnet_alone_is_refused(state, tmp_path) -> None:
    path = tmp_path / "snapshot_6.pth.tar"
    torch.save({"network": {"module.backbone.conv1.weight": state["backbone.conv1.weight"]}}, path)
    with pytest.raises(WeightsError, match="found neither"):
        load_regressor("sgre", checkpoint=path)


def test_it_gives_what_the_authors_code_gives() -> None:
    stored = {key: torch.from_numpy(value) for key, value in np.load(STORED).items()}
    joints = torch.cat([4 * stored["joints"][..., :2], stored["openpose"].new_zeros(1, len(JOINTS_30), 1)], -1)
    # Where the published loader has a joint, whatever its score is, there is a map; else there is none.
    joints[..., 2] = stored["mask"]
    heat = heatmaps(joints, CONFIDENT)
    torch.testing.assert_close(heat[..., ::4, ::4], stored["heat_sub4"].float(), atol=1e-3, rtol=0)
    network = PublishedSgre("sgre").eval()
    network.load_state_dict(ruled_state(KEYS))
    with torch.inference_mode():
        found = network.estimate_guided(stored["image"].float() / 255, heat)
    rotations = torch.cat([found.global_orient[:, None], found.body_pose], 1)
    torch.testing.assert_close(rotations, stored["rotations"], atol=1e-4, rtol=0)
    torch.testing.assert_close(found.betas, stored["betas"], atol=1e-4, rtol=0)
    scale = 2 / (2.5 * stored["camera"][:, 2:].sigmoid())
    wanted = torch.cat([scale, stored["camera"][:, :2]], 1)
    torch.testing.assert_close(found.crop_camera, wanted, atol=1e-4, rtol=0)


def test_joints_outside_of_the_crop_get_no_heatmap() -> None:
    joints = torch.tensor([[[-1.0, 100.0, 1.0], [100.0, 257.0, 1.0], [255.0, 3.0, 1.0]]])
    assert heatmaps(joints, CONFIDENT).amax((2, 3))[0].gt(0).tolist() == [False, False, True]


def test_the_bodys_own_arrays_in_a_checkpoint_are_passed_over(state, tmp_path) -> None:
    path = tmp_path / "snapshot_10.pth.tar"
    arrays = {"human_model_layer.th_betas": torch.zeros(1, 10)}
    torch.save({"network": {f"module.{k}": v for k, v in (state | arrays).items()}}, path)
    assert isinstance(load_regressor("sgre", checkpoint=path), PublishedSgre)
