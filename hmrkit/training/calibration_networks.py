"""Training of PC-HMR's two extra networks, self-rotation and shape compensation (Luan et al. 2021, section 4.2).

As the paper's calibration module, by mesh supervision alone: pairs of an estimated and a true body, the true joints as
the target, and the distance of the calibrated vertices from the true ones.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import torch

from hmrkit.body import Body
from hmrkit.calibration import CalibrationWeights
from hmrkit.calibration.variants import CalibrationNetwork, SelfRotation, ShapeCompensation
from hmrkit.training.calibration_samples import Pairs, PairSampler
from hmrkit.weights import load_into, load_state, save_state

log = logging.getLogger(__name__)

NETWORKS: dict[str, Callable[[Body], CalibrationNetwork]] = {
    "self-rotation": lambda body: SelfRotation(),
    "shape compensation": ShapeCompensation,
}
# The paper trains its calibration module at this rate.
LEARNING_RATE = 1e-3
STEPS, BATCH = 500, 32


def vertex_error(network: CalibrationNetwork, pairs: Pairs, body: Body, weights: CalibrationWeights) -> torch.Tensor:
    """Mean distance in m of calibrated vertices from the true ones, about the pelvis; the target is the true pose."""
    estimated = pairs.estimated
    with torch.no_grad():
        mesh = body(estimated.global_orient, estimated.body_pose, estimated.betas, -_pelvis(body, estimated))
        vertices, joints = pairs.true.posed(body)
    moved = network(mesh, estimated.body_pose, estimated.betas, joints, weights)
    return (moved - vertices).norm(dim=-1).mean()


def train_network(
    name: str, body: Body, weights: CalibrationWeights, steps: int = STEPS, batch: int = BATCH, seed: int = 0
) -> CalibrationNetwork:
    """The network of that name (`NETWORKS`), trained for `steps` of `batch` pairs with A and W as they are."""
    generator = torch.Generator().manual_seed(seed)
    sampler = PairSampler("train", body.device)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = NETWORKS[name](body).to(body.device)
    optimiser = torch.optim.Adam(network.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(steps, 1))
    for step in range(steps):
        error = vertex_error(network, sampler(batch, generator), body, weights)
        optimiser.zero_grad()
        error.backward()
        optimiser.step()
        schedule.step()
        if step % 50 == 0:
            log.info("%s: step %d, vertices %.1f mm", name, step, 1000 * error.item())
    return network.eval().requires_grad_(False)


def kept_network(name: str, folder: Path, body: Body, weights: CalibrationWeights) -> CalibrationNetwork:
    """The network in ``folder/<name>.safetensors``, trained and written there where it is missing."""
    path = folder / f"{name.replace(' ', '_')}.safetensors"
    if not path.is_file():
        network = train_network(name, body, weights)
        folder.mkdir(parents=True, exist_ok=True)
        save_state(network.state_dict(), path)
    network = NETWORKS[name](body)
    load_into(network, load_state(path), path)
    return network.to(body.device).eval().requires_grad_(False)


def _pelvis(body: Body, bodies) -> torch.Tensor:
    return body.joints_only(bodies.global_orient, bodies.body_pose, bodies.betas).joints[:, 0]
