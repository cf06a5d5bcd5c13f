"""HKMR's kinematic chains: each corrects its joints' rotations in passes along the chain, there and back.

Source: Georgakis et al. 2020, Hierarchical kinematic human mesh recovery, section 3.2. Chains that do not depend on
each other run in one batch, all padded to the longest: tensors of such a group are (chains, B, ...)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from hmrkit.skeletons import SMPL_24

# Joints in the order of the skeletal rig (figure 3a). Every other chain depends on the root chain.
ROOT_CHAIN = ("pelvis", "spine1", "spine2", "spine3")
DEPENDENT_CHAINS: dict[str, tuple[str, ...]] = {
    "head": ("neck", "head"),
    **{f"{side} arm": tuple(f"{side}_{j}" for j in ("collar", "shoulder", "elbow", "wrist", "hand"))
       for side in ("right", "left")},
    **{f"{side} leg": tuple(f"{side}_{j}" for j in ("hip", "knee", "ankle", "foot")) for side in ("right", "left")},
}  # fmt: skip
# Numbers of a joint's rotation. The paper has angle-axis vectors. A person who faces the camera is rotated by 180
# degrees in it, where angle-axis jumps; 6D does not (Zhou et al. 2019).
SIZE = 6


class ChainPass(nn.Module):
    """One pass along each of C chains: residuals of a joint from the embedding and the residuals of all earlier joints.

    Equation 1 (forward) or 2 (`backward`, from the last joint to the first). Its functions f_i and b_i are one linear
    layer each, so the residuals of a chain, as one row, solve the triangular system ``delta = psi W + b + delta E``. E
    is zero but where it leads from an earlier joint to a later one. `solved` gives W and b times ``(I - E)^-1``, so
    that a pass is one product, without a loop over joints. A pass is thus a linear map of the embedding with any links;
    they change how it is learned, not what it can be.

    `lengths` are the numbers of joints of the chains. Without `joint_hierarchy` a joint depends on its immediate
    predecessor alone (table 2).
    """

    real_slots: Tensor
    links: Tensor

    def __init__(self, lengths: Sequence[int], embedding: int, backward: bool, joint_hierarchy: bool) -> None:
        super().__init__()
        chains, longest = len(lengths), max(lengths)
        self.backward = backward
        self.weight = nn.Parameter(torch.empty(chains, embedding, longest * SIZE))
        self.bias = nn.Parameter(torch.zeros(chains * longest * SIZE))  # one row, so that it is not decayed
        self.earlier = nn.Parameter(torch.zeros(chains, longest * SIZE, longest * SIZE))
        for weight in self.weight:
            nn.init.xavier_uniform_(weight, gain=0.01)
        real = torch.arange(longest) < torch.tensor(lengths)[:, None]
        links = torch.ones(longest, longest).triu(1)  # (from, to)
        links = links if joint_hierarchy else links.tril(1)
        links = (links.T if backward else links) * real[:, :, None] * real[:, None]
        self.register_buffer("real_slots", _per_number(real[:, None].float(), 2), persistent=False)
        self.register_buffer("links", _per_number(_per_number(links, 1), 2), persistent=False)

    def solved(self) -> tuple[Tensor, Tensor]:
        """Weight (C,d,n) and bias (C,1,n) of the linear map from an embedding to the residuals of a chain's joints."""
        layer = torch.cat([self.weight, self.bias.view(len(self.weight), 1, -1)], 1).float() * self.real_slots
        identity = torch.eye(layer.shape[-1], device=layer.device)
        system = identity - self.earlier.float() * self.links
        solved = torch.linalg.solve_triangular(
            system, layer, upper=not self.backward, left=False, unitriangular=True
        )  # fmt: skip
        return solved[:, :-1], solved[:, -1:]


class ChainGroup(nn.Module):
    """Chains that do not depend on each other: the networks Q_c with embedding modules E_c and passes.

    An outer iteration's `forward` refines the chains' rotations in `inner` passes, forward and backward ones
    alternately, or forward ones alone without `backward`. The embedding is computed anew for each pass. E_c is two
    layers on ``[Phi, beta, theta_root, theta]``; the first is written as a sum, because Phi's part is the same in all
    iterations (`read`) and only the chain's own part changes from pass to pass.

    `channels` of the feature Phi; `embedding` is the width of E_c's layers; `inner` the number of passes: the paper's
    cycle is the two steps p and p + 1, and table 3 has even numbers. `reads_root`: the chains depend on the root
    chain's rotations.
    """

    joints: Tensor
    slots: Tensor
    root: Tensor

    def __init__(
        self,
        chains: Sequence[Sequence[str]],
        channels: int,
        embedding: int,
        inner: int = 4,
        *,
        reads_root: bool,
        joint_hierarchy: bool = True,
        backward: bool = True,
    ) -> None:
        super().__init__()
        count, lengths = len(chains), [len(chain) for chain in chains]
        self.count, self.longest, self.inner = count, max(lengths), inner
        self.from_feature = nn.Linear(channels, count * embedding)
        self.from_betas = nn.Linear(10, count * embedding, bias=False)
        self.from_root = nn.Linear(len(ROOT_CHAIN) * SIZE, count * embedding, bias=False) if reads_root else None
        self.from_pose = _uniform(count, self.longest * SIZE, embedding)
        self.second = _uniform(count, embedding, embedding)
        self.second_bias = nn.Parameter(torch.zeros(count * embedding))
        self.passes = nn.ModuleList(
            ChainPass(lengths, embedding, reverse, joint_hierarchy)
            for reverse in ((False, True) if backward else (False,))
        )
        joints = SMPL_24.indices(*(joint for chain in chains for joint in chain))
        slots = [c * self.longest + i for c, length in enumerate(lengths) for i in range(length)]
        for name, places in (("joints", joints), ("slots", slots), ("root", SMPL_24.indices(*ROOT_CHAIN))):
            self.register_buffer(name, torch.tensor(places), persistent=False)

    def read(self, feature: Tensor) -> Tensor:
        """The feature's part (B,C*d) of the embeddings, from Phi (B,channels)."""
        return self.from_feature(feature)

    def forward(self, read: Tensor, betas: Tensor, pose: Tensor) -> Tensor:
        """`pose` (B,24,6) with the rotations of this group's chains refined. `read` is that of `read`, betas (B,10)."""
        given = read + self.from_betas(betas)
        if self.from_root is not None:
            given = given + self.from_root(pose[:, self.root].flatten(1))
        given = given.unflatten(1, (self.count, -1)).transpose(0, 1)
        theta = self.of_chains(pose)
        passes = [each.solved() for each in self.passes]  # type: ignore[operator]
        for step in range(self.inner):
            weight, bias = passes[step % len(passes)]
            theta = theta + torch.baddbmm(bias, self.embed(given, theta), weight)
        return self.onto(pose, theta)

    def embed(self, given: Tensor, theta: Tensor) -> Tensor:
        """The embeddings psi (C,B,d) of the chains with rotations `theta` (C,B,n)."""
        first = functional.relu(torch.baddbmm(given, theta, self.from_pose))
        return functional.relu(torch.baddbmm(self.second_bias.view(self.count, 1, -1), first, self.second))

    def of_chains(self, pose: Tensor) -> Tensor:
        """Rotations (B,24,6) -> those of each chain as a row (C,B,n), 0 where a chain is shorter than the longest."""
        padded = pose.new_zeros(len(pose), self.count * self.longest, SIZE).index_copy(
            1, self.slots, pose[:, self.joints]
        )
        return padded.unflatten(1, (self.count, self.longest)).transpose(0, 1).flatten(2)

    def onto(self, pose: Tensor, theta: Tensor) -> Tensor:
        """`pose` with the chains' rotations in their joints' places, the inverse of `of_chains`."""
        padded = theta.transpose(0, 1).reshape(len(pose), self.count * self.longest, SIZE)
        return pose.index_copy(1, self.joints, padded[:, self.slots].to(pose.dtype))


def _uniform(chains: int, inputs: int, outputs: int) -> nn.Parameter:
    """Weights (chains,inputs,outputs) of one linear layer a chain, as `nn.Linear` draws them."""
    return nn.Parameter(torch.empty(chains, inputs, outputs).uniform_(-(inputs**-0.5), inputs**-0.5))


def _per_number(of_joints: Tensor, dim: int) -> Tensor:
    """What holds for a joint, for each number of its rotation."""
    return of_joints.repeat_interleave(SIZE, dim)
