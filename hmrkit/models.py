"""What a run has loaded: networks, body and mesh stream, each when it is first used."""

from __future__ import annotations

import copy
from functools import cached_property
from typing import TYPE_CHECKING

from hmrkit.options import Options

if TYPE_CHECKING:
    from hmrkit.body import Body
    from hmrkit.fitting.observations import CleanTracks
    from hmrkit.types import Take


class Models:
    """The networks and the body that a run needs, each loaded when first used and kept for all clips of a batch."""

    def __init__(self, options: Options) -> None:
        from hmrkit.device import resolve_device, resolve_dtype, usual_batch_size
        from hmrkit.video.opening import allow

        allow(options)
        self.options = options
        self.device = resolve_device(options.device)
        self.dtype = resolve_dtype(options.dtype)
        self.batch_size = options.batch_size or usual_batch_size(self.device)
        self._clean: CleanTracks | None = None

    def clean_tracks(self, take: Take) -> CleanTracks:
        """Cleaned keypoints of the take in work; those of another are forgotten."""
        from hmrkit.fitting.observations import CleanTracks

        if self._clean is None or self._clean.take is not take:
            self._clean = CleanTracks(take)
        return self._clean

    def with_batch_size(self, batch_size: int) -> Models:
        """The same networks and body, with fewer frames at once."""
        other = copy.copy(self)
        other.batch_size = batch_size
        vars(other).pop("mesh_stream", None)  # it holds the models that it was made with
        return other

    @cached_property
    def detector(self):
        from hmrkit.detectors import load_detector
        from hmrkit.engines import engine

        chosen = self.options
        with engine(chosen.engine):
            return load_detector(chosen.detector, device=self.device, dtype=self.dtype, size=chosen.detector_size)

    @cached_property
    def cuts(self):
        from hmrkit.video.cuts import load_cuts

        return load_cuts(self.options.cuts)

    @cached_property
    def keypoints(self):
        from hmrkit.device import usual_batch_size
        from hmrkit.engines import engine
        from hmrkit.keypoints import load_keypoints

        with engine(self.options.engine):
            crops = usual_batch_size(self.device)
            return load_keypoints(self.options.keypoints, device=self.device, dtype=self.dtype, max_crops=crops)

    @cached_property
    def person_masks(self):
        from hmrkit.engines import engine
        from hmrkit.fitting.masks import MaskReader

        with engine(self.options.engine):
            return MaskReader(self.device)

    @cached_property
    def lifter(self):
        from hmrkit.lifters import load_lifter

        chosen = self.options
        return load_lifter(chosen.lifter, chosen.lifter_checkpoint, self.device, chosen.lifter_skeleton)

    @cached_property
    def regressor(self):
        from hmrkit.engines import engine
        from hmrkit.regressors import load_regressor

        with engine(self.options.engine):
            regressor = load_regressor(str(self.options.mesh), self.options.checkpoint, device=self.device)
            if self.options.flip_test is not None:
                regressor.flip = self.options.flip_test
            if (backbone := getattr(regressor, "backbone", None)) is not None:
                backbone.use_engine()
        return regressor

    @cached_property
    def body(self) -> Body:
        from hmrkit.body import load_body

        gender = "neutral" if self.options.gender == "auto" else self.options.gender
        return load_body(self.options.body, gender=gender, device=self.device)

    @cached_property
    def free_bodies(self):
        from hmrkit.fitting.gender import FreeBodies

        return FreeBodies(self.device)

    @cached_property
    def calibration(self):
        from hmrkit.calibration.variants import load_variant

        return load_variant(self.body, **self.options.calibration_design.parts)

    @cached_property
    def pose_uncertainty(self):
        from hmrkit.calibration.pose_uncertainty import load_uncertainty

        return load_uncertainty(self.options.lifter, self.options.keypoints)

    @cached_property
    def shares(self):
        from hmrkit.calibration.shares import load_shares

        return load_shares(str(self.options.mesh), self.options.pose_name)

    @cached_property
    def mesh_stream(self):
        from hmrkit.mesh_streams import load_mesh_stream

        return load_mesh_stream(str(self.options.mesh), self)
