"""`hmrkit weights inspect`: published files by their tensors, bodies, our own, unknown ones; hostile ones refused."""

from __future__ import annotations

import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import made_results
import numpy as np
import pytest
import torch
from films import write_film
from made_smpl import make_smpl
from pose_networks import HRNET, vit_shapes
from seeded_weights import published_keys
from typer.testing import CliRunner

from hmrkit.body import load_body
from hmrkit.cli.app import app
from hmrkit.keypoints import KEYPOINTS
from hmrkit.lifters import LIFTERS
from hmrkit.regressors.files import write_regressor
from hmrkit.regressors.hmr import HmrNetwork, build
from hmrkit.take import load_take, save_take
from hmrkit.training.recipe import changed
from hmrkit.training.recipes.hmr import PRESETS
from hmrkit.weights import shipped_folder


def light(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """Tensors of any shape that take no room, in memory or on disk."""
    zero = torch.tensor(0.0)
    return {key: zero.expand(shape) for key, shape in shapes.items()}


def hmr2_keys() -> dict[str, tuple[int, ...]]:
    return {f"{part}.{k}": s for part in ("backbone", "smpl_head") for k, s in published_keys(f"hmr2_{part}").items()}


def crowdnet_keys() -> dict[str, tuple[int, ...]]:
    layers = {"fc1": (512, 32), "fc2": (512, 512), "out": (126, 512)}
    names = {f"vposer.vposer.bodyprior_dec_{k}.{p}": s[: 2 - i] for k, s in layers.items() for i, p in enumerate(WB)}
    return published_keys("crowdnet") | names


WB = ("weight", "bias")


def found(*files) -> list[dict]:
    result = CliRunner().invoke(app, ["weights", "inspect", *map(str, files), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


PUBLISHED = {
    "spin": ("SPIN", published_keys("spin_hmr"), "model"),
    "cliff": ("CLIFF on HRNet-W48", published_keys("cliff_hr48"), "model"),
    "cliff ": ("CLIFF on ResNet-50", published_keys("cliff_res50"), "model"),
    "danet": ("DaNet", published_keys("danet"), "model"),
    "sgre": ("SGRE", published_keys("sgre"), "network"),
    "pare": ("PARE", {f"model.{key}": shape for key, shape in published_keys("pare").items()}, "state_dict"),
    "vibe": ("VIBE", published_keys("vibe_gen"), "gen_state_dict"),
    "hmr2": ("HMR 2.0", hmr2_keys(), "state_dict"),
    "crowdnet": ("3DCrowdNet (Choi et al. 2022), VPoser in it", crowdnet_keys(), "network"),
    "crowdnet ": ("3DCrowdNet (Choi et al. 2022) without VPoser", published_keys("crowdnet"), "network"),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_regressors_are_known_by_their_tensors(name, tmp_path) -> None:
    what, shapes, part = PUBLISHED[name]
    path = tmp_path / "anything.bin"
    torch.save({part: {f"module.{key}": value for key, value in light(shapes).items()}, "epoch": 3}, path)
    (entry,) = found(path)
    assert entry["what"].startswith(what)
    assert entry["use"] == f"--method {name.strip()} --checkpoint {path}"
    assert "--body" in entry["needs"]
    assert entry["tensors"] == len(shapes)


OTHERS = {
    "VideoPose3D (": ({"expand_conv.weight": (1024, 34, 3), "shrink.weight": (51, 1024, 1)}, "videopose3d"),
    "VideoPose3D's trajectory": ({"expand_conv.weight": (1024, 34, 3), "shrink.weight": (3, 1024, 1)}, None),
    "SemGCN": ({"gconv_input.0.gconv.e": (1, 46)}, "semgcn"),
    "VPoser v1": ({"bodyprior_dec_fc1.weight": (512, 32)}, None),
    "HRNet for COCO": (HRNET, "hrnet"),
    "HRNet for other": (HRNET | {"final_layer.weight": (16, 32, 1, 1)}, None),
    "ViTPose": (vit_shapes(), "vitpose"),
    "unknown": ({"fc1.weight": (1024, 2208), "fc2.weight": (1, 1)}, None),
}  # fmt: skip


@pytest.mark.parametrize("what", OTHERS)
def test_other_files_are_known_or_shown(what, tmp_path) -> None:
    shapes, member = OTHERS[what]
    path = tmp_path / "file.pth"
    torch.save(light(shapes), path)
    (entry,) = found(path)
    assert entry["what"].startswith(what)
    if member in KEYPOINTS:
        assert entry["use"] == f"--keypoints {member}:{path}"
    if member in LIFTERS:
        assert entry["use"] == f"--lifter {member} --lifter-checkpoint {path}"
    if member is None:
        assert entry["use"] == "no part of this hmrkit reads it"
    assert entry["first_keys"] == (list(shapes) if what == "unknown" else [])


NEAR = {
    "SPIN, or HMR of its form (Kolotouros et al. 2019), but decpose.weight is missing, wanted (144, 1024)":
        {"layer4.2.conv3.weight": (2048, 512, 1, 1), "fc1.weight": (1024, 2205)},
    "HMR 2.0 (Goel et al. 2023), but smpl_head.decpose.weight has (72, 1024), wanted (144, any)":
        {"model.backbone.pos_embed": (1, 193, 1280), "model.smpl_head.decpose.weight": (72, 1024)},
}  # fmt: skip


@pytest.mark.parametrize("what", NEAR)
def test_unknown_files_that_one_tensor_keeps_from_being_known_show_it(what, tmp_path) -> None:
    torch.save(light(NEAR[what]), tmp_path / "file.pth")
    (entry,) = found(tmp_path / "file.pth")
    assert (entry["what"], entry["use"]) == (f"unknown; resembles {what}", "no part of this hmrkit reads it")


def test_our_own_files_and_bodies(tmp_path) -> None:
    trained = tmp_path / "mine.safetensors"
    write_regressor(build("hmr", HmrNetwork(hidden=8)), changed(PRESETS["cpu"], {"network.hidden": 8}), trained)
    smpl = make_smpl(tmp_path) / "SMPL_MALE.npz"
    ours = shipped_folder() / "detector" / "yolox_nano.safetensors"
    other = tmp_path / "other.npz"
    np.savez(other, a=np.zeros(2))
    entries = found(trained, smpl, ours, other)
    assert entries[0]["use"] == f"--method hmr --checkpoint {trained}"
    assert entries[1]["what"].startswith("a body in the form of SMPL, male; ")
    assert entries[1]["use"] == f"--body {smpl}"
    assert entries[2]["use"] == "found by itself"
    assert (entries[3]["what"], entries[3]["first_keys"]) == ("unknown", ["a"])
    text = CliRunner().invoke(app, ["weights", "inspect", str(trained)]).stdout
    assert f"use    --method hmr --checkpoint {trained}" in text


OWN = {
    "VideoPose3D's": ("lifter/videopose3d.safetensors", "--lifter videopose3d --lifter-checkpoint FILE"),
    "SemGCN on": ("lifter/semgcn.safetensors", "--lifter semgcn --lifter-checkpoint FILE"),
    "A and W": ("calibration/hmrkit-body-0.safetensors", "found by itself as calibration/hmrkit-body-0.safetensors"),
    "a prior": ("pose_prior/gmm.safetensors", "found by itself as pose_prior/gmm.safetensors"),
    "errors of": ("calibration/pose3d_uncertainty.json", "found by itself as calibration/pose3d_uncertainty.json"),
    "yolox-nano": ("detector/yolox_nano.safetensors", "found by itself as detector/yolox_nano.safetensors"),
    "danet": ("regressors/danet.safetensors", "--method danet --checkpoint FILE"),
}  # fmt: skip


def test_what_our_trainings_write_is_known_wherever_it_lies(tmp_path) -> None:
    copies = [tmp_path / f"mine{Path(name).suffix}" for name, _ in OWN.values()]
    copies = [copy.with_stem(f"mine{k}") for k, copy in enumerate(copies)]
    for copy, (name, _) in zip(copies, OWN.values(), strict=True):
        shutil.copy(shipped_folder() / name, copy)
    resumed = tmp_path / "checkpoint.pt"
    torch.save({"network": {"a": torch.zeros(1)}, "average": {}, "optimizer": {}, "step": 7, "curve": []}, resumed)
    *entries, last = found(*copies, resumed)
    for entry, copy, (what, (_, use)) in zip(entries, copies, OWN.items(), strict=True):
        assert entry["what"].startswith(what)
        assert entry["use"].startswith(use.replace("FILE", str(copy)))
    assert last["what"] == "a checkpoint of `hmrkit train` after 7 steps"


def test_results_and_takes_are_known_and_a_bad_file_stops_none(tmp_path) -> None:
    body, frames = load_body(), [[0, 1, 2], [1, 2]]
    people = [made_results.make_motion(len(rows), body, k) for k, rows in enumerate(frames)]
    wham = made_results.wham(tmp_path, people, frames, 160.0)
    image = made_results.prompthmr_image(tmp_path, people, frames, 160.0)
    gvhmr = made_results.gvhmr(tmp_path, people, frames, 160.0)
    film = write_film(tmp_path / "walk.mp4", frames=3)
    line = ["import", str(wham), "--video", str(film), "-o", str(tmp_path / "take.npz")]
    CliRunner().invoke(app, line, catch_exceptions=False)
    take = load_take(tmp_path / "take.npz")
    stages = take.provenance | {"calibrate": take.provenance["regress"]}  # which a take keeps by alphabet
    save_take(replace(take, provenance=stages), tmp_path / "take.npz")
    (tmp_path / "cut.pkl").write_bytes(wham.read_bytes()[:300])
    data = bytearray((tmp_path / "take.npz").read_bytes())
    data[len(data) // 2] ^= 255
    (tmp_path / "flipped.npz").write_bytes(data)
    (tmp_path / "empty").mkdir()
    bad = [tmp_path / name for name in ("cut.pkl", "flipped.npz", "empty")]
    names = [*bad, wham, image, gvhmr, tmp_path / "take.npz"]
    result = CliRunner().invoke(app, ["weights", "inspect", *map(str, names), "--json"])
    assert result.exit_code == 4
    assert [str(path) for path in bad] == [line.split(": ")[1] for line in result.stderr.splitlines()]
    entries = json.loads(result.stdout)
    assert all(entry["error"] for entry in entries[:3])
    assert [entry.get("what") for entry in entries[3:]] == [
        "results of wham: 2 people on SMPL, neutral",
        "results of prompthmr: 2 people on SMPL-X, neutral",
        "results of gvhmr: 1 people on SMPL-X, neutral",
        f"a take of hmrkit: 2 people in {film}, hmrkit-body-0-neutral; done: calibrate",
    ]
    assert entries[3]["use"] == f"hmrkit import {wham} --video CLIP -o take.npz; --mesh file:{wham}"


class Bomb:
    def __reduce__(self):
        return exec, ("raise AssertionError('code in a file was run')",)


def test_hostile_and_damaged_files_are_refused_in_one_line(tmp_path) -> None:
    import pickle

    whole = tmp_path / "whole.pt"
    torch.save({"state_dict": {"a": torch.zeros(1000)}}, whole)
    names = ("cut.pt", "runs.ckpt", "runs.pkl", "unfolds.pt", "huge.npz", "claims.pt")
    cut, runs, runs_too, unfolds, huge, claims = (tmp_path / name for name in names)
    torch.save(light({"a": (10**6, 10**6)}), claims)
    cut.write_bytes(whole.read_bytes()[:-200])
    torch.save({"state_dict": {"a": torch.zeros(1)}, "cfg": Bomb()}, runs)
    runs_too.write_bytes(pickle.dumps({"v_template": Bomb()}))
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(unfolds, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    with zipfile.ZipFile(huge, "w", zipfile.ZIP_DEFLATED) as target, target.open("v_template.npy", "w") as member:
        member.write(b"\0" * 1000)
    data = bytearray(huge.read_bytes())
    at = data.rindex(b"PK\x01\x02") + 24  # the size that the directory promises
    data[at : at + 4] = (4_200_000_000).to_bytes(4, "little")
    huge.write_bytes(data)
    for path, message in {
        cut: "expected .safetensors or a PyTorch checkpoint",
        runs: "exec",
        runs_too: "exec",
        unfolds: "a compressed zip file, refused",
        huge: "unfolds to 4.2 GB",
        claims: "its tensors claim 4000.0 GB",
        tmp_path / "absent.pt": "not found",
    }.items():
        assert message in refusal(path), (message, refusal(path))


INCOMPLETE = {
    "SPIN": ("layer3.2.bn1.bias", published_keys("spin_hmr")),
    "SGRE": ("pose2feat.conv.0.bias", published_keys("sgre")),
    "3DCrowdNet": ("position_net.conv.0.bias", crowdnet_keys()),
    "HRNet": ("stage3.0.branches.0.0.bn1.weight", HRNET),
    "ViTPose": ("backbone.last_norm.bias", vit_shapes()),
}


@pytest.mark.parametrize("what", INCOMPLETE)
def test_a_published_file_with_a_tensor_missing_is_refused(what, tmp_path) -> None:
    key, shapes = INCOMPLETE[what]
    torch.save(light({k: s for k, s in shapes.items() if k != key}), tmp_path / "short.pth")
    message = refusal(tmp_path / "short.pth")
    assert what in message
    assert "1 missing (" in message
    assert f"{key})" in message


def test_a_vitpose_of_another_size_is_refused(tmp_path) -> None:
    torch.save(light(vit_shapes() | {"backbone.pos_embed": (1, 433, 96)}), tmp_path / "large.pth")
    assert "wanted a ViTPose of crops of 256 x 192 px" in refusal(tmp_path / "large.pth")


def test_junk_gets_one_line(tmp_path) -> None:
    junk = {"text.pt": b"hello, this is", "noise.pth": b"\x9f\x00\xff" * 9, "empty.pkl": b"", "noise.npz": b"\x01" * 50}
    for (name, content), says in zip(
        junk.items(), ("text, 'hello, this", "9f 00 ff", "an empty file", "01 01"), strict=True
    ):
        (tmp_path / name).write_bytes(content)
        message = refusal(tmp_path / name)
        assert "wanted a checkpoint (PyTorch's or .safetensors), a body (.pkl, .npz), a take or results" in message
        assert says in message


def refusal(path) -> str:
    result = CliRunner().invoke(app, ["weights", "inspect", str(path)], catch_exceptions=False)
    assert (result.exit_code, result.stdout) == (3, ""), result.output
    (line,) = result.stderr.splitlines()
    return line
