"""Rendered clips of people in motion with the truth about them: what temporal methods are judged by.

A clip is seen by one camera as a whole image. Motion, shapes, skins, clothes, place, light and lens are drawn once,
from a seed of its own; then all frames are rendered, some at a time, deferred as in `images`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import normalize

from hmrkit.body import load_body
from hmrkit.rendering.rasteriser import Fragments, interpolate_at, visible_fragments
from hmrkit.rendering.shading import vertex_normals
from hmrkit.synthetic.backgrounds import Backdrops
from hmrkit.synthetic.clip_motion import ClipMotion, ground_height
from hmrkit.synthetic.clip_places import Place, box_corners, visible_boxes, world_rays
from hmrkit.synthetic.clip_scene import Kind, Scene, draw_scene
from hmrkit.synthetic.lighting import BodyShadows, Wrinkles, body_spheres, shade
from hmrkit.synthetic.mocap import Split

if TYPE_CHECKING:
    from hmrkit.synthetic.wardrobe import Outfit

FPS = 30.0
MOST_FRAMES = 120  # few of the walks that ship are longer
_AT_ONCE = 6  # frames rendered together: so many that their planes stay in a CPU's cache
_LUMA = (0.2126, 0.7152, 0.0722)


@dataclass(frozen=True)
class Clip:
    """T frames of a clip of P people, H x W px.

    `frames` (T,H,W,3) uint8 RGB; `owner` (T,H,W) int8: which person a pixel shows, -1 for none. `focal_px` of a camera
    that looks through the image's middle; `camera_from_world` (T,4,4), the world has y up and its ground at 0. Of the
    people in the world: `global_orient` (P,T,3,3), `body_pose` (P,T,23,3,3), `betas` (P,10), `transl` (P,T,3) m. In the
    camera frame: `joints_c` (P,T,24,3) and `keypoints_c` (P,T,23,3) m (`Body.keypoint_names`); `keypoints_visible`
    (P,T,23): in the image and not behind an object or another person.
    """

    frames: Tensor
    owner: Tensor
    focal_px: float
    camera_from_world: Tensor
    global_orient: Tensor
    body_pose: Tensor
    betas: Tensor
    transl: Tensor
    joints_c: Tensor
    keypoints_c: Tensor
    keypoints_visible: Tensor


class SyntheticClips:
    """Renders `Clip`s of one split (``test`` shows motion, clothes and places that ``train`` never does)."""

    def __init__(self, split: Split = "test", size: tuple[int, int] = (480, 640)) -> None:
        """`size` (H, W) px, multiples of 16. WeightsError where a shipped part is missing."""
        from hmrkit.synthetic.wardrobe import Wardrobe, load_panoramas

        self.size = size
        self.body = load_body()
        self._motion = ClipMotion(split, self.body)
        self._wardrobe = Wardrobe(split)
        self._backdrops = Backdrops(load_panoramas(split), torch.device("cpu"))
        self._faces = torch.as_tensor(self.body.faces).long()
        self._shadows = BodyShadows(self.body)

    @torch.no_grad()
    def __call__(self, kind: Kind, frames: int, seed: int) -> Clip:
        """A clip of `frames` frames at `FPS`; the same seed gives the same bits on a machine."""
        g = torch.Generator().manual_seed(seed)
        scene = draw_scene(kind, self._motion, frames, FPS, self.size, g)
        outfit = self._wardrobe.dress(kind.people, g)
        people = [self._posed(scene, k, outfit) for k in range(kind.people)]
        clothed, vertices, joints, transl = (torch.stack(part) for part in zip(*people, strict=True))
        reach = float((-(scene.rotation.mT @ scene.transl[..., None]))[..., 0][:, [0, 2]].norm(dim=-1).max())
        place = Place(self._backdrops, reach, scene.box_center.shape[1], g)
        look = _Look(self, scene, place, outfit, Wrinkles(kind.people, g, torch.device("cpu")), g)
        film = Film(g)
        images, owners, nearest = [], [], []
        for first in range(0, frames, _AT_ONCE):
            rows = slice(first, first + _AT_ONCE)
            radiance, owner, depth = look.render(rows, clothed[:, rows], joints[:, rows])
            images.append(film.develop(radiance, owner >= 0))
            owners.append(owner)
            nearest.append(depth)
        owner, depth = torch.cat(owners), torch.cat(nearest)
        keypoints = self.body.keypoints(vertices.flatten(0, 1)).unflatten(0, vertices.shape[:2])
        keypoints_c, joints_c = (p @ scene.rotation.mT + scene.transl[:, None] for p in (keypoints, joints))
        pose = torch.eye(4).repeat(frames, 1, 1)
        pose[:, :3, :3], pose[:, :3, 3] = scene.rotation, scene.transl
        local = torch.stack([walk.local for walk in scene.walks])
        return Clip(
            torch.cat(images), owner, scene.focal_px, pose, local[:, :, 0], local[:, :, 1:],
            torch.stack([walk.betas for walk in scene.walks]), transl, joints_c, keypoints_c,
            self._visible(keypoints_c, owner, depth, scene.focal_px),
        )  # fmt: skip

    def _posed(self, scene: Scene, k: int, outfit: Outfit) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of person k on the ground: clothed vertices and vertices (T,V,3), joints (T,24,3), translation (T,3)."""
        walk = scene.walks[k]
        rest = self.body.joints_only(betas=walk.betas).joints[:, 0]
        transl = walk.pelvis - rest
        posed = self.body(walk.local[:, 0], walk.local[:, 1:], walk.betas, transl)
        clothed = posed.vertices + vertex_normals(posed.vertices, self._faces) * outfit.offsets[k, :, None]
        ground = torch.from_numpy(ground_height(clothed[..., 1].amin(1).numpy(), FPS)).float()
        lift = torch.stack([torch.zeros_like(ground), -ground, torch.zeros_like(ground)], -1)
        return clothed + lift[:, None], posed.vertices + lift[:, None], posed.joints + lift[:, None], transl + lift

    def _visible(self, points_c: Tensor, owner: Tensor, depth: Tensor, focal_px: float) -> Tensor:
        """Which points (P,T,K,3) are in the image and not behind something else (P,T,K)."""
        height, width = self.size
        at = points_c[..., :2] / points_c[..., 2:] * focal_px + torch.tensor([width / 2, height / 2])
        inside = (at >= 0).all(-1) & (at < torch.tensor([width, height])).all(-1) & (points_c[..., 2] > 0)
        column, row = (at[..., k].nan_to_num().clamp(0, self.size[1 - k] - 1).long() for k in range(2))
        frame = torch.arange(len(owner))[None, :, None]
        person = torch.arange(len(points_c))[:, None, None]
        other = (owner[frame, row, column] != person) & (depth[frame, row, column] < points_c[..., 2])
        return inside & ~other


class _Look:
    """Everything of a clip that stays the same from frame to frame, and how frames are rendered from it."""

    def __init__(
        self, clips: SyntheticClips, scene: Scene, place: Place, outfit: Outfit, wrinkles: Wrinkles, g: torch.Generator
    ) -> None:
        self._clips, self._scene, self._place, self._outfit, self._wrinkles = clips, scene, place, outfit, wrinkles
        self._gloss = 0.05 * torch.rand(len(scene.walks), generator=g) ** 2
        self._corners = box_corners(scene.box_half, scene.box_yaw)

    def render(self, rows: slice, clothed: Tensor, joints: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Radiance (3,F,H,W), owner (F,H,W) int8 and depth (F,H,W) m of frames with vertices (P,F,V,3)."""
        scene, (height, width) = self._scene, self._clips.size
        rotation, transl = scene.rotation[rows], scene.transl[rows]
        eye = -(rotation.mT @ transl[..., None])[..., 0]
        people, frames = clothed.shape[:2]
        rays = world_rays(rotation, scene.focal_px, (height, width))
        canvas, ground = self._place.paint(rays, eye)
        spheres = torch.cat([body_spheres(points) for points in joints], 1)
        shadow = self._place.shadow(rotation, eye, scene.focal_px, (height, width), spheres)
        canvas = (canvas * torch.where(ground, shadow, 1.0)).contiguous()

        # Mesh k F + f is person k in image f.
        image = torch.arange(frames).repeat(people)
        focal, center = torch.full((2,), scene.focal_px), torch.tensor([width / 2, height / 2])
        clothed_c = (clothed @ rotation.mT + transl[:, None]).flatten(0, 1)
        found = visible_fragments(
            clothed_c, self._clips._faces, focal, center, (height, width), image, frames, cull_back=True
        )
        depth = torch.full((frames * height * width,), torch.inf)
        owner = torch.full((frames * height * width,), -1, dtype=torch.int8)
        depth[found.pixel] = found.depth
        if scene.box_half.numel():
            boxes = visible_boxes(
                scene.box_center[rows], self._corners, rotation, transl, scene.focal_px, (height, width)
            )
            boxes = _select(boxes, boxes.depth < depth[boxes.pixel])
            if len(boxes.pixel):
                colours = self._place.box_radiance(boxes, scene.box_half, scene.box_yaw)
                canvas.view(3, -1)[:, boxes.pixel] = colours.T
            depth[boxes.pixel] = boxes.depth
            found = _select(found, found.depth <= depth[found.pixel])
        owner[found.pixel] = (found.mesh // frames).to(torch.int8)
        if len(found.pixel):
            canvas.view(3, -1)[:, found.pixel] = self._colours(found, clothed, joints, eye).T
        return canvas, owner.view(frames, height, width), depth.view(frames, height, width)

    def _colours(self, found: Fragments, clothed: Tensor, joints: Tensor, eye: Tensor) -> Tensor:
        """Radiance (P,3) of visible pixels of people."""
        people, frames = clothed.shape[:2]
        faces, light = self._clips._faces, self._place.light
        meshes = clothed.flatten(0, 1)
        person = torch.arange(people).repeat_interleave(frames)
        normals = vertex_normals(meshes, faces)
        sun, softness = light.sun.expand(len(meshes), 3), light.softness.expand(len(meshes))
        shadows = self._clips._shadows(meshes, normals, body_spheres(joints.flatten(0, 1)), sun, softness)
        offsets = self._outfit.offsets[person]
        at = interpolate_at(
            torch.cat([meshes, normals, shadows, offsets[..., None]], -1), faces, found.mesh, found.face,
            found.barycentrics,
        )  # fmt: skip
        points, normals = at[:, :3], normalize(at[:, 3:6], dim=-1)
        owner = person[found.mesh]
        template = self._clips.body.v_template[None]
        rest = interpolate_at(template, faces, torch.zeros_like(found.mesh), found.face, found.barycentrics)
        # Tight clothes have no folds: offsets of 0 to 6 mm fade them in.
        normals = self._wrinkles.bend(normals, rest, owner, (at[:, 8] / 0.006).clamp(0, 1))
        albedo = self._outfit.albedo(owner, found.face, found.barycentrics)
        to_eye = normalize(eye[found.mesh % frames] - points, dim=-1)
        scene = torch.zeros_like(owner)
        return shade(albedo, normals, to_eye, light, scene, at[:, 6], at[:, 7], self._gloss[owner])


class Film:
    """A camera's exposure, colours, lens and noise, drawn once for a clip; the exposure is that of its first frames."""

    def __init__(self, generator: torch.Generator) -> None:
        g = generator
        self._noise = torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=g)))
        self._stops, self._care, self._steep, self._contrast, self._colour, blur, noisy, self._veil = torch.rand(
            8, generator=g
        ).tolist()
        warm, green = (torch.randn(2, generator=g) * torch.tensor([0.07, 0.025])).tolist()
        self._balance = torch.tensor([warm - green, green, -warm - green]).exp().view(3, 1, 1, 1)
        self._sigma, self._grain = 0.5 + 0.7 * blur**2, 0.03 * max(0.0, noisy - 0.4)
        self._gain: float | None = None

    def develop(self, radiance: Tensor, people: Tensor) -> Tensor:
        """Radiance (3,F,H,W) in which `people` (F,H,W) are -> (F,H,W,3) uint8."""
        if self._gain is None:
            luma = torch.einsum("c,cfhw->fhw", radiance.new_tensor(_LUMA), radiance).clamp(max=6)
            place = float(luma.double().mean())
            subject = float(luma[people].double().mean()) if bool(people.any()) else place
            care = 0.4 + 0.6 * self._care
            mean = math.exp((1 - care) * math.log(max(place, 1e-3)) + care * math.log(max(subject, 1e-3)))
            # Rounded, so that the order of a sum does not decide the last bit of every pixel.
            self._gain = round(0.30 / mean * 2 ** (1.2 * self._stops - 0.6), 3)
        image = (radiance * (self._gain * self._balance)).clamp_(max=12)
        image = _blurred(image, self._sigma).add_(0.05 * self._veil**3)
        if self._grain:
            noise = torch.randn(image.shape, generator=self._noise)
            image += noise.mul_((0.1 * image).add_(0.002).sqrt_()).mul_(self._grain)
        # A film's shoulder, its gamma as a mixture of roots, contrast and saturation.
        root = image.clamp_(min=0).neg_().expm1_().neg_().sqrt_()
        image = torch.lerp(root, root.sqrt(), 0.15 * self._steep)
        image = torch.lerp(image, image * image * (3 - 2 * image), 0.7 * self._contrast)
        image = torch.lerp(image.mean(0, keepdim=True), image, 0.7 + 0.5 * self._colour)
        return image.clamp_(0, 1).mul_(255).round_().to(torch.uint8).permute(1, 2, 3, 0).contiguous()


def _blurred(image: Tensor, sigma: float) -> Tensor:
    """Planes (3,F,H,W) through a lens whose spot is a Gaussian of `sigma` px."""
    kernel = [math.exp(-(k**2) / (2 * sigma**2)) for k in range(4)]
    kernel = [k / (2 * sum(kernel) - kernel[0]) for k in kernel]
    for dim in (2, 3):  # sums of shifted planes: a convolution of one channel is several times as slow
        size = image.shape[dim]
        edge = torch.cat([image.narrow(dim, 0, 1)] * 3 + [image] + [image.narrow(dim, size - 1, 1)] * 3, dim)
        out = edge.narrow(dim, 3, size) * kernel[0]
        for k in range(1, 4):
            for side in (3 - k, 3 + k):
                out.add_(edge.narrow(dim, side, size), alpha=kernel[k])
        image = out
    return image


def _select(found: Fragments, keep: Tensor) -> Fragments:
    rows = keep.nonzero()[:, 0]
    return Fragments(*(value[rows] for value in vars(found).values()))
