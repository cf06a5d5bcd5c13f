"""Learning PC-HMR's A and W (Luan et al. 2021, equations 12-13 and "Implementation details").

The start is geometry. Stage ``alone`` calibrates estimated meshes onto true joints and compares with the true meshes.
Stage ``together`` takes target joints that a lifter makes of noisy 2D keypoints (equations 4-5) and trains the lifter
as well, a hundred times slower, as the paper does, by its 3D pose loss and through the meshes.

Mesh supervision alone would let a vertex follow any bone that helps on average. So a vertex follows only the bones that
it follows by geometry and, where these end on the surface, those that share a joint with them. Regularisers keep A near
the bones and A and W smooth over the surface. Both sides of the body learn alike.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from hmrkit.body import Body
from hmrkit.calibration import (
    CalibrationWeights,
    calibrate,
    geometric_calibration,
    load_calibration,
    save_calibration,
)
from hmrkit.calibration.bone_rotations import SEEN_JOINTS, assemble
from hmrkit.calibration.lifted_bones import follow_lifted
from hmrkit.calibration.time_filter import UNSMOOTHED
from hmrkit.errors import UsageError
from hmrkit.files import atomic_path
from hmrkit.lifters import LIFTERS, load_lifter
from hmrkit.lifters.ray_lifter import RayLifter, RayNetwork
from hmrkit.lifters.rays import encode
from hmrkit.members import unknown
from hmrkit.skeletons import H36M_17, SMPL_24
from hmrkit.training.calibration_samples import Clips, ClipSampler, Pairs, PairSampler
from hmrkit.training.lifter import lifting_loss
from hmrkit.training.loop import CHECKPOINT, LoopConfig, fit
from hmrkit.training.losses import mean_length
from hmrkit.weights import find_weights, read_metadata, save_state

STAGES = ("alone", "together", "both")
# The paper's rates are 1e-3 and 1e-5. Stage alone has twenty times the former: what learns are logits, which move far.
ALONE = LoopConfig(steps=500, learning_rate=2e-2, warmup=50, weight_decay=0.0, ema=0.99)
TOGETHER = LoopConfig(
    steps=120, learning_rate=1e-3, warmup=20, weight_decay=0.0, ema=0.99, slow_part="lifter", slow_rate=1e-2
)
PEOPLE, CLIPS = 16, 4  # a step, of the two stages
HELD_OUT_PEOPLE, HELD_OUT_CLIPS = 256, 32

# What bones that a vertex does not follow by geometry begin with, and how far from 0 and 1 W begins (sigmoids end
# there, and their slope with them).
_SEED_SHARE, _PLACE_MARGIN = 2e-3, 0.02
# Target joints of stage alone are a little wrong (m, each axis), so that nothing hangs on exact ones.
TARGET_NOISE_M = 0.005
# How far stage together follows the lifted pose: half way was best for the shipped lifter on held-out clips.
LIFTED_SHARE = 0.5
# Of the regularisers, beside the vertices' mean error in m: distance from the bones (m), differences of the learned
# change between neighbours on the surface, and the change itself.
LOCALITY, SMOOTHNESS, NEARNESS = 0.02, 0.3, 0.003
RINGS = 10  # edges over which a bone may reach beyond the vertices that follow it by geometry


class LearnedWeights(nn.Module):
    """A and W of one body as parameters; calling it gives them, (V,23) each, rows of A summing to 1."""

    support: Tensor

    def __init__(self, body: Body, start: CalibrationWeights | None = None) -> None:
        """Begins at `start`, from geometry unless given."""
        super().__init__()
        geometric = geometric_calibration(body)
        start = start or geometric
        self.model_id = start.model_id
        own = (geometric.attachment > _SEED_SHARE).to(start.attachment)
        self.register_buffer("support", (own @ _neighbours().to(own) > 0) & _dilated(own > 0, _edges(body), RINGS))
        self.shares = nn.Parameter(start.attachment.clamp_min(_SEED_SHARE).log())
        self.places = nn.Parameter(start.place.clamp(_PLACE_MARGIN, 1 - _PLACE_MARGIN).logit())
        self._mirror = None if body.vertex_mirror is None else torch.as_tensor(body.vertex_mirror)

    def forward(self) -> CalibrationWeights:
        attachment = torch.where(self.support, self.shares, -torch.inf).softmax(-1)
        return CalibrationWeights(self._both_sides(attachment), self._both_sides(self.places.sigmoid()), self.model_id)

    def _both_sides(self, values: Tensor) -> Tensor:
        if self._mirror is None:
            return values
        bones = [joint - 1 for joint in SMPL_24.mirror[1:]]
        return (values + values[self._mirror.to(values.device)][:, bones]) / 2


def _neighbours() -> Tensor:
    """(23,23): 1 where two bones are the same or share a joint."""
    ends = [{child, parent} for child, parent in enumerate(SMPL_24.parents) if child]
    return torch.tensor([[float(bool(a & b)) for b in ends] for a in ends])


def _edges(body: Body) -> Tensor:
    """Pairs of vertices (E,2) that an edge of the surface joins, each once."""
    faces = torch.as_tensor(body.faces, dtype=torch.long, device=body.device)
    return torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).sort(-1).values.unique(dim=0)


def _dilated(marked: Tensor, edges: Tensor, rings: int) -> Tensor:
    """`marked` (V,K) bool, and what lies at most `rings` of `edges` (E,2) from it."""
    here, there = edges.T
    near = marked.float()
    for _ in range(rings):
        near = near.index_add(0, here, near[there]).index_add(0, there, near[here]).clamp(max=1)
    return near > 0


class Regularisers:
    """What A and W of one body cost beside their errors (m)."""

    def __init__(self, body: Body) -> None:
        self.start = geometric_calibration(body)
        joints = body.joints_only().joints[0]
        above = list(SMPL_24.parents[1:])
        bone, offset = joints[1:] - joints[above], body.v_template[:, None] - joints[above]
        along = ((offset * bone).sum(-1) / (bone * bone).sum(-1)).clamp(0, 1)
        self.distance = (offset - along[..., None] * bone).norm(dim=-1)  # (V,23) from the bone's line
        self.edges = _edges(body)

    def __call__(self, weights: CalibrationWeights) -> Tensor:
        """A's distance from its bones; the Laplacian energy and the size of the change of A and of A W."""
        stretch, begun = weights.attachment * weights.place, self.start.attachment * self.start.place
        change = torch.cat([weights.attachment - self.start.attachment, stretch - begun], 1)
        steps = change[self.edges[:, 0]] - change[self.edges[:, 1]]
        locality = (weights.attachment * self.distance).sum(-1).mean()
        smoothness, nearness = (x.square().sum(-1).mean() for x in (steps, change))
        return LOCALITY * locality + SMOOTHNESS * smoothness + NEARNESS * nearness


class Together(nn.Module):
    """What stage together trains: A and W, and a lifter's network."""

    def __init__(self, calibration: LearnedWeights, lifter: RayNetwork) -> None:
        super().__init__()
        self.calibration, self.lifter = calibration, lifter

    def lift(self, clips: Clips) -> Tensor:
        """Joints (B,T,J,3) m about the root, camera axes, that the lifter sees in the clips."""
        features, real_from_virtual = encode(clips.seen.keypoints, clips.seen.focal_known)
        return self.lifter(features) @ real_from_virtual.mT


def lifted_targets(mesh: Tensor, clips: Clips, lifted: Tensor, skeleton: str) -> Tensor:
    """Target joints (N,24,3) m about the pelvis of the estimated joints `mesh` (N,24,3) of all the clips' pairs.

    Bones keep the mesh's lengths and go `LIFTED_SHARE` of the way to the lifted pose (B,T,J,3), in the camera's axes as
    they are. The loop runs over clips, each of which is one track.
    """
    poses = lifted[:, :: clips.every]
    sure = mesh.new_ones(poses.shape[1], len(SEEN_JOINTS))
    targets = []
    for own, pose in zip(mesh.split(poses.shape[1]), poses, strict=True):
        rotations, lengths = follow_lifted(own, pose, skeleton, sure, LIFTED_SHARE, UNSMOOTHED, align=0.0)
        targets.append(assemble(own, rotations, lengths, own[:, 0]))
    return torch.cat(targets)


def mesh_error(vertices: Tensor, joints: Tensor, target: Tensor, wanted: Tensor, weights: CalibrationWeights) -> Tensor:
    """Mean distance (m) from estimated meshes (B,V,3) of `joints`, calibrated onto `target` (B,24,3), to the `wanted`
    ones; all about the pelvis."""
    return mean_length(calibrate(vertices, joints, target, weights) - wanted)


def train_calibration(
    body: Body,
    out: str | Path,
    stage: str = "both",
    motion: str | Path | None = None,
    steps: int | None = None,
    start: str | Path | None = None,
    resume: bool = False,
    lifter: str = "videopose3d",
    lifter_checkpoint: str | Path | None = None,
) -> list[Path]:
    """Learn A and W of `body` on its device; returns what was written to the folder `out`.

    ``<topology id>.safetensors`` has A and W, ``held_out.json`` what they give (`held_out_errors`), and of stage
    together ``lifter.safetensors`` the lifter. `steps` is that of each stage. `start` is a file of A and W to begin
    from; else stage alone begins from geometry, and ``together`` on its own from those that ship. `resume` goes on from
    the checkpoints of each stage. UsageError for an unknown stage, where ``together`` has no `motion` file, and where
    the lifter is not one that reads rays.
    """
    out, device = Path(out), body.device
    if stage not in STAGES:
        raise unknown("--stage", stage, STAGES)
    if stage != "alone" and motion is None:
        raise UsageError(
            "stage together lifts clips of captured motion; wanted --motion FILE (see the README, Training)"
        )
    begun = load_calibration(body, start) if start is not None or stage == "together" else None
    learned = LearnedWeights(body, begun)
    regularise = Regularisers(body)
    if stage != "together":
        learned = _train_alone(learned, regularise, body, out / "alone", _steps(ALONE, steps), resume)
    written = [out / f"{body.topology_id}.safetensors"]
    network, clips = None, None
    if stage != "alone" and motion is not None:
        path = find_weights(lifter_checkpoint or LIFTERS[lifter].weights[0])
        loaded = load_lifter(lifter, path, device)
        if not isinstance(loaded, RayLifter):
            raise UsageError(f"{path}: stage together trains a lifter of this project's own, found a published network")
        clips = ClipSampler(motion, "test", device=device)(HELD_OUT_CLIPS, torch.Generator().manual_seed(1))
        both = Together(learned.requires_grad_(True), loaded.network.requires_grad_(True))
        samples = ClipSampler(motion, "train", device=device)
        folder = out / "together"
        going_on = resume and (stage == "together" or (folder / CHECKPOINT).exists())
        both = _train_together(both, regularise, samples, body, folder, _steps(TOGETHER, steps), going_on)
        learned, network = both.calibration, both.lifter
        written.append(out / "lifter.safetensors")
        state = {key: value.half() for key, value in network.state_dict().items()}
        save_state(state, written[-1], read_metadata(path))
    save_calibration(learned(), written[0])
    errors = held_out_errors(body, load_calibration(body, written[0]), clips, network)
    written.append(out / "held_out.json")
    with atomic_path(written[-1]) as temporary:
        temporary.write_text(json.dumps(errors, indent=1) + "\n", encoding="utf-8")
    return written


def _steps(config: LoopConfig, steps: int | None) -> LoopConfig:
    return config.with_steps(steps or config.steps)


def _train_alone(
    learned: LearnedWeights, regularise: Regularisers, body: Body, out: Path, config: LoopConfig, resume: bool
) -> LearnedWeights:
    sampler = PairSampler("train", body.device)
    held_out = PairSampler("test", body.device)(64, torch.Generator().manual_seed(1))

    def loss(network: nn.Module, generator: torch.Generator) -> Tensor:
        pairs = sampler(PEOPLE, generator)
        noise = (TARGET_NOISE_M * torch.randn(PEOPLE, 24, 3, generator=generator)).to(body.device)
        weights = network()
        return _error_on_true_joints(weights, pairs, body, noise) + regularise(weights)

    @torch.inference_mode()
    def evaluate(network: nn.Module) -> dict[str, float]:
        return {"held-out vertex error mm": 1000 * float(_error_on_true_joints(network(), held_out, body))}

    return fit(learned, loss, config, out, evaluate=evaluate, resume=resume)


def _error_on_true_joints(weights: CalibrationWeights, pairs: Pairs, body: Body, noise: Tensor | float = 0.0) -> Tensor:
    with torch.no_grad():
        (vertices, joints), (wanted, target) = pairs.estimated.posed(body), pairs.true.posed(body)
    return mesh_error(vertices, joints, target + noise, wanted, weights)


def _train_together(
    both: Together, regularise: Regularisers, samples: ClipSampler, body: Body, out: Path, config: LoopConfig,
    resume: bool,
) -> Together:  # fmt: skip
    skeleton = both.lifter.output_skeleton
    columns = H36M_17.indices(*skeleton.joints)

    def loss(network: nn.Module, generator: torch.Generator) -> Tensor:
        assert isinstance(network, Together)
        clips = samples(CLIPS, generator)
        with torch.no_grad():
            (vertices, joints), (wanted, _) = clips.pairs.estimated.posed(body), clips.pairs.true.posed(body)
        lifted, weights = network.lift(clips), network.calibration()
        target = lifted_targets(joints, clips, lifted, skeleton.name)
        error = mesh_error(vertices, joints, target, wanted, weights)
        return error + lifting_loss(lifted, clips.seen.joints_c[:, :, columns], skeleton) + regularise(weights)

    return fit(both, loss, config, out, resume=resume)


@torch.inference_mode()
def held_out_errors(
    body: Body, learned: CalibrationWeights, clips: Clips | None = None, lifter: RayNetwork | None = None
) -> dict[str, dict[str, float]]:
    """Mean vertex error (mm, about the pelvis) of held-out people, by A and W, by what the target joints are.

    ``true``: the true joints of `HELD_OUT_PEOPLE` held-out poses. ``lifted``: those that `lifter` makes of `clips`.
    A and W are ``uncalibrated`` (the mesh stream's own), ``geometric``, ``learned``, and these two ``rigid`` (W = 0).
    """
    people = PairSampler("test", body.device)(HELD_OUT_PEOPLE, torch.Generator().manual_seed(0))
    geometric = geometric_calibration(body)
    variants = {
        "geometric": geometric, "learned": learned, "geometric rigid": rigid(geometric), "learned rigid": rigid(learned)
    }  # fmt: skip
    (vertices, joints), (wanted, target) = people.estimated.posed(body), people.true.posed(body)
    result = {"true": _errors_mm(vertices, joints, target, wanted, variants)}
    if clips is not None and lifter is not None:
        lifted = Together(LearnedWeights(body), lifter).lift(clips)
        (vertices, joints), (wanted, _) = clips.pairs.estimated.posed(body), clips.pairs.true.posed(body)
        target = lifted_targets(joints, clips, lifted, lifter.output_skeleton.name)
        result["lifted"] = _errors_mm(vertices, joints, target, wanted, variants)
    return result


def _errors_mm(
    vertices: Tensor, joints: Tensor, target: Tensor, wanted: Tensor, variants: dict[str, CalibrationWeights]
) -> dict[str, float]:
    errors = {name: mesh_error(vertices, joints, target, wanted, weights) for name, weights in variants.items()}
    errors = {"uncalibrated": mean_length(vertices - wanted), **errors}
    return {name: round(1000 * float(value), 2) for name, value in errors.items()}


def rigid(weights: CalibrationWeights) -> CalibrationWeights:
    """The same without the non-rigid term (table 3, "w/o Non-Rigid")."""
    return replace(weights, place=torch.zeros_like(weights.place))
