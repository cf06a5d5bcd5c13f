"""A GLB that `hmrkit export` wrote, as Blender shows it: a person, their skeleton and its shadow, as a PNG with alpha.

Run it by a Python that has Blender's module (``pip install bpy``), or by Blender itself::

    python blender_frame.py person_01.glb blender.png --second 4.4
    blender -b -P blender_frame.py -- person_01.glb blender.png --second 4.4
"""

from __future__ import annotations

import argparse
import os
import sys
from math import radians

import bpy
from mathutils import Matrix, Vector

SKIN, BONE, SKY = (0.105, 0.31, 0.62), (1.0, 0.35, 0.04), (0.75, 0.78, 0.82)
AROUND, ABOVE = radians(32), radians(9)  # where the camera stands, from where the person faces


def main() -> None:
    words = sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else sys.argv[1:]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("glb")
    parser.add_argument("png")
    parser.add_argument("--second", type=float, default=0.0, help="of the clip")
    parser.add_argument("--size", type=int, nargs=2, default=(432, 432), metavar=("W", "H"))
    parser.add_argument("--samples", type=int, default=32)
    given = parser.parse_args(words)

    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.import_scene.gltf(filepath=given.glb)
    scene = bpy.context.scene
    frame = given.second * scene.render.fps / scene.render.fps_base  # the importer keeps seconds
    scene.frame_set(int(frame), subframe=frame % 1)
    rig = next(thing for thing in scene.objects if thing.type == "ARMATURE")
    skin = [thing for thing in scene.objects if thing.type == "MESH" and thing.find_armature() == rig]
    for thing in skin:
        thing.data.materials.clear()
        thing.data.materials.append(material("skin", SKIN, roughness=0.5))
        thing.data.shade_smooth()
    stage(scene, rig, skin)
    show_bones(rig, scene.camera.location)
    render(scene, given)


def show_bones(rig: bpy.types.Object, eye: Vector) -> None:
    """Octahedra from each joint to its children, in front of the skin: drawn half-way to the camera, where they cover
    the same pixels."""
    orange = material("bone", BONE, roughness=0.6, glow=0.5)
    for bone in rig.pose.bones:
        for child in bone.children:
            start, end = rig.matrix_world @ bone.head, rig.matrix_world @ child.head
            length = (end - start).length
            if length < 0.02:
                continue
            wide, waist = min(0.07 * length, 0.02), 0.15 * length
            ring = [(wide, waist, 0), (0, waist, wide), (-wide, waist, 0), (0, waist, -wide)]
            faces = [(k + 1, (k + 1) % 4 + 1, tip) for k in range(4) for tip in (0, 5)]
            mesh = bpy.data.meshes.new("bone")
            mesh.from_pydata([(0, 0, 0), *ring, (0, length, 0)], [], faces)
            mesh.materials.append(orange)
            thing = bpy.data.objects.new("bone", mesh)
            rotation = Vector((0, 1, 0)).rotation_difference(end - start).to_matrix().to_4x4()
            halfway = Matrix.Translation(eye) @ Matrix.Scale(0.5, 4) @ Matrix.Translation(-eye)
            thing.matrix_world = halfway @ Matrix.Translation(start) @ rotation
            thing.visible_shadow = thing.visible_diffuse = thing.visible_glossy = False
            bpy.context.collection.objects.link(thing)


def stage(scene: bpy.types.Scene, rig: bpy.types.Object, skin: list[bpy.types.Object]) -> None:
    """A floor under the feet, three soft lights, and a camera before the person's face."""
    shown = bpy.context.evaluated_depsgraph_get()
    corners = [thing.matrix_world @ v.co for thing in skin for v in thing.evaluated_get(shown).data.vertices]
    low = Vector([min(v[k] for v in corners) for k in range(3)])
    high = Vector([max(v[k] for v in corners) for k in range(3)])
    middle, height = (low + high) / 2, high.z - low.z
    hips = [rig.matrix_world @ rig.pose.bones[f"{side}_hip"].head for side in ("left", "right")]
    faces = Vector((0, 0, 1)).cross(hips[1] - hips[0]).normalized()

    bpy.ops.mesh.primitive_plane_add(size=60, location=(middle.x, middle.y, low.z))
    bpy.context.object.is_shadow_catcher = True
    for angle, rise, power, size in ((-75, 1.6, 90, 0.9), (60, 0.9, 12, 2.5), (165, 1.9, 60, 1.0)):
        place = Matrix.Rotation(radians(angle), 3, "Z") @ faces * 2.2 + Vector((0, 0, rise))
        light = bpy.data.lights.new("light", "AREA")
        light.energy, light.size = power, size
        add(light, middle + place, middle)
    world = bpy.data.worlds.new("world")
    scene.world, world.use_nodes = world, True
    world.node_tree.nodes["Background"].inputs[0].default_value = (*SKY, 1)
    world.node_tree.nodes["Background"].inputs[1].default_value = 0.4

    camera = bpy.data.cameras.new("camera")
    camera.lens = 85
    away = Matrix.Rotation(-AROUND, 3, "Z") @ faces
    away = Vector((away.x, away.y, 0)).normalized() + Vector((0, 0, ABOVE))
    camera.sensor_fit = "VERTICAL"
    scene.camera = add(camera, middle + away * (height * 1.25 * camera.lens / camera.sensor_height), middle)


def add(data: bpy.types.ID, place: Vector, target: Vector) -> bpy.types.Object:
    """A light or a camera at a place, looking at a target."""
    thing = bpy.data.objects.new(data.name, data)
    thing.location = place
    thing.rotation_euler = (target - place).to_track_quat("-Z", "Y").to_euler()
    bpy.context.collection.objects.link(thing)
    return thing


def material(name: str, colour: tuple[float, float, float], roughness: float, glow: float = 0.0) -> bpy.types.Material:
    made = bpy.data.materials.get(name)
    if made is None:
        made = bpy.data.materials.new(name)
        made.use_nodes = True
        inputs = made.node_tree.nodes["Principled BSDF"].inputs
        inputs["Base Color"].default_value = inputs["Emission Color"].default_value = (*colour, 1)
        inputs["Roughness"].default_value, inputs["Emission Strength"].default_value = roughness, glow
    return made


def render(scene: bpy.types.Scene, given: argparse.Namespace) -> None:
    scene.render.engine = "CYCLES"
    scene.cycles.samples, scene.cycles.use_denoising = given.samples, True
    scene.view_settings.look = "AgX - Medium High Contrast"
    scene.render.film_transparent, scene.render.image_settings.color_mode = True, "RGBA"
    scene.render.resolution_x, scene.render.resolution_y = given.size
    scene.render.resolution_percentage = 100
    scene.render.filepath = given.png
    bpy.ops.render.render(write_still=True)


main()
sys.stdout.flush()
os._exit(0)  # as a module, Blender 4.2 may crash where it is unloaded
