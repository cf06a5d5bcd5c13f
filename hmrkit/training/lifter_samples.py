"""Training samples for lifters, made in batches: captured motion on random people, seen by random cameras and flawed
detectors.

33 minutes of motion on one skeleton would be learned by heart. Limbs of two clips are combined, bodies and limb
lengths vary, and the noise model is what decides how the network does on real footage: detectors' errors are mostly
constant offsets of a joint, then gaps and slips, and only then jitter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from hmrkit.camera import ASSUMED_FOV_DEG
from hmrkit.skeletons import COCO_17, H36M_17, SMPL_24
from hmrkit.training.motion import Motion
from hmrkit.weights import find_weights

# What the 17 output joints are on the body: means of its joints, or a point of its surface.
H36M_FROM_BODY: dict[str, tuple[str, ...]] = {
    "pelvis": ("left_hip", "right_hip"),
    "spine": ("spine2",),
    "thorax": ("neck",),
    "nose": ("keypoint:nose",),
    "head_top": ("surface:top",),
}

_LIMBS = {
    "left_arm": ("left_collar", "left_shoulder", "left_elbow", "left_wrist", "left_hand"),
    "right_arm": ("right_collar", "right_shoulder", "right_elbow", "right_wrist", "right_hand"),
    "left_leg": ("left_hip", "left_knee", "left_ankle", "left_foot"),
    "right_leg": ("right_hip", "right_knee", "right_ankle", "right_foot"),
    "head": ("neck", "head"),
    "back": ("spine1", "spine2", "spine3"),
}
# What is taken from the second clip, with how often.
_BLENDS: tuple[tuple[float, tuple[str, ...]], ...] = (
    (0.35, ()),
    (0.10, ("left_arm",)),
    (0.15, ("left_arm", "right_arm")),
    (0.15, ("left_arm", "right_arm", "head", "back")),
    (0.10, ("left_leg", "right_leg")),
    (0.05, ("left_leg",)),
    (0.10, ("left_arm", "left_leg", "head")),
)
# What goes missing together, with how often.
_DROPS: tuple[tuple[float, tuple[str, ...]], ...] = (
    (4, ("one",)),
    (1, ("nose", "left_eye", "right_eye")),
    (1, ("nose", "left_eye", "right_eye", "left_ear", "right_ear")),
    (1, ("left_wrist", "left_elbow")),
    (1, ("right_wrist", "right_elbow")),
    (1, ("left_ankle", "right_ankle")),
    (2, ("left_knee", "right_knee", "left_ankle", "right_ankle")),
    (0.5, ("left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle")),
    (1, ("left_knee", "left_ankle")),
    (1, ("right_knee", "right_ankle")),
    (0.5, COCO_17.joints),
)


@dataclass(frozen=True)
class Noise:
    """Detector errors, in parts of the person's box height. Each is drawn per clip between 0 and the figure given
    (exactly the figure where `exact`)."""

    clean: float = 0.5
    jitter: float = 0.02
    offset: float = 0.04
    drift: float = 0.02
    slips: float = 0.3
    drops: float = 0.35
    swaps: float = 0.1
    cut: float = 0.7
    low_rate: float = 0.25
    exact: bool = False


CLEAN = Noise(clean=1.0, slips=0, drops=0, swaps=0, cut=0, low_rate=0)


class BodyPoints:
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
    def shared(cls) -> BodyPoints:
        """The one instance; making it takes a moment."""
        return cls()

    def __call__(self, world: Tensor, root: Tensor, betas: Tensor, stretch: Tensor) -> tuple[Tensor, Tensor]:
        """Keypoints and output joints (B,T,17,3) m of people `betas` (B,10), segments stretched by `stretch` (B,24).

        `world` (24,3,3,B,T) joint rotations, `root` (3,B,T) m. People are brought to the template's total bone
        length: how large a person is cannot be seen.
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


@dataclass(frozen=True)
class Samples:
    """`keypoints` (B,T,17,3): ray x, y at z = 1 under the focal length that the network is told, confidence;
    `focal_known` (B,); `joints_c` (B,T,17,3) m about the pelvis, real camera's axes."""

    keypoints: Tensor
    focal_known: Tensor
    joints_c: Tensor


class LifterSampler:
    """Endless samples of `frames` frames at 30 Hz from captured motion.

    `augment` off: the template body in one clip's motion as it was. `known` is how often the focal length is told.
    """

    def __init__(
        self, motion: Motion, frames: int, noise: Noise | None = None, augment: bool = True, known: float = 0.5
    ) -> None:
        self.frames, self.noise, self.augment, self.known = frames, noise or Noise(), augment, known
        self.rows = torch.from_numpy(np.concatenate([motion.local_rotations.reshape(-1, 216), motion.root_pos_m], 1))
        self.starts = torch.from_numpy(motion.starts)
        self.points = BodyPoints.shared()
        self._blend_weights = torch.tensor([w for w, _ in _BLENDS])
        self._blends = torch.zeros(len(_BLENDS), 24, dtype=torch.bool)
        for row, (_, limbs) in enumerate(_BLENDS):
            for limb in limbs:
                self._blends[row, SMPL_24.indices(*_LIMBS[limb])] = True

    def __call__(self, batch: int, generator: torch.Generator) -> Samples:
        """A batch, the same for the same generator state."""
        g = generator
        local, root = self._window(batch, g)
        betas, stretch = torch.zeros(batch, 10), torch.ones(batch, 24)
        if self.augment:
            other, _ = self._window(batch, g)
            take = self._blends[torch.multinomial(self._blend_weights, batch, True, generator=g)]
            local = torch.where(take.T[:, None, None, :, None], other, local)
            betas, stretch = random_people(batch, g)
        keypoints, joints = self.points(chain(local), root, betas, stretch)
        if self.augment:
            keypoints, joints = _mirror_some(keypoints, joints, g)
        return observe(keypoints, joints, self.noise, g, self.known)

    def _window(self, batch: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
        """Local rotations (24,3,3,B,T) and pelvis paths (3,B,T) at random places, played at random speed."""
        anchor = torch.randint(len(self.rows), (batch,), generator=g)
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


def _uniform(low: float, high: float, shape: tuple[int, ...], g: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=g)


def observe(keypoints_w: Tensor, joints_w: Tensor, noise: Noise, g: torch.Generator, known: float = 0.5) -> Samples:
    """See people (B,T,17,3) m in a world with y up through one random static camera each, and a flawed detector."""
    b, t = keypoints_w.shape[:2]
    fov = torch.deg2rad(_uniform(30, 90, (b,), g))
    aspect = torch.tensor([16 / 9, 9 / 16, 4 / 3, 1.0])[torch.randint(4, (b,), generator=g)]
    longer = torch.tan(fov / 2)
    half = torch.stack([longer * aspect.clamp(max=1), longer / aspect.clamp(min=1)], -1)
    rotation = _camera_rotation(b, g)
    # How much of the image's height a standing person fills, and where in the image the middle of the path is.
    fill = 0.15 * (1.1 / 0.15) ** torch.rand(b, generator=g)
    distance = 1.7 / (2 * half[:, 1] * fill)
    aim = _uniform(-1, 1, (b, 2), g) * (1 - 0.6 * fill[:, None]).clamp_min(0.15) * half
    center = joints_w[:, :, :1].mean(1, keepdim=True)
    keypoints = (keypoints_w - center) @ rotation.mT[:, None]
    joints = (joints_w - center) @ rotation.mT[:, None]
    nearest = torch.minimum(keypoints[..., 2].amin((1, 2)), joints[..., 2].amin((1, 2)))
    distance = torch.maximum(distance, 0.4 - nearest)
    keypoints = keypoints + (torch.cat([aim, torch.ones(b, 1)], -1) * distance[:, None])[:, None, None]
    plane = keypoints[..., :2] / keypoints[..., 2:]

    seen = torch.ones(b, t, 17)
    cut = (torch.rand(b, 1, 1, generator=g) < noise.cut) & (plane.abs() > half[:, None, None]).any(-1)
    seen = torch.where(cut, 0.0, seen)
    observed = _detect(plane, seen, noise, g)
    told_it = (torch.rand(b, generator=g) < known).float()
    told = torch.where(told_it > 0, 1.0, math.tan(math.radians(ASSUMED_FOV_DEG) / 2) / longer)
    observed = torch.cat([observed[..., :2] * told[:, None, None, None], observed[..., 2:]], -1)
    return Samples(observed, told_it, joints - joints[:, :, :1])


def _camera_rotation(batch: int, g: torch.Generator) -> Tensor:
    """World (y up) to camera (x right, y down, z forward) rotations (B,3,3): any azimuth, 20 degrees from below to 60
    from above, mostly little roll."""
    azimuth = _uniform(-math.pi, math.pi, (batch,), g)
    elevation = torch.deg2rad(_uniform(-20, 60, (batch,), g))
    roll = torch.deg2rad((torch.randn(batch, generator=g) * 12).clamp(-30, 30))
    zero = torch.zeros(batch)
    ca, sa, ce, se, cr, sr = azimuth.cos(), azimuth.sin(), elevation.cos(), elevation.sin(), roll.cos(), roll.sin()
    forward = torch.stack([sa * ce, -se, ca * ce], -1)
    right = torch.stack([-ca, zero, sa], -1)
    down = torch.linalg.cross(forward, right)
    spin = torch.stack([cr, -sr, sr, cr], -1).view(batch, 2, 2)
    return torch.cat([spin @ torch.stack([right, down], 1), forward[:, None]], 1)


def box_height(plane: Tensor) -> Tensor:
    """Mean height (B,) over the clip of the box about image points (B,T,17,2)."""
    return (plane[..., 1].amax(-1) - plane[..., 1].amin(-1)).mean(-1)


def _detect(plane: Tensor, seen: Tensor, noise: Noise, g: torch.Generator) -> Tensor:
    """Image points (B,T,17,2) and what is seen of them -> keypoints (B,T,17,3) as a detector would give them."""
    b, t = plane.shape[:2]
    clean = torch.rand(b, 1, 1, 1, generator=g) < noise.clean
    unit = torch.where(clean, 0.0, box_height(plane)[:, None, None, None])

    def amount(most: float) -> Tensor:
        return unit * most * (1.0 if noise.exact else torch.rand(b, 1, 1, 1, generator=g))

    found = plane + amount(noise.jitter) * torch.randn(plane.shape, generator=g)
    found = found + amount(noise.offset) * torch.randn(b, 1, 17, 2, generator=g)
    if noise.drift:
        found = found + amount(noise.drift) * _slow_noise(b, t, g)
    confidence = seen * _uniform(0.5, 1, (b, 1, 17), g)
    if noise.slips:
        # For a while a joint is somewhere near: wrong, and mostly known to be doubtful.
        slip = _spells(b, t, 2, noise.slips, g)
        wild = 0.12 * box_height(plane)[:, None, None, None] * _slow_noise(b, t, g)
        found = torch.where(slip[..., None], found + wild, found)
        confidence = torch.where(slip, confidence * _uniform(0.05, 0.9, (b, 1, 17), g), confidence)
    if noise.swaps:
        window = _windows(b, t, g, 0.0) & (torch.rand(b, 1, generator=g) < noise.swaps)
        side = torch.randint(3, (b, 1), generator=g)  # 0 legs, 1 arms, 2 all
        legs = torch.zeros(17, dtype=torch.bool)
        legs[COCO_17.indices("left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle")] = True
        part = torch.where(side == 2, True, legs == (side == 0))
        found = torch.where((window[..., None] & part[:, None])[..., None], found[:, :, list(COCO_17.mirror)], found)
    if noise.drops:
        kinds = torch.tensor([float(w) for w, _ in _DROPS])
        for _ in range(2):
            kind = torch.multinomial(kinds, b, True, generator=g)
            lost = torch.nn.functional.one_hot(torch.randint(17, (b,), generator=g), 17).bool()
            masks = torch.stack([torch.tensor([j in names for j in COCO_17.joints]) for _, names in _DROPS])
            lost = torch.where(kind[:, None] == 0, lost, masks[kind])
            whole = torch.where(masks[kind].all(-1), 0.0, 0.4)
            window = _windows(b, t, g, whole[:, None]) & (torch.rand(b, 1, generator=g) < noise.drops)
            confidence = torch.where(window[..., None] & lost[:, None], 0.0, confidence)
    if noise.low_rate:
        found, confidence = _low_rate(found, confidence, noise.low_rate, g)
    return torch.cat([found, confidence[..., None]], -1)


def _slow_noise(b: int, t: int, g: torch.Generator) -> Tensor:
    """Noise (B,T,17,2) of about unit deviation that wanders within half a second."""
    knots = torch.randn(b, 34, t // 8 + 3, generator=g)
    return torch.nn.functional.interpolate(knots, size=t, mode="linear").view(b, 17, 2, t).permute(0, 3, 1, 2)


def _windows(b: int, t: int, g: torch.Generator, whole: Tensor | float) -> Tensor:
    """Random stretches (B,T) of 2 to 20 frames; the whole clip as often as `whole` says."""
    start = torch.rand(b, 1, generator=g) * t
    length = 2 + 18 * torch.rand(b, 1, generator=g)
    time = torch.arange(t)
    return ((time >= start) & (time < start + length)) | (torch.rand(b, 1, generator=g) < whole)


def _spells(b: int, t: int, count: int, often: float, g: torch.Generator) -> Tensor:
    """Stretches (B,T,17) during which one or two random joints are affected, in `often` of the clips."""
    marked = torch.zeros(b, t, 17, dtype=torch.bool)
    some = torch.rand(b, 1, generator=g) < often
    for _ in range(count):
        joint = torch.nn.functional.one_hot(torch.randint(17, (b,), generator=g), 17).bool()
        marked |= (_windows(b, t, g, 0.1) & some)[..., None] & joint[:, None]
    return marked


def _low_rate(found: Tensor, confidence: Tensor, often: float, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """Some clips as if filmed at 30 / 2 to 30 / 6 Hz and brought back to 30 Hz by straight lines."""
    b, t = confidence.shape[:2]
    some = torch.rand(b, generator=g) < often
    step = torch.where(some, torch.randint(2, 7, (b,), generator=g), 1)[:, None]
    time = torch.arange(t)
    low = time - time % step
    high = torch.minimum(low + step, torch.full_like(low, t - 1))
    part = ((time - low) / (high - low).clamp_min(1))[..., None]
    rows = torch.arange(b)[:, None]
    confident = torch.minimum(confidence[rows, low], torch.where(part > 0, confidence[rows, high], 1.0))
    return torch.lerp(found[rows, low], found[rows, high], part[..., None]), confident
