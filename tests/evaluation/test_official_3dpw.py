"""The 3DPW challenge's own scoring, written again from its description, of our submission gives our figures."""

import itertools
import json
import pickle

import numpy as np
import pytest
import torch
from made_datasets import make_3dpw, rotations
from made_smpl import make_smpl
from typer.testing import CliRunner

from hmrkit.body import load_body
from hmrkit.cli.app import app

SEQUENCES = [
    ("train", "outdoors_a_00", 7, 1),
    ("validation", "courtyard_b_00", 6, 2),
    ("test", "downtown_bus_00", 8, 2),
    ("test", "flat_guitar_01", 5, 1),
]
MISSED = ("downtown_bus_00", 1)  # the predictions have nobody there
MAJOR = [1, 2, 4, 5, 7, 8, 16, 17, 18, 19, 20, 21]
ROTATED = [0, 1, 2, 4, 5, 16, 17, 18, 19]
GENDERS = {"m": "MALE", "f": "FEMALE"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A copy of 3DPW, SMPL's files, and predictions: the true poses, disturbed, in the camera."""
    root = tmp_path_factory.mktemp("official")
    make_3dpw(root / "3dpw", SEQUENCES, images=False)
    make_smpl(root / "smpl")
    rng = np.random.default_rng(3)
    arrays = {}
    for split, name, frames, people in SEQUENCES:
        record = pickle.loads((root / "3dpw/sequenceFiles" / split / f"{name}.pkl").read_bytes(), encoding="latin1")
        for person in range(people):
            if (name, person) != MISSED:
                pose = record["poses"][person].reshape(frames, 24, 3) + rng.normal(0, 0.15, (frames, 24, 3))
                local = rotations(pose)
                local[:, 0] = record["cam_poses"][:, :3, :3] @ local[:, 0]
                key = f"{name}/{person}"
                arrays |= {f"{key}/global_orient": local[:, 0], f"{key}/body_pose": local[:, 1:]}
                arrays |= {f"{key}/betas": rng.normal(0, 1, 10), f"{key}/transl": rng.normal(0, 1, (frames, 3))}
    np.savez(root / "predictions.npz", **arrays)
    return root


def run(place, out, *more):
    arguments = [
        *("eval", "--dataset", "3dpw", "--data", str(place / "3dpw"), "--smpl", str(place / "smpl"), "--json"),
        *("--body", str(place / "smpl/SMPL_NEUTRAL.npz"), "--out", str(out), "--no-sheet"),
    ]
    return CliRunner().invoke(app, [*arguments, *more], catch_exceptions=False)


def official_figures(place, submission):
    """MPJPE, MPJPE_PA, PCK, AUC, MPJAE, MPJAE_PA, frame by frame."""
    errors, errors_pa, major, angles, angles_pa = [], [], [], [], []
    for split, name, _, people in SEQUENCES:
        truth = pickle.loads((place / "3dpw/sequenceFiles" / split / f"{name}.pkl").read_bytes(), encoding="latin1")
        result = pickle.loads((submission / split / f"{name}.pkl").read_bytes())
        for person in range(people):
            valid = (np.abs(truth["poses2d"][person]).sum((1, 2)) > 0) & truth["campose_valid"][person].astype(bool)
            body = load_body(place / f"smpl/SMPL_{GENDERS[truth['genders'][person]]}.npz")
            local = torch.from_numpy(rotations(truth["poses"][person].reshape(-1, 24, 3))).float()
            transl, betas = truth["trans"][person], truth["betas"][person][:10]
            posed = body(local[:, 0], local[:, 1:], betas.astype(np.float32), transl.astype(np.float32))
            for f in np.nonzero(valid)[0]:
                camera = truth["cam_poses"][f]
                gt = 1000 * (posed.joints[f].double().numpy() @ camera[:3, :3].T + camera[:3, 3])
                gt_orient = camera[:3, :3] @ posed.joint_rotations[f].double().numpy()[ROTATED]
                pred = 1000 * np.array(result["jointPositions"][person][f], np.float64)
                orient = np.array(result["orientations"][person][f], np.float64)
                gt, pred = gt - gt[0], pred - pred[0]
                errors.append(np.linalg.norm(gt - pred, axis=1).mean())
                major.append(np.linalg.norm(gt - pred, axis=1)[MAJOR])
                if np.abs(pred).sum() == 0:
                    moved, rotation = np.tile(gt.mean(0), (24, 1)), np.eye(3)
                else:
                    moved, rotation = procrustes(pred, gt)
                errors_pa.append(np.linalg.norm(gt - moved, axis=1).mean())
                angles += [angle(a @ b.T) for a, b in zip(orient, gt_orient, strict=True)]
                angles_pa += [angle(rotation @ a @ b.T) for a, b in zip(orient, gt_orient, strict=True)]
    curve = [np.mean(np.array(major) <= threshold) for threshold in range(200)]
    area = sum((a + b) / 2 for a, b in itertools.pairwise(curve)) / 199
    return {
        "mpjpe_mm": np.mean(errors),
        "pa_mpjpe_mm": np.mean(errors_pa),
        "pck_percent": 100 * np.mean(np.array(major) <= 50),
        "auc_percent": 100 * area,
        "mpjae_deg": np.mean(angles),
        "mpjae_pa_deg": np.mean(angles_pa),
    }


def procrustes(source, target):
    mu_s, mu_t = source.mean(0), target.mean(0)
    s, t = source - mu_s, target - mu_t
    u, values, vt = np.linalg.svd(s.T @ t)
    flip = np.diag([1, 1, np.sign(np.linalg.det(u @ vt))])
    rotation = vt.T @ flip @ u.T
    scale = np.trace(np.diag(values) @ flip) / (s**2).sum()
    return scale * s @ rotation.T + mu_t, rotation


def angle(matrix):
    return np.degrees(np.arccos(np.clip((np.trace(matrix) - 1) / 2, -1, 1)))


def test_the_submission_scored_by_the_challenge_gives_our_figures(place, tmp_path):
    result = run(
        place, tmp_path, "--split", "all", "--protocol", "3dpw-official", "--predictions",
        str(place / "predictions.npz"), "--save-3dpw-submission", str(tmp_path / "res"),
    )  # fmt: skip
    assert result.exit_code == 0
    (row,) = json.loads(result.stdout)["methods"]
    want = official_figures(place, tmp_path / "res")
    found = {name: figure["mean"] for name, figure in row["figures"].items()}
    assert set(found) == set(want)
    for name, value in want.items():
        assert found[name] == pytest.approx(value, abs=0.005), name
    # The camera is lost in one frame of each person, and nobody was detected in another.
    assert row["frames"] == sum(people * (frames - 2) for _, _, frames, people in SEQUENCES)
    assert row["missed"] == 8 - 2

    # The submission read back as predictions is the same evaluation.
    again = run(place, tmp_path / "again", "--split", "all", "--protocol", "3dpw-official", "--predictions",
                str(tmp_path / "res"))  # fmt: skip
    (row,) = json.loads(again.stdout)["methods"]
    for name, value in want.items():
        assert row["figures"][name]["mean"] == pytest.approx(value, abs=0.005), name


def test_missing_pieces_get_one_message(place, tmp_path):
    def fails(code, *arguments, data=place):
        from hmrkit.errors import HmrkitError

        with pytest.raises(HmrkitError) as error:
            run(data, tmp_path / "x", *arguments)
        assert error.value.exit_code == code
        assert "\n" not in str(error.value)
        return str(error.value)

    predictions = ["--predictions", str(place / "predictions.npz")]
    assert "register" in fails(4, *predictions, data=tmp_path)
    # All of SMPL's files in one line, before anything is run: what to register for and where to put it.
    output = fails(3, "--smpl", str(tmp_path / "nothing"), *predictions)
    assert "https://smpl.is.tue.mpg.de" in output
    for name in ("SMPL_FEMALE.pkl", "SMPL_MALE.pkl", "J_regressor_h36m.npy", str(tmp_path)):
        assert name in output
    assert "pavllo-1 is defined on h36m" in fails(2, "--protocol", "pavllo-1", *predictions)
    assert "no such file of predictions" in fails(4, "--predictions", "absent.npz")


def test_results_of_two_protocols_never_meet(place, tmp_path):
    from hmrkit.errors import UsageError

    predictions = ["--predictions", str(place / "predictions.npz")]
    assert run(place, tmp_path, "--protocol", "spin", *predictions).exit_code == 0
    with pytest.raises(UsageError, match="must not be mixed"):
        run(place, tmp_path, "--protocol", "vibe", *predictions)


def test_a_second_run_computes_nothing_again(place, tmp_path):
    predictions = ["--predictions", str(place / "predictions.npz")]
    first = run(place, tmp_path, *predictions)
    files = sorted((tmp_path / "predictions").glob("*.npz"))
    times = [path.stat().st_mtime_ns for path in files]
    files[0].unlink()
    assert run(place, tmp_path, *predictions).stdout != ""
    assert [path.stat().st_mtime_ns for path in files[1:]] == times[1:]
    assert files[0].exists()
    second = run(place, tmp_path, *predictions)
    before, after = (json.loads(result.stdout)["methods"][0] for result in (first, second))
    assert {**before, "seconds": 0} == {**after, "seconds": 0}
