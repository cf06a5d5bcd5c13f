"""SMPL-H and SMPL-X files as bodies of 24 joints: posed they equal smplx's own, and the chain runs on them."""

import sys

import numpy as np
import pytest
import torch
from films import write_film
from made_smpl import make_with_fingers

import hmrkit
from hmrkit.body import load_body
from hmrkit.body.files import read_smpl_file
from hmrkit.body.landmarks import body_landmarks
from hmrkit.body.smplx_files import smplx_model
from hmrkit.errors import WeightsError
from hmrkit.geometry import axis_angle_to_matrix

FORMS = {"smplh": (52, 6890, "smpl"), "smplx": (55, 10475, "smplx")}


@pytest.fixture(scope="module", params=FORMS)
def form(request, tmp_path_factory):
    pytest.importorskip("smplx")
    joints, vertices, family = FORMS[request.param]
    path = tmp_path_factory.mktemp("bodies") / f"{request.param.upper()}_FEMALE.npz"
    return make_with_fingers(path, joints), vertices, family


def test_posed_vertices_equal_smplxs_with_flat_hands(form):
    path, vertices, family = form
    body, reference = load_body(path), smplx_model(read_smpl_file(path))
    assert (body.num_vertices, body.family, body.gender) == (vertices, family, "female")
    assert body.model_id.startswith(f"{family}-")
    random = torch.Generator().manual_seed(0)
    pose = 0.6 * torch.randn(4, 22, 3, generator=random)
    betas, transl = torch.randn(4, 10, generator=random), torch.randn(4, 3, generator=random)
    matrices = axis_angle_to_matrix(torch.cat([pose, torch.zeros(4, 2, 3)], 1))
    ours = body(matrices[:, 0], matrices[:, 1:], betas, transl)
    for i in range(4):
        orient, rest = pose[i, :1], pose[i, 1:].reshape(1, -1)
        theirs = reference(betas=betas[i, None], global_orient=orient, body_pose=rest, transl=transl[i, None])
        torch.testing.assert_close(ours.vertices[i], theirs.vertices[0], rtol=0, atol=1e-5)
        torch.testing.assert_close(ours.joints[i, :22], theirs.joints[0, :22], rtol=0, atol=1e-5)
        middle = [len(reference.parents) - 30 + 3, len(reference.parents) - 15 + 3]  # the bases of the middle fingers
        torch.testing.assert_close(ours.joints[i, 22:], theirs.joints[0, middle], rtol=0, atol=1e-5)


def test_a_hand_carries_its_fingers(form):
    path, *_ = form
    body = load_body(path)
    pose = torch.eye(3).expand(1, 23, 3, 3).clone()
    pose[0, 21] = axis_angle_to_matrix(torch.tensor([0.0, 0.0, 1.0]))  # the left hand
    moved = (body(body_pose=pose).vertices - body().vertices)[0].norm(dim=-1) > 1e-6
    hand = body.weights[:, 22] > 1e-6
    assert hand.sum() > 50
    assert not moved[~hand].any()


def test_landmarks_lie_at_smplxs_vertices(form):
    path, _, family = form
    body = load_body(path)
    points = dict(zip(body_landmarks(body).names, body_landmarks(body).rest(torch.zeros(10)), strict=True))
    nose, heel = (332, 3387) if family == "smpl" else (9120, 8846)
    torch.testing.assert_close(points["nose"], body().vertices[0, nose], rtol=0, atol=1e-6)
    torch.testing.assert_close(points["left_heel"], body().vertices[0, heel], rtol=0, atol=1e-6)


def test_the_whole_chain_runs_on_it(form, tmp_path):
    path, vertices, family = form
    film = str(write_film(tmp_path / "walk.mp4"))
    toys = {"detector": "toy", "tracker": "toy", "keypoints": "toy", "lifter": "toy", "device": "cpu"}
    take = hmrkit.run(film, **toys, body=str(path), refine=False)
    params = take.calibrated[1].params
    assert params.model.startswith(f"{family}-")
    assert params.gender == "female"
    assert np.isfinite(take.calibrated[1].joints_c).all()
    mesh = load_body(path)(params.global_orient, params.body_pose, params.betas, params.transl_c)
    assert mesh.vertices.shape == (12, vertices, 3)
    assert mesh.vertices.isfinite().all()


def test_without_smplx_one_line_says_what_to_do(tmp_path, monkeypatch):
    for joints, kind in ((52, "SMPLH"), (55, "SMPLX")):
        path = make_with_fingers(tmp_path / f"{kind}_MALE.npz", joints)
        with monkeypatch.context() as without:
            without.setitem(sys.modules, "smplx", None)
            without.setitem(sys.modules, "smplx.joint_names", None)
            with pytest.raises(WeightsError, match=rf"{kind}_MALE.*{joints}.*pip install hmrkit\[smplx\]") as caught:
                load_body(path)
        assert "\n" not in str(caught.value)


def test_a_damaged_file_is_one_line(tmp_path):
    pytest.importorskip("smplx")
    path = make_with_fingers(tmp_path / "SMPLX_NEUTRAL.npz", 55)
    with np.load(path) as whole:
        parts = dict(whole)
    np.savez(path, **{**parts, "posedirs": parts["posedirs"][:100]})
    with pytest.raises(WeightsError, match="SMPLX_NEUTRAL") as caught:
        load_body(path)
    assert "\n" not in str(caught.value)
    np.savez(path, **{**parts, "kintree_table": np.tile(np.arange(55), (2, 1))})
    with pytest.raises(WeightsError, match="tree of 55 joints"):
        load_body(path)
    del parts["weights"]
    np.savez(path, **parts)
    with pytest.raises(WeightsError, match="lacks weights"):
        load_body(path)
