"""MakeHuman's mesh to one closed skin: no mouth cavity, eye sockets or tongue; and named vertices on it."""

from __future__ import annotations

import numpy as np
import scipy.sparse
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from hmrkit.training.make_body.source import Rest, Source


def mirror_map(vertices: np.ndarray, tolerance: float = 2e-3) -> np.ndarray:
    """Index (V,) of each vertex's counterpart under x -> -x; ValueError where the mesh is not symmetric."""
    distance, counterpart = map(np.asarray, KDTree(vertices).query(vertices * [-1, 1, 1]))
    if distance.max() >= tolerance or (counterpart[counterpart] != np.arange(len(vertices))).any():
        raise ValueError(f"expected a mesh symmetric in x within {tolerance} m, found {distance.max():.4f} m")
    return counterpart


def outer_surface(source: Source, vertices: np.ndarray) -> tuple[np.ndarray, dict[str, int]]:
    """Faces (F,3) of the closed skin on a mean shape (V,3), and the vertices of the eyes' tips.

    Faces of cavities are dropped and every opening closed: the lids by a fan whose tip is the front-most vertex of the
    eyeball, so that eyes bulge as they should; lips and the like are zipped, for they are nearly slits.
    """
    pieces = _pieces(source.faces, len(vertices))
    body = np.argmax(np.bincount(pieces))
    eyes = []
    for piece in range(pieces.max() + 1):
        inside = pieces == piece
        if piece != body and inside.sum() > 60 and abs(vertices[inside, 0].mean()) > 0.01:
            eyes.append(np.nonzero(inside)[0])
    skin = source.faces[pieces[source.faces[:, 0]] == body]
    cavity = np.isin(source.base, source.cavity_vertices)
    skin = skin[~cavity[skin].all(1)]
    pieces = _pieces(skin, len(vertices))
    skin = skin[pieces[skin[:, 0]] == np.argmax(np.bincount(pieces[np.unique(skin)]))]

    closing: list[tuple[int, int, int]] = []
    tips: dict[str, int] = {}
    for loop in boundary_loops(skin):
        middle = vertices[loop].mean(0)
        near = [eye for eye in eyes if np.linalg.norm(vertices[eye].mean(0) - middle) < 0.03]
        if not near:
            closing += zip_loop(loop, vertices)
            continue
        tip = int(near[0][np.argmax(vertices[near[0], 2])])
        tips["left_eye" if vertices[tip, 0] > 0 else "right_eye"] = tip
        closing += [(after, vertex, tip) for vertex, after in zip(loop, loop[1:] + loop[:1], strict=True)]
    return np.concatenate([skin, np.array(closing, int)]), tips


def boundary_loops(faces: np.ndarray) -> list[list[int]]:
    """Closed loops of vertices along edges that only one face has, in that face's direction."""
    edges = {(int(face[k]), int(face[(k + 1) % 3])): None for face in faces for k in range(3)}  # a set, but in order
    following = {a: b for a, b in edges if (b, a) not in edges}
    loops = []
    while following:
        start = next(iter(following))
        loop, vertex = [start], following.pop(start)
        while vertex != start:
            loop.append(vertex)
            vertex = following.pop(vertex)
        loops.append(loop)
    return loops


def zip_loop(loop: list[int], vertices: np.ndarray) -> list[tuple[int, int, int]]:
    """Triangles of least area that close a loop (dynamic programme over its spans; for small loops)."""
    count, points = len(loop), vertices[loop]
    best, cut = np.full((count, count), np.inf), np.zeros((count, count), int)
    for first in range(count - 1):
        best[first, first + 1] = 0
    for span in range(2, count):
        for first in range(count - span):
            last = first + span
            for middle in range(first + 1, last):
                area = np.linalg.norm(np.cross(points[middle] - points[first], points[last] - points[first]))
                area += 1e-3 * np.linalg.norm(points[first] - points[last]) ** 2  # breaks ties on flat slits
                cost = best[first, middle] + best[middle, last] + area
                if cost < best[first, last]:
                    best[first, last], cut[first, last] = cost, middle
    triangles, todo = [], [(0, count - 1)]
    while todo:
        first, last = todo.pop()
        if last - first < 2:
            continue
        middle = int(cut[first, last])
        triangles.append((loop[last], loop[middle], loop[first]))
        todo += [(first, middle), (middle, last)]
    return triangles


def named_vertices(
    source: Source, shape: Rest, skin: np.ndarray, eye_tips: dict[str, int], mirror: np.ndarray
) -> dict[str, int]:
    """Vertices of nose, eyes, ears, finger tips, toes and heels on one T-posed `shape` (N = 1), by smplx's names."""
    vertices, heads, tails = shape.vertices[0], shape.heads[0], shape.tails[0]
    coco = {name: (w[source.base] / w[source.base].sum()) @ vertices for name, w in source.keypoints.items()}
    on_skin = np.zeros(len(vertices), bool)
    on_skin[skin] = True

    def tip(bone: str) -> int:
        """The vertex farthest along the bone that is also near its axis."""
        index = source.bone[bone]
        along = (tails[index] - heads[index]) / np.linalg.norm(tails[index] - heads[index])
        own = np.nonzero(on_skin & (source.weights[:, index] > 0.5))[0]
        offset = vertices[own] - heads[index]
        reach = offset @ along
        aside = np.linalg.norm(offset - np.outer(reach, along), axis=1)
        return int(own[np.argmax(reach - 0.6 * aside)])

    near_nose = np.linalg.norm(vertices - coco["nose"], axis=1) < 0.04
    ridge = np.nonzero(on_skin & near_nose & (np.abs(vertices[:, 0]) < 1e-4))[0]
    found = {"nose": int(ridge[np.argmax(vertices[ridge, 2])]), "leye": int(eye_tips["left_eye"])}
    on = np.nonzero(on_skin)[0]
    ear = coco["left_ear"] + [0.02, 0, 0]  # the keypoint lies inside the head, the ear's rim outside
    found["lear"] = int(on[np.argmin(np.linalg.norm(vertices[on] - ear, axis=1))])
    for number, finger in enumerate(("thumb", "index", "middle", "ring", "pinky"), 1):
        found["l" + finger] = tip(f"finger{number}-3.L")
    found["LBigToe"], found["LSmallToe"] = tip("toe1-2.L"), tip("toe5-3.L")
    sole = np.nonzero(on_skin & (source.weights[:, source.bone["foot.L"]] > 0.5))[0]
    sole = sole[vertices[sole, 1] < vertices[sole, 1].min() + 0.04]
    found["LHeel"] = int(sole[np.argmin(vertices[sole, 2])])
    for name in list(found):
        if name[0] in "lL":
            found[{"l": "r", "L": "R"}[name[0]] + name[1:]] = int(mirror[found[name]])
    return found


def _pieces(faces: np.ndarray, count: int) -> np.ndarray:
    """Label (V,) of the connected piece that each vertex belongs to."""
    edges = (faces.ravel(), np.roll(faces, 1, 1).ravel())
    graph = scipy.sparse.coo_matrix((np.ones(faces.size), edges), shape=(count, count))
    return connected_components(graph, False)[1]
