"""PC-HMR's calibration: what it must leave alone, where joints must land, and how far it may stretch a mesh."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from hmrkit.body import load_body
from hmrkit.calibration import (
    CalibrationWeights,
    bone_transforms,
    calibrate,
    geometric_calibration,
    initial_weights,
    load_calibration,
    save_calibration,
)
from hmrkit.errors import ModelMismatchError, WeightsError
from hmrkit.geometry import axis_angle_to_matrix, rotation_between
from hmrkit.skeletons import SMPL_24

BODY = load_body()
WEIGHTS = load_calibration(BODY)
PARENTS = list(SMPL_24.parents[1:])
FACES = torch.as_tensor(BODY.faces).long()
EDGES = torch.cat([FACES[:, [0, 1]], FACES[:, [1, 2]], FACES[:, [2, 0]]])
FAR = torch.tensor([0.4, -0.2, 6.0])


def random_rotations(count: int, degrees: float, seed: int) -> torch.Tensor:
    """(count,24,3,3), every one by up to `degrees`."""
    generator = torch.Generator().manual_seed(seed)
    axes = torch.nn.functional.normalize(torch.randn(count, 24, 3, generator=generator), dim=-1)
    return axis_angle_to_matrix(axes * torch.rand(count, 24, 1, generator=generator) * np.radians(degrees))


def posed(rotations: torch.Tensor):
    return BODY(rotations[:, 0], rotations[:, 1:], transl=FAR.expand(len(rotations), 3))


def edge_lengths(vertices: torch.Tensor) -> torch.Tensor:
    return (vertices[:, EDGES[:, 0]] - vertices[:, EDGES[:, 1]]).norm(dim=-1)


MESH = posed(random_rotations(8, 30, seed=0))


def test_a_mesh_calibrated_to_its_own_pose_is_unchanged():
    moved = calibrate(MESH.vertices, MESH.joints, MESH.joints, WEIGHTS)
    assert (moved - MESH.vertices).abs().max() < 1e-6


@pytest.mark.parametrize("rotations", ["paper", "chain"])
def test_bones_are_carried_onto_the_targets_bones(rotations):
    generator = torch.Generator().manual_seed(1)
    start, target = torch.randn(2, 50, 24, 3, generator=generator, dtype=torch.float64)
    psi, translation, delta = bone_transforms(start, target, rotations=rotations)
    assert_close(psi @ psi.mT, torch.eye(3, dtype=torch.float64).expand_as(psi))
    parent = (psi @ start[:, PARENTS, :, None]).squeeze(-1) + translation
    child = (psi @ start[:, 1:, :, None]).squeeze(-1) + translation + delta
    assert_close(parent, target[:, PARENTS])
    assert_close(child, target[:, 1:])


def test_the_papers_rotation_is_rodrigues_of_equation_6():
    generator = torch.Generator().manual_seed(2)
    start, target = torch.randn(2, 50, 24, 3, generator=generator, dtype=torch.float64)
    a, b = (x[:, 1:] - x[:, PARENTS] for x in (start, target))
    cross = torch.linalg.cross(a, b)
    angle = torch.arccos((a * b).sum(-1) / a.norm(dim=-1) / b.norm(dim=-1))
    expected = axis_angle_to_matrix(angle[..., None] * cross / cross.norm(dim=-1, keepdim=True))
    psi, _, delta = bone_transforms(start, target)
    assert_close(psi, expected)
    assert_close(delta.norm(dim=-1), (b.norm(dim=-1) - a.norm(dim=-1)).abs())  # nothing but a change of length is left


def test_calibrate_is_equations_12_and_13():
    target = posed(random_rotations(8, 40, seed=3)).joints * 1.1
    psi, translation, delta = bone_transforms(MESH.joints[:2], target[:2], rotations="chain")
    expected = torch.zeros(2, BODY.num_vertices, 3)
    for bone in range(23):
        alone = MESH.vertices[:2] @ psi[:, bone].mT + translation[:, bone, None]
        alone = alone + WEIGHTS.place[:, bone, None] * delta[:, bone, None]
        expected += WEIGHTS.attachment[:, bone, None] * alone
    assert_close(calibrate(MESH.vertices[:2], MESH.joints[:2], target[:2], WEIGHTS), expected, atol=2e-5, rtol=0)


def test_opposite_and_parallel_bones_give_finite_meshes_and_gradients():
    target = (2 * MESH.joints[:, :1] - MESH.joints).requires_grad_()
    moved = calibrate(MESH.vertices, MESH.joints, target, WEIGHTS)
    paper = bone_transforms(MESH.joints, target)[0]
    assert moved.isfinite().all()
    assert_close(paper @ paper.mT, torch.eye(3).expand_as(paper), atol=1e-5, rtol=0)
    own = MESH.joints.clone().requires_grad_()
    calibrate(MESH.vertices, MESH.joints, own, WEIGHTS).square().sum().backward()
    assert own.grad is not None
    assert own.grad.isfinite().all()


def test_points_rigid_to_the_bones_land_on_the_target_joints():
    """Every joint, attached as the vertices about it are, is carried onto the target's by all bones that meet there."""
    target = posed(random_rotations(8, 40, seed=4)).joints
    joints = torch.arange(1, 24)
    ends, starts = torch.zeros(2, 23, 23)
    ends[joints - 1, joints - 1] = 1
    for child in range(1, 24):
        starts[child - 1, (PARENTS.index(child) if child in PARENTS else child - 1)] = 1
    for attachment, place in ((ends, ends), (starts, ends), (0.3 * ends + 0.7 * starts, ends)):
        weights = CalibrationWeights(attachment, place, BODY.topology_id)
        assert_close(calibrate(MESH.joints[:, 1:], MESH.joints, target, weights), target[:, 1:], atol=1e-5, rtol=0)


def test_the_calibrated_meshs_own_joint_rings_follow_the_target():
    """Measured on the surface, against the body skinned into the target pose (whose twists the joints do not tell)."""
    start = random_rotations(8, 10, seed=5)
    truth = posed(random_rotations(8, 20, seed=6) @ start)
    mesh = posed(start)
    moved = calibrate(mesh.vertices, mesh.joints, truth.joints, WEIGHTS)
    rest = (BODY.v_template[None] - BODY.joints_only().joints[0, :, None]).norm(dim=-1)
    nearest = rest.topk(60, largest=False).indices  # (24,60) vertices about every joint
    middle = [x[:, nearest].mean(2) for x in (moved, truth.vertices)]
    assert (middle[0] - middle[1]).norm(dim=-1).mean() < 0.012
    assert (moved - truth.vertices).norm(dim=-1).mean() < 0.010


def test_longer_bones_stretch_the_mesh_and_keep_it_smooth():
    root = MESH.joints[:, :1]
    moved = calibrate(MESH.vertices, MESH.joints, root + 1.1 * (MESH.joints - root), WEIGHTS)
    ratio = (edge_lengths(moved) / edge_lengths(MESH.vertices)).flatten()
    assert ratio.quantile(0.001) > 0.97
    assert ratio.quantile(0.999) < 1.35
    arm = [SMPL_24.index["left_elbow"] - 1, SMPL_24.index["left_wrist"] - 1]
    rest = BODY.v_template
    stretched = calibrate(rest[None], *_arms_out(), WEIGHTS)[0]
    along = (WEIGHTS.attachment[:, arm].sum(-1) > 0.99) & (rest[:, 0] > 0)
    assert along.sum() > 50
    order = rest[along, 0].argsort()
    moved_out = torch.stack([part.mean() for part in (stretched - rest)[along, 0][order].chunk(8)])
    assert (moved_out.diff() > 0).all()  # the further out, the further moved


def _arms_out() -> tuple[torch.Tensor, torch.Tensor]:
    """Rest joints, and the same with both left arm bones 10 % longer."""
    rest = BODY.joints_only().joints
    target, index = rest.clone(), SMPL_24.index
    for start, end in (("left_shoulder", "left_elbow"), ("left_elbow", "left_wrist")):
        longer = 0.1 * (rest[:, index[end]] - rest[:, index[start]])
        moving = [j for j in range(24) if _is_below(j, index[end])]
        target[:, moving] += longer[:, None]
    return rest, target


def _is_below(joint: int, ancestor: int) -> bool:
    while joint not in (ancestor, -1):
        joint = SMPL_24.parents[joint]
    return joint == ancestor


def test_a_target_rotated_as_a_whole_rotates_the_mesh_as_a_whole():
    target = posed(random_rotations(8, 35, seed=7)).joints
    rotation, shift = axis_angle_to_matrix(torch.tensor([0.4, 2.0, -0.9])), torch.tensor([1.0, 2.0, 3.0])
    moved = calibrate(MESH.vertices, MESH.joints, target, WEIGHTS)
    rotated = calibrate(MESH.vertices, MESH.joints, target @ rotation.T + shift, WEIGHTS)
    assert_close(rotated, moved @ rotation.T + shift, atol=5e-5, rtol=0)
    alone = calibrate(MESH.vertices, MESH.joints, MESH.joints @ rotation.T, WEIGHTS)
    assert_close(alone, MESH.vertices @ rotation.T, atol=5e-5, rtol=0)


def test_no_vertex_is_torn_when_every_joint_rotates_by_up_to_40_degrees():
    """Bound: 4.5 times the longer of an edge's length before and at rest, 1.8 times for all but 0.1 % of edges, and
    never more than the body's own skinning stretches it on the way to the same pose (measured: 4.3, 1.54, 4.5)."""
    start = random_rotations(24, 20, seed=8)
    mesh, truth = posed(start), posed(start @ random_rotations(24, 40, seed=9))
    before = torch.maximum(edge_lengths(mesh.vertices), edge_lengths(BODY.v_template[None]))
    ratio = edge_lengths(calibrate(mesh.vertices, mesh.joints, truth.joints, WEIGHTS)) / before
    assert ratio.max() < min(4.5, float((edge_lengths(truth.vertices) / before).max()))
    assert np.quantile(ratio.numpy(), 0.999) < 1.8


def test_arrays_in_arrays_out_and_batch_size_changes_nothing():
    target = posed(random_rotations(8, 30, seed=10)).joints
    together = calibrate(MESH.vertices.numpy(), MESH.joints.numpy(), target.numpy(), WEIGHTS)
    assert isinstance(together, np.ndarray)
    assert together.dtype == np.float32
    alone = calibrate(MESH.vertices[5:6], MESH.joints[5:6], target[5:6], WEIGHTS)
    np.testing.assert_allclose(together[5:6], alone.numpy(), atol=2e-6)


def test_gradients_reach_poses_meshes_and_weights():
    attachment, place = (x.clone().requires_grad_() for x in (WEIGHTS.attachment, WEIGHTS.place))
    vertices, target = MESH.vertices.clone().requires_grad_(), (1.05 * MESH.joints).requires_grad_()
    learned = CalibrationWeights(attachment, place, BODY.topology_id)
    calibrate(vertices, MESH.joints, target, learned).square().mean().backward()
    for tensor in (attachment, place, vertices, target):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()
        assert tensor.grad.abs().sum() > 0


def test_initial_weights_are_shares_and_places():
    attachment, place = initial_weights(BODY.v_template, BODY.joints_only().joints[0], BODY.weights)
    assert_close(attachment.sum(-1), torch.ones(BODY.num_vertices))
    assert place.min() >= 0
    assert place.max() <= 1
    head = BODY.weights[:, SMPL_24.index["head"]] > 0.999
    assert head.sum() > 100
    assert (place[head, SMPL_24.index["head"] - 1] == 1).all()


def test_weights_are_stored_and_are_refused_by_another_body(tmp_path):
    made = initial_weights(BODY.v_template, BODY.joints_only().joints[0], BODY.weights)
    path = tmp_path / "learned.safetensors"
    save_calibration(CalibrationWeights(*made, BODY.topology_id), path)
    again = load_calibration(BODY, path)
    assert_close(again.attachment, made[0], atol=2e-3, rtol=0)
    assert_close(again.attachment * again.place, made[0] * made[1], atol=2e-3, rtol=0)
    assert len(again.weights_sha256) == 64
    save_calibration(CalibrationWeights(*made, "smpl-01234567"), path)
    with pytest.raises(ModelMismatchError, match="smpl-01234567"):
        load_calibration(BODY, path)
    with pytest.raises(WeightsError):
        load_calibration(BODY, tmp_path / "absent.safetensors")


def test_a_body_without_stored_weights_gets_those_of_its_geometry(monkeypatch):
    monkeypatch.setattr(BODY, "topology_id", "smpl-01234567")
    geometric = geometric_calibration(BODY)
    assert_close(load_calibration(BODY).attachment, geometric.attachment, rtol=0, atol=0)
    assert load_calibration(BODY).weights_sha256 == "geometric-smpl-01234567"


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="two poses"):
        bone_transforms(MESH.joints, MESH.joints[:, :17])
    with pytest.raises(ValueError, match="expected vertices"):
        calibrate(MESH.vertices[:, :100], MESH.joints, MESH.joints, WEIGHTS)


def test_rotation_between_is_what_a_lone_bone_gets():
    parents = (-1, 0)
    start = torch.tensor([[[0.0, 0, 0], [0, 1, 0]]])
    target = torch.tensor([[[1.0, 0, 0], [1, 0, 3]]])
    psi, translation, delta = bone_transforms(start, target, parents)
    assert_close(psi[0, 0], rotation_between(torch.tensor([0.0, 1, 0]), torch.tensor([0.0, 0, 1])))
    assert_close(translation[0, 0], torch.tensor([1.0, 0, 0]))
    assert_close(delta[0, 0], torch.tensor([0.0, 0, 2]))
