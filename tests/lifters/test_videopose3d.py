"""Both networks of videopose3d: which one a file holds, and the published layout."""

import json
import re

import numpy as np
import pytest
import torch
from made_keypoints import waving

from hmrkit.errors import UsageError, WeightsError
from hmrkit.lifters import load_lifter
from hmrkit.lifters.ray_lifter import RayLifter
from hmrkit.lifters.videopose3d import RayNet, RayNetSize
from hmrkit.lifters.videopose3d_published import PublishedNet
from hmrkit.weights import save_state

SIZE = {"width": 1280, "height": 720}


def test_sizes_in_the_file_rebuild_the_network(tmp_path):
    """The form of files from before the sizes were a dataclass, which is also today's."""
    torch.manual_seed(0)
    network, path = RayNet(RayNetSize(width=24, frame_blocks=1, dilations=(1, 2))), tmp_path / "small.safetensors"
    metadata = {"network": json.dumps({"width": 24, "frame_blocks": 1, "dilations": [1, 2]})}
    save_state({key: value.half() for key, value in network.state_dict().items()}, path, metadata)
    lifter = load_lifter("videopose3d", checkpoint=path)
    assert lifter.receptive_field == 7
    network.load_state_dict({key: value.half().float() for key, value in network.state_dict().items()})
    wanted = RayLifter(network)(waving(), fps=30.0, **SIZE)
    np.testing.assert_array_equal(lifter(waving(), fps=30.0, **SIZE), wanted)


@pytest.mark.parametrize(("filters", "frames"), [((3, 3, 3), 27), ((3, 3, 3, 3, 3), 243)])
@pytest.mark.parametrize("inputs", [34, 51])
def test_published_layout(tmp_path, filters, frames, inputs):
    torch.manual_seed(0)
    net = PublishedNet(filters, 16, inputs, 51).eval()
    path = tmp_path / "pretrained.bin"
    torch.save({"epoch": 80, "lr": 1e-3, "model_pos": net.state_dict()}, path)
    lifter = load_lifter("videopose3d", checkpoint=path)
    assert lifter.receptive_field == frames
    assert re.fullmatch("[0-9a-f]{64}", lifter.weights_sha256)
    # A clip of exactly one receptive field: its middle frame sees no repeated end.
    points = waving(frames)
    screen = points.copy()
    screen[..., :2] = points[..., :2] / 1280 * 2 - np.array([1, 720 / 1280])
    wanted = net(torch.from_numpy(screen[None, :, :, : inputs // 17]))[0, 0].detach().numpy()
    joints = lifter(points, fps=50.0, flip=False, **SIZE)
    np.testing.assert_allclose(joints[frames // 2], wanted - wanted[:1], atol=1e-5)
    assert lifter(points[:1], fps=50.0, **SIZE).shape == (1, 17, 3)


def test_published_channels_and_names():
    """Keys and shapes as published (reference: the repository's pretrained_h36m_*.bin)."""
    with torch.device("meta"):
        state = PublishedNet((3,) * 5, 1024, 34, 51).state_dict()
    assert len(state) == 56
    assert state["layers_conv.6.weight"].shape == (1024, 1024, 3)
    assert state["layers_conv.7.weight"].shape == (1024, 1024, 1)
    assert state["shrink.weight"].shape == (51, 1024, 1)
    assert "expand_conv.bias" not in state


def test_other_checkpoints_are_refused(tmp_path):
    trajectory, other = tmp_path / "trajectory.bin", tmp_path / "other.bin"
    torch.save({"model_pos": PublishedNet((3, 3, 3), 8, 34, 3).state_dict()}, trajectory)
    torch.save({"model_pos": torch.nn.Linear(2, 2).state_dict()}, other)
    with pytest.raises(WeightsError, match="3 outputs"):
        load_lifter("videopose3d", checkpoint=trajectory)
    with pytest.raises(WeightsError, match="found"):
        load_lifter("videopose3d", checkpoint=other)
    with pytest.raises(UsageError, match="videopose3d"):
        load_lifter("nonesuch")
