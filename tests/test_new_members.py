"""A new member is one file and one line of a table (`tests/new_members`); the command line then has it everywhere."""

from __future__ import annotations

from pathlib import Path

import commands
import pytest
from films import write_film
from made_motion import both_splits

TESTS = Path(__file__).parent
SMALL = "from hmrkit.training import kept_examples as e; e.SHARD = e._EXAMPLES_AT_ONCE = 8"
TOYS = ["--detector", "toy", "--tracker", "toy", "--keypoints", "toy", "--device", "cpu"]


def hmrkit(*line: str, before: str = "") -> str:
    """Standard output of a command that ends well."""
    code = f"{before}\nimport runpy; runpy.run_module('new_members', run_name='__main__', alter_sys=True)"
    done = commands.hmrkit(*line, code=code, cwd=TESTS.parent, env={"COLUMNS": "300"})
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("run --help", ("mapped", "standing", "linear", "count")),
        ("regress --help", ("mapped", "standing")),
        ("export --help", ("count",)),
        ("eval --help", ("mapped", "standing", "linear")),
        ("train --help", ("mapped", "linear")),
        ("list", ("mapped", "standing", "linear", "count")),
    ],
)
def test_new_members_are_in_every_help_text_and_list(line, names) -> None:
    text = hmrkit(*line.split())
    assert [name for name in names if name not in text] == []


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> str:
    return str(write_film(tmp_path_factory.mktemp("film") / "walk.mp4"))


def test_new_members_run(film, tmp_path) -> None:
    out = ["--out", str(tmp_path), "--format", "count"]
    hmrkit("run", film, *TOYS, "--method", "pc-hmr", "--mesh", "standing", "--lifter", "linear", *out)
    (count,) = tmp_path.rglob("*.count")
    assert count.read_text() == "1\n"


def test_a_regressor_that_reads_maps_trains_from_kept_examples_and_runs(film, tmp_path) -> None:
    trained = hmrkit("train", "mapped", "--out", str(tmp_path / "t"), "--device", "cpu", before=SMALL).strip()
    assert trained == str(tmp_path / "t" / "mapped.safetensors")
    assert len(list((tmp_path / "t" / "images").glob("examples-*"))) == 1
    line = ["--method", "mapped", "--checkpoint", trained, "--format", "npz", "--out", str(tmp_path / "m")]
    hmrkit("run", film, *TOYS, *line)
    assert list((tmp_path / "m").rglob("person_01.npz"))


def test_a_new_lifter_trains_and_loads(film, tmp_path) -> None:
    motion = str(both_splits(tmp_path / "motion.npz"))
    trained = hmrkit("train", "linear", "--motion", motion, "--out", str(tmp_path), "--device", "cpu").strip()
    take, lifted = str(tmp_path / "a.take.npz"), str(tmp_path / "b.take.npz")
    hmrkit("detect", film, "--detector", "toy", "-o", take)
    for stage in (["track", "--tracker", "toy"], ["pose", "--keypoints", "toy"]):
        hmrkit(stage[0], take, "-o", take, *stage[1:])
    hmrkit("lift", take, "-o", lifted, "--lifter", "linear", "--lifter-checkpoint", trained)
    assert Path(lifted).is_file()
