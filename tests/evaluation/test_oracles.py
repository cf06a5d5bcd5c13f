"""Every dataset through the whole command: predictions that ARE the truth have no error, under every protocol.

SMPL's three genders are one body here, so that a protocol's choice of gender makes no difference to that.
"""

import json
import pickle

import numpy as np
import pytest
from made_datasets import make_3dpw, make_emdb, make_h36m, make_mpi_inf_3dhp, make_surreal, make_up_3d, rotations
from made_smpl import make_smpl
from typer.testing import CliRunner

from hmrkit.cli.app import app
from hmrkit.datasets import DatasetOptions, load_dataset
from hmrkit.evaluation.protocols import PROTOCOLS

FULL_MARKS = {"pck_percent": 100}
MAKERS = {
    "3dpw": lambda root: make_3dpw(
        root,
        [
            *(("test", "downtown_bus_00", 9, 2), ("test", "flat_guitar_01", 6, 1)),
            *(("train", "outdoors_climbing_00", 6, 1), ("validation", "courtyard_golf_00", 5, 2)),
        ],
    ),
    "emdb": lambda root: make_emdb(root, [("P1", "14_outdoor", 9, True, True), ("P2", "20_outdoor", 8, True, True)]),
    "up-3d": lambda root: make_up_3d(root, 3),
    "surreal": lambda root: make_surreal(root, [("test", 0, "01_01", 1, 6), ("test", 1, "02_02", 1, 5)]),
    "h36m": make_h36m,
    "mpi-inf-3dhp": make_mpi_inf_3dhp,
}
CASES = [
    ("3dpw", "spin", ""),
    ("3dpw", "vibe", ""),
    ("3dpw", "wham", ""),
    ("3dpw", "3dpw-official", ""),
    ("3dpw", "body", ""),
    ("3dpw", "surface", ""),
    ("3dpw-oc", "spin", ""),
    ("emdb", "emdb-official", ""),
    ("emdb", "wham-world", "2"),
    ("up-3d", "spin", ""),
    ("up-3d", "body", ""),
    ("surreal", "body", ""),
    ("h36m", "hmr-p1", ""),
    ("h36m", "hmr-p2", ""),
    ("h36m", "pavllo-1", ""),
    ("h36m", "pavllo-2", ""),
    ("mpi-inf-3dhp", "mpi-inf-3dhp", ""),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    root = tmp_path_factory.mktemp("datasets")
    make_smpl(root / "smpl", alike=True)
    for name, make in MAKERS.items():
        try:
            make(root / name)
        except ImportError:  # MPI-INF-3DHP needs h5py
            continue
    return root


def oracle(sequences, protocol):
    """The truth as predictions: bodies turned into the camera where there are some, else the joints."""
    arrays = {}
    for sequence in sequences:
        for truth in sequence.people:
            key = f"{sequence.name}/{truth.person}"
            if truth.body is not None:
                body, camera = truth.body, truth.camera_from_world
                orient, transl = body.global_orient, body.transl
                if camera is not None:
                    # The body rotates about its pelvis, which is not the origin: the move is what is left over.
                    from hmrkit.body import load_body

                    betas = body.betas if body.betas.ndim == 1 else body.betas[:1]
                    pelvis = load_body().joints_only(betas=betas).joints[0, 0].numpy()
                    orient = camera[:, :3, :3] @ orient
                    transl = (camera[:, :3, :3] @ (transl + pelvis)[..., None])[..., 0] + camera[:, :3, 3] - pelvis
                values = {"global_orient": orient, "body_pose": body.body_pose, "betas": body.betas, "transl": transl}
            else:
                names = [*list(protocol.joints), "pelvis"]
                columns = [column(truth.skeleton, name) for name in names]
                joints = truth.joints_c[:, columns] - truth.joints_c[:, columns[-1:]]
                values = {"joints": joints[:, :-1]}
            arrays |= {f"{key}/{name}": value for name, value in values.items()}
    return arrays


def column(skeleton, name):
    other = {"neck": "thorax", "thorax": "neck", "jaw": "nose", "nose": "jaw"}.get(name, name)
    return skeleton.index.get(name, skeleton.index.get(other))


@pytest.mark.parametrize(("dataset", "protocol", "split"), CASES)
def test_the_truth_has_no_error(files, tmp_path, dataset, protocol, split):
    family = "3dpw" if dataset.startswith("3dpw") else dataset
    if family == "mpi-inf-3dhp":
        pytest.importorskip("h5py")
    options = DatasetOptions(split=split, protocol=protocol)
    sequences = list(load_dataset(dataset, files / family, options).sequences())
    np.savez(tmp_path / "truth.npz", **oracle(sequences, PROTOCOLS[protocol]))
    arguments = [
        *("eval", "--dataset", dataset, "--data", str(files / family), "--protocol", protocol, "--no-sheet", "--json"),
        *("--predictions", str(tmp_path / "truth.npz"), "--out", str(tmp_path / "out"), "--smpl", str(files / "smpl")),
        *("--body", str(files / "smpl/SMPL_NEUTRAL.npz"), *(("--split", split) if split else ())),
    ]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    (row,) = report["methods"]
    assert report["protocol"] == protocol
    assert row["frames"] > 0
    assert row["missed"] == 0
    assert row["notes"] == [] or protocol == "wham-world" or dataset == "up-3d"
    figures = {name: figure["mean"] for name, figure in row["figures"].items()}
    assert list(figures) == list(PROTOCOLS[protocol].metrics)
    for name, value in figures.items():
        if name.startswith("jitter"):  # of the prediction, as it is: people here do not stand still
            assert value > 0
        elif name == "foot_sliding_mm":  # nobody here stands
            assert value is None or value < 10
        elif name == "auc_percent":  # nothing is within 0 mm when numbers are rounded
            assert 96 < value <= 100
        else:
            assert value == pytest.approx(FULL_MARKS.get(name, 0), abs=0.02), name


def test_human36m_is_averaged_over_actions_and_not_over_frames(files, tmp_path):
    """One action is wrong by 30 mm at every joint but the pelvis, the others are right."""
    dataset = load_dataset("h36m", files / "h36m", DatasetOptions(protocol="pavllo-1"))
    sequences = list(dataset.sequences())
    arrays = oracle(sequences, PROTOCOLS["pavllo-1"])
    groups = sorted({s.group for s in sequences})
    for sequence in sequences:
        if sequence.group == groups[0]:
            key = f"{sequence.name}/{sequence.people[0].person}/joints"
            arrays[key] = arrays[key] + np.r_[0.0, np.full(16, 0.03)][:, None] * [1, 0, 0]
    np.savez(tmp_path / "p.npz", **arrays)
    result = CliRunner().invoke(
        app,
        [
            *("eval", "--dataset", "h36m", "--data", str(files / "h36m"), "--protocol", "pavllo-1", "--json"),
            *("--predictions", str(tmp_path / "p.npz"), "--out", str(tmp_path / "out"), "--no-sheet"),
        ],
        catch_exceptions=False,
    )
    (row,) = json.loads(result.stdout)["methods"]
    wrong = 30 * 16 / 17
    assert row["groups"][groups[0]]["mpjpe_mm"] == pytest.approx(wrong, abs=0.01)
    assert row["figures"]["mpjpe_mm"]["mean"] == pytest.approx(wrong / len(groups), abs=0.01)


def test_without_smpl_the_dataset_s_own_joints_are_the_truth(files, tmp_path):
    """3DPW hands out the 24 joints: the free body can be scored on them, and the report says so."""
    arguments = [
        *("eval", "--dataset", "3dpw", "--data", str(files / "3dpw"), "--protocol", "body", "--no-sheet", "--json"),
        *("--method", "fit", "--keypoints", "toy", "--no-refine", "--out", str(tmp_path)),
    ]
    result = CliRunner(env={"HMRKIT_WEIGHTS": str(tmp_path)}).invoke(app, arguments, catch_exceptions=False)
    (row,) = json.loads(result.stdout)["methods"]
    assert row["figures"]["mpjpe_mm"]["mean"] > 0
    assert "pve_mm" not in row["figures"]
    assert "SMPL's files are not there" in row["notes"][0]


@pytest.mark.parametrize("boxes", ["--ground-truth-boxes", "--detect"])
def test_the_chain_is_run_from_the_images(files, tmp_path, boxes):
    """Two methods in one table, their sheet of worst frames, and the table's files."""
    arguments = [
        *("eval", "--dataset", "3dpw", "--data", str(files / "3dpw"), "--method", "fit,pc-hmr", "--no-refine", boxes),
        *("--keypoints", "toy", "--detector", "toy", "--tracker", "toy", "--lifter", "toy", "--limit", "12"),
        *("--out", str(tmp_path), "--smpl", str(files / "smpl"), "--body", str(files / "smpl/SMPL_NEUTRAL.npz")),
    ]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    paths = [line for line in result.stdout.splitlines() if line.startswith(str(tmp_path))]
    report = json.loads((tmp_path / "evaluation.json").read_text())
    assert [row["method"] for row in report["methods"]] == ["fit", "pc-hmr (fit)"]
    assert (tmp_path / "evaluation.json").as_posix() in paths
    for row in report["methods"]:
        # Of the second sequence three frames: one without its camera, one in which nobody was detected.
        assert row["frames"] == 2 * (9 - 2) + 1
        if boxes == "--ground-truth-boxes":
            assert row["missed"] == 0
            assert row["figures"]["mpjpe_mm"]["mean"] > 0
    if boxes == "--ground-truth-boxes":
        assert "GLNet-W48 (GLNet, reported)" in (tmp_path / "table.md").read_text()
        assert r"\textit{GLNet-W48} (reported)" in (tmp_path / "table.tex").read_text()
        assert len(list(tmp_path.glob("worst_*.png"))) == 2
    archive = np.load(tmp_path / "fit/downtown_bus_00.npz")
    assert archive["0/mpjpe_mm"].shape == (9,)


def test_an_image_with_a_code_bearing_pickle_is_refused(files, tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("run",))

    (tmp_path / "p.pkl").write_bytes(pickle.dumps({"a": {"0": {"joints": Evil()}}}))
    from hmrkit.errors import InputError

    with pytest.raises(InputError, match="refused"):
        CliRunner().invoke(
            app,
            ["eval", "--dataset", "3dpw", "--data", str(files / "3dpw"), "--predictions", str(tmp_path / "p.pkl"),
             "--out", str(tmp_path / "o")],
            catch_exceptions=False,
        )  # fmt: skip


def test_rotations_are_read_as_axis_angle_or_as_matrices(files):
    from hmrkit.evaluation.results import _matrices

    vectors = np.random.default_rng(0).normal(0, 1, (5, 24, 3))
    np.testing.assert_allclose(_matrices(vectors.reshape(5, 72), 24), rotations(vectors), atol=1e-12)
    np.testing.assert_array_equal(_matrices(rotations(vectors), 24), rotations(vectors))
