"""HMR's factorised adversarial prior (Kanazawa et al. 2018, section 3.3): one small discriminator for every joint's
rotation, one for all of them together, one for shape. It separates poses that people take from poses that merely
project well. Supervised training on synthetic images works without it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hmrkit.regressors import BodyEstimate

JOINTS = 23


class Adversary(nn.Module):
    """25 least-squares discriminators. ``adversary(estimate, real_pose, real_betas)`` is a loss to be added as it is.

    One descent trains both sides: the gradient is reversed on its way from the discriminators to the network.
    """

    def __init__(self, hidden: int = 32, together: int = 1024) -> None:
        super().__init__()
        # The first layers are shared among joints, as 1 x 1 convolutions over them.
        self.each = nn.Sequential(nn.Linear(9, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        self.judge_each = nn.Parameter(torch.randn(JOINTS, hidden) / hidden**0.5)
        self.judge_together = nn.Sequential(
            nn.Linear(JOINTS * hidden, together), nn.ReLU(), nn.Linear(together, together), nn.ReLU(),
            nn.Linear(together, 1),
        )  # fmt: skip
        self.judge_shape = nn.Sequential(nn.Linear(10, 10), nn.ReLU(), nn.Linear(10, 5), nn.ReLU(), nn.Linear(5, 1))

    def forward(self, estimate: BodyEstimate, real_pose: Tensor, real_betas: Tensor) -> Tensor:
        """`real_pose` (N,23,3,3) and `real_betas` (N,10) of people that exist -> loss, a scalar."""
        made = self.judge(_Reversed.apply(estimate.body_pose), _Reversed.apply(estimate.betas))
        real = self.judge(real_pose, real_betas)
        return (made.square().mean(0) + (real - 1).square().mean(0)).sum()

    def judge(self, body_pose: Tensor, betas: Tensor) -> Tensor:
        """Poses (N,23,3,3) and shapes (N,10) -> scores of the discriminators (N,25), 1 for real."""
        hidden = self.each(body_pose.flatten(2))
        single = (hidden * self.judge_each).sum(-1)
        return torch.cat([single, self.judge_together(hidden.flatten(1)), self.judge_shape(betas)], 1)


class _Reversed(torch.autograd.Function):
    """The identity, whose gradient has the other sign (Ganin and Lempitsky 2015)."""

    @staticmethod
    def forward(ctx, values: Tensor) -> Tensor:  # type: ignore[override]
        return values.view_as(values)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return -gradient
