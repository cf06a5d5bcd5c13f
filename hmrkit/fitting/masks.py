"""Masks of the people of a take in a few well-spread frames: BlazePose's segmentation output.

A second pass over the clip that decodes only the chosen frames. Masks are kept while bodies are fitted and never
stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from hmrkit.blazepose.network import CROP_SIZE, WEIGHTS, load_person_mask
from hmrkit.camera import crop_cameras
from hmrkit.crops import REGION_POINTS, Region, crop_batch, person_region
from hmrkit.device import inference, one_thread, upload
from hmrkit.engines import frozen
from hmrkit.rendering.rasteriser import Fragments, visible_fragments
from hmrkit.skeletons import get_skeleton
from hmrkit.types import Take, Track
from hmrkit.video import read_frames
from hmrkit.weights import verify

FRAMES = 16  # of a person
SIDE = 128  # px of a mask
_TRUNK = [REGION_POINTS.index(f"{side}_{name}") for name in ("shoulder", "hip") for side in ("left", "right")]
_HIPS = _TRUNK[2:]


@dataclass(frozen=True)
class PersonMasks:
    """One person's masks in S frames, each seen by a camera that looks at them (`hmrkit.camera.crop_cameras`).

    `rows` (S,) of the track; `masks` (S,N,N) bool, the person; `known` (S,N,N) bool, False outside of the image and
    where somebody else's box lies; `camera_from_crop` (S,3,3); `focal_px` (S,) of crops of side N px.
    """

    rows: np.ndarray
    masks: Tensor
    known: Tensor
    camera_from_crop: Tensor
    focal_px: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, chosen: Tensor) -> PersonMasks:
        """Those of `chosen` (S,) bool."""
        parts = (self.masks, self.known, self.camera_from_crop, self.focal_px)
        return PersonMasks(self.rows[chosen.cpu().numpy()], *(part[chosen] for part in parts))

    def silhouettes(self, vertices_c: np.ndarray, faces: np.ndarray) -> Tensor:
        """What meshes (S,V,3) m in the camera frame, `faces` (F,3), cover of the masks' pixels: (S,N,N) bool."""
        with one_thread(), torch.no_grad():
            seen = torch.from_numpy(vertices_c).to(self.masks.device) @ self.camera_from_crop
            return self.covered(self.fragments(seen, torch.from_numpy(faces)))

    def fragments(self, vertices: Tensor, faces: Tensor) -> Fragments:
        """What is drawn of meshes (S,V,3) m in the axes of the masks' cameras, `faces` (F,3)."""
        _, height, width = self.masks.shape
        focal = self.focal_px[:, None].expand(-1, 2)
        return visible_fragments(vertices, faces, focal, crop_center(self), (height, width), cull_back=True)

    def covered(self, found: Fragments) -> Tensor:
        """The pixels (S,N,N) bool of fragments."""
        pixels = torch.zeros(self.masks.numel(), dtype=torch.bool, device=self.masks.device)
        pixels[found.pixel] = True
        return pixels.view_as(self.masks)

    def overlap(self, vertices_c: np.ndarray, faces: np.ndarray) -> np.ndarray:
        """IoU (S,) in [0, 1] of meshes' `silhouettes` and the masks, over the pixels that are known."""
        mesh, mask = (area & self.known for area in (self.silhouettes(vertices_c, faces), self.masks))
        return ((mesh & mask).sum((1, 2)) / (mesh | mask).sum((1, 2)).clamp_min(1)).cpu().numpy()


class MaskReader:
    """The network that makes the masks, on one device."""

    def __init__(self, device: torch.device) -> None:
        self.weights_sha256 = verify(WEIGHTS)
        self.device = device
        self.run = frozen(load_person_mask(device))

    def __call__(self, take: Take, tracks: Sequence[Track], batch_size: int = 8) -> dict[int, PersonMasks]:
        """Masks by track id, of people who show hips and shoulders in some frame that can be decoded. InputError where
        the clip cannot be read any more."""
        chosen, regions = [], []
        for person in tracks:
            region, score = _regions(take, person)
            chosen.append(spread_rows(score * (1 - hidden_share(take, person)) ** 2))
            regions.append(region)
        owner = np.repeat(np.arange(len(tracks)), [len(rows) for rows in chosen])
        if not len(owner):
            return {}
        rows = np.concatenate(chosen)
        frames = np.concatenate([t.frame_indices[r] for t, r in zip(tracks, chosen, strict=True)])
        region = Region.stack([regions[k][r] for k, r in zip(owner, rows, strict=True)])
        cameras = crop_cameras(take.camera, region, CROP_SIZE, take.camera.zoom_at(frames))
        masks = torch.zeros(len(rows), SIDE, SIDE, dtype=torch.bool, device=self.device)
        read = np.zeros(len(rows), bool)
        video = take.video.at(np.isin(take.video.frame_indices, frames))
        for batch in read_frames(video, batch_size=batch_size):
            here = np.flatnonzero(np.isin(frames, batch.frame_indices))
            if not len(here):
                continue
            images = upload(batch.frames, self.device)
            for start in range(0, len(here), batch_size):
                part = here[start : start + batch_size]
                places = np.searchsorted(batch.frame_indices, frames[part])
                with inference(self.device):
                    maps = cameras.image_from_crop[part]
                    crops = crop_batch(images, places, region[part], CROP_SIZE, maps)
                    logits = self.run(crops.contiguous(memory_format=torch.channels_last))
                    masks[torch.from_numpy(part)] = avg_pool2d(logits, CROP_SIZE // SIDE)[:, 0] > 0
                read[part] = True
        found = {}
        for k, person in enumerate(tracks):
            mine = np.flatnonzero((owner == k) & read)
            if len(mine):
                known = known_pixels(take, person, rows[mine], cameras.image_from_crop[mine])
                rotation, focal = (
                    torch.from_numpy(values[mine].astype(np.float32)).to(self.device)
                    for values in (cameras.camera_from_crop, cameras.focal_px * SIDE / CROP_SIZE)
                )
                of = torch.from_numpy(mine).to(self.device)
                found[person.track_id] = PersonMasks(rows[mine], masks[of], known.to(self.device), rotation, focal)
        return found


def _regions(take: Take, person: Track) -> tuple[Region, np.ndarray]:
    """Where a person is to be cut out in each frame (T), and how surely they are seen there (T), 0 for not at all."""
    points = take.keypoints[person.track_id]
    index = get_skeleton(points.skeleton).index
    seen = np.full((len(person.frame_indices), len(REGION_POINTS), 3), np.nan)
    here = [k for k, name in enumerate(REGION_POINTS) if name in index]
    seen[:, here] = points.keypoints_2d[:, [index[REGION_POINTS[k]] for k in here]]
    missing = ~np.isfinite(seen).all(-1) | ~(seen[..., 2] > 0)
    score = np.where(missing, 0, seen[..., 2]).mean(1) * ~missing[:, _TRUNK].any(1)
    xy = np.where(missing[..., None], seen[:, _HIPS].mean(1, keepdims=True), seen)[..., :2]
    region = person_region(np.where(score[:, None, None] > 0, xy, 0))
    return region, score * (region.size > 8)


def hidden_share(take: Take, person: Track) -> np.ndarray:
    """How much (T,) of a person's box lies in somebody else's: the largest share of a single one."""
    share = np.zeros(len(person.frame_indices))
    for other, mine, theirs in _others(take, person):
        a, b = person.boxes_xyxy[mine], other.boxes_xyxy[theirs]
        common = np.clip(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0, None).prod(1)
        covered = common / np.maximum((a[:, 2:] - a[:, :2]).prod(1), 1e-6)
        share[mine] = np.maximum(share[mine], np.nan_to_num(covered))
    return share


def known_pixels(take: Take, person: Track, rows: np.ndarray, image_from_crop: np.ndarray) -> Tensor:
    """Pixels (S,N,N) of the crops of some `rows` (S,) that lie in the image and in nobody else's box."""
    steps = (np.arange(SIDE) + 0.5) * CROP_SIZE / SIDE
    pixels = np.stack([*np.meshgrid(steps, steps), np.ones((SIDE, SIDE))], -1).reshape(-1, 3)
    image = pixels @ image_from_crop.swapaxes(1, 2)
    xy = image[..., :2] / image[..., 2:]
    known = _inside(xy, np.array([0, 0, take.camera.width, take.camera.height]))
    for other, mine, theirs in _others(take, person):
        place = {int(row): k for k, row in enumerate(mine)}
        for k, row in enumerate(rows):
            if int(row) in place:
                known[k] &= ~_inside(xy[k], other.boxes_xyxy[theirs[place[int(row)]]])
    return torch.from_numpy(known.reshape(-1, SIDE, SIDE))


def spread_rows(score: np.ndarray, count: int = FRAMES) -> np.ndarray:
    """At most `count` rows of a track: of as many stretches of it the one with the highest `score` (T,), none of 0."""
    parts = np.array_split(np.arange(len(score)), min(count, len(score)))
    best = np.array([part[score[part].argmax()] for part in parts], np.int64)
    return best[score[best] > 0]


def crop_center(masks: PersonMasks) -> Tensor:
    """Principal point (2,) px of the masks' cameras."""
    return torch.full((2,), masks.masks.shape[-1] / 2, device=masks.masks.device)


def _others(take: Take, person: Track):
    """The other tracks that share frames with a person's: track, the person's rows and its own."""
    for other in take.tracks:
        if other.track_id != person.track_id:
            _, mine, theirs = np.intersect1d(person.frame_indices, other.frame_indices, return_indices=True)
            if len(mine):
                yield other, mine, theirs


def _inside(xy: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Whether points (...,2) lie in a box (4,)."""
    return np.asarray(((xy >= box[:2]) & (xy <= box[2:])).all(-1))
