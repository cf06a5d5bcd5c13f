"""Where a recipe's batches come from: kept examples or new ones, some of them held out.

Images, and what the embedded backbone predicts for them where a regressor needs no more than points."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from hmrkit.backbones import Backbone, Landmarks
from hmrkit.backbones.embedded import EmbeddedBackbone, PointEstimates
from hmrkit.body import Body
from hmrkit.errors import UsageError
from hmrkit.training.examples import (
    Examples,
    Truth,
    concatenate,
    fresh_examples,
    from_named_tensors,
    select_rows,
    to_device,
)
from hmrkit.training.integral_head import points_of
from hmrkit.training.kept_examples import KeptExamples, load_examples, make_examples, tuned_points
from hmrkit.training.keypoint_noise import LandmarkNoise, true_points

# Images that no part is trained on: on new images the backbone errs as on them.
NOISE_POOL = 2048
STATISTICS_COUNT = 1024
FEWEST_IMAGES = 8  # some are held out
_AT_ONCE = 4096


@dataclass(frozen=True)
class ImageData:
    """The images of a recipe. `images` are made once and kept; 0 makes new ones for every step. A step has `batch` of
    them, and where the recipe uses synthetic landmarks `synthetic` times as many people without images. `held_out`
    images are scored. `keep_pyramid` also keeps the backbone's map at stride 4 (0.5 MB an image, not 0.13)."""

    images: int = 0
    batch: int = 96
    synthetic: int = 1
    held_out: int = 1024
    keep_pyramid: bool = False


class ExampleSource:
    """Batches of training examples: kept ones, or new ones each time. Some kept ones are held out (`held_out_pool`)."""

    def __init__(self, backbone: Backbone, folder: Path, data: ImageData, device: torch.device) -> None:
        self.backbone, self.data, self.device = backbone, data, device
        self.kept: KeptExamples | None = None
        if 0 < data.images < FEWEST_IMAGES:
            raise UsageError(f"--images must be 0 or at least {FEWEST_IMAGES}, got {data.images}")
        if data.images:
            make_examples(folder, data.images, backbone, device, keep_pyramid=data.keep_pyramid)
            self.kept = KeptExamples(folder, data.images, backbone, data.keep_pyramid)
            self.learned = data.images - min(NOISE_POOL, data.images // 4)
        else:
            from hmrkit.synthetic.images import SyntheticImages

            self.images = SyntheticImages("train", device=device)

    def __call__(self, generator: torch.Generator) -> Examples:
        """A batch on the device, in float32."""
        if self.kept is None:
            return fresh_examples(self.backbone, self.images, self.data.batch, generator)
        rows = torch.randint(self.learned, (self.data.batch,), generator=generator)
        return self.kept[rows].to(self.device)

    def tune(self) -> None:
        """To be called once nothing of the backbone is trained any more: kept examples are then run through all of it,
        once (`KeptExamples.tune`)."""
        if self.kept is not None and isinstance(self.backbone, EmbeddedBackbone):
            self.kept.tune()

    def statistics(self) -> Iterator[Examples]:
        """`STATISTICS_COUNT` examples or a few more to measure statistics on."""
        return self._some(STATISTICS_COUNT)

    def _some(self, count: int) -> Iterator[Examples]:
        generator = torch.Generator().manual_seed(-count)
        return (self(generator) for _ in range(-(-count // self.data.batch)))

    def held_out_pool(self) -> Iterator[Examples]:
        """Examples that no part learns from, in batches on any device."""
        if self.kept is not None:
            return self.kept.parts(slice(self.learned, None))
        return self._some(NOISE_POOL)


def held_out_folder(out: Path, examples: str | Path | None) -> Path:
    """Where held-out examples are kept: with those that were kept before, else beside a run's own."""
    return (Path(examples) if examples else out) / "held_out"


def held_out_examples(backbone: Backbone, folder: Path, data: ImageData, device: torch.device) -> Examples:
    """Examples of held-out poses, skins, garments and panoramas, to score on."""
    count = min(data.held_out, data.images or data.held_out)
    make_examples(folder, count, backbone, device, "test", keep_pyramid=data.keep_pyramid)
    return load_examples(folder, count, backbone, data.keep_pyramid)


@dataclass(frozen=True)
class PointBatch:
    """What the embedded backbone predicts for N images, the truth, and what it would predict without errors."""

    predicted: PointEstimates
    truth: Truth
    true: PointEstimates

    @staticmethod
    def of(backbone: EmbeddedBackbone, examples: Examples, body: Body) -> PointBatch:
        """Of examples on any device, on the body's device, which is the backbone's."""
        tuned = examples.observation.tuned
        points = tuned.points if tuned else points_of(backbone.integral, examples.observation)
        return PointBatch.of_points(PointEstimates(examples.observation.landmarks, points), examples.truth, body)

    @staticmethod
    def of_points(predicted: PointEstimates, truth: Truth, body: Body) -> PointBatch:
        """Of what was predicted for examples whose truth this is."""
        predicted, truth = to_device(predicted, body.device), to_device(truth, body.device)
        return PointBatch(predicted, truth, true_points(truth, body))


def point_batches(
    source: ExampleSource, backbone: EmbeddedBackbone, body: Body
) -> Callable[[torch.Generator], PointBatch]:
    """Draws batches whose points come from a frozen integral head; for kept examples they are predicted once
    (`ExampleSource.tune`)."""
    if source.kept is None:
        return lambda generator: PointBatch.of(backbone, source(generator), body)
    columns = source.kept.without_maps(source.learned)
    landmarks = Landmarks(columns["points_2d"], columns["world"])
    predicted = PointEstimates(landmarks, tuned_points(columns))
    truth, batch = from_named_tensors(Truth, columns), source.data.batch
    parts = (slice(start, start + _AT_ONCE) for start in range(0, source.learned, _AT_ONCE))
    kept = concatenate([PointBatch.of_points(select_rows(predicted, p), select_rows(truth, p), body) for p in parts])
    return lambda generator: select_rows(kept, torch.randint(source.learned, (batch,), generator=generator))


def measured_noise(source: ExampleSource, backbone: EmbeddedBackbone, body: Body) -> LandmarkNoise:
    """How the backbone errs on images that no part has learned from."""
    pool = concatenate([PointBatch.of(backbone, examples, body) for examples in source.held_out_pool()])
    return LandmarkNoise(pool.predicted, pool.true)
