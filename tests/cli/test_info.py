"""What `hmrkit info` prints of a take's people."""

from dataclasses import replace

import numpy as np
from made_takes import make_take

from hmrkit.cli.info import summary
from hmrkit.report import report
from hmrkit.types import MaskOverlap


def test_mask_overlaps_say_which_mesh_they_are_of(models):
    take = make_take(models)
    overlap = {t.track_id: MaskOverlap(np.full(len(t.frame_indices), 0.8, np.float32), None) for t in take.tracks}
    take = replace(take, overlap=overlap)
    first, second = (line for line in summary(take, report(take)) if line.startswith("person "))
    assert first.endswith("mask IoU 0.80")
    assert second.endswith("mask IoU 0.80 before calibration")
