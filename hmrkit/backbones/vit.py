"""Plain vision transformer (Dosovitskiy et al. 2021) as ViTPose and HMR 2.0 have it, under the names of their keys.

Sources: Xu et al. 2022, ViTPose; Goel et al. 2023, Humans in 4D. Crops are 256 x 192 px. Patches of 16 x 16 px are cut
by a convolution with 2 px of padding. The position embedding has an entry for a class token that does not exist: it is
added to every patch. Attention goes through `scaled_dot_product_attention`; on CUDA the network runs in float16.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from hmrkit.backbones import CropImages, Features
from hmrkit.backbones.published import ImageNetNormalisation
from hmrkit.device import half_on_cuda
from hmrkit.errors import WeightsError

PATCH, ROWS, COLUMNS = 16, 16, 12
# Attention heads by the width of the network: tensors do not show how many there are. ViTPose's small, base, large and
# huge; 96 is one of the same form, on which outputs of the published code were stored.
HEADS = {384: 12, 768: 12, 1024: 16, 1280: 16, 96: 4}


class Attention(nn.Module):
    """Self attention over tokens (B,N,C)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (split_heads(part, self.heads) for part in self.qkv(x).chunk(3, -1))
        return self.proj(join_heads(functional.scaled_dot_product_attention(query, key, value)))


class Mlp(nn.Module):
    """Two layers with an exact GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(functional.gelu(self.fc1(x)))


class Block(nn.Module):
    """Attention, then the MLP; each reads normalised tokens and is added to them."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchEmbedding(nn.Module):
    """Images (B,3,256,192) -> tokens (B,192,C), row by row."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, PATCH, PATCH, padding=2)

    def forward(self, images: Tensor) -> Tensor:
        return self.proj(images).flatten(2).mT


class ViT(nn.Module):
    """See `hmrkit.backbones.Backbone`. The global feature is the mean of the one map (B,C,16,12)."""

    input_size = (ROWS * PATCH, COLUMNS * PATCH)
    map_strides = (PATCH,)
    observation = CropImages

    def __init__(self, width: int = 1280, depth: int = 32, heads: int = 16, hidden: int = 5120) -> None:
        super().__init__()
        self.global_channels, self.map_channels = width, (width,)
        self.normalise: nn.Module = ImageNetNormalisation()
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + ROWS * COLUMNS, width))
        self.patch_embed = PatchEmbedding(width)
        self.blocks = nn.ModuleList(Block(width, heads, hidden) for _ in range(depth))
        self.last_norm = nn.LayerNorm(width, eps=1e-6)

    def encode(self, crops: Tensor) -> CropImages:
        return CropImages(crops)

    def forward(self, crops: Tensor) -> Features:
        return self.features(self.encode(crops))

    def use_engine(self) -> None:
        """It has no graph: PyTorch runs it."""

    def features(self, observation: CropImages) -> Features:
        with half_on_cuda(observation.images.device):
            patches = self.patch_embed(self.normalise(observation.images))
            tokens = patches + self.pos_embed[:, 1:] + self.pos_embed[:, :1]
            for block in self.blocks:
                tokens = block(tokens)
            tokens = self.last_norm(tokens)
        grid = tokens.float().mT.unflatten(2, (ROWS, COLUMNS))
        return Features(grid.mean((2, 3)), (grid,))


def vit_for(state: dict[str, Tensor]) -> ViT:
    """A ViT of the sizes that its tensors (`state`, without prefix) have. WeightsError where it is no known one."""
    width, hidden = state["pos_embed"].shape[-1], len(state["blocks.0.mlp.fc1.bias"])
    if width not in HEADS:
        raise WeightsError(f"wanted a ViT of width 384, 768, 1024 or 1280, found one of width {width}")
    return ViT(width, count_layers(state, "blocks."), HEADS[width], hidden)


def count_layers(state: dict[str, Tensor], prefix: str) -> int:
    """How many numbered layers stand below `prefix`."""
    return len({key.removeprefix(prefix).split(".")[0] for key in state if key.startswith(prefix)})


def split_heads(x: Tensor, heads: int) -> Tensor:
    """Tokens (B,N,heads d) -> (B,heads,N,d)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    """The inverse of `split_heads`."""
    return x.transpose(1, 2).flatten(2)
