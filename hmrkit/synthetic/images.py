"""Images of rendered people with the truth about them: what the regressors learn from.

A sample is what the chain would hand to a regressor: the crop about one person (`hmrkit.crops.person_region`, with
errors) seen by the crop's own camera (`hmrkit.camera.crop_cameras`), in a place that also lights the person, behind
things and other people, photographed badly. Everything is rendered deferred: visible pixels first, then colours and
light for those alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import normalize

from hmrkit.body import BodyOutput, load_body
from hmrkit.rendering.rasteriser import Fragments, interpolate_at, visible_fragments
from hmrkit.rendering.shading import vertex_normals
from hmrkit.synthetic.backgrounds import Backdrops, draw_occluders
from hmrkit.synthetic.cameras import TRAINING, Difficulty, Views, draw_views, region_points, uniform
from hmrkit.synthetic.degradation import photograph
from hmrkit.synthetic.iuv import body_charts
from hmrkit.synthetic.lighting import BodyShadows, Light, Wrinkles, body_spheres, shade
from hmrkit.synthetic.mocap import Split

if TYPE_CHECKING:
    from hmrkit.synthetic.wardrobe import Outfit, Wardrobe

Poses = Callable[[int, torch.Generator], tuple[Tensor, Tensor, Tensor]]
# A joint lies inside the body: its own surface may be so much nearer than it. Twice the way to the nearest skin at
# rest, because joints do not lie in the middle of their limbs, and a bit for clothes.
_SKIN_WAYS, _CLOTHES_M = 2.0, 0.03
# Images rendered at once: on a CPU so many that their planes stay in the cache.
_AT_ONCE = {"cpu": 8, "cuda": 256}
_LUMA = (0.2126, 0.7152, 0.0722)


@dataclass(frozen=True)
class Samples:
    """B crops of S px and what is true of the person each is about.

    `images` (B,3,S,S) float32 RGB in [0, 1]. Of the person's visible pixels: `mask` (B,S,S) bool; `iuv` (B,3,S,S): part
    1..24, U and V in [0, 1] (`hmrkit.synthetic.iuv`), 0 elsewhere; `depth` (B,S,S) m, NaN elsewhere.
    In the crop's own camera (x right, y down, z forward, axis through the crop's middle, `focal_px` (B,)):
    `joints_c` (B,24,3) and `keypoints_c` (B,23,3) m (`Body.keypoint_names`), their pixels `joints_2d` and
    `keypoints_2d`, the body's `global_orient` (B,3,3), `body_pose` (B,23,3,3), `betas` (B,10), `transl_c` (B,3) m.
    `joints_visible` and `keypoints_visible`: in the image and not behind an object or another person;
    `joints_self_hidden` and `keypoints_self_hidden`: behind the person's own body.
    """

    images: Tensor
    mask: Tensor
    iuv: Tensor
    depth: Tensor
    joints_c: Tensor
    keypoints_c: Tensor
    joints_2d: Tensor
    keypoints_2d: Tensor
    joints_visible: Tensor
    keypoints_visible: Tensor
    joints_self_hidden: Tensor
    keypoints_self_hidden: Tensor
    global_orient: Tensor
    body_pose: Tensor
    betas: Tensor
    transl_c: Tensor
    focal_px: Tensor


class SyntheticImages:
    """Makes `Samples` of one split (``train``; ``test`` has poses, clothes and places that ``train`` never shows).

    All randomness comes from the CPU generator of a call: the same seed and batch give the same samples on a machine.
    `poses`, `wardrobe` and `panoramas` (N,H,W,3 linear) replace those that ship.
    """

    def __init__(
        self,
        split: Split = "train",
        device: str | torch.device = "cpu",
        size: int = 256,
        difficulty: Difficulty | None = None,
        poses: Poses | None = None,
        wardrobe: Wardrobe | None = None,
        panoramas: Tensor | None = None,
    ) -> None:
        """`size` in px, a multiple of 64. WeightsError where a shipped part is missing."""
        if poses is None:
            from hmrkit.synthetic.poses import PoseSampler

            poses = PoseSampler(split)
        if wardrobe is None:
            from hmrkit.synthetic.wardrobe import Wardrobe

            wardrobe = Wardrobe(split, device)
        if panoramas is None:
            from hmrkit.synthetic.wardrobe import load_panoramas

            panoramas = torch.as_tensor(load_panoramas(split))
        self.device, self.size = torch.device(device), size
        self.difficulty = difficulty or (Difficulty() if split == "test" else TRAINING)
        self._poses, self._wardrobe = poses, wardrobe
        self._backdrops = Backdrops(panoramas, self.device)
        self.body = load_body(device=device)
        self._faces = torch.as_tensor(self.body.faces, device=self.device).long()
        self._charts = body_charts(self.body)
        self._shadows = BodyShadows(self.body)
        rest = self.body()
        keypoints = self.body.keypoints(rest.vertices)
        self._depth_inside = [
            torch.cdist(points[0], rest.vertices[0]).amin(-1) * _SKIN_WAYS + _CLOTHES_M
            for points in (rest.joints, keypoints)
        ]

    @torch.no_grad()
    def __call__(self, batch: int, generator: torch.Generator) -> Samples:
        """`batch` new samples."""
        step = _AT_ONCE[self.device.type]
        parts = [self._render(min(step, batch - first), generator) for first in range(0, batch, step)]
        return Samples(*(torch.cat(values) for values in zip(*(vars(p).values() for p in parts), strict=True)))

    def _render(self, batch: int, g: torch.Generator) -> Samples:
        size = self.size
        # The first `batch` bodies are whom the crops are about, the others stand near some of them.
        extra = int(torch.rand(batch, generator=g).lt(self.difficulty.crowded).sum())
        image = torch.cat([torch.arange(batch), torch.randperm(batch, generator=g)[:extra]]).to(self.device)
        orient_w, pose, betas = (v.to(self.device) for v in self._poses(batch + extra, g))
        posed = self.body(global_orient=orient_w, body_pose=pose, betas=betas)
        posed, floor_y = self._on_their_places(posed, image, batch, g)
        keypoints_w = self.body.keypoints(posed.vertices[:batch])
        pelvis_w = posed.joints[:batch, 0]
        views = draw_views(region_points(self.body, keypoints_w), pelvis_w, self.difficulty, size, g)

        outfit = self._wardrobe.dress(batch + extra, g)
        skin = vertex_normals(posed.vertices, self._faces)
        clothed_w = posed.vertices + skin * outfit.offsets.to(self.device)[..., None]
        seen_by = views[image]
        clothed_c = seen_by.apply(clothed_w)
        center = clothed_c.new_full((2,), size / 2)
        focal = seen_by.focal_px[:, None].expand(-1, 2)
        found = visible_fragments(clothed_c, self._faces, focal, center, (size, size), image, batch, cull_back=True)

        which, yaw, light = self._backdrops.draw(batch, g)
        occluders = draw_occluders(batch, self.difficulty, size, g, self.device)
        canvas, covered = self._backdrops.paint(views, which, yaw, light, floor_y, size, occluders, g)
        spheres = body_spheres(posed.joints)
        shadow = self._backdrops.floor_shadow(views, light, floor_y, spheres[:batch], size)
        canvas = torch.where(covered, canvas, canvas * shadow)

        inside = views.inside_image(size)
        shown = _select(found, (inside & ~covered).flatten()[found.pixel])
        colours = self._colours(shown, outfit, clothed_w, image, views, light, spheres, g)
        canvas.view(3, -1)[:, shown.pixel] = colours.T
        images = self._photo(canvas.transpose(0, 1), inside, shown, colours, image, views, g)

        # The truth.
        joints_c, keypoints_c = views.apply(posed.joints[:batch]), views.apply(keypoints_w)
        rest_pelvis = self.body.joints_only(betas=betas[:batch]).joints[:, 0]
        mine = _select(shown, shown.mesh < batch)
        hidden = [
            self._visibility(points, views, found, inside & ~covered, depth)
            for points, depth in zip((joints_c, keypoints_c), self._depth_inside, strict=True)
        ]
        mask = torch.zeros(batch * size * size, dtype=torch.bool, device=self.device)
        depth = canvas.new_full((batch * size * size,), torch.nan)
        iuv = canvas.new_zeros(3, batch * size * size)
        mask[mine.pixel], depth[mine.pixel] = True, mine.depth
        iuv[:, mine.pixel] = self._charts.at(mine.face, mine.barycentrics).T
        shape = (batch, size, size)
        return Samples(
            images=images,
            mask=mask.view(shape),
            iuv=iuv.view(3, *shape).transpose(0, 1).contiguous(),
            depth=depth.view(shape),
            joints_c=joints_c,
            keypoints_c=keypoints_c,
            joints_2d=views.project(joints_c, size),
            keypoints_2d=views.project(keypoints_c, size),
            joints_visible=hidden[0][0],
            keypoints_visible=hidden[1][0],
            joints_self_hidden=hidden[0][1],
            keypoints_self_hidden=hidden[1][1],
            global_orient=views.rotation @ orient_w[:batch],
            body_pose=pose[:batch],
            betas=betas[:batch],
            transl_c=joints_c[:, 0] - rest_pelvis,
            focal_px=views.focal_px,
        )

    def _on_their_places(
        self, posed: BodyOutput, image: Tensor, batch: int, g: torch.Generator
    ) -> tuple[BodyOutput, Tensor]:
        """Bodies in the world, extra ones on the same floor as the person they stand near; the floors' heights (B,)."""
        total = len(image)
        lowest = posed.vertices[..., 1].amin(1)
        angle, reach = (
            uniform(-torch.pi, torch.pi, (total,), g, self.device),
            uniform(0.35, 1.6, (total,), g, self.device),
        )
        place = torch.stack([reach * angle.cos(), lowest[image] - lowest, reach * angle.sin()], -1)
        place = torch.where((torch.arange(total, device=self.device) < batch)[:, None], 0.0, place)[:, None]
        # Some people are in the air.
        jump = 0.4 * (uniform(0, 1, (batch,), g, self.device) - 0.85).clamp_min(0) / 0.15
        return BodyOutput(posed.vertices + place, posed.joints + place, posed.joint_rotations), lowest[:batch] - jump

    def _colours(
        self, shown: Fragments, outfit: Outfit, clothed_w: Tensor, image: Tensor, views: Views, light: Light,
        spheres: Tensor, g: torch.Generator,
    ) -> Tensor:  # fmt: skip
        """Radiance (P,3) of visible pixels of people."""
        albedo = outfit.albedo(shown.mesh, shown.face, shown.barycentrics)
        normals = vertex_normals(clothed_w, self._faces)
        shadows = self._shadows(clothed_w, normals, spheres, light.sun[image], light.softness[image])
        attributes = torch.cat([clothed_w, normals, shadows, outfit.offsets.to(self.device)[..., None]], -1)
        at = interpolate_at(attributes, self._faces, shown.mesh, shown.face, shown.barycentrics)
        points, normals = at[:, :3], normalize(at[:, 3:6], dim=-1)
        rest = interpolate_at(
            self.body.v_template[None], self._faces, torch.zeros_like(shown.mesh), shown.face, shown.barycentrics
        )
        # Tight clothes have no folds: offsets of 0 to 6 mm fade them in.
        cloth = (at[:, 8] / 0.006).clamp(0, 1)
        normals = Wrinkles(len(image), g, self.device).bend(normals, rest, shown.mesh, cloth)
        scene = image[shown.mesh]
        gloss = 0.05 * uniform(0, 1, (len(image),), g, self.device)[shown.mesh] ** 2
        to_eye = normalize(views.eye[scene] - points, dim=-1)
        return shade(albedo, normals, to_eye, light, scene, at[:, 6], at[:, 7], gloss)

    def _photo(
        self, canvas: Tensor, inside: Tensor, shown: Fragments, colours: Tensor, image: Tensor, views: Views,
        g: torch.Generator,
    ) -> Tensor:  # fmt: skip
        """Radiance (B,3,S,S) -> images, exposed for the person and the place, black where the full image ends."""
        luma = canvas.new_tensor(_LUMA)
        place = torch.einsum("c,bchw->bhw", luma, canvas).clamp(max=6).mean((1, 2))
        scene = image[shown.mesh]
        total = torch.zeros_like(place).index_add_(0, scene, colours @ luma)
        count = torch.zeros_like(place).index_add_(0, scene, torch.ones_like(colours[:, 0]))
        person = torch.where(count > 0, total / count.clamp_min(1), place)
        # Cameras expose for people, more or less: against the light they become dark.
        care = 0.3 + 0.7 * uniform(0, 1, (len(place),), g, self.device)
        subject = torch.lerp(place.clamp_min(1e-3).log(), person.clamp_min(1e-3).log(), care).exp()
        resolution = views.resolution
        images = photograph(canvas, subject, resolution, self.difficulty, g)
        return images * inside[:, None]

    def _visibility(
        self, points_c: Tensor, views: Views, found: Fragments, open_: Tensor, depth_inside: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Which points (B,J,3) are visible, and which the person's own body hides, (B,J) each."""
        batch, size = len(points_c), self.size
        nearest = points_c.new_full((batch * size * size,), torch.inf)
        owner = torch.full((batch * size * size,), -1, dtype=torch.int64, device=points_c.device)
        nearest[found.pixel], owner[found.pixel] = found.depth, found.mesh
        at = views.project(points_c, size)
        in_crop = (at >= 0).all(-1) & (at < size).all(-1) & (points_c[..., 2] > 0)
        column, row = at.nan_to_num().clamp(0, size - 1).long().unbind(-1)
        rows = torch.arange(batch, device=points_c.device)[:, None]
        pixel = (rows * size + row) * size + column
        in_front = nearest[pixel] < points_c[..., 2]
        mine = owner[pixel] == rows
        visible = in_crop & open_.flatten()[pixel] & ~(in_front & ~mine & (owner[pixel] >= 0))
        return visible, in_crop & mine & (nearest[pixel] < points_c[..., 2] - depth_inside)


def _select(found: Fragments, keep: Tensor) -> Fragments:
    rows = keep.nonzero()[:, 0]
    return Fragments(*(value[rows] for value in vars(found).values()))
