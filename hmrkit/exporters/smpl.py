"""One ``person_{id:02d}.smpl`` a person, through `smplcodec` (MIT): Meshcapade's programs, Blender and Maya add-ons.

SMPL parameters (24 joints, 10 shape components; SMPL-H's or SMPL-X's where fingers are known), metres, y up, in the
scene's space: in camera space the camera looks along -z, in world space the ground is y = 0. Shape components mean
something only to the body they were made with: those of the free body are not SMPL's, and a warning says so
(`hmrkit convert-body --to smpl`). Frames follow one another at the scene's rate; in gaps the motion is bridged: the
format has no word for a person who is not there.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hmrkit.errors import UsageError
from hmrkit.exporters.npz import axis_angle_poses, warn_of_other_body
from hmrkit.files import atomic_path
from hmrkit.scene import ExportOptions, Scene


class SmplExporter:
    """One file a person. Making it is a UsageError where `smplcodec` is not installed."""

    def __init__(self) -> None:
        try:
            import smplcodec  # noqa: F401
        except ImportError:
            raise UsageError("the smpl format needs smplcodec; pip install 'hmrkit[smpl]'") from None

    def write(self, scene: Scene, folder: Path, options: ExportOptions) -> list[Path]:
        """The files made."""
        from smplcodec import SMPLCodec, SMPLGender, SMPLVersion

        files = []
        for character in scene.characters:
            warn_of_other_body(character, ".smpl")
            params = scene.smpl_parameters(character, up="y")
            pose, version, hands = axis_angle_poses(params).reshape(len(character), -1, 3), SMPLVersion.SMPL, {}
            if params.fingers is not None:
                version = SMPLVersion.SMPLX if params.model.startswith("smplx") else SMPLVersion.SMPLH
                pose, *both = np.split(pose, (22, 37), axis=1)
                hands = dict(zip(("left_hand_pose", "right_hand_pose"), both, strict=True))
            codec = SMPLCodec(
                smpl_version=version,
                gender=SMPLGender.from_string(params.gender),
                shape_parameters=params.betas.astype(np.float32),
                frame_count=len(character),
                frame_rate=float(scene.fps),
                body_translation=params.transl_c,
                body_pose=pose,
                **hands,
            )
            path = Path(folder) / f"{character.name}.smpl"
            with atomic_path(path) as temporary:
                codec.write(temporary)
            files.append(path)
        return files
