"""One folder ``person_{id:02d}_ply`` a person, with ``frame_{number:06d}.ply`` for each frame in which it is seen.

Binary little-endian PLY 1.0 (Turk 1994): vertices x y z float32, exact; faces as lists of three int32. One topology.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hmrkit.exporters import describe_axes
from hmrkit.files import atomic_path
from hmrkit.scene import Character, ExportOptions, Scene


class PlyExporter:
    """Writes each frame by itself."""

    def write(self, scene: Scene, folder: Path, options: ExportOptions) -> list[Path]:
        """The folders made, one a person."""
        return [self._write_person(scene, character, folder) for character in scene.characters]

    def _write_person(self, scene: Scene, character: Character, folder: Path) -> Path:
        made = Path(folder) / f"{character.name}_ply"
        faces = np.zeros(len(character.faces), np.dtype([("count", "u1"), ("corners", "<i4", 3)]))
        faces["count"], faces["corners"] = 3, character.faces
        for rows in character.stretches():
            rows_seen = [row for row in range(rows.start, rows.stop) if character.visible[row]]
            vertices = character.vertices(rows) if rows_seen else None
            for row in rows_seen:
                assert vertices is not None
                number = int(character.frames[row])
                head = (
                    "ply\nformat binary_little_endian 1.0\n"
                    f"comment hmrkit: {character.name}, frame {number} at {float(scene.fps):.6g} frames per second\n"
                    f"comment {describe_axes(scene)}\n"
                    f"element vertex {len(character.rest_vertices)}\n"
                    "property float x\nproperty float y\nproperty float z\n"
                    f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
                )
                with atomic_path(made / f"frame_{number:06d}.ply") as temporary:
                    points = vertices[row - rows.start].astype("<f4").tobytes()
                    temporary.write_bytes(head.encode() + points + faces.tobytes())
        return made
