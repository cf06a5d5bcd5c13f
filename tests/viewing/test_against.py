"""Two takes of one clip in one view: on one clock, in one world, matched."""

from dataclasses import replace

import numpy as np
import pytest
from in_process import hmrkit
from made_pairs import pair  # noqa: F401
from viewer_page import as_the_shader_does_it, read_page

from hmrkit.errors import InputError
from hmrkit.meshes import mesh_slice
from hmrkit.take import save_take
from hmrkit.viewing.against import COLOURS, make_pair, short_names


def sparse(take):
    """Every second frame of a take's video, people and all."""
    video, kept = take.video, take.video.frame_indices[::2]
    video = video.at(np.arange(len(video.frame_indices))[::2])
    rows = {t.track_id: np.isin(t.frame_indices, kept) for t in take.tracks}
    names = ("frame_indices", "boxes_xyxy", "scores", "interpolated")
    tracks = [replace(t, **{n: getattr(t, n)[rows[t.track_id]] for n in names}) for t in take.tracks]
    names = ("global_orient", "body_pose", "transl_c")
    body = {i: replace(p, **{n: getattr(p, n)[rows[i]] for n in names}) for i, p in take.body.items()}
    return replace(take, video=video, tracks=tuple(tracks), body=body, calibrated={}, keypoints={}, lifted={})


def test_people_are_paired_on_the_first_takes_frames(pair, models):  # noqa: F811
    first, against = make_pair((pair[0], sparse(pair[1])), (models, models), ("a", "b"))
    assert [(p.first, p.second) for p in against.pairs] == [(1, 5), (2, 3)]
    second = {person.track_id: person for person in against.clip.people}
    assert first.people[0].rows.tolist() == [0, 1, 2, -1, 3, 4, -1, -1, -1, -1]
    assert second[5].rows.tolist() == [0, -1, 1, -1, 2, -1, -1, -1, -1, -1]
    assert (first.people[0].colour, second[5].colour) == COLOURS
    np.testing.assert_array_equal(first.world_from_camera, against.clip.world_from_camera)


def test_chosen_people_bring_who_they_are_in_the_other_take(pair, models):  # noqa: F811
    first, against = make_pair(pair, (models, models), ("a", "b"), people=[2])
    assert [person.track_id for person in first.people] == [2]
    assert [person.track_id for person in against.clip.people] == [3]


def test_takes_without_a_common_frame_are_refused(pair, models):  # noqa: F811
    later = sparse(pair[1])
    late = replace(later.video, frame_indices=later.video.frame_indices + 1)
    tracks = tuple(replace(t, frame_indices=t.frame_indices + 1) for t in later.tracks)
    with pytest.raises(InputError, match="no frame in common"):
        make_pair((sparse(pair[0]), replace(later, video=late, tracks=tracks)), (models, models), ("a", "b"))


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (("x/a.npz", "y/b.npz"), ("a.npz", "b.npz")),
        (("out/fit/walk/take.npz", "out/hmr/walk/take.npz"), ("fit", "hmr")),
        (("take.npz", "old/take.npz"), ("take.npz", "old/take.npz")),
    ],
)
def test_takes_are_called_by_what_differs(files, names):
    assert short_names(*files) == names


def test_the_command_packs_both_takes(pair, models, tmp_path):  # noqa: F811
    paths = [tmp_path / "a.npz", tmp_path / "b.npz"]
    for take, path in zip(pair, paths, strict=True):
        save_take(take, path)
    result = hmrkit("view", paths[0], "--against", paths[1], "--html", tmp_path / "both.html")
    assert result.returncode == 0, result.stderr
    data = read_page(tmp_path / "both.html")
    assert [take["name"] for take in data["takes"]] == ["a.npz", "b.npz"]
    assert len(data["bodies"]) == 1
    assert data["pairs"][0][:2] == [1, 5]
    (person,) = [p for p in data["people"] if (p["take"], p["id"]) == (1, 3)]
    wanted = mesh_slice(pair[1], 3, slice(None), models).vertices_c
    assert np.abs(as_the_shader_does_it(data, person, True) - wanted).max() < 1e-4


def test_standard_input_holds_one_take(tmp_path):
    result = hmrkit("view", "-", "--against", "-", "--html", tmp_path / "both.html")
    assert result.returncode == 2
    assert "standard input holds one take" in result.stderr
