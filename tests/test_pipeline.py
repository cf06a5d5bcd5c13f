"""The chain in Python with toy networks: what is kept, what is made again, what comes out."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from films import write_film
from PIL import Image

import hmrkit
from hmrkit.benchmark.speed import run_benchmark
from hmrkit.body.posing import body_meshes
from hmrkit.errors import InputError, UsageError, WeightsError
from hmrkit.geometry import axis_angle_to_matrix
from hmrkit.meshes import iter_meshes, mesh_slice
from hmrkit.models import Models
from hmrkit.options import Options
from hmrkit.output import upright
from hmrkit.pipeline import STAGES, adopted, keep_stages, open_clip, run_stages, stages_of
from hmrkit.report import report
from hmrkit.skeletons import BLAZEPOSE_33
from hmrkit.stages import pose
from hmrkit.types import BodyParams, Take, VideoInfo
from hmrkit.viewing.clip import make_clip

TOYS = {"detector": "toy", "tracker": "toy", "keypoints": "toy", "lifter": "toy", "device": "cpu"}


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return str(write_film(tmp_path_factory.mktemp("film") / "walk.mp4"))


@pytest.fixture(scope="module")
def models():
    return Models(Options(**TOYS))


@pytest.fixture(scope="module")
def take(film):
    return hmrkit.run(film, **TOYS)


def test_every_stage_fills_its_part(take):
    assert list(take.provenance) == list(stages_of(Options()))
    person = take.tracks[0]
    frames = len(person.frame_indices)
    assert frames == 12
    i = person.track_id
    assert len(take.keypoints[i].keypoints_2d) == len(take.body[i].transl_c) == len(take.lifted[i].joints_c) == frames
    assert take.calibrated[i].refit_residual_mm.shape == (frames,)
    assert np.isfinite(take.calibrated[i].joints_c).all()


def test_what_a_published_checkpoint_made_is_exported_without_it(film, take, tmp_path):
    record = take.provenance["regress"]
    made = {**record, "options": {**record["options"], "mesh": "cliff"}}
    hmrkit.export(replace(take, provenance={**take.provenance, "regress": made}), tmp_path, formats=["npz"])
    assert list(tmp_path.glob("person_*.npz"))
    with pytest.raises(WeightsError, match="cliff has no weights of its own"):
        hmrkit.run(film, **TOYS, method="cliff")


def test_batch_size_changes_nothing(film, take):
    other = hmrkit.run(film, **TOYS, batch_size=5)
    assert np.array_equal(other.calibrated[1].joints_c, take.calibrated[1].joints_c)


class CountsFrames:
    """BlazePose's place in the chain without its networks."""

    skeleton, has_depth, weights_sha256 = BLAZEPOSE_33, True, ""

    def __init__(self):
        self.calls = []

    def reset(self, camera=None):
        pass

    def __call__(self, frames, frame_indices, boxes):
        self.calls.append(len(frames))
        return [{} for _ in boxes]


@pytest.mark.parametrize("batch_size", [1, 16])
def test_blazepose_gets_the_same_frames_at_once_for_every_batch_size(batch_size, take):
    """Where it searches for somebody depends on the frames before those that it gets together."""
    models = Models(Options(device="cpu", batch_size=batch_size))
    models.keypoints = CountsFrames()
    pose(take, models, lambda *_: None)
    assert models.keypoints.calls == [8, 4]


def test_meshes_come_the_same_whole_or_in_stretches(take, models):
    whole = mesh_slice(take, 1, slice(None), models)
    parts = list(iter_meshes(take, 1, models, batch=5))
    assert [len(p.frame_indices) for p in parts] == [5, 5, 2]
    assert np.allclose(np.concatenate([p.vertices_c for p in parts]), whole.vertices_c, atol=1e-5)


def test_meshes_stand_in_front_of_the_camera_inside_the_image(take, models):
    from hmrkit.camera import project

    mesh = mesh_slice(take, 1, slice(None), models)
    assert (mesh.vertices_c[..., 2] > 0.5).all()
    boxes = take.tracks[0].boxes_xyxy
    middle = project(take.camera, mesh.vertices_c).mean(1)
    assert (middle > boxes[:, :2]).all()
    assert (middle < boxes[:, 2:]).all()


def test_a_take_that_is_up_to_date_is_left_alone(take, models):
    def never(*_):
        raise AssertionError("a stage ran again")

    again = run_stages(take, stages_of(Options()), models, progress=never, save=never)
    assert again is take


def test_a_stage_made_anew_takes_what_was_built_on_it_away(take):
    other = Models(Options(**TOYS, gender="female"))
    again = run_stages(take, ["regress"], other)
    assert again.body[1].gender == "female"
    assert not again.calibrated
    assert again.lifted is take.lifted  # the lifted pose does not depend on the mesh stream
    assert "calibrate" not in again.provenance
    assert again.keypoints is take.keypoints


def test_a_take_keeps_the_design_that_it_was_calibrated_with(take):
    """Whatever shows or exports it takes its meshes by the same design."""
    template = run_stages(take, stages_of(Options()), Models(Options(**TOYS, calibration="template")))
    assert template.body is take.body
    chosen = adopted(Options(**TOYS), template, ())
    assert chosen.calibration == "template"
    mine, full = (Models(adopted(Options(**TOYS), t, ())) for t in (template, take))
    (shown,) = make_clip(template, mine, space="camera").people
    rest = mine.body(betas=np.zeros(10, np.float32))
    np.testing.assert_allclose(shown.rest_vertices, rest.vertices[0], atol=1e-6)
    calibrated = template.calibrated[1]
    vertices = mesh_slice(template, 1, slice(None), mine).vertices_c
    residual = 1000 * np.linalg.norm(vertices - body_meshes(mine.body, calibrated.params)[0], axis=-1).mean(-1)
    np.testing.assert_allclose(residual, calibrated.refit_residual_mm, atol=1e-2)
    assert np.abs(vertices - mesh_slice(take, 1, slice(None), full).vertices_c).max() > 1e-3
    assert full.options.calibration == "full"


def test_keep_stages_empties_the_rest(take):
    kept = keep_stages(take, ["detect", "track"])
    assert kept.tracks
    assert not kept.keypoints
    assert list(kept.provenance) == ["detect", "track"]


def test_a_stage_without_what_it_needs_says_so(film, models):
    with pytest.raises(InputError, match="detect"):
        run_stages(open_clip(film, models.options), ["pose"], models)


@pytest.mark.parametrize(
    "bad",
    [
        {"method": "x"},
        {"mesh": "x"},
        {"calibration": "x"},
        {"people": "0"},
        {"every": 0},
        {"batch_size": 0},
        {"mesh": "file:results.npz", "fov_track": True},
    ],
)
def test_options_are_checked(bad):
    with pytest.raises(UsageError):
        Options(**bad)


@pytest.fixture
def flat_toy(monkeypatch):
    """The toy keypoints without their 3D, as if they were COCO's 17."""
    from hmrkit.keypoints import KEYPOINTS
    from hmrkit.keypoints.toy import ToyEstimator
    from hmrkit.skeletons import BLAZEPOSE_33, COCO_17, common_joints

    source, _ = common_joints(BLAZEPOSE_33, COCO_17)

    class Flat(ToyEstimator):
        skeleton, has_depth = COCO_17, False

        def __call__(self, *args):
            return [{i: (p[source], None) for i, (p, _) in people.items()} for people in super().__call__(*args)]

    monkeypatch.setitem(KEYPOINTS, "toy", replace(KEYPOINTS["toy"], has_depth=False))
    return Flat


def run_flat(film, flat_toy, **options):
    models = Models(Options(**TOYS, **options))
    models.keypoints = flat_toy()
    return run_stages(open_clip(film, models.options), stages_of(models.options), models)


def test_a_mesh_stream_that_needs_depth_reads_the_lifted_pose_of_2d_keypoints(film, flat_toy, monkeypatch):
    from hmrkit.lifters.toy import ToyLifter

    calls = []
    whole = ToyLifter.__call__
    monkeypatch.setattr(ToyLifter, "__call__", lambda *a, **k: calls.append(1) or whole(*a, **k))
    take = run_flat(film, flat_toy)
    assert list(take.provenance) == ["detect", "track", "pose", "lift", "regress", "calibrate"]
    assert len(calls) == len(take.tracks)  # once a person, though two stages read it
    assert np.isfinite(take.body[1].transl_c).all()
    other = run_flat(film, flat_toy, flip=False)
    assert other.provenance["regress"] != take.provenance["regress"]


def test_another_mesh_stream_does_not_lift_again(take):
    other = Models(Options(**TOYS, mesh="toy"))
    other.lifter = None  # not to be used
    models = Models(Options(**TOYS, refine=False))
    again = run_stages(take, ["regress"], models)
    assert again.provenance["regress"] != take.provenance["regress"]
    assert again.provenance["lift"] == take.provenance["lift"]
    assert again.lifted is take.lifted


def test_later_stages_go_on_with_the_body_and_the_keypoints_of_the_take(take, tmp_path):
    from hmrkit.pipeline import adopted

    made = run_stages(take, ["regress"], Models(Options(**TOYS, gender="female")))
    chosen = adopted(Options(**TOYS), made, ["calibrate"])
    assert (chosen.gender, chosen.keypoints, chosen.mesh) == ("female", "toy", "fit")
    done = run_stages(made, ["calibrate"], Models(chosen))
    assert done.calibrated[1].params.model == done.body[1].model == "hmrkit-body-0-female"
    meshes = [mesh_slice(done, 1, slice(None), Models(o)).vertices_c for o in (chosen, Options(**TOYS))]
    np.testing.assert_array_equal(*meshes)  # people of a take have bodies of their own, whatever a run's is
    assert hmrkit.export(done, tmp_path, formats=["npz"], device="cpu")
    file = np.load(tmp_path / "person_01.npz")
    wanted = Models(chosen).body
    assert str(file["model_id"]) == wanted.model_id


def test_time_between_frames_is_the_videos():
    numbers = np.arange(6)
    video = VideoInfo("a.mp4", "00", 640, 480, Fraction(30), 6, numbers, numbers / 30.0)
    assert np.allclose(video.seconds(np.array([0, 2, 4])), [0, 2 / 30, 4 / 30])  # frames that a track lacks
    thinned = video.at(numbers % 2 == 0)
    assert np.allclose(thinned.seconds(np.array([2, 4])), [0, 2 / 30])


def test_methods_for_tests_are_hidden_unless_asked_for():
    from typer.testing import CliRunner

    from hmrkit.cli.app import app

    assert "toy" not in CliRunner().invoke(app, ["list", "methods"]).output
    assert "toy" in CliRunner().invoke(app, ["list", "methods", "--all"]).output
    with pytest.raises(UsageError, match=r"unknown method 'x'; choose one of fit, file, hmr, .*, crowdnet, pc-hmr"):
        Options(method="x")


def test_takes_from_before_ids_named_the_sex_are_read(take, tmp_path):
    from hmrkit.take import load_take, save_take

    old = {1: replace(take.body[1], model="hmrkit-body-0", gender="male")}
    save_take(replace(take, body=old), tmp_path / "old.npz")
    assert load_take(tmp_path / "old.npz").body[1].model == "hmrkit-body-0-male"


def test_report_is_plain_json(take):
    import json

    facts = json.loads(json.dumps(report(take)))
    assert facts["people"][0]["frames"] == 12
    assert facts["frames_without_people"] == []


def test_upright_finds_a_tilted_camera(take, models):
    tilt = axis_angle_to_matrix(torch.tensor([0.45, 0.0, 0.1])).numpy()
    down = axis_angle_to_matrix(torch.tensor([torch.pi, 0.0, 0.0])).numpy()  # y up to y down
    params = BodyParams(
        np.repeat((tilt @ down)[None], 5, 0).astype(np.float32),
        np.tile(np.eye(3, dtype=np.float32), (5, 23, 1, 1)),
        np.zeros(10, np.float32),
        np.tile(np.float32([0, 0, 4]), (5, 1)),
        "neutral",
        models.body.model_id,
    )
    up = upright(Take(take.video, take.camera, body={1: params}), models)
    assert up @ (tilt @ [0, -1, 0]) > np.cos(np.radians(4))
    assert np.array_equal(upright(Take(take.video, take.camera), models), [0, -1, 0])


def test_export_from_python(take, tmp_path):
    files = hmrkit.export(take, tmp_path, formats=["npz"], device="cpu")
    assert files == [tmp_path / "person_01.npz"]


def test_benchmark_reports_every_stage(film):
    facts = run_benchmark(film, Options(**TOYS), ("npz",), render=False)
    assert set(facts["stages"]) == {*stages_of(Options()), "export"}
    assert all(row["ms_per_frame"] >= 0 for row in facts["stages"].values())
    assert facts["frames"] == facts["person_frames"] == 12
    assert facts["peak_rss_mib"] > 50


def test_frames_that_could_not_be_decoded_are_black_in_the_overlay(take):
    from hmrkit.output import _with_gaps

    frames = np.full((2, take.video.height, take.video.width, 3), 200, np.uint8)
    indices, whole = _with_gaps(np.array([4, 6]), frames, (5, 7), take)
    assert indices == [4, 5, 6, 7]
    assert whole.max((1, 2, 3)).tolist() == [200, 0, 200, 0]


def test_a_track_without_any_keypoint_is_reported_and_stops_nothing(take, models, tmp_path):
    ghost = replace(take.tracks[0], track_id=2)
    unseen = take.keypoints[1].keypoints_2d.copy()
    unseen[..., :2], unseen[..., 2] = np.nan, 0
    keypoints = {**take.keypoints, 2: replace(take.keypoints[1], keypoints_2d=unseen)}
    haunted = replace(keep_stages(take, ["detect", "track", "pose"]), tracks=(*take.tracks, ghost), keypoints=keypoints)
    done = run_stages(haunted, ["regress", "lift", "calibrate"], models)
    assert [(p["track_id"], p["mesh"]) for p in report(done)["people"]] == [(1, True), (2, False)]
    assert len(hmrkit.export(done, tmp_path, formats=["npz"], device="cpu")) == 1


# ----------------------------------------------------------------------------------------------------- regressors


def test_a_regressor_alone_and_calibrated(film):
    alone = hmrkit.run(film, **{**TOYS, "method": "toy"})
    assert list(alone.provenance) == ["detect", "track", "pose", "regress"]
    assert len(alone.body[1].transl_c) == 12
    both = hmrkit.run(film, **TOYS, mesh="toy")
    assert list(both.provenance) == list(stages_of(Options()))
    assert np.array_equal(both.body[1].body_pose, alone.body[1].body_pose)
    assert both.provenance["regress"] == alone.provenance["regress"]
    assert np.isfinite(both.calibrated[1].joints_c).all()


def test_a_regressors_estimates_of_single_frames_are_smoothed_over_time(tmp_path):
    from hmrkit.regressors.toy import ToyRegressor

    class Shaking(ToyRegressor):
        def estimate(self, crops, context=None):
            still = super().estimate(crops, context)
            size = 1 + 0.005 * torch.randn(len(crops), 1, generator=self.random)
            rotations = axis_angle_to_matrix(0.05 * torch.randn(len(crops), 23, 3, generator=self.random))
            return replace(still, body_pose=rotations @ still.body_pose, crop_camera=still.crop_camera * size)

    def steps(smooth):
        models = Models(Options(**{**TOYS, "method": "toy", "smooth": smooth}))
        models.regressor = Shaking()
        models.regressor.random = torch.Generator().manual_seed(0)
        body = run_stages(open_clip(film, models.options), stages_of(Options(method="toy")), models).body[1]
        return np.abs(np.diff(body.body_pose, 2, axis=0)).mean(), np.abs(np.diff(body.transl_c[:, 2], 2)).mean()

    film = write_film(tmp_path / "fast.mp4", frames=16, rate=Fraction(30))
    unsmoothed, as_usual = steps(0.0), steps(1.0)
    assert np.divide(as_usual, unsmoothed).max() < 0.3


def test_refined_a_regressors_mesh_meets_the_keypoints_better(film):
    from hmrkit.report import reprojection

    off = {}
    for refine in (None, True):
        options = {**TOYS, "method": "toy", "refine": refine}
        off[refine] = reprojection(hmrkit.run(film, **options), Models(Options(**options)))[1]
    assert off[True] < 0.5 * off[None]


def test_only_what_the_mesh_stream_uses_is_loaded_and_recorded(film, monkeypatch):
    import hmrkit.fitting.stream
    import hmrkit.regressors

    def never(*_, **__):
        raise AssertionError("not to be used")

    fitted = hmrkit.run(film, **{**TOYS, "method": "fit"})
    assert set(fitted.provenance["regress"]["weights"]) == {"body"}
    with monkeypatch.context() as patch:
        patch.setattr(hmrkit.regressors, "load_regressor", never)
        hmrkit.run(film, **{**TOYS, "method": "fit"})
    monkeypatch.setattr(hmrkit.fitting.stream, "fit_track", never)
    for part in ("lifter", "calibration"):
        monkeypatch.setattr(Models, part, property(never))
    regressed = hmrkit.run(film, **{**TOYS, "method": "toy"})
    assert set(regressed.provenance["regress"]["weights"]) == {"body", "regressor"}


def test_other_regressor_weights_run_the_stage_again(film):
    from hmrkit.regressors.toy import ToyRegressor

    models = Models(Options(**{**TOYS, "method": "toy"}))
    done = run_stages(open_clip(film, models.options), stages_of(Options(method="toy")), models)
    other = Models(models.options)
    other.regressor = ToyRegressor()
    other.regressor.weights_sha256 = "another"
    again = run_stages(done, stages_of(Options(method="toy")), other)
    assert again.provenance["regress"] != done.provenance["regress"]
    assert again.keypoints is done.keypoints


def test_the_real_network_runs_in_the_chain(film, monkeypatch):
    """Untrained: what it says is nonsense, but it says it of every frame, in the same way in any batch."""
    from functools import partial

    import hmrkit.regressors

    torch.manual_seed(0)
    untrained = hmrkit.regressors.load_regressor("hmr", weights=None)
    monkeypatch.setattr(hmrkit.regressors, "load_regressor", lambda *_, **__: untrained)
    run = partial(hmrkit.run, film, **{**TOYS, "method": "hmr"})
    take, other = run(), run(batch_size=5)
    assert np.isfinite(take.body[1].transl_c).all()
    assert (take.body[1].transl_c[:, 2] > 0).all()
    assert np.allclose(take.body[1].global_orient, other.body[1].global_orient, atol=1e-3)


def test_options_choose_mesh_and_refinement():
    assert Options().mesh == "fit"
    assert Options(method="spin").mesh == "spin"
    assert Options(mesh="hmr").method == "pc-hmr"
    assert Options().refine is True
    assert Options(method="hmr").refine is False
    assert Options(mesh="spin", refine=True).refine is True
    assert Options().stand is True
    assert Options(smooth=0.0).stand is False
    assert Options(smooth=0.0, stand=True).stand is True
    same = Options(**vars(Options(method="hmr", checkpoint="x.pt")))
    assert same == Options(method="hmr", checkpoint="x.pt")


@pytest.mark.parametrize(
    "bad",
    [
        {"method": "fit", "mesh": "hmr"},
        {"method": "hmr", "mesh": "spin"},
        {"checkpoint": "x.pt"},
        {"smooth": -1.0},
        {"smooth": float("nan")},
    ],
)
def test_options_that_contradict_one_another_are_refused(bad):
    with pytest.raises(UsageError):
        Options(**bad)


def test_benchmark_covers_a_regressor(film):
    facts = run_benchmark(film, Options(**{**TOYS, "method": "toy"}), ("npz",), render=False)
    assert set(facts["stages"]) == {*stages_of(Options(method="toy")), "export"}


def test_keypoints_are_cleaned_once_a_person_for_fitting_and_refining(take, monkeypatch):
    from hmrkit.fitting import observations

    calls = []
    whole = observations.clean_track
    monkeypatch.setattr(observations, "clean_track", lambda *given: calls.append(given[0].track_id) or whole(*given))
    refined = run_stages(keep_stages(take, ["detect", "track", "pose"]), ["regress"], Models(Options(**TOYS)))
    assert refined.body
    assert calls == sorted(refined.body)


# ------------------------------------------------------------------------------------------------- modes of PC-HMR


def uncertain_of(share):
    """Errors by which the direct pose has about this `share` in all joints."""
    from hmrkit.calibration.pose_uncertainty import PoseUncertainty
    from hmrkit.skeletons import H36M_17

    both = {"lifted_mm": (share**0.5,) * 2, "direct_mm": ((1 - share) ** 0.5,) * 2, "correlation": (0.0, 0.0)}
    return PoseUncertainty(dict.fromkeys(H36M_17.joints, both), "measured")


def test_in_serial_mode_the_pose_is_lifted_from_the_mesh_and_not_from_the_keypoints(take):
    from hmrkit.take.storage import _digest

    models = Models(Options(**TOYS, mode="serial"))
    assert stages_of(models.options) == ("detect", "track", "pose", "regress", "lift", "calibrate")
    still = replace(take.body[1], **{k: np.repeat(v[:1], 12, 0) for k, v in moving(take.body[1]).items()})
    waving = take.keypoints[1].keypoints_2d.copy()
    waving[..., :2] += 10 * np.random.default_rng(0).random((12, *waving.shape[1:2], 2), np.float32)
    standing = replace(
        keep_stages(take, ["detect", "track", "pose", "regress"]),
        body={1: still},
        keypoints={1: replace(take.keypoints[1], keypoints_2d=waving)},
    )
    done = run_stages(standing, ["lift", "calibrate"], models)
    assert np.ptp(done.lifted[1].joints_c, axis=0).max() < 1e-6
    assert np.ptp(done.calibrated[1].joints_c, axis=0).max() < 1e-5  # nor do keypoints pull at it
    beside = run_stages(standing, ["lift"], Models(Options(**TOYS)))
    assert np.ptp(beside.lifted[1].joints_c, axis=0).max() > 1e-2
    assert done.provenance["lift"]["input"] == _digest({"regress": done.provenance["regress"]})
    assert set(done.provenance["lift"]["weights"]) == {"lifter", "body"}
    again = run_stages(done, ["regress"], Models(replace(models.options, refine=False)))
    assert "lift" not in again.provenance  # it was built on the bodies


def moving(params):
    return {name: getattr(params, name) for name in ("global_orient", "body_pose", "transl_c")}


def test_in_parallel_mode_the_pose_does_not_read_the_mesh(take):
    from hmrkit.take.storage import _digest

    assert take.provenance["lift"]["input"] == _digest({"pose": take.provenance["pose"]})
    assert set(take.provenance["lift"]["weights"]) == {"lifter"}


def test_direct_and_fused_poses_in_the_chain(take):
    poses = {"lifted": take.lifted[1].joints_c}
    for pose3d in ("direct", "fused"):
        models = Models(Options(**TOYS, pose3d=pose3d))
        models.pose_uncertainty = uncertain_of(0.5)
        done = run_stages(take, ["lift", "calibrate"], models)
        poses[pose3d] = done.lifted[1].joints_c
        assert np.isfinite(done.calibrated[1].joints_c).all()
        assert ("pose_uncertainty" in done.provenance["lift"]["weights"]) == (pose3d == "fused")
    off = [np.linalg.norm(poses[name] - poses["lifted"], axis=-1).mean() for name in ("fused", "direct")]
    assert 0 < off[0] < off[1]


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ({"mode": "x"}, "choose one of parallel, serial"),
        ({"pose3d": "x"}, "choose one of lifted, direct, fused"),
        ({"mode": "serial", "pose3d": "direct"}, "is for --mode parallel"),
        ({"pose3d": "fused", "keypoints": "movenet-thunder"}, r"wants keypoints with 3D \(blazepose-heavy\)"),
        ({"mode": "serial", "keypoints": "movenet-thunder"}, "which itself needs 3D keypoints"),
        ({"method": "fit", "mode": "serial"}, "--mode is about the pose .* use --method pc-hmr --mesh fit"),
        ({"method": "hmr", "pose3d": "direct"}, "--pose3d is about .* --method hmr calibrates none"),
    ],
)
def test_pose_streams_that_cannot_be_are_refused(bad, why):
    with pytest.raises(UsageError, match=why):
        Options(**bad)
    assert Options(mode="serial", mesh="hmr", keypoints="movenet-thunder").pose_stream.reads == "regress"


def test_with_params_only_no_vertices_are_made(film, take, monkeypatch, tmp_path):
    from hmrkit.body import Body
    from hmrkit.exporters import choose_formats

    models = Models(Options(**TOYS, params_only=True))
    made = []
    whole = Body.__call__
    monkeypatch.setattr(Body, "__call__", lambda *a, **k: made.append(len((out := whole(*a, **k)).vertices)) or out)
    done = run_stages(take, ["calibrate"], models).calibrated[1]
    assert set(made) <= {1, 11}  # resting bodies: what keypoints mark, and landmarks of the mean and ten shapes
    assert done.refit_residual_mm.shape == (12,)
    assert done.params.betas.shape == (10,)  # one shape a person
    assert np.array_equal(done.params.body_pose, take.calibrated[1].params.body_pose)
    assert done.refit_residual_mm.max() < take.calibrated[1].refit_residual_mm.max() + 1
    assert choose_formats(None, True) == ["npz"]
    with pytest.raises(UsageError, match="--params-only makes no vertices, which --format obj,abc writes"):
        choose_formats("npz,obj,abc", True)


def test_before_a_lens_that_zooms_somebody_who_stands_stays_where_they_are(tmp_path):
    random, factors = np.random.default_rng(0), 1.3 ** np.linspace(0, 1, 6)
    grey = 100 + 2 * np.kron(random.integers(-10, 11, (18, 24)), np.ones((8, 8)))
    grey[40:104, 80:112] = 220  # the person that the toy detector finds
    plate = Image.fromarray(np.repeat(grey[..., None].astype(np.uint8), 3, -1))
    for k, factor in enumerate(factors):
        x, y = 96 / factor, 72 / factor
        seen = plate.resize((192, 144), Image.Resampling.BICUBIC, (96 - x, 72 - y, 96 + x, 72 + y))
        seen.save(tmp_path / f"plate.{k:02d}.png")
    take = hmrkit.run(str(tmp_path), **TOYS, refine=False, smooth=0.0, fov_track=True)
    assert take.camera.zoom is not None
    assert np.allclose(take.camera.zoom.factors, factors, rtol=0.01)
    boxes = take.tracks[0].boxes_xyxy
    assert np.ptp(boxes[-1, 1::2]) / np.ptp(boxes[0, 1::2]) == pytest.approx(1.3, abs=0.05)
    assert np.ptp(np.log(take.body[1].transl_c[:, 2])) < 0.03
    assert np.ptp(np.log(take.calibrated[1].joints_c[:, 0, 2])) < 0.03
    assert report(take)["zoom"][-1] == pytest.approx(1.3, rel=0.01)


def test_a_zoom_is_found_anew_where_the_focal_length_changes():
    for wanted, camera in ((True, True), (False, False)):
        assert STAGES["detect"].camera(Options(fov_track=wanted)) == camera
