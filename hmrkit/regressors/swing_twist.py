"""Rotations of a body from its joints: the swing of a bone is computed, its twist is regressed.

Source: HybrIK (Li et al. 2021), as GLNet uses it (Xiao et al., section 3.1): ``R = R_tw R_sw``. The swing is the
shortest rotation of a bone's rest direction t onto the direction p in which the joints see it, ``p = R t``. The twist
rotates about the bone by an angle whose cosine and sine are regressed. Twisting about p after the swing is the same as
twisting about t first, which is how it is computed here. The solution is HybrIK's adaptive one: p leads from where
the rotations so far have put a joint to where its child is seen, so that errors do not add up along a chain."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from hmrkit.blazepose.integral_head import BodyPoints
from hmrkit.body import Body
from hmrkit.geometry import orthonormal_frame, rotation_between, rotation_from_6d, skew
from hmrkit.regressors.ief import STANDING
from hmrkit.skeletons import SMPL_24

PARENTS = SMPL_24.parents
CHILDREN = tuple(tuple(child for child, parent in enumerate(PARENTS) if parent == joint) for joint in range(24))
# One child: swing and twist. Three children: the frame that they span. None: no bone shows the rotation, it is
# regressed.
TWISTED = tuple(joint for joint in range(24) if len(CHILDREN[joint]) == 1)
LEAVES = tuple(joint for joint in range(24) if not CHILDREN[joint])
_SPANS = {
    SMPL_24.index["pelvis"]: SMPL_24.indices("left_hip", "right_hip", "spine1"),
    SMPL_24.index["spine3"]: SMPL_24.indices("left_collar", "right_collar", "neck"),
}


def _levels() -> tuple[tuple[int, ...], ...]:
    """The joints with children below the root, by depth."""
    levels, above = [], (0,)
    while above := tuple(j for j in range(24) if PARENTS[j] in above and CHILDREN[j]):
        levels.append(above)
    return tuple(levels)


LEVELS = _levels()


class SwingTwist(nn.Module):
    """A pose's parameters and betas -> 24 rotations relative to the parent.

    A pose (N,136) consists of the twists of `TWISTED` joints (cosine and sine, of any length), the rotations of
    `LEAVES` (6D) and 24 joints (m about the pelvis, crop's camera). `body` gives the bones at rest.
    """

    SIZES = (2 * len(TWISTED), 6 * len(LEAVES), 3 * 24)
    initial: Tensor
    rest_joints: Tensor
    rest_shapes: Tensor

    def __init__(self, body: Body) -> None:
        super().__init__()
        shapes = torch.cat([torch.zeros(1, 10), torch.eye(10)])
        rest = body.joints_only(betas=shapes.to(body.device)).joints.cpu()
        rest = rest - rest[:, :1]
        # Made again from the body whenever the network is built; files do not hold them.
        self.register_buffer("rest_joints", rest[0], persistent=False)
        self.register_buffer("rest_shapes", rest[1:] - rest[0], persistent=False)
        untwisted = torch.tensor([1.0, 0.0]).repeat(len(TWISTED))
        unrotated = torch.tensor([1.0, 0.0, 0.0, 1.0, 0.0, 0.0]).repeat(len(LEAVES))
        self.register_buffer("initial", torch.cat([untwisted, unrotated, torch.zeros(3 * 24)]), persistent=False)

    def anchored(self, pose: Tensor, points: BodyPoints | None) -> Tensor:
        """A pose whose joints are corrections -> with the joints themselves: the backbone's `points` and the
        corrections, where it knows none a standing body's."""
        if points is None:
            joints = (self.rest_joints * self.rest_joints.new_tensor(STANDING)).expand(len(pose), -1, -1)
        else:
            joints = points.world[:, :24] - points.world[:, :1]
        return torch.cat([pose[:, : -3 * 24], pose[:, -3 * 24 :] + joints.flatten(1)], 1)

    def forward(self, pose: Tensor, betas: Tensor) -> Tensor:
        """(N,136) and (N,10) -> (N,24,3,3), the root's in the crop's camera."""
        with torch.autocast(pose.device.type, enabled=False):
            twists, leaves, joints = pose.float().split(self.SIZES, 1)
            rest = self.rest_joints + torch.einsum("bk,kjc->bjc", betas.float(), self.rest_shapes)
            return _solve(
                twists.unflatten(1, (-1, 2)), leaves.unflatten(1, (-1, 6)), joints.unflatten(1, (-1, 3)), rest
            )  # fmt: skip


def _solve(twists: Tensor, leaves: Tensor, seen: Tensor, rest: Tensor) -> Tensor:
    """Twists (N,17,2), leaves (N,5,6), joints as `seen` and at `rest` (N,24,3) -> rotations (N,24,3,3)."""
    bones = rest[:, [CHILDREN[j][0] for j in TWISTED]] - rest[:, list(TWISTED)]
    twist = about(bones, twists)
    local: dict[int, Tensor] = dict(zip(LEAVES, rotation_from_6d(leaves, "interleaved").unbind(1), strict=True))
    local[0] = _spanned(seen, rest, 0)
    world, places = {0: local[0]}, {0: seen[:, 0]}
    for joints in LEVELS:
        above = torch.stack([world[PARENTS[j]] for j in joints], 1)
        offsets = rest[:, list(joints)] - rest[:, [PARENTS[j] for j in joints]]
        place = torch.stack([places[PARENTS[j]] for j in joints], 1) + _rotate(above, offsets)
        # p (eq. of section 3.1) in the parent's frame; for a joint with three children it is not used.
        at = [TWISTED.index(j) if j in TWISTED else 0 for j in joints]
        toward = seen[:, [CHILDREN[j][0] for j in joints]] - place
        rotations = rotation_between(bones[:, at], _rotate(above.mT, toward)) @ twist[:, at]
        for slot, joint in enumerate(joints):
            spans = joint in _SPANS
            local[joint] = above[:, slot].mT @ _spanned(seen, rest, joint) if spans else rotations[:, slot]
            world[joint], places[joint] = above[:, slot] @ local[joint], place[:, slot]
    return torch.stack([local[j] for j in range(24)], 1)


def about(axes: Tensor, twists: Tensor) -> Tensor:
    """Rotations (...,3,3) about `axes` (...,3) by the angles whose cosine and sine are along `twists` (...,2)."""
    k = skew(normalize(axes, dim=-1))
    cosine, sine = normalize(twists, dim=-1)[..., None, None].unbind(-3)
    return torch.eye(3, dtype=k.dtype, device=k.device) + sine * k + (1 - cosine) * (k @ k)


def _spanned(seen: Tensor, rest: Tensor, joint: int) -> Tensor:
    """Rotations (N,3,3) in the camera of a joint with three children: their frame as seen, from the one at rest."""
    left, right, third = _SPANS[joint]
    frames = [
        orthonormal_frame(at[:, left] - at[:, right], at[:, third] - (at[:, left] + at[:, right]) / 2)
        for at in (seen, rest)
    ]
    return frames[0] @ frames[1].mT


def _rotate(rotations: Tensor, vectors: Tensor) -> Tensor:
    return (rotations @ vectors[..., None])[..., 0]
