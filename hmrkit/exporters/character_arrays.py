"""What several formats want of a character in the same form: quaternions, influences, normals, texture, visibility."""

from __future__ import annotations

import numpy as np
import torch

from hmrkit.geometry import matrix_to_quaternion, quaternion_to_matrix
from hmrkit.rendering.shading import linear, track_colour
from hmrkit.scene import Character, Scene


def quaternions_xyzw(rotations: np.ndarray) -> np.ndarray:
    """(T,...,3,3) -> unit quaternions (T,...,4) float32 as x, y, z, w, each on the side of the one before it.

    Programs differ in whether they interpolate the short way; like this there is no long one.
    """
    values = matrix_to_quaternion(torch.from_numpy(np.ascontiguousarray(rotations, np.float64))).numpy()
    values = values / np.linalg.norm(values, axis=-1, keepdims=True)
    opposite = np.sum(values[1:] * values[:-1], -1) < 0
    sides = np.cumprod(np.where(opposite, -1.0, 1.0), axis=0)
    values[1:] *= sides[..., None]
    return values[..., [1, 2, 3, 0]].astype(np.float32)


def rotations_from_xyzw(quaternions: np.ndarray) -> np.ndarray:
    """Quaternions (...,4), normalised here, -> rotations (...,3,3) float32."""
    wxyz = torch.from_numpy(np.ascontiguousarray(quaternions[..., [3, 0, 1, 2]], np.float64))
    return quaternion_to_matrix(wxyz).numpy().astype(np.float32)


def strongest_joints(weights: np.ndarray, multiple: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Skin weights (V,J) as joints (V,K) int32 and their weights (V,K) float32 summing to 1, the largest first.

    K is as many as any vertex follows, rounded up to a multiple; slots that are not used name joint 0.
    """
    width = -(-int((weights > 0).sum(1).max()) // multiple) * multiple
    joints = np.argsort(-weights, axis=1, kind="stable")[:, :width]
    values = np.take_along_axis(weights, joints, 1).astype(np.float64)
    values = (values / values.sum(1, keepdims=True)).astype(np.float32)
    return np.where(values > 0, joints, 0).astype(np.int32), values


def mesh_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit normals (V,3) of a mesh, faces weighted by their area."""
    corners = vertices[faces]
    flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.stack(
        [np.bincount(faces.ravel(), np.repeat(flat[:, axis], 3), minlength=len(vertices)) for axis in range(3)], 1
    )
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.where(lengths > 1e-20, normals / np.maximum(lengths, 1e-20), [0.0, 1.0, 0.0]).astype(np.float32)


def texture_places(uv: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Texture coordinates (F,3,2), each place once (N,2), and which of them each corner of each face has (F,3)."""
    places, rows = np.unique(uv.reshape(-1, 2), axis=0, return_inverse=True)
    return places, rows.reshape(-1, 3)


def cut_at_seams(character: Character, uv: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A mesh whose vertices have one place each in the texture `uv` (F,3,2), for formats that want that.

    Returns the vertex (N,) that each of its own is, their texture coordinates (N,2), v upwards, and its faces (F,3).
    The first V are the body's vertices in their order; after them come those that lie on a seam once more.
    """
    corners, count = np.asarray(character.faces).ravel(), len(character.rest_vertices)
    rows = np.concatenate([corners[:, None], uv.reshape(-1, 2)], 1)
    unique, inverse = np.unique(rows, axis=0, return_inverse=True)  # sorted by vertex
    vertex = unique[:, 0].astype(int)
    first = np.append(True, vertex[1:] != vertex[:-1])
    number = np.where(first, vertex, count - 1 + np.cumsum(~first))
    places = np.zeros((count + int((~first).sum()), 2), np.float32)
    places[number] = unique[:, 1:]
    return np.append(np.arange(count), vertex[~first]), places, number[inverse].reshape(-1, 3)


def material_colour(track_id: int) -> tuple[float, float, float]:
    """A person's colour as the renderer has it, in linear light, which glTF, USD and Blender count colours in."""
    red, green, blue = linear(np.array(track_colour(track_id)) / 255).round(4).tolist()
    return red, green, blue


def base_colour(scene: Scene, character: Character) -> tuple[float, float, float]:
    """A material's own colour: white below a texture, which it is multiplied with; without one the person's."""
    return (1.0, 1.0, 1.0) if scene.texture is not None else material_colour(character.track_id)


# Of people who are not seen. Not 0, which would leave programs nothing to find their bounds by; and USD takes a matrix
# whose determinant is below 1e-10 for none.
HIDDEN_SCALE = 1e-3


def scale_keys(character: Character, frame_range: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Frames (K,) and sizes (K,) float32 that hide a person who is not seen, in every program that moves things.

    Most importers leave a changing visibility out, a size they keep. Each change has a key on the frame before it, too:
    a program that draws lines between keys shows the same on whole frames.
    """
    frames, seen = visibility_keys(character, frame_range)
    keys = np.union1d(frames, frames[1:] - 1)
    shown = seen[np.searchsorted(frames, keys, "right") - 1]
    return keys, np.where(shown, 1.0, HIDDEN_SCALE).astype(np.float32)


def visibility_keys(character: Character, frame_range: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Frames (K,) at which a person begins to be seen or not to be, from the first frame on, and which of the two (K,).

    A person is not seen in gaps, before they come and after they left. Empty where they are seen from first to last.
    """
    first, last = frame_range
    frames, seen = character.frames, character.visible
    if frames[0] > first:
        frames, seen = np.append(first, frames), np.append(False, seen)
    if frames[-1] < last:
        frames, seen = np.append(frames, frames[-1] + 1), np.append(seen, False)
    rows = np.append(0, np.flatnonzero(np.diff(seen)) + 1)
    return (frames[:0], seen[:0]) if seen.all() else (frames[rows], seen[rows])
