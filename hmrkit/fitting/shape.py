"""A person's shape from silhouettes: betas that bring the outline of the posed mesh onto that of the person's masks.

Poses are given and stay. In each chosen frame the mesh is drawn as the mask was cut; every pixel on its outline is a
point of the surface, whose signed distance from the mask's outline is linear in betas and in where the body stands
(SMPL's skinning of a shaped body is linear in betas). Gauss-Newton with robust weights brings these distances, bone
lengths and the prior on betas together; where the body stands in each frame is left free and forgotten.

Clothes only make people wider: where the mask reaches beyond the mesh the distance counts less than where the mesh
sticks out of the mask. Head, hands and feet are left out, for hair, shoes and what people hold."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor
from torch.nn import functional

from hmrkit.body import Body
from hmrkit.body.landmarks import body_landmarks, world_from_local
from hmrkit.body.posing import body_for, body_meshes, take_rows
from hmrkit.camera import project, solve_translation
from hmrkit.device import one_thread
from hmrkit.fitting.bone_lengths import UNKNOWNS, BoneLengths, Normal, prior
from hmrkit.fitting.masks import PersonMasks
from hmrkit.fitting.observations import FitOptions
from hmrkit.rendering.rasteriser import interpolate_at
from hmrkit.skeletons import BLAZEPOSE_33, SMPL_24
from hmrkit.types import BodyParams, Camera

_LEFT_OUT = SMPL_24.indices(
    "head", *(f"{side}_{name}" for side in ("left", "right") for name in ("wrist", "hand", "ankle", "foot"))
)
_STEADY = BLAZEPOSE_33.indices(
    *(f"{s}_{n}" for s in ("left", "right") for n in ("shoulder", "hip", "knee", "ankle", "elbow", "wrist"))
)


@dataclass(frozen=True)
class ShapeOptions:
    """Noise in metres. `frame_points`: how many independent distances an outline is worth, `all_points` those of all
    frames together, whose errors (pose, clothes) are alike. `clothes`: weight of distances where the mask is the wider
    one. `place_m` and `place_depth` (of the depth): how far a body may be moved in a frame. `observed_sigma`: spread of
    betas that a regressor has seen."""

    iterations: int = 5
    noise_m: float = 0.02
    outlier_m: float = 0.06
    frame_points: float = 20.0
    all_points: float = 150.0
    clothes: float = 0.5
    aligned: float = 0.5  # least cosine between the normals of both outlines
    place_m: float = 0.05
    place_depth: float = 0.1
    observed_sigma: float = 0.7
    least_overlap: float = 0.4  # IoU: below, the mask is not this person's


@dataclass(frozen=True)
class ShapeFit:
    """`betas` (10,) of a person; `misfit`, the sum of squares of the outlines' distances over their noise, and `cost`,
    that of all evidence, both infinite where no mask is theirs."""

    betas: np.ndarray
    misfit: float
    cost: float


def fit_silhouettes(
    params: BodyParams,
    masks: PersonMasks,
    body: Body,
    bones: BoneLengths | None = None,
    options: ShapeOptions | None = None,
) -> ShapeFit:
    """A person's shape by masks and bone lengths; the betas of `params` where no mask is theirs.

    Without `bones`, the betas of `params` are taken for an observation of their own."""
    options = options or ShapeOptions()
    with one_thread(), torch.no_grad():
        start = torch.from_numpy(params.betas[:10]).to(body.device)
        masks = masks.take(torch.from_numpy(mask_overlap(params, masks, body) >= options.least_overlap))
        if not len(masks):
            return ShapeFit(params.betas, float("inf"), float("inf"))
        outlines = _Outlines(params, masks, body, options)
        fit_options, points = FitOptions(), body_landmarks(body)
        found = torch.cat([start, start.new_zeros(UNKNOWNS - 10)])

        def other_evidence() -> Normal:
            betas, scale = found[:10], found[10:]
            known = prior(betas, scale, fit_options)
            if bones is not None:
                return known + bones.normal(points, betas, scale)
            return known + _observed(betas, start, options.observed_sigma)

        for _ in range(options.iterations):
            change = (outlines.normal(found[:10]) + other_evidence()).solve()
            found = found + change
            outlines.follow(change[:10])
        seen = outlines.normal(found[:10])
        cost = float((seen + other_evidence()).cost)
        return ShapeFit(found[:10].clamp(-3, 3).cpu().numpy().astype(np.float32), float(seen.cost), cost)


def mask_overlap(params: BodyParams, masks: PersonMasks, body: Body) -> np.ndarray:
    """IoU (S,) in [0, 1] of the mesh's silhouette and the person's mask, over the pixels that are known."""
    return masks.overlap(body_meshes(body, params, masks.rows)[0], body.faces)


def with_betas(params: BodyParams, betas: np.ndarray, camera: Camera, body: Body) -> BodyParams:
    """The same poses on `body` with shape `betas` (10,), each moved to where its limbs keep their places in the image.

    ModelMismatchError where `params` are neither for `body` nor for the same body of another gender."""
    with torch.no_grad():
        rotations = np.concatenate([params.global_orient[:, None], params.body_pose], 1)
        world = world_from_local(torch.from_numpy(rotations).to(body.device))
        before, after = (
            body_landmarks(person)(world, torch.from_numpy(shape).to(body.device))[0][:, _STEADY].cpu().numpy()
            for person, shape in ((body_for(params, body), params.betas[:10]), (body, betas))
        )
    pixels = project(camera, before + params.transl_c[:, None])
    transl = solve_translation(camera, after, pixels, np.asarray(np.isfinite(pixels).all(-1), np.float32))
    return replace(params, betas=betas, transl_c=transl, gender=body.gender, model=body.model_id)


def _observed(betas: Tensor, observed: Tensor, sigma: float) -> Normal:
    weights = torch.cat([torch.full_like(betas, sigma**-2), betas.new_zeros(UNKNOWNS - 10)])
    lacking = torch.cat([observed - betas, betas.new_zeros(UNKNOWNS - 10)])
    return Normal(torch.diag(weights), weights * lacking, (weights * lacking.square()).sum())


class _Outlines:
    """The outlines of one person's mesh in the frames of its masks, as functions of betas and place.

    `vertices` (S,V,3) m of betas 0 and `slopes` (S,V,30), their change with betas, in the axes of the masks' cameras;
    `place` (S,3) m, how far each body has been moved from where `params` have it.
    """

    def __init__(self, params: BodyParams, masks: PersonMasks, body: Body, options: ShapeOptions) -> None:
        self.masks, self.options = masks, options
        body = body_for(params, body)
        device = body.device
        self.faces = torch.from_numpy(body.faces).to(device).long()
        rows = take_rows(params, masks.rows)
        crop_from_camera = masks.camera_from_crop.mT
        shapes = torch.cat([torch.zeros(1, 10), torch.eye(10)]).to(device)
        posed = torch.stack([body(rows.global_orient, rows.body_pose, shape).vertices for shape in shapes])
        posed = torch.einsum("sij,bsvj->bsvi", crop_from_camera, posed)
        self.place = torch.einsum("sij,sj->si", crop_from_camera, torch.from_numpy(rows.transl_c).to(device))
        self.start = self.place.clone()
        self.vertices = posed[0]
        self.slopes = (posed[1:] - posed[:1]).permute(1, 2, 3, 0).flatten(2)
        counted = ~torch.isin(body.weights.argmax(1), torch.tensor(_LEFT_OUT, device=device))
        self.counted = counted[self.faces].all(1)
        self.signed = _signed_distance(masks.masks)
        self.inward = _slope(self.signed)  # away from the person: where the distance grows
        self._last: tuple[Tensor, Tensor] | None = None

    def normal(self, betas: Tensor) -> Normal:
        """Equations of the outlines' distances for changes of betas; the bodies' places are eliminated."""
        o = self.options
        shaped = self.vertices + (self.slopes.unflatten(2, (3, 10)) @ betas) + self.place[:, None]
        found = self.masks.fragments(shaped, self.faces)
        covered = self.masks.covered(found)
        inner = -functional.max_pool2d(-covered.float()[:, None], 3, 1, 1)[:, 0] > 0.5
        edge = (covered & ~inner).flatten()[found.pixel] & self.counted[found.face]
        edge &= self.masks.known.flatten()[found.pixel]
        pixel, mesh, face = found.pixel[edge], found.mesh[edge], found.face[edge]
        blurred = functional.avg_pool2d(covered.float()[:, None], 5, 1, 2)[:, 0]
        outward = -functional.normalize(_slope(blurred).flatten(0, 2)[pixel], dim=-1)
        normal = self.inward.flatten(0, 2)[pixel]
        normal = functional.normalize(normal, dim=-1)
        cosine = (outward * normal).sum(-1)
        attributes = torch.cat([shaped, self.slopes], -1)
        values = interpolate_at(attributes, self.faces, mesh, face, found.barycentrics[edge])
        point, slope = values[:, :3], values[:, 3:].view(-1, 3, 10)
        # Metres of the image plane at the point's depth: n . (dX - X/Z dZ) is how far the outline moves along n.
        along = torch.cat([normal, -(normal * point[:, :2]).sum(-1, keepdim=True) / point[:, 2:]], -1)
        # The pixel's middle lies half a pixel inside the outline of the mesh.
        distance = (self.signed.flatten()[pixel] + 0.5) * point[:, 2] / self.masks.focal_px[mesh]
        weights = (cosine > o.aligned) * torch.where(distance < 0, o.clothes, 1.0)
        count = torch.zeros(len(self.place), device=weights.device).index_add(0, mesh, torch.ones_like(weights))
        worth = min(o.frame_points, o.all_points / len(self.place))
        weights = weights * worth / count[mesh].clamp_min(1) / o.noise_m**2
        off = (distance / o.outlier_m).square()
        cost = (weights * distance.square() / (1 + off)).sum()
        weights = weights / (1 + off).square()
        return self._without_places(mesh, (along[:, None] @ slope)[:, 0], along, -distance, weights, cost)

    def _without_places(
        self, mesh: Tensor, shape: Tensor, move: Tensor, lacking: Tensor, weights: Tensor, cost: Tensor
    ) -> Normal:
        """Schur complement: rows in betas `shape` (P,10) and in the place of their own frame `move` (P,3)."""
        frames, o = len(self.place), self.options
        design = torch.cat([shape, move, lacking[:, None]], 1)
        products = (design[:, :, None] * design[:, None] * weights[:, None, None]).flatten(1)
        total = products.new_zeros(frames, 14 * 14).index_add(0, mesh, products).view(frames, 14, 14)
        held = torch.stack([total.new_full((frames,), o.place_m)] * 2 + [o.place_depth * self.start[:, 2]], 1) ** -2
        own = total[:, 10:13, 10:13] + torch.diag_embed(held)
        right = total[:, 10:13, 13] + held * (self.start - self.place)
        solved = torch.linalg.solve(own, torch.cat([total[:, 10:13, :10], right[..., None]], 2))
        self._last = (solved[..., 10], solved[..., :10])
        cross = total[:, :10, 10:13]
        matrix, vector = lacking.new_zeros(UNKNOWNS, UNKNOWNS), lacking.new_zeros(UNKNOWNS)
        matrix[:10, :10] = (total[:, :10, :10] - cross @ solved[..., :10]).sum(0)
        vector[:10] = (total[:, :10, 13] - (cross @ solved[..., 10:])[..., 0]).sum(0)
        return Normal(matrix, vector, cost)

    def follow(self, change: Tensor) -> None:
        """Move the bodies to where they are best after this `change` (10,) of betas."""
        assert self._last is not None
        alone, slope = self._last
        self.place = self.place + alone - slope @ change


def _signed_distance(masks: Tensor) -> Tensor:
    """Distance (S,N,N) px of each pixel's middle from the masks' (S,N,N) outlines, negative inside."""
    arrays = masks.cpu().numpy()
    out = [
        np.where(m, 0.5 - np.asarray(distance_transform_edt(m)), np.asarray(distance_transform_edt(~m)) - 0.5)
        if m.any() and not m.all()
        else np.full(m.shape, 1e3)
        for m in arrays
    ]
    return torch.from_numpy(np.stack(out).astype(np.float32)).to(masks.device)


def _slope(values: Tensor) -> Tensor:
    """Gradient (S,N,N,2) along x and y of images (S,N,N), by central differences."""
    down, across = torch.gradient(values, dim=(1, 2))
    return torch.stack([across, down], -1)
