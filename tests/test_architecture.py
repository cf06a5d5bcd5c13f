"""The house rules that a machine can check: which way imports point, and what the command line may load."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "hmrkit"
FAMILIES = {"detectors", "trackers", "keypoints", "lifters", "regressors", "datasets", "backbones"}
# What may point the other way, and why.
EXCEPTIONS = {
    ("regressors", "backbones"): "regressors read what backbones see",
    ("keypoints", "backbones"): "published pose networks are a backbone and a head",
}
LAYERS = [
    {
        "types",
        "errors",
        "members",
        "files",
        "geometry",
        "camera",
        "skeletons",
        "crops",
        "smoothing",
        "device",
        "untrusted",
    },
    {"take", "video", "weights", "engines", "metrics"},
    {"body", "blazepose"},
    {"rendering"},
    {"synthetic"},
    FAMILIES | {"fitting", "calibration", "results", "conversion"},
    {"mesh_streams", "options", "models"},
    {"detection_record", "stages", "pipeline", "meshes"},
    {"scene", "evaluation", "training"},
    {"exporters", "viewing"},
    {"output", "report", "batches", "benchmark"},
    {"cli"},
]
ROOT = {
    "__init__", "__main__", "types", "errors", "files", "geometry", "camera", "crops", "skeletons", "smoothing",
    "device", "members", "weights", "options", "models", "mesh_streams", "pipeline", "meshes", "output", "report",
    "engines", "detection_record", "stages",
}  # fmt: skip


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


def test_the_packages_root_holds_what_the_house_names():
    assert {path.stem for path in PACKAGE.glob("*.py")} <= ROOT


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
