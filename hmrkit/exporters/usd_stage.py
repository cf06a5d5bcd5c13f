"""What the USD exporter puts on a stage: UsdSkel characters, point caches, a camera, a material.

Importing this needs the package usd-core. Source: the UsdSkel and UsdGeom schemas, openusd.org.
"""
# pyright: reportAttributeAccessIssue=false
# (usd-core tells a type checker nothing of its modules.)

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pxr import Gf, Sdf, Usd, UsdGeom, UsdShade, UsdSkel, Vt

from hmrkit.exporters.character_arrays import (
    HIDDEN_SCALE,
    base_colour,
    material_colour,
    mesh_normals,
    quaternions_xyzw,
    scale_keys,
    strongest_joints,
    texture_places,
    visibility_keys,
)
from hmrkit.files import atomic_path
from hmrkit.scene import Character, Scene, SceneCamera, safe_name

_SAVE_EVERY = 256  # frames of exact vertices that are held before they are written: some 20 MB


def write_stage(path: Path, scene: Scene, add: Callable[..., None], camera: bool) -> None:
    """A file with the scene's clock, axes and unit, every person put in by `add` (`add_rig` or `add_points`)."""
    with atomic_path(path) as temporary:
        draft = temporary.with_name(f"{temporary.name}.usdc")  # USD chooses a file's format by its name
        draft.unlink(missing_ok=True)
        try:
            stage = Usd.Stage.CreateNew(str(draft))
            first, last = scene.frame_range
            UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.z if scene.up == "z" else UsdGeom.Tokens.y)
            UsdGeom.SetStageMetersPerUnit(stage, scene.metres_per_unit)
            stage.SetTimeCodesPerSecond(float(scene.fps))
            stage.SetFramesPerSecond(float(scene.fps))
            stage.SetStartTimeCode(first)
            stage.SetEndTimeCode(last)
            facts = {"fps": str(scene.fps), "first_frame": scene.first_frame, "space": scene.space}
            facts |= {"timecode": scene.timecode or "", "hmrkit": json.dumps(scene.metadata, sort_keys=True)}
            stage.GetRootLayer().customLayerData = facts
            root = UsdGeom.Xform.Define(stage, f"/{safe_name(scene.name)}")
            stage.SetDefaultPrim(root.GetPrim())
            Usd.ModelAPI(root).SetKind("component")
            for character in scene.characters:
                add(stage, root.GetPath(), scene, character, _material(stage, root.GetPath(), scene, character))
            if camera:
                _add_camera(stage, root.GetPath(), scene.camera, scene.metres_per_unit)
            stage.GetRootLayer().Save()
            del stage
            os.replace(draft, temporary)
        finally:
            draft.unlink(missing_ok=True)


def add_rig(stage: Any, root: Any, scene: Scene, character: Character, material: Any) -> None:
    """A skeleton in the person's rest pose, its animation, and the mesh that it moves."""
    path = root.AppendChild(character.name)
    skel_root = UsdSkel.Root.Define(stage, path)
    skeleton = UsdSkel.Skeleton.Define(stage, path.AppendChild(f"{character.name}_rig"))
    animation = UsdSkel.Animation.Define(stage, path.AppendChild(f"{character.name}_motion"))

    joints = _joint_paths(character)
    rest, place = character.rest_rotations.astype(np.float64), character.rest_joints.astype(np.float64)
    bind = np.tile(np.eye(4), (len(joints), 1, 1))
    bind[:, :3, :3], bind[:, :3, 3] = rest, place
    parents = list(character.parents)
    local = np.linalg.inv(bind[parents]) @ bind
    local[0] = bind[0]
    for prim in (skeleton, animation):
        prim.CreateJointsAttr(joints)
    skeleton.CreateBindTransformsAttr(_matrices(bind))
    skeleton.CreateRestTransformsAttr(_matrices(local))
    UsdSkel.BindingAPI.Apply(skeleton.GetPrim()).CreateAnimationSourceRel().SetTargets([animation.GetPath()])

    quaternions = quaternions_xyzw(character.local_rotations)
    translations = np.tile(local[:, :3, 3].astype(np.float32), (len(character), 1, 1))
    translations[:, 0] = character.root_positions
    for joint, places in character.moving.items():
        translations[:, joint] = places
    scales = animation.CreateScalesAttr(Vt.Vec3hArray([Gf.Vec3h(1)] * len(joints)))
    for frame, size in zip(*(keys.tolist() for keys in scale_keys(character, scene.frame_range)), strict=True):
        scales.Set(Vt.Vec3hArray([Gf.Vec3h(size), *[Gf.Vec3h(1)] * (len(joints) - 1)]), frame)
    rotation, translation = animation.CreateRotationsAttr(), animation.CreateTranslationsAttr()
    for row, frame in enumerate(character.frames.tolist()):
        rotation.Set(Vt.QuatfArray.FromNumpy(quaternions[row]), frame)
        translation.Set(Vt.Vec3fArray.FromNumpy(translations[row]), frame)

    mesh = _mesh(stage, path.AppendChild(f"{character.name}_mesh"), character, material)
    vertices = character.rest_vertices.astype(np.float32)
    mesh.CreatePointsAttr(Vt.Vec3fArray.FromNumpy(vertices))
    mesh.CreateExtentAttr(_extent(vertices))
    mesh.CreateNormalsAttr(Vt.Vec3fArray.FromNumpy(mesh_normals(vertices, character.faces)))
    mesh.SetNormalsInterpolation(UsdGeom.Tokens.vertex)
    binding = UsdSkel.BindingAPI.Apply(mesh.GetPrim())
    binding.CreateSkeletonRel().SetTargets([skeleton.GetPath()])
    binding.CreateGeomBindTransformAttr(Gf.Matrix4d(1))
    indices, weights = strongest_joints(character.skin_weights)
    binding.CreateJointIndicesPrimvar(False, indices.shape[1]).Set(Vt.IntArray.FromNumpy(indices.ravel()))
    binding.CreateJointWeightsPrimvar(False, weights.shape[1]).Set(Vt.FloatArray.FromNumpy(weights.ravel()))

    # How far vertices lie from their skeleton does not grow much when it moves: half a metre is more than enough.
    posed, margin = character.posed_joints(), 0.5 / scene.metres_per_unit
    extent = skel_root.CreateExtentAttr()
    for frame, low, high in zip(character.frames.tolist(), posed.min(1) - margin, posed.max(1) + margin, strict=True):
        extent.Set(Vt.Vec3fArray.FromNumpy(np.stack([low, high])), frame)
    _add_visibility(skel_root, scene, character)
    _describe(skel_root, character)


def add_points(stage: Any, root: Any, scene: Scene, character: Character, material: Any) -> None:
    """The final vertices of every frame, saved as they come."""
    mesh = _mesh(stage, root.AppendChild(character.name), character, material)
    points, extent = mesh.CreatePointsAttr(), mesh.CreateExtentAttr()
    _add_visibility(mesh, scene, character)
    _describe(mesh, character)
    held = 0
    small = character.rest_vertices * np.float32(HIDDEN_SCALE)
    for frame, size in zip(*scale_keys(character, scene.frame_range), strict=True):
        if size < 1:
            points.Set(Vt.Vec3fArray.FromNumpy(small), int(frame))
            extent.Set(_extent(small), int(frame))
    for rows in character.stretches():
        vertices = character.vertices(rows)
        for row, points_now in zip(range(*rows.indices(len(character))), vertices, strict=True):
            if not character.visible[row]:
                continue
            frame = int(character.frames[row])
            points.Set(Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(points_now)), frame)
            extent.Set(_extent(points_now), frame)
        held += len(vertices)
        if held >= _SAVE_EVERY:
            stage.GetRootLayer().Save()
            held = 0


def _mesh(stage: Any, path: Any, character: Character, material: Any) -> Any:
    """A mesh with the character's faces, a plain polygon mesh and not a subdivision surface."""
    mesh = UsdGeom.Mesh.Define(stage, path)
    faces = np.ascontiguousarray(character.faces, np.int32)
    mesh.CreateFaceVertexCountsAttr(Vt.IntArray.FromNumpy(np.full(len(faces), 3, np.int32)))
    mesh.CreateFaceVertexIndicesAttr(Vt.IntArray.FromNumpy(faces.ravel()))
    mesh.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
    mesh.CreateDisplayColorAttr([Gf.Vec3f(*material_colour(character.track_id))])
    if (uv := character.texture_uv()) is not None:
        places, corners = texture_places(uv)
        kind = Sdf.ValueTypeNames.TexCoord2fArray
        st = UsdGeom.PrimvarsAPI(mesh).CreatePrimvar("st", kind, UsdGeom.Tokens.faceVarying)
        st.Set(Vt.Vec2fArray.FromNumpy(places))
        st.SetIndices(Vt.IntArray.FromNumpy(corners.astype(np.int32).ravel()))
    UsdShade.MaterialBindingAPI.Apply(mesh.GetPrim()).Bind(material)
    return mesh


def _material(stage: Any, root: Any, scene: Scene, character: Character) -> Any:
    """A rough material in the person's colour, or with the scene's texture."""
    path = root.AppendChild(f"{character.name}_skin")
    material = UsdShade.Material.Define(stage, path)
    shader = UsdShade.Shader.Define(stage, path.AppendChild("surface"))
    shader.CreateIdAttr("UsdPreviewSurface")
    diffuse = shader.CreateInput("diffuseColor", Sdf.ValueTypeNames.Color3f)
    diffuse.Set(Gf.Vec3f(*base_colour(scene, character)))
    if scene.texture is not None:
        diffuse.ConnectToSource(
            _texture(stage, path, scene.texture.name).CreateOutput("rgb", Sdf.ValueTypeNames.Float3)
        )
    shader.CreateInput("roughness", Sdf.ValueTypeNames.Float).Set(0.7)
    material.CreateSurfaceOutput().ConnectToSource(shader.ConnectableAPI(), "surface")
    return material


def _texture(stage: Any, material: Any, name: str) -> Any:
    """The nodes that read an image, which lies beside the stage, at `primvars:st`."""
    reader = UsdShade.Shader.Define(stage, material.AppendChild("coordinates"))
    reader.CreateIdAttr("UsdPrimvarReader_float2")
    reader.CreateInput("varname", Sdf.ValueTypeNames.String).Set("st")
    image = UsdShade.Shader.Define(stage, material.AppendChild("texture"))
    image.CreateIdAttr("UsdUVTexture")
    image.CreateInput("file", Sdf.ValueTypeNames.Asset).Set(Sdf.AssetPath(f"./{name}"))
    image.CreateInput("sourceColorSpace", Sdf.ValueTypeNames.Token).Set("sRGB")
    for axis in ("wrapS", "wrapT"):
        image.CreateInput(axis, Sdf.ValueTypeNames.Token).Set("clamp")
    places = reader.CreateOutput("result", Sdf.ValueTypeNames.Float2)
    image.CreateInput("st", Sdf.ValueTypeNames.Float2).ConnectToSource(places)
    return image


def _add_visibility(prim: Any, scene: Scene, character: Character) -> None:
    """Invisible in gaps, before the person comes and after they left."""
    frames, seen = visibility_keys(character, scene.frame_range)
    if len(frames):
        attribute = prim.CreateVisibilityAttr()
        for frame, shown in zip(frames.tolist(), seen, strict=True):
            attribute.Set(UsdGeom.Tokens.inherited if shown else UsdGeom.Tokens.invisible, frame)


def _add_camera(stage: Any, root: Any, camera: SceneCamera, metres_per_unit: float) -> None:
    """The camera. USD tells focal length and film in tenths of the scene's unit."""
    prim = UsdGeom.Camera.Define(stage, root.AppendChild(camera.name))
    matrix = Gf.Matrix4d(np.ascontiguousarray(np.asarray(camera.scene_from_camera, np.float64).T).tolist())
    prim.AddTransformOp().Set(matrix)
    tenths = 0.01 / metres_per_unit
    right, above = camera.film_offset_mm
    focal = prim.CreateFocalLengthAttr(camera.focal_mm * tenths)
    for frame, millimetres in zip(*(values.tolist() for values in camera.zoom_mm), strict=True):
        focal.Set(millimetres * tenths, frame)
    prim.CreateHorizontalApertureAttr(camera.film_width_mm * tenths)
    prim.CreateVerticalApertureAttr(camera.film_height_mm * tenths)
    prim.CreateHorizontalApertureOffsetAttr(right * tenths)
    prim.CreateVerticalApertureOffsetAttr(above * tenths)
    prim.CreateClippingRangeAttr(Gf.Vec2f(0.05 / metres_per_unit, 1000 / metres_per_unit))


def _describe(prim: Any, character: Character) -> None:
    prim.GetPrim().SetCustomDataByKey("hmrkit:track_id", int(character.track_id))
    prim.GetPrim().SetCustomDataByKey("hmrkit:calibrated", bool(character.calibrated))


def _joint_paths(character: Character) -> list[str]:
    """Joints as USD names them: paths from the root, made of letters, digits and underscores."""
    paths: list[str] = []
    for name, parent in zip(character.joint_names, character.parents, strict=True):
        own = safe_name(name)
        paths.append(own if parent < 0 else f"{paths[parent]}/{own}")
    return paths


def _matrices(matrices: np.ndarray) -> Any:
    """(J,4,4) column-vector matrices as USD's row-vector ones."""
    return Vt.Matrix4dArray.FromNumpy(np.ascontiguousarray(np.swapaxes(matrices, -1, -2), np.float64))


def _extent(points: np.ndarray) -> Any:
    return Vt.Vec3fArray.FromNumpy(np.stack([points.min(0), points.max(0)]).astype(np.float32))
