"""The calibration target, against synthetic truth: people moving smoothly, two noisy streams that see them."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from hmrkit import metrics
from hmrkit.body import load_body
from hmrkit.calibration.bone_rotations import LIMBS, SEEN_JOINTS, assemble
from hmrkit.calibration.lifted_bones import follow_lifted
from hmrkit.calibration.target import TargetOptions, build_target
from hmrkit.calibration.time_filter import TimeFilter
from hmrkit.camera import assume_camera, project
from hmrkit.geometry import axis_angle_to_matrix
from hmrkit.skeletons import COCO_17, H36M_17, SMPL_24
from hmrkit.types import Keypoints, LiftedPose

BODY = load_body()
CAMERA = assume_camera(1280, 720)
SEEN = SMPL_24.indices(*SEEN_JOINTS)
FRAMES, FPS = 60, 30.0
TIMES = np.arange(FRAMES) / FPS
# H36M joints that SMPL calls otherwise.
_SMPL_NAME = {"thorax": "neck", "spine": "spine2", "nose": "head", "head_top": "head"}


@dataclass
class Scene:
    truth: np.ndarray
    mesh: np.ndarray
    lifted: LiftedPose
    keypoints: Keypoints
    box_heights: np.ndarray


def _wander(rng: np.random.Generator, shape: tuple[int, ...], frames_per_rotation: float) -> np.ndarray:
    """Smooth noise (FRAMES, *shape) of unit variance plus a constant part of the same size."""
    t = np.arange(FRAMES)[:, None] / frames_per_rotation
    flat = int(np.prod(shape))
    waves = sum(np.sin(t * rng.uniform(0.5, 2, flat) + rng.uniform(0, 6.3, flat)) for _ in range(3)) / np.sqrt(1.5)
    return ((waves + rng.normal(size=flat)) / np.sqrt(2)).reshape(FRAMES, *shape)


def make_scene(
    seed: int, mesh_deg: float = 5.0, lift_m: float = 0.04, lift_deg: float = 4.0, pixel_share: float = 0.01
) -> Scene:
    rng = np.random.default_rng(seed)
    pose = np.radians(18) * _wander(rng, (24, 3), 12)
    upright = axis_angle_to_matrix(torch.tensor([np.pi, 0.0, 0.0])) @ axis_angle_to_matrix(
        torch.tensor([0.0, rng.uniform(-3, 3), 0.0])
    )

    def joints(error: np.ndarray | float) -> np.ndarray:
        local = axis_angle_to_matrix(torch.tensor(pose, dtype=torch.float32))
        local[:, 0] = upright.float() @ local[:, 0]
        if isinstance(error, np.ndarray):
            local = local @ axis_angle_to_matrix(torch.tensor(error, dtype=torch.float32))
        place = torch.tensor([0.2, 0.1, 5.0]).expand(FRAMES, 3)
        return BODY.joints_only(local[:, 0], local[:, 1:], transl=place).joints.numpy()

    truth = joints(0.0)
    mesh = joints(np.radians(mesh_deg) / np.sqrt(3) * _wander(rng, (24, 3), 6)) + 0.03 * _wander(rng, (1, 3), 10)
    pose_17 = truth[:, [SMPL_24.index[_SMPL_NAME.get(name, name)] for name in H36M_17.joints]]
    pose_17 = pose_17 - pose_17[:, :1] + lift_m / np.sqrt(3) * _wander(rng, (17, 3), 6)
    rotation = np.radians(lift_deg) * _wander(rng, (3,), 10) / np.sqrt(3)  # a lifter does not know the camera's tilt
    pose_17 = pose_17 @ axis_angle_to_matrix(torch.tensor(rotation)).mT.numpy()
    pixels = np.full((FRAMES, 17, 3), np.nan, np.float32)
    height = np.ptp(project(CAMERA, truth)[..., 1], axis=1)
    for name, column in zip(SEEN_JOINTS, SEEN, strict=True):
        noise = pixel_share * height[:, None] * _wander(rng, (2,), 5) / np.sqrt(2)
        pixels[:, COCO_17.index[name], :2] = project(CAMERA, truth[:, column]) + noise
        pixels[:, COCO_17.index[name], 2] = 0.9
    lifted = LiftedPose((pose_17 - pose_17[:, :1]).astype(np.float32), "h36m-17")
    return Scene(truth, mesh.astype(np.float32), lifted, Keypoints(pixels, None, "coco-17"), height)


def reprojection(scene: Scene, joints: np.ndarray) -> float:
    keypoints = scene.keypoints.keypoints_2d[:, COCO_17.indices(*SEEN_JOINTS)]
    return metrics.reprojection_error(project(CAMERA, joints[:, SEEN]), keypoints, scene.box_heights)


def seen(joints: np.ndarray) -> np.ndarray:
    """Pelvis and the joints that both streams know."""
    return joints[:, [0, *SEEN]]


def target_of(scene: Scene, straight: np.ndarray | None = None, **options) -> np.ndarray:
    chosen = TargetOptions(**{"lift_weight": 0.3, "ray_weight": 0.5} | options)
    return build_target(scene.mesh, scene.lifted, scene.keypoints, CAMERA, TIMES, chosen, straight=straight)


def bone_lengths(joints: np.ndarray) -> np.ndarray:
    return np.linalg.norm(joints[:, 1:] - joints[:, list(SMPL_24.parents[1:])], axis=-1)


def test_the_target_is_nearer_to_the_truth_than_either_stream():
    figures = []
    for seed in range(4):
        scene = make_scene(seed)
        own = scene.lifted.joints_c[:, H36M_17.indices("pelvis", *SEEN_JOINTS)]
        poses = (target_of(scene), scene.mesh)
        figures.append(
            [f(p, seen(scene.truth)) for f in (metrics.mpjpe_mm, metrics.pa_mpjpe_mm) for p in (*map(seen, poses), own)]
        )
    target, mesh, lifted, target_pa, mesh_pa, lifted_pa = np.mean(figures, 0)
    assert target < 0.9 * min(mesh, lifted)
    assert target_pa < min(mesh_pa, lifted_pa)


def test_the_target_projects_onto_the_keypoints():
    errors = np.array([(reprojection(s, s.mesh), reprojection(s, target_of(s))) for s in map(make_scene, range(4))])
    assert (errors[:, 1] < 0.03).all()
    assert (errors[:, 1] < 0.6 * errors[:, 0]).all()


def test_streams_that_agree_leave_the_mesh_where_it_is():
    scene = make_scene(0, mesh_deg=0, lift_m=0, lift_deg=0, pixel_share=0)
    scene.mesh = scene.truth
    scene.lifted.joints_c[:] -= scene.lifted.joints_c[:, :1]
    np.testing.assert_allclose(seen(target_of(scene)), seen(scene.truth), atol=2e-3)


def test_a_knee_of_somebody_who_stands_keeps_the_meshs_bend():
    def bends(joints):
        hip, knee, ankle = (joints[:, SMPL_24.indices(f"left_{n}", f"right_{n}")] for n in ("hip", "knee", "ankle"))
        thigh, shin = knee - hip, ankle - knee
        lengths = np.linalg.norm(thigh, axis=-1) * np.linalg.norm(shin, axis=-1)
        return np.degrees(np.arccos(((thigh * shin).sum(-1) / lengths).clip(-1, 1)))

    scene = make_scene(1)
    straight = np.tile([1.0, 0.0], (len(scene.mesh), 1))
    apart = np.abs(bends(target_of(scene, straight=straight)) - bends(scene.mesh))
    assert apart[:, 0].max() < 0.5
    assert apart[:, 1].max() > 3
    np.testing.assert_allclose(target_of(scene, straight=straight)[:, 0], target_of(scene)[:, 0], atol=1e-6)


def test_bones_keep_the_meshs_lengths_unless_asked_otherwise():
    scene = make_scene(1)
    np.testing.assert_allclose(bone_lengths(target_of(scene)), bone_lengths(scene.mesh), atol=1e-5)
    arm = H36M_17.indices("left_wrist", "right_wrist"), H36M_17.indices("left_elbow", "right_elbow")
    scene.lifted.joints_c[:, arm[0]] += 0.2 * (scene.lifted.joints_c[:, arm[0]] - scene.lifted.joints_c[:, arm[1]])
    ratio = (bone_lengths(target_of(scene, keep_lengths=False)) / bone_lengths(scene.mesh))[0]
    forearm, shin = SMPL_24.index["left_wrist"] - 1, SMPL_24.index["left_ankle"] - 1
    assert 1.1 < ratio[forearm] / ratio[shin] < 1.3
    assert ratio[forearm] == pytest.approx(ratio[SMPL_24.index["right_wrist"] - 1])


def test_without_a_lifted_pose_or_keypoints_the_mesh_comes_back():
    scene = make_scene(2)
    np.testing.assert_allclose(build_target(scene.mesh, None, None, CAMERA, TIMES), scene.mesh, atol=1e-5)
    unseen = Keypoints(scene.keypoints.keypoints_2d * [np.nan, np.nan, 0], None, "coco-17")
    missing = LiftedPose(np.full_like(scene.lifted.joints_c, np.nan), "h36m-17")
    np.testing.assert_allclose(build_target(scene.mesh, missing, unseen, CAMERA, TIMES), scene.mesh, atol=1e-5)


def test_missing_frames_and_joints_stay_finite_and_near():
    scene = make_scene(3)
    whole = target_of(scene)
    scene.lifted.joints_c[20:30] = np.nan
    scene.keypoints.keypoints_2d[25:35, COCO_17.index["left_wrist"]] = [np.nan, np.nan, 0]
    holey = target_of(scene)
    assert np.isfinite(holey).all()
    np.testing.assert_allclose(holey[:8], whole[:8], atol=0.01)  # far from the gap nothing changes but the alignment
    assert np.abs(holey - whole).max() < 0.15


def test_a_lifter_that_disagrees_wildly_is_not_followed():
    scene = make_scene(4, mesh_deg=2)
    wrist, elbow = H36M_17.index["left_wrist"], H36M_17.index["left_elbow"]
    flipped = 2 * scene.lifted.joints_c[:, elbow] - scene.lifted.joints_c[:, wrist]
    scene.lifted.joints_c[:, wrist] = flipped
    column = SMPL_24.index["left_wrist"]
    off = np.linalg.norm(target_of(scene, align=0.0)[:, column] - scene.truth[:, column], axis=-1)
    assert off.mean() < 0.06


def test_one_keypoint_on_something_else_does_not_tear_the_arm_away():
    scene = make_scene(5)
    before = target_of(scene)
    scene.keypoints.keypoints_2d[:, COCO_17.index["left_wrist"], 0] += 400
    off = np.linalg.norm(target_of(scene) - before, axis=-1)
    assert off.mean(0).max() < 0.06


def test_a_still_person_gives_a_still_target_and_one_frame_works():
    scene = make_scene(6)
    for array in (scene.mesh, scene.lifted.joints_c, scene.keypoints.keypoints_2d):
        array[:] = array[:1]
    still = target_of(scene)
    np.testing.assert_allclose(still, np.broadcast_to(still[:1], still.shape), atol=1e-5)
    one = build_target(
        scene.mesh[:1],
        LiftedPose(scene.lifted.joints_c[:1], "h36m-17"),
        Keypoints(scene.keypoints.keypoints_2d[:1], None, "coco-17"),
        CAMERA,
        TIMES[:1],
        TargetOptions(lift_weight=0.3, ray_weight=0.5),
    )
    np.testing.assert_allclose(one, still[:1], atol=1e-5)


def test_a_constant_rotation_of_the_lifted_pose_is_taken_out():
    scene = make_scene(7, mesh_deg=0, lift_m=0, lift_deg=0)
    scene.mesh = scene.truth
    rotation = axis_angle_to_matrix(torch.tensor([0.5, 0.0, 0.0])).numpy()
    scene.lifted.joints_c[:] = scene.lifted.joints_c @ rotation.T
    aligned = target_of(scene, ray_weight=0.0, align=1.0)
    assert metrics.mpjpe_mm(seen(aligned), seen(scene.truth)) < 1
    assert metrics.mpjpe_mm(seen(target_of(scene, ray_weight=0.0, align=0.0)), seen(scene.truth)) > 50


def test_the_target_adds_no_jitter():
    scene = make_scene(0)
    clean = metrics.accel_error(seen(scene.mesh), seen(scene.truth))
    rng = np.random.default_rng(0)
    scene.keypoints.keypoints_2d[..., :2] += rng.normal(size=(FRAMES, 17, 2)) * 3
    assert metrics.accel_error(seen(target_of(scene)), seen(scene.truth)) < clean + 3


def test_following_the_lifted_pose_is_differentiable_and_stays_on_its_device():
    scene = make_scene(0)
    mesh, pose = torch.from_numpy(scene.mesh[:6]).double(), torch.from_numpy(scene.lifted.joints_c[:6]).double()
    pose[2] = torch.nan  # a frame without a pose
    pose.requires_grad_()
    sure = torch.ones(6, 12, dtype=torch.float64)

    filtered = TimeFilter(np.arange(6), 1.0)

    def target(pose, align):
        rotations, lengths = follow_lifted(mesh, pose, "h36m-17", sure, 0.5, filtered, align)
        return assemble(mesh, rotations, lengths, mesh[:, 0])

    (slope,) = torch.autograd.grad((target(pose, 0.0) * mesh).sum(), pose)
    assert slope.isfinite().all()
    step = torch.zeros_like(pose)
    step[4, H36M_17.index["left_wrist"], 1] = step[5, H36M_17.index["thorax"], 0] = 1e-5
    up, down = ((target((pose + sign * step).detach(), 0.0) * mesh).sum() for sign in (1, -1))
    torch.testing.assert_close((up - down) / 2, (slope * step).sum(), rtol=1e-4, atol=1e-12)
    (aligned,) = torch.autograd.grad(target(pose, 1.0).sum(), pose)
    assert aligned.isfinite().all()
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        made = [mode.from_tensor(x.detach()).to("cuda") for x in (mesh, pose, sure)]
        rotations, lengths = follow_lifted(made[0], made[1], "h36m-17", made[2], 0.5, filtered)
        assert assemble(made[0], rotations, lengths, made[0][:, 0]).device.type == "cuda"


def _off(scene: Scene, target: np.ndarray, names: tuple[str, ...]) -> float:
    """Largest distance, m, of joints from the mesh stream's, each bone hung on the mesh stream's parent."""
    bones = [joints[:, 1:] - joints[:, list(SMPL_24.parents[1:])] for joints in (target, scene.mesh)]
    return float(np.linalg.norm(bones[0] - bones[1], axis=-1)[:, [SMPL_24.index[n] - 1 for n in names]].max())


ARM = ("left_elbow", "left_wrist", "left_hand")


def test_a_limb_that_is_not_seen_stays_the_mesh_streams():
    unlike = np.random.default_rng(0).normal(0, 0.3, (FRAMES, 2, 3)).astype(np.float32)
    for what in ("hidden", "outside", "another"):
        scene = make_scene(1)
        scene.lifted.joints_c[:, H36M_17.indices("left_elbow", "left_wrist")] += unlike
        arm = COCO_17.indices("left_shoulder", "left_elbow", "left_wrist")
        if what == "hidden":
            scene.keypoints.keypoints_2d[:, arm, 2] = 0.1
        elif what == "outside":
            scene.keypoints.keypoints_2d[:, arm, 0] += CAMERA.width
        else:  # two confident keypoints of somebody else's arm
            scene.keypoints.keypoints_2d[:, arm, 1] += np.float32([0, 150, 250])
        assert _off(scene, target_of(scene), ARM) < 1e-6
        assert _off(scene, target_of(make_scene(1)), ARM) > 5e-3


@pytest.mark.parametrize("pose", ["rubbish", "missing"])
def test_frames_with_a_corrupt_pose_stream_stay_the_mesh_streams(pose):
    scene, half = make_scene(2), slice(FRAMES // 2, None)
    before = reprojection(scene, scene.mesh)
    truth = scene.keypoints.keypoints_2d.copy()
    scene.keypoints.keypoints_2d[half, :, :2] = np.random.default_rng(0).uniform(0, 5000, (FRAMES // 2, 17, 2))
    scene.lifted.joints_c[half] = np.nan if pose == "missing" else scene.lifted.joints_c[half][:, ::-1]
    target = target_of(scene)
    assert np.abs(target[half] - scene.mesh[half]).max() < 1e-3
    assert np.abs(target[:20] - scene.mesh[:20]).max() > 5e-3
    scene.keypoints.keypoints_2d[:] = truth
    assert reprojection(scene, target) <= before


def test_streams_of_different_length_are_refused():
    scene = make_scene(0)
    with pytest.raises(ValueError, match="same frames"):
        build_target(scene.mesh[:10], scene.lifted, scene.keypoints, CAMERA, TIMES[:10])


def test_limbs_come_parents_first():
    placed = {"left_hip", "right_hip", "left_shoulder", "right_shoulder"}
    for start, end in LIMBS:
        assert start in placed
        placed.add(end)


def test_corrections_are_smoothed_over_seconds_at_any_rate():
    """The same motion seen at 15, 30, 60 Hz and at a variable rate with a gap gives the same correction."""

    def motion(t):
        return torch.from_numpy(np.stack([np.sin(4 * t), np.cos(7 * t)], -1))

    def known(t):
        return torch.from_numpy((t < 1.01) | (t > 1.6))

    def result(times, at):
        filtered = TimeFilter(times, 0.1)
        both = filtered.smooth(motion(times)), filtered.fade(known(times))[:, None]
        return np.array([np.interp(at, times, column.numpy()) for part in both for column in part.T])

    rng = np.random.default_rng(0)
    at = np.linspace(0.5, 3.5, 61)
    uneven = np.cumsum(rng.choice([1 / 60, 1 / 30, 1 / 15], 150))
    clips = [np.arange(4 * fps) / fps for fps in (15, 30)] + [uneven[(uneven < 2.2) | (uneven > 2.4)]]
    wanted = result(np.arange(240) / 60, at)
    for times in clips:
        assert np.abs(result(times, at)[:2] - wanted[:2])[:, (at < 2.1) | (at > 2.5)].max() < 0.05
        assert np.abs(result(times, at)[2] - wanted[2]).mean() < 0.06  # edges lie between frames
