"""What exporters write: people on one clock, in one space, cleaned."""

from hmrkit.scene.types import (
    METRES_PER_UNIT,
    Z_UP_FROM_Y_UP,
    Character,
    ExportOptions,
    Rows,
    Scene,
    SceneCamera,
    blend_skin,
    person_name,
    safe_name,
    scene_name,
)

__all__ = [
    "METRES_PER_UNIT",
    "Z_UP_FROM_Y_UP",
    "Character",
    "ExportOptions",
    "Rows",
    "Scene",
    "SceneCamera",
    "blend_skin",
    "person_name",
    "safe_name",
    "scene_name",
]
