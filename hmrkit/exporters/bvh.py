"""One ``person_01.bvh`` a person: Biovision's hierarchy with the person's own bone lengths, and one row a frame.

BVH knows neither units, axes, frame numbers nor gaps, and its joints have no axes of their own: all are parallel to the
scene's while the person stands in the rest pose. The root has a place and a rotation, every other joint a rotation,
in degrees: Z Y X (``R = Rz Ry Rx``), the root's vertical axis first (``Ry Rz Rx`` with y up), so that people may
rotate. The rate is written as the time of a frame, with twelve digits. The first row is the clip's first frame, so that
all people of a clip are in step: before they come they stand in the rest pose where they will appear (``--bvh-start
person``: the first row is the person's first frame). In gaps the motion is bridged. What BVH cannot say stands in
``person_01.bvh.json``. With another skeleton than SMPL's, names and rest pose change, and axes stay parallel.

Source: Meredith and Maddock 2001, "Motion Capture File Formats Explained", section 3.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from hmrkit import __version__
from hmrkit.exporters.curves import euler_deg, upright_order
from hmrkit.files import atomic_path
from hmrkit.scene import Character, ExportOptions, Scene
from hmrkit.scene.staging import staged, without_top

_CHANNELS = "CHANNELS 3 Zrotation Yrotation Xrotation"


class BvhExporter:
    """``person_01.bvh`` and ``person_01.bvh.json`` for each person."""

    def write(self, scene: Scene, folder: Path, options: ExportOptions) -> list[Path]:
        """Write the files; returns their paths. InputError where one cannot be written."""
        paths = []
        # A root bone would want a place for the pelvis, too, which readers add to its offset or take instead of it.
        scene = staged(scene, replace(options, root_bone=False), from_clip=options.bvh_start == "clip")
        for character in map(without_top, scene.characters):
            path = Path(folder) / f"{character.name}.bvh"
            with atomic_path(path) as temporary, open(temporary, "w", encoding="ascii", newline="\n") as file:
                root_order, order = upright_order(np.eye(3), scene.up), list[int]()
                file.write("HIERARCHY\n" + "\n".join(_hierarchy(character, root_order, order)) + "\n")
                rows = _rows(character, root_order, order)
                waiting = np.zeros((_wait(scene, character, options), rows.shape[1]))
                waiting[:, :3] = rows[0, :3]
                rows = np.concatenate([waiting, rows])
                frame_time = float(1 / scene.fps)
                file.write(f"MOTION\nFrames: {len(rows)}\nFrame Time: {frame_time:.12f}\n")
                template = " ".join(["%.6f"] * rows.shape[1]) + "\n"
                for start in range(0, len(rows), 1024):
                    block = rows[start : start + 1024]
                    file.write(template * len(block) % tuple(block.ravel().tolist()))
            facts_path = path.with_suffix(".bvh.json")
            with atomic_path(facts_path) as temporary:
                temporary.write_text(json.dumps(_facts(scene, character, options), indent=2, default=str) + "\n")
            paths += [path, facts_path]
        return paths


def _wait(scene: Scene, character: Character, options: ExportOptions) -> int:
    """Frames of the clip before the person's first one that the file begins with."""
    return int(character.frames[0]) - scene.frame_range[0] if options.bvh_start == "clip" else 0


def _facts(scene: Scene, character: Character, options: ExportOptions) -> dict[str, object]:
    waiting = _wait(scene, character, options)
    hidden = np.append(np.arange(-waiting, 0) + character.frames[0], character.frames[~character.visible])
    return {
        "generator": f"hmrkit {__version__}",
        "name": character.name,
        "track_id": character.track_id,
        "first_frame": int(character.frames[0]) - waiting,
        "last_frame": int(character.frames[-1]),
        "hidden_frames": hidden.tolist(),
        "fps": str(scene.fps),
        "timecode": scene.timecode,
        "up": scene.up,
        "unit": scene.unit,
        "space": scene.space,
        "hmrkit": scene.metadata,
    }


def _hierarchy(character: Character, root_order: str, order: list[int]) -> list[str]:
    """Lines of the tree, depth first; `order` is filled with the joints as they come: the order of channels."""
    rest = character.rest_joints.astype(np.float64)
    tips = _tips(character)
    lines: list[str] = []
    rotations = " ".join(f"{axis.upper()}rotation" for axis in reversed(root_order))
    root_channels = f"CHANNELS 6 Xposition Yposition Zposition {rotations}"

    def add(joint: int, depth: int) -> None:
        order.append(joint)
        pad, parent = "\t" * depth, character.parents[joint]
        offset = rest[joint] - (rest[parent] if parent >= 0 else 0)
        lines.append(f"{pad}{'JOINT' if parent >= 0 else 'ROOT'} {character.joint_names[joint]}")
        lines.append(pad + "{")
        # The root's place is in its channels; an offset would be added to it.
        lines.append(f"{pad}\tOFFSET {_numbers(offset if parent >= 0 else np.zeros(3))}")
        lines.append(f"{pad}\t{_CHANNELS if parent >= 0 else root_channels}")
        children = [child for child, above in enumerate(character.parents) if above == joint]
        for child in children:
            add(child, depth + 1)
        if not children:
            lines.extend([f"{pad}\tEnd Site", f"{pad}\t{{", f"{pad}\t\tOFFSET {_numbers(tips[joint])}", f"{pad}\t}}"])
        lines.append(pad + "}")

    add(0, 0)
    return lines


def _numbers(vector: np.ndarray) -> str:
    return " ".join(f"{value:.6f}" for value in vector + 0.0)  # + 0.0: no "-0.000000"


def _tips(character: Character) -> np.ndarray:
    """(J,3): from a joint to the end of the body part that it moves: its skin's farthest reach away from the parent."""
    rest, vertices = character.rest_joints.astype(np.float64), character.rest_vertices.astype(np.float64)
    tips = np.zeros_like(rest)
    for joint, parent in enumerate(character.parents):
        if parent < 0:
            continue
        bone = rest[joint] - rest[parent]
        direction = bone / max(float(np.linalg.norm(bone)), 1e-9)
        own = vertices[character.skin_weights[:, joint] > 0.5]
        reach = float(((own - rest[joint]) @ direction).max(initial=0.0))
        tips[joint] = direction * (reach if reach > 0 else np.linalg.norm(bone) / 2)
    return tips


def _rows(character: Character, root_order: str, order: list[int]) -> np.ndarray:
    """(T, 3 + 3 J): the root's place, then each joint's angles in degrees, in the order of the channels."""
    axes = character.rest_rotations.astype(np.float64)
    local = character.local_rotations.astype(np.float64)
    # From the skeleton's axes to axes parallel to the scene's at rest: A_parent L A^T.
    parallel = local @ np.swapaxes(axes, -1, -2)
    for joint, parent in enumerate(character.parents):
        if parent >= 0:
            parallel[:, joint] = axes[parent] @ parallel[:, joint]
    degrees = euler_deg(parallel)[:, order, ::-1]
    degrees[:, 0] = euler_deg(parallel[:, 0], root_order)[:, ["xyz".index(axis) for axis in reversed(root_order)]]
    return np.concatenate([character.root_positions.astype(np.float64), degrees.reshape(len(local), -1)], 1)
