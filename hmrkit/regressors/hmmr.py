"""HMMR: bodies from a stretch of video, by convolutions over time between a crop's feature and HMR's head.

Source: Kanazawa et al. 2019, Learning 3D human dynamics from video. The temporal encoder sees 13 instants: the frame
itself and six on either side. Its output, the paper's movie strip, goes through the regressor of single frames. The
heads that predict past and future poses serve training only (`hmrkit.training.clip_loss`).

The instants are a fixed time apart, whatever the frame rate: between frames the features are interpolated. Before a
track's first frame, after its last and across long gaps the nearest frame is held, so that a still is a track of one
frame."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from hmrkit.backbones import Features, load_backbone
from hmrkit.regressors import BodyEstimate, CropContext
from hmrkit.regressors.encoder import Encoder
from hmrkit.regressors.files import load_trained
from hmrkit.regressors.frame import FrameRegressor, average_by_hips, hips_of
from hmrkit.regressors.ief import IefHead

RATE = 25.0  # instants per second of the temporal encoder
# Frames farther apart than this many seconds do not see each other; more than two radii of the temporal encoder.
LONGEST_GAP = 0.5
_HIPS = 3
_AT_ONCE = 1024  # frames of a track whose windows are in memory together


@dataclass(frozen=True)
class HmmrNetwork:
    """What the network is: `build` makes it, weights files hold it.

    `hidden` is the width of encoder and head, `width` that of the temporal encoder, whose `blocks` see two instants
    more on either side each. `still` names the shipped regressor whose encoder and head training starts from, "" for
    none; the encoder stays as it is there, and a file leaves out what it shares with that regressor's. `framing`,
    `flip` and `shape_space`: see `hmrkit.regressors.hmr.HmrNetwork`.
    """

    backbone: str = "embedded"
    hidden: int = 1024
    width: int = 256
    blocks: int = 3
    still: str = "hmr"
    framing: Literal["upright", "box"] = "upright"
    flip: bool = True
    shape_space: Literal["hmrkit", "smpl"] = "hmrkit"


# The form that HMMR has on each backbone; those that are not named have `_PLAIN`.
_FORMS = {"embedded": HmmrNetwork()}
_PLAIN = HmmrNetwork(still="", framing="box", flip=False)


class TemporalBlock(nn.Module):
    """A residual block of two convolutions over time (norm and ReLU before each): (B,F+4,C) -> (B,F,C).

    The norm is over the channels of each instant (the paper has group norm over the whole clip), so that a frame
    depends on the 13 instants about it alone.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.convolutions = nn.ModuleList(nn.Conv1d(width, width, 3) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            y = convolution(functional.relu(norm(y)).mT).mT
        return x[:, 2:-2] + y


class TemporalEncoder(nn.Module):
    """What the instants about a frame add to its feature: windows (N,2r+1,width), r the `radius` -> (N,channels).

    `narrow` makes its input out of features. At first it adds nothing.
    """

    def __init__(self, channels: int, width: int, blocks: int) -> None:
        super().__init__()
        self.radius = 2 * blocks
        self.narrow = nn.Linear(channels, width)
        self.blocks = nn.Sequential(*(TemporalBlock(width) for _ in range(blocks)))
        self.norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, channels)
        nn.init.zeros_(self.widen.weight)
        nn.init.zeros_(self.widen.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.widen(self.norm(self.blocks(x)[:, 0]))


class HmmrRegressor(FrameRegressor):
    """See `hmrkit.regressors.Regressor`; `network` says what it consists of.

    The code of a crop is its standardised global feature and the way between its hips, and with `flip` those of its
    mirror image.
    """

    def __init__(self, name: str, network: HmmrNetwork, backbone: Any) -> None:
        super().__init__(name, backbone, network.framing, network.shape_space, network.flip, standardise=True)
        self.network = network
        self.encoder = Encoder(backbone.global_channels, network.hidden)
        self.temporal = TemporalEncoder(network.hidden, network.width, network.blocks)
        self.head = IefHead(network.hidden, network.hidden)

    def encode(self, crops: Tensor, context: CropContext | None = None) -> Tensor:
        """See `hmrkit.regressors.Regressor.encode`: (B,C+3), with `flip` twice as many columns."""
        seen = [self.backbone(images) for images in ((crops, crops.flip(-1)) if self.flip else (crops,))]
        parts = [part for f in seen for part in (self.standardised(f.global_feature), hips_of(f))]
        return torch.cat(parts, 1)

    def decode(self, codes: Tensor, times: Tensor) -> BodyEstimate:
        """See `hmrkit.regressors.Regressor.decode`. `times` increase."""
        parts = codes.unflatten(1, (2 if self.flip else 1, -1)).transpose(0, 1)
        strips = self.strips(parts[..., :-_HIPS], times)
        estimates = [self.head(strip) for strip in strips]
        return average_by_hips(*estimates, *parts[..., -_HIPS:]) if self.flip else estimates[0]

    def regress(self, features: Features, context: CropContext | None = None) -> BodyEstimate:
        """Each crop as a still of its own."""
        feature = self.standardised(features.global_feature)
        return self.head(self.strips(feature[:, None], feature.new_zeros(1))[:, 0])

    def strips(self, feature: Tensor, times: Tensor) -> Tensor:
        """Standardised features (B,T,C) of B tracks, all at `times` (T,) s -> movie strips (B,T,hidden)."""
        feature = self.encoder(feature)
        tracks, radius = len(feature), self.temporal.radius
        seconds = times - times[0]
        offsets = torch.arange(-radius, radius + 1, device=times.device) / RATE
        x = self.temporal.narrow(feature).transpose(0, 1).flatten(1)
        added = []
        for own in seconds.split(_AT_ONCE):
            windows = sample_track(x, seconds, (own[:, None] + offsets).flatten())
            windows = windows.view(len(own), len(offsets), tracks, -1).permute(2, 0, 1, 3).flatten(0, 1)
            added.append(self.temporal(windows).view(tracks, len(own), -1))
        return feature + torch.cat(added, 1)


def sample_track(values: Tensor, times: Tensor, at: Tensor) -> Tensor:
    """Values (T,C) at increasing `times` (T,) -> (N,C) at times `at` (N,), linearly between neighbours.

    Outside of the track, and between neighbours more than `LONGEST_GAP` apart, it is the nearest value.
    """
    after = torch.searchsorted(times, at).clamp(1, max(len(times) - 1, 1)).clamp_max(len(times) - 1)
    before = (after - 1).clamp_min(0)
    span = times[after] - times[before]
    share = ((at - times[before]) / span.clamp_min(1e-6)).clamp(0, 1)
    share = torch.where(span > LONGEST_GAP, (share > 0.5).to(share.dtype), share)
    return torch.lerp(values[before], values[after], share[:, None].to(values.dtype))


def network_on(backbone: str) -> HmmrNetwork:
    """HMMR's network on a backbone, in the form that it has there."""
    return replace(_FORMS.get(backbone, _PLAIN), backbone=backbone)


def build(name: str, network: HmmrNetwork | None = None, weights: str | None = None) -> HmmrRegressor:
    """An untrained regressor; by default on the embedded backbone, with its `weights`: None or those that ship."""
    network = network or HmmrNetwork()
    return HmmrRegressor(name, network, load_backbone(network.backbone, weights=weights))


def load(
    name: str,
    checkpoint: str | Path | None,
    *,
    device: str | torch.device,
    weights: str | None = "default",
    backbone: str | None = None,
) -> HmmrRegressor:
    """See `hmrkit.regressors.load_regressor`."""
    regressor = load_trained(name, checkpoint, build, HmmrNetwork, network_on, weights, backbone)
    return regressor.eval().requires_grad_(False).to(device)
