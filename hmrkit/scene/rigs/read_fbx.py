"""A program: the bones of an FBX file, and how high its meshes end, as JSON on standard output.
``python read_fbx.py FILE.fbx``

Places in metres with y up, in the bind pose of the skin where there is one. A process of its own, which ends without
tidying up: ufbx's Python binding (0.0.5) counts references wrongly, so no object of its is ever given back.
"""

import gc
import json
import os
import sys

gc.disable()

import ufbx  # noqa: E402

_KEPT = []


def keep(value):
    """The value, never given back."""
    _KEPT.append(value)
    return value


def floor(scene) -> float:
    """The lowest vertex of all skinned meshes, m."""
    low = float("inf")
    for mesh in keep(list(keep(scene.meshes))):
        for skin in keep(list(keep(mesh.skin_deformers)))[:1]:
            cluster = keep(keep(list(keep(skin.clusters)))[0])
            bind, own = keep(cluster.bind_to_world), keep(cluster.geometry_to_bone)
            columns = [keep(column) for column in (own.c0, own.c1, own.c2, own.c3)]
            up = bind.c0.y, bind.c1.y, bind.c2.y  # a row of the bind matrix: what of a point is height
            x, y, z, shift = (up[0] * column.x + up[1] * column.y + up[2] * column.z for column in columns)
            heights = (x * v.x + y * v.y + z * v.z for v in keep(list(keep(mesh.vertices))))
            low = min(low, min(heights) + shift + bind.c3.y)
    return low


def main(path: str) -> None:
    """Print the bones: name, number of the parent (-1: none), four columns of the matrix to the world; and the height
    of the lowest vertex of all skinned meshes in the bind pose, Infinity without."""
    scene = keep(ufbx.load_file(path, target_axes=keep(ufbx.axes_right_handed_y_up), target_unit_meters=1.0))
    bound, bones = {}, []
    for cluster in keep(list(keep(scene.skin_clusters))):
        if (bone := keep(cluster.bone_node)) is not None:
            bound[bone.typed_id] = keep(cluster.bind_to_world)
    nodes = [node for node in keep(list(keep(scene.nodes))) if keep(node.bone) is not None or node.typed_id in bound]
    number = {node.typed_id: i for i, node in enumerate(nodes)}
    for node in nodes:
        matrix = bound.get(node.typed_id) or keep(node.node_to_world)
        columns = [keep(column) for column in (matrix.c0, matrix.c1, matrix.c2, matrix.c3)]
        above = keep(node.parent)
        parent = -1 if above is None else number.get(above.typed_id, -1)
        bones.append([node.name, parent, [[column.x, column.y, column.z] for column in columns]])
    sys.stdout.write(json.dumps([bones, floor(scene)]))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
