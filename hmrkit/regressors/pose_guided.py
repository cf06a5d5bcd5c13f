"""What 3DCrowdNet and SGRE share: an image network guided by heatmaps of 2D joints, joints in 3D, a graph of 15.

Sources: Choi et al. 2022, Learning to estimate robust 3D human mesh from in-the-wild crowded scenes (3DCrowdNet); Wang
and Zhang 2023 (SGRE), which is built on it. Module names are those of their checkpoints. Heatmaps of the 2D joints join
ResNet-50's features ahead of its bottlenecks. Joints are found in 3D; image features at 15 of them go through graph
convolutions.

What lies ahead of the network differs a little from the published code: there the neck of OpenPose's keypoints is used
where they have one, and the crop is cut about the keypoints, not about the box.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from hmrkit.backbones.resnet import ResNet50
from hmrkit.errors import UsageError
from hmrkit.regressors import BodyEstimate, CropContext
from hmrkit.regressors.frame import FrameRegressor
from hmrkit.regressors.soft_argmax import expected_cell, volume_softmax
from hmrkit.skeletons import BLAZEPOSE_33, SMPL_24, Skeleton, common_joints

SIZE, HEATMAP, CELLS = 256, 64, 8  # px of the crop, of the heatmaps; cells of the joints' volumes along each axis
DEVIATION = 2.5  # px of a heatmap
CROP_M = 2.5  # what a crop spans at the depth where the sigmoid of the camera's third number is 1

# The joints that have heatmaps.
JOINTS_30 = Skeleton(
    "sgre-30", (*SMPL_24.joints, "nose", "left_eye", "right_eye", "left_ear", "right_ear", "head_top")
)  # fmt: skip
# Middles of two joints, which the 2D pose gets besides its own.
_MIDDLES = {"pelvis": ("left_hip", "right_hip"), "neck": ("left_shoulder", "right_shoulder")}

# The joints of the graph, each joined to its parent and to its counterpart on the other side.
GRAPH_15 = Skeleton(
    "sgre-15",
    (
        "pelvis", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle", "neck", "head_top",
        "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
    ),
    (
        None, "pelvis", "pelvis", "left_hip", "right_hip", "left_knee", "right_knee", "pelvis", "neck",
        "neck", "neck", "left_shoulder", "right_shoulder", "left_elbow", "right_elbow",
    ),
)  # fmt: skip
CHANNELS, NODE = 2048, 128  # of the image feature, of a node of the graph
GRAPH_FEATURE = NODE * len(GRAPH_15)


def joints_30(joints_2d: Tensor) -> Tensor:
    """Keypoints (B,33,3) (`CropContext.joints_2d`) -> (B,30,3), confidence 0 for those that they lack.

    Names that both sets have are copied; pelvis and neck are the middles of hips and shoulders, with the product of
    their confidences."""
    source, target = common_joints(BLAZEPOSE_33, JOINTS_30)
    found = joints_2d.new_zeros(len(joints_2d), len(JOINTS_30), 3)
    found[:, target] = joints_2d[:, source]
    for name, sides in _MIDDLES.items():
        left, right = (joints_2d[:, BLAZEPOSE_33.index[side]] for side in sides)
        middle = torch.cat([(left + right)[:, :2] / 2, left[:, 2:] * right[:, 2:]], 1)
        found[:, JOINTS_30.index[name]] = middle
    return found


def heatmaps(joints: Tensor, confident: float) -> Tensor:
    """Joints (B,J,3) in px of a 256 px crop -> Gaussians (B,J,64,64) with a peak of 1; nothing where a joint is less
    certain than `confident` or outside of the crop."""
    at = joints[..., :2] * (HEATMAP / SIZE)
    cells = torch.arange(HEATMAP, device=joints.device, dtype=joints.dtype)
    x, y = (torch.exp(-(cells - at[..., axis, None]).square() / (2 * DEVIATION**2)) for axis in (0, 1))
    inside = ((at >= 0) & (at < HEATMAP)).all(-1)
    seen = (inside & (joints[..., 2] > confident)).to(joints.dtype)
    return seen[..., None, None] * y[..., :, None] * x[..., None, :]


def graph_weights(graph: Skeleton) -> Tensor:
    """``D^-1/2 A D^-1/2`` (J,J) of the bones, the pairs of left and right, and every joint with itself."""
    edges = torch.eye(len(graph))
    for a, b in (*graph.bones, *enumerate(graph.mirror)):
        edges[a, b] = edges[b, a] = 1
    scale = edges.sum(0).rsqrt()
    return scale[:, None] * edges * scale


def sampled(image: Tensor, joints: Tensor) -> Tensor:
    """Maps (B,C,h,w) at joints (B,J,2 or more) given in cells -> (B,J,C), interpolated bilinearly."""
    last = joints.new_tensor([image.shape[-1] - 1, image.shape[-2] - 1])
    places = joints[:, :, None, :2] / last * 2 - 1
    return functional.grid_sample(image, places, align_corners=True)[..., 0].mT


class Pose2Feat(nn.Module):
    """ResNet's early features (B,64,64,64) and heatmaps (B,30,64,64) -> (B,64,64,64)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(64 + len(JOINTS_30), 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU())

    def forward(self, early: Tensor, heat: Tensor) -> Tensor:
        return self.conv(torch.cat([early, heat], 1))


class PositionNet(nn.Module):
    """Image feature (B,2048,8,8) -> joints x, y, z in cells (B,J,3) and how much heat lies there (B,J,1)."""

    def __init__(self, joints: int) -> None:
        super().__init__()
        self.joints = joints
        self.conv = nn.Sequential(nn.Conv2d(CHANNELS, CELLS * joints, 1))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        heat = volume_softmax(self.conv(image).unflatten(1, (self.joints, CELLS)))
        joints = expected_cell(heat)
        places = joints.flatten(0, 1)[:, None, None, None] / (CELLS - 1) * 2 - 1
        scores = functional.grid_sample(heat.flatten(0, 1)[:, None], places, align_corners=True)
        return joints, scores.reshape(*joints.shape[:2], 1)


class GraphConv(nn.Module):
    """Nodes (B,15,inputs) -> (B,15,128): a linear layer and BatchNorm a node, then the mean over neighbours, ReLU."""

    weights: Tensor

    def __init__(self, inputs: int = NODE) -> None:
        super().__init__()
        layers = (nn.Sequential(nn.Linear(inputs, NODE), nn.BatchNorm1d(NODE)) for _ in GRAPH_15.joints)
        self.fcbn_list = nn.ModuleList(layers)
        self.register_buffer("weights", graph_weights(GRAPH_15), persistent=False)

    def forward(self, nodes: Tensor) -> Tensor:
        own = [layer(nodes[:, joint]) for joint, layer in enumerate(self.fcbn_list)]
        return functional.relu(self.weights @ torch.stack(own, 1))


class GraphResBlock(nn.Module):
    """Two graph convolutions, added to what they read."""

    def __init__(self) -> None:
        super().__init__()
        self.graph_block1, self.graph_block2 = GraphConv(), GraphConv()

    def forward(self, nodes: Tensor) -> Tensor:
        return nodes + self.graph_block2(self.graph_block1(nodes))


class PlainResNet(ResNet50):
    """ResNet-50 that reads 256 px crops without a normalisation."""

    input_size = (SIZE, SIZE)

    def __init__(self) -> None:
        super().__init__()
        self.normalise = nn.Identity()


class GuidedRegressor(FrameRegressor):
    """See `hmrkit.regressors.frame.FrameRegressor`. Its context must have `joints_2d`: UsageError without.

    `rotation_net` has the published heads, `joints` is how many the position net finds; joints that are less certain
    than `confident` get no heatmap.

    Camera: the published networks put the body at ``t = (c_0, c_1, t_z)`` m before a camera of focal length f = 5000,
    ``t_z = sigmoid(c_2) sqrt(f^2 2.5^2 / 256^2)``. In weak perspective that is ``s = 2 f / (256 t_z) = 2 / (2.5
    sigmoid(c_2))`` with ``tx, ty = c_0, c_1``; f is cancelled.
    """

    def __init__(self, name: str, rotation_net: nn.Module, joints: int, confident: float) -> None:
        super().__init__(name, PlainResNet(), framing="box", shape_space="smpl")
        self.confident = confident
        self.pose2feat, self.position_net, self.rotation_net = Pose2Feat(), PositionNet(joints), rotation_net

    def estimate(self, crops: Tensor, context: CropContext | None = None) -> BodyEstimate:
        if context is None or context.joints_2d is None:
            raise UsageError(f"the published {self.name} is guided by 2D joints; wanted joints_2d with the crops")
        return self.estimate_guided(crops, heatmaps(joints_30(context.joints_2d), self.confident))

    def estimate_guided(self, crops: Tensor, heat: Tensor) -> BodyEstimate:
        """Crops (B,3,256,256) RGB in [0, 1] and heatmaps (B,30,64,64) in the order of `JOINTS_30` -> bodies."""
        image = self.backbone.stages(self.pose2feat(self.backbone.stem(crops), heat))[-1]
        pose, betas, camera = self.bodies(image, *self.position_net(image))
        scale = 2 / (CROP_M * camera[:, 2:].sigmoid())
        return BodyEstimate(pose[:, 0], pose[:, 1:], betas, torch.cat([scale, camera[:, :2]], 1))

    def bodies(self, image: Tensor, joints: Tensor, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Image feature (B,2048,8,8) and what the position net found -> rotations (B,24,3,3), each relative to its
        parent's, betas (B,10), camera numbers (B,3)."""
        raise NotImplementedError
