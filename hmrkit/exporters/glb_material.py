"""What people are made of in a glTF file: a rough material in the person's colour, or with a texture."""

from __future__ import annotations

from typing import Any

from hmrkit.exporters.character_arrays import base_colour
from hmrkit.exporters.glb_buffer import Buffer
from hmrkit.scene import Character, Scene
from hmrkit.scene.texture import Texture

_LINEAR, _LINEAR_MIPMAP_LINEAR, _CLAMP_TO_EDGE = 9729, 9987, 33071


def add_image(buffer: Buffer, texture: Texture) -> dict[str, Any]:
    """Put the texture's file into the buffer; the document's images, samplers and textures, one of each."""
    image = {"name": texture.name, "mimeType": texture.mime_type, "bufferView": buffer.add_file(texture.content)}
    sampler = {"magFilter": _LINEAR, "minFilter": _LINEAR_MIPMAP_LINEAR}
    sampler |= {"wrapS": _CLAMP_TO_EDGE, "wrapT": _CLAMP_TO_EDGE}
    return {"images": [image], "samplers": [sampler], "textures": [{"source": 0, "sampler": 0}]}


def material(scene: Scene, character: Character) -> dict[str, Any]:
    """A person's material; of a scene with a texture all people show that one."""
    rough: dict[str, Any] = {
        "baseColorFactor": [*base_colour(scene, character), 1],
        "metallicFactor": 0,
        "roughnessFactor": 0.7,
    }
    if scene.texture is not None:
        rough["baseColorTexture"] = {"index": 0}
    return {"name": f"{character.name}_skin", "pbrMetallicRoughness": rough}
