"""Names of joints, their parents, left and right, and mappings between skeletons BY NAME.

An index never crosses from one skeleton to another: `index` and `mirror` are made from the names here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Skeleton:
    """`joints` in order; `parents` by name (None for a root, or where the skeleton is only a set of landmarks)."""

    name: str
    joints: tuple[str, ...]
    parent_names: tuple[str | None, ...] = ()

    @cached_property
    def index(self) -> dict[str, int]:
        """Joint name -> position."""
        return {name: i for i, name in enumerate(self.joints)}

    @cached_property
    def parents(self) -> tuple[int, ...]:
        """Position of each joint's parent, -1 for a root."""
        return tuple(-1 if name is None else self.index[name] for name in self.parent_names)

    @cached_property
    def bones(self) -> tuple[tuple[int, int], ...]:
        """(parent, child) positions of every bone."""
        return tuple((parent, child) for child, parent in enumerate(self.parents) if parent >= 0)

    @cached_property
    def mirror(self) -> tuple[int, ...]:
        """Position of each joint's counterpart on the other side (itself where it has none)."""
        return tuple(self.index[swap_sides(name)] for name in self.joints)

    def indices(self, *names: str) -> list[int]:
        """Positions of these joints."""
        return [self.index[name] for name in names]

    def __len__(self) -> int:
        return len(self.joints)


# Other programs' skeletons, whose rigs are in `hmrkit/scene/rigs`.
RIGS = ("mixamo", "unreal", "unreal5", "metahuman", "unity", "rigify", "cmu")


def swap_sides(name: str) -> str:
    """``left_knee`` -> ``right_knee`` and back; other names unchanged."""
    if name.startswith("left_"):
        return "right_" + name[5:]
    return "left_" + name[6:] if name.startswith("right_") else name


def _tree(name: str, **child_parent: str | None) -> Skeleton:
    return Skeleton(name, tuple(child_parent), tuple(child_parent.values()))


# SMPL's 24 joints (Loper et al. 2015), the order of `BodyParams`.
SMPL_24 = _tree(
    "smpl-24",
    pelvis=None,
    left_hip="pelvis",
    right_hip="pelvis",
    spine1="pelvis",
    left_knee="left_hip",
    right_knee="right_hip",
    spine2="spine1",
    left_ankle="left_knee",
    right_ankle="right_knee",
    spine3="spine2",
    left_foot="left_ankle",
    right_foot="right_ankle",
    neck="spine3",
    left_collar="spine3",
    right_collar="spine3",
    head="neck",
    left_shoulder="left_collar",
    right_shoulder="right_collar",
    left_elbow="left_shoulder",
    right_elbow="right_shoulder",
    left_wrist="left_elbow",
    right_wrist="right_elbow",
    left_hand="left_wrist",
    right_hand="right_wrist",
)

# COCO's 17 keypoints (Lin et al. 2014). The face has no bones.
COCO_17 = _tree(
    "coco-17",
    nose=None,
    left_eye="nose",
    right_eye="nose",
    left_ear="left_eye",
    right_ear="right_eye",
    left_shoulder=None,
    right_shoulder="left_shoulder",
    left_elbow="left_shoulder",
    right_elbow="right_shoulder",
    left_wrist="left_elbow",
    right_wrist="right_elbow",
    left_hip="left_shoulder",
    right_hip="right_shoulder",
    left_knee="left_hip",
    right_knee="right_hip",
    left_ankle="left_knee",
    right_ankle="right_knee",
)

# BlazePose's 33 landmarks (Bazarevsky et al. 2020; MediaPipe Pose).
BLAZEPOSE_FACE = 11  # so many, the first, are the face's
BLAZEPOSE_33 = Skeleton(
    "blazepose-33",
    (
        "nose",
        "left_eye_inner",
        "left_eye",
        "left_eye_outer",
        "right_eye_inner",
        "right_eye",
        "right_eye_outer",
        "left_ear",
        "right_ear",
        "left_mouth",
        "right_mouth",
        "left_shoulder",
        "right_shoulder",
        "left_elbow",
        "right_elbow",
        "left_wrist",
        "right_wrist",
        "left_pinky",
        "right_pinky",
        "left_index",
        "right_index",
        "left_thumb",
        "right_thumb",
        "left_hip",
        "right_hip",
        "left_knee",
        "right_knee",
        "left_ankle",
        "right_ankle",
        "left_heel",
        "right_heel",
        "left_foot_index",
        "right_foot_index",
    ),
)

# Human3.6M's 17 joints as VideoPose3D orders them (Pavllo et al. 2019): what lifters return.
H36M_17 = _tree(
    "h36m-17",
    pelvis=None,
    right_hip="pelvis",
    right_knee="right_hip",
    right_ankle="right_knee",
    left_hip="pelvis",
    left_knee="left_hip",
    left_ankle="left_knee",
    spine="pelvis",
    thorax="spine",
    nose="thorax",
    head_top="nose",
    left_shoulder="thorax",
    left_elbow="left_shoulder",
    left_wrist="left_elbow",
    right_shoulder="thorax",
    right_elbow="right_shoulder",
    right_wrist="right_elbow",
)

# Human3.6M's 16 joints as SemGCN orders them (Zhao et al. 2019).
H36M_16 = _tree(
    "h36m-16",
    pelvis=None,
    right_hip="pelvis",
    right_knee="right_hip",
    right_ankle="right_knee",
    left_hip="pelvis",
    left_knee="left_hip",
    left_ankle="left_knee",
    spine="pelvis",
    thorax="spine",
    head_top="thorax",
    left_shoulder="thorax",
    left_elbow="left_shoulder",
    left_wrist="left_elbow",
    right_shoulder="thorax",
    right_elbow="right_shoulder",
    right_wrist="right_elbow",
)

# Leeds Sports Pose's 14 joints (Johnson and Everingham 2010), which papers on body meshes report on.
LSP_14 = Skeleton(
    "lsp-14",
    (
        "right_ankle",
        "right_knee",
        "right_hip",
        "left_hip",
        "left_knee",
        "left_ankle",
        "right_wrist",
        "right_elbow",
        "right_shoulder",
        "left_shoulder",
        "left_elbow",
        "left_wrist",
        "neck",
        "head_top",
    ),
)

# The 24 annotated joints of SPIN's files (Kolotouros et al. 2019): LSP's, then MPII's, Human3.6M's and the face.
SPIN_24 = Skeleton(
    "spin-24",
    (
        *LSP_14.joints,
        *("pelvis", "thorax", "spine", "jaw", "head", "nose", "left_eye", "right_eye", "left_ear", "right_ear"),
    ),
)

# What SPIN evaluates MPI-INF-3DHP on: LSP's and Human3.6M's trunk (the order of ``J24_TO_J17``).
SPIN_17 = Skeleton("spin-17", (*LSP_14.joints, "pelvis", "spine", "jaw"))

SKELETONS: dict[str, Skeleton] = {
    s.name: s for s in (SMPL_24, COCO_17, BLAZEPOSE_33, H36M_17, H36M_16, LSP_14, SPIN_24, SPIN_17)
}


def get_skeleton(name: str) -> Skeleton:
    """The skeleton of that name; ValueError lists the known ones."""
    if name not in SKELETONS:
        raise ValueError(f"unknown skeleton {name!r}; known: {', '.join(SKELETONS)}")
    return SKELETONS[name]


def common_joints(source: Skeleton, target: Skeleton) -> tuple[list[int], list[int]]:
    """Positions in `source` and in `target` of the joints that both name."""
    names = [name for name in target.joints if name in source.index]
    return source.indices(*names), target.indices(*names)
