"""The published DaNet (Zhang et al. 2020) under the key names of its checkpoint, on HRNet-W48.

It reads DensePose's 24 parts. What differs from the paper: RoIs are as large as joints lie apart, not as the foreground
is (eq. 2), and smaller where a joint is hidden. Layers of the checkpoint that its network does not use are passed over.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from hmrkit.backbones import Features
from hmrkit.backbones.hrnet import HRNet
from hmrkit.backbones.resnet import Bottleneck
from hmrkit.geometry import rotation_from_6d
from hmrkit.regressors import BodyEstimate, CropContext
from hmrkit.regressors.danet_graph import JOINTS, Refinement
from hmrkit.regressors.danet_iuv import INDEX, BasicBlock, clean_maps, crop_about, maps_to_image, soft_argmax
from hmrkit.regressors.frame import FrameRegressor
from hmrkit.skeletons import SMPL_24
from hmrkit.weights import load_into

LANDMARK = "img2iuv.learned_ratio"
_ESTIMATOR, _MAPS, _HEAD = "img2iuv.iuv_est.", "final_pred.", "iuv2smpl.smpl_para_Outs."
# Constants of the class, and layers of a variant without graphs.
_UNUSED = ("A", "A_mask", "A_link", "I_n", "r2p_A", "p2r_A", "rot2pos", "pos2rot")
CLASSES, KEPT, WIDTH = 25, 7, 128
# DensePose's parts that show each joint of SMPL: a joint is hidden where none of them is.
PARTS_OF_JOINT = (
    (1, 2), (8, 10), (7, 9), (1, 2), (8, 10, 12, 14), (7, 9, 11, 13), (1, 2), (12, 14, 5), (11, 13, 6), (1, 2),
    (12, 14, 5), (11, 13, 6), (1, 2, 23, 24), (15, 17), (16, 18), (23, 24), (15, 17), (16, 18), (15, 17, 19, 21),
    (16, 18, 20, 22), (19, 21, 4), (20, 22, 3), (19, 21, 4), (20, 22, 3),
)  # fmt: skip
# The child to which a joint's RoI reaches; of leaves the joint itself.
CHILDREN = (3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 10, 11, 15, 16, 17, 15, 18, 19, 20, 21, 22, 23, 22, 23)
VISIBLE, HIDDEN_SCALE = 0.5, 0.8


class ResNet18(nn.Module):
    """Maps (B,64,h,w) through ResNet-18's stem and its first `layers`, and where `outputs` are asked for the mean
    through `final_layer`."""

    def __init__(self, layers: int, outputs: int = 0) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(64, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        inputs = 64
        for k, channels in enumerate((64, 128, 256, 512)[:layers], 1):
            first = BasicBlock(inputs, channels, 1 if k == 1 else 2)
            self.add_module(f"layer{k}", nn.Sequential(first, BasicBlock(channels, channels)))
            inputs = channels
        self._layers = layers
        self.final_layer = nn.Linear(inputs, outputs) if outputs else None

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(functional.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for k in range(1, self._layers + 1):
            x = self.get_submodule(f"layer{k}")(x)
        return x if self.final_layer is None else self.final_layer(x.mean((2, 3)))


class JointLayers(nn.Module):
    """`layer4`: two blocks in 24 groups (B,24*256,h,w) -> (B,24*128,h/2,w/2)."""

    def __init__(self) -> None:
        super().__init__()
        inputs, outputs = JOINTS * 256, JOINTS * WIDTH
        first = BasicBlock(inputs, outputs, 2, groups=JOINTS)
        self.layer4 = nn.Sequential(first, BasicBlock(outputs, outputs, groups=JOINTS))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer4(x)


class PredictedMaps(nn.Module):
    """Predictions from HRNet's finest map (B,48,56,56)."""

    def __init__(self, channels: int = 48) -> None:
        super().__init__()
        self.predict_u, self.predict_v, self.predict_uv_index = (nn.Conv2d(channels, CLASSES, 3, 1, 1) for _ in "uvi")
        self.predict_ann_index = nn.Conv2d(channels, 15, 3, 1, 1)
        blocks = nn.Sequential(*(Bottleneck(channels, channels // 4) for _ in range(3)))
        self.predict_hm = nn.Sequential(blocks, nn.Conv2d(channels, JOINTS, 3, 1, 1))
        self.predict_partial_iuv = nn.Conv2d(JOINTS * channels, JOINTS * 3 * KEPT, 3, 1, 1, groups=JOINTS)

    def global_maps(self, feature: Tensor) -> Tensor:
        """(B,3,25,56,56), not cleaned."""
        return torch.stack([self.predict_u(feature), self.predict_v(feature), self.predict_uv_index(feature)], 1)

    def partial_maps(self, crops: Tensor) -> Tensor:
        """Of crops (B,24,48,56,56): (B,24,3,7,56,56), not cleaned."""
        return self.predict_partial_iuv(crops.flatten(1, 2)).unflatten(1, (JOINTS, 3, KEPT))


class PublishedHead(Refinement):
    """IUV maps -> camera, shape and 6D rotations."""

    mean_cam_shape: Tensor
    mean_pose: Tensor

    def __init__(self) -> None:
        super().__init__(WIDTH)
        self.body_net = nn.Sequential(*_entrance(3 * CLASSES), ResNet18(4, 13))
        self.limb_net = nn.Sequential(*_entrance(3 * KEPT), ResNet18(3))
        self.limb_reslayer = JointLayers()
        self.register_buffer("mean_cam_shape", torch.zeros(1, 13))
        self.register_buffer("mean_pose", torch.zeros(1, JOINTS * 6))

    def camera_and_shape(self, maps: Tensor) -> Tensor:
        """Clean maps (B,3,25,56,56) -> (B,13)."""
        return self.mean_cam_shape + self.body_net(maps.flatten(1, 2))

    def rotation_features(self, partial: Tensor) -> Tensor:
        """Clean partial maps (B,24,3,7,56,56) -> (B,24,128)."""
        limbs = self.limb_net(partial.flatten(0, 1).flatten(1, 2)).unflatten(0, (-1, JOINTS))
        return self.limb_reslayer(limbs.flatten(1, 2)).mean((2, 3)).unflatten(1, (JOINTS, WIDTH))

    def rotations(self, features: Tensor) -> Tensor:
        """Rotation features (B,24,128) -> (B,24,3,3)."""
        numbers = self.pose_regressors[1](self(features).features) + self.mean_pose.view(JOINTS, 6)
        return rotation_from_6d(numbers, "interleaved")


def _entrance(channels: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(channels, 64, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()


def joint_centres(heat: Tensor) -> Tensor:
    """Of heatmaps (B,24,56,56), (B,24,2): index 0 at -1."""
    return soft_argmax(heat) / (heat.shape[-1] / 2) - 1


def visibility(maps: Tensor, centres: Tensor) -> Tensor:
    """How surely joints at `centres` (B,24,2) lie on their own parts in clean maps (B,3,25,h,w): (B,24)."""
    table = maps.new_zeros(JOINTS, CLASSES)
    for joint, parts in enumerate(PARTS_OF_JOINT):
        table[joint, list(parts)] = 1
    shown = torch.einsum("jp,bphw->bjhw", table, maps[:, INDEX]).flatten(0, 1)[:, None]
    found = functional.grid_sample(shown, centres.reshape(-1, 1, 1, 2), align_corners=True)
    return found.view(centres.shape[:2])


def scales(centres: Tensor, ratio: Tensor, offset: Tensor, hidden: Tensor) -> Tensor:
    """Scales (B,24) of the RoIs about `centres` (B,24,2): the larger distance to parent and child, at the root half of
    the body, through the learned `ratio` and `offset` (24,). `hidden` (B,24): those see most of the body."""
    body = (centres.amax(1) - centres.amin(1)).amax(1, keepdim=True) / 2
    parents = [max(parent, 0) for parent in SMPL_24.parents]
    reach = torch.maximum(*((centres - centres[:, list(other)]).norm(dim=-1) for other in (parents, CHILDREN)))
    wide = torch.cat([body, reach[:, 1:]], 1) * ratio.relu() + offset.relu()
    root = torch.arange(JOINTS, device=centres.device) == 0
    return torch.where(hidden & ~root, HIDDEN_SCALE * body, wide)


class PublishedDanet(FrameRegressor):
    """See `hmrkit.regressors.frame.FrameRegressor`."""

    def __init__(self, name: str) -> None:
        super().__init__(name, HRNet(48, head=False, coarse_outputs=False), "box", "smpl")
        self.maps, self.head = PredictedMaps(), PublishedHead()
        self.learned_ratio, self.learned_offset = (nn.Parameter(torch.zeros(JOINTS)) for _ in range(2))

    def regress(self, features: Features, context: CropContext | None = None) -> BodyEstimate:
        feature = features.maps[0]
        maps = clean_maps(self.maps.global_maps(feature))
        numbers = self.head.camera_and_shape(maps)
        centres = joint_centres(self.maps.predict_hm(feature))
        hidden = visibility(maps, centres) < VISIBLE
        scale = scales(centres, self.learned_ratio, self.learned_offset, hidden)
        crops = crop_about(feature, centres, scale, feature.shape[-1], aligned=True)
        found = self.head.rotation_features(clean_maps(self.maps.partial_maps(crops)))
        rotations = self.head.rotations(found)
        return BodyEstimate(rotations[:, 0], rotations[:, 1:], numbers[:, 3:], numbers[:, :3])

    def iuv_images(self, features: Features) -> Tensor:
        """Estimated part (0 for background), U and V (B,56,56,3); background as the annotation index has it, too."""
        feature = features.maps[0]
        image = maps_to_image(self.maps.global_maps(feature))
        return image * (self.maps.predict_ann_index(feature).argmax(1) > 0)[..., None]


def parts_of(state: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """The tensors of a checkpoint by the part of `PublishedDanet` that has them."""

    def below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}

    estimator = below(_ESTIMATOR, state)
    return {
        "backbone": {key: value for key, value in estimator.items() if not key.startswith(_MAPS)},
        "maps": below(_MAPS, estimator),
        "head": {key: value for key, value in below(_HEAD, state).items() if key.split(".")[0] not in _UNUSED},
    }


def published(name: str, state: dict[str, Tensor], path: str | Path) -> PublishedDanet:
    """The network of the checkpoint ``danet_model_*.pt``, whose tensors `state` is."""
    regressor = PublishedDanet(name)
    for part, tensors in parts_of(state).items():
        load_into(regressor.get_submodule(part), tensors, path)
    with torch.no_grad():
        regressor.learned_ratio.copy_(state["img2iuv.learned_ratio"])
        regressor.learned_offset.copy_(state["img2iuv.learned_offset"])
    return regressor
