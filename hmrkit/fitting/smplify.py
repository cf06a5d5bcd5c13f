"""Refinement of fitted tracks (``--refine``): all frames of all tracks of a clip together, by steps of Levenberg and
Marquardt on what SMPLify asks for (`hmrkit.fitting.refine_energy`). Shapes stay as fitted: they were measured over the
whole track.

What is solved for is a correction that is smooth in time, on the knots of a spline, so that the matrix of a step has a
narrow band (`hmrkit.fitting.banded`)."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from hmrkit.body import Body
from hmrkit.body.landmarks import body_landmarks
from hmrkit.body.pose_prior import load_pose_prior
from hmrkit.body.posing import body_for, filled_rows
from hmrkit.device import one_thread
from hmrkit.fitting.observations import CleanTrack
from hmrkit.fitting.penalties import RefineOptions
from hmrkit.fitting.refine_energy import Bodies, Energy, Piece
from hmrkit.geometry import project_to_rotation
from hmrkit.types import BodyParams, Camera

log = logging.getLogger(__name__)

Chunk = tuple[slice, np.ndarray, np.ndarray]  # rows of a track, local rotations (T,24,3,3), translations (T,3) m


def refine_tracks(
    tracks: Mapping[int, tuple[BodyParams, CleanTrack]],
    camera: Camera,
    body: Body,
    device: str | torch.device | None = None,
    options: RefineOptions | None = None,
) -> dict[int, BodyParams]:
    """Refine what a mesh stream found by the cleaned keypoints, tracks by their ids; shapes and frame stay those of the
    parameters.

    `device` defaults to the body's. Memory is bounded by the chunk, time grows with the number of frames. What becomes
    of a track does not depend on the others. One whose numbers or whose energy are not finite stays as it is, with a
    warning; so does one that has no body anywhere, without. Frames that lack a rotation or the translation lack both
    afterwards. ModelMismatchError: see `hmrkit.body.posing.body_for`.
    """
    options = options or RefineOptions()
    device = torch.device(device) if device is not None else body.device
    prior = load_pose_prior(device)
    filled = {i: filled_rows(params) for i, (params, _) in tracks.items()}
    failed = {i for i, (_, clean) in tracks.items() if filled[i][1].any() and not _is_finite(clean)}
    refined = [i for i in tracks if filled[i][1].any() and i not in failed]
    chunks = [(i, rows) for i in refined for rows in _chunks(len(filled[i][1]), options)]
    found: dict[int, list[Chunk]] = {i: [] for i in tracks}
    for model in dict.fromkeys(tracks[i][0].model for i, _ in chunks):
        alike = [(i, rows) for i, rows in chunks if tracks[i][0].model == model]
        points = body_landmarks(body_for(tracks[alike[0][0]][0], body)).to(device)
        for batch in _batches(alike, options.chunk):
            pieces = [_piece(filled[i][0], tracks[i][1], rows) for i, rows in batch]
            with torch.no_grad(), one_thread():
                bodies, value = _descend(Energy(pieces, camera, points, prior, options), options)
            failed |= {i for (i, _), finite in zip(batch, value.cpu().isfinite(), strict=True) if not finite}
            lengths = [len(piece.transl) for piece in pieces]
            parts = (values.cpu().split(lengths) for values in (bodies.local, bodies.transl))
            for (i, rows), local, transl in zip(batch, *parts, strict=True):
                found[i].append((rows, local.numpy(), transl.numpy()))
    for i in sorted(failed):
        log.warning("track %d stays unrefined: keypoints or body parameters are not finite, or too large", i)
    return {i: _refined(params, filled[i][1], [] if i in failed else found[i]) for i, (params, _) in tracks.items()}


def _descend(energy: Energy, options: RefineOptions) -> tuple[Bodies, Tensor]:
    """Bodies after some steps from those of the pieces, and the energy (P,) of each piece. Each piece has its own
    damping and leaves out what makes it worse; nothing here is copied from the host or to it."""
    knots = energy.first.new_zeros(len(energy.knots), 75)
    damping = torch.full((energy.count,), options.damping, device=knots.device)
    bodies = energy.bodies(knots)
    value = energy.value(bodies)
    for _ in range(options.steps):
        gradient, blocks = energy.expanded(bodies)
        # In double precision: accelerations weigh a million times what determines a joint's twist.
        blocks = blocks.double()
        blocks[:, 0].diagonal(dim1=1, dim2=2).mul_(1 + damping[energy.knots.owner, None]).add_(options.ridge)
        tried = knots - energy.knots.solve(blocks, gradient.double()).float()
        tried_bodies = energy.bodies(tried)
        tried_value = energy.value(tried_bodies)
        better = tried_value < value  # not where a step came out as NaN
        knots = torch.where(better[energy.knots.owner, None], tried, knots)
        bodies, value = tried_bodies.where(better[energy.owner], bodies), torch.where(better, tried_value, value)
        damping = torch.where(better, damping / 5, damping * 10)
    return bodies, value


def _is_finite(clean: CleanTrack) -> bool:
    return all(np.isfinite(getattr(clean, name)).all() for name in CleanTrack.__dataclass_fields__)


def _chunks(count: int, options: RefineOptions) -> Iterator[slice]:
    """Overlapping stretches of a track's frames; no short rest remains at the end."""
    low, stop = 0, 0
    while stop < count:
        low = max(0, stop - options.overlap)
        stop = min(count, low + options.chunk)
        stop = count if count - stop < options.overlap else stop
        yield slice(low, stop)


def _batches(chunks: list[tuple[int, slice]], frames: int) -> Iterator[list[tuple[int, slice]]]:
    """Chunks that are refined together: as many as have so many `frames`, at least one."""
    batch, count = [], 0
    for i, rows in chunks:
        if batch and count + rows.stop - rows.start > frames:
            yield batch
            batch, count = [], 0
        batch.append((i, rows))
        count += rows.stop - rows.start
    yield batch


def _piece(params: BodyParams, clean: CleanTrack, rows: slice) -> Piece:
    rotations = np.concatenate([params.global_orient[rows, None], params.body_pose[rows]], 1)
    betas = np.broadcast_to(params.betas, (len(params.transl_c), params.betas.shape[-1]))[rows]
    cut = CleanTrack(*(getattr(clean, name)[rows] for name in CleanTrack.__dataclass_fields__))
    return Piece(cut, rotations, params.transl_c[rows], betas)


def _refined(params: BodyParams, own: np.ndarray, chunks: list[Chunk]) -> BodyParams:
    """The track of refined chunks, in its `own` rows (T,). Over an overlap the earlier chunk fades out."""
    rotations = np.concatenate([params.global_orient[:, None], params.body_pose], 1)
    transl, done = params.transl_c.copy(), 0
    for rows, local, shifted in chunks:
        if fading := done - rows.start:
            both, fade = slice(rows.start, done), np.arange(1, fading + 1, dtype=np.float32)[:, None] / (fading + 1)
            share = fade[..., None, None]
            blend = share * local[:fading] + (1 - share) * rotations[both]
            local[:fading] = project_to_rotation(torch.from_numpy(blend)).numpy()
            shifted[:fading] = fade * shifted[:fading] + (1 - fade) * transl[both]
        rotations[rows], transl[rows] = local, shifted
        done = rows.stop
    rotations[~own], transl[~own] = np.nan, np.nan
    return replace(params, global_orient=rotations[:, 0], body_pose=rotations[:, 1:], transl_c=transl)
