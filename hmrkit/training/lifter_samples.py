"""Training samples for lifters, made in batches: captured motion on random bodies.

`hmrkit.training.lifter_views` then projects it. A network would memorise 33 minutes of motion on one skeleton. So
limbs of two clips are combined, speed, bodies and limb lengths vary, and half of the samples are mirrored.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

from hmrkit.errors import InputError
from hmrkit.skeletons import COCO_17, H36M_17, SMPL_24
from hmrkit.synthetic.mocap import Motion, limb_blends
from hmrkit.synthetic.poses import EVERYDAY, upright_frames
from hmrkit.training.lifter_views import Noise, Samples, observe
from hmrkit.weights import find_weights

# What the 17 output joints are on the body: means of its joints, or a point of its surface.
H36M_FROM_BODY: dict[str, tuple[str, ...]] = {
    "pelvis": ("left_hip", "right_hip"),
    "spine": ("spine2",),
    "thorax": ("neck",),
    "nose": ("keypoint:nose",),
    "head_top": ("surface:top",),
}


class SkinnedKeypoints:
    """17 keypoints and 17 output joints as linear functions of the joints' transforms, for any body shape.

    Linear blend skinning of a point that is a fixed mean of vertices collapses to one row per joint:
    ``p = sum_j W_j q_j + a_j P_j`` with the joints' world rotations W and positions P.
    """

    def __init__(self) -> None:
        with np.load(find_weights("body/hmrkit_body_neutral.npz"), allow_pickle=False) as file:
            body = {key: file[key] for key in file.files}
        vertices = np.concatenate([body["v_template"][..., None], body["shapedirs"]], -1)
        names = body["keypoint_names"].tolist()
        regressor = body["keypoint_regressor"]
        top = np.zeros(len(vertices), np.float32)
        top[np.argsort(-body["v_template"][:, 1])[:6]] = 1 / 6
        surface = {f"keypoint:{name}": regressor[i] for i, name in enumerate(names)} | {"surface:top": top}
        wanted = [(f"keypoint:{name}",) for name in COCO_17.joints]
        wanted += [H36M_FROM_BODY.get(name, (name,)) for name in H36M_17.joints]

        joints = np.einsum("jv,vck->jck", body["J_regressor"], vertices)
        share = np.zeros((len(wanted), 24), np.float32)
        anchor = np.zeros((len(wanted), 24, 3, vertices.shape[-1]), np.float32)
        for row, sources in enumerate(wanted):
            for source in sources:
                if source in SMPL_24.index:
                    share[row, SMPL_24.index[source]] += 1 / len(sources)
                    continue
                part = surface[source][:, None] * body["weights"]
                used = np.nonzero(surface[source])[0]
                share[row] += part.sum(0)
                anchor[row] += np.einsum("vj,vck->jck", part[used], vertices[used])
                anchor[row] -= part.sum(0)[:, None, None] * joints
        self.joints = torch.from_numpy(joints.astype(np.float32))
        self.share = torch.from_numpy(share)
        self.anchor = torch.from_numpy(anchor)

    @classmethod
    @cache
    def shared(cls) -> SkinnedKeypoints:
        """The one instance; making it takes a moment."""
        return cls()

    def __call__(self, world: Tensor, root: Tensor, betas: Tensor, stretch: Tensor) -> tuple[Tensor, Tensor]:
        """Keypoints and output joints (B,T,17,3) m of people `betas` (B,10), segments stretched by `stretch` (B,24).

        `world` (24,3,3,B,T) joint rotations, `root` (3,B,T) m. People are brought to the template's total bone
        length: one camera cannot measure a person's size.
        """
        coefficients = torch.cat([torch.ones_like(betas[:, :1]), betas], -1)
        rest = torch.einsum("jck,bk->bjc", self.joints, coefficients)
        parents = list(SMPL_24.parents[1:])
        bones = (rest[:, 1:] - rest[:, parents]) * stretch[:, parents, None]
        template = (self.joints[1:, :, 0] - self.joints[parents, :, 0]).norm(dim=-1).sum()
        scale = template / bones.norm(dim=-1).sum(-1)
        bones = (bones * scale[:, None, None]).permute(1, 2, 0)
        anchor = torch.einsum("pjck,bk->bpjc", self.anchor, coefficients) * (stretch * scale[:, None])[:, None, :, None]

        place = [root]
        for joint, parent in enumerate(parents, 1):
            place.append(place[parent] + (world[parent] * bones[joint - 1, None, :, :, None]).sum(1))
        transforms = torch.cat([world, torch.stack(place)[:, :, None]], 2)
        rows = torch.cat([anchor, self.share.expand(len(betas), -1, -1)[..., None]], -1)
        b, t = world.shape[3:]
        columns = transforms.permute(3, 0, 2, 4, 1).reshape(b, 96, t * 3)
        points = (rows.flatten(2) @ columns).view(b, -1, t, 3).transpose(1, 2)
        return points[:, :, : len(COCO_17)], points[:, :, len(COCO_17) :]


class LifterSampler:
    """Endless samples of `frames` frames at 30 Hz from captured motion.

    `augment` off: the template body in one clip's motion as it was. `known` is the probability that the focal length is
    known.
    """

    def __init__(
        self, motion: Motion, frames: int, noise: Noise | None = None, augment: bool = True, known: float = 0.5
    ) -> None:
        self.frames, self.noise, self.augment, self.known = frames, noise or Noise(), augment, known
        self.rows = torch.from_numpy(np.concatenate([motion.local_rotations.reshape(-1, 216), motion.root_pos_m], 1))
        if not len(self.rows):
            raise InputError("the motion file has no clip of this split (its clips' names decide); give a whole one")
        self.starts = torch.from_numpy(motion.starts)
        self.upright = upright_frames(torch.from_numpy(motion.local_rotations)) if augment else torch.zeros(0).long()
        self.points = SkinnedKeypoints.shared()
        self._blend_weights, self._blends = limb_blends()

    def __call__(self, batch: int, generator: torch.Generator) -> Samples:
        """A batch, the same for the same generator state."""
        g = generator
        local, root = self.motions(batch, g)
        betas, stretch = random_people(batch, g) if self.augment else (torch.zeros(batch, 10), torch.ones(batch, 24))
        keypoints, joints = self.points(chain(local), root, betas, stretch)
        if self.augment:
            keypoints, joints = _mirror_some(keypoints, joints, g)
        return observe(keypoints, joints, self.noise, g, self.known)

    def motions(self, batch: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
        """Local rotations (24,3,3,B,T) and pelvis paths (3,B,T) m of a batch; in training limbs of two clips."""
        local, root = self._window(batch, g)
        if not self.augment:
            return local, root
        other, _ = self._window(batch, g)
        take = self._blends[torch.multinomial(self._blend_weights, batch, True, generator=g)]
        return torch.where(take.T[:, None, None, :, None], other, local), root

    def _window(self, batch: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
        """Local rotations (24,3,3,B,T) and pelvis paths (3,B,T) at random places, played at random speed.

        In training as many people stand upright in the middle of their window as in synthetic images.
        """
        anchor = torch.randint(len(self.rows), (batch,), generator=g)
        if len(self.upright):
            standing = self.upright[torch.randint(len(self.upright), (batch,), generator=g)]
            anchor = torch.where(torch.rand(batch, generator=g) < EVERYDAY, standing, anchor)
        clip = torch.searchsorted(self.starts, anchor, right=True) - 1
        first, last = self.starts[clip], self.starts[clip + 1] - 1
        speed = 0.6 * (1.6 / 0.6) ** torch.rand(batch, generator=g) if self.augment else torch.ones(batch)
        time = anchor[:, None] + speed[:, None] * (torch.arange(self.frames) - self.frames // 2)
        # Windows that leave their clip slide back in; in a shorter clip the ends stand still.
        time = time - (time[:, -1:] - last[:, None]).clamp_min(0) + (first[:, None] - time[:, :1]).clamp_min(0)
        time = torch.minimum(torch.maximum(time, first[:, None].float()), last[:, None].float())
        low = time.floor().long()
        high = torch.minimum(low + 1, last[:, None])
        # Neighbouring frames are so close that the mean of two matrices is a rotation to within a per mille.
        rows = [self.rows.index_select(0, frames.flatten()) for frames in (low, high)]
        values = torch.lerp(rows[0], rows[1], (time - low).flatten()[:, None]).T.contiguous()
        return values[:216].view(24, 3, 3, batch, -1), values[216:].view(3, batch, -1)


def chain(local: Tensor) -> Tensor:
    """World rotations (24,3,3,...) of local ones. With the matrices' entries in front, a product of two is a few
    sums over long rows, which a CPU does many times faster than many small matrix products."""
    world = [local[0]]
    for joint, parent in enumerate(SMPL_24.parents[1:], 1):
        a, b = world[parent], local[joint]
        world.append(a[:, 0, None] * b[None, 0] + a[:, 1, None] * b[None, 1] + a[:, 2, None] * b[None, 2])
    return torch.stack(world)


def random_people(batch: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """Shapes (B,10) and stretches (B,24) of limb segments, alike on both sides; three in ten are the template."""
    plain = torch.rand(batch, 1, generator=g) < 0.3
    betas = torch.randn(batch, 10, generator=g) * 0.8
    stretch = torch.exp(0.05 * torch.randn(batch, 24, generator=g).clamp(-2, 2))
    stretch = (stretch + stretch[:, list(SMPL_24.mirror)]) / 2
    return torch.where(plain, 0.0, betas), torch.where(plain, 1.0, stretch)


def _mirror_some(keypoints: Tensor, joints: Tensor, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """Half of the samples in a mirror: x negated, left and right exchanged."""
    mirrored = (torch.rand(len(keypoints), 1, 1, 1, generator=g) < 0.5).to(keypoints.device)
    flip = torch.tensor([-1.0, 1, 1]).to(keypoints)
    keypoints = torch.where(mirrored, keypoints[:, :, list(COCO_17.mirror)] * flip, keypoints)
    joints = torch.where(mirrored, joints[:, :, list(H36M_17.mirror)] * flip, joints)
    return keypoints, joints
