"""Refinement of fitted tracks (``--refine``): all frames of all tracks of a clip at once, by Gauss-Newton steps on what
SMPLify asks for (`hmrkit.fitting.refine_energy`). Shapes stay as fitted: they were measured over the whole track.

What is solved for is a correction that is smooth in time, on the knots of a spline, so the matrix has a narrow band
(`hmrkit.fitting.banded`). Steps are damped as Levenberg and Marquardt do, each stretch of frames by itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from hmrkit.body import Body
from hmrkit.body.landmarks import body_landmarks
from hmrkit.body.pose_prior import load_pose_prior
from hmrkit.body.posing import body_for
from hmrkit.device import one_thread
from hmrkit.fitting.banded import solve_banded
from hmrkit.fitting.observations import CleanTrack
from hmrkit.fitting.refine_energy import Energy, Piece, RefineOptions
from hmrkit.geometry import project_to_rotation
from hmrkit.types import BodyParams, Camera

DAMPING = 1e-3
import os
LOG = []

def refine_track(
    params: BodyParams,
    clean: CleanTrack,
    camera: Camera,
    body: Body,
    device: str | torch.device | None = None,
    options: RefineOptions | None = None,
) -> BodyParams:
    options = options or RefineOptions()
    device = torch.device(device) if device is not None else body.device
    return refine_tracks([(params, clean)], camera, body, device, options)[0]


def refine_tracks(tracks, camera, body, device=None, options=None):
    options = options or RefineOptions()
    device = torch.device(device) if device is not None else body.device
    points, prior = body_landmarks(body_for(tracks[0][0], body)).to(device), load_pose_prior(device)
    pieces = []
    for params, clean in tracks:
        start = np.concatenate([params.global_orient[:, None], params.body_pose], 1)
        betas = np.broadcast_to(params.betas, (len(start), 10))
        pieces.append(Piece(clean, start, params.transl_c, betas))
    with torch.no_grad(), one_thread():
        energy = Energy(pieces, camera, points, prior, options)
        knots = descend(energy, options.iterations)
        rotations, transl = energy.bodies(knots)
    out, low = [], 0
    for params, clean in tracks:
        r, t = rotations[low:low+len(clean.times)].numpy(), transl[low:low+len(clean.times)].numpy()
        low += len(clean.times)
        out.append(replace(params, global_orient=r[:, 0], body_pose=r[:, 1:], transl_c=t))
    return out


def descend(energy: Energy, steps: int) -> Tensor:
    knots = torch.zeros(energy.basis.shape[1], 75)
    here = energy.at(knots)
    damping = torch.full((energy.pieces,), DAMPING)
    LOG.append([here.value.tolist()])
    for _ in range(steps):
        blocks = here.blocks.clone()
        blocks[:, 0].diagonal(dim1=1, dim2=2).mul_(1 + damping[energy.knot_owner][:, None]).add_(1e-3)
        step = solve_banded(blocks, -here.gradient)
        trial = energy.at(knots + step)
        better = trial.value < here.value
        b = better[energy.knot_owner]
        knots = torch.where(b[:, None], knots + step, knots)
        from hmrkit.fitting.refine_energy import Expansion
        here = Expansion(torch.where(better, trial.value, here.value), torch.where(b[:, None], trial.gradient, here.gradient), torch.where(b[:, None, None, None], trial.blocks, here.blocks))
        damping = torch.where(better, damping * 0.2, damping * 10)
        LOG[-1].append(here.value.tolist())
    return knots
