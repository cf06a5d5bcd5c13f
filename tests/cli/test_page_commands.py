"""Commands of the pages are run in their order, under the pages' own file names: toy networks, few frames."""

import glob
import itertools
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import made_results
import numpy as np
import pytest
from films import TOYS, write_film
from in_process import hmrkit
from made_character import made_character
from page_commands import FILES, blocks, pipelines
from PIL import Image

from hmrkit.body import load_body
from hmrkit.exporters import load_exporter
from hmrkit.scene import ExportOptions

PARSED = {  # what `test_docs.py` parses only: why
    r"hr48-PA43|SMPL_NEUTRAL": "a published checkpoint and SMPL's body, which a user has",
    r"eval --dataset (3dpw|multiview|h36m)": "a data set; tests/evaluation has made ones",
    r"eval --dataset (synthetic|plausibility)": "half a minute or more; tests/evaluation has fewer images",
    r"hmrkit train": "minutes to days; tests/training has short ones",
    r"submit (slurm|ray)": "Slurm, Ray; tests/batches/test_submit.py has their stand-ins",
    r"cuda:all": "a GPU",
    r"--mesh spin": "the network's four seconds; tests/test_pipeline.py has one in the chain",
    r"hmrkit doctor": "ten seconds; tests/benchmark/test_doctor.py runs it",
    r"hmrkit bench": "seconds of idle waiting; tests/test_pipeline.py has it",
    r"hmrkit plot": "three seconds of drawing; tests/viewing/test_plots.py has it",
    r"view take.npz$": "a server, which does not end; tests/viewing/test_server.py has it",
    r"-m venv|pip install|pytest|ruff|pyright|\.ci/run|openjd (check|run)": "other programs",
    r"one_by_one_5s": "the whole clip that ships, by the whole networks; the README shows what comes of it",
}
TOY_OF = dict(zip(TOYS[::2], TOYS[1::2], strict=True))
QUICK = {  # what a command gets that does not say otherwise
    "run": TOY_OF | {"--format": "npz", "--no-refine": None},
    "detect": {"--detector": "toy"},
    "track": {"--tracker": "toy"},
    "pose": {"--keypoints": "toy"},
    "regress": {"--no-refine": None},
    "lift": {"--lifter": "toy"},
}


def is_parsed(joined):
    line = " | ".join(map(shlex.join, joined))
    return any(re.search(kind, line) for kind in PARSED)


def run_blocks(path):
    """The blocks of a page, of each what is run."""
    found = [[p for p in pipelines(block) if not is_parsed(p)] for block in blocks(path.read_text("utf-8"), "sh")]
    return [block for block in found if block]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """What a user of the pages has: clips, takes, results of other tools, a character."""
    folder = tmp_path_factory.mktemp("files")
    film = write_film(folder / "clip.mp4", frames=8)
    clips = ("c", "a/b", "a/c")
    for name in ("edited.mp4", "shots/shot_010.mov", "shots/shot_020.mov", *(f"footage/{clip}.mov" for clip in clips)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(film, folder / name)
    (folder / "cuts.txt").write_text("4\n")
    (folder / "clips.txt").write_text("".join(f"{folder}/footage/{clip}.mov\n" for clip in clips))
    (folder / "frames").mkdir()
    for k in range(61):
        image = np.full((96, 128, 3), 20, np.uint8)
        image[15:85, 20 + k : 46 + k] = 220
        Image.fromarray(image).save(folder / "frames" / f"frame_{k:04d}.png")
    long = write_film(folder / "long.mov", frames=211, step=0.3)
    taken = hmrkit("run", long, "--every", "30", *TOYS, "--no-refine", "--format", "npz", "--out", folder / "taken")
    assert taken.returncode == 0, taken.stderr
    for name in ("take.npz", "fit.npz"):
        shutil.copy(folder / "taken/long/take.npz", folder / name)
    assert hmrkit("regress", folder / "fit.npz", "--method", "toy", "-o", folder / "spin.npz").returncode == 0
    assert hmrkit("cut", folder / "fit.npz", "--end", "100", "-o", folder / "other.npz").returncode == 0
    body, rows = load_body(), list(range(8))
    people = [made_results.make_motion(8, body)]
    for made in (made_results.wham, made_results.gvhmr):
        made(folder, people, [rows], 160.0)
    made_results.vibe(folder, people, [rows], 160.0, body)
    options = ExportOptions(camera=False, up="y", unit="m")
    (hero,) = load_exporter("glb").write(made_character(), folder / "hero", options)
    shutil.move(hero, folder / "hero.glb")
    return folder


@pytest.mark.parametrize("path", [path for path in FILES if run_blocks(path)], ids=lambda path: path.stem)
def test_commands_of_a_page_run_in_their_order(path, files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for block in run_blocks(path):
        shutil.copytree(files, tmp_path, dirs_exist_ok=True)  # a block may write over what another one has
        for joined in block:
            passed = b""
            for words in joined:
                passed = ran([word.replace("/footage", f"{files}/footage") for word in words], passed)


def ran(words, stdin):
    """What a command prints, which has to end well."""
    if words[0] != "hmrkit":
        return subprocess.run(words, input=stdin, stdout=subprocess.PIPE, check=True).stdout
    words = [found for word in words for found in (sorted(glob.glob(word)) if "*" in word else [word])]
    quick = QUICK.get(words[1], {})
    if words[1] == "run" and not {"--method", "--mesh"} & {*words}:
        quick = quick | {"--method": "toy"}
    quick = [part for option, value in quick.items() if option not in words for part in (option, value) if part]
    result = hmrkit(*words[1:], *quick, stdin=stdin)
    assert result.returncode == 0, (words, result.stderr)
    for option, value in itertools.pairwise(words):
        assert option not in ("-o", "--out", "--html", "--template") or value == "-" or Path(value).exists(), words
    return result.raw
