"""``python -m hmrkit.training.make_body --out DIR``: write the three genders' bodies and their figures."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path

import numpy as np

from hmrkit.errors import HmrkitError
from hmrkit.training.make_body.assembly import make_bodies


def main() -> int:
    """Run the recipe; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m hmrkit.training.make_body", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the .npz files and figures.json")
    parser.add_argument("--samples", type=int, default=2000, help="people to sample (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=7, help="(default: %(default)s)")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(relativeCreated)7.0f ms  %(message)s")
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        bodies = make_bodies(options.samples, options.seed)
    except HmrkitError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    for gender, (arrays, _) in bodies.items():
        np.savez_compressed(options.out / f"hmrkit_body_{gender}.npz", **arrays)  # pyright: ignore[reportArgumentType]
    figures = {gender: figures for gender, (_, figures) in bodies.items()}
    (options.out / "figures.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
