"""What ufbx makes of an FBX file, as one .npz. A program: ``python read_fbx_by_ufbx.py IN.fbx OUT.npz SECONDS ...``

A process of its own, which leaves without tidying up: ufbx's young Python binding counts references wrongly, so here no
object is ever given back. Written are, for each mesh node NAME: ``NAME/vertices`` (times, V, 3) in the world, skinned
and morphed by ufbx, ``NAME/visible`` (times,), ``NAME/uv`` (corners, 2), ``NAME/colour`` (3,) and ``NAME/texture``, the
image's path or ""; ``camera/focal_mm`` (times,); and ``facts``, JSON.
"""

import gc
import json
import os
import sys

gc.disable()

import numpy as np  # noqa: E402
import ufbx  # noqa: E402

KEPT = []


def keep(value):
    KEPT.append(value)
    return value


def triple(value):
    return [value.x, value.y, value.z]


def main(source, target, times):
    scene = keep(ufbx.load_file(source, strict=True))
    settings, stack = keep(scene.settings), keep(keep(scene.anim_stacks)[0])
    axes, metadata, animation = keep(settings.axes), keep(scene.metadata), keep(stack.anim)
    facts = {
        "version": metadata.version,
        "warnings": len(keep(metadata.warnings)),
        "time_mode": int(settings.time_mode),
        "unit_m": settings.unit_meters,
        "axes": [int(keep(axes.right)), int(keep(axes.up)), int(keep(axes.front))],
        "take": stack.name,
        "begin_s": stack.time_begin,
        "end_s": stack.time_end,
        "nodes": [],
    }
    for node in keep(list(keep(scene.nodes))):
        parent = keep(node.parent)
        facts["nodes"].append([node.name, None if parent is None else parent.name, keep(node.bone) is not None])
    cameras = keep(list(keep(scene.cameras)))
    if cameras:
        lens, node = cameras[0], keep(keep(cameras[0].instances)[0])
        film, fov, size = keep(lens.film_size_inch), keep(lens.field_of_view_deg), keep(lens.resolution)
        world = keep(node.node_to_world)
        facts["camera"] = {
            "name": node.name,
            "focal_mm": lens.focal_length_mm,
            "film_mm": [25.4 * film.x, 25.4 * film.y],
            "fov_deg": [fov.x, fov.y],
            "size": [size.x, size.y],
            "world": [triple(keep(column)) for column in (world.c0, world.c1, world.c2, world.c3)],
        }
    arrays = {}
    for seconds in times:
        posed = keep(ufbx.evaluate_scene(scene, animation, seconds, evaluate_skinning=True))
        for lens in keep(list(keep(posed.cameras))):
            arrays.setdefault("camera/focal_mm", []).append(lens.focal_length_mm)
        for node in keep(list(keep(posed.nodes))):
            mesh = keep(node.mesh)
            if mesh is None:
                continue
            attribute = keep(mesh.skinned_position)
            vertices = np.array(keep(attribute.values))
            if mesh.skinned_is_local:
                raise SystemExit("not skinned")
            arrays.setdefault(f"{node.name}/vertices", []).append(vertices)
            arrays.setdefault(f"{node.name}/visible", []).append(node.visible)
            uv = keep(mesh.vertex_uv)
            if uv.exists:
                arrays[f"{node.name}/uv"] = np.array(keep(uv.values))[np.array(keep(uv.indices))]
            diffuse = keep(keep(keep(next(iter(keep(mesh.materials)))).fbx).diffuse_color)
            arrays[f"{node.name}/colour"] = triple(keep(diffuse.value_vec4))
            texture = keep(diffuse.texture)
            arrays[f"{node.name}/texture"] = "" if texture is None else texture.filename
    np.savez(target, facts=json.dumps(facts), **arrays)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], [float(value) for value in sys.argv[3:]])
