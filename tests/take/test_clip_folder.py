"""A clip's folder through many runs: nothing old among the new, nothing foreign touched, one writer at a time."""

import json
import os
import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest
from commands import ended, start
from films import TOYS, write_film
from in_process import hmrkit

from hmrkit.files import sha256_of
from hmrkit.take.clip_folder import MAKING, MANIFEST, ClipFolder


def run(film, out, *args):
    result = hmrkit("run", film, "--out", out, "--method", "toy", "--no-refine", *TOYS, *args)
    assert result.returncode == 0, result.stderr


def make(**files):
    """What writes these files (``_`` is the folder's separator) and names their first parts as its paths."""

    def write(folder):
        for name, text in files.items():
            path = folder / name.replace("_", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return [folder / first for first in dict.fromkeys(name.split("_")[0] for name in files)]

    return write


def never(_):
    raise AssertionError("made again")


def contents(folder):
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} - {MANIFEST}


def test_what_the_run_before_made_is_removed_and_foreign_files_stay(tmp_path):
    first = ClipFolder(tmp_path)
    assert first.product("obj", {"v": 1}, make(a_1="x", a_2="y", b_1="z")) == [tmp_path / "a", tmp_path / "b"]
    first.product("npz", {"v": 1}, make(n="n"))
    first.finish(["obj", "npz"])
    (tmp_path / "a" / "mine").write_text("foreign")
    (tmp_path / "n").write_text("altered by its user")
    again = ClipFolder(tmp_path)
    assert again.product("obj", {"v": 1}, never) == [tmp_path / "a", tmp_path / "b"]
    again.product("obj", {"v": 2}, make(a_2="new"))
    again.finish(["obj"])
    assert contents(tmp_path) == {"a/2", "a/mine", "n"}
    assert (tmp_path / "a" / "2").read_text() == "new"
    (entry,) = json.loads((tmp_path / MANIFEST).read_text())["products"].values()
    assert entry["files"] == {"a/2": {"bytes": 3, "sha256": sha256_of(tmp_path / "a" / "2")}}


def test_of_another_product_only_what_a_new_one_replaces_leaves(tmp_path, caplog):
    first = ClipFolder(tmp_path)
    first.product("obj-a", {}, make(p1_1="x", p1_2="x", p2_1="x"))
    first.product("bvh-a", {}, make(m1="x", m2="x", skin="s"))
    first.finish(first.names)
    second = ClipFolder(tmp_path)
    second.product("obj-b", {}, make(p1_1="y"))
    second.product("bvh-b", {}, make(m1="y", skin="s"))
    second.finish(second.names)
    (warning,) = [record.getMessage() for record in caplog.records]
    assert "replaced files of the same name of bvh-a, obj-a" in warning
    assert contents(tmp_path) == {"p1/1", "p2/1", "m1", "m2", "skin"}
    assert second.products["obj-a"]["paths"] == ["p2"]
    assert set(second.products["bvh-a"]["files"]) == {"m2", "skin"}  # equal files are shared
    third = ClipFolder(tmp_path)
    third.product("bvh-b", {"v": 2}, make(m1="y"))
    third.product("obj-a", {}, make(p1_1="x", p1_2="x", p2_1="x"))  # what has lost files is made again
    third.finish(third.names)
    assert contents(tmp_path) == {"p1/1", "p1/2", "p2/1", "m1", "m2", "skin"}
    assert "obj-b" not in third.names


def test_a_product_instead_of_another(tmp_path, caplog):
    first = ClipFolder(tmp_path)
    first.product("usd", {}, make(a="x", b="x"))
    first.finish(first.names)
    second = ClipFolder(tmp_path)
    second.product("usd-clip", {}, make(a="y"), instead_of=["usd"])
    second.finish(second.names)
    assert (contents(tmp_path), second.names, caplog.records) == ({"a"}, ["usd-clip"], [])


@pytest.mark.parametrize("harm", [lambda p: p.unlink(), lambda p: p.write_text("yy"), lambda p: p.write_text("z")])
def test_deleted_and_altered_files_are_made_again(harm, tmp_path):
    before = ClipFolder(tmp_path)
    before.product("obj", {}, make(a_1="x", a_2="y"))
    before.finish(["obj"])
    harm(tmp_path / "a" / "2")
    after = ClipFolder(tmp_path)
    after.product("obj", {}, make(a_1="x", a_2="y"))
    after.finish(["obj"])
    assert (tmp_path / "a" / "2").read_text() == "y"
    ClipFolder(tmp_path).product("obj", {}, never)


@pytest.mark.parametrize("damage", [b"\xb8\xff", b"{", b"[1]", b'{"format": 3}'])
def test_a_damaged_manifest_means_that_all_is_made_again(damage, tmp_path):
    before = ClipFolder(tmp_path)
    before.product("npz", {}, make(n="n"))
    before.finish(["npz"])
    (tmp_path / MANIFEST).write_bytes(damage)
    after = ClipFolder(tmp_path)
    after.product("npz", {}, make(n="n"))
    after.finish(["npz"])
    ClipFolder(tmp_path).product("npz", {}, never)


@pytest.mark.parametrize("moment", ["making", "moving"])
def test_after_a_kill_the_next_run_knows_every_file(moment, tmp_path, monkeypatch):
    whole = ClipFolder(tmp_path)
    whole.product("obj", {"v": 1}, make(a_1="x", a_2="x"))
    whole.finish(["obj"])
    with monkeypatch.context() as killed:
        killed.setattr("hmrkit.take.clip_folder._remove_folder", lambda _: None)  # what is dead cleans nothing up
        if moment == "moving":
            moved, replace = [], os.replace

            def replace_one(source, place):
                if MAKING in str(source):
                    moved.append(place)
                    if len(moved) > 1:
                        raise KeyboardInterrupt
                replace(source, place)

            killed.setattr("os.replace", replace_one)

        def many(folder):
            paths = make(**{f"a_{k}": "new" for k in range(5)})(folder)
            if moment == "making":
                raise KeyboardInterrupt
            return paths

        with pytest.raises(KeyboardInterrupt):
            ClipFolder(tmp_path).product("obj", {"v": 2}, many)
    last = ClipFolder(tmp_path)
    last.product("obj", {"v": 3}, make(a_4="last"))
    last.finish(["obj"])
    assert contents(tmp_path) == {"a/4"}


def test_runs_with_other_options_leave_only_their_own_results(tmp_path):
    film, out = write_film(tmp_path / "walk.mp4"), tmp_path / "out"
    run(film, out, "--format", "obj")
    folder = out / "walk"
    assert len(list((folder / "person_01_obj").iterdir())) == 12
    (folder / "person_01_obj" / "note.txt").write_text("mine")
    run(film, out, "--format", "obj", "--every", "3")
    names = {f"frame_{k:06d}.obj" for k in range(4)}
    assert {p.name for p in (folder / "person_01_obj").iterdir()} == names | {"note.txt"}
    whole = (folder / "person_01_obj" / "frame_000003.obj").read_bytes()
    shutil.copy(folder / "person_01_obj" / "frame_000000.obj", folder / "person_01_obj" / "frame_000003.obj")
    run(film, out, "--format", "obj", "--every", "3")
    assert (folder / "person_01_obj" / "frame_000003.obj").read_bytes() == whole
    run(film, out, "--format", "npz", "--every", "3")
    assert [p.name for p in (folder / "person_01_obj").iterdir()] == ["note.txt"]
    assert {p.name for p in folder.iterdir() if p.is_file()} == {"take.npz", "person_01.npz", "report.json", MANIFEST}


def test_an_export_into_a_runs_folder_replaces_the_runs(tmp_path):
    film, out = write_film(tmp_path / "walk.mp4"), tmp_path / "out"
    run(film, out, "--format", "obj,npz")
    folder, note = out / "walk", out / "walk" / "person_01_obj" / "note.txt"
    note.write_text("mine")
    export = ("export", folder / "take.npz", "--out", folder, "--device", "cpu")
    result = hmrkit(*export, "--format", "obj", "--fps", "5")
    assert (result.returncode, "replaced" in result.stderr) == (0, False), result.stderr
    products = json.loads((folder / MANIFEST).read_text())["products"]
    assert set(products) == {"export-obj-walk", "export-npz"}
    frames = set(products["export-obj-walk"]["files"])
    assert contents(folder) == frames | {"person_01_obj/note.txt", "take.npz", "person_01.npz", "report.json"}
    run(film, out, "--format", "obj,npz")
    assert set(json.loads((folder / MANIFEST).read_text())["products"]) == {"export-obj", "export-npz"}
    assert len(list((folder / "person_01_obj").glob("*.obj"))) == 12 > len(frames)


def test_two_runs_at_once_on_one_folder(tmp_path):
    films, out = [write_film(tmp_path / f"f{k}.mp4", frames=6) for k in range(2)], tmp_path / "out"
    command = ["run", *films, "--out", out, "--method", "toy", "--no-refine", "--render", "o.mp4", *TOYS]
    errors, nowhere = [tmp_path / f"errors_{k}" for k in range(2)], Path(os.devnull)
    for path in errors:
        path.touch()
    with ExitStack() as running:
        both = [running.enter_context(start(*command, streams=[nowhere, nowhere, path])) for path in errors]
        codes = [ended(process, path) for process, path in zip(both, errors, strict=True)]
    assert codes == [0, 0], [path.read_text() for path in errors]
    for film in films:
        products = json.loads((out / film.stem / MANIFEST).read_text())["products"]
        for file, facts in ((f, x) for product in products.values() for f, x in product["files"].items()):
            assert sha256_of(out / film.stem / file) == facts["sha256"]
    assert not list(out.rglob(".*"))
