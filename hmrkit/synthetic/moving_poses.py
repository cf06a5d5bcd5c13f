"""People in motion: the poses of `hmrkit.synthetic.poses` some time before or after in their captured clips."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hmrkit.geometry import orthonormal_frame
from hmrkit.synthetic.mocap import Split
from hmrkit.synthetic.poses import PoseSampler

# People move between slower and faster than they were captured.
SLOWEST, FASTEST = 0.6, 1.6


class MovingPoses(PoseSampler):
    """`PoseSampler` whose captured frames are taken `seconds` later: a call with the same seed gives the same people,
    blended, perturbed and mirrored alike, farther in their motion. At the ends of a clip they stand still."""

    def __init__(self, split: Split = "train") -> None:
        super().__init__(split)
        self.seconds = 0.0
        starts = torch.from_numpy(self.motion.starts)
        clip = torch.repeat_interleave(torch.arange(len(starts) - 1), starts.diff())
        self._first, self._last = starts[clip], starts[clip + 1] - 1

    def clips(self, batch: int, times: Sequence[float], seed: int) -> tuple[Tensor, Tensor]:
        """Local rotations (B,F,24,3,3) of people at `times` (F) s, the root's in a world with y up; betas (B,10)."""
        poses, betas = [], torch.empty(0)
        for seconds in times:
            self.seconds = seconds
            orient, pose, betas = self(batch, torch.Generator().manual_seed(seed))
            poses.append(torch.cat([orient[:, None], pose], 1))
        return torch.stack(poses, 1), betas

    def _frames(self, batch: int, g: torch.Generator, stands: Tensor | None) -> Tensor:
        rows = self._rows(batch, g, stands)
        speed = SLOWEST * (FASTEST / SLOWEST) ** torch.rand(batch, generator=g)
        at = rows + speed * self.seconds * self.motion.fps
        first, last = self._first[rows], self._last[rows]
        at = torch.minimum(torch.maximum(at, first), last)
        frame = torch.minimum(at.floor().long(), (last - 1).maximum(first))
        u = at - frame
        # Catmull-Rom's spline through the rotation matrices, brought back to rotations.
        weights = torch.stack([
            -0.5 * u + u**2 - 0.5 * u**3, 1 - 2.5 * u**2 + 1.5 * u**3, 0.5 * u + 2 * u**2 - 1.5 * u**3,
            -0.5 * u**2 + 0.5 * u**3,
        ])  # fmt: skip
        knots = torch.stack([(frame + k).maximum(first).minimum(last) for k in (-1, 0, 1, 2)])
        matrices = torch.einsum("kb,kbjxy->bjxy", weights, self.rotations[knots])
        return orthonormal_frame(matrices[..., 0], matrices[..., 1])
