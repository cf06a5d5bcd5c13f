"""What one person is in an FBX file: a group, a skeleton of limb nodes, a skinned mesh, its bind pose, its curves.

A node's place is ``T * PreRotation * R``: the rest pose's rotation against the parent is the pre-rotation (Maya's joint
orient), so that all rotation channels are 0 at rest, and the nodes stand in the rest pose where no take plays.
"""

from __future__ import annotations

import json
from fractions import Fraction

import numpy as np

from hmrkit.exporters.character_arrays import scale_keys, visibility_keys
from hmrkit.exporters.correctives import corrective_shapes, in_unit_range, pose_shape_names
from hmrkit.exporters.curves import euler_deg, frame_ticks, rotation_from_euler, upright_order
from hmrkit.exporters.fbx_binary import Graph, Int64, Packed, pack_value, properties, record
from hmrkit.exporters.fbx_geometry import add_geometry
from hmrkit.exporters.fbx_material import add_material
from hmrkit.exporters.keyframes import keys_within
from hmrkit.scene import Character, ExportOptions, Scene
from hmrkit.scene.staging import untied

TICKS_PER_SECOND = 46_186_158_000  # KTime, FBX 7.x
_ROTATION_ORDERS = ("xyz", "xzy", "yzx", "yxz", "zxy", "zyx")  # by their numbers in FBX
_EXACT_TOLERANCE_M = 0.0002
_LINEAR, _CONSTANT = 0x6104, 0x2  # interpolation 4 and 2; the rest says "no tangents of its own", as Maya writes it
# Slopes 0, weights of a third packed as two 16-bit numbers, velocity 0.
_KEY_DATA = np.array([0, 0, 218434821, 0], "<i4").view("<f4")


class Animation:
    """The one take of a file: an animation layer that curves are hung on."""

    def __init__(self, graph: Graph, name: str, fps: Fraction, first: int, last: int) -> None:
        self._graph, self._fps = graph, fps
        self.start, self.stop = (Int64(t) for t in frame_ticks(np.array([first, last]), fps, TICKS_PER_SECOND))
        spans = ("LocalStart", self.start), ("LocalStop", self.stop)
        spans += ("ReferenceStart", self.start), ("ReferenceStop", self.stop)
        rows = properties(*((key, "KTime", "Time", "", value) for key, value in spans))
        stack = graph.add("AnimationStack", name, "AnimStack", rows)
        # Strict readers (Assimp) want every object to have children.
        weight = properties(("Weight", "Number", "", "A", 100.0))
        self._layer = graph.add("AnimationLayer", "BaseLayer", "AnimLayer", weight)
        graph.connect(self._layer, stack)

    def times(self, frames: np.ndarray) -> Packed:
        """Key times of these frame numbers, packed once for all the curves that share them."""
        return pack_value(frame_ticks(frames, self._fps, TICKS_PER_SECOND).astype("<i8"))

    def animate(
        self, target: int, attribute: str, node: str, values: np.ndarray, times: Packed, flags: int = _LINEAR
    ) -> None:
        """Curves of `values` (n,C) at `times` on one attribute of `target`; C is 3 (x, y, z) or 1."""
        channels = ("d|X", "d|Y", "d|Z") if values.shape[1] == 3 else (f"d|{node}",)
        first = [float(value) for value in values[0]]
        rows = properties(*((c, "Number", "", "A", value) for c, value in zip(channels, first, strict=True)))
        curve_node = self._graph.add("AnimationCurveNode", node, "AnimCurveNode", rows)
        self._graph.connect(curve_node, self._layer)
        self._graph.connect(curve_node, target, attribute)
        for channel, value, column in zip(channels, first, values.T.astype("<f4"), strict=True):
            curve = self._graph.add(
                "AnimationCurve", "", "AnimCurve", record("Default", value), record("KeyVer", 4008),
                record("KeyTime", times), record("KeyValueFloat", column),
                record("KeyAttrFlags", np.array([flags], "<i4")), record("KeyAttrDataFloat", _KEY_DATA),
                record("KeyAttrRefCount", np.array([len(column)], "<i4")),
            )  # fmt: skip
            self._graph.connect(curve, curve_node, channel)


def add_character(
    graph: Graph,
    animation: Animation,
    character: Character,
    scene: Scene,
    options: ExportOptions,
    group_name: str,
    texture: Int64 | None,
) -> None:
    """Add one person of a scene with everything that belongs to them; `texture` is the file's, which all share."""
    character = untied(character)
    facts = {"track_id": character.track_id, "timecode": scene.timecode, "space": scene.space, **scene.metadata}
    rows = [("hmrkit", "KString", "", "U", json.dumps(facts, default=str))]
    group = add_model(graph, group_name, "Null", "Null", 0, *rows)
    joints = _add_skeleton(graph, character, group, upright_order(character.rest_rotations[0], scene.up))
    _animate_skeleton(animation, character, joints, scene, options)
    mesh, geometry = _add_mesh(graph, character, scene, group, texture)
    _add_skin(graph, character, joints, mesh, geometry)
    _add_bind_pose(graph, character, group, joints, mesh)
    shapes = blend_shapes(character, scene, options)
    if shapes is not None:
        _add_blend_shapes(graph, animation, character, geometry, *shapes)
    _animate_visibility(animation, character, group, mesh, scene)


def add_model(graph: Graph, name: str, sub: str, flags: str, parent: int, *rows: tuple, attribute: tuple = ()) -> Int64:
    """A node with its node attribute below `parent` (0: the scene); `rows` and `attribute` are their properties."""
    always = [("InheritType", "enum", "", "", 1), ("DefaultAttributeIndex", "int", "Integer", "", 0)]
    children = [
        record("Version", 232),
        properties(*always, *rows),
        record("Shading", True),
        record("Culling", "CullingOff"),
    ]
    model = graph.add("Model", name, "Model", *children, sub=sub)
    graph.connect(model, parent)
    if flags:
        add_attribute(graph, name, sub, flags, model, *attribute)
    return model


def add_attribute(graph: Graph, name: str, sub: str, flags: str, model: Int64, *rows: tuple) -> Int64:
    """The node attribute of a node that has none, with its properties."""
    made = [properties(*rows)] if rows else []
    node = graph.add("NodeAttribute", name, "NodeAttribute", *made, record("TypeFlags", flags), sub=sub)
    graph.connect(node, model)
    return node


def vector_row(name: str, values: np.ndarray, flags: str = "A") -> tuple:
    """A property of three numbers; those that begin with "Lcl" are types of their own."""
    kind = (name, "") if name.startswith("Lcl") else ("Vector3D", "Vector")
    return (name, *kind, flags, *(float(v) for v in values))


# ------------------------------------------------------------------------------------------------------- skeleton


def _rest_rotations(character: Character) -> np.ndarray:
    """(J,3,3): each joint's rest rotation against its parent's."""
    rotations = character.rest_rotations.astype(np.float64)
    local = rotations.copy()
    for joint, parent in enumerate(character.parents):
        if parent >= 0:
            local[joint] = rotations[parent].T @ rotations[joint]
    return local


def _add_skeleton(graph: Graph, character: Character, group: int, root_order: str) -> list[Int64]:
    rest, rotations = character.rest_joints.astype(np.float64), character.rest_rotations.astype(np.float64)
    orient = euler_deg(_rest_rotations(character)[None])[0]
    joints: list[Int64] = []
    for joint, (name, parent) in enumerate(zip(character.joint_names, character.parents, strict=True)):
        place = rest[joint] if parent < 0 else rotations[parent].T @ (rest[joint] - rest[parent])
        rows = [vector_row("Lcl Translation", place), vector_row("Lcl Rotation", np.zeros(3))]
        # Only where rotations are declared active do pre-rotations and other orders than XYZ count.
        rows += [("RotationActive", "bool", "", "", 1), vector_row("PreRotation", orient[joint], "")]
        if parent < 0:
            rows.append(("RotationOrder", "enum", "", "", _ROTATION_ORDERS.index(root_order)))
        above = group if parent < 0 else joints[parent]
        size = ("Size", "double", "Number", "", 1.0)
        joints.append(add_model(graph, name, "LimbNode", "Skeleton", above, *rows, attribute=(size,)))
    return joints


def _animate_skeleton(
    animation: Animation, character: Character, joints: list[Int64], scene: Scene, options: ExportOptions
) -> None:
    rotations = np.swapaxes(_rest_rotations(character), -1, -2) @ character.local_rotations.astype(np.float64)
    degrees = euler_deg(rotations)
    root_order = upright_order(character.rest_rotations[0], scene.up)
    degrees[:, 0] = euler_deg(rotations[:, 0], root_order)
    places = character.root_positions.astype(np.float64)
    for joint, moved in character.moving.items():
        animation.animate(joints[joint], "Lcl Translation", "T", moved, animation.times(character.frames))
    if options.keyframe_reduce is None:
        times = animation.times(character.frames)
        animation.animate(joints[0], "Lcl Translation", "T", places, times)
        for joint, target in enumerate(joints):
            animation.animate(target, "Lcl Rotation", "R", degrees[:, joint], times)
        return

    def local(curves: np.ndarray) -> np.ndarray:
        made = rotation_from_euler(curves)
        made[:, 0] = rotation_from_euler(curves[:, 0], root_order)
        return (_rest_rotations(character) @ made).astype(np.float32)

    root, kept = keys_within(character, degrees, local, 1.0, options.keyframe_reduce, scene.metres_per_unit)
    animation.animate(joints[0], "Lcl Translation", "T", places[root], animation.times(character.frames[root]))
    for joint, (target, rows) in enumerate(zip(joints, kept, strict=True)):
        animation.animate(target, "Lcl Rotation", "R", degrees[rows, joint], animation.times(character.frames[rows]))


def _animate_visibility(animation: Animation, character: Character, group: int, mesh: int, scene: Scene) -> None:
    """Hide the person in gaps, before they come and after they left: the mesh's visibility, and the group's scale.

    Blender's importer and others leave visibility out.
    """
    frames, seen = visibility_keys(character, scene.frame_range)
    if len(frames) == 0:
        return
    animation.animate(mesh, "Visibility", "Visibility", seen[:, None].astype(float), animation.times(frames), _CONSTANT)
    frames, sizes = scale_keys(character, scene.frame_range)
    animation.animate(group, "Lcl Scaling", "S", np.repeat(sizes[:, None], 3, 1), animation.times(frames), _CONSTANT)


# ------------------------------------------------------------------------------------------------------- mesh, skin


def _add_mesh(
    graph: Graph, character: Character, scene: Scene, group: int, texture: Int64 | None
) -> tuple[Int64, Int64]:
    name = f"{character.name}_mesh"
    mesh = add_model(graph, name, "Mesh", "", group, ("Visibility", "Visibility", "", "A", 1.0))
    geometry = add_geometry(graph, character, name)
    graph.connect(geometry, mesh)
    graph.connect(add_material(graph, scene, character, texture), mesh)
    return mesh, geometry


def _matrix(rotation: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Sixteen numbers, column after column, so that the place comes last."""
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation, place
    return matrix.T.astype("<f8").ravel()


def _add_skin(graph: Graph, character: Character, joints: list[Int64], mesh: int, geometry: int) -> None:
    skin = graph.add(
        "Deformer", f"{character.name}_skin", "Deformer", record("Version", 101), record("Link_DeformAcuracy", 50.0),
        record("SkinningType", "Linear"), sub="Skin",
    )  # fmt: skip
    graph.connect(skin, geometry)
    rotations, places = character.rest_rotations.astype(np.float64), character.rest_joints.astype(np.float64)
    for joint, target in enumerate(joints):
        weights = character.skin_weights[:, joint].astype("<f8")
        rows = np.flatnonzero(weights).astype("<i4")
        influence = [record("Indexes", rows), record("Weights", weights[rows])] if len(rows) else []
        rotation, place = rotations[joint], places[joint]
        cluster = graph.add(
            "Deformer", character.joint_names[joint], "SubDeformer", record("Version", 100), *influence,
            record("Transform", _matrix(rotation.T, -rotation.T @ place)),  # from the mesh to the joint
            record("TransformLink", _matrix(rotation, place)), sub="Cluster",
        )  # fmt: skip
        graph.connect(cluster, skin)
        graph.connect(target, cluster)


def _add_bind_pose(graph: Graph, character: Character, group: int, joints: list[Int64], mesh: int) -> None:
    still = _matrix(np.eye(3), np.zeros(3))
    nodes = [(group, still), (mesh, still)]
    rotations, places = character.rest_rotations, character.rest_joints
    nodes += [(node, _matrix(rotations[j], places[j])) for j, node in enumerate(joints)]
    rows = [record("PoseNode", children=[record("Node", Int64(n)), record("Matrix", m)]) for n, m in nodes]
    head = [record("Type", "BindPose"), record("Version", 100), record("NbPoseNodes", len(rows))]
    graph.add("Pose", character.name, "Pose", *head, *rows, sub="BindPose")


# ----------------------------------------------------------------------------------------------------- blend shapes


def blend_shapes(
    character: Character, scene: Scene, options: ExportOptions
) -> tuple[str, list[str], np.ndarray, np.ndarray] | None:
    """Kind, names, shapes (P,V,3) and weights (T,P): to the exact mesh, or the body's own, or None, as the options say.

    Weights run from 0 to 1, whatever the unit: programs cut off sliders beyond.
    """
    if options.exact:
        shapes, weights, _ = corrective_shapes(character, _EXACT_TOLERANCE_M / scene.metres_per_unit)
        names = [f"exact_{number:03d}" for number in range(len(shapes) + 1)]
        return ("exact", names, *in_unit_range(shapes, weights)) if len(shapes) else None
    if options.pose_shapes and character.pose_shapes is not None:
        shapes, weights = in_unit_range(*character.pose_shapes())
        return "pose", pose_shape_names(len(shapes)), shapes, weights
    return None


def _add_blend_shapes(
    graph: Graph,
    animation: Animation,
    character: Character,
    geometry: int,
    kind: str,
    names: list[str],
    shapes: np.ndarray,
    weights: np.ndarray,
) -> None:
    deformer = graph.add("Deformer", f"{character.name}_{kind}", "Deformer", record("Version", 100), sub="BlendShape")
    graph.connect(deformer, geometry)
    times = animation.times(character.frames)
    largest = float(np.abs(shapes).max(initial=0))
    for name, shape, weight in zip(names, shapes, weights.T, strict=True):
        rows = np.flatnonzero(np.abs(shape).max(-1) > 1e-5 * largest).astype("<i4")
        if len(rows) == 0:
            continue
        offsets = shape[rows].astype("<f8").ravel()
        target = graph.add(
            "Geometry", name, "Geometry", record("Version", 100), record("Indexes", rows),
            record("Vertices", offsets), record("Normals", np.zeros_like(offsets)), sub="Shape",
        )  # fmt: skip
        channel = graph.add(
            "Deformer", name, "SubDeformer", record("Version", 100), record("DeformPercent", 0.0),
            record("FullWeights", np.array([100.0], "<f8")), properties(("DeformPercent", "Number", "", "A", 0.0)),
            sub="BlendShapeChannel",
        )  # fmt: skip
        graph.connect(target, channel)
        graph.connect(channel, deformer)
        animation.animate(channel, "DeformPercent", "DeformPercent", 100.0 * weight[:, None], times)
