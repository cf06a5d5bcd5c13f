"""What synthetic people look like: skins, clothes and the places they stand in.

    wardrobe = Wardrobe("train", "cpu")
    outfit = wardrobe.dress(32, generator)
    vertices = posed + outfit.offsets[..., None] * normals        # clothes have thickness
    albedo = outfit.albedo(found.mesh, found.face, found.barycentrics)   # Fragments of hmrkit.rendering.rasteriser

"test" has skins, panoramas, patterns and colours that "train" never shows; "all" has both. Assets:
`weights/synthetic/README.md`.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import embedding_bag

from hmrkit.body import load_body
from hmrkit.body.texture import texture_coordinates
from hmrkit.errors import ModelMismatchError, UsageError
from hmrkit.rendering.shading import linear
from hmrkit.synthetic.clothes import INDEX, LAYERS, Clothes, Modelled, Numbers, cloth_coordinates, clothe, measure
from hmrkit.synthetic.patterns import PLAIN_SHARE, TILE, colour_schemes, hair_colours, pattern_bank
from hmrkit.weights import find_weights, verify

Split = Literal["train", "test", "all"]
TEST_SKINS = (
    "middleage_darkskinned_female_diffuse",
    "young_lightskinned_male_diffuse3",
    "old_lightskinned_male_diffuse2",
)
TEST_GARMENTS = ("female_casualsuit01", "male_casualsuit05", "male_worksuit01", "shoes03")
TEST_PANORAMAS = ("lebombo_1k", "potsdamer_platz_1k", "rooitou_park_1k")
SEEDS = {"train": 1, "test": 2}
PATTERNS, SCHEMES, HAIR = {"train": 224, "test": 64}, {"train": 2048, "test": 256}, {"train": 256, "test": 64}
# How often a layer is of plain cloth.
PLAIN = {"upper": 0.5, "jacket": 0.7, "lower": 0.72, "socks": 0.8, "shoes": 0.75, "hat": 0.7, "print": 0.1}
DULL_LAYERS = ("lower", "shoes", "belt", "jacket", "gloves", "socks")
TEXTURE_PX = 512


@dataclass(frozen=True)
class Outfit:
    """The looks of B bodies: `offsets` (B,V) m, to be added along the posed body's vertex normals (0 on bare skin)."""

    offsets: Tensor
    _wardrobe: Wardrobe
    _fields: Tensor  # (B*V, layers)
    # From here on (B*S, ...): one row for bare skin and for each layer above it.
    _texture: Tensor  # which image in the body's atlas, -1: a pattern
    _tint: Tensor  # (.,3) factors of that image
    _colours: Tensor  # (.,9): three colours
    _layout: Tensor  # (.,6): 2x2 from metres to tiles, then an offset
    _pattern: Tensor

    def albedo(self, mesh: Tensor, face: Tensor, barycentrics: Tensor) -> Tensor:
        """Linear RGB (P,3) in [0,1] of P places: `mesh` (P,) which body, `face` (P,), `barycentrics` (P,3)."""
        w, layers = self._wardrobe, len(LAYERS)
        vertices = w.faces.index_select(0, face) + (mesh * w.num_vertices)[:, None]
        corners = face[:, None] * 3 + w.three
        # Weighted sums of rows, without their copies in between.
        field = embedding_bag(vertices, self._fields, mode="sum", per_sample_weights=barycentrics)
        coordinates = embedding_bag(corners, w.corners, mode="sum", per_sample_weights=barycentrics)  # skin, cloth
        top = ((field > 0) * w.ranks).amax(1)  # 0: bare skin
        style = mesh * (layers + 1) + top

        texture = self._texture.index_select(0, style)
        column, row = (coordinates[:, :2] * TEXTURE_PX).long().clamp_(0, TEXTURE_PX - 1).unbind(1)
        texel = (texture.clamp(min=0) * TEXTURE_PX + row) * TEXTURE_PX + column
        painted = (w.textures.index_select(0, texel).float() / 255).square_() * self._tint.index_select(0, style)

        layout = self._layout.index_select(0, style)
        tiles = coordinates[:, 2:3] * layout[:, 0:2] + coordinates[:, 3:4] * layout[:, 2:4] + layout[:, 4:6]
        across, down = ((tiles - tiles.floor()) * TILE).long().clamp_(max=TILE - 1).unbind(1)
        place = (self._pattern.index_select(0, style) * TILE + down) * TILE + across
        ink = w.patterns.index_select(0, place).float() / 255
        main, second, third = self._colours.index_select(0, style).view(-1, 3, 3).unbind(1)
        cloth = torch.lerp(torch.lerp(main, second, ink[:, :1]), third, ink[:, 1:2]) * ink[:, 2:]
        return torch.where((texture < 0)[:, None], cloth, painted).clamp_(0, 1)


class Wardrobe:
    """Skins, patterns and colours of a split on a device; dresses bodies of the free model (its topology only)."""

    def __init__(self, split: Split = "train", device: str | torch.device = "cpu") -> None:
        """UsageError for an unknown split; WeightsError where an asset is missing or damaged."""
        _check_split(split)
        self.split, self.device = split, torch.device(device)
        body = load_body(device=self.device)
        atlas = texture_coordinates(body)
        if atlas is None:
            raise ModelMismatchError(
                f"expected the body that the skins were fitted to, got {body.topology_id}; "
                "make the atlas again with python -m hmrkit.training.make_wardrobe"
            )
        self.num_vertices = body.num_vertices
        self.faces = torch.as_tensor(body.faces, dtype=torch.int64, device=self.device)
        uv = torch.tensor(atlas, device=self.device)
        uv[..., 1] = 1 - uv[..., 1]  # rows of an image run downwards
        self.corners = torch.cat([uv, cloth_coordinates(body)], -1).view(-1, 4)  # (F*3,4): skin u, v, cloth u, v
        self.three = torch.arange(3, device=self.device)
        self.ranks = torch.arange(1, len(LAYERS) + 1, dtype=torch.uint8, device=self.device)
        self._measures = measure(body)

        skins, garments = _arrays("synthetic/skins.npz"), _arrays("synthetic/garments.npz")
        chosen, worn = _in_split(skins["names"], TEST_SKINS, split), _in_split(garments["names"], TEST_GARMENTS, split)
        self.skin_names = tuple(str(skins["names"][i]) for i in chosen)
        self.garment_names = tuple(str(garments["names"][i]) for i in worn)
        images = [_image(skins, i, TEXTURE_PX) for i in chosen] + [_image(garments, i, TEXTURE_PX) for i in worn]
        roots = np.stack([_linear_root(image) for image in images])
        # Square roots of linear RGB, uint8; skins, then garments.
        self.textures = torch.as_tensor(roots.reshape(-1, 3), device=self.device)
        self._skin_light = self._tensor(np.square(roots[: len(chosen)] / 255.0).mean((1, 2, 3)))
        shoes = torch.tensor([name.startswith("shoes") for name in self.garment_names], device=self.device)
        self._modelled = Modelled(
            self._tensor(garments["fields"][worn]), self._tensor(garments["offsets"][worn]), shoes
        )
        splits = ("train", "test") if split == "all" else (split,)
        banks = [_bank(PATTERNS[s], SEEDS[s]) for s in splits]
        order = np.argsort(np.concatenate([np.arange(len(b)) >= len(b) * PLAIN_SHARE for b in banks]), kind="stable")
        self.patterns = torch.as_tensor(np.concatenate(banks)[order].reshape(-1, 3), device=self.device)
        halves = [np.split(colour_schemes(SCHEMES[s], SEEDS[s]), 2) for s in splits]
        self._dull, self._any = (self._tensor(np.concatenate([h[k] for h in halves])) for k in range(2))
        self._hair = self._tensor(np.concatenate([hair_colours(HAIR[s], SEEDS[s]) for s in splits]))

    def dress(self, count: int, generator: torch.Generator) -> Outfit:
        """Random outfits for `count` bodies; every number comes from `generator` (a CPU generator)."""
        numbers = Numbers(count, generator, self.device)
        clothes = clothe(self._measures, self._modelled, count, numbers)
        texture, tint = self._painted(clothes, count, numbers)
        colours, layout, pattern = self._styles(clothes, numbers)
        return Outfit(
            clothes.offsets, self, clothes.fields.reshape(-1, len(LAYERS)), texture.reshape(-1), tint.reshape(-1, 3),
            colours.reshape(-1, 9), layout.reshape(-1, 6), pattern.reshape(-1),
        )  # fmt: skip

    def _painted(self, clothes: Clothes, count: int, n: Numbers) -> tuple[Tensor, Tensor]:
        """Which image (B,S) each style shows, -1 for none, and factors (B,S,3) of its colours."""
        skin = n.below(len(self.skin_names))
        # Melanin fills the gap between the light and the dark photographs, from both sides.
        melanin = torch.where(self._skin_light[skin] > 0.2, 0.9 * n.uniform() ** 2, n.uniform(-0.8, 0.2))
        tone = torch.cat([n.uniform(-0.05, 0.05) for _ in range(3)], 1) + n.uniform(-0.1, 0.1)
        tone = tone - melanin * tone.new_tensor([0.75, 1.0, 1.25])
        texture = skin.new_full((count, len(LAYERS) + 1), -1)
        tint = tone.new_ones(count, len(LAYERS) + 1, 3)
        texture[:, 0], tint[:, 0] = skin[:, 0], tone.exp()
        for name, which in (("suit", clothes.suit), ("footwear", clothes.footwear)):
            style = INDEX[name] + 1
            texture[:, style] = torch.where(which >= 0, which + len(self.skin_names), -1)
            tint[:, style] = torch.cat([n.uniform(-0.4, 0.4) for _ in range(3)], 1).exp() * n.uniform(-0.5, 0.3).exp()
        return texture, tint

    def _styles(self, clothes: Clothes, n: Numbers) -> tuple[Tensor, Tensor, Tensor]:
        """Colours (B,S,3,3), layouts (B,S,6) and patterns (B,S); the first style, bare skin, has none."""
        colours, layouts, patterns = [], [], []
        total = len(self.patterns) // TILE**2
        plain = int(np.ceil(total * PLAIN_SHARE))
        hair = self._hair[n.below(len(self._hair))[:, 0]]
        for name in LAYERS:
            schemes = self._dull if name in DULL_LAYERS else self._any
            colour = schemes[n.below(len(schemes))[:, 0]]
            is_plain = n.chance(PLAIN.get(name, 0.8))[:, 0]
            pattern = torch.where(is_plain, n.below(plain)[:, 0], plain + n.below(total - plain)[:, 0])
            if name in ("hair", "beard"):
                colour = hair[:, None].expand(-1, 3, -1) * n.uniform(0.8, 1.1)[..., None]
                pattern = n.below(plain)[:, 0]
            elif name in ("eyes", "glasses"):
                colour = torch.full_like(colour, 0.02)
            elif name == "soles":
                bright = torch.where(n.chance(0.6), n.uniform(0.5, 0.85), n.uniform(0.01, 0.2))
                colour = bright[..., None].expand_as(colour)
                pattern = n.below(plain)[:, 0]
            per_metre = (1.6 - 1.4 * n.uniform()).exp()  # tiles of 20 to 80 cm
            rotation = torch.where(n.chance(0.15), n.uniform(0, 2 * math.pi), 0.0)
            cosine, sine = rotation.cos() * per_metre, rotation.sin() * per_metre
            layouts.append(torch.cat([cosine, sine, -sine, cosine, n.uniform(), n.uniform()], 1))
            colours.append(colour)
            patterns.append(pattern)
        stacked = []
        for values in (colours, layouts, patterns):
            hood = clothes.hood.view(-1, *(1,) * (values[0].ndim - 1))  # a hood is of its garment's cloth
            values[INDEX["hat"]] = torch.where(hood, values[INDEX["upper"]], values[INDEX["hat"]])
            stacked.append(torch.stack([torch.zeros_like(values[0]), *values], 1))
        return stacked[0], stacked[1], stacked[2]

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.as_tensor(values, dtype=torch.float32, device=self.device)


def load_panoramas(split: Split = "train") -> Tensor:
    """The split's panoramas as linear RGB (N,512,1024,3) float32: rows from zenith to nadir."""
    _check_split(split)
    parts = [_arrays(f"synthetic/panoramas-{number}of2.npz") for number in (1, 2)]
    names = np.concatenate([part["names"] for part in parts])
    chosen = _in_split(names, TEST_PANORAMAS, split)
    rgbe = np.concatenate([part["rgbe"] for part in parts])[chosen]
    scale = np.ldexp(np.float32(1), rgbe[..., 3:].astype(np.int32) - 136) * (rgbe[..., 3:] > 0)
    return torch.as_tensor(rgbe[..., :3] * scale.astype(np.float32))


@lru_cache(2)
def _bank(count: int, seed: int) -> np.ndarray:
    """`pattern_bank` with the photographs that ship, drawn once a process (11 MB for training)."""
    materials = _arrays("synthetic/materials.npz")
    photographs = np.stack([_image(materials, i).mean(-1) for i in range(len(materials["names"]))])
    return pattern_bank(count, seed, photographs)


def _check_split(split: str) -> None:
    if split not in ("train", "test", "all"):
        raise UsageError(f"expected split train, test or all, got {split!r}; choose one of them")


def _in_split(names: np.ndarray, held_out: tuple[str, ...], split: str) -> list[int]:
    """Indices of the names that the split shows."""
    wanted = {"train": (False,), "test": (True,), "all": (False, True)}[split]
    return [i for i, name in enumerate(names.tolist()) if (name in held_out) in wanted]


def _arrays(name: str) -> dict[str, np.ndarray]:
    verify(name)
    with np.load(find_weights(name), allow_pickle=False) as file:
        return dict(file)


def _image(packed: dict[str, np.ndarray], index: int, size: int | None = None) -> np.ndarray:
    """Image (H,W,3) uint8 number `index` of a file made by `hmrkit.training.make_wardrobe.packing`."""
    start, end = packed["starts"][index : index + 2]
    image = Image.open(io.BytesIO(packed["jpeg"][start:end].tobytes())).convert("RGB")
    return np.asarray(image if size is None else image.resize((size, size), Image.Resampling.BOX))


def _linear_root(srgb: np.ndarray) -> np.ndarray:
    """sRGB bytes -> bytes whose square is linear: exact enough, and decoded by one multiplication."""
    return (np.sqrt(linear(np.arange(256) / 255)) * 255).round().astype(np.uint8)[srgb]
