"""The house rules that a machine can check: which way imports point, and what the command line may load."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "hmrkit"
FAMILIES = {"detectors", "trackers", "keypoints", "lifters", "regressors", "exporters", "datasets", "backbones"}
# What may point the other way, and why.
EXCEPTIONS = {
    ("regressors", "backbones"): "regressors read what backbones see",
    ("datasets", "training"): "the synthetic benchmark is rendered by what renders the training images",
}
LAYERS = [
    {"types", "errors", "members"},
    {"geometry", "camera", "skeletons", "crops", "video", "video_probe", "take", "smoothing"}
    | {"scene", "take_editing"},
    {"body", "metrics", "weights", "device", "smpl_files", "smpl_pickles", "dataset_pickles", "sparse", "blazepose_net"}
    | {"protocols", "occlusion", "body_points", "smplx_files", "mesh_facts"}
    | {"feet", "motion", "world", "motion_cleaning", "retarget", "vertex_store"},
    FAMILIES | {"conversion"},
    {"landmarks", "inverse_kinematics", "fitting", "pose_prior", "smplify", "calibration", "targets", "refit"}
    | {"regression", "file_stream"},
    {"mesh_streams", "options", "models"},
    {"meshes", "pipeline", "evaluation", "training", "rendering"},
    {"export_scene", "output", "batch", "benchmark", "viewing", "weights_check"},
    {"cli"},
]


def imported_rooms(path):
    """Rooms that a file imports, also inside functions; what only a type checker reads does not count."""
    tree = ast.parse(path.read_text())
    checking = {
        n for i in ast.walk(tree) if isinstance(i, ast.If) and "TYPE_CHECKING" in ast.dump(i.test) for n in ast.walk(i)
    }
    for node in ast.walk(tree):
        if node in checking:
            continue
        names = []
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("hmrkit"):
            names = [node.module + "." + a.name if node.module == "hmrkit" else node.module for a in node.names]
        elif isinstance(node, ast.Import):
            names = [a.name for a in node.names if a.name.startswith("hmrkit.")]
        for name in names:
            yield name.split(".")[1]


def layer_of(room):
    return next((level for level, rooms in enumerate(LAYERS) if room in rooms), None)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if room in ("__init__", "__main__"):
        return
    assert layer_of(room) is not None, f"{room} has no place in LAYERS"
    for other in imported_rooms(path):
        if other in ("__version__", room):
            continue
        assert layer_of(other) is not None, f"{other} has no place in LAYERS"
        if (room, other) in EXCEPTIONS:
            continue
        assert layer_of(other) <= layer_of(room), f"{room} imports {other}, which stands above it"
        assert not (room in FAMILIES and other in FAMILIES), f"family {room} imports family {other}"


def test_nothing_imports_torchvision():
    for path in PACKAGE.rglob("*.py"):
        assert not re.search(r"^\s*(import|from) torchvision", path.read_text(), re.M), path


def test_help_and_package_import_load_nothing_heavy():
    code = (
        "import sys, hmrkit, hmrkit.cli.app\n"
        "heavy = {'torch', 'scipy', 'av', 'decord', 'cv2', 'trackers', 'matplotlib', 'trimesh', 'numpy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
