"""The lifter around a ray network, with tiny random networks; how a second network is added."""

import json
import sys
from dataclasses import asdict, dataclass
from types import ModuleType

import numpy as np
import pytest
import torch
from made_keypoints import waving
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from hmrkit.camera import assume_camera
from hmrkit.errors import WeightsError
from hmrkit.lifters import LIFTERS, LifterMember, load_lifter
from hmrkit.lifters.ray_lifter import RayLifter, RayNetwork, load_ray_lifter
from hmrkit.lifters.rays import FEATURES
from hmrkit.lifters.timing import resample
from hmrkit.lifters.videopose3d import RayNet, RayNetSize
from hmrkit.skeletons import H36M_17
from hmrkit.weights import save_state

SIZE = {"width": 1280, "height": 720}


@pytest.fixture
def lifter() -> RayLifter:
    torch.manual_seed(0)
    return RayLifter(RayNet(RayNetSize(width=32)))


def test_confidence_counts_only_outside_the_image(lifter):
    points, doubtful = waving(), waving()
    doubtful[..., 2] = 0.05
    wanted = lifter(points, fps=30.0, **SIZE)
    np.testing.assert_array_equal(lifter(doubtful, fps=30.0, **SIZE), wanted)
    points[:, 15, 1], doubtful[:, 15, 1] = 800, 800  # below the lower edge
    missing = points.copy()
    missing[:, 15] = np.nan
    np.testing.assert_array_equal(lifter(doubtful, fps=30.0, **SIZE), lifter(missing, fps=30.0, **SIZE))
    assert np.abs(lifter(points, fps=30.0, **SIZE) - lifter(missing, fps=30.0, **SIZE)).max() > 1e-3


def test_flip_averages(lifter):
    points = waving()
    assert np.abs(lifter(points, fps=30.0, flip=False, **SIZE) - lifter(points, fps=30.0, **SIZE)).max() > 1e-3


def test_known_focal_length_matters_and_the_assumed_one_passed_on_does_not(lifter):
    points = waving()
    plain = lifter(points, fps=30.0, **SIZE)
    np.testing.assert_array_equal(lifter(points, fps=30.0, focal_px=assume_camera(1280, 720).focal_px, **SIZE), plain)
    assert np.abs(lifter(points, fps=30.0, focal_px=700.0, **SIZE) - plain).max() > 1e-3


def test_resample_keeps_samples_and_does_not_cross_gaps():
    values = np.array([[0.0], [2.0], [np.nan], [6.0]], np.float32)
    np.testing.assert_array_equal(resample(values, np.array([0, 0.5, 1, 1.5, 3]))[:, 0], [0, 1, 2, np.nan, 6])


def test_features_and_flip_run_on_another_device(lifter):
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        state = {key: mode.from_tensor(value).to("cuda:0") for key, value in lifter.network.state_dict().items()}
        lifter.network = lambda features, network=lifter.network: torch.func.functional_call(network, state, features)
        joints = lifter.lift_rays(torch.zeros(2, 9, 17, 3, device="cuda:0"), torch.ones(2, device="cuda:0"))
    assert joints.device.type == "cuda"
    assert joints.shape == (2, 9, 17, 3)


# ---- a second network: one module and one line ----


@dataclass(frozen=True)
class DummySize:
    width: int = 8


class Dummy(RayNetwork):
    def __init__(self, size: DummySize) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(FEATURES, size.width), nn.Tanh(), nn.Linear(size.width, 3 * len(H36M_17)))

    @property
    def receptive_field(self) -> int:
        return 1

    def forward(self, features):
        joints = self.layers(features).unflatten(-1, (-1, 3))
        return joints - joints[..., :1, :]


def dummy_module(default_weights) -> ModuleType:
    module = ModuleType("dummy_lifter")
    module.load = lambda checkpoint=None, *, device="cpu": load_ray_lifter(
        checkpoint or default_weights, lambda size: Dummy(DummySize(**size)), device
    )
    return module


def test_a_second_network_is_one_module_and_one_line(tmp_path, monkeypatch):
    torch.manual_seed(0)
    network, path = Dummy(DummySize(width=5)), tmp_path / "dummy.safetensors"
    save_state(network.state_dict(), path, {"network": json.dumps(asdict(DummySize(width=5)))})
    monkeypatch.setitem(sys.modules, "dummy_lifter", dummy_module(path))
    monkeypatch.setitem(LIFTERS, "dummy", LifterMember(module="dummy_lifter", summary="a perceptron on each frame"))
    lifter = load_lifter("dummy")
    assert lifter.receptive_field == 1
    joints = lifter(waving(), fps=25.0, **SIZE)
    assert joints.shape == (60, 17, 3)
    np.testing.assert_array_equal(joints, RayLifter(network)(waving(), fps=25.0, **SIZE))


def test_weights_files_without_usable_sizes_are_refused(tmp_path):
    network, path = Dummy(DummySize()), tmp_path / "dummy.safetensors"
    load = dummy_module(path).load
    for metadata in (None, {"network": json.dumps({"depth": 3})}):
        save_state(network.state_dict(), path, metadata)
        with pytest.raises(WeightsError, match="sizes"):
            load()
    torch.save(network.state_dict(), tmp_path / "dummy.pt")
    with pytest.raises(WeightsError, match="sizes"):
        load(tmp_path / "dummy.pt")


def test_frames_at_their_own_times_are_as_if_the_others_had_been_there(lifter):
    """The second half of a clip at half the rate of the first gives what the whole clip gives there."""
    points = waving()[:60]
    kept = np.r_[0:30, 30:60:2]
    times = kept / 60.0
    thinned = lifter(points[kept], fps=45.0, times=times, **SIZE)
    assert np.abs(thinned - lifter(points, fps=60.0, **SIZE)[kept]).max() < 5e-3
    assert np.abs(lifter(points[kept], fps=45.0, **SIZE) - thinned).max() > 1e-2
    np.testing.assert_array_equal(
        lifter(points, fps=60.0, times=7 + np.arange(60) / 60.0, **SIZE), lifter(points, fps=60.0, **SIZE)
    )
