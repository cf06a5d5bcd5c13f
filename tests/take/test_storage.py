import io
import json
import os
import stat
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from hmrkit import export
from hmrkit.camera import assume_camera
from hmrkit.errors import InputError
from hmrkit.files import atomic_path
from hmrkit.take import load_take, provenance_record, save_take
from hmrkit.types import (
    BodyParams,
    Calibration,
    Detections,
    DroppedTrack,
    Keypoints,
    LiftedPose,
    Take,
    Track,
    VideoInfo,
    Zoom,
)


@pytest.fixture
def take():
    rng = np.random.default_rng(0)

    def f32(*shape):
        return rng.normal(size=shape).astype(np.float32)

    video = VideoInfo(
        "a.mp4", "ab" * 32, 640, 480, Fraction(30000, 1001), 9, np.arange(2, 7), np.arange(5) / 29.97, 90, (3,)
    )
    params = BodyParams(f32(3, 3, 3), f32(3, 23, 3, 3), f32(10), f32(3, 3), "neutral", "some-body")
    return Take(
        video=video,
        camera=assume_camera(640, 480),
        detections=tuple(Detections(f32(n, 4), f32(n), f32(n, 6)) for n in (2, 0, 1, 1, 0)),
        tracks=(Track(4, np.array([2, 4, 5]), f32(3, 4), f32(3), np.array([False, True, False])),),
        dropped_tracks=(DroppedTrack(3, 5, 2, 0.4, "short", track_id=9),),
        keypoints={4: Keypoints(f32(3, 17, 3), None, "coco-17")},
        body={4: params},
        lifted={4: LiftedPose(f32(3, 17, 3), "h36m-17")},
        calibrated={4: Calibration(f32(3, 24, 3), params, f32(3))},
        faces=np.array([[0, 1, 2]], np.int32),
        provenance={"detect": {"options": {"every": 1}}},
    )


def assert_equal(a, b):
    if isinstance(a, np.ndarray):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    elif hasattr(a, "__dataclass_fields__"):
        for name in a.__dataclass_fields__:
            assert_equal(getattr(a, name), getattr(b, name))
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_equal(a[key], b[key])
    elif isinstance(a, tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_equal(x, y)
    else:
        assert a == b


def test_round_trip_through_file_and_pipe(take, tmp_path):
    save_take(take, tmp_path / "t.npz")
    assert_equal(take, load_take(tmp_path / "t.npz"))
    pipe = io.BytesIO()
    save_take(take, pipe)
    assert pipe.getvalue() == (tmp_path / "t.npz").read_bytes(), "equal takes must give equal bytes"
    pipe.seek(0)
    assert_equal(take, load_take(pipe))


def test_a_zoom_is_saved_in_the_frames_that_the_take_has(take, tmp_path):
    zoom = Zoom(take.video.frame_indices, np.linspace(1, 1.4, 5))
    save_take(replace(take, camera=replace(take.camera, zoom=zoom)), tmp_path / "t.npz")
    assert_equal(load_take(tmp_path / "t.npz").camera.zoom, zoom)


def test_empty_take_round_trip(take, tmp_path):
    empty = Take(take.video, take.camera)
    save_take(empty, tmp_path / "t.npz")
    assert_equal(empty, load_take(tmp_path / "t.npz"))


def test_readable_with_plain_numpy(take, tmp_path):
    save_take(take, tmp_path / "t.npz")
    with np.load(tmp_path / "t.npz", allow_pickle=False) as archive:
        assert archive["track/4/boxes_xyxy"].shape == (3, 4)
        assert "hmrkit-take" in str(archive["manifest"])


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04broken"])
def test_what_is_not_a_take_is_said_in_one_line(content, tmp_path):
    path = tmp_path / "x.npz"
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        load_take(path)
    assert "\n" not in str(error.value)


def test_truncated_missing_and_foreign_files(take, tmp_path):
    save_take(take, tmp_path / "t.npz")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "t.npz").read_bytes()[:-200])
    np.savez(tmp_path / "foreign.npz", a=np.zeros(3))
    for name in ("cut.npz", "foreign.npz", "missing.npz"):
        with pytest.raises(InputError, match=name):
            load_take(tmp_path / name)


def test_every_damaged_take_is_refused_in_one_line_and_never_believed(take, tmp_path):
    save_take(take, tmp_path / "t.npz")
    whole = (tmp_path / "t.npz").read_bytes()
    with np.load(tmp_path / "t.npz") as archive:
        arrays = dict(archive)
    manifest = json.loads(str(arrays["manifest"]))
    for key in manifest.keys() - {"checksums"}:  # without these it is a take of an earlier hmrkit
        less = json.dumps({k: v for k, v in manifest.items() if k != key})
        np.savez(tmp_path / f"without_{key}.npz", **arrays | {"manifest": np.array(less)})
    stopped = manifest | {"video": manifest["video"] | {"fps": "0"}}
    np.savez(tmp_path / "stopped.npz", **arrays | {"manifest": np.array(json.dumps(stopped))})
    for key in arrays.keys() - {"manifest"}:
        changed = arrays[key].reshape(-1)[:1] if arrays[key].size > 1 else arrays[key] + 1
        np.savez(tmp_path / f"changed_{key.replace('/', '_')}.npz", **arrays | {key: changed})
        np.savez(tmp_path / f"less_{key.replace('/', '_')}.npz", **{k: v for k, v in arrays.items() if k != key})
    damaged = [path for path in tmp_path.iterdir() if path.name != "t.npz"]
    assert len(damaged) > 40
    for path in damaged:
        with pytest.raises(InputError, match="anew") as error:
            load_take(path)
        assert "\n" not in str(error.value)
    random = np.random.default_rng(3)
    for _ in range(150):  # flipped bits: refused, or in a place of the zip that means nothing
        data = bytearray(whole)
        for at in random.integers(0, len(data), 3):
            data[at] ^= 1 << int(random.integers(8))
        (tmp_path / "flip.npz").write_bytes(data)
        try:
            loaded = load_take(tmp_path / "flip.npz")
        except InputError:
            continue
        assert_equal(take, loaded)


def test_writers_of_one_file_share_no_temporary_name(tmp_path):
    with atomic_path(tmp_path / "f") as one, atomic_path(tmp_path / "f") as other:
        assert one != other
        one.write_text("one")
        other.write_text("other")
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_what_dead_writers_left_is_removed_and_live_ones_kept(tmp_path):
    with atomic_path(tmp_path / "a" / "f") as alive:
        alive.touch()
        dead = subprocess.Popen([sys.executable, "-c", ""])
        dead.wait()
        left = alive.with_name(alive.name.replace(f"-{os.getpid()}-", f"-{dead.pid}-"))
        left.touch()
        foreign = alive.with_name(".f.elsewhere-1-0.part")
        foreign.touch()
        check = f"from hmrkit.files import atomic_path as a\nwith a({str(tmp_path / 'a' / 'g')!r}) as t: t.touch()"
        subprocess.run([sys.executable, "-c", check], check=True)
        assert alive.exists()
        assert foreign.exists()
        assert not left.exists()


def test_links_are_followed_folders_refused_and_pipes_written_as_they_are(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there" / "real.txt")
    for text in ("new", "newer"):
        with atomic_path(tmp_path / "link") as temporary:
            temporary.write_text(text)
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "there" / "real.txt").read_text() == text
    with pytest.raises(InputError, match="found a folder"), atomic_path(tmp_path / "there"):
        pass
    os.mkfifo(tmp_path / "pipe")
    reader = subprocess.Popen(["cat", tmp_path / "pipe"], stdout=subprocess.PIPE)
    with atomic_path(tmp_path / "pipe") as temporary:
        temporary.write_text("through")
    assert reader.communicate(timeout=20)[0] == b"through"
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    (tmp_path / "null").symlink_to("/dev/null")
    with atomic_path(tmp_path / "null") as temporary:
        temporary.write_text("gone")
    assert (tmp_path / "null").is_symlink()
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path):
    target = tmp_path / "f.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_unwritable_target_is_an_input_error(take, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        save_take(take, tmp_path / "file" / "t.npz")


def test_provenance_chains_options_weights_and_inputs():
    base = provenance_record({"a": 1}, {"net": "x"}, "video")
    assert base == provenance_record({"a": 1}, {"net": "x"}, "video")
    for other in (({"a": 2}, {"net": "x"}, "video"), ({"a": 1}, {"net": "y"}, "video"), ({"a": 1}, {"net": "x"}, "v2")):
        changed = provenance_record(*other)
        assert changed != base
        assert provenance_record({}, {}, changed) != provenance_record({}, {}, base)


def test_shapes_are_checked_on_load(take, tmp_path):
    broken = replace(take.keypoints[4])
    object.__setattr__(broken, "keypoints_2d", np.zeros((3, 17), np.float32))
    save_take(replace(take, keypoints={4: broken}), tmp_path / "t.npz")
    with pytest.raises((InputError, ValueError)):
        load_take(tmp_path / "t.npz")


def test_takes_of_an_earlier_release_open_and_those_of_a_later_are_refused(tmp_path):
    kept = Path(__file__).parents[1] / "data" / "take_v1.npz"
    take = load_take(kept)
    assert list(take.calibrated) == [1]
    assert take.calibrated[1].joints_c.shape == (6, 24, 3)
    (written,) = export(take, tmp_path, formats=["npz"])
    assert len(np.load(written)["poses"]) == 6
    arrays = dict(np.load(kept))
    manifest = json.loads(str(arrays["manifest"])) | {"version": 99}
    np.savez(tmp_path / "later.npz", **arrays | {"manifest": json.dumps(manifest)})
    with pytest.raises(InputError, match="take of version 99, this hmrkit reads version 1; update hmrkit"):
        load_take(tmp_path / "later.npz")
