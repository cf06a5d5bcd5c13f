"""A sheet of the frames in which a method is most wrong: the image, cut about the person, with the mesh over it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from hmrkit.body import Body
from hmrkit.datasets import EvalSequence
from hmrkit.evaluation.predicting import camera_of, true_box
from hmrkit.evaluation.runner import Evaluation
from hmrkit.evaluation.score_files import read_scores
from hmrkit.evaluation.sequence_images import image_of
from hmrkit.evaluation.subsets import limited
from hmrkit.evaluation.tables import HEADINGS
from hmrkit.files import atomic_path
from hmrkit.models import Models
from hmrkit.rendering.shading import draw_meshes, shade, vertex_normals
from hmrkit.rendering.sheet import BACKGROUND, TEXT

TILE = 320
APART = 10  # frames of one person between two tiles: neighbours fail alike
COLOUR = (0.35, 0.62, 0.95)


@dataclass(frozen=True)
class Worst:
    """A frame of a person with a large error."""

    sequence: str
    person: int
    row: int
    error: float
    rotations: np.ndarray
    betas: np.ndarray
    transl_c: np.ndarray


def worst_frames(files: dict[str, Path], metric: str, count: int = 12) -> list[Worst]:
    """The frames with the largest values of `metric`, not next to one another."""
    found: list[Worst] = []
    for name, path in files.items():
        manifest, people = read_scores(path)
        apart = 1 if manifest["stills"] else APART
        for k, person in enumerate(people):
            if metric not in person or "rotations" not in person:
                continue
            values, taken = person[metric], []
            for row in np.argsort(-np.nan_to_num(values, nan=-np.inf)):
                if len(taken) == count or not np.isfinite(values[row]):
                    break
                if all(abs(person["frame_indices"][row] - person["frame_indices"][r]) >= apart for r in taken):
                    taken.append(row)
                    params = (person[key][row] for key in ("rotations", "betas", "transl_c"))
                    found.append(Worst(name, k, int(row), float(values[row]), *params))
    return sorted(found, key=lambda w: -w.error)[:count]


def write_sheets(evaluation: Evaluation, out: Path, limit: int | None = None, count: int = 12) -> list[Path]:
    """``worst_METHOD.png`` of every method in `out`; none where the images are not there."""
    metric = evaluation.protocol.metrics[0]
    worst = {label: worst_frames(files, metric, count) for label, files in evaluation.files.items()}
    wanted = {w.sequence for rows in worst.values() for w in rows}
    tiles: dict[str, dict[int, Image.Image]] = {label: {} for label in worst}
    for sequence in limited(evaluation.dataset.sequences(), limit) if wanted else ():
        if sequence.name not in wanted or sequence.frames is None:
            continue
        for label, rows in worst.items():
            for k, w in enumerate(rows):
                if w.sequence == sequence.name:
                    tiles[label][k] = _tile(sequence, w, evaluation.models[label], HEADINGS.get(metric, metric))
    return [_sheet(out / f"worst_{_slug(label)}.png", made) for label, made in tiles.items() if made]


def _slug(label: str) -> str:
    return "".join(c if c.isalnum() or c in "-." else "_" for c in label).strip("_")


def _tile(sequence: EvalSequence, worst: Worst, models: Models, heading: str) -> Image.Image:
    truth = sequence.people[worst.person]
    frame = int(truth.frame_indices[worst.row])
    image = image_of(sequence, frame)
    box = true_box(truth, worst.row)
    if not np.isfinite(box).all():
        box = np.array([0, 0, image.shape[1], image.shape[0]], np.float32)
    side = 1.4 * float(max(box[2] - box[0], box[3] - box[1]))
    corner = box.reshape(2, 2).mean(0) - side / 2
    scale = TILE / side
    (x0, y0), (x1, y1) = np.round(corner), np.round(corner + side)
    tile = Image.fromarray(image).crop((x0, y0, x1, y1)).resize((TILE, TILE), Image.Resampling.BILINEAR)
    camera = camera_of(sequence, frame, image.shape[1], image.shape[0], models)
    drawn = _mesh(models.body, worst, camera.focal_px * scale, (camera.center_px - np.round(corner)) * scale)
    both = Image.new("RGB", (2 * TILE, TILE + 22), BACKGROUND)
    both.paste(tile, (0, 22))
    over = np.asarray(tile, np.float32) / 255 * (1 - 0.85 * drawn[..., 3:]) + 0.85 * drawn[..., :3]
    both.paste(Image.fromarray((over.clip(0, 1) * 255).astype(np.uint8)), (TILE, 22))
    text = f"{sequence.name} {truth.person}, frame {frame}: {heading} {worst.error:.0f}"
    ImageDraw.Draw(both).text((4, 2), text, TEXT, ImageFont.load_default(15))
    return both


def _mesh(body: Body, worst: Worst, focal_px: np.ndarray, center_px: np.ndarray) -> np.ndarray:
    """Shaded mesh (TILE,TILE,4), colour times coverage and coverage."""
    with torch.inference_mode():
        rotations = torch.from_numpy(worst.rotations[None])
        vertices = body(rotations[:, 0], rotations[:, 1:], worst.betas[None], worst.transl_c[None]).vertices.cpu()
        faces = torch.from_numpy(body.faces.astype(np.int64))
        colours = shade(vertices, vertex_normals(vertices, faces), torch.tensor([COLOUR]))
        focal, center = (torch.from_numpy(np.asarray(x, np.float32))[None] for x in (focal_px, center_px))
        drawn = draw_meshes(vertices, colours, faces, focal, center, (TILE, TILE), torch.zeros(1, dtype=torch.int64), 1)
    return drawn[0].numpy()


def _sheet(path: Path, tiles: dict[int, Image.Image]) -> Path:
    ordered = [tiles[k] for k in sorted(tiles)]
    columns, gap = 3, 8
    width, height = ordered[0].size
    rows = -(-len(ordered) // columns)
    sheet = Image.new("RGB", (columns * (width + gap) + gap, rows * (height + gap) + gap), BACKGROUND)
    for k, tile in enumerate(ordered):
        sheet.paste(tile, (gap + k % columns * (width + gap), gap + k // columns * (height + gap)))
    with atomic_path(path) as temporary:
        sheet.save(temporary, format="PNG")
    return path
