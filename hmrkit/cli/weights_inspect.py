"""What is this file, and what is it good for? What `hmrkit weights inspect` does.

A file is known by the names and shapes of its tensors, never by its name. Nothing that it names is run. A published
regressor's or keypoint network's file is then held against the network that reads it, made without memory of its own,
so that a file with tensors missing or of other sizes is refused here and not in a run.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hmrkit.body.files import gender_in_name, read_smpl_file
from hmrkit.body.smplx_files import KINDS
from hmrkit.errors import WeightsError
from hmrkit.files import sha256_of
from hmrkit.keypoints import KEYPOINTS, hrnet, vitpose
from hmrkit.lifters import LIFTERS
from hmrkit.members import Member, visible
from hmrkit.regressors import REGRESSORS
from hmrkit.regressors.crowdnet import VPOSER_FILES
from hmrkit.regressors.files import beside, read_network
from hmrkit.regressors.vibe import SPIN_FILES
from hmrkit.training.recipes import trainable
from hmrkit.weights import find_parts, load_state, read_manifest, read_metadata, weight_folders

Shapes = Mapping[str, tuple[int, ...]]

# What asks for which family's members, with FILE for the file.
OPTIONS: dict[str, tuple[Mapping[str, Member], str]] = {
    "regressor": (REGRESSORS, "--method {name} --checkpoint FILE"),
    "lifter": (LIFTERS, "--lifter {name} --lifter-checkpoint FILE"),
    "keypoints": (KEYPOINTS, "--keypoints {name}:FILE"),
}
SMPL_BODY = "SMPL's body file for its shapes (--body SMPL_NEUTRAL.pkl); other bodies get their mean shape"
HRNET_SIZE = "256x192 or 384x288 in its name, or the size of its crops ahead of it: --keypoints hrnet:384x288:FILE"
NOTHING = "no part of this hmrkit reads it"


@dataclass(frozen=True)
class Known:
    """A published file. `has` are tensors that tell it from the others, with sizes where they matter (None: any), at
    top level or below ``model.``. `family` and `member` say what reads it, "" where nothing does; `needs` what else;
    `files`, one of which must lie beside it or in a weights folder."""

    what: str
    has: Mapping[str, tuple[int | None, ...] | None]
    family: str = ""
    member: str = ""
    needs: str = ""
    files: tuple[str, ...] = ()


PUBLISHED: tuple[Known, ...] = (
    Known(
        "SPIN, or HMR of its form (Kolotouros et al. 2019)",
        {"layer4.2.conv3.weight": None, "fc1.weight": (1024, 2205), "decpose.weight": (144, 1024)},
        "regressor", "spin", SMPL_BODY,
    ),
    Known(
        "CLIFF on HRNet-W48 (Li et al. 2022)",
        {"encoder.stage4.0.branches.0.0.conv1.weight": (48, None, 3, 3), "fc1.weight": (1024, 2208)},
        "regressor", "cliff", SMPL_BODY,
    ),
    Known(
        "CLIFF on ResNet-50 (Li et al. 2022)",
        {"encoder.layer4.2.conv3.weight": None, "fc1.weight": (1024, 2208)},
        "regressor", "cliff", SMPL_BODY,
    ),
    Known(
        "HMR 2.0 (Goel et al. 2023)",
        {"backbone.pos_embed": (1, 193, None), "smpl_head.decpose.weight": (144, None)},
        "regressor", "hmr2", SMPL_BODY,
    ),
    Known(
        "PARE (Kocabas et al. 2021)",
        {"backbone.stage4.2.branches.0.0.conv1.weight": None, "head.pose_mlp.weight": (1, 6, None, 24, 1, 1)},
        "regressor", "pare", SMPL_BODY,
    ),
    Known(
        "VIBE's generator (Kocabas et al. 2020), without an image network",
        {"encoder.gru.weight_ih_l0": (3072, 2048), "regressor.decpose.weight": (144, 1024)},
        "regressor", "vibe", f"SPIN's spin_model_checkpoint.pth.tar beside it or in a weights folder; {SMPL_BODY}",
        SPIN_FILES,
    ),
    Known("DaNet (Zhang et al. 2020)", {"img2iuv.learned_ratio": (24,)}, "regressor", "danet", SMPL_BODY),
    Known(
        "SGRE (Wang and Zhang 2023)",
        {"rotation_net.pose_branch.0.0.weight": (128, 3974)},
        "regressor", "sgre", SMPL_BODY,
    ),
    Known(
        "3DCrowdNet (Choi et al. 2022), VPoser in it",
        {"rotation_net.root_pose_out.0.weight": (6, None), "vposer.vposer.bodyprior_dec_fc1.weight": None},
        "regressor", "crowdnet", SMPL_BODY,
    ),
    Known(
        "3DCrowdNet (Choi et al. 2022) without VPoser",
        {"rotation_net.root_pose_out.0.weight": (6, None)},
        "regressor", "crowdnet", f"VPoser's TR00_E096.pt (v1) beside it or in a weights folder; {SMPL_BODY}",
        VPOSER_FILES,
    ),
    Known(
        "VPoser v1 (Pavlakos et al. 2019), a prior of poses: for 3DCrowdNet's file, put it beside that",
        {"bodyprior_dec_fc1.weight": (512, 32)},
    ),
    Known(
        "VideoPose3D (Pavllo et al. 2019), 17 joints in 2D to 3D",
        {"expand_conv.weight": None, "shrink.weight": (51, None, 1)},
        "lifter", "videopose3d", "keypoints in the joint order that it was trained with, which the file does not say",
    ),
    Known(
        "VideoPose3D's trajectory model, which lifts no pose",
        {"expand_conv.weight": None, "shrink.weight": (3, None, 1)},
    ),
    Known("SemGCN (Zhao et al. 2019)", {"gconv_input.0.gconv.e": (1, 46)}, "lifter", "semgcn"),
    *(
        Known(
            "HRNet for COCO's 17 keypoints (Sun et al. 2019)",
            {f"{body}{hrnet.LANDMARK}": None, f"{head}final_layer.weight": (17, None, 1, 1)},
            "keypoints", "hrnet", HRNET_SIZE,
        )
        for body, head in hrnet.LAYOUTS
    ),
    *(
        Known(
            "HRNet for other joints than COCO's 17 keypoints",
            {f"{body}{hrnet.LANDMARK}": None, f"{head}final_layer.weight": (None, None, 1, 1)},
        )
        for body, head in hrnet.LAYOUTS
    ),
    *(
        Known(
            "ViTPose for COCO's 17 keypoints (Xu et al. 2022)",
            {"backbone.pos_embed": None, f"{head}final_layer.weight": (17, None, None, None)},
            "keypoints", "vitpose",
        )
        for _, head in vitpose.LAYOUTS
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """What is known of a file: `use`, the options that read it, or a word on that; `first_keys` of an unknown one."""

    path: str
    sha256: str
    what: str
    use: str = NOTHING
    needs: str = ""
    tensors: int = 0
    parameters: int = 0
    first_keys: tuple[str, ...] = ()


def inspect(source: str | Path) -> Finding:
    """What the file `source` is: a checkpoint, a body of SMPL's family, or unknown. WeightsError where it is absent,
    damaged, or would have to run code to be read."""
    path = find_parts(source)[0]
    _refuse_junk(path)
    facts: dict[str, Any] = {"path": str(path), "sha256": sha256_of(path)}
    if _is_body_format(path):
        return _body(read_smpl_file(path), path, facts)
    shapes = {key: tuple(value.shape) for key, value in load_state(path, mapped=True).items()}
    facts |= {"tensors": len(shapes), "parameters": sum(math.prod(shape) for shape in shapes.values())}
    if summary := _shipped_as(path):
        return Finding(**facts, what=f"hmrkit's own: {summary}", use="found by itself")
    known = _trained(path, shapes) or next((k for k in PUBLISHED if _has(shapes, k.has)), None)
    if known is None:
        return Finding(**facts, what="unknown", first_keys=tuple(shapes)[:5])
    _check(known, path)
    return Finding(**facts, what=known.what, use=_use(known, path), needs=known.needs)


def lines(finding: Finding) -> list[str]:
    """The same for people to read."""
    size = f"{finding.tensors} tensors, {finding.parameters / 1e6:.1f} million numbers" if finding.tensors else ""
    texts = {
        "what": finding.what + (f"; {size}" if size else ""),
        "use": finding.use,
        "needs": finding.needs,
        "keys": ", ".join(finding.first_keys) + ", ..." if finding.first_keys else "",
        "sha256": finding.sha256,
    }
    return [finding.path, *(f"  {name:7s}{text}" for name, text in texts.items() if text)]


def _is_body_format(path: Path) -> bool:
    """Whether a file is an ``.npz`` or a plain pickle, as bodies are, and no checkpoint of PyTorch."""
    if path.suffix not in (".pkl", ".npz"):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return all(name.endswith(".npy") for name in archive.namelist())
    except zipfile.BadZipFile:
        return True


def _refuse_junk(path: Path) -> None:
    """WeightsError where a file begins as neither a checkpoint nor a body does."""
    with open(path, "rb") as file:
        start = file.read(12)
    zipped, pickled, safetensors = start[:2] == b"PK", start[:1] == b"\x80", start[8:9] == b"{"
    old_pickle = path.suffix == ".pkl" and start[:1] in (b"(", b"c", b"}", b"]")  # SMPL's, of Python 2
    if zipped or pickled or safetensors or old_pickle:
        return
    text = start.isascii() and start.decode("ascii").replace("\n", " ").isprintable()
    found = f"text, {start.decode().strip()!r} ..." if text else f"other data, {start.hex(' ')} ..."
    raise WeightsError(
        f"{path}: wanted a checkpoint (PyTorch's or .safetensors) or a body (.pkl, .npz), "
        f"found {found if start else 'an empty file'}"
    )


def _check(known: Known, path: Path) -> None:
    """Hold a published file's tensors against the network that reads them; WeightsError where they do not fit. What
    needs another file is held against it where that is there."""
    if not known.has or (known.files and not beside(path, known.files)):
        return
    try:
        if known.family == "keypoints":
            KEYPOINTS[known.member].load_module().published(load_state(path, mapped=True), path)
        elif known.family == "regressor":
            with torch.device("meta"), warnings.catch_warnings():
                warnings.filterwarnings("ignore", ".*copying from a non-meta parameter")  # which is what is meant
                REGRESSORS[known.member].load_module().load(known.member, path, device="meta")
    except WeightsError as error:
        raise WeightsError(f"{path}: {known.what}, but incomplete or of other sizes: {error}") from error


def _body(contents: dict[str, Any], path: Path, facts: dict[str, Any]) -> Finding:
    """Of a file's contents by name."""
    tree = np.shape(contents.get("kintree_table", ()))
    if not tree or tree[-1] not in KINDS or not {"v_template", "shapedirs"} <= contents.keys():
        return Finding(**facts, what="unknown", first_keys=tuple(contents)[:5])
    kind = {"SMPL": "SMPL", "SMPLH": "SMPL-H", "SMPLX": "SMPL-X"}[KINDS[tree[-1]]]
    vertices, shapes = len(contents["v_template"]), np.shape(contents["shapedirs"])[-1]
    gender = gender_in_name(path) or "its name says no gender"
    what = f"a body in the form of {kind}, {gender}; {vertices} vertices, {tree[-1]} joints, {shapes} shape components"
    needs = "" if kind == "SMPL" else "the package smplx (pip install hmrkit[smplx])"
    return Finding(**facts, what=what, use=f"--body {path}", needs=needs)


def _shipped_as(path: Path) -> str:
    """What a weights folder's manifest says of a file in it; "" where it says nothing, or the file is another one."""
    for folder in (folder.resolve() for folder in weight_folders()):
        if path.resolve().is_relative_to(folder):
            entry = read_manifest(folder).get(path.resolve().relative_to(folder).as_posix(), {})
            if entry.get("sha256") == sha256_of(path):
                return entry.get("summary", path.name)
    return ""


def _trained(path: Path, shapes: Shapes) -> Known | None:
    """What `hmrkit train` wrote."""
    if path.suffix != ".safetensors":
        return None
    if network := read_network(path):
        for name, member in trainable(REGRESSORS).items():
            preset = next(iter(member.load_recipe().PRESETS.values()))
            if {field.name for field in dataclasses.fields(preset.network)} == network.keys():
                return Known(f"{name}, or one of its form, trained by hmrkit", {}, "regressor", name)
    if "stem.weight" in shapes and "input_skeleton" in read_metadata(path):
        return Known("VideoPose3D's successor, trained by hmrkit", {}, "lifter", "videopose3d")
    return None


def _has(shapes: Shapes, wanted: Mapping[str, tuple[int | None, ...] | None]) -> bool:
    return any(
        all(_fits(shapes.get(prefix + key), shape) for key, shape in wanted.items()) for prefix in ("", "model.")
    )


def _fits(found: tuple[int, ...] | None, wanted: tuple[int | None, ...] | None) -> bool:
    if found is None or wanted is None:
        return found is not None
    return len(found) == len(wanted) and all(w in (None, f) for f, w in zip(found, wanted, strict=True))


def _use(known: Known, path: Path) -> str:
    table, option = OPTIONS.get(known.family, ({}, ""))
    if known.member not in visible(table):
        return NOTHING
    return option.format(name=known.member).replace("FILE", str(path))
