"""The integral head: expectations under its heatmaps, standardised maps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from hmrkit.backbones.integral import POINTS, IntegralHead


@pytest.fixture
def head() -> IntegralHead:
    torch.manual_seed(0)
    return IntegralHead().eval()


class Peaks(nn.Module):
    """Heatmaps (B,256,57) of two peaks of a third and two thirds, at cells of row 3 and row 11."""

    def forward(self, x: Tensor) -> Tensor:
        logits = torch.full((len(x), 16, 16, POINTS), -1e4)
        logits[:, 3, 12] = 0.0
        logits[:, 11, 12] = torch.log(torch.tensor(2.0))
        return logits.flatten(1, 2)


class Rows(nn.Module):
    """Coordinate maps (B,256,171) that hold each cell's row."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.arange(16.0).repeat_interleave(16)[None, :, None].expand(len(x), -1, 3 * POINTS)


@torch.no_grad()
def test_points_are_expectations_under_the_heatmaps(head) -> None:
    head.heat, head.place = Peaks(), Rows()
    found = head(torch.randn(2, 192, 16, 16), torch.randn(2, 272, 8, 8))
    row = (3 + 2 * 11) / 3
    wanted = torch.tensor([(12 + 0.5) / 8 - 1, (row + 0.5) / 8 - 1])
    torch.testing.assert_close(found.points_2d, wanted.expand(2, POINTS, 2), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.world, torch.full((2, POINTS, 3), row), atol=1e-4, rtol=0)
    # Two thirds lie 8/3 rows from the mean, one third 16/3 rows; a row is an eighth.
    spread = (2 / 3 * (8 / 3) ** 2 + 1 / 3 * (16 / 3) ** 2) ** 0.5 / 8
    torch.testing.assert_close(found.spread, torch.full((2, POINTS), spread), atol=1e-4, rtol=0)


@torch.no_grad()
def test_it_reads_standardised_maps(head) -> None:
    maps = torch.randn(64, 192, 16, 16), torch.randn(64, 272, 8, 8)
    stretched = maps[0] * 7 + 3, maps[1] * 0.1 - 5
    head.standardise(*maps)
    wanted = head(*maps)
    head.standardise(*stretched)
    found = head(*stretched)
    torch.testing.assert_close(found.points_2d, wanted.points_2d, atol=1e-3, rtol=0)
    torch.testing.assert_close(found.world, wanted.world, atol=1e-3, rtol=0)
