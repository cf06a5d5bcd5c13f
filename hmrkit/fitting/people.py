"""The shape, and with `--gender auto` the body, of the people of a take, as the options ask for them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hmrkit.body import Body
from hmrkit.body.landmarks import body_landmarks
from hmrkit.errors import InputError
from hmrkit.fitting.bone_lengths import BoneLengths, fit_options, fit_shape
from hmrkit.fitting.gender import fit_gender
from hmrkit.fitting.masks import PersonMasks
from hmrkit.fitting.observations import FitOptions
from hmrkit.fitting.shape import fit_silhouettes, mask_overlap, with_betas
from hmrkit.types import BodyParams, MaskOverlap, Take

if TYPE_CHECKING:
    from hmrkit.models import Models

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shaped:
    """By track id: the people's bodies, the masks that were made, and the probabilities (3,) of the bodies in the order
    of `GENDERS` where they were compared."""

    params: dict[int, BodyParams]
    masks: dict[int, PersonMasks]
    genders: dict[int, np.ndarray]


def shaped(take: Take, params: dict[int, BodyParams], models: Models) -> Shaped:
    """A mesh stream's bodies by track id with the shapes that the options ask for.

    A clip that cannot be read any more gives no masks, with a warning: shapes then are the mesh stream's."""
    body, options = models.body, models.options
    if options.shape == "mesh":
        return Shaped(params, {}, {})
    found = Shaped({}, {}, {})
    if options.shape == "silhouette":
        try:
            found.masks.update(models.person_masks(take, [take.track(i) for i in params], models.batch_size))
        except InputError as error:
            log.warning("%s; people keep the shape that %s gives them", error, options.mesh)

    def measured(i: int) -> tuple[BoneLengths, FitOptions]:
        of_track = fit_options(take, i, options.keypoints)
        return BoneLengths.measure(models.clean_tracks(take)[i], of_track, body.device), of_track

    for i, mesh in params.items():
        if options.shape == "mean":
            found.params[i] = with_betas(mesh, np.zeros(10, np.float32), take.camera, body)
        elif options.shape == "bones":
            bones, of_track = measured(i)
            betas = fit_shape(bones, body_landmarks(body), of_track)
            found.params[i] = with_betas(mesh, betas.cpu().numpy(), take.camera, body)
        elif i not in found.masks:
            found.params[i] = mesh
        else:
            bones = measured(i)[0] if options.mesh == "fit" else None
            if options.gender == "auto":
                fit = fit_gender(mesh, found.masks[i], body, take.camera, bones)
                found.params[i], found.genders[i] = fit.params, fit.probabilities
            else:
                betas = fit_silhouettes(mesh, found.masks[i], body, bones).betas
                found.params[i] = with_betas(mesh, betas, take.camera, body)
    return found


def overlaps(params: dict[int, BodyParams], found: Shaped, body: Body) -> dict[int, MaskOverlap]:
    """By track id how well the final bodies `params` fill the masks, NaN in frames without one."""
    made = {}
    for i, mask in found.masks.items():
        iou = np.full(len(params[i].transl_c), np.nan, np.float32)
        iou[mask.rows] = mask_overlap(params[i], mask, body)
        made[i] = MaskOverlap(iou, found.genders.get(i))
    return made
