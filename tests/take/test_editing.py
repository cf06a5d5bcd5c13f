"""Cutting and merging: what is kept is kept bit for bit, parts put together are the whole, strangers are refused."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from hmrkit.camera import assume_camera
from hmrkit.errors import InputError, ModelMismatchError, UsageError
from hmrkit.take import load_take, save_take
from hmrkit.take.editing import cut_take, merge_takes
from hmrkit.types import (
    BodyParams,
    Calibration,
    Detections,
    DroppedTrack,
    Keypoints,
    LiftedPose,
    MaskOverlap,
    Take,
    Track,
    VideoInfo,
    Zoom,
)


def _person(track_id, frames, rng):
    def f32(*shape):
        return rng.normal(size=(len(frames), *shape)).astype(np.float32)

    betas = rng.normal(size=10).astype(np.float32)
    params = BodyParams(f32(3, 3), f32(23, 3, 3), betas, f32(3), "neutral", "some-body")
    points = f32(17, 3)
    points[0] = np.nan  # missing must not make a frame differ from itself
    return (
        Track(track_id, np.asarray(frames), f32(4), f32(), rng.random(len(frames)) < 0.5),
        Keypoints(points, None, "coco-17"),
        params,
        LiftedPose(f32(17, 3), "h36m-17"),
        Calibration(f32(24, 3), replace(params, transl_c=f32(3)), f32()),
    )


@pytest.fixture
def take():
    """Frames 10, 12, .. 48; person 2 in all but some, 5 in the middle, 6 without any mesh."""
    rng = np.random.default_rng(0)
    numbers = np.arange(10, 50, 2)
    video = VideoInfo("a.mp4", "ab" * 32, 640, 480, Fraction(25), 60, numbers, numbers / 25, 0, (14, 40))
    people = [_person(2, numbers[numbers != 30], rng), _person(5, numbers[4:12], rng), _person(6, numbers[15:], rng)]
    tracks = tuple(p[0] for p in people)
    parts = [{p[0].track_id: p[k] for p in people if k == 1 or p[0].track_id != 6} for k in (1, 2, 3, 4)]
    return Take(
        video,
        assume_camera(640, 480),
        tuple(Detections(rng.random((n % 3, 4)), rng.random(n % 3), rng.random((n % 3, 2))) for n in range(20)),
        tracks,
        (
            DroppedTrack(10, 12, 2, 0.5, "short"),
            DroppedTrack(44, 46, 1, 0.3, "x"),
        ),
        *parts,
        np.array([[0, 1, 2]], np.int32),
        {stage: {"options": {}, "code": "c"} for stage in ("detect", "track", "pose", "regress", "lift", "calibrate")},
    )


def _same(a, b, tmp_path):
    """Equal takes are equal files; only the provenance, which tells of the editing, is left out."""
    for name, take in (("a", a), ("b", b)):
        save_take(replace(take, provenance={}), tmp_path / name)
    return (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_whole_cut_is_the_take(take, tmp_path):
    assert _same(cut_take(take), take, tmp_path)
    assert _same(cut_take(take, [2, 5, 6], 10, 49), take, tmp_path)


@pytest.mark.parametrize("at", [12, 19, 30, 48])
def test_stretches_put_together_are_the_take_in_any_order(take, tmp_path, at):
    first, second = cut_take(take, end=at), cut_take(take, start=at)
    for order in ([first, second], [second, first]):
        merged = merge_takes(order)
        assert _same(replace(merged, dropped_tracks=take.dropped_tracks), take, tmp_path)
        assert set(merged.dropped_tracks) == set(take.dropped_tracks)


def test_stretches_of_a_zoom_are_put_together_and_other_zooms_refused(take, tmp_path):
    frames = take.video.frame_indices
    zooming = replace(take, camera=replace(take.camera, zoom=Zoom(frames, 1 + frames / 100)))
    for part, name in ((cut_take(zooming, end=30), "first"), (cut_take(zooming, start=20), "second")):
        save_take(part, tmp_path / name)  # so that each knows the zoom of its own frames
    merged = merge_takes([load_take(tmp_path / "second"), load_take(tmp_path / "first")])
    assert merged.camera.zoom is not None
    assert np.array_equal(merged.camera.zoom.at(frames), 1 + frames / 100)
    for other in (take, replace(take, camera=replace(take.camera, zoom=Zoom(frames, 1 + frames / 90)))):
        with pytest.raises(InputError, match="how the lens zooms"):
            merge_takes([zooming, other])


def test_people_put_together_and_overlapping_stretches_are_the_take(take, tmp_path):
    assert _same(merge_takes([cut_take(take, [5]), cut_take(take, [2]), cut_take(take, [6])]), take, tmp_path)
    assert _same(merge_takes([cut_take(take, end=36), cut_take(take, start=20)]), take, tmp_path)


def test_a_cut_has_the_rows_of_its_frames(take):
    cut = cut_take(take, [2], start=20, end=41, every=2)
    assert cut.video.frame_indices.tolist() == list(range(20, 41, 4))
    assert cut.video.failed_frames == (40,)
    assert len(cut.detections) == 6
    track = cut.track(2)
    rows = np.searchsorted(take.track(2).frame_indices, track.frame_indices)
    assert track.frame_indices.tolist() == list(range(20, 41, 4))
    np.testing.assert_array_equal(cut.calibrated[2].params.body_pose, take.calibrated[2].params.body_pose[rows])
    np.testing.assert_array_equal(cut.keypoints[2].keypoints_2d, take.keypoints[2].keypoints_2d[rows])
    assert cut.dropped_tracks == ()
    assert set(cut.body) == {2}


def test_who_is_in_no_frame_left_is_named(take, caplog):
    cut = cut_take(take, start=44)
    assert [t.track_id for t in cut.tracks] == [2, 6]
    assert "person 5" in caplog.text


def test_edited_stages_are_no_longer_taken_for_done(take, tmp_path):
    made = replace(take, provenance=take.provenance | {"files": {}})
    for edited in (cut_take(made, end=20), merge_takes([cut_take(made, end=20), cut_take(made, start=20)])):
        assert list(edited.provenance) == list(take.provenance)
        assert all(edited.provenance[s] != take.provenance[s] for s in take.provenance)
        save_take(edited, tmp_path / "t.npz")
        assert load_take(tmp_path / "t.npz").provenance == edited.provenance


def test_renumbered_people_stay_apart(take):
    merged = merge_takes([take, take], renumber=True)
    assert [t.track_id for t in merged.tracks] == [2, 5, 6, 7, 8, 9]
    np.testing.assert_array_equal(merged.body[7].betas, take.body[2].betas)
    assert 9 in merged.keypoints
    assert 9 not in merged.body


def test_people_of_different_gender_go_into_one_take_with_what_masks_say_of_them(take, tmp_path):
    sure = np.array([0.1, 0.7, 0.2], np.float32)
    alone, other = cut_take(take, [2]), cut_take(take, [5])
    alone, other = (
        _with_body(alone, model="hmrkit-body-0-neutral"),
        _with_body(other, gender="male", model="hmrkit-body-0-male"),
    )
    iou = np.full(len(other.track(5).frame_indices), 0.8, np.float32)
    alone = replace(alone, overlap={2: MaskOverlap(np.ones_like(alone.track(2).scores))})
    other = replace(other, overlap={5: MaskOverlap(iou, sure)})
    save_take(cut_take(merge_takes([alone, other]), start=20), tmp_path / "t.npz")
    read = load_take(tmp_path / "t.npz")
    assert [read.body[i].gender for i in (2, 5)] == ["neutral", "male"]
    np.testing.assert_array_equal(read.overlap[5].genders, sure)
    assert read.overlap[2].genders is None


def _with_body(take, **change):
    return replace(take, body={i: replace(b, **change) for i, b in take.body.items()})


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda t: replace(t, video=replace(t.video, sha256="cd" * 32, path="b.mp4")), InputError, "not the same clip"),
        (lambda t: replace(t, video=replace(t.video, fps=Fraction(24))), InputError, "frames per second"),
        (lambda t: replace(t, camera=assume_camera(640, 480, 900.0)), InputError, "focal_px"),
        (lambda t: replace(t, provenance={"detect": {}}), InputError, "y.npz: lacks calibrate"),
        (lambda t: _with_body(t, model="other"), ModelMismatchError, "different bodies"),
        (lambda t: replace(t, faces=np.array([[2, 1, 0]], np.int32)), ModelMismatchError, "different bodies"),
        (lambda t: _with_body(t, betas=np.ones(10, np.float32)), InputError, "person 2 .* betas.*--renumber"),
        (lambda t: _with_body(t, transl_c=t.body[2].transl_c * 0), InputError, "person 2 .* frames that both have"),
        (lambda t: replace(t, body={}), InputError, "person 2 .* only one has body"),
    ],
)
def test_takes_that_do_not_belong_together_are_refused_in_one_line(take, change, error, words):
    take = cut_take(take, [2])
    with pytest.raises(error, match=words) as caught:
        merge_takes([take, change(take)], ["x.npz", "y.npz"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"people": [3, 5]}, "--people 3: the take has people 2, 5, 6"),
        ({"start": 60}, "frames 10 to 48"),
        ({"start": 20, "end": 20}, "no frame"),
        ({"every": 0}, "--every"),
    ],
)
def test_nothing_to_keep_is_said(take, options, words):
    with pytest.raises(UsageError, match=words):
        cut_take(take, **options)
