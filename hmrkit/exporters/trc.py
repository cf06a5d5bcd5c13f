"""``person_01.trc``: joints as markers, for OpenSim, Visual3D, Mokka and other biomechanics programs.

TRC is a text of tabs: four lines of header, two of marker names, an empty one, then frame number, time and the markers'
places. Always millimetres, and y up as OpenSim wants it unless the scene is z up. A frame in a gap has empty cells,
which is how missing markers are written. OpenSim numbers frames from 1; the time is that of the scene's clock.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hmrkit.files import atomic_path
from hmrkit.scene import ExportOptions, Scene


class TrcExporter:
    """One file a person."""

    def write(self, scene: Scene, folder: Path, options: ExportOptions) -> list[Path]:
        """The files made."""
        made = []
        rate = f"{float(scene.fps):.8g}"
        for character in scene.characters:
            path = Path(folder) / f"{character.name}.trc"
            count, joints = len(character), len(character.joint_names)
            start = int(character.frames[0])
            names = "".join(f"{name}\t\t\t" for name in character.joint_names)
            axes = "".join(f"\tX{j}\tY{j}\tZ{j}" for j in range(1, joints + 1))
            lines = [
                f"PathFileType\t4\t(X/Y/Z)\t{path.name}",
                "DataRate\tCameraRate\tNumFrames\tNumMarkers\tUnits\tOrigDataRate\tOrigDataStartFrame\tOrigNumFrames",
                f"{rate}\t{rate}\t{count}\t{joints}\tmm\t{rate}\t{start}\t{count}",
                f"Frame#\tTime\t{names}".rstrip("\t") + "\t\t",
                f"\t{axes}",
                "",
            ]
            places = character.joints.reshape(count, -1).astype(np.float64) * (1000 * scene.metres_per_unit)
            for number, visible, row in zip(character.frames.tolist(), character.visible, places.tolist(), strict=True):
                cells = "\t".join(f"{x:.3f}" for x in row) if visible else "\t" * (3 * joints - 1)
                time = float((number - scene.first_frame) / scene.fps)
                lines.append(f"{number}\t{time:.6f}\t{cells}")
            with atomic_path(path) as temporary:
                temporary.write_text("\n".join(lines) + "\n")
            made.append(path)
        return made
