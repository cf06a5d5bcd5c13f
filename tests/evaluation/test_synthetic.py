"""The dataset that everybody has, through the whole command: made again bit for bit, and the occlusion test on it."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from hmrkit.cli.app import app
from hmrkit.datasets import DatasetOptions, load_dataset
from hmrkit.datasets.synthetic import SEED, render_batch
from hmrkit.errors import InputError, UsageError
from hmrkit.video.images import read_image


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    list(load_dataset("synthetic", folder, DatasetOptions(settings={"count": "4"})).sequences())
    return folder


def run(images, out, *more):
    arguments = [
        *("eval", "--dataset", "synthetic", "--data", str(images), "--dataset-option", "count=4", "--json"),
        *("--out", str(out), *more),
    ]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    return json.loads(result.stdout)


def test_images_are_made_again_bit_for_bit(images, tmp_path):
    again = render_batch(tmp_path, SEED)
    first = images / f"seed_{SEED}"
    for name in ("00.png", "07.png", "15.png"):
        np.testing.assert_array_equal(read_image(first / name), read_image(tmp_path / name))
    with np.load(first / "truth.npz") as archive:
        for key, values in again.items():
            np.testing.assert_array_equal(archive[key], values)
    image = read_image(tmp_path / "00.png")
    assert image.shape == (256, 256, 3)
    assert image.std() > 5


def test_the_keypoints_read_are_where_the_body_read_is(images):
    from hmrkit.body import load_body
    from hmrkit.camera import project

    (sequence,) = load_dataset("synthetic", images, DatasetOptions(settings={"count": "4"})).sequences()
    (truth,) = sequence.people
    assert sequence.frame_count == len(sequence.frames) == 4
    body = load_body()
    mesh = body(truth.body.global_orient, truth.body.body_pose, truth.body.betas, truth.body.transl)
    np.testing.assert_allclose(truth.joints_c, mesh.joints.numpy(), atol=1e-4)
    points = body.keypoints(mesh.vertices).numpy()
    for row, camera in enumerate(sequence.camera):
        np.testing.assert_allclose(project(camera, points[row]), truth.keypoints_2d[row, :, :2], atol=0.05)
    known = truth.valid
    assert known.sum() >= 3
    low, high = truth.boxes_xyxy[known, :2], truth.boxes_xyxy[known, 2:]
    assert (low >= 0).all()
    assert (high <= 256).all()
    assert (high - low > 4).all()


def test_the_truth_has_no_error_and_a_regressor_is_scored_on_the_crops(images, tmp_path):
    (sequence,) = load_dataset("synthetic", images, DatasetOptions(settings={"count": "4"})).sequences()
    body = sequence.people[0].body
    np.savez(
        tmp_path / "truth.npz",
        **{
            f"{sequence.name}/person/{name}": getattr(body, name)
            for name in ("global_orient", "body_pose", "betas", "transl")
        },
    )
    chosen = ["--method", "toy", "--no-flip-test", "--predictions", str(tmp_path / "truth.npz")]
    report = run(images, tmp_path / "out", *chosen)
    toy, truth = report["methods"]
    assert toy["method"] == "toy"
    assert toy["missed"] == 0
    assert toy["figures"]["pve_mm"]["mean"] > 50
    assert len(truth["figures"]) == 6
    for name, figure in truth["figures"].items():
        assert figure["mean"] == pytest.approx(0, abs=0.02), name
    assert (tmp_path / "out" / "worst_toy.png").is_file()
    again = run(images, tmp_path / "out", *chosen)
    assert again == report  # nothing was run again: even the seconds are the same


def test_the_occlusion_test_covers_every_joint_at_every_degree(images, tmp_path):
    """The toy regressor looks at brightness alone: the larger the cover, the further from what it said before."""
    summary = run(images, tmp_path, "--method", "toy", "--occlude", "circle", "--degree", "1,5", "--limit", "2")
    assert summary["degrees"] == [1, 5]
    assert {"left_knee", "right_wrist"} <= set(summary["joints"])
    toy = summary["methods"]["toy"]
    assert np.array(toy["by_joint_mm"]).shape == (2, len(summary["joints"]))
    little, much = np.abs(np.array(toy["by_joint_mm"]) - toy["clean_mm"])
    assert (little > 0).all()
    assert (much > little).all()
    assert (tmp_path / "occlusion_circle.png").stat().st_size > 10_000
    assert len(list((tmp_path / "occlusion_circle" / "toy").glob("*_left_knee_5.npz"))) == 1


def test_what_means_nothing_is_refused(tmp_path):
    for options in (DatasetOptions(split="train"), DatasetOptions(settings={"size": "3"}),
                    DatasetOptions(settings={"count": "0"})):  # fmt: skip
        with pytest.raises(UsageError):
            load_dataset("synthetic", tmp_path, options)
    with pytest.raises(UsageError, match="--degree"):
        run(tmp_path, tmp_path, "--method", "toy", "--occlude", "bar", "--degree", "6")


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--predictions", "p.npz", "--no-flip-test"), "have no use for --flip-test; leave it out, or name a --method"),
        (("--predictions", "p.npz", "--no-flip-test", "--detect"), "--detect, --flip-test; leave them out, or name"),
        (("--predictions", "p.npz", "--detect", "--checkpoint", "c.pt"), "have no use for --checkpoint, --detect"),
        (("--predictions", "p.npz", "--mesh", "spin"), "have no use for --mesh"),
        (("--method", "hmr", "--mesh", "spin"), "--method hmr is its own mesh stream"),
        (("--dataset", "plausibility", "--predictions", "p.npz"), "has no use for --predictions"),
    ],
)
def test_options_that_can_do_nothing_are_refused(tmp_path, options, line):
    with pytest.raises(UsageError) as error:
        run(tmp_path, tmp_path / "out", *options)
    assert line in str(error.value)


def test_results_made_elsewhere_may_have_a_body_and_a_camera(tmp_path):
    chosen = ("--gender", "female", "--fov", "70", "--device", "cpu")
    with pytest.raises(InputError, match="no such file of predictions"):
        run(tmp_path, tmp_path / "out", "--predictions", str(tmp_path / "p.npz"), *chosen)
