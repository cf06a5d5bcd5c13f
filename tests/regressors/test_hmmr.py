"""HMMR: 13 instants at any frame rate, stills, files that share hmr's encoder, clips that teach."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn
from torch.nn.functional import pad

from hmrkit.backbones import Features
from hmrkit.body import load_body
from hmrkit.errors import WeightsError
from hmrkit.regressors import load_regressor
from hmrkit.regressors.files import write_regressor
from hmrkit.regressors.frame import flatten
from hmrkit.regressors.hmmr import LONGEST_GAP, RATE, HmmrNetwork, HmmrRegressor, sample_track
from hmrkit.synthetic.moving_poses import MovingPoses
from hmrkit.training import kept_examples as kept
from hmrkit.training.clip_loss import Clips, MotionWeights, clip_loss, delta_heads
from hmrkit.training.keypoint_noise import LandmarkNoise, true_points
from hmrkit.training.moving_people import MovingLandmarks
from hmrkit.training.recipe import changed
from hmrkit.training.recipes import hmmr as recipe_of
from hmrkit.weights import load_state, save_state

CHANNELS = 5
SMALL = HmmrNetwork(hidden=16, width=8, still="", flip=False)


class MeanColours(nn.Module):
    """A backbone whose feature is five numbers of the crop."""

    input_size, global_channels = (8, 8), CHANNELS

    def forward(self, crops):
        return Features(crops.flatten(1)[:, :CHANNELS], ())


def small(**changes) -> HmmrRegressor:
    """A network whose temporal encoder does something."""
    torch.manual_seed(0)
    regressor = HmmrRegressor("hmmr", dataclasses.replace(SMALL, **changes), MeanColours()).eval()
    nn.init.normal_(regressor.temporal.widen.weight)
    return regressor


@torch.no_grad()
def strips(regressor: HmmrRegressor, feature: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
    return regressor.strips(feature[None], times)[0]


def test_fewer_blocks_see_fewer_instants(rng) -> None:
    seen = {}
    for variant in recipe_of.ABLATION:
        blocks = changed(recipe_of.PRESETS["cpu"], variant.changes).network.blocks
        regressor, feature = small(blocks=blocks), torch.randn(31, CHANNELS, generator=rng)
        times = torch.arange(31) / RATE
        before = strips(regressor, feature, times)
        feature[15] += 1
        changes = (strips(regressor, feature, times) - before).abs().amax(1) > 1e-5
        seen[variant.name] = int(changes.sum())
    assert [seen[name] for name in ("13 instants", "5 instants", "a single instant")] == [13, 5, 1]


def test_on_regular_frames_it_is_one_pass_of_residual_convolutions(rng) -> None:
    regressor, feature = small(), torch.randn(20, CHANNELS, generator=rng)
    temporal = regressor.temporal
    with torch.no_grad():
        phi = regressor.encoder(feature)
        x = pad(temporal.narrow(phi).T[None], (6, 6), mode="replicate")[0].T
        for block in temporal.blocks:
            y = x
            for norm, convolution in zip(block.norms, block.convolutions, strict=True):
                active = norm(y).relu()
                taps = convolution.weight  # (out, in, 3)
                y = torch.stack(
                    [sum(taps[:, :, k] @ active[t + k] for k in range(3)) + convolution.bias for t in range(len(y) - 2)]
                )
            x = x[2:-2] + y
        wanted = phi + temporal.widen(temporal.norm(x))
    torch.testing.assert_close(strips(regressor, feature, torch.arange(20) / RATE), wanted, atol=1e-4, rtol=1e-4)


def test_between_frames_a_track_is_linear_and_held_where_nothing_is_near(rng) -> None:
    times, values = torch.tensor([0.0, 0.1, 0.3, 2.3]), torch.randn(4, 3, generator=rng)
    at = torch.tensor([-1.0, 0.05, 0.1, 0.25, 1.0, 1.4, 2.3, 9.0])
    found = sample_track(values, times, at)
    for instant, value in zip(at.tolist(), found, strict=True):
        seconds = min(max(instant, 0.0), 2.3)
        k = max(i for i in range(3) if times[i] <= seconds)
        span = float(times[k + 1] - times[k])
        share = (seconds - float(times[k])) / span
        share = float(share > 0.5) if span > LONGEST_GAP else share
        torch.testing.assert_close(value, values[k] + share * (values[k + 1] - values[k]), atol=1e-5, rtol=0)
    assert torch.equal(sample_track(values[:1], times[:1], at), values[:1].expand(8, 3))


def test_a_long_gap_parts_a_track_and_many_frames_change_nothing(rng, monkeypatch) -> None:
    regressor, feature = small(), torch.randn(24, CHANNELS, generator=rng)
    times = torch.arange(24, dtype=torch.float64) / 30
    times[12:] += 60
    whole = strips(regressor, feature, times)
    parts = [strips(regressor, feature[rows], times[rows]) for rows in (slice(0, 12), slice(12, 24))]
    torch.testing.assert_close(whole, torch.cat(parts), atol=1e-4, rtol=0)
    monkeypatch.setattr("hmrkit.regressors.hmmr._AT_ONCE", 5)
    torch.testing.assert_close(strips(regressor, feature, times), whole, atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_frame_rate_hardly_matters(rng) -> None:
    """A slow motion seen at 60, 30 and 15 Hz gives the same bodies at the same times."""
    regressor, direction = small(), torch.randn(2, CHANNELS, generator=rng)

    def bodies(rate: int) -> torch.Tensor:
        times = torch.arange(2 * rate + 1) / rate
        feature = direction[0] * torch.sin(2 * times)[:, None] + direction[1]
        codes = torch.cat([feature, torch.zeros(len(times), 3)], 1)
        return flatten(regressor.decode(codes, times))[:: rate // 15]

    fast, usual, slow = bodies(60), bodies(30), bodies(15)
    moved = (usual - usual[:1]).abs().max()
    assert (fast - usual).abs().max() < 0.01 * moved
    assert (slow - usual).abs().max() < 0.05 * moved


@torch.no_grad()
def test_it_begins_as_hmr_and_its_file_leaves_out_what_hmr_holds(tmp_path) -> None:
    network = HmmrNetwork()
    regressor = recipe_of.build("hmmr", network, "default").eval()
    recipe_of.start_from_still(regressor, "hmr")
    crops = torch.rand(2, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(flatten(regressor(crops)), flatten(load_regressor("hmr")(crops)), atol=1e-5, rtol=0)
    regressor.head.deccam.bias += 0.5
    regressor.deltas = delta_heads(network.hidden)
    path = tmp_path / "hmmr.safetensors"
    write_regressor(regressor, recipe_of.PRESETS["cpu"], path)
    names = load_state(path)
    assert "head.deccam.bias" in names
    assert not [name for name in names if name.startswith(("encoder.", "deltas.", "backbone."))]
    found = load_regressor("hmmr", checkpoint=path)
    torch.testing.assert_close(flatten(found(crops)), flatten(regressor(crops)), atol=2e-3, rtol=0)
    # A straight and a mirrored feature and the hips of each.
    assert found.encode(crops).shape == (2, 2 * (806 + 3))
    other = {"recipe": '{"network": {"backbone": "embedded", "still": "hmr"}}', "shared": "0" * 64}
    save_state(names, path, other)
    with pytest.raises(WeightsError, match=r"wanted regressors/hmr\.safetensors with sha256 000"):
        load_regressor("hmmr", checkpoint=path)


def test_people_move_on_and_stay_who_they_are() -> None:
    local, betas = MovingPoses().clips(6, [0.0, 0.01, 0.4], seed=3)
    assert local.shape == (6, 3, 24, 3, 3)
    torch.testing.assert_close(local @ local.mT, torch.eye(3).expand_as(local), atol=1e-5, rtol=0)
    near, far = ((local[:, k] - local[:, 0]).flatten(1).norm(dim=1) for k in (1, 2))
    assert (near < 0.5).all()
    assert far.median() > 5 * near.median()
    again, same = MovingPoses().clips(6, [0.4], seed=3)
    assert torch.equal(again[:, 0], local[:, 2])
    assert torch.equal(same, betas)


def test_errors_of_moving_people_last(rng) -> None:
    body = load_body()
    exact = MovingLandmarks(body, NoNoise())  # type: ignore[arg-type]
    true, truth = exact(32, [0.0], rng)
    # People of the pool whose points are off by a constant each.
    off = torch.randn(32, 57, 3, generator=rng) * 0.05
    predicted = dataclasses.replace(true, points=dataclasses.replace(true.points, world=true.points.world + off))
    moving = MovingLandmarks(body, LandmarkNoise(predicted, true))
    found, truth = moving(8, [k / 25 for k in range(12)], rng)
    error = (found.points.world - true_points(truth, body).points.world).unflatten(0, (8, 12))
    error = torch.cat([error[:, :, :24], error[:, :, 35:]], 2)  # faces are rotated besides
    lasting, jitter = error.mean(1).std(), (error[:, 1:] - error[:, :-1]).std() / 2**0.5
    assert lasting > 0.02
    assert 0.05 * lasting < jitter < 0.6 * lasting


class NoNoise:
    def predict_moving(self, true, frames, generator):
        return true


def test_motion_counts_in_the_loss_of_clips(rng) -> None:
    body, regressor = load_body(), small()
    regressor.deltas = delta_heads(SMALL.hidden)
    times = torch.arange(8) / RATE
    _, truth = MovingLandmarks(body, NoNoise())(2, times.tolist(), rng)  # type: ignore[arg-type]
    feature = torch.randn(2, 8, CHANNELS, generator=rng)
    weights = dataclasses.replace(recipe_of.PRESETS["cpu"].losses.body, vertices=0.0)

    def loss(feature: torch.Tensor, **motion: float) -> float:
        clips = Clips(feature, truth, times)
        return float(clip_loss(regressor, clips, body, weights, MotionWeights(**motion)).detach())

    plain = loss(feature, delta=0, velocity=0, acceleration=0)
    assert loss(feature, delta=1, velocity=0, acceleration=0) > plain
    shaking, steady = (
        loss(value, delta=0, acceleration=5) - loss(value, delta=0, velocity=0, acceleration=0)
        for value in (feature, feature[:, :1].expand_as(feature))
    )
    assert shaking > 2 * steady > 0
    heads = regressor.deltas
    clip_loss(regressor, Clips(feature, truth, times), body, weights, MotionWeights()).backward()
    assert all(head.second.weight.grad.abs().max() > 0 for head in heads)


@pytest.mark.slow
def test_two_steps_of_training_end_in_a_file_that_loads(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(kept, "SHARD", 8)
    monkeypatch.setattr(kept, "_EXAMPLES_AT_ONCE", 8)
    monkeypatch.setattr(recipe_of, "HELD_OUT_CLIPS", 2)
    monkeypatch.setattr(recipe_of, "RATES", (5,))
    whole = recipe_of.PRESETS["cpu"]
    sizes = recipe_of.ClipData(frames=4, batch=2, rendered=2, rendered_batch=1, stills=8)
    recipe = dataclasses.replace(
        whole.with_steps(2), clips=sizes, data=dataclasses.replace(whole.data, images=8, batch=2, held_out=8)
    )
    path = recipe_of.train("hmmr", recipe, tmp_path)
    assert (tmp_path / "clips").is_dir()
    found = load_regressor("hmmr", checkpoint=path)
    assert not torch.equal(found.temporal.widen.weight, torch.zeros_like(found.temporal.widen.weight))
    assert "encoder.widen.weight" not in load_state(path)
