"""A regressor's answers on tracks: where crops are cut, whose they are, and that no pixel is lost on the way back."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from hmrkit.body import Body, load_body
from hmrkit.body.files import find_body, read_smpl_file
from hmrkit.camera import assume_camera, crop_cameras, project
from hmrkit.crops import Region
from hmrkit.errors import UsageError
from hmrkit.geometry import axis_angle_to_matrix
from hmrkit.keypoints.toy import ToyEstimator
from hmrkit.models import Models
from hmrkit.options import Options
from hmrkit.pipeline import open_clip
from hmrkit.regressors.frame import BETAS, CROP_CAMERA, ROTATIONS
from hmrkit.regressors.stream import bodies_in_camera, regress_tracks, track_regions
from hmrkit.regressors.toy import ToyRegressor
from hmrkit.skeletons import BLAZEPOSE_33, SMPL_24
from hmrkit.types import Keypoints, Track

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def body():
    return load_body()


@pytest.fixture(scope="module")
def shifted_body():
    """A body whose pelvis is not at its origin, as SMPL's is not."""
    model = dict(read_smpl_file(find_body(None, "neutral")))
    model["v_template"] = model["v_template"] + np.array([0.01, -0.24, 0.03])
    return Body(model)


def answers(count, seed=0):
    """Made-up answers (T,229) of a regressor: people of one shape in front of their crops' cameras."""
    rng = torch.Generator().manual_seed(seed)
    rotations = 0.4 * torch.randn(count, 24, 3, generator=rng)
    rotations[:, 0] += torch.tensor([np.pi, 0, 0])
    estimates = torch.zeros(count, CROP_CAMERA.stop)
    estimates[:, ROTATIONS] = axis_angle_to_matrix(rotations).reshape(count, -1)
    estimates[:, BETAS] = torch.randn(10, generator=rng)
    estimates[:, CROP_CAMERA] = torch.tensor([0.8, 0, 0]) + 0.1 * torch.randn(count, 3, generator=rng)
    return estimates.numpy()


def pose(body, estimates, betas, transl):
    rotations = estimates[:, ROTATIONS].reshape(-1, 24, 3, 3)
    return body.joints_only(rotations[:, 0], rotations[:, 1:], betas, transl).joints.numpy().astype(float)


@pytest.mark.parametrize("which", ["body", "shifted_body"])
def test_joints_keep_their_pixels_from_crop_to_image(which, request):
    body, out = request.getfixturevalue(which), 256
    rng = np.random.default_rng(3)
    camera = assume_camera(1920, 1080, fov_deg=85)
    estimates = answers(100)
    region = Region(rng.uniform([0, 0], [1920, 1080], (100, 2)), rng.uniform(100, 900, 100), rng.uniform(-3, 3, 100))
    crops = crop_cameras(camera, region, out)
    params = bodies_in_camera(estimates, crops.camera_from_crop, crops.focal_px, out, body, np.arange(100) / 30)

    scale, tx, ty = estimates[:, CROP_CAMERA].T
    transl = np.stack([tx, ty, 2 * crops.focal_px / (scale * out)], -1).astype(np.float32)
    seen = pose(body, estimates, estimates[0, BETAS], transl)
    pixels = seen[..., :2] / seen[..., 2:] * crops.focal_px[:, None, None] + out / 2
    image = np.concatenate([pixels, np.ones_like(pixels[..., :1])], -1) @ crops.image_from_crop.transpose(0, 2, 1)
    joints = body.joints_only(params.global_orient, params.body_pose, params.betas, params.transl_c).joints.numpy()
    off = np.linalg.norm(project(camera, joints) - image[..., :2] / image[..., 2:], axis=-1)
    assert off.max() < 0.01


def test_a_shape_that_flickers_does_not_move_the_person_in_the_image(body):
    estimates = answers(9)
    estimates[:, ROTATIONS], estimates[:, CROP_CAMERA] = estimates[0, ROTATIONS], [0.8, 0.1, -0.1]
    estimates[4, BETAS][0] += 4.0
    crops = crop_cameras(assume_camera(800, 800), Region(np.full((9, 2), 300.0), np.full(9, 300.0), np.zeros(9)), 256)
    params = bodies_in_camera(estimates, crops.camera_from_crop, crops.focal_px, 256, body, np.arange(9.0))
    assert np.allclose(params.betas, estimates[0, BETAS])
    other = pose(body, estimates, estimates[:, BETAS], None)
    mine = pose(body, estimates, params.betas, None)
    taller = np.ptp(other[4, :, 1]) / np.ptp(mine[4, :, 1])
    assert abs(taller - 1) > 0.05
    assert params.transl_c[4] == pytest.approx(params.transl_c[0] / taller, rel=0.01)


def test_frames_that_were_not_read_lie_between_their_neighbours(body):
    estimates = answers(5)
    rotations = torch.zeros(5, 24, 3)
    rotations[:, 0, 1] = torch.tensor([0.0, 9, 9, 0.6, 0.8])
    estimates[:, ROTATIONS] = axis_angle_to_matrix(rotations).reshape(5, -1)
    estimates[[1, 2]] = np.nan
    crops = crop_cameras(assume_camera(800, 800), Region(np.full((5, 2), 400.0), np.full(5, 300.0), np.zeros(5)), 256)
    params = bodies_in_camera(estimates, crops.camera_from_crop, crops.focal_px, 256, body, np.arange(5.0))
    angles = np.arctan2(params.global_orient[:, 0, 2], params.global_orient[:, 0, 0])
    assert angles == pytest.approx([0, 0.2, 0.4, 0.6, 0.8], abs=0.01)
    step = (params.transl_c[3] - params.transl_c[0]) / 3
    assert params.transl_c[1] == pytest.approx(params.transl_c[0] + step, abs=1e-5)


# ------------------------------------------------------------------------------------------------------ regions


TIMES = np.arange(40) / 25.0


def walker(frames=40, fps=25.0, angle=None):
    """A mannequin that crosses the image, rotated by `angle` (T) about its hips; its track and keypoints."""
    left = 100 + 8.0 * np.arange(frames)
    boxes = np.stack([left, np.full(frames, 100.0), left + 80, np.full(frames, 300.0)], -1).astype(np.float32)
    points = np.stack([ToyEstimator()._points(box) for box in boxes])
    if angle is not None:
        hips = points[:, BLAZEPOSE_33.indices("left_hip", "right_hip"), :2].mean(1, keepdims=True)
        rotation = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], -1).reshape(-1, 2, 2)
        points[..., :2] = (points[..., :2] - hips) @ rotation.transpose(0, 2, 1) + hips
    track = Track(1, np.arange(frames), boxes, np.ones(frames, np.float32), np.zeros(frames, bool))
    return track, Keypoints(points, None, "blazepose-33")


def test_upright_regions_follow_the_hips_and_hold_the_person():
    track, keypoints = walker()
    region = track_regions(track, keypoints, "upright", TIMES)
    hips = keypoints.keypoints_2d[:, BLAZEPOSE_33.indices("left_hip", "right_hip"), :2].mean(1)
    assert np.abs(region.center - hips).max() < 1.0
    assert np.ptp(region.size) < 1
    assert 200 < region.size[0] < 320
    assert np.abs(region.angle).max() < 0.01


def test_box_regions_are_the_box_and_a_fifth():
    track, keypoints = walker()
    region = track_regions(track, keypoints, "box", TIMES)
    assert region.size == pytest.approx(240, abs=0.5)
    assert region.center[5] == pytest.approx([180, 200], abs=0.5)


def test_a_somersault_is_followed_all_the_way_round():
    angle = np.linspace(0, 2 * np.pi, 50)
    region = track_regions(*walker(50, angle=angle), "upright", np.arange(50) / 25.0)
    assert np.abs(region.angle - angle)[5:-5].max() < 0.1


def test_jitter_of_the_keypoints_hardly_moves_the_region():
    track, keypoints = walker(100)
    rng = np.random.default_rng(0)
    noisy = keypoints.keypoints_2d.copy()
    noisy[..., :2] += rng.normal(0, 4, noisy[..., :2].shape)
    clean, region = (track_regions(track, Keypoints(k, None, "blazepose-33"), "upright", np.arange(100) / 25.0) for k in
                     (keypoints.keypoints_2d, noisy))  # fmt: skip
    off = region.center - clean.center
    assert off.std() < 0.5 * 4 / np.sqrt(2)  # the middle of two points with a noise of 4 px
    assert np.abs(np.diff(np.log(region.size))).std() < 0.004


def test_points_that_are_missing_for_a_while_are_bridged_and_never_seen_ones_left_out():
    track, keypoints = walker()
    points = keypoints.keypoints_2d.copy()
    points[10:20] = [np.nan, np.nan, 0]
    points[:, BLAZEPOSE_33.indices("left_ankle", "right_ankle", "left_knee", "right_knee")] = [np.nan, np.nan, 0]
    region = track_regions(track, Keypoints(points, None, "blazepose-33"), "upright", TIMES)
    whole = track_regions(track, keypoints, "upright", TIMES)
    assert np.abs(region.center - whole.center).max() < 2
    assert (region.size < whole.size).all()


def test_a_track_without_a_trunk_is_framed_by_its_boxes():
    track, keypoints = walker()
    points = keypoints.keypoints_2d.copy()
    points[:, BLAZEPOSE_33.indices("left_hip")] = [np.nan, np.nan, 0]
    region = track_regions(track, Keypoints(points, None, "blazepose-33"), "upright", TIMES)
    assert region.size == pytest.approx(240, abs=0.5)


# ----------------------------------------------------------------------------------------------------- the clip


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    """A folder of 9 frames, one of them broken, with two people whose brightness tells frames and people apart."""
    folder = tmp_path_factory.mktemp("crowd")
    tracks, keypoints, spans = [], {}, {1: range(0, 9), 2: range(3, 8)}
    boxes = {1: np.array([30.0, 20, 70, 120]), 2: np.array([130.0, 30, 165, 110])}
    for t in range(9):
        image = np.zeros((140, 200, 3), np.uint8)
        for i, span in spans.items():
            if t in span:
                x0, y0, x1, y1 = boxes[i].astype(int)
                image[y0:y1, x0:x1] = 40 * i + 15 * t
        Image.fromarray(image).save(folder / f"{t:03d}.png")
    (folder / "006.png").write_bytes(b"broken")
    take = open_clip(folder, Options(fps=10.0))
    for i, span in spans.items():
        here = np.repeat(boxes[i][None], len(span), 0).astype(np.float32)
        tracks.append(Track(i, np.array(span), here, np.ones(len(span), np.float32), np.zeros(len(span), bool)))
        keypoints[i] = Keypoints(np.stack([ToyEstimator()._points(b) for b in here]), None, "blazepose-33")
    return replace(take, tracks=tuple(tracks), keypoints=keypoints)


def hang(params):
    """How far the left arm hangs (T): what the toy says of the crop's brightness."""
    arm = params.body_pose[:, SMPL_24.index["left_shoulder"] - 1]
    return np.arctan2(-arm[:, 1, 0], arm[:, 0, 0])


def test_everybody_gets_the_answer_to_their_own_crop(crowd, body):
    found = regress_tracks(crowd, crowd.tracks, ToyRegressor(), body, CPU, batch_size=4)
    assert set(found) == {1, 2}
    for track in crowd.tracks:
        (alone,) = regress_tracks(crowd, [track], ToyRegressor(), body, CPU, batch_size=1).values()
        assert np.allclose(found[track.track_id].body_pose, alone.body_pose, atol=1e-6)
        assert np.allclose(found[track.track_id].transl_c, alone.transl_c, atol=1e-6)
        darker = np.diff(hang(found[track.track_id]))
        assert (darker < 0).all(), "each frame is brighter than the one before it"
    seen = crowd.track(1).frame_indices == 6
    between = hang(found[1])
    assert between[seen] == pytest.approx((between[5] + between[7]) / 2, abs=1e-3)


class Temporal(ToyRegressor):
    """Its codes are a crop's brightness; every body of a track gets the mean of the whole track."""

    def __init__(self):
        super().__init__()
        self.tracks, self.contexts = [], []

    def encode(self, crops, context=None):
        self.contexts.append(context)
        return crops.mean((1, 2, 3))[:, None]

    def decode(self, codes, times):
        self.tracks.append((codes, times))
        return self.estimate(codes.mean().expand(len(codes), 3, 4, 4))


def test_a_temporal_regressor_sees_every_track_as_a_whole(crowd, body):
    regressor = Temporal()
    found = regress_tracks(crowd, crowd.tracks, regressor, body, CPU, batch_size=2)
    assert [len(codes) for codes, _ in regressor.tracks] == [8, 4], "one call a track, the broken frame left out"
    _, times = regressor.tracks[0]
    assert times.tolist() == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.8])
    for (codes, _), params in zip(regressor.tracks, found.values(), strict=True):
        assert hang(params) == pytest.approx(1.5 - float(codes.mean()), abs=1e-4)


def test_a_regressor_is_given_what_is_known_of_a_crop_besides_its_pixels(crowd, body):
    regressor = Temporal()
    regress_tracks(crowd, [crowd.track(2)], regressor, body, CPU, batch_size=9)
    (context,) = regressor.contexts
    readable = crowd.track(2).frame_indices != 6
    region = track_regions(crowd.track(2), crowd.keypoints[2], "upright", np.arange(5) / 10)[readable]
    square = np.concatenate([region.center - region.size[:, None] / 2, region.center + region.size[:, None] / 2], 1)
    assert context.boxes_xyxy.numpy() == pytest.approx(square, abs=1e-3)
    assert context.image_size.tolist() == [[200, 140]] * 4
    assert context.focal_px.tolist() == pytest.approx([float(crowd.camera.focal_px[0])] * 4)
    joints = context.joints_2d
    # An upright crop has the hips in its middle and the head above them.
    hips = joints[:, BLAZEPOSE_33.indices("left_hip", "right_hip")].mean(1)
    nose = joints[:, BLAZEPOSE_33.index["nose"]]
    assert (hips[:, :2] - 32).abs().max() < 3
    assert (nose[:, 1] < 24).all()
    assert (nose[:, 2] > 0).all()


def test_a_track_of_broken_frames_alone_is_left_out_and_said(crowd, body, caplog):
    track = crowd.track(1)
    lost = Track(1, np.array([6]), track.boxes_xyxy[:1], track.scores[:1], track.interpolated[:1])
    points = Keypoints(crowd.keypoints[1].keypoints_2d[:1], None, "blazepose-33")
    take = replace(crowd, tracks=(lost,), keypoints={1: points})
    assert regress_tracks(take, take.tracks, ToyRegressor(), body, CPU) == {}
    assert "no frame of track 1 could be read" in caplog.text


def test_shapes_of_another_body_are_not_believed(crowd, body, caplog):
    class Smpl(ToyRegressor):
        def __init__(self):
            super().__init__()
            self.shape_space = "smpl"

        def decode(self, codes, times):
            return replace(super().decode(codes, times), betas=torch.ones(len(codes), 10))

    found = regress_tracks(crowd, crowd.tracks, Smpl(), body, CPU)
    assert not found[1].betas.any()
    assert caplog.text.count("another body") == 1


def test_nobody_is_no_trouble(crowd, body):
    assert regress_tracks(crowd, [], ToyRegressor(), body, CPU) == {}


class Plain(Temporal):
    """Sees the middle 48 columns of squares of 64 px that are plain pieces of the image."""

    def __init__(self):
        super().__init__()
        self.framing, self.input_size, self.images = "plain", (64, 48), []

    def encode(self, crops, context=None):
        self.images.append(crops)
        return super().encode(crops, context)


def test_plain_crops_are_pieces_of_the_image_and_bodies_stay_in_its_camera(crowd, body):
    regressor, track = Plain(), crowd.track(2)
    params = regress_tracks(crowd, [track], regressor, body, CPU, batch_size=9)[2]
    (context,), (images,) = regressor.contexts, regressor.images
    assert images.shape == (4, 3, 64, 48)
    square = context.boxes_xyxy[0].numpy()
    # 1.2 times the box of 35 by 80 px.
    assert square == pytest.approx([147.5 - 48, 70 - 48, 147.5 + 48, 70 + 48], abs=0.5)
    lit = images[0, 0] > 0.5 * images[0].max()
    columns, rows = (torch.nonzero(lit.any(axis))[:, 0] for axis in (0, 1))
    assert [int(columns.min()), int(columns.max()) + 1] == pytest.approx([24 - 35 / 3, 24 + 35 / 3], abs=1.1)
    assert [int(rows.min()), int(rows.max()) + 1] == pytest.approx([32 - 80 / 3, 32 + 80 / 3], abs=1.1)
    # Where the crop's middle is seen, and where CLIFF's formula puts the body.
    assert params.global_orient == pytest.approx(np.broadcast_to(np.diag([1.0, -1, -1]), (5, 3, 3)), abs=1e-5)
    scale, side, focal = 2 / 2.2, square[2] - square[0], float(crowd.camera.focal_px[0])
    wanted = [2 * (147.5 - 100) / (side * scale), 2 * (70 - 70) / (side * scale), 2 * focal / (side * scale)]
    assert params.transl_c[0] == pytest.approx(wanted, abs=0.02)
    joints = context.joints_2d
    hips = joints[:, BLAZEPOSE_33.indices("left_hip", "right_hip"), 0].mean(1)
    assert (hips - 24).abs().max() < 1


def test_a_wide_person_fits_into_a_narrow_crop():
    track, keypoints = walker()
    lying = replace(track, boxes_xyxy=track.boxes_xyxy + np.array([-100, 80, 100, -80], np.float32))
    assert track_regions(lying, keypoints, "plain", TIMES, aspect=0.75).size == pytest.approx(1.2 * 280 / 0.75, abs=1)
    assert track_regions(track, keypoints, "plain", TIMES, aspect=0.75).size == pytest.approx(240, abs=0.5)


def test_the_mirrored_look_can_be_left_out():
    once, twice = (Models(Options(method="hmr", device="cpu", flip_test=wanted)).regressor for wanted in (False, None))
    assert not once.flip
    assert twice.flip
    with pytest.raises(UsageError, match="--flip-test is for hmrkit's own regressors, found --mesh fit"):
        Options(flip_test=False)
