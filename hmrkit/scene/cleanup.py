"""Motion made clean for animators: gaps split, jitter taken out without delay, feet kept where they stand.

It works on the skeleton (`Motion.cleaned`) and says what it did. The exact vertices then follow by what the skeleton's
own mesh moves (`hmrkit.scene.build`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from hmrkit.scene import ExportOptions
from hmrkit.scene.foot_contact import stretches
from hmrkit.scene.foot_lock import feet_locked
from hmrkit.scene.ground import World
from hmrkit.scene.resampling import Motion
from hmrkit.skeletons import SMPL_24
from hmrkit.smoothing import smooth_body

if TYPE_CHECKING:
    from hmrkit.body import Body

HANDS = SMPL_24.indices("left_hand", "right_hand")


def split_at_gaps(motion: Motion) -> list[Motion]:
    """The stretches in which the person is seen, each a motion of its own, ``_part_01`` and on where there are more."""
    runs = stretches(motion.visible)
    if len(runs) <= 1:
        return [motion.part(slice(*run)) for run in runs]
    return [replace(motion.part(slice(*r)), name=f"{motion.name}_part_{k:02d}") for k, r in enumerate(runs, 1)]


def clean(
    motions: Sequence[Motion],
    body: Body,
    fps: Fraction | float,
    options: ExportOptions,
    up_c: np.ndarray | None = None,
    ground: World | None = None,
) -> tuple[list[Motion], dict[str, Any]]:
    """Motions with `cleaned` filled in as `options` ask (smooth, then flat hands, then feet), and what was done.

    `up_c` (3,) is needed to lock feet; with `ground` they are also brought down (or up) to it.
    """
    done: dict[str, Any] = {}
    out = []
    for motion in motions:
        facts: dict[str, Any] = {}
        params = motion.params
        if options.smooth:
            times = np.arange(len(motion.visible)) / float(fps)
            params = smooth_body(params, motion.visible, times, options.smooth)
            facts["smooth"] = options.smooth
        if options.fingers == "rest":
            pose = params.body_pose.copy()
            pose[:, [hand - 1 for hand in HANDS]] = np.eye(3)
            params = replace(params, body_pose=pose, fingers=None)
            facts["fingers"] = "rest"
        if options.lock_feet and up_c is not None:
            params, facts["lock_feet"] = feet_locked(params, motion.visible, body, float(fps), up_c, ground)
        out.append(replace(motion, cleaned=params))
        done[motion.name] = facts
    return out, done
