"""What a rig matches, in lines of text."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hmrkit.body import load_body
from hmrkit.scene.rigs import Rig
from hmrkit.skeletons import SMPL_24

_FACES_AWAY_DEG = 5.0


def describe(rig: Rig) -> Iterator[str]:
    """A line for each of SMPL's joints: the bone that it drives and, of a character, how far that is from the nearest
    driven joint above, beside the mean body's; then what is left over."""
    yield f"{rig.name}: {len(rig.bones)} bones, {len(rig.bone_of)} of {len(SMPL_24)} joints drive one"
    ours = load_body()().joints[0].double().cpu().numpy()
    theirs = rig.bind()[1] if rig.is_character else None
    width = max(28, *(len(rig.bones[bone].name) for bone in rig.bone_of.values()))
    for joint, name in enumerate(SMPL_24.joints):
        if name not in rig.bone_of:
            yield f"{name:<15} -"
            continue
        line, bone = f"{name:<15} {rig.bones[rig.bone_of[name]].name:<{width}}", rig.bone_of[name]
        parent = SMPL_24.parents[joint]
        while parent >= 0 and SMPL_24.joints[parent] not in rig.bone_of:
            parent = SMPL_24.parents[parent]
        if theirs is None or parent < 0:
            yield line.rstrip()
            continue
        own = ours[joint] - ours[parent]
        other = theirs[bone] - theirs[rig.bone_of[SMPL_24.joints[parent]]]
        lengths = np.linalg.norm(own), np.linalg.norm(other)
        if lengths[1] < 1e-4:
            yield f"{line} no length: where {rig.bones[rig.bone_of[SMPL_24.joints[parent]]].name} is"
            continue
        angle = np.degrees(np.arccos(np.clip(own @ other / (lengths[0] * lengths[1]), -1, 1)))
        yield f"{line} {100 * lengths[1]:6.1f} cm, mean body {100 * lengths[0]:5.1f} cm; {angle:3.0f} degrees apart"
    if others := [bone.name for bone in rig.bones if bone.joint is None]:
        yield f"go with their parents: {', '.join(others)}"
    if rig.is_character and rig.bone_of["pelvis"] > 0:
        yield f"root: {rig.bones[0].name}, {rig.root}"
    if rig.is_character and abs(rig.heading_deg) > _FACES_AWAY_DEG:
        yield (
            f"faces {rig.heading_deg:.0f} degrees from +z: rotate it by {-rig.heading_deg:.0f} degrees about the "
            "vertical before you put the animation onto it"
        )
    if rig.unit is not None:
        yield f"unit of its bones: {rig.unit:g} m"
