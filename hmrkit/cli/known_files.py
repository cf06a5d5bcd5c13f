"""Files that `hmrkit weights inspect` knows, by the names and shapes of their tensors: published ones and our own.

To make a file known add its line to `PUBLISHED`, or to `OWN` where a command of hmrkit writes it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hmrkit.keypoints import KEYPOINTS, hrnet, vitpose
from hmrkit.lifters import LIFTERS
from hmrkit.members import Member, visible
from hmrkit.regressors import REGRESSORS
from hmrkit.regressors.crowdnet import VPOSER_FILES
from hmrkit.regressors.files import read_network
from hmrkit.regressors.vibe import SPIN_FILES
from hmrkit.training.recipes import trainable
from hmrkit.weights import read_metadata

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
    top level or below ``model.``. `family` and `member` say what reads it, "" where nothing does, `place` its name in a
    weights folder, where hmrkit looks for it; `needs` what else; `files`, one of which must lie beside it or in a
    weights folder."""

    what: str
    has: Mapping[str, tuple[int | None, ...] | None]
    family: str = ""
    member: str = ""
    needs: str = ""
    files: tuple[str, ...] = ()
    place: str = ""


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

OWN: tuple[Known, ...] = (
    Known(
        "VideoPose3D's successor, a lifter trained by hmrkit",
        {"stem.weight": None, "frames.0.inner.weight": None},
        "lifter", "videopose3d",
    ),
    Known("SemGCN on rays, a lifter trained by hmrkit", {"graph.gconv_input.0.gconv.W": None}, "lifter", "semgcn"),
    Known(
        "A and W of a body, by which PC-HMR calibrates, trained by hmrkit",
        {"attachment": (None, None), "bones": (None, None), "model_id": (None,), "place": (None, None)},
        place="calibration/BODY.safetensors",
    ),
    Known(
        "PC-HMR's self-rotation or shape compensation, trained by hmrkit: kept for `hmrkit train ablate`",
        {"layers.0.weight": (None, 424), "layers.2.weight": None},
    ),
    Known(
        "a prior of poses, trained by hmrkit",
        {"arm.log_weights": None, "arm.means": None, "arm.precisions": None}, place="pose_prior/gmm.safetensors",
    ),
)  # fmt: skip
UNCERTAINTY = Known("", {}, place="calibration/pose3d_uncertainty.json")
CONVERTED = {
    "yolox-nano": "detector/yolox_nano.safetensors",
    "movenet-thunder": "keypoints/movenet_thunder.safetensors",
    "blazepose-heavy": "keypoints/blazepose_heavy.safetensors",
}
# The parts of a checkpoint that a training saves to go on from; what it trained stands beside it.
RESUMED = {"network", "average", "optimizer", "step"}


def known_file(path: Path, shapes: Shapes) -> Known | None:
    """The line of a file with tensors of these `shapes`; None where it is unknown."""
    lines = (*OWN, *PUBLISHED)
    return _trained(path) or next((known for known in lines if _has(shapes, known.has)), None)


def near_miss(shapes: Shapes) -> str:
    """Of an unknown file: which published one it resembles, and the tensor by which it differs; "" where none.

    Every other tensor that tells that file from others fits: at least one, or two where this one is missing.
    """
    for known in PUBLISHED:
        other = [key for key, wanted in known.has.items() if not _fits(shapes.get(key), wanted)]
        fitting = len(known.has) - len(other)
        if len(other) != 1 or fitting < (1 if other[0] in shapes else 2):
            continue
        wanted = ", ".join("any" if size is None else str(size) for size in known.has[other[0]] or ())
        found = f"has {shapes[other[0]]}" if other[0] in shapes else "is missing"
        return f"{known.what}, but {other[0]} {found}" + (f", wanted ({wanted})" if wanted else "")
    return ""


def use_of(known: Known, path: Path) -> str:
    """The options that read a file, or a word on that."""
    if known.place:
        return f"found by itself as {known.place} in a weights folder ($HMRKIT_WEIGHTS, ./weights)"
    table, option = OPTIONS.get(known.family, ({}, ""))
    if known.member not in visible(table):
        return NOTHING
    return option.format(name=known.member).replace("FILE", str(path))


def _trained(path: Path) -> Known | None:
    """The regressor that `hmrkit train` wrote, or the network that `hmrkit weights convert` did."""
    if path.suffix != ".safetensors":
        return None
    metadata = read_metadata(path)
    if place := CONVERTED.get(metadata.get("network", "")):
        return Known(f"{metadata['network']}, converted by hmrkit", {}, place=place)
    if not (network := read_network(path)):
        return None
    alike = [name for name, member in trainable(REGRESSORS).items() if _fields(member) == network.keys()]
    if not alike:
        return None
    if (name := metadata.get("method")) in alike:
        return Known(f"{name}, trained by hmrkit", {}, "regressor", name)
    # Without that field; HMR and SPIN have one network.
    return Known(f"{alike[0]}, or one of its form, trained by hmrkit", {}, "regressor", alike[0])


def _fields(member: Member) -> set[str]:
    """The names of a network's sizes."""
    preset = next(iter(member.load_recipe().PRESETS.values()))
    return {field.name for field in dataclasses.fields(preset.network)}


def _has(shapes: Shapes, wanted: Mapping[str, tuple[int | None, ...] | None]) -> bool:
    return any(
        all(_fits(shapes.get(prefix + key), shape) for key, shape in wanted.items()) for prefix in ("", "model.")
    )


def _fits(found: tuple[int, ...] | None, wanted: tuple[int | None, ...] | None) -> bool:
    if found is None or wanted is None:
        return found is not None
    return len(found) == len(wanted) and all(w in (None, f) for f, w in zip(found, wanted, strict=True))
