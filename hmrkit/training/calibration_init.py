"""Write the geometric A and W of a body: ``python -m hmrkit.training.calibration_init --out weights/calibration``.

They take a second to compute; they are stored so that learned ones of the same form can take their place.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from hmrkit.body import Body, load_body
from hmrkit.calibration import CalibrationWeights, initial_weights, save_calibration

log = logging.getLogger(__name__)


def write_initial_weights(body: Body, folder: str | Path) -> Path:
    """Compute A and W of `body` from its geometry and store them as ``<folder>/<model id>.safetensors``."""
    rest = body.v_template.double(), body.joints_only().joints[0].double()
    attachment, place = initial_weights(*rest, body.weights.double())
    path = Path(folder) / f"{body.topology_id}.safetensors"
    save_calibration(CalibrationWeights(attachment, place, body.topology_id), path)
    return path


def main() -> None:
    """Entry point: `--body` a body file (default: the free one), `--out` the folder to write into."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--body", help="SMPL body file; default the free neutral body")
    parser.add_argument("--out", required=True, help="folder for <model id>.safetensors")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    log.info("wrote %s", write_initial_weights(load_body(options.body), options.out))


if __name__ == "__main__":
    main()
