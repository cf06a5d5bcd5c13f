"""Sequences: a folder ``person_{id:02d}_obj`` a person, ``frame_{number:06d}.obj`` for each frame it is seen in."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from hmrkit.files import atomic_path
from hmrkit.scene import Character, Scene

Encode = Callable[[int, np.ndarray], bytes]


def write_sequences(
    scene: Scene, folder: Path, suffix: str, encoder: Callable[[Scene, Character], Encode]
) -> list[Path]:
    """The folders made, one a person. `encoder` gives, for a person, what makes a file's content of a frame's number
    and its vertices (V,3).

    A sequence replaces the one that was in its folder whole: frames of that one which this one does not have, of
    another rate or other people, would be read as its own.
    """
    folders = []
    for character in scene.characters:
        made, encode = Path(folder) / f"{character.name}_{suffix}", encoder(scene, character)
        names = set()
        for rows in character.stretches():
            rows_seen = [row for row in range(rows.start, rows.stop) if character.visible[row]]
            vertices = character.vertices(rows) if rows_seen else np.zeros((0, 0, 3), np.float32)
            for row in rows_seen:
                number = int(character.frames[row])
                names.add(f"frame_{number:06d}.{suffix}")
                with atomic_path(made / f"frame_{number:06d}.{suffix}") as temporary:
                    temporary.write_bytes(encode(number, vertices[row - rows.start]))
        for path in made.iterdir() if made.is_dir() else ():
            if re.fullmatch(rf"frame_-?[0-9]+\.{suffix}", path.name) and path.name not in names:
                path.unlink(missing_ok=True)
        folders.append(made)
    return folders
