"""The scene's texture as a file beside those that show it."""

from __future__ import annotations

from pathlib import Path

from hmrkit.files import atomic_path
from hmrkit.scene import Scene


def write_texture(scene: Scene, folder: Path) -> list[Path]:
    """Write the scene's image into `folder`; its path in a list, empty for a scene without texture or people.

    InputError where it cannot be written.
    """
    if scene.texture is None or not scene.characters:
        return []
    path = Path(folder) / scene.texture.name
    with atomic_path(path) as temporary:
        temporary.write_bytes(scene.texture.content)
    return [path]
