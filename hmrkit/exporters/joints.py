"""Places of the joints as text: ``person_01.csv``, a row a frame, and one ``joints.json`` a clip with all there is.

They are the final joints (calibrated where the take is), in the scene's space, axes and unit. The CSV begins with
``frame,time_s,visible`` and goes on with ``pelvis_x,pelvis_y,pelvis_z,...``; lines that begin with ``#`` say what the
unit and axes are. In gaps of a track, `visible` is 0 and the places are bridged.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from hmrkit.exporters import describe_axes
from hmrkit.files import atomic_path
from hmrkit.scene import Character, ExportOptions, Scene, SceneCamera


class CsvExporter:
    """One file a person."""

    def write(self, scene: Scene, folder: Path, options: ExportOptions) -> list[Path]:
        """The files made."""
        made = []
        for character in scene.characters:
            names = [f"{joint}_{axis}" for joint in character.joint_names for axis in "xyz"]
            lines = [f"# hmrkit: {scene.metadata.get('source')}, {scene.fps} frames per second; {describe_axes(scene)}"]
            lines.append(",".join(["frame", "time_s", "visible", *names]))
            template = "%d,%.6f,%d" + ",%.6g" * len(names)
            for row, places in enumerate(character.joints.reshape(len(character), -1).tolist()):
                number = int(character.frames[row])
                lines.append(template % (number, _seconds(scene, number), character.visible[row], *places))
            made.append(Path(folder) / f"{character.name}.csv")
            with atomic_path(made[-1]) as temporary:
                temporary.write_text("\n".join(lines) + "\n")
        return made


class JsonExporter:
    """One file a clip."""

    def write(self, scene: Scene, folder: Path, options: ExportOptions) -> list[Path]:
        """The file made."""
        if not scene.characters:
            return []
        camera = scene.camera
        value: dict[str, Any] = {
            "format": "hmrkit-joints",
            "version": 1,
            "fps": [scene.fps.numerator, scene.fps.denominator],
            "first_frame": scene.first_frame,
            "timecode": scene.timecode,
            "space": scene.space,
            "up": scene.up,
            "unit": scene.unit,
            "axes": describe_axes(scene),
            "camera": {
                "scene_from_camera": camera.scene_from_camera.tolist(),
                "camera_axes": "x right, y up, looks along -z",
                "focal_px": camera.focal_px.tolist(),
                "center_px": camera.center_px.tolist(),
                "image_size": [camera.width, camera.height],
                "focal_mm": camera.focal_mm,
                "film_back_mm": [camera.film_width_mm, camera.film_height_mm],
                **_zoom(camera),
            },
            "people": [_person(character) for character in scene.characters],
            "metadata": scene.metadata,
        }
        path = Path(folder) / f"joints{scene.suffix}.json"
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(value, sort_keys=True) + "\n")
        return [path]


def _person(character: Character) -> dict[str, Any]:
    # Six digits: micrometres near the camera, and a file half as long.
    places = [[[float(f"{x:.6g}") for x in joint] for joint in frame] for frame in character.joints.tolist()]
    return {
        "name": character.name,
        "track_id": character.track_id,
        "joint_names": list(character.joint_names),
        "parents": list(map(int, character.parents)),
        "frames": character.frames.tolist(),
        "visible": character.visible.tolist(),
        "joints": places,
        "calibrated": character.calibrated,
        "rest_joints": np.round(character.rest_joints.astype(float), 6).tolist(),
    }


def _zoom(camera: SceneCamera) -> dict[str, Any]:
    """The focal length in each frame, of a lens that zooms."""
    if camera.zoom is None:
        return {}
    focal_px = camera.zoom.factors[:, None] * camera.focal_px
    frames, focal_mm = camera.zoom_mm
    return {
        "zoom": {
            "frames": frames.tolist(),
            "focal_px": focal_px.round(4).tolist(),
            "focal_mm": focal_mm.round(5).tolist(),
        }
    }


def _seconds(scene: Scene, number: int) -> float:
    return float((number - scene.first_frame) / scene.fps)
