"""What every regressor of the table keeps, on every backbone that it can stand on."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from fake_cuda import on_fake_cuda
from seeded_weights import seeded_crops
from torch._subclasses.fake_tensor import FakeTensorMode

from hmrkit.backbones import BACKBONES
from hmrkit.errors import UsageError, WeightsError
from hmrkit.options import Options
from hmrkit.pipeline import check_checkpoint
from hmrkit.regressors import REGRESSORS, BodyEstimate, CropContext, load_regressor
from hmrkit.regressors.files import ship, write_regressor
from hmrkit.regressors.frame import flatten, mirrored_context, unflatten
from hmrkit.regressors.hmr import HmrNetwork, build, load, network_on
from hmrkit.skeletons import SMPL_24
from hmrkit.training.recipes import trainable
from hmrkit.weights import load_state


@pytest.fixture(scope="module", params=REGRESSORS)
def regressor(request):
    if REGRESSORS[request.param].published:
        pytest.skip("no weights ship: its own tests make some")
    return load_regressor(request.param)


@pytest.fixture(scope="module")
def crops(regressor):
    return seeded_crops(3, *regressor.input_size)


@pytest.fixture(scope="module")
def codes(regressor, crops):
    return codes_of(regressor, crops)


def codes_of(regressor, crops) -> torch.Tensor:
    with torch.inference_mode():
        return regressor.encode(crops)


def decoded(regressor, codes) -> BodyEstimate:
    with torch.inference_mode():
        return regressor.decode(codes, torch.arange(len(codes)) / 30)


def test_bodies_have_the_promised_shapes_and_rotations(regressor, codes) -> None:
    estimate = decoded(regressor, codes)
    shapes = [tuple(value.shape) for value in vars(estimate).values()]
    assert shapes == [(3, 3, 3), (3, 23, 3, 3), (3, 10), (3, 3)]
    rotations = torch.cat([estimate.global_orient[:, None], estimate.body_pose], 1)
    torch.testing.assert_close(rotations @ rotations.mT, torch.eye(3).expand_as(rotations), atol=1e-4, rtol=0)
    assert (estimate.crop_camera[:, 0] > 0).all()


def test_a_call_is_encode_and_decode_of_stills(regressor, crops, codes) -> None:
    with torch.inference_mode():
        whole = flatten(regressor(crops))
    stills = [flatten(decoded(regressor, codes[i : i + 1])) for i in range(len(crops))]
    torch.testing.assert_close(torch.cat(stills), whole, atol=1e-5, rtol=0)


def test_the_size_of_a_batch_changes_no_code(regressor, crops, codes) -> None:
    one_by_one = torch.cat([codes_of(regressor, crop[None]) for crop in crops])
    torch.testing.assert_close(one_by_one, codes, atol=1e-3, rtol=0)


def test_a_mirrored_crop_gives_the_mirrored_body(regressor, crops, codes) -> None:
    if not getattr(regressor, "flip", True):
        pytest.skip("this network is not symmetric")
    straight, mirrored = (decoded(regressor, of) for of in (codes, codes_of(regressor, crops.flip(-1))))
    reflection = torch.diag(torch.tensor([-1.0, 1.0, 1.0]))
    pose = torch.cat([straight.global_orient[:, None], straight.body_pose], 1)[:, list(SMPL_24.mirror)]
    found = torch.cat([mirrored.global_orient[:, None], mirrored.body_pose], 1)
    torch.testing.assert_close(found, reflection @ pose @ reflection, atol=2e-3, rtol=0)
    torch.testing.assert_close(mirrored.betas, straight.betas, atol=2e-3, rtol=0)


@pytest.mark.parametrize("name", trainable(REGRESSORS))
def test_a_recipe_rebuilds_the_network_from_its_file(name, tmp_path) -> None:
    recipe = REGRESSORS[name].load_recipe().PRESETS["cpu"]
    recipe = dataclasses.replace(recipe, network=dataclasses.replace(recipe.network, hidden=16))
    made = REGRESSORS[name].load_module().build(name, recipe.network).eval()
    write_regressor(made, recipe, tmp_path / "own.safetensors")
    found = load_regressor(name, checkpoint=tmp_path / "own.safetensors")
    assert found.network == recipe.network
    assert found.weights_sha256
    made.load_state_dict({key: value.half().float() for key, value in made.state_dict().items()})
    crops = seeded_crops(1, *made.input_size)
    assert torch.equal(codes_of(found, crops), codes_of(made, crops))


def test_a_backbone_that_ships_is_kept_once(tmp_path) -> None:
    recipe = REGRESSORS["hmr"].load_recipe().PRESETS["cpu"]
    recipe = dataclasses.replace(recipe, network=HmrNetwork(hidden=16))
    shared, own = build("hmr", recipe.network, "default"), build("hmr", recipe.network)
    for regressor, whole in ((shared, False), (own, True)):
        path = tmp_path / "hmr.safetensors"
        write_regressor(regressor, recipe, path)
        assert any(key.startswith("backbone.") for key in load_state(path)) is whole
        found = load("hmr", path, device="cpu").state_dict()
        assert all(torch.equal(found[key], value.half().float()) for key, value in regressor.state_dict().items())
        written = [str(p.relative_to(tmp_path / "weights")) for p in ship(path, tmp_path / "weights")]
        assert written == ["regressors/hmr.safetensors", "backbones/embedded.safetensors"][: 1 + whole]


@pytest.mark.parametrize(
    ("name", "backbone"),
    [
        (name, on)
        for name, member in REGRESSORS.items()
        for on in member.backbones or BACKBONES
        # Fake CUDA has no recurrent networks; hrnet-w48 is hrnet-w32 with more channels, and to a regressor what
        # resnet50 is.
        if name != "vibe" and (member.backbones or not on.startswith("hrnet") or (name, on) == ("hmr", "hrnet-w32"))
    ],
)
def test_it_runs_on_another_device(name, backbone) -> None:
    """A constant that stays on the CPU shows on a fake CUDA device, too."""
    regressor = load_regressor(name, weights=None, backbone=backbone)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, torch.no_grad():
        moved = on_fake_cuda(regressor, mode)
        crops = mode.from_tensor(torch.rand(2, 3, *regressor.input_size)).to("cuda:0")
        known = (torch.rand(2, 33, 3), torch.rand(2, 4), torch.rand(2, 2), torch.rand(2))
        codes = moved.encode(crops, CropContext(*(mode.from_tensor(value).to("cuda:0") for value in known)))
        estimate = moved.decode(codes, mode.from_tensor(torch.arange(2.0)).to("cuda:0"))
    assert {value.device.type for value in (codes, *vars(estimate).values())} == {"cuda"}


@pytest.mark.parametrize("name", [name for name, member in REGRESSORS.items() if member.published])
def test_a_network_without_weights_says_which_file_it_wants(name) -> None:
    for make in (lambda: load_regressor(name), lambda: check_checkpoint(Options(method=name), ("regress",))):
        with pytest.raises(WeightsError, match=f"{name} has no weights of its own; give --checkpoint FILE: .*https://"):
            make()
    for on in set(BACKBONES) - set(REGRESSORS[name].backbones):
        with pytest.raises(UsageError, match=f"{name} stands on .*, not on {on}"):
            load_regressor(name, weights=None, backbone=on)


def test_a_body_as_a_row_is_the_body() -> None:
    codes = torch.randn(4, 229)
    assert torch.equal(flatten(unflatten(codes)), codes)


def test_a_flipped_context_belongs_to_the_flipped_crop() -> None:
    context = CropContext(
        joints_2d=torch.tensor([[[10.0, 20, 0.5]] * 33]),
        boxes_xyxy=torch.tensor([[100.0, 50, 160, 250]]),
        image_size=torch.tensor([[640.0, 480]]),
        focal_px=torch.tensor([900.0]),
    )
    flipped = mirrored_context(context, 256)
    assert flipped.boxes_xyxy.tolist() == [[480, 50, 540, 250]]
    assert flipped.joints_2d[0, 0].tolist() == [246, 20, 0.5]
    for one, other in zip(
        dataclasses.astuple(mirrored_context(flipped, 256)), dataclasses.astuple(context), strict=True
    ):
        assert torch.equal(one, other)


def test_another_networks_file_is_refused(tmp_path) -> None:
    @dataclasses.dataclass(frozen=True)
    class Other:
        network: dict

    write_regressor(
        build("hmr", HmrNetwork(hidden=8)), Other({"backbone": "embedded", "cells": 3}), tmp_path / "o.safetensors"
    )
    with pytest.raises(WeightsError, match="wanted the weights of hmr, found another network's"):
        load("hmr", tmp_path / "o.safetensors", device="cpu")


def test_a_backbone_has_the_form_that_hmr_has_there() -> None:
    assert network_on("embedded") == HmrNetwork()
    assert (network_on("resnet50").encoder, network_on("resnet50").flip) == (False, False)
