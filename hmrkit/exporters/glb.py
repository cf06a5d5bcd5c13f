"""Binary glTF 2.0 (``.glb``): every person a skinned, animated mesh in their own shape; the camera that filmed them.

glTF fixes its axes and its unit (y up, facing +z, metres), so a scene in other ones is rotated here. It has no frame
numbers, and players begin at second 0: there the file has the clip's first frame, ``start_frame`` in `asset.extras`,
which also has the exact rate. A person who is not seen has next to no scale. (Scale 0 is the specification's way,
section 3.5; but three.js takes a mesh's bounds when it first draws it, and would never find that person again. It
moves those bounds with the mesh's node, which therefore stands below the root joint, where people walk.)

Skinning shows the skeleton's pose in the person's shape. With ``exact`` the remaining difference to the final
(calibrated) vertices is added as morph targets before skinning, as few as reproduce it; with ``pose_shapes`` the
body's own pose blend shapes are. With ``quantize`` vertices and rotations are 16-bit integers (KHR_mesh_quantization):
places to 0.03 mm in a body of 2 m, rotations to 0.002 degrees.

Source: Khronos Group, glTF 2.0 Specification, and its extension KHR_mesh_quantization.
"""

from __future__ import annotations

import json
import logging
import struct
from pathlib import Path
from typing import Any

import numpy as np

from hmrkit import __version__
from hmrkit.exporters.character_arrays import (
    HIDDEN_SCALE,
    cut_at_seams,
    mesh_normals,
    quaternions_xyzw,
    rotations_from_xyzw,
    visibility_keys,
)
from hmrkit.exporters.correctives import corrective_shapes, in_unit_range, pose_shape_names
from hmrkit.exporters.glb_buffer import INDICES, VERTICES, Buffer, influences, quantised
from hmrkit.exporters.glb_material import add_image, material
from hmrkit.exporters.influences import with_influences
from hmrkit.exporters.keyframes import keys_within
from hmrkit.files import atomic_path
from hmrkit.scene import Character, ExportOptions, Scene, SceneCamera
from hmrkit.scene.staging import staged

_log = logging.getLogger(__name__)
_Y_UP_FROM_Z_UP = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], np.float32)


class GlbExporter:
    """``NAME.glb`` with everyone in it, or one file a person with ``per_person``."""

    def write(self, scene: Scene, folder: Path, options: ExportOptions) -> list[Path]:
        """Write the files; returns their paths. InputError where one cannot be written."""
        paths = []
        parts = staged(scene, options).parts(options.per_person)
        if parts and options.camera:
            _warn_of_lens(scene)
        for part in parts:
            path = Path(folder) / f"{part.name}.glb"
            document = _Document(part, options)
            with atomic_path(path) as temporary:
                temporary.write_bytes(document.to_bytes())
            paths.append(path)
        return paths


class _Document:
    """One glTF file in the making: its JSON, and the one buffer that holds every number."""

    def __init__(self, scene: Scene, options: ExportOptions) -> None:
        self._scene, self._options = scene, options
        self._rotation = _Y_UP_FROM_Z_UP if scene.up == "z" else np.eye(3, dtype=np.float32)
        self._buffer = Buffer()
        first, last = scene.frame_range
        facts = {"fps": str(scene.fps), "start_frame": first, "end_frame": last, "first_frame": scene.first_frame}
        self._json: dict[str, Any] = {
            "asset": {
                "version": "2.0",
                "generator": f"hmrkit {__version__}",
                "extras": facts | {"timecode": scene.timecode, "space": scene.space, "hmrkit": _plain(scene.metadata)},
            },
            "scene": 0,
            "scenes": [{"name": scene.name, "nodes": []}],
            "nodes": [],
            "materials": [],
            "meshes": [],
            "skins": [],
            "animations": [{"name": scene.name, "channels": [], "samplers": []}],
            "accessors": self._buffer.accessors,
            "bufferViews": self._buffer.views,
        }
        if options.quantize:
            self._json |= {key: ["KHR_mesh_quantization"] for key in ("extensionsUsed", "extensionsRequired")}
        if scene.texture is not None:
            self._json |= add_image(self._buffer, scene.texture)
        for character in scene.characters:
            self._add_character(*with_influences(character, options.influences, scene.metres_per_unit))
        if options.camera:
            self._add_camera(scene.camera)

    def to_bytes(self) -> bytes:
        """The whole file."""
        if not self._json["animations"][0]["channels"]:
            del self._json["animations"]
        content = bytes(self._buffer.content) + bytes(-len(self._buffer.content) % 4)
        self._json["buffers"] = [{"byteLength": len(content)}]
        text = json.dumps(self._json, separators=(",", ":"), allow_nan=False).encode()
        text += b" " * (-len(text) % 4)
        length = 12 + 8 + len(text) + 8 + len(content)
        return b"".join(
            [
                struct.pack("<4sII", b"glTF", 2, length),
                struct.pack("<I4s", len(text), b"JSON"),
                text,
                struct.pack("<I4s", len(content), b"BIN\0"),
                content,
            ]
        )

    # ------------------------------------------------------------------------------------------------------ people

    def _points(self, points: np.ndarray) -> np.ndarray:
        """Points of the scene in metres and with y up."""
        return (points @ self._rotation.T * self._scene.metres_per_unit).astype(np.float32)

    def _rotations(self, character: Character) -> tuple[np.ndarray, np.ndarray]:
        """Local rotations (T,J,3,3), and those of the rest pose (J,3,3), in glTF's axes.

        Joints whose axes are the scene's at rest have glTF's in the file; a skeleton with axes of its own keeps them.
        """
        at_rest = character.rest_rotations
        axes = self._rotation if np.allclose(at_rest, np.eye(3), atol=1e-6) else np.eye(3, dtype=np.float32)
        local = axes @ character.local_rotations @ axes.T
        local[:, 0] = self._rotation @ character.local_rotations[:, 0] @ axes.T
        rotated = self._rotation @ at_rest @ axes.T
        parents = list(character.parents)
        rest = np.swapaxes(rotated[parents], -1, -2) @ rotated
        rest[0] = rotated[0]
        return local, rest

    def _moving(self, character: Character) -> dict[int, np.ndarray]:
        """`Character.moving` in glTF's axes, m."""
        parallel = np.allclose(character.rest_rotations, np.eye(3), atol=1e-6)
        size = self._scene.metres_per_unit
        return {
            joint: self._points(places) if parallel else (places * size).astype(np.float32)
            for joint, places in character.moving.items()
        }

    def _add_character(self, character: Character, moved_mm: float) -> None:
        nodes = self._json["nodes"]
        parents, count = character.parents, len(character.joint_names)
        local, rest_local = self._rotations(character)
        rest_joints = self._points(character.rest_joints)
        rotated = [rest_local[0]]
        for joint in range(1, count):
            rotated.append(rotated[parents[joint]] @ rest_local[joint])
        rest_rotation = np.stack(rotated)
        bones = rest_joints - rest_joints[list(parents)]
        bones = np.einsum("jba,jb->ja", rest_rotation[list(parents)], bones)
        bones[0] = rest_joints[0]

        holder = len(nodes)
        extras = {"track_id": character.track_id, "calibrated": character.calibrated}
        nodes.append({"name": character.name, "children": [holder + 1], "extras": extras})
        for joint, name in enumerate(character.joint_names):
            node: dict[str, Any] = {"name": name, "translation": bones[joint].tolist()}
            quaternion = quaternions_xyzw(rest_local[joint][None])[0]
            if abs(quaternion[3]) < 1 - 1e-7:
                node["rotation"] = quaternion.tolist()
            children = [holder + 1 + child for child, parent in enumerate(parents) if parent == joint]
            if joint == 0:  # the mesh: what is above it does not move it, it moves its bounds in three.js
                children.append(holder + 1 + count)
            nodes.append(node | ({"children": children} if children else {}))
        inverse_bind = np.zeros((count, 4, 4), np.float32)
        inverse_bind[:, :3, :3] = np.swapaxes(rest_rotation, -1, -2)
        inverse_bind[:, :3, 3] = -np.einsum("jba,jb->ja", rest_rotation, rest_joints)
        inverse_bind[:, 3, 3] = 1
        if self._options.quantize:  # skins leave their mesh's node out, so the matrices give points their size back
            middle, size = self._box(character)
            inverse_bind[:, :3, 3] += inverse_bind[:, :3, :3] @ middle
            inverse_bind[:, :3, :3] *= size
        self._json["skins"].append(
            {
                "name": character.name,
                "inverseBindMatrices": self._buffer.add(np.swapaxes(inverse_bind, -1, -2).reshape(count, 16)),
                "skeleton": holder + 1,
                "joints": list(range(holder + 1, holder + 1 + count)),
            }
        )
        mesh = len(nodes)
        names, shapes, weights, error = self._shapes(character)
        self._add_mesh(character, names, shapes)
        nodes.append(
            {
                "name": f"{character.name}_mesh",
                "mesh": len(self._json["meshes"]) - 1,
                "skin": len(self._json["skins"]) - 1,
                "extras": {"largest_error_mm": error, "influences_error_mm": round(moved_mm, 2)},
            }
        )
        self._json["scenes"][0]["nodes"].append(holder)

        times = self._times(character.frames)
        root, kept = self._keys(character)
        places, quaternions = self._points(character.root_positions), quaternions_xyzw(local)
        self._animate(holder + 1, "translation", self._times(character.frames[root]), places[root])
        for joint, moved in self._moving(character).items():
            self._animate(holder + 1 + joint, "translation", times, moved)
        for joint, rows in enumerate(kept):
            at = times if len(rows) == len(character) else self._times(character.frames[rows])
            keys = quaternions[rows, joint]
            self._animate(
                holder + 1 + joint, "rotation", at, quantised(keys, np.int16) if self._options.quantize else keys
            )
        if len(shapes):
            self._animate(mesh, "weights", times, weights.astype(np.float32).reshape(-1))
        self._add_visibility(holder, character)

    def _keys(self, character: Character) -> tuple[np.ndarray, list[np.ndarray]]:
        """Rows of the root's places, and of each joint's rotations, that the file has."""
        if self._options.keyframe_reduce is None:
            return np.arange(len(character)), [np.arange(len(character))] * len(character.joint_names)
        # In the scene's axes: that rotations are written in glTF's changes no line between them. The sum of four
        # differences is never less than half the angle between two quaternions.
        return keys_within(
            character, quaternions_xyzw(character.local_rotations).astype(np.float64), rotations_from_xyzw,
            np.radians(0.5), self._options.keyframe_reduce, self._scene.metres_per_unit,
        )  # fmt: skip

    def _shapes(self, character: Character) -> tuple[list[str], np.ndarray, np.ndarray, float | None]:
        """Names, morph targets (P,V,3), their weights (T,P), and the largest distance left to the final mesh, mm."""
        if self._options.exact:
            shapes, weights, left = corrective_shapes(character, tolerance=0.5e-3 / self._scene.metres_per_unit)
            if len(shapes):
                shapes, weights = in_unit_range(shapes, weights)
            names = [f"corrective_{i:03d}" for i in range(len(shapes))]
            return names, shapes, weights, 1000 * left * self._scene.metres_per_unit
        if self._options.pose_shapes and character.pose_shapes is not None:
            shapes, weights = in_unit_range(*character.pose_shapes())
            return pose_shape_names(len(shapes)), shapes, weights, None
        return [], np.zeros((0, *character.rest_vertices.shape)), np.zeros((len(character), 0)), None

    def _box(self, character: Character) -> tuple[np.ndarray, float]:
        """Middle (3,) and half the longest side, m, of the rest mesh."""
        vertices = self._points(character.rest_vertices)
        low, high = vertices.min(0), vertices.max(0)
        return (low + high) / 2, float((high - low).max() / 2)

    def _add_mesh(self, character: Character, names: list[str], shapes: np.ndarray) -> None:
        vertices, faces = self._points(character.rest_vertices), np.asarray(character.faces)
        normals, skin = mesh_normals(vertices, faces), character.skin_weights
        quantise, (middle, size) = self._options.quantize, self._box(character)
        attributes: dict[str, int] = {}
        if (uv := character.texture_uv()) is not None:
            rows, places, faces = cut_at_seams(character, uv)
            vertices, normals, skin, shapes = vertices[rows], normals[rows], skin[rows], shapes[:, rows]
            places = np.stack([places[:, 0], 1 - places[:, 1]], 1)
            places = quantised(places, np.uint16) if quantise else places
            attributes["TEXCOORD_0"] = self._buffer.add(places, VERTICES, normalized=quantise)
        if quantise:
            vertices, normals = quantised((vertices - middle) / size, np.int16), quantised(normals, np.int8)
        attributes["POSITION"] = self._buffer.add(vertices, VERTICES, bounds=True, normalized=quantise)
        attributes["NORMAL"] = self._buffer.add(normals, VERTICES, normalized=quantise)
        for number, (joints, weights) in enumerate(influences(skin, quantise)):
            attributes[f"JOINTS_{number}"] = self._buffer.add(joints, VERTICES)
            attributes[f"WEIGHTS_{number}"] = self._buffer.add(weights, VERTICES, normalized=quantise)
        primitive: dict[str, Any] = {
            "attributes": attributes,
            # 65535 is no vertex: the specification keeps it for restarting primitives.
            "indices": self._buffer.add(
                faces.astype(np.uint16 if len(vertices) < 65536 else np.uint32).reshape(-1), INDICES
            ),
            "material": len(self._json["materials"]),
        }
        self._json["materials"].append(material(self._scene, character))
        mesh: dict[str, Any] = {"name": f"{character.name}_mesh", "primitives": [primitive]}
        if len(shapes):
            primitive["targets"] = [
                {"POSITION": self._buffer.add_offsets(self._points(shape), size if quantise else None)}
                for shape in shapes
            ]
            mesh["weights"] = [0.0] * len(shapes)
            mesh["extras"] = {"targetNames": names}
        self._json["meshes"].append(mesh)

    def _add_visibility(self, holder: int, character: Character) -> None:
        """Next to no scale on the skeleton's holder in gaps, before the person comes and after they left.

        An animation is as long as its last key says: one on the clip's last frame keeps the files of people who leave
        early in step when players loop them.
        """
        frames, seen = visibility_keys(character, self._scene.frame_range)
        if len(frames):
            last = self._scene.frame_range[1]
            if frames[-1] < last:
                frames, seen = np.append(frames, last), np.append(seen, seen[-1])
            scales = np.repeat(np.where(seen, 1, HIDDEN_SCALE)[:, None], 3, axis=1).astype(np.float32)
            self._animate(holder, "scale", self._times(frames), scales, "STEP")

    # ------------------------------------------------------------------------------------------- camera and numbers

    def _add_camera(self, camera: SceneCamera) -> None:
        """The camera; glTF knows a field of view only, so the film back and the optical axis are written in extras."""
        moved = np.eye(4)
        rotation = self._rotation.astype(np.float64)
        moved[:3, :3] = rotation @ camera.scene_from_camera[:3, :3]
        moved[:3, 3] = rotation @ camera.scene_from_camera[:3, 3] * self._scene.metres_per_unit
        aspect = camera.width / camera.height * float(camera.focal_px[1] / camera.focal_px[0])
        self._json["cameras"] = [
            {
                "name": camera.name,
                "type": "perspective",
                "perspective": {"yfov": camera.fov_y, "aspectRatio": aspect, "znear": 0.05, "zfar": 1000.0},
                "extras": {
                    "focal_length_mm": camera.focal_mm,
                    "film_width_mm": camera.film_width_mm,
                    "film_height_mm": camera.film_height_mm,
                    "film_offset_mm": list(camera.film_offset_mm),
                    "focal_px": np.asarray(camera.focal_px).tolist(),
                    "center_px": np.asarray(camera.center_px).tolist(),
                    "size_px": [camera.width, camera.height],
                },
            }
        ]
        quaternion = quaternions_xyzw(moved[None, :3, :3])[0]
        place = moved[:3, 3].tolist()
        self._json["nodes"].append(
            {"name": camera.name, "camera": 0, "translation": place, "rotation": quaternion.tolist()}
        )
        self._json["scenes"][0]["nodes"].append(len(self._json["nodes"]) - 1)

    def _times(self, frames: np.ndarray) -> int:
        """Accessor of the times of some frames, s; the clip's first frame is at 0."""
        fps = self._scene.fps
        times = (frames - self._scene.frame_range[0]).astype(np.float64) * fps.denominator / fps.numerator
        return self._buffer.add(times.astype(np.float32), bounds=True)

    def _animate(self, node: int, path: str, times: int, values: np.ndarray, interpolation: str = "LINEAR") -> None:
        animation, output = self._json["animations"][0], self._buffer.add(values, normalized=values.dtype == np.int16)
        animation["channels"].append({"sampler": len(animation["samplers"]), "target": {"node": node, "path": path}})
        animation["samplers"].append({"input": times, "output": output, "interpolation": interpolation})


def _warn_of_lens(scene: Scene) -> None:
    """Warnings of what the scene's camera does and glTF's cannot."""
    camera = scene.camera
    if camera.zoom is not None:
        _log.warning("%s: glTF cannot animate a lens: its camera has the first focal length", scene.name)
    beside = float(np.hypot(*(np.asarray(camera.center_px) - (camera.width / 2, camera.height / 2))))
    if beside > 1:
        _log.warning(
            "%s: glTF cannot shift a lens: its camera shows people %.0f px beside the plate; use fbx, usd or abc",
            scene.name, beside,
        )  # fmt: skip


def _plain(value: Any) -> Any:
    """The same with None for what JSON has no word for: NaN and infinity make a file that no program opens."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
