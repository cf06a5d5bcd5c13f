"""3DCrowdNet: an image network guided by the person's 2D joints, made for crowds; by its published checkpoint.

Source: Choi et al. 2022, Learning to estimate robust 3D human mesh from in-the-wild crowded scenes. What it shares
with SGRE stands in `hmrkit.regressors.pose_guided`. Joints in 3D are the graph's 15; from the graph's feature come the
root's 6D rotation, a latent code of VPoser, betas and camera. VPoser v1 (Pavlakos et al. 2019, SMPL-X) decodes the code
to 21 joints; the hands stay as they are at rest. The authors' training saves VPoser's tensors with the network's; for a
file without them VPoser's own (`VPOSER_FILES`) must lie beside it or in a weights folder.
"""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from hmrkit.errors import WeightsError
from hmrkit.geometry import rotation_from_6d
from hmrkit.regressors.files import beside, refuse_other_backbone
from hmrkit.regressors.pose_guided import (
    CHANNELS,
    GRAPH_15,
    GRAPH_FEATURE,
    GraphConv,
    GraphResBlock,
    GuidedRegressor,
    sampled,
)
from hmrkit.weights import find_weights, load_into, load_state, verify

log = logging.getLogger(__name__)

BACKBONE = "resnet50"
LANDMARK = "rotation_net.root_pose_out.0.weight"  # a tensor that no other checkpoint has
CONFIDENT = 0.1
LATENT, HIDDEN, VPOSER_JOINTS, HANDS = 32, 512, 21, 2
VPOSER, VPOSER_LANDMARK = "vposer.vposer.", "bodyprior_dec_fc1.weight"
VPOSER_FILES = tuple(f"{folder}TR00_E096.pt" for folder in ("", "vposer_v1_0/snapshots/", "VPOSER_CKPT/snapshots/"))
# VPoser's encoder, and SMPL's arrays: inference reads neither.
_PASSED_OVER = (f"{VPOSER}bodyprior_enc_", "human_model_layer.")


class VPoser(nn.Module):
    """The decoder of VPoser v1: latent codes (B,32) -> rotations of SMPL's body joints (B,21,3,3)."""

    def __init__(self) -> None:
        super().__init__()
        self.bodyprior_dec_fc1 = nn.Linear(LATENT, HIDDEN)
        self.bodyprior_dec_fc2 = nn.Linear(HIDDEN, HIDDEN)
        self.bodyprior_dec_out = nn.Linear(HIDDEN, 6 * VPOSER_JOINTS)

    def forward(self, codes: Tensor) -> Tensor:
        x = functional.leaky_relu(self.bodyprior_dec_fc1(codes), 0.2)
        x = functional.leaky_relu(self.bodyprior_dec_fc2(x), 0.2)
        return rotation_from_6d(self.bodyprior_dec_out(x).unflatten(1, (VPOSER_JOINTS, 6)), "interleaved")


class RotationNet(nn.Module):
    """Image feature and joints -> root's 6D rotation (B,6) interleaved, VPoser's code (B,32), betas (B,10), camera
    (B,3)."""

    def __init__(self) -> None:
        super().__init__()
        self.graph_block = nn.Sequential(GraphConv(CHANNELS + 4), *(GraphResBlock() for _ in range(4)))
        self.root_pose_out, self.pose_out, self.shape_out, self.cam_out = (
            nn.Sequential(nn.Linear(GRAPH_FEATURE, count)) for count in (6, LATENT, 10, 3)
        )

    def forward(self, image: Tensor, joints: Tensor, scores: Tensor) -> tuple[Tensor, ...]:
        nodes = torch.cat([sampled(image, joints), joints, scores], -1)
        feature = self.graph_block(nodes).flatten(1)
        heads = (self.root_pose_out, self.pose_out, self.shape_out, self.cam_out)
        return tuple(head(feature) for head in heads)


class CrowdNet(GuidedRegressor):
    """See `GuidedRegressor`."""

    def __init__(self, name: str) -> None:
        super().__init__(name, RotationNet(), len(GRAPH_15), CONFIDENT)
        self.vposer = VPoser()

    def bodies(self, image: Tensor, joints: Tensor, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        root, codes, betas, camera = self.rotation_net(image, joints, scores)
        body = self.vposer(codes)
        hands = torch.eye(3, device=body.device, dtype=body.dtype).expand(len(body), HANDS, 3, 3)
        return torch.cat([rotation_from_6d(root, "interleaved")[:, None], body, hands], 1), betas, camera


def load(
    name: str,
    checkpoint: str | Path | None,
    *,
    device: str | torch.device,
    weights: str | None = "default",
    backbone: str | None = None,
) -> CrowdNet:
    """See `hmrkit.regressors.load_regressor`; without a checkpoint an untrained one."""
    regressor = CrowdNet(name)
    if checkpoint is not None:
        refuse_other_backbone(checkpoint, BACKBONE, backbone)
        _fill(regressor, load_state(checkpoint), find_weights(checkpoint))
    return regressor.eval().requires_grad_(False).to(device)


def _fill(regressor: CrowdNet, state: dict[str, Tensor], path: Path) -> None:
    """Load a published checkpoint's tensors, VPoser's from its own file where it has none."""
    if LANDMARK not in state:
        found = ", ".join(list(state)[:3])
        raise WeightsError(
            f"{path}: wanted 3DCrowdNet's published checkpoint, found {len(state)} others ({found}, ...)"
        )
    unused = [key for key in state if key.startswith(_PASSED_OVER)]
    if unused:
        log.info("%s: passed over %d tensors that inference does not read: %s", path, len(unused), ", ".join(unused))
    own = {key.replace(VPOSER, "vposer."): value for key, value in state.items() if key not in unused}
    hashes = [verify(path)]
    if VPOSER + VPOSER_LANDMARK not in state:
        file = vposer_beside(path)
        decoder = {key: value for key, value in load_state(file).items() if not key.startswith("bodyprior_enc_")}
        load_into(regressor.vposer, decoder, file)
        own |= {f"vposer.{key}": value for key, value in decoder.items()}
        hashes.append(verify(file))
    load_into(regressor, own, path)
    regressor.weights_sha256 = "".join(hashes)


def vposer_beside(path: Path) -> Path:
    if found := beside(path, VPOSER_FILES):
        return found
    raise WeightsError(
        f"{path}: 3DCrowdNet's pose is a code of VPoser v1, which is not in the file; wanted "
        f"{' or '.join(VPOSER_FILES)} beside it or in a weights folder ($HMRKIT_WEIGHTS, ./weights), found none; "
        "register at https://smpl-x.is.tue.mpg.de"
    )
