"""One folder ``person_{id:02d}_ply`` a person, with ``frame_{number:06d}.ply`` for each frame in which it is seen.

Binary little-endian PLY 1.0 (Turk 1994): vertices x y z float32, exact; faces as lists of three int32. One topology.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hmrkit.exporters import describe_axes
from hmrkit.exporters.sequences import Encode, write_sequences
from hmrkit.scene import Character, ExportOptions, Scene


class PlyExporter:
    """Writes each frame by itself."""

    def write(self, scene: Scene, folder: Path, options: ExportOptions) -> list[Path]:
        """The folders made, one a person."""
        return write_sequences(scene, folder, "ply", encoder)


def encoder(scene: Scene, character: Character) -> Encode:
    """What makes a file's content of a frame's number and a person's vertices (V,3) m."""
    faces = np.zeros(len(character.faces), np.dtype([("count", "u1"), ("corners", "<i4", 3)]))
    faces["count"], faces["corners"] = 3, character.faces

    def encode(number: int, vertices: np.ndarray) -> bytes:
        head = (
            "ply\nformat binary_little_endian 1.0\n"
            f"comment hmrkit: {character.name}, frame {number} at {float(scene.fps):.6g} frames per second\n"
            f"comment {describe_axes(scene)}\n"
            f"element vertex {len(vertices)}\n"
            "property float x\nproperty float y\nproperty float z\n"
            f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
        )
        return head.encode() + vertices.astype("<f4").tobytes() + faces.tobytes()

    return encode
