"""The body model against the unmodified smplx package, and what must hold for any body."""

import contextlib
import io

import numpy as np
import pytest
import torch

from hmrkit.body import Body, JointRegressor, load_body
from hmrkit.body.files import GENDERS, SMPL_KEYS, find_body, read_smpl_file
from hmrkit.errors import ModelMismatchError, UsageError, WeightsError
from hmrkit.geometry import axis_angle_to_matrix
from hmrkit.skeletons import SMPL_24


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body()


def random_parameters(batch: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    axis_angle = 0.6 * torch.randn(batch, 24, 3, generator=random, dtype=torch.float64)
    rotations = axis_angle_to_matrix(axis_angle).to(dtype)
    return {
        "global_orient": rotations[:, 0],
        "body_pose": rotations[:, 1:],
        "betas": torch.randn(batch, 10, generator=random).to(dtype),
        "transl": torch.randn(batch, 3, generator=random).to(dtype),
    }


def smplx_body(path, **options):
    smplx = pytest.importorskip("smplx")
    with contextlib.redirect_stdout(io.StringIO()):  # it prints a warning about 10 shape components
        return smplx.SMPL("", data_struct=smplx.utils.Struct(**read_smpl_file(path)), **options)


@pytest.mark.parametrize("gender", GENDERS)
def test_equals_smplx_in_vertices_joints_and_gradients(gender):
    body, reference = load_body(gender=gender), smplx_body(find_body(gender=gender))
    parameters = {k: v.requires_grad_() for k, v in random_parameters(40).items()}  # more than one chunk
    ours = body(**parameters)
    theirs = reference(**{**parameters, "global_orient": parameters["global_orient"][:, None]}, pose2rot=False)
    torch.testing.assert_close(ours.vertices, theirs.vertices, rtol=0, atol=1e-5)
    torch.testing.assert_close(ours.joints, theirs.joints[:, :24], rtol=0, atol=1e-5)
    weights = torch.randn(40, body.num_vertices, 3, generator=torch.Generator().manual_seed(1))
    gradients = [
        torch.autograd.grad((out.vertices * weights).sum(), list(parameters.values())) for out in (ours, theirs)
    ]
    for name, got, wanted in zip(parameters, *gradients, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-3, atol=0.1, msg=lambda text, name=name: f"{name}: {text}")


def test_batch_and_chunks_change_nothing(body):
    parameters = random_parameters(37)
    together = body(**parameters).vertices
    one_by_one = torch.cat([body(**{k: v[i : i + 1] for k, v in parameters.items()}).vertices for i in range(37)])
    torch.testing.assert_close(together, one_by_one, rtol=0, atol=2e-6)
    assert together.is_contiguous()


def test_one_shape_for_all_frames_equals_its_copies(body):
    parameters = random_parameters(3)
    shared = body(**{**parameters, "betas": parameters["betas"][0]})
    copies = body(**{**parameters, "betas": parameters["betas"][:1].expand(3, 10)})
    torch.testing.assert_close(shared.vertices, copies.vertices, rtol=0, atol=1e-6)


def test_left_out_means_rest_pose(body):
    rest = body()
    assert rest.vertices.shape == (1, 6890, 3)
    assert rest.joints.shape == (1, 24, 3)
    torch.testing.assert_close(rest.vertices[0], body.v_template, rtol=0, atol=1e-6)
    only_shape = body(betas=torch.eye(10)[0])
    stature = [np.ptp(mesh.vertices[0, :, 1].numpy()) for mesh in (rest, only_shape)]
    assert stature[1] - stature[0] == pytest.approx(0.078, abs=0.004)  # the model card's figure


def test_rotating_the_root_rotates_the_whole_body_about_the_pelvis(body):
    parameters = random_parameters(5)
    rotation = random_parameters(1, seed=9)["global_orient"][0]
    rotated = body(**{**parameters, "global_orient": rotation @ parameters["global_orient"]})
    plain = body(**parameters)
    pelvis = plain.joints[:, :1]
    torch.testing.assert_close(rotated.vertices, (plain.vertices - pelvis) @ rotation.T + pelvis, rtol=0, atol=5e-6)
    torch.testing.assert_close(rotated.joints, (plain.joints - pelvis) @ rotation.T + pelvis, rtol=0, atol=5e-6)


def test_mirrored_pose_gives_the_mirrored_mesh(body):
    parameters = random_parameters(4)
    flip = torch.diag(torch.tensor([-1.0, 1.0, 1.0]))
    other = torch.tensor(SMPL_24.mirror)
    rotations = torch.cat([parameters["global_orient"][:, None], parameters["body_pose"]], 1)
    mirrored = (flip @ rotations @ flip)[:, other]
    plain = body(global_orient=rotations[:, 0], body_pose=rotations[:, 1:])
    swapped = body(global_orient=mirrored[:, 0], body_pose=mirrored[:, 1:])
    expected = plain.vertices[:, torch.as_tensor(body.vertex_mirror)] @ flip
    distance = (swapped.vertices - expected).norm(dim=-1)  # the template is symmetric to 0.3 mm, not exactly
    assert distance.max() < 5e-3
    assert distance.mean() < 3e-4
    assert (body.vertex_mirror[body.vertex_mirror] == np.arange(body.num_vertices)).all()


def test_joints_only_equals_the_full_pass_and_transforms_hold_the_joints(body):
    parameters = random_parameters(6)
    full, quick = body(**parameters), body.joints_only(**parameters)
    assert torch.equal(full.joints, quick.joints)
    assert torch.equal(full.joint_rotations, quick.joint_rotations)
    assert quick.vertices.shape == (6, 0, 3)
    assert torch.equal(full.joint_transforms[..., :3, 3], full.joints)
    for joint, parent in enumerate(body.parents):
        local = parameters["body_pose"][:, joint - 1] if joint else parameters["global_orient"]
        before = full.joint_rotations[:, parent] if joint else torch.eye(3)
        torch.testing.assert_close(full.joint_rotations[:, joint], before @ local, rtol=0, atol=1e-5)


def test_without_pose_blend_a_rigid_part_stays_rigid(body):
    head = torch.as_tensor(body.weights[:, SMPL_24.index["head"]] == 1)
    assert head.sum() > 100
    parameters = random_parameters(2)
    still = {k: parameters[k] for k in ("global_orient", "body_pose")}
    out = body(**still, pose_blend=False)
    place = out.joints[:, SMPL_24.index["head"], None]
    local = (out.vertices[:, head] - place) @ out.joint_rotations[:, SMPL_24.index["head"]]
    rest = body.v_template[head] - body().joints[0, SMPL_24.index["head"]]
    torch.testing.assert_close(local, rest.expand_as(local), rtol=0, atol=5e-6)
    assert (body(**still).vertices - out.vertices).abs().max() > 0.01


def test_gradients_in_double_precision():
    body = load_body(dtype=torch.float64)
    parameters = random_parameters(2, dtype=torch.float64)
    picked = torch.tensor([10, 2000, 4321, 6500])

    def some_points(orient, pose, betas, transl):
        out = body(orient, pose, betas, transl)
        return out.vertices[:, picked], out.joints[:, ::5]

    inputs = tuple(value.requires_grad_() for value in parameters.values())
    assert torch.autograd.gradcheck(some_points, inputs, eps=1e-6, atol=1e-7, fast_mode=True)
    assert torch.autograd.gradgradcheck(some_points, inputs, eps=1e-6, atol=1e-6, fast_mode=True)


def test_float64_and_float32_agree():
    single, double = load_body(), load_body(dtype=torch.float64)
    parameters = random_parameters(3, dtype=torch.float64)
    wanted = double(**parameters).vertices
    torch.testing.assert_close(single(**parameters).vertices.double(), wanted, rtol=0, atol=5e-6)
    assert wanted.dtype == torch.float64


def test_half_precision_around_the_body_does_not_reach_it(body):
    parameters = random_parameters(2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = body(**parameters).vertices
    assert torch.equal(inside, body(**parameters).vertices)


@pytest.mark.gpu
def test_cuda_equals_cpu(body):
    parameters = random_parameters(64)
    out = load_body(device="cuda")(**{k: v.cuda() for k, v in parameters.items()})
    torch.testing.assert_close(out.vertices.cpu(), body(**parameters).vertices, rtol=0, atol=1e-5)


def test_other_shapes_are_refused_by_name(body):
    with pytest.raises(
        ValueError, match=r"body_pose: expected \(B,23,3,3\) of rotation matrices.*axis_angle.*\(2, 69\)"
    ):
        body(body_pose=torch.zeros(2, 69))
    with pytest.raises(ValueError, match=r"global_orient: expected \(B,3,3\).*got \(3, 3\)"):
        body(global_orient=torch.eye(3))
    with pytest.raises(ValueError, match=r"betas: expected \(B,10\), got \(1, 300\)"):
        body(betas=torch.zeros(300))
    with pytest.raises(ValueError, match="one batch size"):
        body(betas=torch.zeros(2, 10), transl=torch.zeros(3, 3))


def test_keypoints_follow_the_mesh_and_lie_where_their_names_say(body):
    parameters = random_parameters(3)
    points = body.keypoints(body(**parameters).vertices)
    assert points.shape == (3, 23, 3)
    assert body.keypoint_names[:3] == ("nose", "left_eye", "right_eye")
    rest = dict(zip(body.keypoint_names, body.keypoints(body().vertices)[0], strict=True))
    joints = dict(zip(body.joint_names, body().joints[0], strict=True))
    for name in ("left_elbow", "right_knee", "left_ankle", "right_wrist"):
        assert (rest[name] - joints[name]).norm() < 0.05
    assert rest["left_eye"][0] > 0 > rest["right_eye"][0]
    assert rest["nose"][2] > rest["left_ear"][2]
    assert rest["left_heel"][2] < rest["left_big_toe"][2]


def test_a_regressor_of_another_body_is_refused(body):
    foreign = JointRegressor(np.zeros((17, 6890), np.float32), ("pelvis",) * 17, "smpl-01234567")
    with pytest.raises(ModelMismatchError, match=r"hmrkit-body-0.*smpl-01234567"):
        body.keypoints(body().vertices, foreign)


def official_like() -> dict[str, np.ndarray]:
    """What an official file holds: the seven arrays, 300 shape components, nothing of ours."""
    model = read_smpl_file(find_body())
    model = {key: model[key] for key in SMPL_KEYS}
    model["shapedirs"] = np.concatenate([model["shapedirs"], np.ones((6890, 3, 290), np.float32)], -1)
    return model


def test_a_users_file_has_its_own_id_and_no_keypoints(tmp_path, body):
    np.savez(tmp_path / "SMPL_MALE.npz", **official_like())
    users = load_body(tmp_path / "SMPL_MALE.npz")
    assert users.gender == "male"
    assert users.model_id.startswith("smpl-")
    assert len(users.model_id) == 13
    parameters = random_parameters(2)
    assert torch.equal(users(**parameters).vertices, body(**parameters).vertices)
    with pytest.raises(ModelMismatchError, match="carries no keypoint regressor"):
        users.keypoints(users().vertices)
    with pytest.raises(ModelMismatchError):
        users.keypoints(users().vertices, body.keypoint_regressor)
    own = JointRegressor(body.keypoint_regressor.matrix, body.keypoint_names, users.model_id)
    assert torch.equal(users.keypoints(users().vertices, own), body.keypoints(body().vertices))
    assert load_body(tmp_path, gender="male").model_id == users.model_id
    with pytest.raises(WeightsError, match="'female' in its name, found SMPL_MALE"):
        load_body(tmp_path, gender="female")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": None}, "lacks weights"),
        ({"posedirs": np.zeros((6890, 3, 459))}, r"posedirs: expected shape \(6890, 3, 207\)"),
        ({"kintree_table": np.zeros((2, 55))}, r"posedirs: expected shape \(6890, 3, 486\)"),
        (
            {
                "kintree_table": np.zeros((2, 23)),
                "posedirs": np.zeros((6890, 3, 198)),
                "weights": np.zeros((6890, 23)),
                "J_regressor": np.zeros((23, 6890)),
            },
            "24 joints, found 23",
        ),
        ({"kintree_table": np.zeros((2, 24))}, "SMPL's tree"),
        ({"shapedirs": np.zeros((6890, 3, 4))}, "10 or more"),
    ],
)
def test_a_file_that_is_no_smpl_body_is_refused_in_one_line(tmp_path, change, message):
    model = {k: v for k, v in {**official_like(), **change}.items() if v is not None}
    np.savez(tmp_path / "model.npz", **model)
    with pytest.raises(WeightsError, match=message) as caught:
        load_body(tmp_path / "model.npz")
    assert "model.npz" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_gender_and_missing_file(tmp_path):
    with pytest.raises(UsageError, match="neutral, male, female"):
        load_body(gender="other")
    with pytest.raises(WeightsError, match="not found"):
        load_body(tmp_path / "SMPL_NEUTRAL.pkl")
