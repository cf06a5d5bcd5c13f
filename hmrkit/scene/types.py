"""What exporters write: people as a studio wants them, in one space, on one clock, in the units and axes of the file.

`hmrkit.scene.build.build_scene` makes a `Scene` out of a take; after that nothing is left for an exporter to decide or
to flip. A scene is right-handed. With ``up == "y"`` its axes are x right, y up, z towards the viewer; with ``"z"`` x
right, y away from the viewer, z up (Blender, Unreal's and most CAD programs' way). Lengths are in `Scene.unit`. In
camera space the camera stands at the origin and looks along -z (y up) or +y (z up); in world space the ground is at 0.

Letters: ``T`` frames of a character, ``J`` joints, ``V`` vertices, ``F`` faces, ``n`` rows asked for.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hmrkit.skeletons import RIGS
from hmrkit.types import BodyParams, Take, Zoom

if TYPE_CHECKING:
    from hmrkit.scene.texture import Texture

Up = Literal["y", "z"]
Unit = Literal["m", "cm"]
Space = Literal["camera", "world"]
Rows = slice | np.ndarray

METRES_PER_UNIT: dict[str, float] = {"m": 1.0, "cm": 0.01}
Z_UP_FROM_Y_UP = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
NAME_LENGTH = 80  # file names, with a suffix, stay short of what disks take
STRETCH = 64  # frames whose vertices are held at once


@dataclass(frozen=True)
class ExportOptions:
    """What a user chooses about exported files; names follow the command line's. None: as the take has it.

    For building the scene: `fps` (true resampling), `up`, `unit`, `scale` (times every length), `space`, `ground`
    (a point and a normal in the camera frame, six numbers), `camera_pose` (4,4 world from camera (OpenCV axes), y-up
    metres), `skeleton` (joint names and rest pose), `fingers` (``rest``: hands flat), `people` (track ids),
    `first_frame` (number of the source's first frame), `gaps`, `smooth` (strength, 0 none, 1 usual), `lock_feet`,
    `film_width_mm`.
    For the files: `per_person` (a file each, else one scene), `per_shot` (a scene for each shot of a clip with cuts),
    `camera` (write it), `keyframe_reduce` (largest error that leaving out keys may make, in degrees and millimetres;
    None keeps every frame), `pose_shapes` (pose-dependent blend shapes, where the format has them), `exact` (also write
    the exact vertices as morph targets or time samples, where the format is a skinned one), `influences` (most joints
    that move a vertex in glb: 4 or 8), `quantize` (16-bit numbers in glb), `obj_uv` (texture coordinates and a material
    in obj, too), `texture` (``skin``, or a PNG or JPEG for the body's charts), `bvh_start` (bvh begins with the
    ``clip`` or with the ``person``), `npz` (``hmrkit``, or ``amass``: arrays of the sizes that AMASS's readers take).
    For formats with skeletons: `rig` (a RIG.json; a preset's name is taken for `skeleton`), `namespace` (joints are
    named ``person_01:pelvis``), `root_bone` (a bone on the floor under the person, above the pelvis), `t_pose` (the
    rest pose one frame before the clip).
    """

    fps: Fraction | None = None
    up: Up = "y"
    unit: Unit = "m"
    scale: float = 1.0
    space: Space = "camera"
    ground: tuple[float, ...] | None = None
    camera_pose: tuple[float, ...] | None = None
    skeleton: str = "smpl"
    fingers: Literal["keep", "rest"] = "keep"
    people: tuple[int, ...] | None = None
    first_frame: int | None = None
    gaps: Literal["hide", "interpolate", "split"] = "hide"
    smooth: float = 0.0
    lock_feet: bool = False
    film_width_mm: float = 36.0
    per_person: bool = False
    per_shot: bool = False
    camera: bool = True
    keyframe_reduce: float | None = None
    pose_shapes: bool = False
    exact: bool = False
    influences: Literal[4, 8] = 4
    quantize: bool = False
    obj_uv: bool = False
    texture: str | None = None
    rig: str | None = None
    namespace: bool = False
    root_bone: bool = False
    t_pose: bool = False
    bvh_start: Literal["clip", "person"] = "clip"
    npz: Literal["hmrkit", "amass"] = "hmrkit"

    def __post_init__(self) -> None:
        if self.rig in RIGS and self.skeleton in ("smpl", self.rig):
            object.__setattr__(self, "skeleton", self.rig)
            object.__setattr__(self, "rig", None)


def units_per_metre(scale: float, unit: Unit) -> float:
    """Length of a metre in a scene's unit, with the user's scale."""
    return scale / METRES_PER_UNIT[unit]


@dataclass(frozen=True)
class Character:
    """One person over T consecutive scene frames.

    A joint's frame in the scene: ``G_j = G_parent @ local_rotations_j``, ``p_j = p_parent + G_parent @
    rest_rotations_parent^T @ (rest_joints_j - rest_joints_parent)``; for the root ``G_0 = local_rotations_0``,
    ``p_0 = root_positions``. Skinning: ``v = sum_j w_j (G_j rest_rotations_j^T (rest_v - rest_joints_j) + p_j)``.
    SMPL's skeleton has `rest_rotations` = identity, in the axes of the scene: the person at rest stands upright in a
    T-pose, facing +z (y up) or -y (z up), so no exporter needs to rotate anything.

    - `frames` (T,) int scene frame numbers, rising by 1; `visible` (T,) bool: False in gaps, where the motion is only
      bridged;
    - `joint_names` (J), `parents` (J), -1 for the root, parents first; `rest_joints` (J,3), `rest_vertices` (V,3) the
      person's own shape; `faces` (F,3); `skin_weights` (V,J), rows summing to 1; `rest_rotations` (J,3,3);
    - `local_rotations` (T,J,3,3); `root_positions` (T,3);
    - `joints` (T,J,3): where the final (calibrated) joints are. The skeleton's own, whose bones have fixed lengths, are
      `posed_joints`; the two agree where the take is not calibrated;
    - `exact_vertices` gives the final vertices (n,V,3) of some rows, None: what skinning gives;
    - `pose_shapes` gives SMPL's pose blend shapes (P,V,3), in the rest pose, and their weights (T,P), or is None;
    - `params_c` are the same motion as SMPL parameters (T frames, camera frame, OpenCV axes, metres), for formats that
      store those, `rest_pelvis_m` (3,) the pelvis of SMPL's rest pose; `source_rows` (T,) float rows of the take's
      track (whole numbers unless resampled), `source_frames` and `source_times` (T,) float, s, the same as frame
      numbers and times of the video;
    - `moving`: joints below the root whose distance to their parent changes -> their places (T,3) in its frame, which
      `posed` adds in place of the rest pose's: ``p_j = p_parent + G_parent @ moving_j``;
    - `texture_uv` gives (F,3,2) in 0..1, v upwards: where the corners of the faces lie in a texture, None where the
      body has no charts.
    """

    name: str
    track_id: int
    frames: np.ndarray
    visible: np.ndarray
    joint_names: tuple[str, ...]
    parents: tuple[int, ...]
    rest_joints: np.ndarray
    rest_vertices: np.ndarray
    faces: np.ndarray
    skin_weights: np.ndarray
    local_rotations: np.ndarray
    root_positions: np.ndarray
    joints: np.ndarray
    rest_rotations: np.ndarray = None  # type: ignore[assignment]
    exact_vertices: Callable[[Rows], np.ndarray] | None = None
    pose_shapes: Callable[[], tuple[np.ndarray, np.ndarray]] | None = None
    params_c: BodyParams | None = None
    source_rows: np.ndarray | None = None
    source_frames: np.ndarray | None = None
    source_times: np.ndarray | None = None
    calibrated: bool = False
    rest_pelvis_m: np.ndarray | None = None
    texture_uv: Callable[[], np.ndarray | None] = field(default=lambda: None)
    moving: Mapping[int, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count, joints = len(self.frames), len(self.joint_names)
        if self.rest_rotations is None:
            object.__setattr__(self, "rest_rotations", np.tile(np.eye(3, dtype=np.float32), (joints, 1, 1)))
        vertices = len(self.rest_vertices)
        wanted = {
            "visible": (count,), "parents": (joints,), "rest_joints": (joints, 3), "rest_vertices": (vertices, 3),
            "skin_weights": (vertices, joints), "local_rotations": (count, joints, 3, 3),
            "root_positions": (count, 3), "joints": (count, joints, 3), "rest_rotations": (joints, 3, 3),
        }  # fmt: skip
        for name, shape in wanted.items():
            if np.shape(getattr(self, name)) != shape:
                raise ValueError(f"{self.name}.{name}: expected {shape}, got {np.shape(getattr(self, name))}")
        if count == 0 or np.any(np.diff(self.frames) != 1):
            raise ValueError(f"{self.name}.frames: expected one or more numbers rising by 1")

    def __len__(self) -> int:
        return len(self.frames)

    def stretches(self, size: int = STRETCH) -> Iterator[slice]:
        """Slices of rows that cover the character, so that no more than `size` frames of vertices are held."""
        for start in range(0, len(self), size):
            yield slice(start, min(start + size, len(self)))

    def vertices(self, rows: Rows = slice(None)) -> np.ndarray:
        """Final vertices (n,V,3) float32 of some rows: calibrated where the take is. Ask for them in `stretches`."""
        return self.skinned(rows) if self.exact_vertices is None else self.exact_vertices(rows)

    def posed(self, rows: Rows = slice(None)) -> tuple[np.ndarray, np.ndarray]:
        """The skeleton in the scene: rotations (n,J,3,3) and places (n,J,3) of the joints, float64."""
        local = self.local_rotations[rows].astype(np.float64)
        rotation, place = np.empty_like(local), np.empty((*local.shape[:2], 3))
        rest, rest_rotation = self.rest_joints.astype(np.float64), self.rest_rotations.astype(np.float64)
        for joint, parent in enumerate(self.parents):  # over joints, each step over all frames
            if parent < 0:
                rotation[:, joint], place[:, joint] = local[:, joint], self.root_positions[rows]
                continue
            rotation[:, joint] = rotation[:, parent] @ local[:, joint]
            if joint in self.moving:
                moved = rotation[:, parent] @ self.moving[joint][rows].astype(np.float64)[..., None]
                place[:, joint] = place[:, parent] + moved[..., 0]
            else:
                bone = rest_rotation[parent].T @ (rest[joint] - rest[parent])
                place[:, joint] = place[:, parent] + rotation[:, parent] @ bone
        return rotation, place

    def posed_joints(self, rows: Rows = slice(None)) -> np.ndarray:
        """Places (n,J,3) of the skeleton's joints: fixed bone lengths, what a skinned file shows."""
        return self.posed(rows)[1].astype(np.float32)

    def skin_transforms(self, rows: Rows = slice(None)) -> np.ndarray:
        """(n,J,3,4) float64: takes a point of the rest pose to where each joint carries it."""
        rotation, place = self.posed(rows)
        rotation = rotation @ np.swapaxes(self.rest_rotations, -1, -2)
        shift = place - (rotation @ self.rest_joints.astype(np.float64)[..., None])[..., 0]
        return np.concatenate([rotation, shift[..., None]], -1)

    def skinned(self, rows: Rows = slice(None)) -> np.ndarray:
        """Vertices (n,V,3) float32 as linear blend skinning shows them: what FBX, glTF and USD skins give."""
        return blend_skin(self.rest_vertices, self.skin_weights, self.skin_transforms(rows))


def blend_skin(points: np.ndarray, weights: np.ndarray, transforms: np.ndarray) -> np.ndarray:
    """Linear blend skinning of points (V,3) or (n,V,3) with weights (V,J) by transforms (n,J,3,4) -> (n,V,3) float32.

    Blended about the middle of each frame's transforms, so that a person far from the origin loses no digits.
    """
    middle = transforms[..., 3].mean(1, keepdims=True)  # (n,1,3)
    near = transforms.copy()
    near[..., 3] -= middle
    flat = np.ascontiguousarray(np.moveaxis(near, 1, 0)).reshape(weights.shape[1], -1).astype(np.float32)
    blended = (weights.astype(np.float32) @ flat).reshape(len(weights), len(transforms), 3, 4)
    moved = blended[..., 3] + middle[:, 0].astype(np.float32)
    points = np.broadcast_to(points, (len(transforms), len(weights), 3))
    for axis in range(3):
        moved = moved + blended[..., axis] * points[:, :, axis].T[..., None].astype(np.float32)
    return np.ascontiguousarray(moved.transpose(1, 0, 2))


@dataclass(frozen=True)
class SceneCamera:
    """The camera that filmed the clip. It stands still.

    `scene_from_camera` (4,4): rigid, from the camera's own axes as glTF, USD and Blender have them (x right, y up,
    looks along -z) to the scene; translation in the scene's unit. `focal_px`, `center_px` (2,), `width`, `height`: the
    image's. `film_width_mm`: the width of the film back that millimetres refer to. `zoom` of a lens that
    zooms: factors on the focal length in the scene's frames.
    """

    scene_from_camera: np.ndarray
    focal_px: np.ndarray
    center_px: np.ndarray
    width: int
    height: int
    film_width_mm: float = 36.0
    name: str = "camera"
    zoom: Zoom | None = None

    @property
    def focal_mm(self) -> float:
        """Focal length in mm on that film back; of a lens that zooms, the one that its factors are on."""
        return float(self.focal_px[0]) * self.film_width_mm / self.width

    @property
    def zoom_mm(self) -> tuple[np.ndarray, np.ndarray]:
        """Frames (N,) and the focal length in each (N,) mm; none of a lens that does not zoom."""
        if self.zoom is None:
            return np.zeros(0, np.int64), np.zeros(0)
        return self.zoom.frame_indices, self.zoom.factors * self.focal_mm

    @property
    def film_height_mm(self) -> float:
        """Height of the film back in mm; pixels that are not square are taken into it."""
        return self.focal_mm * self.height / float(self.focal_px[1])

    @property
    def film_gate_mm(self) -> tuple[float, float]:
        """Width and height in mm of the film back where importers lay its width along the image's longer side.

        Blender's do (FBX, Alembic). So an upright image lies in the middle of a square as high as it is.
        """
        return max(self.film_width_mm, self.film_height_mm), self.film_height_mm

    @property
    def film_offset_mm(self) -> tuple[float, float]:
        """How far the image's middle lies right of and above the optical axis on the film, mm (0, 0: centred)."""
        right = (self.width / 2 - float(self.center_px[0])) * self.focal_mm / float(self.focal_px[0])
        above = (float(self.center_px[1]) - self.height / 2) * self.focal_mm / float(self.focal_px[1])
        return right, above

    @property
    def fov_y(self) -> float:
        """Vertical field of view, radians."""
        return 2 * float(np.arctan(self.height / 2 / float(self.focal_px[1])))


@dataclass(frozen=True)
class Scene:
    """All people of a take, the camera, the clock and the file's conventions.

    `fps` is exact (30000/1001 stays that). `first_frame` is the number of the source's first frame, `timecode` its
    SMPTE time where the video has one; frame `n` is shown at ``(n - first_frame) / fps`` seconds of the clip.
    `metadata` holds plain JSON values: options, provenance, version, what was smoothed or locked. `suffix` is what the
    names of a shot's files end in (``_shot_01``); the names of the scene and of its people have it. `clip_range`: first
    and last frame number of the clip (or shot) as far as it was followed, None: of the people. People are hidden in
    every other frame of it than those in which they are seen. `texture` is what everyone wears, None: their colours.
    """

    name: str
    characters: tuple[Character, ...]
    camera: SceneCamera
    fps: Fraction
    first_frame: int = 0
    timecode: str | None = None
    up: Up = "y"
    unit: Unit = "m"
    space: Space = "camera"
    metadata: dict[str, Any] = field(default_factory=dict)
    take: Take | None = None
    suffix: str = ""
    scene_from_camera_cv: np.ndarray | None = None  # (3,4), metres to the unit: from the take's camera frame
    clip_range: tuple[int, int] | None = None
    texture: Texture | None = None

    @property
    def metres_per_unit(self) -> float:
        """1 for metres, 0.01 for centimetres."""
        return METRES_PER_UNIT[self.unit]

    @property
    def frame_range(self) -> tuple[int, int]:
        """First and last frame number of the clip or, of a scene without a clip, of all characters."""
        if self.clip_range is not None:
            return self.clip_range
        if not self.characters:
            return self.first_frame, self.first_frame
        return min(int(c.frames[0]) for c in self.characters), max(int(c.frames[-1]) for c in self.characters)

    def metric_from_camera(self, up: Up | None = None) -> np.ndarray:
        """(3,4) rigid: the take's camera frame (OpenCV axes, metres) -> this scene's space in metres, without scale."""
        if self.scene_from_camera_cv is None:
            raise ValueError("a scene that was not made of a take")
        size = float(np.linalg.norm(self.scene_from_camera_cv[:, 0]))
        matrix = self.scene_from_camera_cv / size
        if up is not None and up != self.up:
            matrix = (Z_UP_FROM_Y_UP.T if up == "y" else Z_UP_FROM_Y_UP) @ matrix
        return matrix

    def smpl_parameters(self, character: Character, up: Up | None = None) -> BodyParams:
        """A character's motion as SMPL parameters in this scene's space (`up`: its own axis), in metres.

        SMPL has no place for a scale and rotates about the pelvis, which its translation does not move.
        """
        params, pelvis = character.params_c, character.rest_pelvis_m
        if params is None or pelvis is None:
            raise ValueError(f"{character.name} has no SMPL parameters")
        matrix = self.metric_from_camera(up)
        rotation, shift = matrix[:, :3], matrix[:, 3]
        return replace(
            params,
            global_orient=(rotation @ params.global_orient.astype(np.float64)).astype(np.float32),
            transl_c=((params.transl_c + pelvis) @ rotation.T + shift - pelvis).astype(np.float32),
        )

    def parts(self, per_person: bool) -> list[Scene]:
        """What goes into one file each: this scene, or one scene a person, named after them."""
        if not per_person:
            return [self] if self.characters else []
        return [
            replace(self, name=character.name, characters=(character,), clip_range=self.frame_range)
            for character in self.characters
        ]


def safe_name(text: str) -> str:
    """A name that every format takes: letters, digits and underscores, beginning with a letter."""
    name = re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_") or "scene"
    return name if name[0].isalpha() else f"clip_{name}"


def scene_name(clip: Path) -> str:
    """The name of a clip's scene, in files and of them. Clips whose names differ have scenes whose names differ.

    A name that loses more than blanks in it gets digits of its hash.
    """
    text = clip.name if clip.is_dir() else clip.stem
    name = safe_name(text)[:NAME_LENGTH]
    if name.removeprefix("clip_") == text.replace(" ", "_").removeprefix("clip_"):
        return name
    return f"{name}_{hashlib.sha256(os.fsencode(text)).hexdigest()[:6]}"


def person_name(track_id: int) -> str:
    """How every exporter names a person's files: ``person_01``."""
    return f"person_{track_id:02d}"
