"""The integral head: expectations under its heatmaps, standardised maps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from hmrkit.blazepose.integral_head import POINTS, IntegralHead
from hmrkit.blazepose.network import load_network


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
def test_it_begins_as_the_published_network_and_reads_standardised_maps(head) -> None:
    network = load_network()
    lower = network.lower(torch.rand(4, 3, 256, 256, generator=torch.Generator().manual_seed(0)))
    head.init_from(network, lower.branch, lower.first32)
    torch.testing.assert_close(head.last_blocks(lower.first32), lower.trunk[-1], atol=1e-3, rtol=1e-4)
    wanted = head(lower.branch, lower.first32)
    stretched = lower.branch * 7 + 3
    head.init_from(network, stretched, lower.first32)
    found = head(stretched, lower.first32)
    torch.testing.assert_close(found.points_2d, wanted.points_2d, atol=1e-3, rtol=0)
    torch.testing.assert_close(found.world, wanted.world, atol=1e-3, rtol=0)
