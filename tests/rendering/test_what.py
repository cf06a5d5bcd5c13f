"""The command's way to PC-HMR's figures: which meshes are compared, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from films import write_film
from PIL import Image

from hmrkit.body.posing import skeleton_joints
from hmrkit.errors import InputError, UsageError
from hmrkit.meshes import mesh_slice
from hmrkit.models import Models
from hmrkit.options import Options
from hmrkit.output import render_take
from hmrkit.pipeline import open_clip, run_stages
from hmrkit.rendering.comparison import GAP, Comparison, title_strip
from hmrkit.rendering.options import RenderOptions
from hmrkit.skeletons import SMPL_24
from hmrkit.types import LiftedPose

STAGES = ("detect", "track", "pose", "regress", "lift", "calibrate")
TRUNK = ("spine1", "spine2", "spine3", "head")


@pytest.fixture(scope="module")
def models():
    return Models(Options(detector="toy", tracker="toy", keypoints="toy", lifter="toy", device="cpu", mesh="toy"))


@pytest.fixture(scope="module")
def take(models, tmp_path_factory):
    film = write_film(tmp_path_factory.mktemp("film") / "walk.mp4", frames=4)
    return run_stages(open_clip(film, models.options), STAGES, models)


def _drawn(take, models, path, monkeypatch, **options):
    """Vertices of each version that are drawn of the first frame's person, and their heat; the images are written."""
    seen = []
    draw = Comparison.draw

    def watch(self, frames, versions, indices):
        seen.append([(people[0][0].vertices_c, people[0][0].heat) for people in versions])
        return draw(self, frames, versions, indices)

    monkeypatch.setattr(Comparison, "draw", watch)
    render_take(take, path, None, models, lambda *_: None, RenderOptions(**options))
    return seen[0]


def test_compare_shows_the_mesh_stream_and_the_calibrated_mesh(take, models, tmp_path, monkeypatch):
    (stream, _), (calibrated, _) = _drawn(take, models, tmp_path / "o", monkeypatch, what="compare", views=("overlay",))
    track = take.tracks[0].track_id
    row = np.array([0])
    np.testing.assert_array_equal(calibrated, mesh_slice(take, track, row, models).vertices_c[0])
    own = mesh_slice(replace(take, calibrated={}), track, row, models).vertices_c[0]
    np.testing.assert_array_equal(stream, own)
    assert np.abs(stream - calibrated).max() > 1e-3
    images = sorted((tmp_path / "o").iterdir())
    assert len(images) == 4
    height = 96 + len(title_strip("-", 128, 96))
    assert Image.open(images[0]).size == (2 * 128 + GAP, height)


def test_rigid_differs_by_the_lengths_of_the_lifted_pose_alone(take, models, tmp_path, monkeypatch):
    # The lifted pose is the mesh's own, but for shins that are a tenth longer.
    (track, params), index = next(iter(take.body.items())), SMPL_24.index
    joints = skeleton_joints(models.body, params)
    joints = joints - joints[:, :1]
    for side in ("left", "right"):
        knee, ankle = index[f"{side}_knee"], index[f"{side}_ankle"]
        added = 0.1 * (joints[:, ankle] - joints[:, knee])
        joints[:, ankle] += added
    long = replace(take, lifted={track: LiftedPose(joints, SMPL_24.name)})
    (full, none), (rigid, heat) = _drawn(long, models, tmp_path / "o", monkeypatch, what="rigid", style="misplacement")
    np.testing.assert_allclose(heat, np.linalg.norm(full - rigid, axis=-1) * 1000, rtol=1e-5)
    assert none.max() == 0
    parts = models.body.weights.numpy()
    shins, trunk = (parts[:, [index[n] for n in names]].sum(1) > 0.9 for names in (("left_knee", "right_knee"), TRUNK))
    added_mm = np.linalg.norm(added[0]) * 1000
    assert 0.6 * added_mm < heat[shins].max() < 1.02 * added_mm
    assert heat[trunk].max() < 0.5


def test_weights_are_one_image_of_the_takes_body(take, models, tmp_path):
    path = tmp_path / "new" / "weights.png"
    options = RenderOptions(what="weights", views=("overlay",), bones=("left_knee",))
    assert render_take(take, path, None, models, lambda *_: None, options) == [path]
    image = np.asarray(Image.open(path)).astype(int)
    assert (image[..., 0] - image[..., 2] > 60).sum() > 2000  # a thigh, bright
    for wrong, sheet in ((tmp_path / "weights.mp4", None), (path, tmp_path / "sheet.png")):
        with pytest.raises(UsageError, match="one image"):
            render_take(take, wrong, sheet, models, lambda *_: None, options)


def test_takes_without_what_is_compared_are_refused(take, models, tmp_path):
    for options in (RenderOptions(what="compare"), RenderOptions(what="rigid"), RenderOptions(style="residual")):
        with pytest.raises(InputError, match="wants a calibrated take; run `hmrkit calibrate`"):
            render_take(replace(take, calibrated={}), tmp_path / "o", None, models, lambda *_: None, options)
    with pytest.raises(InputError, match="run `hmrkit lift`"):
        render_take(
            replace(take, lifted={}), tmp_path / "o", None, models, lambda *_: None, RenderOptions(what="rigid")
        )
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("what", ["compare", "rigid"])
def test_a_clip_without_people_is_drawn(models, tmp_path, what):
    take = run_stages(
        open_clip(write_film(tmp_path / "empty.mp4", frames=2, empty=True), models.options), STAGES, models
    )
    render_take(take, tmp_path / "o", None, models, lambda *_: None, RenderOptions(what=what))
    assert len(list((tmp_path / "o").iterdir())) == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"what": "weights"},
        {"what": "compare", "views": ("overlay",), "alpha": True},
        {"what": "compare", "style": "skeleton"},
        {"what": "rigid", "style": "residual"},
        {"style": "misplacement"},
        {"what": "weights", "views": ("overlay",), "bones": ("left_shin",)},
        {"bones": ("left_knee",)},
    ],
)
def test_what_cannot_be_drawn_together_is_refused(wrong):
    with pytest.raises(UsageError, match="--"):
        RenderOptions(**wrong)
