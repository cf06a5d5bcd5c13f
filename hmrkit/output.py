"""What a finished take is drawn as: an overlay video, images, a contact sheet."""

from __future__ import annotations

import contextlib
import copy
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hmrkit.body.posing import skeleton_joints
from hmrkit.calibration.target import TargetOptions
from hmrkit.device import one_thread
from hmrkit.errors import InputError, UsageError
from hmrkit.files import atomic_path
from hmrkit.meshes import mesh_slice
from hmrkit.models import Models
from hmrkit.pipeline import Progress, calibrate, require_stage
from hmrkit.skeletons import SMPL_24
from hmrkit.types import Take
from hmrkit.untrusted.limits import frames_in_flight

if TYPE_CHECKING:
    from hmrkit.rendering.options import RenderOptions
    from hmrkit.rendering.styles import Figure


log = logging.getLogger(__name__)
IUV_METHOD = "danet"  # the regressor that estimates IUV maps


def render_take(
    take: Take,
    path: Path,
    sheet_path: Path | None,
    models: Models,
    progress: Progress,
    options: RenderOptions | None = None,
) -> list[Path]:
    """Draw the final meshes as a video, or a folder of PNG where `path` is no ``.mp4``, and as a contact sheet.

    The weights (`RenderOptions.what`) are one PNG. InputError where what is to be drawn is not in the take.
    """
    from hmrkit.rendering.comparison import Comparison
    from hmrkit.rendering.options import ONE_WAY, RenderOptions
    from hmrkit.rendering.overlay import Overlay, lay_out
    from hmrkit.rendering.painting import open_painter
    from hmrkit.rendering.sheet import ContactSheet
    from hmrkit.rendering.writer import open_writer

    options = options or RenderOptions()
    renderer = models.options.renderer
    if options.what in ONE_WAY and renderer != "auto":
        raise UsageError(f"--what {options.what} is drawn in one way; leave out --renderer {renderer}")
    if options.what == "iuv":
        return _render_iuv(take, path, sheet_path, models, progress, options)
    if options.what == "weights":
        return _render_weights(path, sheet_path, models, options)
    require_stage(take, "regress", models.options)
    if set(take.body) - set(take.calibrated) and (options.style == "residual" or options.what != "meshes"):
        wanted = "--style residual" if options.style == "residual" else f"--what {options.what}"
        raise InputError(f"{take.video.path}: {wanted} wants a calibrated take; run `hmrkit calibrate` first")
    versions = _versions(take, models, options.what)
    rows = {t.track_id: {int(f): row for row, f in enumerate(t.frame_indices)} for t in take.people_with_mesh()}
    parts = models.body.weights.argmax(1).cpu().numpy() if options.style == "parts" else None
    up = upright(take, models) if set(options.views) != {"overlay"} else None
    total, done = len(take.video.frame_indices), 0
    with contextlib.ExitStack() as stack:
        stack.enter_context(one_thread())  # drawing divides the images among threads, and another one encodes
        rate = _rate(take)
        image_width, _ = lay_out(options, take.camera, float(rate))
        pixels = total * len(versions) * image_width * take.camera.height
        painter = stack.enter_context(open_painter(renderer, models.device, pixels, options.surfaces))
        overlays = [
            Overlay(take.camera, take.faces, rate, options, models.device, up, parts, painter) for _ in versions
        ]
        comparison = Comparison(overlays, [title for title, _, _ in versions], stacked=len(options.views) > 1)
        writer = stack.enter_context(
            open_writer(path, *comparison.size, rate, options.alpha, _shift(take, options), _times(take))
        )
        tiles, columns, width = (12, 3, 800) if len(versions) == 1 else (12, 2, 1200)
        sheet = stack.enter_context(ContactSheet(sheet_path, total, tiles, columns, width)) if sheet_path else None
        at_once = frames_in_flight(models.batch_size, *comparison.size)  # images are as wide as their views together
        for indices, frames in _images(take, at_once, options.needs_footage):
            people: list[list[list[Figure]]] = [[[] for _ in indices] for _ in versions]
            for i, row in rows.items():
                here = [k for k, f in enumerate(indices) if f in row]
                if not here:
                    continue
                chosen = np.array([row[indices[k]] for k in here])
                figures = [_figures(source, i, chosen, using, options.style) for _, source, using in versions]
                if options.style == "misplacement":
                    figures = [_apart(of_version, figures[0]) for of_version in figures]
                for of_version, drawn_in in zip(figures, people, strict=True):
                    for k, figure in zip(here, of_version, strict=True):
                        drawn_in[k].append(figure)
            drawn = comparison.draw(frames, people, indices)
            for image, index in zip(drawn, indices, strict=True):
                writer.write(image, index)
            if sheet:
                sheet.add_batch(drawn[..., :3], indices)
            done += len(indices)
            progress("render", done, total)
    return [path] + ([sheet_path] if sheet_path else [])


def _versions(take: Take, models: Models, what: str) -> list[tuple[str, Take, Models]]:
    """What stands beside each other: a title, and the take and the models that give the version's meshes."""
    if what == "meshes":
        return [("", take, models)]
    if what == "compare":
        made = take.provenance.get("regress", {}).get("options", {})  # none where there is nobody
        title = f"mesh stream {str(made.get('mesh', '')).partition(':')[0]}, not calibrated"
        return [(title, replace(take, calibrated={}), models), ("calibrated (PC-HMR)", take, models)]
    if set(take.body) - set(take.lifted):
        raise InputError(f"{take.video.path}: --what rigid wants a lifted pose; run `hmrkit lift` first")
    # As a rule the target's bones are as long as the mesh's, and Delta is 0. The lifted pose's are not.
    stretched = replace(take, **calibrate(take, models, lambda *_: None, TargetOptions(keep_lengths=False)))
    rigid = copy.copy(models)  # the same body, and the same weights but for W
    rigid.calibration = replace(models.calibration, place=torch.zeros_like(models.calibration.place))
    return [
        ("calibrated to the lifted pose and its proportions", stretched, models),
        ("the same without the non-rigid term W Delta (eq. 12)", stretched, rigid),
    ]


def _apart(figures: Sequence[Figure], others: Sequence[Figure]) -> list[Figure]:
    """The figures with their vertices' distances from the same people's in `others`, mm, as their heat."""
    return [
        replace(figure, heat=np.linalg.norm(figure.vertices_c - other.vertices_c, axis=-1) * 1000)
        for figure, other in zip(figures, others, strict=True)
    ]


def _render_weights(path: Path, sheet_path: Path | None, models: Models, options: RenderOptions) -> list[Path]:
    """Draw A, W and A * W of the take's body as one image."""
    from hmrkit.rendering.calibration_weights import weights_image
    from hmrkit.rendering.options import BONES

    if path.suffix.lower() != ".png" or sheet_path:
        raise UsageError(f"--what weights is one image: wanted --out with a name that ends in .png, no --sheet: {path}")
    body, weights = models.body, models.calibration
    bones = [SMPL_24.index[name] - 1 for name in options.bones or BONES]
    rest = body()
    image = weights_image(
        rest.vertices[0], rest.joints[0], body.faces, weights.attachment, weights.place, bones, body.model_id
    )
    with atomic_path(path) as temporary:
        image.save(temporary, format="PNG")
    return [path]


def _render_iuv(
    take: Take, path: Path, sheet_path: Path | None, models: Models, progress: Progress, options: RenderOptions
) -> list[Path]:
    """Draw the IUV maps of every person's crops, as the network sees them before any body is made of them."""
    from hmrkit.crops import crop_batch
    from hmrkit.device import inference
    from hmrkit.regressors import load_regressor
    from hmrkit.regressors.stream import crops_of
    from hmrkit.rendering.iuv import iuv_layers, paint_layer
    from hmrkit.rendering.overlay import OPACITY
    from hmrkit.rendering.sheet import ContactSheet
    from hmrkit.rendering.writer import open_writer

    require_stage(take, "pose", models.options)
    checkpoint = models.options.checkpoint if models.options.mesh == IUV_METHOD else None
    regressor: Any = load_regressor(IUV_METHOD, checkpoint, device=models.device)
    people = [track for track in take.tracks if track.track_id in take.keypoints]
    crops = crops_of(take, people, regressor) if people else None
    size, total, done = regressor.input_size[0], len(take.video.frame_indices), 0
    with contextlib.ExitStack() as stack:
        writer = stack.enter_context(
            open_writer(
                path, take.video.width, take.video.height, _rate(take), False, _shift(take, options), _times(take)
            )
        )
        sheet = stack.enter_context(ContactSheet(sheet_path, frames=total)) if sheet_path else None
        for indices, frames in _images(take, models.batch_size, True):
            assert frames is not None
            drawn = frames.copy()
            rows = np.flatnonzero(np.isin(crops.frame, indices)) if crops else np.zeros(0, int)
            if crops and len(rows):
                at, maps = np.searchsorted(indices, crops.frame[rows]), crops.cameras.image_from_crop[rows]
                pixels = torch.from_numpy(frames).to(models.device)
                with inference(models.device):
                    cut = crop_batch(pixels, at, crops.region[rows], size, maps)
                    layers = iuv_layers(regressor.iuv_images(regressor.backbone(cut)))
                for k, layer, to_image in zip(at, layers, maps, strict=True):
                    paint_layer(drawn[k], layer, to_image, size, options.opacity or OPACITY)
            for image, index in zip(drawn, indices, strict=True):
                writer.write(image, index)
            if sheet:
                sheet.add_batch(drawn, indices)
            done += len(indices)
            progress("render", done, total)
    return [path] + ([sheet_path] if sheet_path else [])


def _images(take: Take, batch_size: int, footage: bool) -> Iterator[tuple[list[int], np.ndarray | None]]:
    """The take's frames in batches, with their images if those are wanted: else the clip need not even be there."""
    from hmrkit.video import read_frames

    if not footage:
        numbers = [int(f) for f in take.video.frame_indices]
        for start in range(0, len(numbers), batch_size):
            yield numbers[start : start + batch_size], None
        return
    for batch in read_frames(take.video, batch_size=batch_size):
        yield _with_gaps(batch.frame_indices, batch.frames, batch.failed, take)


def _figures(take: Take, track_id: int, rows: np.ndarray, models: Models, style: str) -> list[Figure]:
    """A person in some rows of their track, as a style draws them."""
    from hmrkit.camera import unzoomed
    from hmrkit.rendering.heat import refit_heat_mm, reprojection_heat
    from hmrkit.rendering.styles import Figure

    mesh, heat = mesh_slice(take, track_id, rows, models), None
    if style == "residual":
        heat = refit_heat_mm(mesh, take.calibrated[track_id].params, models.body, rows)
    elif style == "reprojection":
        person, points = unzoomed(take.camera, take.track(track_id), take.keypoints[track_id])
        heat = reprojection_heat(mesh, person, points, take.camera, models.body, rows)
    return [
        Figure(track_id, mesh.vertices_c[k], mesh.joints_c[k], None if heat is None else heat[k])
        for k in range(len(rows))
    ]


def _with_gaps(
    frame_indices: np.ndarray, frames: np.ndarray, failed: Sequence[int], take: Take
) -> tuple[list[int], np.ndarray]:
    """A batch with black images where frames could not be decoded, so that the overlay keeps the clip's time."""
    if not failed:
        return [int(f) for f in frame_indices], frames
    indices = sorted([*map(int, frame_indices), *failed])
    whole = np.zeros((len(indices), take.video.height, take.video.width, 3), np.uint8)
    whole[np.searchsorted(indices, frame_indices)] = frames
    return indices, whole


def upright(take: Take, models: Models) -> np.ndarray:
    """Direction (3,) against gravity in the camera frame, guessed from the people: the median of ankles to neck.

    Good enough to level an image. The image's own up where the guess is more than 50 degrees from it, or nobody is
    seen standing: then people lie or the camera does.
    """
    image_up = np.array([0.0, -1.0, 0.0])
    directions = []
    for i, params in take.body.items():
        done = take.calibrated.get(i)
        joints = done.joints_c if done else skeleton_joints(models.body, params)
        neck, ankles = joints[:, SMPL_24.index["neck"]], joints[:, SMPL_24.indices("left_ankle", "right_ankle")].mean(1)
        directions.append((neck - ankles) / np.linalg.norm(neck - ankles, axis=1, keepdims=True).clip(1e-6))
    if not directions:
        return image_up
    up = np.median(np.concatenate(directions), axis=0)
    up /= max(np.linalg.norm(up), 1e-6)
    return up if up @ image_up > np.cos(np.radians(50)) else image_up


def _rate(take: Take) -> Fraction | float:
    """Frames per second of the chosen frames: exact where the clip's rate is constant and only thinned out."""
    exact = take.video.fps / take.video.step
    return exact if abs(float(exact) / take.video.sampled_fps - 1) < 1e-3 else take.video.sampled_fps


def _times(take: Take) -> dict[int, float] | None:
    """Seconds of each chosen frame where the clip's rate varies."""
    video = take.video
    return dict(zip(video.frame_indices.tolist(), video.frame_times.tolist(), strict=True)) if video.variable else None


def _shift(take: Take, options: RenderOptions) -> int:
    """What the source's frame numbers are moved by in the names of a PNG sequence."""
    return 0 if options.first_frame is None else options.first_frame - take.video.first_number
