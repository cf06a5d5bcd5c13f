"""What people are made of in an FBX file: a material in the person's colour, or with a texture beside the file.

Source: Blender's FBX exporter writes the same records (Texture, Video), which Maya and ufbx read.
"""

from __future__ import annotations

from hmrkit.exporters.character_arrays import base_colour
from hmrkit.exporters.fbx_binary import Graph, Int64, object_name, properties, record
from hmrkit.scene import Character, Scene

UV_SET = "UVMap"


def add_texture(graph: Graph, file: str) -> Int64:
    """An image that lies beside the FBX file, as a texture: the file's name is its path from there."""
    video = graph.add(
        "Video", file, "Video", record("Type", "Clip"), properties(("Path", "KString", "XRefUrl", "", file)),
        record("UseMipMap", 0), record("Filename", file), record("RelativeFilename", file), sub="Clip",
    )  # fmt: skip
    rows = [("UVSet", "KString", "", "", UV_SET), ("UseMaterial", "bool", "", "", 1)]
    rows += [(f"WrapMode{axis}", "enum", "", "", 1) for axis in "UV"]  # the border's colour beyond it
    texture = graph.add(
        "Texture", file, "Texture", record("Type", "TextureVideoClip"), record("Version", 202),
        record("TextureName", object_name(file, "Texture")), record("Media", object_name(file, "Video")),
        record("FileName", file), record("RelativeFilename", file), properties(*rows),
        record("ModelUVTranslation", 0.0, 0.0), record("ModelUVScaling", 1.0, 1.0),
        record("Texture_Alpha_Source", "None"), record("Cropping", 0, 0, 0, 0),
    )  # fmt: skip
    graph.connect(video, texture)
    return texture


def add_material(graph: Graph, scene: Scene, character: Character, texture: Int64 | None) -> Int64:
    """A person's material, the texture on it where there is one."""
    colour = ("DiffuseColor", "Color", "", "A", *base_colour(scene, character))
    material = graph.add(
        "Material", f"{character.name}_skin", "Material", record("Version", 102), record("ShadingModel", "lambert"),
        record("MultiLayer", 0), properties(colour),
    )  # fmt: skip
    if texture is not None:
        graph.connect(texture, material, "DiffuseColor")
    return material
