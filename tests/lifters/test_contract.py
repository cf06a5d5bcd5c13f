"""What every lifter of the table keeps, and published checkpoints too."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from made_keypoints import waving
from torch._subclasses.fake_tensor import FakeTensorMode

from hmrkit.errors import InputError
from hmrkit.lifters import LIFTERS, load_lifter
from hmrkit.lifters.inputs import convert_keypoints
from hmrkit.lifters.semgcn import RaySemGCN, SemGCN, SemGCNSize
from hmrkit.lifters.videopose3d_published import PublishedNet
from hmrkit.skeletons import COCO_17
from hmrkit.weights import save_state

SIZE = {"width": 1280, "height": 720}


SMALL = SemGCNSize(width=16, blocks=1)
# Random networks of the published layouts, and of those that are trained here without shipping.
NETWORKS = {
    "videopose3d": PublishedNet((3, 3, 3), 16, 34, 51),
    "semgcn": SemGCN(SMALL),
    "semgcn, rays": RaySemGCN(SMALL),
}
# Lifter, network of its checkpoint ("" for what ships), order of joints.
READY = [(name, "", None) for name, member in LIFTERS.items() if member.weights or member.for_tests]
MADE = [
    ("videopose3d", "videopose3d", "coco17"),
    ("videopose3d", "videopose3d", "h36m17"),
    ("semgcn", "semgcn", None),
    ("semgcn", "semgcn, rays", None),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lifters")
    torch.manual_seed(0)
    paths = {}
    for name, network in NETWORKS.items():
        paths[name] = folder / f"{name}.safetensors"
        for values in network.state_dict().values():  # batch normalisation has seen something
            if values.ndim == 1:
                values.add_(torch.rand(values.shape))
        save_state(network.state_dict(), paths[name], {"network": json.dumps(asdict(SMALL))})
    return paths


@pytest.fixture(params=READY + MADE, ids=str)
def lifter(request, files):
    name, network, order = request.param
    return load_lifter(name, checkpoint=files[network] if network else None, input_skeleton=order)


def moving(lifter, frames=60):
    """`waving` in the order of joints that the lifter reads."""
    return convert_keypoints(waving(frames), COCO_17, lifter.input_skeleton)


def flipped(joints, skeleton, width=0):
    """Joints or keypoints (T,N,3) in a mirror; `width` of the image where they are pixels."""
    return joints[:, list(skeleton.mirror)] * np.array([-1, 1, 1], np.float32) + np.array([width, 0, 0], np.float32)


@pytest.mark.parametrize("frames", [0, 1, 2, 3, 40])
@pytest.mark.parametrize("fps", [5.0, 30000 / 1001, 120.0])
@pytest.mark.parametrize("flip", [True, False])
def test_any_length_and_frame_rate(lifter, frames, fps, flip):
    joints = lifter(moving(lifter, frames), fps=fps, flip=flip, **SIZE)
    assert joints.shape == (frames, len(lifter.output_skeleton), 3)
    assert joints.dtype == np.float32
    assert np.isfinite(joints).all()
    np.testing.assert_array_equal(joints[:, lifter.output_skeleton.index["pelvis"]], 0)


def test_a_motion_is_lifted_alike_at_any_rate(lifter):
    """Sampled at 60, 30 or 15 Hz or unevenly; as the frames of a clip of 60 Hz the last two are other motions."""
    points, whole = moving(lifter, 121), np.arange(0, 121, 4)
    wanted = lifter(points, fps=60.0, **SIZE)
    uneven = np.unique(np.r_[whole, np.random.default_rng(0).integers(0, 121, 20)])
    for rows in (np.arange(0, 121, 2), whole, uneven):
        joints = lifter(points[rows], fps=20.0, times=rows / 60, **SIZE)
        found = np.abs(joints[np.isin(rows, whole)] - wanted[whole])
        assert found.mean() < 0.02 * wanted.std()
        if lifter.receptive_field > 1 and len(rows) < 60:
            counted = lifter(points[rows], fps=60.0, **SIZE)[np.isin(rows, whole)]
            assert np.abs(counted - wanted[whole]).mean() > 2 * found.mean()


def test_flipped_keypoints_give_flipped_joints(lifter):
    points = moving(lifter)
    joints = lifter(points, fps=30.0, **SIZE)
    other = lifter(flipped(points, lifter.input_skeleton, 1280), fps=30.0, **SIZE)
    np.testing.assert_allclose(flipped(other, lifter.output_skeleton), joints, atol=1e-4)


def test_long_clip_in_pieces_is_the_clip_at_once(lifter):
    points = moving(lifter, 400)
    whole = lifter(points, fps=30.0, **SIZE)
    lifter.piece_frames = 100
    np.testing.assert_allclose(lifter(points, fps=30.0, **SIZE), whole, atol=5e-4)


def test_confidence_zero_is_missing(lifter):
    junk, missing = moving(lifter), moving(lifter)
    junk[5:9, 3] = 1e4, -1e4, 0
    missing[5:9, 3] = np.nan
    for fps in (30.0, 24.0):
        np.testing.assert_array_equal(lifter(junk, fps=fps, **SIZE), lifter(missing, fps=fps, **SIZE))


def test_keypoints_without_confidence(lifter):
    points = moving(lifter)
    np.testing.assert_array_equal(lifter(points[..., :2], fps=30.0, **SIZE), lifter(points, fps=30.0, **SIZE))


def test_gaps_and_frames_without_anybody_are_finite(lifter):
    points = moving(lifter)
    points[10:20] = np.nan
    points[30, 3:9, 2] = 0
    points[:, 9] = np.nan
    assert np.isfinite(lifter(points, fps=12.5, **SIZE)).all()
    assert np.isfinite(lifter(np.full_like(points, np.nan), fps=30.0, **SIZE)).all()


@pytest.mark.parametrize("name", [name for name, _, _ in READY])
def test_a_missing_joint_does_not_spoil_the_others(name):
    lifter = load_lifter(name)
    points, missing = moving(lifter), moving(lifter)
    missing[:, lifter.input_skeleton.index["left_wrist"]] = np.nan
    moved = np.linalg.norm(lifter(missing, fps=30.0, **SIZE) - lifter(points, fps=30.0, **SIZE), axis=-1)
    others = [i for i, joint in enumerate(lifter.output_skeleton.joints) if joint != "left_wrist"]
    assert moved[:, others].mean() < 0.03


def test_keypoints_of_another_form_are_refused(lifter):
    with pytest.raises(InputError, match=lifter.input_skeleton.name.upper()):
        lifter(np.zeros((5, 33, 3), np.float32), fps=30.0, **SIZE)
    with pytest.raises(InputError, match="frame rate"):
        lifter(moving(lifter), fps=0.0, **SIZE)


def test_network_runs_on_another_device(lifter):
    """A constant that stays on the CPU shows on a fake CUDA device, too."""
    network = getattr(lifter, "network", None)
    if network is None:
        pytest.skip("no network")
    inputs = []
    hook = network.register_forward_pre_hook(lambda _, given: inputs.append(given[0].clone()))
    lifter(moving(lifter), fps=30.0, **SIZE)
    hook.remove()
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        state = {key: mode.from_tensor(value).to("cuda:0") for key, value in network.state_dict().items()}
        output = torch.func.functional_call(network, state, (mode.from_tensor(inputs[0]).to("cuda:0"),))
    assert output.device.type == "cuda"
    assert output.shape[-2:] == (len(lifter.output_skeleton), 3)
