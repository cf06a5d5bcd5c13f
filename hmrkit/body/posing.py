"""A track's body parameters -> its joints and vertices: the one place that takes `BodyParams` apart."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch

from hmrkit.body.files import GENDERS
from hmrkit.body.model import Body, BodyOutput, load_body
from hmrkit.errors import ModelMismatchError
from hmrkit.take import free_body_id
from hmrkit.types import BodyParams

MOVING = ("global_orient", "body_pose", "transl_c")  # the parameters that have a row a frame

Rows = slice | np.ndarray
ALL = slice(None)


def take_rows(params: BodyParams, rows: Rows) -> BodyParams:
    """Some frames of body parameters."""
    moving = (*MOVING, *(name for name in ("fingers", "seen") if getattr(params, name) is not None))
    return replace(params, **{name: getattr(params, name)[rows] for name in moving})


def filled_rows(params: BodyParams) -> tuple[BodyParams, np.ndarray]:
    """Body parameters whose rows that are not finite repeat the one before (at the start the first), and which rows
    (T,) bool are their own; none where no row is finite."""
    flat = [getattr(params, name).reshape(len(params.transl_c), -1) for name in MOVING]
    shaped = np.isfinite(params.betas).all()
    whole = np.asarray(np.isfinite(np.concatenate(flat, 1)).all(1) & shaped)
    if whole.all() or not whole.any():
        return params, whole
    rows = np.maximum.accumulate(np.where(whole, np.arange(len(whole)), whole.argmax()))
    return take_rows(params, rows), whole


def body_for(params: BodyParams, body: Body) -> Body:
    """The body that the parameters are for: `body`, or the free body of another gender.

    The free bodies have one vertex order, so people of one take may be of different gender. ModelMismatchError for
    parameters of any other body.
    """
    if params.model == body.model_id:
        return body
    free = body.topology_id.startswith("hmrkit-") and params.gender in GENDERS
    if free and params.model == free_body_id(body.topology_id, params.gender):
        return free_body(params.gender, body.device, body.dtype)
    raise ModelMismatchError(
        f"expected parameters for body {body.model_id}, got them for {params.model}; give that body (--body, "
        "--gender), or make them the other's: hmrkit convert-body"
    )


@lru_cache(maxsize=6)
def free_body(gender: str, device: torch.device, dtype: torch.dtype) -> Body:
    """The free body of that gender, loaded once."""
    return load_body(gender=gender, device=device, dtype=dtype)


def posed_mesh(body: Body, params: BodyParams, rows: Rows = ALL) -> BodyOutput:
    """Vertices and joints of some `rows` of a track, in the camera frame, m. ModelMismatchError: see `body_for`."""
    body = body_for(params, body)
    orient, pose, transl = (getattr(params, name)[rows] for name in MOVING)
    return body(orient, pose, params.betas, transl)


def posed_skeleton(body: Body, params: BodyParams) -> BodyOutput:
    """Joints and their rotations in the camera frame, m, without vertices. ModelMismatchError: see `body_for`."""
    body = body_for(params, body)
    return body.joints_only(params.global_orient, params.body_pose, params.betas, params.transl_c)


def body_meshes(body: Body, params: BodyParams, rows: Rows = ALL) -> tuple[np.ndarray, np.ndarray]:
    """`posed_mesh` as arrays: vertices (t,V,3) and joints (t,24,3)."""
    with torch.inference_mode():
        mesh = posed_mesh(body, params, rows)
    return mesh.vertices.cpu().numpy(), mesh.joints.cpu().numpy()


def skeleton_joints(body: Body, params: BodyParams) -> np.ndarray:
    """Joints (T,24,3) m of the posed skeleton in the camera frame."""
    with torch.inference_mode():
        return posed_skeleton(body, params).joints.cpu().numpy()
