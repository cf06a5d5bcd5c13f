"""Reads a page of `hmrkit view --html` back, and skins its people as its shader does."""

import base64
import gzip
import json
import re
import struct

import numpy as np
import torch

from hmrkit.geometry import quaternion_to_matrix


def read_block(data):
    """Header of a packed block, every array in the place of what tells of it."""
    raw = gzip.decompress(data)
    (length,) = struct.unpack_from("<I", raw)

    def filled(entry):
        if isinstance(entry, list):
            return [filled(item) for item in entry]
        if not isinstance(entry, dict):
            return entry
        if "kind" not in entry:
            return {key: filled(value) for key, value in entry.items()}
        count = int(np.prod(entry["shape"]))
        values = np.frombuffer(raw, entry["kind"], count, 4 + length + entry["at"]).reshape(entry["shape"])
        values = np.cumsum(values, 0, dtype=values.dtype) if entry["difference"] else values
        return values if entry["scale"] == 1 else values * entry["scale"]

    return filled(json.loads(raw[4 : 4 + length]))


def read_page(path):
    text = path.read_text()
    return read_block(base64.b64decode(re.search(r'id="data">([^<]*)<', text)[1]))


def as_the_shader_does_it(data, person, calibrated):
    """Vertices (T,V,3) in the camera frame."""
    body, posed = data["bodies"][0], person["posed"]
    rotations, places = quaternion_to_matrix(torch.from_numpy(posed["turns"])).numpy(), posed["places"]
    parents = body["parents"]
    local = rotations[:, parents[1:]].swapaxes(-1, -2) @ rotations[:, 1:]
    features = (local - np.eye(3)).reshape(len(rotations), 207)
    shaped = person["restVertices"] + np.einsum("tk,vkc->tvc", features, body["shapes"])
    shift = places - (rotations @ person["restJoints"][..., None])[..., 0]
    blended = np.einsum("vj,tjrc->tvrc", body["weights"], np.concatenate([rotations, shift[..., None]], -1))
    vertices = (blended[..., :3] @ shaped[..., None])[..., 0] + blended[..., 3]
    if not calibrated:
        return vertices + posed["roots"][:, None]
    goal = person["goal"]
    psi, to = quaternion_to_matrix(torch.from_numpy(goal["turns"])).numpy(), goal["places"]
    above = parents[1:]
    shift = to[:, above] - (psi @ places[:, above, :, None])[..., 0]
    stretch = to[:, 1:] - to[:, above] - (psi @ (places[:, 1:] - places[:, above])[..., None])[..., 0]
    attachment, share = body["attachment"], body["attachment"] * body["place"]
    blended = np.einsum("vb,tbrc->tvrc", attachment, np.concatenate([psi - np.eye(3), shift[..., None]], -1))
    moved = vertices + (blended[..., :3] @ vertices[..., None])[..., 0] + blended[..., 3]
    return moved + np.einsum("vb,tbc->tvc", share, stretch) + goal["roots"][:, None]
