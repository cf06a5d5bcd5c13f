"""PC-HMR's designs: what each leaves out or adds, and that a take keeps the one that it was made with."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from hmrkit.body import load_body
from hmrkit.body.posing import posed_mesh
from hmrkit.calibration import CalibrationWeights, calibrate, load_calibration
from hmrkit.calibration.track import calibrated_vertices, refit
from hmrkit.calibration.variants import SelfRotation, ShapeCompensation, load_variant, start_of
from hmrkit.geometry import axis_angle_to_matrix
from hmrkit.skeletons import SMPL_24
from hmrkit.training.calibration_networks import vertex_error
from hmrkit.training.calibration_samples import PairSampler
from hmrkit.types import BodyParams

BODY = load_body()
FULL = load_variant(BODY)
T = 3


def make_params(seed: int) -> BodyParams:
    """A person of some shape and pose, four metres away."""
    generator = torch.Generator().manual_seed(seed)
    rotations = axis_angle_to_matrix(0.3 * torch.randn(T, 24, 3, generator=generator)).numpy()
    betas = torch.randn(10, generator=generator).numpy()
    place = np.tile(np.array([0.2, 0.1, 4.0], np.float32), (T, 1))
    return BodyParams(rotations[:, 0], rotations[:, 1:], betas, place, "neutral", BODY.model_id)


MESH = make_params(0)
TARGET = posed_mesh(BODY, make_params(1)).joints.numpy()


def test_self_rotation_is_about_the_bones_own_axis():
    joints = posed_mesh(BODY, MESH).joints
    along = joints[:, 18:19] + torch.tensor([0.0, 0.3, 1.0])[:, None] * (joints[:, 20:21] - joints[:, 18:19])
    bone = SMPL_24.index["left_wrist"] - 1
    aside = along[:, 1:2] + torch.tensor([0.0, 0.05, 0.02])
    points = torch.cat([along, aside], 1)
    only = torch.zeros(4, 23).index_fill_(1, torch.tensor([bone]), 1.0)
    weights = CalibrationWeights(only, torch.zeros(4, 23), "one bone")
    angles = torch.zeros(T, 23).index_fill_(1, torch.tensor([bone]), 0.7)
    target = torch.from_numpy(TARGET)
    plain, rotated = (calibrate(points, joints, target, weights, self_rotation=a) for a in (None, angles))
    torch.testing.assert_close(rotated[:, :3], plain[:, :3], atol=1e-5, rtol=0)
    axis = torch.nn.functional.normalize(plain[:, 2] - plain[:, 0], dim=-1)
    arm = plain[:, 3] - plain[:, 1]
    expected = (axis_angle_to_matrix(0.7 * axis) @ arm[..., None]).squeeze(-1)
    torch.testing.assert_close(rotated[:, 3] - rotated[:, 1], expected, atol=1e-5, rtol=0)


def test_without_the_non_rigid_term_what_hangs_on_one_bone_keeps_its_shape():
    mesh = posed_mesh(BODY, MESH)
    joints = mesh.joints.numpy()
    longer = joints[:, :1] + 1.2 * (joints - joints[:, :1])
    full, rigid = (load_variant(BODY, learned=False, rigid=rigid) for rigid in (False, True))
    forearm = full.attachment[:, SMPL_24.index["left_wrist"] - 1] > 0.999
    assert forearm.sum() > 20
    before, kept, stretched = (
        torch.cdist(torch.as_tensor(vertices)[:, forearm].double(), torch.as_tensor(vertices)[:, forearm].double())
        for vertices in (mesh.vertices, *(calibrated_vertices(BODY, MESH, longer, w) for w in (rigid, full)))
    )
    torch.testing.assert_close(kept, before, atol=1e-5, rtol=0)
    assert (stretched - before).max() > 0.005


def test_the_template_forgets_the_mesh_stream_and_is_the_mean_body_on_its_own_joints():
    template = load_variant(BODY, template=True)
    other = make_params(2)
    first, second = (calibrated_vertices(BODY, params, TARGET, template) for params in (MESH, other))
    np.testing.assert_array_equal(first, second)
    assert np.abs(first - calibrated_vertices(BODY, MESH, TARGET, FULL)).max() > 0.02
    rest = replace(MESH, body_pose=np.tile(np.eye(3, dtype=np.float32), (T, 23, 1, 1)), betas=np.zeros(10, np.float32))
    mesh = posed_mesh(BODY, rest)
    laid = start_of(BODY, MESH, mesh.joints.numpy(), template)
    np.testing.assert_allclose(laid.global_orient, rest.global_orient, atol=1e-4)
    np.testing.assert_allclose(posed_mesh(BODY, laid).vertices, mesh.vertices, atol=1e-4)
    np.testing.assert_allclose(calibrated_vertices(BODY, MESH, mesh.joints.numpy(), template), mesh.vertices, atol=1e-4)
    fitted, _ = refit(BODY, MESH, TARGET, template)
    assert not fitted.betas.any()


@pytest.mark.parametrize("make", [lambda: SelfRotation(8), lambda: ShapeCompensation(BODY, 8)])
def test_an_extra_network_begins_as_the_plain_calibration_and_learns_from_meshes(make):
    torch.manual_seed(0)
    network = make()
    plain = calibrated_vertices(BODY, MESH, TARGET, FULL)
    np.testing.assert_allclose(
        calibrated_vertices(BODY, MESH, TARGET, replace(FULL, network=network)), plain, atol=1e-5
    )
    pairs = PairSampler("train")(4, torch.Generator().manual_seed(0))
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    errors = []
    for _ in range(4):
        errors.append(vertex_error(network, pairs, BODY, FULL))
        optimiser.zero_grad()
        errors[-1].backward()
        optimiser.step()
    assert errors[-1] < errors[0]
    changed = calibrated_vertices(BODY, MESH, TARGET, replace(FULL, network=network))
    assert np.abs(changed - plain).max() > 1e-4
    # What a network adds does not depend on where the person is or which way the camera looks.
    rotation = axis_angle_to_matrix(torch.tensor([0.3, -1.0, 0.5])).numpy()
    pelvis = TARGET[:, :1]
    around = replace(MESH, global_orient=rotation @ MESH.global_orient)
    moved = calibrated_vertices(
        BODY, around, (TARGET - pelvis) @ rotation.T + pelvis + 1, replace(FULL, network=network)
    )
    np.testing.assert_allclose(moved, (changed - pelvis) @ rotation.T + pelvis + 1, atol=2e-4)


def test_geometric_weights_are_the_bodys_own():
    geometric = load_variant(BODY, learned=False)
    assert geometric.weights_sha256 == f"geometric-{BODY.topology_id}"
    assert load_variant(BODY).weights_sha256 == load_calibration(BODY).weights_sha256
