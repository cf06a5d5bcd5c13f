"""The parts of the body's recipe that need no MakeHuman, and whether the shipped body is what the recipe says."""

import subprocess
import sys

import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from hmrkit.body.files import GENDERS, find_body, read_smpl_file
from hmrkit.skeletons import SMPL_24
from hmrkit.training.make_body.assembly import EXTRA_JOINTS, MODEL_ID, _principal_shapes
from hmrkit.training.make_body.corrections import fit_pose_blend_shapes, rotation_centres
from hmrkit.training.make_body.decimation import decimate
from hmrkit.training.make_body.regression import fit_regressor
from hmrkit.training.make_body.surface import boundary_loops, mirror_map, zip_loop
from hmrkit.training.make_body.tpose import _world_rotations


@pytest.fixture(scope="module")
def sphere():
    mesh = trimesh.creation.icosphere(subdivisions=3)  # its triangles are symmetric too
    return np.asarray(mesh.vertices), np.asarray(mesh.faces)


def test_decimation_keeps_the_surface_closed_symmetric_and_in_place(sphere):
    vertices, faces = sphere
    mirror = mirror_map(vertices)
    shapes = np.stack([vertices, vertices * [1.2, 0.8, 1.0]])
    locked = [5, int(mirror[5])]
    keep, thin = decimate(shapes, faces, mirror, 150, locked)
    mesh = trimesh.Trimesh(vertices[keep], thin, process=False)
    assert len(keep) in (149, 150)
    assert mesh.is_watertight
    assert mesh.euler_number == 2
    assert mesh.is_winding_consistent
    assert set(locked) <= set(keep.tolist())
    assert set(mirror[keep].tolist()) == set(keep.tolist())
    place = {v: i for i, v in enumerate(keep.tolist())}
    over = np.array([place[int(mirror[v])] for v in keep])
    assert {frozenset(f) for f in over[thin].tolist()} == {frozenset(f) for f in thin.tolist()}
    assert mesh.volume == pytest.approx(trimesh.Trimesh(vertices, faces).volume, rel=0.06)


def test_an_opening_is_found_and_zipped(sphere):
    vertices, faces = sphere
    open_faces = faces[vertices[faces][:, :, 1].mean(1) < 0.9]
    (loop,) = boundary_loops(open_faces)
    closed = np.concatenate([open_faces, np.array(zip_loop(loop, vertices))])
    mesh = trimesh.Trimesh(vertices, closed)
    assert mesh.is_watertight
    assert mesh.is_winding_consistent


def test_a_lopsided_mesh_has_no_mirror_map(sphere):
    with pytest.raises(ValueError, match="symmetric"):
        mirror_map(sphere[0] + [0.01, 0, 0])


def test_regressor_finds_joints_that_are_means_of_vertices(sphere):
    vertices, _ = sphere
    random = np.random.default_rng(0)
    mirror = mirror_map(vertices)
    shapes = vertices * random.uniform(0.7, 1.3, (200, 1, 3))
    left, middle = np.argsort(-vertices[:, 0])[:12], np.argsort(-vertices[:, 1])[:8]
    middle = np.union1d(middle, mirror[middle])
    joints = np.stack([shapes[:, i].mean(1) for i in (middle, left, mirror[left])], 1)
    rows = fit_regressor(shapes, joints, mirror, [0, 2, 1], train=100)
    assert (rows >= 0).all()
    np.testing.assert_allclose(rows.sum(1), 1)
    np.testing.assert_allclose(rows[2, mirror], rows[1], atol=1e-12)
    np.testing.assert_allclose(np.einsum("jv,nvc->njc", rows, shapes[100:]), joints[100:], atol=0.01)


def test_limbs_end_up_along_the_axes():
    """Whatever the A-pose was: arms along x, the knuckle line level, and mirrored rotations on the other side."""
    left = {
        "upperarm01": (0.15, 1.4, 0), "lowerarm01": (0.35, 1.2, 0.02), "wrist": (0.55, 1.05, 0.1),
        "finger2-1": (0.61, 1.0, 0.15), "finger3-1": (0.62, 0.99, 0.13), "finger4-1": (0.62, 0.98, 0.11),
        "finger5-1": (0.61, 0.98, 0.09), "upperleg01": (0.1, 0.95, 0), "upperleg02": (0.12, 0.8, 0),
        "lowerleg01": (0.15, 0.5, 0.02), "foot": (0.16, 0.08, 0), "toe1-1": (0.15, 0.03, 0.12),
        "toe3-1": (0.2, 0.03, 0.1),
    }  # fmt: skip
    names = [name + side for name in left for side in (".L", ".R")]
    heads = np.array([np.array(place) * sign for place in left.values() for sign in ([1, 1, 1], [-1, 1, 1])])
    bone = {name: i for i, name in enumerate(names)}
    rotations = _world_rotations(heads, bone)
    for side, sign in ((".L", 1), (".R", -1)):
        upper = rotations["upperarm01" + side] @ (heads[bone["lowerarm01" + side]] - heads[bone["upperarm01" + side]])
        lower = rotations["lowerarm01" + side] @ (heads[bone["wrist" + side]] - heads[bone["lowerarm01" + side]])
        across = rotations["wrist" + side] @ (heads[bone["finger2-1" + side]] - heads[bone["finger5-1" + side]])
        for limb in (upper, lower):
            np.testing.assert_allclose(limb / np.linalg.norm(limb), [sign, 0, 0], atol=1e-9)
        assert across[2] > 0
        assert abs(across[1]) < 1e-9
    flip = np.diag([-1.0, 1, 1])
    for name in left:
        if name + ".L" in rotations:
            np.testing.assert_allclose(rotations[name + ".R"], flip @ rotations[name + ".L"] @ flip, atol=1e-9)
            assert Rotation.from_matrix(rotations[name + ".L"]).magnitude() < 2


def test_principal_shapes_give_back_shapes_of_ten_dimensions(sphere):
    vertices = sphere[0]
    random = np.random.default_rng(1)
    directions = random.normal(size=(10, *vertices.shape))
    people = vertices + np.einsum("nk,kvc->nvc", random.normal(size=(80, 10)), directions) * 0.05
    template, shapedirs, figures = _principal_shapes(people)
    assert figures["explained_by_10"] == 1.0
    assert figures["residual_mm"] == 0.0
    flat = shapedirs.reshape(-1, 10)
    betas = (people - template).reshape(80, -1) @ np.linalg.pinv(flat).T
    np.testing.assert_allclose(betas.std(0, ddof=1), 1, atol=1e-6)  # one unit of a component is one standard deviation
    np.testing.assert_allclose(template, people.mean(0))


def test_centres_of_a_rigid_part_are_its_own_vertices_and_of_a_blend_lie_inside(sphere):
    vertices, faces = sphere
    share = np.clip(vertices[:, 1] + 0.5, 0, 1)
    weights = np.stack([share, 1 - share], 1)
    centres = rotation_centres(vertices, faces, weights)
    rigid = (share == 0) | (share == 1)
    np.testing.assert_array_equal(centres[rigid], vertices[rigid])
    blend = np.abs(share - 0.5) < 0.2
    assert np.linalg.norm(centres[blend][:, [0, 2]], axis=1).max() < 0.1  # near the axis of the bend


@pytest.mark.parametrize("gender", GENDERS)
def test_the_shipped_body_keeps_what_the_recipe_promises(gender):
    body = read_smpl_file(find_body(gender=gender))
    mesh = trimesh.Trimesh(body["v_template"], body["f"], process=False)
    assert str(body["model_id"]) == MODEL_ID
    assert mesh.is_watertight
    assert mesh.euler_number == 2
    assert mesh.volume > 0.04
    assert (body["weights"] > 0).sum(1).max() <= 6
    for rows in (body["weights"], body["J_regressor"], body["keypoint_regressor"]):
        assert rows.min() >= 0
        np.testing.assert_allclose(rows.sum(1), 1, atol=1e-5)
    mirror = body["vertex_mirror"]
    np.testing.assert_allclose(body["v_template"][mirror] * [-1, 1, 1], body["v_template"], atol=5e-4)
    np.testing.assert_allclose(body["weights"][mirror][:, SMPL_24.mirror], body["weights"], atol=1e-6)
    np.testing.assert_allclose(body["J_regressor"] @ body["v_template"], body["J"], atol=1e-5)
    place = {name: body["v_template"][index] for name, index in EXTRA_JOINTS.items()}
    assert place["lmiddle"][0] > 0.7
    assert place["rmiddle"][0] < -0.7
    assert place["LBigToe"][2] > place["LHeel"][2] + 0.15
    assert place["nose"][2] > place["leye"][2] > place["lear"][2]


def test_the_recipe_gives_the_shipped_pose_blend_shapes_again():
    body = read_smpl_file(find_body())
    again = fit_pose_blend_shapes(
        body["v_template"].astype(float), body["f"].astype(int), body["weights"].astype(float),
        body["J"].astype(float), body["vertex_mirror"].astype(int), np.random.default_rng(1),
    )  # fmt: skip
    again[np.abs(again) < 2e-4] = 0
    assert np.abs(again - body["posedirs"]).max() < 3e-4  # float32 inputs move entries across the threshold
    assert np.abs(body["posedirs"]).max() > 0.01


def test_without_anny_the_command_says_what_to_install(tmp_path):
    code = "import sys; sys.modules['anny'] = None; sys.argv = ['x', '--out', sys.argv[1]];"
    code += "from hmrkit.training.make_body.__main__ import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install anny==0.6.2" in done.stderr
    assert "Traceback" not in done.stderr
