"""Shot changes of made films: where they are found, and that nobody is followed across one."""

from dataclasses import replace

import numpy as np
import pytest
from films import TOYS, write_film
from typer.testing import CliRunner

from hmrkit.cli.app import app
from hmrkit.errors import InputError
from hmrkit.take import load_take, save_take
from hmrkit.take.editing import cut_take
from hmrkit.types import Detections
from hmrkit.video.cuts import find_cuts, frame_colours, load_cuts, shots

RNG = np.random.default_rng(0)


def scene(seed: int) -> np.ndarray:
    """A wide view (90,600,3) of patches of colours, brighter for a larger `seed`."""
    patches = np.random.default_rng(seed).integers(0, 90, (6, 40, 3)) + 50 * seed
    return patches.repeat(15, 0).repeat(15, 1)


def shot(seed: int, frames: int, pan: int = 0) -> list[np.ndarray]:
    """Noisy frames (90,160,3) of a camera that pans by `pan` px a frame."""
    view = scene(seed)
    clean = (view[:, k * pan % 440 :][:, :160] for k in range(frames))
    return [np.clip(image + RNG.normal(0, 4, image.shape), 0, 255).astype(np.uint8) for image in clean]


def cuts_of(frames) -> list[int]:
    return find_cuts(np.array([frame_colours(frame) for frame in frames])).tolist()


FILMS = {
    "plain": lambda frame: frame,
    "grey": lambda frame: frame.mean(-1, keepdims=True).repeat(3, -1).astype(np.uint8),
    "negative": lambda frame: 255 - frame,
    "dark": lambda frame: frame // 5,
}


@pytest.mark.parametrize("kind", FILMS)
def test_cuts_are_found_and_pans_are_none(kind):
    film = [FILMS[kind](f) for f in (*shot(1, 20), *shot(2, 15, pan=6), *shot(3, 3), *shot(1, 12, pan=3))]
    assert cuts_of(film) == [20, 35, 38]


def test_neither_flashes_nor_walkers_nor_light_are_cuts():
    film = shot(1, 30)
    film[8] = np.full_like(film[8], 250)
    film[15], film[16] = 255 - film[15], 255 - film[16]
    for k in range(30):
        film[k] = (film[k] * (1 - 0.02 * k)).astype(np.uint8)
        film[k][20:80, 5 * k : 5 * k + 40] = (200, 30, 30)
    assert cuts_of(film) == []
    assert cuts_of(film[:1]) == cuts_of([]) == []


@pytest.mark.parametrize("frames", [12, 25])
def test_a_dissolve_is_not_found(frames):
    """What the docstring says: nowhere in it do colours change at once. ``--cuts FILE`` names it."""
    first, second = shot(1, 10 + frames), shot(2, 10 + frames)
    share = np.clip((np.arange(20 + frames) - 9.5) / frames, 0, 1)
    a, b = first + first[-1:] * 10, second[:1] * 10 + second
    film = [((1 - s) * x + s * y).astype(np.uint8) for s, x, y in zip(share, a, b, strict=True)]
    assert cuts_of(film) == []
    assert cuts_of([*first, *second]) == [len(first)]


def test_cuts_from_a_file(tmp_path):
    listed = tmp_path / "cuts.txt"
    listed.write_text("[12, 30]\n7 7\n90")
    numbers = np.arange(5, 60, 5)
    finder = load_cuts(str(listed))
    assert finder(numbers, np.zeros((0, 1))) == (7, 12, 30)
    assert finder.weights_sha256
    assert load_cuts("off")(numbers, np.zeros((0, 1))) == ()
    assert shots(numbers, (7, 12, 30)).tolist() == [0, 1, 2, 2, 2, 3, 3, 3, 3, 3, 3]
    listed.write_text("12\n1.5s")
    with pytest.raises(InputError, match=r"whole frame numbers, found '1.5s'"):
        load_cuts(str(listed))
    with pytest.raises(InputError, match="auto, off or a text file"):
        load_cuts(str(tmp_path / "none.txt"))


def test_no_track_and_no_stage_crosses_a_cut(tmp_path):
    """A person stays at one place through a cut: two tracks; every later stage works on tracks alone."""
    film, listed, out = write_film(tmp_path / "walk.mp4", frames=24), tmp_path / "cuts.txt", tmp_path / "take.npz"
    listed.write_text("10")
    detected, tracked = str(tmp_path / "detected.npz"), str(out)
    runner = CliRunner()
    for arguments in (
        ["detect", str(film), "-o", detected, *TOYS[:2], "--cuts", str(listed)],
        ["track", detected, "-o", tracked, "--people", "1"],
    ):
        result = runner.invoke(app, arguments)
        assert result.exit_code == 0, result.output
    take = load_take(out)
    assert take.video.cuts == (10,)
    assert [(t.track_id, t.frame_indices[0], t.frame_indices[-1]) for t in take.tracks] == [(1, 0, 9), (2, 10, 23)]
    assert "new shots at frames 10" in runner.invoke(app, ["info", tracked]).output
    assert cut_take(take, None, 10, 20).video.cuts == ()
    save_take(replace(take, detections=(Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32)),) * 24), out)
    assert load_take(out).video.cuts == (10,)
