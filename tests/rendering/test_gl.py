"""OpenGL's images of a body in every view and style, far away, larger than a block, and through the commands."""

import numpy as np
import pytest
import torch
from films import TOYS, write_film
from in_process import hmrkit
from PIL import Image

from hmrkit.rendering import gl as gl_module
from hmrkit.rendering.gl import open_gl
from hmrkit.rendering.options import HEAT_MAX, STYLES, VIEWS, RenderOptions
from hmrkit.rendering.overlay import Overlay
from hmrkit.rendering.painting import check_renderer, paint_meshes
from hmrkit.rendering.styles import Figure
from hmrkit.types import Camera, Zoom


@pytest.fixture(scope="module")
def people(take, models):
    """Three frames of the made take's two people side by side, with some heat."""
    body = models.body
    figures = []
    for track_id, params in take.body.items():
        chosen = params.global_orient[:3], params.body_pose[:3], params.betas, params.transl_c[:3]
        with torch.inference_mode():
            mesh = body(*(torch.from_numpy(np.asarray(v)) for v in chosen))
        heat = np.linspace(0, 20, mesh.vertices.shape[1]).astype(np.float32)
        here = zip(mesh.vertices.numpy(), mesh.joints.numpy(), strict=True)
        figures.append([Figure(track_id, vertices, joints, heat) for vertices, joints in here])
    return [list(both) for both in zip(*figures, strict=True)]


def _drawn(people, models, painter, camera, view, style):
    options = RenderOptions(
        (view,), style, opacity=0.7, labels=False, what="rigid" if style == "misplacement" else "meshes"
    )
    if style not in HEAT_MAX:
        people = [[Figure(f.track_id, f.vertices_c, f.joints_c) for f in here] for here in people]
    parts = models.body.weights.argmax(1).numpy()
    frames = np.random.default_rng(0).integers(0, 255, (len(people), camera.height, camera.width, 3), np.uint8)
    overlay = Overlay(camera, models.body.faces, 25, options, "cpu", np.array([0.1, -1, 0.1]), parts, painter)
    empty = Overlay(camera, models.body.faces, 25, options, "cpu", np.array([0.1, -1, 0.1]), parts)
    drawn = overlay.draw(frames, people, range(len(people)))
    return drawn, empty.draw(frames, [[] for _ in people], range(len(people)), followed=people)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("style", STYLES)
def test_a_body_looks_as_pytorch_draws_it(people, models, gl, view, style):
    zoom = Zoom(np.arange(len(people)), np.linspace(1, 1.4, len(people)).astype(np.float32))
    camera = Camera(np.array([330, 320], np.float32), np.array([160.4, 118.7], np.float32), 320, 240, zoom=zoom)
    wanted, behind = _drawn(people, models, None, camera, view, style)
    drawn, _ = _drawn(people, models, gl, camera, view, style)
    covered, seen = ((image != behind).any(-1) for image in (wanted, drawn))
    assert covered.mean() > 0.01
    gap = np.abs(drawn.astype(int) - wanted)
    assert (covered != seen).sum() <= 2 + 1e-3 * covered.sum()
    assert gap.mean() < 0.05
    # Of a wireframe's small triangles samples at the border of a line count, elsewhere outlines through a sample.
    assert (gap.max(-1) > 2).sum() <= (0.02 if style == "wireframe" else 2e-4) * covered.sum()


def test_one_millimetre_is_seen_sixty_metres_away(sphere, gl):
    ball, faces = sphere(4)
    shells = torch.stack([ball, ball * 0.999]) + torch.tensor([0, 0, 60.0])
    colours = torch.stack([torch.zeros_like(ball), torch.ones_like(ball)])
    focal, center = torch.full((2, 2), 2400.0), torch.full((2, 2), 50.0)
    for order in ([0, 1], [1, 0]):
        images = np.full((1, 100, 100, 3), 255, np.uint8)
        given = shells[order], colours[order], faces, focal, center
        paint_meshes(images, np.array([[0, 0, 0, 100, 100]]), np.zeros(2, int), *given, 1.0, painter=gl)
        inside = np.hypot(*np.mgrid[-49.5:50, -49.5:50]) < 35
        assert images[0, inside].max() == 0


def test_of_two_in_one_place_the_first_is_seen(sphere, gl):
    ball, faces = sphere(2)
    both = (ball + torch.tensor([0, 0, 3.0])).expand(2, -1, -1)
    colours = torch.stack([torch.zeros_like(ball), torch.ones_like(ball)])
    lens = torch.full((2, 2), 60.0), torch.full((2, 2), 20.0)
    for given, wanted in ((colours, 0), (colours.flip(0), 255)):
        images = np.full((1, 40, 40, 3), 99, np.uint8)
        paint_meshes(
            images, np.array([[0, 0, 0, 40, 40]]), np.zeros(2, int), both, given, faces, *lens, 1.0, painter=gl
        )
        assert (images[0, 10:30, 10:30] == wanted).all()


def test_images_larger_than_a_block_have_no_seams(sphere, gl):
    ball, faces = sphere(4)
    vertices = ball[None] * torch.tensor([1.0, 0.1, 1.0]) + torch.tensor([0.0, 0.0, 4.0])
    colours = torch.rand(vertices.shape, generator=torch.Generator().manual_seed(0))
    focal, center = torch.full((1, 2), 4000.0), torch.tensor([[1100.3, 110.8]])
    width = gl_module.BLOCK + 150
    drawn = {}
    for painter in (None, gl):
        images = np.zeros((1, 220, width, 3), np.uint8)
        tiles = np.array([[0, 0, 0, width, 220]])
        paint_meshes(images, tiles, np.zeros(1, int), vertices, colours, faces, focal, center, 1.0, painter=painter)
        drawn[painter] = images[0].astype(int)
    assert (drawn[gl][:, gl_module.BLOCK - 40 :].max(-1) > 0).mean() > 0.1
    assert (np.abs(drawn[gl] - drawn[None]) > 1).mean() < 1e-4


def test_contexts_stand_beside_one_another_and_nobody_is_drawn_as_nothing(sphere, gl):
    ball, faces = sphere(2)
    vertices, colours = (ball * 0.5 + torch.tensor([0, 0, 3.0]))[None], torch.ones(1, len(ball), 3)
    lens = torch.full((1, 2), 40.0), torch.full((1, 2), 20.0)
    drawn = []
    with open_gl() as other:
        for painter in (gl, other, gl):
            images = np.zeros((1, 40, 40, 3), np.uint8)
            tiles, tile_of = np.array([[0, 0, 0, 40, 40]]), np.zeros(1, int)
            paint_meshes(images, tiles, tile_of, vertices, colours, faces, *lens, 1.0, painter=painter)
            drawn.append(images)
    assert drawn[0].max() == 255
    assert all(np.array_equal(image, drawn[0]) for image in drawn)
    images = np.full((1, 40, 40, 3), 9, np.uint8)
    paint_meshes(images, tiles, tile_of, -vertices, colours, faces, *lens, 1.0, painter=gl)
    assert (images == 9).all()


def test_commands_draw_by_it(gl, tmp_path):
    films = [write_film(tmp_path / name, 3, size) for name, size in (("a.mp4", (96, 128)), ("b.mp4", (220, 180)))]
    out = tmp_path / "out"
    result = hmrkit("run", *films, "--out", out, "--method", "toy", "--render", "o.mp4", "--renderer", "gl", *TOYS)
    assert result.returncode == 0, result.stderr
    assert (out / "a/o.mp4").stat().st_size
    assert (out / "b/o.mp4").stat().st_size
    images = {}
    for renderer in ("gl", "torch"):
        folder = tmp_path / renderer
        result = hmrkit("render", out / "a/take.npz", "-o", folder, "--renderer", renderer, "--device", "cpu")
        assert result.returncode == 0, result.stderr
        images[renderer] = np.stack([np.asarray(Image.open(p)) for p in sorted(folder.iterdir())]).astype(int)
    assert len(images["gl"]) == 3
    assert (np.abs(images["gl"] - images["torch"]) > 1).mean() < 1e-4


def test_a_run_says_before_its_first_stage_that_it_cannot_draw(monkeypatch, tmp_path):
    pytest.importorskip("moderngl")
    check_renderer.cache_clear()
    monkeypatch.setenv("GLCONTEXT_DEVICE_INDEX", "99")
    film = write_film(tmp_path / "a.mp4", frames=2)
    out = tmp_path / "out"
    result = hmrkit("run", film, "--out", out, "--method", "toy", "--render", "o.mp4", "--renderer", "gl", *TOYS)
    assert result.returncode == 1
    assert "--renderer gl wants OpenGL 3.3 by EGL" in result.stderr
    assert not (out / "a").exists()
    result = hmrkit("run", film, "--out", out, "--renderer", "vulkan", *TOYS)
    assert result.returncode == 2
    assert "unknown renderer 'vulkan'; choose one of auto, torch, compiled, gl" in result.stderr


def test_what_is_drawn_in_one_way_has_no_renderer(tmp_path):
    out = tmp_path / "w.png"
    film = write_film(tmp_path / "a.mp4", frames=2)
    hmrkit("run", film, "--out", tmp_path, "--method", "toy", *TOYS)
    result = hmrkit("render", tmp_path / "a/take.npz", "-o", out, "--what", "weights", "--renderer", "torch")
    assert result.returncode == 2
    assert "leave out --renderer torch" in result.stderr
