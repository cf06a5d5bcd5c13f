"""HMR 2.0: a ViT-H, and a transformer decoder whose one token reads its patches and becomes a body.

Source: Goel et al. 2023, Humans in 4D: reconstructing and tracking humans with transformers. Module names are those of
the published checkpoint (503 tensors), a Lightning file that also holds SMPL's arrays and a discriminator. 6D rotations
are in the layout "columns", unlike those of HMR and SPIN. The mean pose that the file carries is SPIN's, an interleaved
one: the network has learned around that, and it is used as it is. Crops are 256 x 192 px, the middle of squares.
"""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from hmrkit.backbones import Features
from hmrkit.backbones.published import ImageNetNormalisation
from hmrkit.backbones.vit import ViT, count_layers, join_heads, split_heads, vit_for
from hmrkit.errors import WeightsError
from hmrkit.geometry import rotation_from_6d
from hmrkit.regressors import BodyEstimate, CropContext
from hmrkit.regressors.frame import FrameRegressor
from hmrkit.weights import load_into, load_state, verify

log = logging.getLogger(__name__)

LANDMARK = "smpl_head.transformer.to_token_embedding.weight"
# Heads of the decoder's attention by its inner width, see `hmrkit.backbones.vit.HEADS`.
HEADS = {512: 8, 64: 4}


class Normed(nn.Module):
    """A layer that reads normalised tokens."""

    def __init__(self, width: int, layer: nn.Module) -> None:
        super().__init__()
        self.norm, self.fn = nn.LayerNorm(width), layer

    def forward(self, token: Tensor, *context: Tensor) -> Tensor:
        return self.fn(self.norm(token), *context)


class SelfAttention(nn.Module):
    """Tokens (B,N,width) read one another."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.heads = HEADS[inner]
        self.to_qkv = nn.Linear(width, 3 * inner, bias=False)
        self.to_out = nn.Sequential(nn.Linear(inner, width))

    def forward(self, token: Tensor) -> Tensor:
        query, key, value = (split_heads(part, self.heads) for part in self.to_qkv(token).chunk(3, -1))
        return self.to_out(join_heads(functional.scaled_dot_product_attention(query, key, value)))


class CrossAttention(nn.Module):
    """Tokens (B,N,width) read a context (B,M,channels)."""

    def __init__(self, width: int, inner: int, channels: int) -> None:
        super().__init__()
        self.heads = HEADS[inner]
        self.to_kv = nn.Linear(channels, 2 * inner, bias=False)
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_out = nn.Sequential(nn.Linear(inner, width))

    def forward(self, token: Tensor, context: Tensor) -> Tensor:
        query = split_heads(self.to_q(token), self.heads)
        key, value = (split_heads(part, self.heads) for part in self.to_kv(context).chunk(2, -1))
        return self.to_out(join_heads(functional.scaled_dot_product_attention(query, key, value)))


class FeedForward(nn.Module):
    """Two layers with an exact GELU between them; the checkpoint numbers a dropout, too."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Identity(), nn.Linear(hidden, width))

    def forward(self, token: Tensor) -> Tensor:
        return self.net(token)


class Layers(nn.Module):
    """Self attention, cross attention and feed-forward layer, each added to the token, `depth` times."""

    def __init__(self, width: int, depth: int, inner: int, hidden: int, channels: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleList((
                Normed(width, SelfAttention(width, inner)),
                Normed(width, CrossAttention(width, inner, channels)),
                Normed(width, FeedForward(width, hidden)),
            ))
            for _ in range(depth)
        )  # fmt: skip

    def forward(self, token: Tensor, context: Tensor) -> Tensor:
        for layer in self.layers:
            attend, read, transform = layer  # type: ignore[misc]
            token = token + attend(token)
            token = token + read(token, context)
            token = token + transform(token)
        return token


class TokenDecoder(nn.Module):
    """A context (B,M,channels) -> what the one token makes of it (B,width). The token's input is zero."""

    def __init__(self, width: int, depth: int, inner: int, hidden: int, channels: int) -> None:
        super().__init__()
        self.pos_embedding = nn.Parameter(torch.zeros(1, 1, width))
        self.to_token_embedding = nn.Linear(1, width)
        self.transformer = Layers(width, depth, inner, hidden, channels)

    def forward(self, context: Tensor) -> Tensor:
        token = self.to_token_embedding(context.new_zeros(len(context), 1, 1)) + self.pos_embedding
        return self.transformer(token, context)[:, 0]


class SmplHead(nn.Module):
    """A map (B,channels,h,w) -> `BodyEstimate`: what the token says is added to a mean body, once."""

    init_body_pose: Tensor
    init_betas: Tensor
    init_cam: Tensor

    def __init__(
        self, width: int = 1024, depth: int = 6, inner: int = 512, hidden: int = 1024, channels: int = 1280
    ) -> None:
        super().__init__()
        self.transformer = TokenDecoder(width, depth, inner, hidden, channels)
        self.decpose = nn.Linear(width, 144)
        self.decshape = nn.Linear(width, 10)
        self.deccam = nn.Linear(width, 3)
        self.register_buffer("init_body_pose", torch.zeros(1, 144))
        self.register_buffer("init_betas", torch.zeros(1, 10))
        self.register_buffer("init_cam", torch.zeros(1, 3))

    def forward(self, image: Tensor) -> BodyEstimate:
        token = self.transformer(image.flatten(2).mT)
        pose = self.init_body_pose + self.decpose(token)
        rotations = rotation_from_6d(pose.view(-1, 24, 6), "columns")
        betas, camera = self.init_betas + self.decshape(token), self.init_cam + self.deccam(token)
        return BodyEstimate(rotations[:, 0], rotations[:, 1:], betas, camera)


class Hmr2Regressor(FrameRegressor):
    """See `hmrkit.regressors.frame.FrameRegressor`. Of wider crops, such as whole squares, the middle is read."""

    def __init__(self, name: str, backbone: ViT, smpl_head: SmplHead) -> None:
        super().__init__(name, backbone, framing="box", shape_space="smpl")
        self.smpl_head = smpl_head

    def estimate(self, crops: Tensor, context: CropContext | None = None) -> BodyEstimate:
        columns = self.input_size[1]
        start = (crops.shape[-1] - columns) // 2
        return super().estimate(crops[..., start : start + columns], context)

    def regress(self, features: Features, context: CropContext | None = None) -> BodyEstimate:
        return self.smpl_head(features.maps[0])


def load(
    name: str,
    checkpoint: str | Path | None,
    *,
    device: str | torch.device,
    weights: str | None = "default",
    backbone: str | None = None,
) -> Hmr2Regressor:
    """See `hmrkit.regressors.load_regressor`; without a checkpoint one of zeros, since nothing trains it here."""
    if checkpoint is None:
        regressor = published(name, _zeros(), name)
    else:
        regressor = published(name, load_state(checkpoint), checkpoint)
        regressor.weights_sha256 = verify(checkpoint)
    return regressor.eval().requires_grad_(False).to(device)


def published(name: str, state: dict[str, Tensor], path: str | Path) -> Hmr2Regressor:
    """The network of a checkpoint's tensors, of the sizes that they have."""
    own = {key: value.float() for key, value in state.items() if key.startswith(("backbone.", "smpl_head."))}
    if LANDMARK not in own or "backbone.pos_embed" not in own:
        found = ", ".join(list(state)[:3])
        raise WeightsError(f"{path}: wanted HMR 2.0's published checkpoint, found {len(state)} others ({found}, ...)")
    passed_over = sorted({key.split(".")[0] for key in state.keys() - own.keys()})
    if passed_over:
        count = len(state) - len(own)
        log.info("%s: passed over %d tensors that inference does not need (%s)", path, count, ", ".join(passed_over))
    try:
        # Without memory of their own: the checkpoint's tensors take their places.
        with torch.device("meta"):
            backbone = vit_for(_part(own, "backbone."))
            smpl_head = _head_for(_part(own, "smpl_head."))
    except (KeyError, IndexError, TypeError, WeightsError) as error:
        raise WeightsError(f"{path}: its names and sizes are not HMR 2.0's: {error}") from error
    backbone.normalise = ImageNetNormalisation()
    regressor = Hmr2Regressor(name, backbone, smpl_head)
    load_into(regressor, own, path, assign=True)
    return regressor


def _zeros() -> dict[str, Tensor]:
    """Tensors of the published names and sizes."""
    with torch.device("meta"):
        network = Hmr2Regressor("", ViT(), SmplHead())
    return {key: torch.zeros(value.shape) for key, value in network.state_dict().items()}


def _head_for(state: dict[str, Tensor]) -> SmplHead:
    layers = "transformer.transformer.layers."
    inner, channels = len(state[f"{layers}0.1.fn.to_q.weight"]), state[f"{layers}0.1.fn.to_kv.weight"].shape[1]
    if inner not in HEADS:
        raise WeightsError(f"wanted a decoder of inner width 512, found {inner}")
    width, hidden = state["decpose.weight"].shape[1], len(state[f"{layers}0.2.fn.net.0.bias"])
    return SmplHead(width, count_layers(state, layers), inner, hidden, channels)


def _part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
