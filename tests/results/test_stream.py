"""Mesh stream ``file``: a take's bodies, given to the people of another take of the same clip."""

from __future__ import annotations

from dataclasses import replace

import made_results
import numpy as np
import pytest
from films import write_film
from made_smpl import make_smpl

import hmrkit
from hmrkit.body import load_body
from hmrkit.errors import InputError, UsageError
from hmrkit.models import Models
from hmrkit.options import Options
from hmrkit.take import save_take
from hmrkit.types import BodyParams

TOYS = {"detector": "toy", "tracker": "toy", "keypoints": "toy", "lifter": "toy", "device": "cpu"}


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> str:
    return str(write_film(tmp_path_factory.mktemp("film") / "walk.mp4"))


@pytest.fixture(scope="module")
def made(film):
    return hmrkit.run(film, **TOYS, method="toy")


@pytest.fixture
def file(made, tmp_path) -> str:
    return str(save_take(made, tmp_path / "made.take.npz") or tmp_path / "made.take.npz")


def test_bodies_come_as_they_are_under_the_tracks_own_number(film, made, file) -> None:
    found = hmrkit.run(film, **TOYS, method=f"file:{file}")
    for mine, theirs in zip(vars(found.body[1]).values(), vars(made.body[1]).values(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    calibrated = hmrkit.run(film, **TOYS, method="pc-hmr", mesh=f"file:{file}")
    assert calibrated.calibrated
    np.testing.assert_array_equal(calibrated.body[1].body_pose, made.body[1].body_pose)


def test_frames_that_the_file_lacks_lie_between_their_neighbours(film, made, tmp_path, caplog) -> None:
    track, body = made.tracks[0], made.body[1]
    keep = np.arange(len(track.frame_indices)) != 5
    fewer = replace(track, **{name: getattr(track, name)[keep] for name in list(vars(track)) if name != "track_id"})
    arrays = {name: getattr(body, name)[keep] for name in ("global_orient", "body_pose", "transl_c", "seen")}
    keypoints = replace(made.keypoints[1], keypoints_2d=made.keypoints[1].keypoints_2d[keep], joints_3d=None)
    short = replace(
        made, tracks=(replace(fewer, track_id=7),), keypoints={7: keypoints}, body={7: replace(body, **arrays)},
        lifted={}, calibrated={},
    )  # fmt: skip
    save_take(short, tmp_path / "short.take.npz")
    found: BodyParams = hmrkit.run(film, **TOYS, method=f"file:{tmp_path / 'short.take.npz'}").body[1]
    assert "lacks 1 of 12 frames of track 1" in caplog.text
    np.testing.assert_allclose(found.transl_c[5], (body.transl_c[4] + body.transl_c[6]) / 2, atol=1e-5)
    np.testing.assert_allclose(found.body_pose[keep], body.body_pose[keep], atol=1e-6)


def test_people_are_matched_in_between_the_frames_of_the_file(film, tmp_path) -> None:
    even = hmrkit.run(film, **TOYS, method="toy", every=2)
    save_take(even, tmp_path / "even.take.npz")
    odd = hmrkit.run(film, **TOYS, method=f"file:{tmp_path / 'even.take.npz'}", every=2, start="1")
    assert list(odd.body) == [1]


def test_another_camera_is_refused(film, file) -> None:
    with pytest.raises(InputError, match="wanted bodies seen with focal length 999 px, found them made with"):
        hmrkit.run(film, **TOYS, method=f"file:{file}", focal=999.0)


def test_somebody_elsewhere_in_the_image_is_left_out_and_named(film, made, tmp_path, caplog) -> None:
    moved = replace(made.tracks[0], boxes_xyxy=made.tracks[0].boxes_xyxy + 500)
    save_take(replace(made, tracks=(moved,)), tmp_path / "moved.take.npz")
    found = hmrkit.run(film, **TOYS, method=f"file:{tmp_path / 'moved.take.npz'}")
    assert found.body == {}
    assert "has nobody where track 1 is" in caplog.text


def test_what_cannot_serve_is_named_in_one_line(film, made, file, tmp_path) -> None:
    with pytest.raises(UsageError, match="should be written file:<take or results>"):
        Options(method="file")
    with pytest.raises(InputError, match="no such file"):
        hmrkit.run(film, **TOYS, method=f"file:{tmp_path / 'none.take.npz'}")
    save_take(replace(made, body={}, faces=None), tmp_path / "empty.take.npz")
    with pytest.raises(InputError, match="wanted a take with meshes, found none"):
        Models(Options(method=f"file:{tmp_path / 'empty.take.npz'}", device="cpu")).mesh_stream  # noqa: B018
    with pytest.raises(InputError, match="wanted bodies of hmrkit-body-0-female, found those of hmrkit-body-0-neutral"):
        hmrkit.run(film, **TOYS, method=f"file:{file}", gender="female")


def test_another_file_is_another_result(film, made, tmp_path) -> None:
    path = tmp_path / "one.take.npz"
    records = []
    for offset in (0, 1):
        body = made.body[1]
        save_take(replace(made, body={1: replace(body, transl_c=body.transl_c + offset)}), path)
        records.append(hmrkit.run(film, **TOYS, method=f"file:{path}").provenance["regress"])
    assert records[0] != records[1]


def test_another_tool_s_results_are_a_mesh_stream(film, tmp_path_factory, caplog):
    folder = tmp_path_factory.mktemp("results")
    body = str(make_smpl(folder / "smpl"))
    toys = TOYS | {"body": body, "focal": made_results.DIAGONAL}
    made = hmrkit.run(film, **toys, method="toy")
    people, frames = [made.body[1]], [made.tracks[0].frame_indices.tolist()]
    for write, calibrated in ((made_results.wham, True), (made_results.vibe, False)):
        mesh = f"file:{write(folder, people, frames, made_results.DIAGONAL, load_body(body))}"
        found = hmrkit.run(film, **toys, method="pc-hmr" if calibrated else mesh, mesh=mesh)
        assert list(found.calibrated) == [1] * calibrated
        np.testing.assert_allclose(found.body[1].body_pose, made.body[1].body_pose, atol=1e-5)
        np.testing.assert_allclose(found.body[1].transl_c, made.body[1].transl_c, atol=1e-4)
    with pytest.raises(InputError, match="give --focal 160"):
        hmrkit.run(film, **(toys | {"focal": 99.0}), method=f"file:{folder / 'wham_output.pkl'}")
    walk = made_results.amass(folder, made.body[1], 10)
    with pytest.raises(InputError, match="make a take of it with `hmrkit import`"):
        hmrkit.run(film, **toys, method=f"file:{walk}")
