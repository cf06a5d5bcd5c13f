"""Mesh stream ``fit``: one person's keypoints -> body parameters, in closed form, all frames of the track at once.

1. The keypoints are put in order over time (`hmrkit.smoothing`).
2. Shape: ridge regression of the bone lengths (`hmrkit.fitting.bone_lengths`), one shape for the track.
3. Landmarks go onto the rays of their pixels (an image shows directions to a pixel, a network's depth is a
   guess), bone lengths correct their depths, `hmrkit.fitting.inverse_kinematics` poses the body, and the body is moved
   to where it projects onto the pixels, with a depth that is smooth over time.

`hmrkit.fitting.smplify` refines the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from hmrkit.body import Body
from hmrkit.body.landmarks import body_landmarks, world_from_local
from hmrkit.camera import pixel_rays, project, solve_translation
from hmrkit.device import one_thread
from hmrkit.fitting.bone_lengths import BoneLengths, bone_scale, fit_options, fit_shape
from hmrkit.fitting.inverse_kinematics import solve_pose
from hmrkit.fitting.observations import CleanTrack, FitOptions, hips_middle
from hmrkit.fitting.resting_feet import hold_still
from hmrkit.skeletons import BLAZEPOSE_33
from hmrkit.smoothing import smooth_series
from hmrkit.types import BodyParams, Camera, Take, Track

if TYPE_CHECKING:
    from hmrkit.models import Models

_STEADY = BLAZEPOSE_33.indices(
    *(f"{s}_{n}" for s in ("left", "right") for n in ("shoulder", "hip", "knee", "ankle", "elbow", "wrist", "ear"))
)


# How far a landmark's depth gives way to what its bone's length asks for: measured on noisy synthetic tracks, where
# more than a third makes poses worse, because near the image plane a small error in the pixels is a large one in depth.
BONE_TRUST = 0.25


def load(name: str, models: Models) -> FitStream:
    """See `hmrkit.mesh_streams`."""
    return FitStream(models)


class FitStream:
    """See `hmrkit.mesh_streams.MeshStream`: `fit_track` of every person, by the keypoints of the take."""

    def __init__(self, models: Models) -> None:
        self.models = models

    def __call__(
        self, take: Take, tracks: Sequence[Track], progress: Callable[[int, int], None]
    ) -> dict[int, BodyParams]:
        clean = self.models.clean_tracks(take)
        bodies: dict[int, BodyParams] = {}
        for done, person in enumerate(tracks, 1):
            options = fit_options(take, person.track_id, self.models.options.keypoints)
            bodies[person.track_id] = fit_track(clean[person.track_id], take.camera, self.models.body, options)
            progress(done, len(tracks))
        return bodies


def fit_track(clean: CleanTrack, camera: Camera, body: Body, options: FitOptions | None = None) -> BodyParams:
    """Fit `body` to one track's cleaned keypoints. Frames without any get the pose between their neighbours."""
    options = options or FitOptions()
    device = body.device
    with one_thread(), torch.no_grad():
        points = body_landmarks(body)
        weights = torch.from_numpy(clean.weights).to(device)
        landmarks = torch.from_numpy(clean.landmarks).to(device)
        betas = fit_shape(BoneLengths.measure(clean, options, device), points, options)
        seen = landmarks * bone_scale(landmarks, weights, points.rest(betas))
        transl = place(camera, seen, clean, options)
        local = torch.eye(3, device=device).repeat(len(seen), 24, 1, 1)
        for _ in range(options.rounds):
            target = onto_rays(camera, seen, transl, clean, points.rest(betas), options.smooth)
            local = solve_pose(target, weights, clean.times, points, betas)
            posed, _ = points(world_from_local(local), betas)
            transl = place(camera, posed, clean, options)
            final, transl = transl, transl + hips_middle(posed)[:, 0].cpu().numpy()
    pose = local.cpu().numpy().astype(np.float32)
    return BodyParams(
        pose[:, 0], pose[:, 1:], betas.cpu().numpy().astype(np.float32), final, body.gender, body.model_id
    )


def place(camera: Camera, points: Tensor, clean: CleanTrack, options: FitOptions) -> np.ndarray:
    """Translation (T,3) m that projects root-relative `points` (T,33,3) onto the pixels, smooth in depth.

    Depth is seen only as size, two hundredths of it are the noise of a frame: it is smoothed over time; sideways
    the pixels decide, frame by frame.
    """
    posed = points.cpu().numpy()[:, _STEADY]
    pixels, weights = clean.pixels[:, _STEADY], clean.weights[:, _STEADY].clip(0.02, 1) ** 2
    weights = weights * clean.known[_STEADY]
    offset = solve_translation(camera, posed, pixels, weights)
    for _ in range(2):  # robust: what projects far off counts less (Geman-McClure)
        off = np.linalg.norm(project(camera, posed + offset[:, None]) - pixels, axis=-1) / clean.height[:, None]
        robust = weights / (1 + np.nan_to_num(off, nan=1.0) ** 2 / 0.05**2) ** 2
        offset = solve_translation(camera, posed, pixels, robust + 1e-6)
    depth = np.clip(offset[:, 2], 0.3, clean.farthest)
    if options.smooth and len(depth) > 2:
        typical = float(np.median(depth))
        trust = np.minimum(1, robust.sum(1) / np.median(robust.sum(1)).clip(1e-6))
        noise, series = options.depth_noise * typical, depth[:, None, None]
        smoothed = smooth_series(series, trust[:, None], clean.times, noise, options.depth_acceleration)
        depth = np.maximum(smoothed[:, 0, 0], 0.3)
    # Sideways at that depth: weighted mean of what each landmark asks for.
    rays = pixel_rays(camera, pixels)[..., :2]
    asked = rays * (posed[..., 2:] + depth[:, None, None]) - posed[..., :2]
    shares = (np.asarray(robust) + 1e-6)[..., None]
    sideways = (shares * asked).sum(1) / shares.sum(1)
    return np.concatenate([sideways, depth[:, None]], 1).astype(np.float32)


def onto_rays(
    camera: Camera, seen: Tensor, transl: np.ndarray, clean: CleanTrack, rest: Tensor, steady: bool = True
) -> Tensor:
    """Landmarks (T,33,3) m in the camera frame: on their pixels' rays, depths from `seen` made fit for the bones.

    Along each limb, from the trunk outwards, the far end's depth is the compromise of what the network guessed and
    what gives the bone its length: of the two depths that do, the one on the guess's side. `steady`: a foot that rests
    in the image keeps its depth as far as the person does (`hmrkit.fitting.resting_feet`).
    """
    rays = torch.from_numpy(pixel_rays(camera, clean.pixels)).to(seen.device)
    moved = torch.from_numpy(transl).to(seen.device)
    depth = seen[..., 2] + moved[:, None, 2]
    index = BLAZEPOSE_33.index
    chains = [
        [(f"{s}_{a}", f"{s}_{b}") for a, b in (("hip", "knee"), ("knee", "ankle"))]
        + [(f"{s}_{a}", f"{s}_{b}") for a, b in (("shoulder", "elbow"), ("elbow", "wrist"))]
        for s in ("left", "right")
    ]
    followers = {"ankle": ("heel", "foot_index"), "wrist": ("pinky", "index", "thumb")}
    for side, chain in zip(("left", "right"), chains, strict=True):
        for near, far in chain:
            a, b = index[near], index[far]
            length = (rest[b] - rest[a]).norm()
            start, ray = rays[:, a] * depth[:, a, None], rays[:, b]
            # |ray d - start| = length: a quadratic in d; without a solution the nearest point of the ray.
            p, q, r = (ray * ray).sum(-1), (ray * start).sum(-1), (start * start).sum(-1) - length**2
            root = ((q * q - p * r).clamp_min(0)).sqrt()
            near_d, far_d = (q - root) / p, (q + root) / p
            guess = depth[:, a] + seen[:, b, 2] - seen[:, a, 2]
            exact = torch.where((guess - near_d).abs() < (guess - far_d).abs(), near_d, far_d)
            change = BONE_TRUST * (exact - guess)
            name = far.split("_", 1)[1]
            group = [b] + [index[f"{side}_{n}"] for n in followers.get(name, ())]
            follow = guess + change - (seen[:, b, 2] + moved[:, 2])
            for k in group:
                depth[:, k] = seen[:, k, 2] + moved[:, 2] + follow
    if steady and len(depth) > 1:
        for side in ("left", "right"):
            foot = BLAZEPOSE_33.indices(f"{side}_ankle", f"{side}_heel", f"{side}_foot_index")
            mean, contact = depth[:, foot].mean(1).double().cpu().numpy(), clean.still_feet(foot[1:]).max(1)
            held = hold_still(mean, contact, clean.times, transl[:, 2].astype(np.float64))
            change = torch.from_numpy(held - mean).to(depth)
            depth[:, foot] += change[:, None]
    return rays * depth[..., None]
