"""Files in each tool's format, made of known motion, come back as that motion."""

from __future__ import annotations

import os
import pickle
import zlib
from dataclasses import replace
from fractions import Fraction

import made_results as made
import numpy as np
import pytest
import torch
from films import write_film
from made_smpl import make_smpl

from hmrkit.body import Body, load_body
from hmrkit.body.files import find_body, read_smpl_file
from hmrkit.body.posing import skeleton_joints, take_rows
from hmrkit.camera import assume_camera, project
from hmrkit.errors import InputError, UsageError
from hmrkit.geometry import axis_angle_to_matrix
from hmrkit.results import RESULTS, pickles
from hmrkit.results.files import read_file
from hmrkit.results.formats import read_results, recognised
from hmrkit.results.imported import camera_of, results_take
from hmrkit.results.people import to_rotations
from hmrkit.types import Take
from hmrkit.video import probe

# Frames of two people; the second is away for two frames.
FRAMES = (list(range(12)), [1, 2, 3, 4, 7, 8, 9])
WEAK_FOCAL = 150.0


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return probe(write_film(tmp_path_factory.mktemp("film") / "walk.mp4"))


@pytest.fixture(scope="module")
def smpl(tmp_path_factory):
    return load_body(make_smpl(tmp_path_factory.mktemp("smpl")))


@pytest.fixture(scope="module")
def smplx():
    """A body that says it is SMPL-X's."""
    return Body(read_smpl_file(find_body()) | {"model_id": "smplx-made"})


def two_people(body):
    places = ((-0.8, 0.1, 4.0), (0.9, 0.0, 5.0))
    return [made.make_motion(len(f), body, k, p) for k, (f, p) in enumerate(zip(FRAMES, places, strict=True))]


def imported(path, video, body, focal=None, space=None) -> Take:
    _, results = read_results(path, video, space)
    camera = camera_of(results, video) if results.focal_px else assume_camera(128, 96, focal)
    return results_take(results, video, camera, body, str(path))


def check(take, people, frames=FRAMES, shapes=True):
    assert len(take.tracks) == len(people)
    for track, params, seen in zip(take.tracks, people, frames, strict=True):
        found = take.body[track.track_id]
        assert track.frame_indices.tolist() == list(seen)
        np.testing.assert_allclose(found.global_orient, params.global_orient, atol=2e-6)
        np.testing.assert_allclose(found.body_pose, params.body_pose, atol=2e-6)
        np.testing.assert_allclose(found.transl_c, params.transl_c, atol=2e-5)
        if shapes:
            np.testing.assert_allclose(found.betas, params.betas, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("vibe", made.vibe), ("vibe", made.pare), ("vibe", made.crop_cameras), ("phalp", made.phalp),
        ("wham", made.wham), ("cliff", made.cliff), ("cliff", made.untracked_cliff), ("tram", made.tram),
        ("humandata", made.humandata), ("humandata", made.metric_humandata), ("romp", made.bev), ("trace", made.trace),
    ],
)  # fmt: skip
def test_smpl_results_come_back(name, write, video, smpl, tmp_path):
    people = two_people(smpl)
    own = {"wham": made.DIAGONAL, "cliff": made.DIAGONAL, "tram": made.DIAGONAL, "trace": 137.0}
    focal = 443.4 / 4 if write is made.bev else own.get(name, WEAK_FOCAL)
    path = write(tmp_path, people, FRAMES, focal, smpl)
    assert recognised(path, read_file(path))[0] == name
    take = imported(path, video, smpl, focal)
    check(take, people)
    np.testing.assert_allclose(take.camera.focal_px, focal, rtol=1e-5)
    np.testing.assert_allclose(take.camera.center_px, [60, 50] if write is made.metric_humandata else [64, 48])


@pytest.mark.parametrize(("name", "write"), [("prompthmr", made.prompthmr), ("smpler-x", made.smpler_x)])
def test_smplx_results_come_back_on_their_body(name, write, video, smplx, tmp_path):
    people = two_people(smplx)
    body = {"body": smplx} if write is made.smpler_x else {}
    path = write(tmp_path, people, FRAMES, WEAK_FOCAL, **body)
    assert recognised(path, read_file(path))[0] == name
    check(imported(path, video, smplx, WEAK_FOCAL), people)


def test_prompthmr_s_image_is_the_first_frame_and_its_fast_clips_have_fewer(video, smplx, tmp_path):
    people = [take_rows(params, np.arange(1)) for params in two_people(smplx)]
    path = made.prompthmr_image(tmp_path, people, FRAMES, 140.0)
    take = imported(path, video, smplx)
    check(take, people, [[0], [0]])
    np.testing.assert_allclose(take.camera.focal_px, 140)
    with pytest.raises(InputError, match="leave out --space world"):
        read_results(path, video, "world")
    path = made.prompthmr(tmp_path, two_people(smplx)[1:], FRAMES[1:], 140.0)
    _, results = read_results(path, replace(video, fps=Fraction(120000, 1001)))
    assert results.people[0].frame_indices.tolist() == [3, 5, 7, 9, 15, 17, 19]


def test_gvhmr_comes_back_and_its_pelvis_on_another_body(video, smplx, smpl, tmp_path, caplog):
    params = made.make_motion(12, smplx)
    path = made.gvhmr(tmp_path, [params], FRAMES[:1], 170.0)
    check(imported(path, video, smplx), [params], FRAMES[:1])
    take = imported(path, video, smpl)
    assert "people get its mean shape" in caplog.text
    assert not take.body[1].betas.any()
    np.testing.assert_array_equal(take.body[1].body_pose[:, 21:], np.broadcast_to(np.eye(3), (12, 2, 3, 3)))
    rest = np.array([0.0, -0.35, 0.01])  # what a SMPL-X body has; the made one's own is not asked
    np.testing.assert_allclose(skeleton_joints(smpl, take.body[1])[:, 0], params.transl_c + rest, atol=1e-5)


@pytest.mark.parametrize("tracked", [True, False])
@pytest.mark.parametrize(
    ("write", "kept"),
    [
        (made.romp, {}), (made.romp, {"aligned": True}), (made.romp, {"joints": False}),
        (made.bev, {}), (made.bev, {"joints": False}),
    ],
)  # fmt: skip
def test_romp_s_joints_say_where_the_pelvis_is(video, smpl, tmp_path, tracked, write, kept, caplog):
    people = two_people(smpl)
    focal = 443.4 / 4 if write is made.bev else WEAK_FOCAL
    check(imported(write(tmp_path, people, FRAMES, focal, smpl, tracked, **kept), video, smpl, focal), people)
    assert ("BEV saw children in 7 detections" in caplog.text) == (write is made.bev)


def test_hybrik_moves_the_pelvis_and_counts_frames_from_one(video, smpl, tmp_path):
    params, seen = take_rows(made.make_motion(12, smpl), np.arange(3, 9)), list(range(3, 9))
    path = made.hybrik(tmp_path, [params], [seen], WEAK_FOCAL, smpl)
    check(imported(path, video, smpl, WEAK_FOCAL), [params], [seen])


def drawn_by_vibe(data, body):
    """Where VIBE's renderer puts joints: no perspective, px (T,24,2)."""
    one = next(iter(data.values()))
    sx, sy, x, y = one["orig_cam"].T[..., None]
    joints = posed(body, one["pose"], one["betas"][0])
    return np.stack([64 + 64 * sx * (joints[..., 0] + x), 48 + 48 * sy * (joints[..., 1] + y)], -1)


def drawn_by_phalp(data, body):
    """Where PHALP's renderer puts joints: focal length 5000 in 256 px, into which the frame is fitted."""
    rows = [(frame["smpl"][0], frame["camera"][0]) for frame in data.values()]
    pose = np.stack([np.concatenate([smpl["global_orient"], smpl["body_pose"]]) for smpl, _ in rows])
    joints = posed(body, pose, rows[0][0]["betas"]) + np.stack([camera for _, camera in rows])[:, None]
    return 5000 / 2 * joints[..., :2] / joints[..., 2:] + [64, 48]


def drawn_by_hybrik(data, body):
    """Where HybrIK's renderer puts joints: its own focal length for each box, about the pelvis."""
    joints = posed(body, np.stack(data["pred_thetas"]).reshape(-1, 24, 3, 3), data["pred_betas"][0])
    joints = joints - joints[:, :1] + np.stack(data["transl"])[:, None]
    return made.HYBRIK_FOCAL * joints[..., :2] / joints[..., 2:] + [64, 48]


def posed(body, pose, betas) -> np.ndarray:
    rotations = to_rotations(pose).astype(np.float32)
    with torch.inference_mode():
        return body.joints_only(rotations[:, 0], rotations[:, 1:], np.float32(betas)).joints.double().numpy()


@pytest.mark.parametrize(
    ("write", "drawn"),
    [(made.vibe, drawn_by_vibe), (made.phalp, drawn_by_phalp), (made.hybrik, drawn_by_hybrik)],
)
def test_people_without_perspective_look_as_their_tool_draws_them(video, smpl, tmp_path, write, drawn):
    focal = 110.0  # 60 degrees across the image
    params = made.make_motion(12, smpl, place=(1.5, -0.2, 3.5))
    path = write(tmp_path, [params], FRAMES[:1], focal, smpl)
    take, wanted = imported(path, video, smpl, focal), drawn(read_file(path), smpl)
    pixels = project(take.camera, skeleton_joints(smpl, take.body[1]))
    height = np.ptp(wanted[..., 1], axis=1).mean()
    np.testing.assert_allclose(pixels[:, 0], wanted[:, 0], atol=1e-3)
    assert np.linalg.norm(pixels - wanted, axis=-1).mean() < 0.03 * height
    rays = made.ray_rotation(skeleton_joints(smpl, take.body[1])[:, 0])
    as_in_the_file = replace(take.body[1], global_orient=rays.swapaxes(1, 2) @ take.body[1].global_orient)
    off = project(take.camera, skeleton_joints(smpl, as_in_the_file)) - wanted
    assert np.linalg.norm(off, axis=-1).mean() > 1.5 * np.linalg.norm(pixels - wanted, axis=-1).mean()


def test_amass_is_taken_at_the_clip_s_frames_upright_before_a_camera(video, smpl, tmp_path):
    params = made.make_motion(60, smpl)  # 50 Hz, the film has 10
    lie = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # camera -> a world with z up
    world = replace(
        params, global_orient=(lie @ params.global_orient).astype(np.float32),
        transl_c=(params.transl_c @ lie.T).astype(np.float32),
    )  # fmt: skip
    take = imported(made.amass(tmp_path, world, 50), video, smpl)
    every = take_rows(params, np.arange(0, 60, 5))
    found = take.body[1]
    np.testing.assert_allclose(found.global_orient, every.global_orient, atol=1e-5)
    np.testing.assert_allclose(found.body_pose[:, :21], every.body_pose[:, :21], atol=1e-5)
    path, wanted = (skeleton_joints(smpl, b)[:, 0] for b in (found, every))
    np.testing.assert_allclose(path - path[0], wanted - wanted[0], atol=2e-3)  # the rest pelvis's rotation
    assert (take.tracks[0].boxes_xyxy[:, :2] > 0).all()
    assert (take.tracks[0].boxes_xyxy[:, 2:] < [128, 96]).all()


@pytest.mark.parametrize("write", [made.wham, made.tram, made.trace])
def test_worlds_are_upright_and_have_the_same_steps(video, smpl, tmp_path, write):
    people = two_people(smpl)
    path = write(tmp_path, people, FRAMES, made.DIAGONAL, smpl)
    take = imported(path, video, smpl, space="world")
    rotated = axis_angle_to_matrix(torch.tensor([0.0, 0.5, 0])).numpy().T if write is made.trace else np.eye(3)
    for i, params in zip(take.body, people, strict=True):
        found, known = (skeleton_joints(smpl, one) for one in (take.body[i], params))
        known = known @ rotated.T
        np.testing.assert_allclose(found - found[:1, :1], known - known[:1, :1], atol=1e-3)


def test_a_space_that_a_tool_does_not_have_is_refused(video, smpl, tmp_path):
    with pytest.raises(UsageError, match="results of vibe have --space camera, not 'world'"):
        imported(made.vibe(tmp_path, two_people(smpl), FRAMES, 1.0, smpl), video, smpl, space="world")


def test_what_does_not_fit_is_one_clear_line(video, smpl, tmp_path):
    people = two_people(smpl)
    path = made.vibe(tmp_path, people, FRAMES, WEAK_FOCAL, smpl)
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(InputError, match=r"wanted results of one of hmrkit, amass.*found a"):
        read_results(tmp_path / "other.npz", video)
    with pytest.raises(InputError, match="check the path"):
        read_results(tmp_path / "none.pkl", video)
    for wrong in (np.nan, 3.0):
        bad = [replace(p, body_pose=p.body_pose * wrong) for p in people]
        with pytest.raises(InputError, match="wanted rotation"):
            read_results(made.tram(_folder(tmp_path, str(wrong)), bad, FRAMES, 100.0), video)
    with pytest.raises(InputError, match="wanted as many poses and places as frames for person 1, found 12 poses"):
        read_results(made.wham(_folder(tmp_path, "s"), people, [range(5), FRAMES[1]], 1.0), video)
    (tmp_path / "cut.pkl").write_bytes(path.read_bytes()[:-300])
    with pytest.raises(InputError, match="cut-off"):
        read_results(tmp_path / "cut.pkl", video)
    late = made.vibe(_folder(tmp_path, "l"), people, [[t + 50 for t in seen] for seen in FRAMES], WEAK_FOCAL, smpl)
    with pytest.raises(InputError, match="found none"):
        imported(late, video, smpl)
    with pytest.raises(InputError, match="wanted a camera in pixels, found NaN"):
        read_results(made.gvhmr(tmp_path, people[:1], FRAMES, np.nan), video)
    _, results = read_results(made.gvhmr(tmp_path, people[:1], FRAMES, 170.0), video)
    with pytest.raises(UsageError, match="leave out --focal"):
        camera_of(results, video, focal=340.0)


class Calls:
    def __reduce__(self):
        return (os.makedirs, ("made-by-results",))


def test_nothing_that_a_file_names_is_called(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made.dump_joblib({1: {"pose": np.zeros(3), "deep": [Calls()]}}, "a.pkl")
    made.dump_joblib({1: np.array([Calls()], object)}, "b.pkl", compress=True)
    np.save("c.npy", {"a": Calls()})
    np.savez("d.npz", results=np.array(Calls(), object))
    torch.save({"smpl_params_incam": Calls()}, "e.pt")
    for name in ("a.pkl", "b.pkl", "c.npy", "d.npz", "e.pt"):
        with pytest.raises(InputError, match="refused"):
            read_file(name)
    assert not os.path.exists("made-by-results")


def test_sizes_are_checked_before_memory_is_filled(tmp_path, monkeypatch):
    path = made.dump_joblib({"a": np.zeros(7)}, tmp_path / "a.pkl")
    path.write_bytes(path.read_bytes().replace(b"K\x07", b"K\xf7"))  # the shape, of an array that is not there
    with pytest.raises(InputError, match="cut-off"):
        read_file(path)
    monkeypatch.setattr(pickles, "MAX_BYTES", 1 << 20)
    (tmp_path / "bomb.pkl").write_bytes(zlib.compress(pickle.dumps(bytes(1 << 24))))
    with pytest.raises(InputError, match="refused"):
        read_file(tmp_path / "bomb.pkl")


def test_joblib_s_arrays_of_any_kind_are_read(tmp_path):
    value = {
        "f": np.asfortranarray(np.arange(6.0).reshape(2, 3)), "o": np.array([np.zeros(2), "text", None], object),
        "s": np.float32(3), "e": np.zeros((0, 3)), "l": [np.arange(3), (np.ones(2), "x")],
    }  # fmt: skip
    for compress in (False, True):
        back = read_file(made.dump_joblib(value, tmp_path / "a.pkl", compress))
        np.testing.assert_array_equal(back["f"], value["f"])
        np.testing.assert_array_equal(back["l"][1][0], np.ones(2))
        assert back["o"][1] == "text"
        assert back["e"].shape == (0, 3)


def test_every_format_s_module_has_its_door():
    for member in RESULTS.values():
        module = member.load_module()
        assert set(module.SPACES) <= {"camera", "world"}
        assert not module.recognise({})
        assert not module.recognise([])


def _folder(parent, name):
    (parent / name).mkdir()
    return parent / name
