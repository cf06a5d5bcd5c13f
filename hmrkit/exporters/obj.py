"""One folder ``person_{id:02d}_obj`` a person, with ``frame_{number:06d}.obj`` for each frame in which it is seen.

The vertices are the final (calibrated) mesh itself, written with the nine digits that a float32 needs to be read back
exactly; their order and the faces are the same in every file, so programs can load the folder as one shape sequence.
The number is the scene's frame number: that of the source, plus ``--first-frame``. Axes and unit are in the header.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hmrkit.exporters import describe_axes
from hmrkit.exporters.sequences import Encode, write_sequences
from hmrkit.scene import Character, ExportOptions, Scene


class ObjExporter:
    """Writes each frame by itself."""

    def write(self, scene: Scene, folder: Path, options: ExportOptions) -> list[Path]:
        """The folders made, one a person."""
        return write_sequences(scene, folder, "obj", encoder)


def encoder(scene: Scene, character: Character) -> Encode:
    """What makes a file's content of a frame's number and a person's vertices (V,3) m."""
    faces = ("f %d %d %d\n" * len(character.faces) % tuple((character.faces + 1).ravel().tolist())).encode()
    template = "v %.9g %.9g %.9g\n" * len(character.rest_vertices)  # one formatting call a frame
    head = (
        f"# hmrkit: frame %d at {float(scene.fps):.6g} frames per second of {scene.metadata.get('source')}\n"
        f"# {describe_axes(scene)}\n"
        f"o {character.name}\n"
    )

    def encode(number: int, vertices: np.ndarray) -> bytes:
        return (head % number + template % tuple(vertices.ravel().tolist()) + "s 1\n").encode() + faces

    return encode
