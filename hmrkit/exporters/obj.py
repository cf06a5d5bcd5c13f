"""One folder ``person_{id:02d}_obj`` a person, with ``frame_{number:06d}.obj`` for each frame in which it is seen.

The vertices are the final (calibrated) mesh itself, written with the nine digits that a float32 needs to be read back
exactly; their order and the faces are the same in every file, so programs can load the folder as one shape sequence.
The number is the scene's frame number: that of the source, plus ``--first-frame``. Axes and unit are in the header.
With ``obj_uv`` faces have texture coordinates, where the body has, and ``person_{id:02d}.mtl`` beside the frames the
person's colour; with ``texture`` it names the image, which lies beside it. Readers that keep one place in the texture a
vertex (trimesh) then make more vertices than 6890.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from hmrkit.exporters import describe_axes
from hmrkit.exporters.character_arrays import base_colour, texture_places
from hmrkit.exporters.sequences import Encode, write_sequences
from hmrkit.exporters.textures import write_texture
from hmrkit.files import atomic_path
from hmrkit.scene import Character, ExportOptions, Scene


class ObjExporter:
    """Writes each frame by itself."""

    def write(self, scene: Scene, folder: Path, options: ExportOptions) -> list[Path]:
        """The folders made, one a person."""
        textured = options.obj_uv or scene.texture is not None
        made = write_sequences(scene, folder, "obj", partial(encoder, textured=textured))
        for place, character in zip(made, scene.characters, strict=True) if textured else ():
            colour = " ".join(f"{value:g}" for value in base_colour(scene, character))
            lines = [f"newmtl {character.name}_skin", f"Kd {colour}", "Ks 0 0 0"]
            lines += [f"map_Kd {path.name}" for path in write_texture(scene, place)]
            with atomic_path(place / f"{character.name}.mtl") as temporary:
                temporary.write_text("\n".join(lines) + "\n")
        return made


def encoder(scene: Scene, character: Character, textured: bool = False) -> Encode:
    """What makes a file's content of a frame's number and a person's vertices (V,3) m."""
    faces = _textured_faces(character) if textured else _lines("f %d %d %d", character.faces + 1)
    template = "v %.9g %.9g %.9g\n" * len(character.rest_vertices)  # one formatting call a frame
    library = f"mtllib {character.name}.mtl\n" if textured else ""
    head = (
        f"# hmrkit: frame %d at {float(scene.fps):.6g} frames per second of {scene.metadata.get('source')}\n"
        f"# {describe_axes(scene)}\n"
        f"{library}o {character.name}\n"
    )

    def encode(number: int, vertices: np.ndarray) -> bytes:
        return (head % number + template % tuple(vertices.ravel().tolist()) + "s 1\n").encode() + faces

    return encode


def _textured_faces(character: Character) -> bytes:
    """The material's line, texture coordinates where the body has them, and faces."""
    material, corners, uv = f"usemtl {character.name}_skin\n".encode(), character.faces + 1, character.texture_uv()
    if uv is None:
        return material + _lines("f %d %d %d", corners)
    places, numbers = texture_places(uv)
    corners = np.stack([corners, numbers + 1], -1)
    return _lines("vt %.4g %.4g", places) + material + _lines("f %d/%d %d/%d %d/%d", corners)


def _lines(template: str, rows: np.ndarray) -> bytes:
    """A line of text a row."""
    return (f"{template}\n" * len(rows) % tuple(rows.ravel().tolist())).encode()
