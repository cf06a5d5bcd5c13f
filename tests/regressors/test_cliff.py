"""CLIFF: its published checkpoints by name and shape, what it reads of the box, and the network against plain code."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from seeded_weights import published_keys, seeded_crops, seeded_state
from torch import Tensor

from hmrkit.errors import UsageError, WeightsError
from hmrkit.files import sha256_of
from hmrkit.regressors import CropContext, load_regressor
from hmrkit.regressors.cliff import box_numbers
from hmrkit.regressors.crop_camera import translation

KEYS = {name: published_keys(name) for name in ("cliff_res50", "cliff_hr48")}
BOXES = {
    "boxes_xyxy": torch.tensor([[900.0, 100, 1300, 500], [300, 200, 450, 350]]),
    "image_size": torch.tensor([[1280.0, 720], [640, 480]]),
    "focal_px": torch.tensor([1468.6, 800.0]),
}


def saved(state: dict[str, Tensor], path):
    """A file laid out as the published ones: data-parallel names below ``model``."""
    torch.save({"model": {f"module.{key}": value for key, value in state.items()}, "epoch": 7}, path)
    return path


@pytest.fixture(scope="module")
def state():
    return seeded_state(KEYS["cliff_res50"])


@pytest.fixture(scope="module")
def checkpoint(state, tmp_path_factory):
    return saved(state, tmp_path_factory.mktemp("cliff") / "res50-PA45.7_MJE72.0_MVE85.3_3dpw.pt")


def shapes_of(regressor) -> dict[str, tuple[int, ...]]:
    own = {key: tuple(value.shape) for key, value in regressor.state_dict().items()}
    return {key.replace("backbone.", "encoder.", 1).removeprefix("head."): shape for key, shape in own.items()}


def plain_numbers(row: int) -> list[float]:
    """Eq. 5 with the published constants, written down for one crop."""
    x0, y0, x1, y1 = BOXES["boxes_xyxy"][row].tolist()
    (width, height), focal = BOXES["image_size"][row].tolist(), float(BOXES["focal_px"][row])
    across, down = (x0 + x1) / 2 - width / 2, (y0 + y1) / 2 - height / 2
    return [across / focal * 2.8, down / focal * 2.8, ((y1 - y0) - 0.24 * focal) / (0.06 * focal)]


def plain_head(state: dict[str, Tensor], feature: Tensor, numbers: list[float]) -> tuple[Tensor, Tensor, Tensor]:
    """Rotations (24,3,3), betas and camera from one crop's feature: HMR's feedback with the box beside the feature."""

    def linear(x: Tensor, key: str) -> Tensor:
        return state[f"{key}.weight"] @ x + state[f"{key}.bias"]

    pose, shape, camera = (state[f"init_{key}"][0] for key in ("pose", "shape", "cam"))
    for _ in range(3):
        hidden = linear(linear(torch.cat([feature, torch.tensor(numbers), pose, shape, camera]), "fc1"), "fc2")
        pose, shape, camera = (
            value + linear(hidden, key) for value, key in ((pose, "decpose"), (shape, "decshape"), (camera, "deccam"))
        )
    rotations = []
    for six in pose.view(24, 6):
        first = six[0::2] / six[0::2].norm()
        second = six[1::2] - (first * six[1::2]).sum() * first
        second = second / second.norm()
        rotations.append(torch.stack([first, second, torch.linalg.cross(first, second)], -1))
    return torch.stack(rotations), shape, camera


@torch.no_grad()
def test_the_published_checkpoint_is_the_published_network(checkpoint, state) -> None:
    regressor = load_regressor("cliff", checkpoint=checkpoint)
    assert (regressor.name, regressor.framing, regressor.shape_space) == ("cliff", "plain", "smpl")
    assert regressor.input_size == (256, 192)
    assert regressor.weights_sha256 == sha256_of(checkpoint)
    assert shapes_of(regressor) == KEYS["cliff_res50"]
    crops = seeded_crops(2, 256, 192)
    found = regressor(crops, **BOXES)
    features = regressor.backbone(crops).global_feature  # checked against its authors' code in test_published.py
    for b in range(2):
        rotations, betas, camera = plain_head(state, features[b], plain_numbers(b))
        assert (torch.cat([found.global_orient[b, None], found.body_pose[b]]) - rotations).abs().max() < 1e-4
        assert (found.betas[b] - betas).abs().max() < 1e-4
        assert (found.crop_camera[b] - camera).abs().max() < 1e-4
    # It depends on where the crop lies, and not on the rest of the batch.
    moved = regressor(crops, **BOXES | {"boxes_xyxy": BOXES["boxes_xyxy"] + 150})
    assert (moved.body_pose - found.body_pose).abs().max() > 1e-3
    alone = regressor(crops[:1], **{key: value[:1] for key, value in BOXES.items()})
    assert (alone.body_pose - found.body_pose[:1]).abs().max() < 1e-4


def test_the_checkpoint_on_hrnet_fits(tmp_path) -> None:
    state = {key: torch.zeros(shape) for key, shape in KEYS["cliff_hr48"].items()}
    state |= {key: state[key] + 0.25 for key in ("fc2.bias", "encoder.final_layer.1.running_mean")}
    regressor = load_regressor("cliff", checkpoint=saved(state, tmp_path / "hr48.pt"))
    assert shapes_of(regressor) == KEYS["cliff_hr48"]
    assert (len(KEYS["cliff_hr48"]), len(KEYS["cliff_res50"])) == (1967, 331)
    assert float(regressor.head.fc2.bias.mean()) == float(regressor.backbone.final_layer[1].running_mean.mean()) == 0.25


def test_the_box_is_read_against_the_focal_length() -> None:
    found = box_numbers(CropContext(**BOXES))
    assert found.tolist() == pytest.approx(np.array([plain_numbers(0), plain_numbers(1)]), abs=1e-5)
    assert found[0, :2].tolist() == pytest.approx([460 / 1468.6 * 2.8, -60 / 1468.6 * 2.8], abs=1e-5)
    with pytest.raises(UsageError, match="wanted boxes_xyxy, image_size and focal_px"):
        box_numbers(CropContext(boxes_xyxy=BOXES["boxes_xyxy"]))


def test_bodies_stand_where_the_published_formula_puts_them() -> None:
    """Section 3.3: from the crop's scale and shift to a translation in the full camera."""
    camera = torch.tensor([[0.9, 0.05, -0.1], [0.6, 0.0, 0.2]])
    boxes, size, focal = (BOXES[key] for key in ("boxes_xyxy", "image_size", "focal_px"))
    side = boxes[:, 3] - boxes[:, 1]
    center = 128 - ((boxes[:, :2] + boxes[:, 2:]) / 2 - size / 2) * (256 / side)[:, None]
    found = translation(camera, focal * 256 / side, 256, center)
    for b in range(2):
        (s, tx, ty), (x0, y0, x1, y1) = camera[b].tolist(), boxes[b].tolist()
        scale = float(side[b]) * s
        shift_x = 2 * ((x0 + x1) / 2 - float(size[b, 0]) / 2) / scale
        shift_y = 2 * ((y0 + y1) / 2 - float(size[b, 1]) / 2) / scale
        assert found[b].tolist() == pytest.approx([tx + shift_x, ty + shift_y, 2 * float(focal[b]) / scale], rel=1e-5)


def test_files_that_do_not_fit_are_named_in_one_line(state, tmp_path) -> None:
    spin = {key.removeprefix("encoder."): value for key, value in state.items()}
    cases = {
        "1 missing (layer1.0.bn1.weight)": {k: v for k, v in state.items() if k != "encoder.layer1.0.bn1.weight"},
        "1 unexpected (fc3.bias); 1 of another shape (fc1.weight is (1024, 2205) not (1024, 2208))": state
        | {"fc1.weight": torch.zeros(1024, 2205), "fc3.bias": torch.zeros(3)},
        "wanted CLIFF's published checkpoint (keys encoder.* and fc1.weight), found 331 others": spin,
    }
    for message, wrong in cases.items():
        with pytest.raises(WeightsError) as error:
            load_regressor("cliff", checkpoint=saved(wrong, tmp_path / "wrong.pt"))
        assert message in str(error.value)
        assert "\n" not in str(error.value)


def test_smpls_arrays_are_passed_over_and_the_backbone_must_match(state, checkpoint, tmp_path) -> None:
    path = saved(state | {"smpl.v_template": torch.zeros(6890, 3)}, tmp_path / "with_smpl.pt")
    assert torch.equal(load_regressor("cliff", checkpoint=path).head.fc2.bias, state["fc2.bias"])
    with pytest.raises(UsageError, match="on backbone resnet50, not hrnet-w48"):
        load_regressor("cliff", checkpoint=checkpoint, backbone="hrnet-w48")
