"""Residual layers between a backbone's global feature and a regressor's head."""

from __future__ import annotations

from torch import Tensor, nn


class Encoder(nn.Module):
    """A feature (B,C) through residual layers -> (B,width) (after Martinez et al. 2017, with layer norm)."""

    def __init__(self, channels: int, width: int, blocks: int = 2, dropout: float = 0.1) -> None:
        super().__init__()
        self.widen = nn.Linear(channels, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, width)
            )
            for _ in range(blocks)
        )  # fmt: skip
        self.norm = nn.LayerNorm(width)

    def forward(self, feature: Tensor) -> Tensor:
        x = self.widen(feature)
        for block in self.blocks:
            x = x + block(x)
        return self.norm(x)
