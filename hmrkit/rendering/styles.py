"""What of a person is drawn: the skin in one colour, by parts or as a heat map, its edges, or the skeleton in it."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hmrkit.rendering.shading import track_colour
from hmrkit.skeletons import SMPL_24

# Cold to hot, evenly spaced from 0 to the maximum; grey where nothing is known.
HEAT = torch.tensor([(48, 60, 150), (40, 140, 170), (120, 200, 120), (246, 208, 80), (214, 48, 48)]) / 255
UNKNOWN = (0.55, 0.55, 0.55)
JOINT_COLOUR, JOINT_RADIUS_M = (0.96, 0.96, 0.96), 0.022
# A bone is an octahedron drawn out, thickest near the joint where it starts, as animation programs show it.
BONE_WIDTH, BONE_MAX_M, BONE_THICKEST = 0.14, 0.035, 0.18
BONE_FACES = [(1 + k, 1 + (k + 1) % 4, 5) for k in range(4)] + [(1 + (k + 1) % 4, 1 + k, 0) for k in range(4)]
BALL = [(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)]
BALL_FACES = [(0, 2, 4), (2, 1, 4), (1, 3, 4), (3, 0, 4), (2, 0, 5), (1, 2, 5), (3, 1, 5), (0, 3, 5)]
SIDE_TINT = {"left": 1.35, "right": 0.7}


@dataclass(frozen=True)
class Figure:
    """One person in one frame: `vertices_c` (V,3) and `joints_c` (24,3) m, `heat` (V,) NaN where it is not known."""

    track_id: int
    vertices_c: np.ndarray
    joints_c: np.ndarray | None = None
    heat: np.ndarray | None = None


class Style:
    """Turns figures into meshes of one topology, `faces` (F,3), with a colour for every vertex.

    `faces` given are the skin's. `part_of_vertex` (V,) is each vertex's joint, for the style ``parts``; `heat_max` the
    value of the hottest colour.
    """

    def __init__(
        self,
        name: str,
        faces: np.ndarray,
        device: torch.device,
        part_of_vertex: np.ndarray | None = None,
        heat_max: float = 1.0,
    ) -> None:
        self.name = name
        self.wire = name == "wireframe"
        self._device, self._heat_max, self._parts = device, heat_max, part_of_vertex
        self.faces = torch.from_numpy(np.asarray(faces, np.int64)).to(device)
        if name == "skeleton":
            self.faces = skeleton_faces().to(device)

    def meshes(self, figures: Sequence[Figure]) -> tuple[Tensor, Tensor]:
        """Vertices (M,V',3) m in the camera frame, and their colours (M,V',3) in [0, 1] before light falls on them."""
        own = torch.tensor([track_colour(f.track_id) for f in figures], device=self._device) / 255
        if self.name == "skeleton":
            joints = torch.from_numpy(np.stack([_joints(f) for f in figures])).to(self._device, torch.float32)
            return skeleton_mesh(joints), skeleton_colours(own)
        vertices = torch.from_numpy(np.stack([f.vertices_c for f in figures])).to(self._device, torch.float32)
        if self.name == "parts" and self._parts is not None:
            colours = part_colours().to(self._device)[torch.from_numpy(self._parts).to(self._device)]
            return vertices, colours.expand(len(vertices), -1, -1)
        if figures[0].heat is not None:
            values = torch.from_numpy(np.stack([_heat(f) for f in figures])).to(self._device, torch.float32)
            return vertices, heat_colours(values / self._heat_max)
        return vertices, own[:, None].expand(-1, vertices.shape[1], -1)


def part_colours() -> Tensor:
    """RGB (24,3) in [0, 1] of each joint's part; neighbours along the body differ clearly."""
    return torch.tensor([colorsys.hsv_to_rgb(k * 0.618034 % 1, 0.62, 0.95) for k in range(24)])


def heat_colours(values: Tensor, ramp: Tensor = HEAT) -> Tensor:
    """RGB (...,3) of values in [0, 1] on a `ramp` (n,3); beyond is the hottest, NaN is grey."""
    place = values.nan_to_num(0).clamp(0, 1) * (len(ramp) - 1)
    low = place.floor().long().clamp(max=len(ramp) - 2)
    ramp, share = ramp.to(values.device), (place - low)[..., None]
    colours = ramp[low] * (1 - share) + ramp[low + 1] * share
    return torch.where(values.isnan()[..., None], colours.new_tensor(UNKNOWN), colours)


def skeleton_faces() -> Tensor:
    """Faces (376,3) of `skeleton_mesh`, outward and counter-clockwise."""
    bones = torch.tensor(BONE_FACES) + torch.arange(23)[:, None, None] * 6
    balls = torch.tensor(BALL_FACES) + torch.arange(23, 47)[:, None, None] * 6
    return torch.cat([bones.reshape(-1, 3), balls.reshape(-1, 3)])


def skeleton_mesh(joints: Tensor) -> Tensor:
    """A bone to every joint from its parent, and a ball at every joint: joints (M,24,3) m -> vertices (M,282,3) m."""
    child, parent = joints[:, 1:], joints[:, list(SMPL_24.parents[1:])]
    along = child - parent
    length = along.norm(dim=-1, keepdim=True).clamp_min(1e-6)
    axis = along / length
    # Some direction across the bone: whichever of two fixed ones is further from it.
    x, y = joints.new_tensor([1.0, 0.0, 0.0]), joints.new_tensor([0.0, 1.0, 0.0])
    across = torch.linalg.cross(torch.where(axis[..., :1].abs() < 0.7, x, y), axis)
    across = across / across.norm(dim=-1, keepdim=True).clamp_min(1e-6)
    upward = torch.linalg.cross(axis, across)
    radius = (BONE_WIDTH * length).clamp(max=BONE_MAX_M)
    ring = [parent + BONE_THICKEST * along + radius * d for d in (across, upward, -across, -upward)]
    bones = torch.stack([parent, *ring, child], 2)
    balls = joints[:, :, None] + JOINT_RADIUS_M * joints.new_tensor(BALL)
    return torch.cat([bones.flatten(1, 2), balls.flatten(1, 2)], 1)


def skeleton_colours(own: Tensor) -> Tensor:
    """Colours (M,282,3) of `skeleton_mesh` for people's colours (M,3): left bones lighter, right ones darker."""
    tints = [SIDE_TINT.get(name.split("_")[0], 1.0) for name in SMPL_24.joints[1:]]
    bones = (own[:, None] * own.new_tensor(tints)[:, None]).clamp(max=1).repeat_interleave(6, 1)
    return torch.cat([bones, own.new_tensor(JOINT_COLOUR).expand(len(own), 24 * 6, 3)], 1)


def _joints(figure: Figure) -> np.ndarray:
    if figure.joints_c is None:
        raise ValueError("the skeleton style wants figures with joints_c")
    return figure.joints_c


def _heat(figure: Figure) -> np.ndarray:
    if figure.heat is None:
        raise ValueError("a heat map wants figures with heat")
    return figure.heat
