"""One folder ``person_{id:02d}_obj`` a person, with ``frame_{index:06d}.obj`` for each frame of the source.

The vertices are the final (calibrated) mesh itself, written with the nine digits that a float32 needs to be read back
exactly; their order and the faces are the same in every file, so programs can load the folder as one shape sequence.
Axes are turned for modelling programs: x right, y up, z towards the camera, which is (x, -y, -z) of the camera frame.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hmrkit.errors import InputError
from hmrkit.exporters import person_name
from hmrkit.take import atomic_path
from hmrkit.types import MeshTrack, Take

FLIP = np.array([1, -1, -1], np.float32)


class ObjExporter:
    """Writes each frame as it comes."""

    def __init__(self, folder: Path, take: Take) -> None:
        if take.faces is None and take.tracks:
            raise InputError(
                f"{take.video.path}: the take has no faces, so no meshes; run `hmrkit regress` on it first"
            )
        self._folder, self._take = Path(folder), take
        faces = np.zeros((0, 3), int) if take.faces is None else np.asarray(take.faces)
        self._faces = ("f %d %d %d\n" * len(faces) % tuple((faces + 1).ravel().tolist())).encode()
        self._folders: dict[int, Path] = {}

    def add(self, mesh: MeshTrack) -> None:
        """Write a stretch of a person's frames."""
        folder = self._folder / f"{person_name(mesh.track_id)}_obj"
        self._folders[mesh.track_id] = folder
        template = "v %.9g %.9g %.9g\n" * mesh.vertices_c.shape[1]  # one formatting call a frame
        for index, vertices in zip(mesh.frame_indices.tolist(), mesh.vertices_c * FLIP, strict=True):
            head = (
                f"# hmrkit: frame {index} of {Path(self._take.video.path).name}, track {mesh.track_id}\n"
                "# metres; x right, y up, z towards the camera, which stands at the origin\n"
                f"o {person_name(mesh.track_id)}\n"
            )
            with atomic_path(folder / f"frame_{index:06d}.obj") as temporary:
                body = (head + template % tuple(vertices.ravel().tolist()) + "s 1\n").encode()
                temporary.write_bytes(body + self._faces)

    def close(self) -> list[Path]:
        """The folders made, one a person."""
        return list(self._folders.values())
