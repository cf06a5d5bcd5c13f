"""Rendering as on a GPU: everything on its device, the CPU's numbers, and how often the host waits."""

import numpy as np
import pytest
import torch
from claimed_cuda import ClaimedCuda

from hmrkit.camera import assume_camera
from hmrkit.rendering.options import HEAT_MAX, STYLES, RenderOptions
from hmrkit.rendering.overlay import Overlay
from hmrkit.rendering.rasteriser import interpolate, rasterise
from hmrkit.rendering.styles import Figure

CAMERA = assume_camera(96, 72, focal_px=90.0)
# For a view of a batch: where people are, which of them are in a pass (2); in it faces that are towards the camera,
# rows, candidates, visible samples and their faces (5); the drawn images.
WAITS_PER_VIEW = 9


def _people(sphere, frames, style):
    """Two people in each frame, of whom the second comes nearer, with what the style needs."""
    ball, faces = sphere(2)
    rng = np.random.default_rng(0)
    joints = rng.normal(0, 0.3, (24, 3)).astype(np.float32)
    heat = rng.uniform(0, 2, len(ball)).astype(np.float32) if style in HEAT_MAX else None
    places = [np.array([[-0.3, 0.1, 3], [0.3, 0, 3 - 0.2 * k]], np.float32) for k in range(frames)]
    bodies = [[Figure(i, ball.numpy() * 0.3 + p, joints + p, heat) for i, p in enumerate(both, 1)] for both in places]
    return bodies, faces.numpy(), np.arange(len(ball)) % 24


@pytest.mark.parametrize("style", STYLES)
def test_an_overlay_on_cuda_is_that_of_the_cpu_and_the_host_waits_a_stated_number_of_times(sphere, style):
    drawn, waits = {}, 0
    for frames in (2, 4):
        people, faces, parts = _people(sphere, frames, style)
        options = RenderOptions(("overlay", "side"), style, what="rigid" if style == "misplacement" else "meshes")
        footage = np.full((frames, 72, 96, 3), 90, np.uint8)
        for device in ("cpu", "cuda:0"):
            with ClaimedCuda() as mode:
                overlay = Overlay(CAMERA, faces, 25, options, device, part_of_vertex=parts)
                drawn[device] = overlay.draw(footage, people, range(frames))
            waits = sum(mode.waits.values())
        assert waits <= 2 * WAITS_PER_VIEW, mode.waits
        np.testing.assert_array_equal(drawn["cuda:0"], drawn["cpu"])
        assert (drawn["cpu"][:, :, :96] != 90).mean() > 0.1


def test_dense_rasters_and_what_is_interpolated_stay_on_their_device(sphere):
    ball, faces = sphere(1)
    vertices, focal, center = (
        (ball + torch.tensor([0.2, 0.1, 2.5]))[None],
        torch.tensor([60.0, 55]),
        torch.tensor([31, 24.0]),
    )
    here = interpolate(vertices, faces, rasterise(vertices, faces, focal, center, (48, 64)))
    with ClaimedCuda():
        moved = [v.to("cuda:0") for v in (vertices, faces, focal, center)]
        there = interpolate(*moved[:2], rasterise(*moved, (48, 64)))
        assert there.device.type == "cuda"
        torch.testing.assert_close(there.cpu(), here, rtol=0, atol=0, equal_nan=True)


def test_a_constant_that_stays_on_the_cpu_shows():
    with ClaimedCuda(), pytest.raises(RuntimeError, match="tensors on the CPU among those on CUDA"):
        torch.zeros(3, device="cuda:0") + torch.ones(3)
