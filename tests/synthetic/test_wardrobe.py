"""The wardrobe: repeatable, split cleanly, clothes where clothes belong, and every asset read as it was written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from hmrkit.body import load_body
from hmrkit.errors import InputError, UsageError
from hmrkit.synthetic import wardrobe as module
from hmrkit.synthetic.clothes import INDEX, LAYERS, NOWHERE
from hmrkit.synthetic.wardrobe import Wardrobe, load_panoramas
from hmrkit.training.make_wardrobe.garments import cast
from hmrkit.training.make_wardrobe.packing import read_rgbe
from hmrkit.training.make_wardrobe.surface import nearest_on_mesh
from hmrkit.weights import shipped_folder


@pytest.fixture(scope="module")
def wardrobe() -> Wardrobe:
    return Wardrobe("test")


@pytest.fixture(scope="module")
def train_wardrobe() -> Wardrobe:
    return Wardrobe("train")


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def places(wardrobe: Wardrobe, bodies: int, count: int = 4000) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    random = seeded(5)
    mesh = torch.randint(bodies, (count,), generator=random)
    face = torch.randint(len(wardrobe.faces), (count,), generator=random)
    weight = torch.rand(count, 3, generator=random)
    return mesh, face, weight / weight.sum(1, keepdim=True)


def test_a_seed_is_an_outfit(wardrobe: Wardrobe) -> None:
    first, again, other = (wardrobe.dress(4, seeded(s)) for s in (1, 1, 2))
    where = places(wardrobe, 4)
    assert torch.equal(first.offsets, again.offsets)
    assert torch.equal(first.albedo(*where), again.albedo(*where))
    assert not torch.equal(first.albedo(*where), other.albedo(*where))


def test_albedo_is_per_place(wardrobe: Wardrobe) -> None:
    """The order of the fragments and what else is asked for changes nothing."""
    outfit = wardrobe.dress(6, seeded(3))
    mesh, face, weight = places(wardrobe, 6)
    whole = outfit.albedo(mesh, face, weight)
    order = torch.randperm(len(mesh), generator=seeded(0))[:500]
    assert torch.equal(outfit.albedo(mesh[order], face[order], weight[order]), whole[order])
    assert whole.shape == (len(mesh), 3)
    assert whole.dtype == torch.float32
    assert (whole >= 0).all()
    assert (whole <= 1).all()


def test_people_differ(train_wardrobe: Wardrobe) -> None:
    outfit = train_wardrobe.dress(64, seeded(0))
    mesh, face, weight = places(train_wardrobe, 64, 64000)
    colour = outfit.albedo(mesh, face, weight)
    mean = torch.zeros(64, 3).index_add_(0, mesh, colour) / torch.bincount(mesh, minlength=64)[:, None]
    assert (torch.pdist(mean) > 0.005).float().mean() > 0.95
    assert 0.05 < mean.mean() < 0.5  # dark clothes are common, white ones are not


def test_clothes_have_thickness_where_they_are(train_wardrobe: Wardrobe) -> None:
    """Noses and hands without gloves are bare and stay in place; nothing is thicker than a coat."""
    body = load_body()
    outfit = train_wardrobe.dress(200, seeded(0))
    fields = outfit._fields.view(200, body.num_vertices, len(LAYERS))
    assert (outfit.offsets >= 0).all()
    assert outfit.offsets.max() < 0.13
    covered = (fields > 0).any(-1)
    assert (outfit.offsets[~covered] == 0).all()
    assert 0.4 < covered.float().mean() < 0.95
    place = body.v_template
    bare_handed = (fields[..., INDEX["gloves"]] == NOWHERE).all(1)
    finger = place[:, 0].abs() > 0.75
    assert (~covered[bare_handed][:, finger]).all()
    nose = torch.linalg.vector_norm(place - torch.tensor([0.0, 0.655, 0.147]), dim=1) < 0.01
    assert (~covered[:, nose]).all()
    trunk = (place[:, 1] - 0.25).abs() < 0.1
    assert covered[:, trunk].float().mean() > 0.85


def test_bare_skin_shows_the_skin(wardrobe: Wardrobe) -> None:
    """A palm is the skin's colour times the person's tint, whatever is worn elsewhere."""
    outfit = wardrobe.dress(30, seeded(1))
    body = load_body()
    gloved = (outfit._fields.view(30, -1, len(LAYERS))[..., INDEX["gloves"]] > 0).any(1)
    finger_faces = (body.v_template[wardrobe.faces][..., 0].abs() > 0.75).all(1).nonzero()[:, 0]
    for person in (~gloved).nonzero()[:, 0].tolist()[:8]:
        face = finger_faces[:50]
        colour = outfit.albedo(torch.full_like(face, person), face, torch.full((50, 3), 1 / 3)).mean(0)
        assert colour[0] > colour[1] > colour[2]  # skin is reddish on every person


def test_splits_share_nothing(wardrobe: Wardrobe, train_wardrobe: Wardrobe) -> None:
    assert len(wardrobe.skin_names) == 3
    assert len(train_wardrobe.skin_names) == 11
    assert len(wardrobe.garment_names) == 4
    for names in ("skin_names", "garment_names"):
        assert not set(getattr(wardrobe, names)) & set(getattr(train_wardrobe, names))
    tiles = [
        {tile.numpy().tobytes() for tile in w.patterns.view(-1, 128 * 128 * 3)} for w in (wardrobe, train_wardrobe)
    ]
    assert not tiles[0] & tiles[1]
    colours = [{c.numpy().tobytes() for c in w._any} for w in (wardrobe, train_wardrobe)]
    assert not colours[0] & colours[1]


def test_panoramas() -> None:
    train, test = load_panoramas("train"), load_panoramas("test")
    assert train.shape == (9, 512, 1024, 3)
    assert test.shape == (3, 512, 1024, 3)
    for panorama in (*train, *test):
        assert panorama.isfinite().all()
        assert (panorama >= 0).all()
        assert panorama.max() > 2 * panorama.mean()  # high dynamic range: there is a light in it
    assert not any(torch.equal(a, b) for a in train for b in test)


def test_rgbe_round_trip(tmp_path: Path) -> None:
    """Runs and literals both, against bytes written by hand."""
    rows = np.random.default_rng(0).integers(0, 4, (3, 40, 4)).astype(np.uint8)
    rows[1] = 7
    data = b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 3 +X 40\n"
    for row in rows:
        data += bytes([2, 2, 0, 40])
        for channel in row.T:
            data += bytes([128 + 40, channel[0]]) if (channel == channel[0]).all() else bytes([40]) + channel.tobytes()
    path = tmp_path / "a.hdr"
    path.write_bytes(data)
    assert np.array_equal(read_rgbe(path), rows)
    path.write_bytes(data.replace(b"-Y", b"+Y"))
    with pytest.raises(InputError, match=r"expected a Radiance \.hdr"):
        read_rgbe(path)


def test_atlas_keeps_to_its_islands() -> None:
    """No face is stretched over a seam: texture per metre stays within what the skins have anywhere."""
    uv = np.load(shipped_folder() / "synthetic" / "atlas.npz")["uv"].astype(float)
    body = load_body()
    corners = body.v_template.numpy()[body.faces]
    stretch = np.linalg.norm(uv - np.roll(uv, 1, 1), axis=2) / np.linalg.norm(corners - np.roll(corners, 1, 1), axis=2)
    assert uv.min() >= 0
    assert uv.max() <= 1
    assert stretch.max() < 3  # the atlas is 1 wide: a face across a seam would have 10 and more


def test_nearest_on_mesh_is_nearest() -> None:
    random = np.random.default_rng(0)
    triangles, points = random.normal(size=(30, 3, 3)), random.normal(size=(50, 3)) * 2
    face, weight = nearest_on_mesh(points, triangles, candidates=30)
    found = np.linalg.norm(np.einsum("pk,pkc->pc", weight, triangles[face]) - points, axis=1)
    dense = random.dirichlet([1, 1, 1], 3000)
    sampled = np.einsum("sk,fkc->fsc", dense, triangles).reshape(-1, 3)
    brute = np.linalg.norm(points[:, None] - sampled[None], axis=2).min(1)
    assert (found <= brute + 1e-9).all()
    assert (brute - found < 0.2).all()


def test_unknown_split() -> None:
    for make in (Wardrobe, load_panoramas):
        with pytest.raises(UsageError, match="expected split train, test or all"):
            make("training")  # type: ignore[arg-type]


def test_assets_are_in_the_manifest() -> None:
    manifest = json.loads((shipped_folder() / "weights.json").read_text())
    for name in ("atlas", "skins", "materials", "garments", "panoramas-1of2", "panoramas-2of2"):
        entry = manifest[f"synthetic/{name}.npz"]
        assert {"sha256", "licence", "source", "summary"} <= set(entry)
    for names, held_out in (("skins", module.TEST_SKINS), ("garments", module.TEST_GARMENTS)):
        packed = np.load(shipped_folder() / "synthetic" / f"{names}.npz")["names"].tolist()
        assert set(held_out) <= set(packed)


def test_rays_meet_the_first_sheet_outside() -> None:
    """Of two planes above the body's the nearer one is the garment, whatever the triangles' order."""
    corners = [(x * 0.01, y * 0.01) for x in range(-10, 10) for y in range(-10, 10)]
    low = [[(x, y), (x + 0.01, y), (x, y + 0.01)] for x, y in corners]
    high = [[(x + 0.01, y + 0.01), (x + 0.01, y), (x, y + 0.01)] for x, y in corners]  # wound the other way
    plane = np.pad(np.array(low + high), ((0, 0), (0, 0), (0, 1)))
    near, far = np.array([0, 0, 0.02]), np.array([0, 0, 0.06])
    start = np.random.default_rng(0).uniform(-0.05, 0.05, (40, 3)) * [1, 1, 0]
    up = np.tile([0.0, 0.0, 1.0], (40, 1))
    for sheets in (np.concatenate([plane + near, plane + far]), np.concatenate([plane + far, plane + near])):
        length, face, weight = cast(start, up, sheets)
        assert length == pytest.approx(0.02)
        assert np.einsum("pk,pkc->pc", weight, sheets[face]) == pytest.approx(start + near)
        length, face, _ = cast(start + near * 250, up, sheets)  # 5 m away nothing is met
        assert np.isnan(length).all()
        assert (face == -1).all()
