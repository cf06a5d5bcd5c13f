"""ByteTrack through the ``trackers`` package (Roboflow, Apache-2.0).

Zhang et al. 2022, ByteTrack: strong boxes are matched to predicted boxes first, weak ones to what is left.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hmrkit.errors import UsageError
from hmrkit.types import Detections

# A person who is lost for longer is begun anew and joined, or not, by `hmrkit.trackers.linking`, which sees both ends.
LOST_S = 1.0
# Small networks give people far away or half hidden 0.4; the pass over the whole clip removes what stays doubtful.
STRONG_SCORE = 0.4


def associate(detections: Sequence[Detections], fps: float) -> list[np.ndarray]:
    """Tracklet ids (N,) of every frame's boxes, -1 where ByteTrack has not (yet) taken the box for a person."""
    try:
        import supervision
        from trackers import ByteTrackTracker
    except ImportError as error:  # its OpenCV needs libGL.so.1, which bare servers and containers lack
        raise UsageError(
            f"the tracker bytetrack cannot be loaded ({error}); pip install opencv-python-headless or apt install "
            "libgl1, or use --tracker toy"
        ) from error

    tracker = ByteTrackTracker(
        lost_track_buffer=round(30 * LOST_S),  # in frames at 30 Hz, whatever the clip's rate
        frame_rate=fps,
        track_activation_threshold=STRONG_SCORE,
        high_conf_det_threshold=STRONG_SCORE,
        minimum_consecutive_frames=1,
        minimum_iou_threshold=0.1,
    )
    result = []
    for people in detections:
        count = len(people.boxes_xyxy)
        found = tracker.update(
            supervision.Detections(
                xyxy=people.boxes_xyxy.astype(np.float64),
                confidence=people.scores.astype(np.float64),
                data={"row": np.arange(count)},  # it gives boxes back in another order
            )
        )
        ids = np.full(count, -1)
        if len(found):
            ids[np.asarray(found.data["row"], int)] = found.tracker_id
        result.append(ids)
    return result
