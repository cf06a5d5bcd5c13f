"""Examples from real clips, whose truth is fitted to keypoints: what SPIN's loop begins with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hmrkit.body import Body
from hmrkit.camera import CropCameras
from hmrkit.device import inference
from hmrkit.errors import InputError
from hmrkit.regressors.crop_camera import crop_camera, project, to_crop_camera
from hmrkit.regressors.frame import FrameRegressor
from hmrkit.training.examples import Examples, Truth, named_tensors
from hmrkit.training.kept_examples import PYRAMID
from hmrkit.types import BodyParams

CLIP_FPS = 5


def clip_examples(clips: Sequence[str | Path], regressor: FrameRegressor, device: torch.device) -> Examples:
    """Everybody in every frame of clips, as the chain crops them. Their truth is the result of the mesh stream ``fit``:
    the first fits of SPIN's loop. InputError where nobody is found.
    """
    from hmrkit.models import Models
    from hmrkit.options import Options
    from hmrkit.pipeline import open_clip, run_stages
    from hmrkit.regressors.stream import crop_images, crops_of

    found: list[dict[str, Tensor]] = []
    models = Models(Options(device=str(device)))
    for clip in clips:
        # Neighbouring frames teach the same.
        every = max(1, round(open_clip(clip, models.options).video.fps / CLIP_FPS))
        models.options = Options(device=str(device), every=every)
        take = run_stages(open_clip(clip, models.options), ("detect", "track", "pose", "regress"), models)
        people = take.people_with_mesh()
        if not people:
            continue
        crops = crops_of(take, people, regressor)
        fits = _in_crops([take.body[person.track_id] for person in people], crops.cameras, models.body)
        for rows, images in crop_images(take, crops, regressor.input_size, device):
            with inference(device):
                observation = regressor.backbone.encode(images)
            tensors = named_tensors(observation) | {f.name: getattr(fits, f.name)[rows] for f in fields(Truth)}
            found.append({key: value.cpu() for key, value in tensors.items() if key != PYRAMID})
    if not found:
        raise InputError(f"{', '.join(map(str, clips))}: wanted clips with people, found nobody in them")
    joined_tensors = {key: torch.cat([part[key] for part in found]) for key in found[0]}
    return Examples.from_tensors(joined_tensors, regressor.backbone.observation)


def _in_crops(people: Sequence[BodyParams], cameras: CropCameras, body: Body) -> Truth:
    """Bodies in the full camera, one person's frames after the other, as the cameras of their crops see them."""

    def rows(name: str) -> Tensor:
        return torch.from_numpy(np.concatenate([getattr(person, name) for person in people]))

    betas = torch.cat([torch.from_numpy(p.betas).expand(len(p.transl_c), -1) for p in people])
    rest_pelvis = body.joints_only(betas=betas.to(body.device)).joints[:, 0].cpu()
    camera_from_crop = torch.from_numpy(cameras.camera_from_crop).float()
    orient, pelvis = to_crop_camera(rows("global_orient"), rest_pelvis + rows("transl_c"), camera_from_crop)
    pose, transl = rows("body_pose"), pelvis - rest_pelvis
    focal = torch.from_numpy(cameras.focal_px).float()
    joints = body.joints_only(orient.to(body.device), pose.to(body.device), betas.to(body.device)).joints.cpu()
    return Truth(orient, pose, betas, transl, focal, project(joints, crop_camera(transl, focal), focal))
