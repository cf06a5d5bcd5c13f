"""People by YOLOX: shrink whole batches on the device, run the network, decode, suppress overlapping boxes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from hmrkit.detectors import DETECTORS
from hmrkit.detectors.nms import suppress_overlaps
from hmrkit.detectors.yolox_net import STRIDES, YoloX, decode, fold_batch_norm, module_for
from hmrkit.device import inference
from hmrkit.engines import frozen
from hmrkit.errors import WeightsError
from hmrkit.files import sha256_of
from hmrkit.types import Detections
from hmrkit.weights import find_weights, load_into, load_state

SHIPPED = DETECTORS["yolox-nano"].weights[0]
PERSON = 0  # of COCO's 80 classes
PADDING = 114  # the grey that YOLOX was trained to see outside the image
# Boxes that overlap more (IoU) are one person. YOLOX tests with 0.65; there a person with raised arms can keep two
# boxes, one without the arms, and become two tracks.
OVERLAP = 0.55
# Longer side of what the network sees, px: half of the frame's within these bounds, never more than the frame's. The
# nano was trained at 416, but there it loses people of a fifth of the image's height that it finds at 640 and 832.
SMALLEST_SIZE, LARGEST_SIZE = 640, 832
SURE_HEIGHT = 48  # px of the network's input: people who are less high are missed in many frames


class YoloXDetector:
    """See `hmrkit.detectors.Detector`."""

    def __init__(
        self,
        weights: Path,
        name: str,
        device: torch.device,
        dtype: torch.dtype,
        size: int | None,
        score_threshold: float,
    ) -> None:
        self.name = name
        self.weights_sha256 = sha256_of(weights)
        self.size = size
        self.score_threshold = score_threshold
        self.device = device
        self.dtype = dtype
        self.run = frozen(load_network(weights).to(device, dtype))

    def __call__(self, frames: Tensor, frame_indices: Sequence[int]) -> list[Detections]:
        """Frames (B,H,W,3) uint8 RGB -> people, one entry a frame; boxes in px of the frame, clipped to it."""
        with inference(self.device):
            images, scale = letterbox(frames.to(self.device), self.size or default_size(*frames.shape[1:3]))
            images = images.to(self.dtype, memory_format=torch.channels_last)
            boxes, scores = decode(self.run(images).float(), *images.shape[-2:])
            # How many are left depends on the numbers: the CPU has them in less time than a GPU waits to be asked.
            found = torch.cat([boxes / scale, scores[..., :1]], -1).cpu()
            return self._people(found[..., :4], found[..., 4], frames.shape[1], frames.shape[2])

    def _people(self, boxes: Tensor, scores: Tensor, height: int, width: int) -> list[Detections]:
        """All cells' boxes (B,A,4) px and scores (B,A) -> Detections."""
        order = scores.argsort(-1, descending=True)[:, : int((scores > self.score_threshold).sum(-1).max())]
        scores = scores.gather(-1, order)
        boxes = boxes.gather(-2, order[..., None].expand(-1, -1, 4))
        keep = suppress_overlaps(boxes, OVERLAP) & (scores > self.score_threshold)
        boxes[..., 0::2].clamp_(0, width)
        boxes[..., 1::2].clamp_(0, height)
        boxes_np, scores_np, keep_np = (x.cpu().numpy() for x in (boxes, scores, keep))
        return [
            Detections(frame_boxes[kept], frame_scores[kept])
            for frame_boxes, frame_scores, kept in zip(boxes_np, scores_np, keep_np, strict=True)
        ]


def default_size(height: int, width: int) -> int:
    """Longer side in px, a multiple of the network's stride, that frames of this size are brought to."""
    longer = max(height, width)
    size = min(longer, max(SMALLEST_SIZE, min(longer // 2, LARGEST_SIZE)))
    return -(-size // STRIDES[-1]) * STRIDES[-1]


def letterbox(frames: Tensor, size: int) -> tuple[Tensor, float]:
    """Shrink or enlarge (B,H,W,3) uint8 RGB so that the longer side is `size` px, pad to the network's stride.

    Returns (B,3,h,w) BGR 0-255 and the factor from frame px to input px. YOLOX pads to a square; the network is
    convolutional, so that part of the padding is left out, which saves 40 % of the work on 16:9.
    """
    height, width = frames.shape[1:3]
    scale = size / max(height, width)
    shape = (max(1, round(height * scale)), max(1, round(width * scale)))
    images = frames.permute(0, 3, 1, 2)
    if frames.device.type != "cpu":
        images = images.float()  # only the CPU resizes bytes
    images = functional.interpolate(images, shape, mode="bilinear", align_corners=False, antialias=scale < 1)
    stride = STRIDES[-1]
    padding = (0, -shape[1] % stride, 0, -shape[0] % stride)
    return functional.pad(images[:, [2, 1, 0]].float(), padding, value=PADDING), scale


def load_network(weights: str | Path = SHIPPED) -> YoloX:
    """A checkpoint's network, ready for inference, which scores people alone. WeightsError where it is none."""
    weights = find_weights(weights)
    state = fold_batch_norm(load_state(weights))
    try:
        network = module_for(state)
    except KeyError as error:
        raise WeightsError(f"{weights}: expected a YOLOX checkpoint, but it has no {error}") from error
    load_into(network, state, weights)
    # Of the classes only people matter: the head's other 79 outputs are not computed.
    for layer in network.head.cls_preds:
        layer.weight.data = layer.weight.data[PERSON : PERSON + 1]  # type: ignore[union-attr]
        layer.bias.data = layer.bias.data[PERSON : PERSON + 1]  # type: ignore[union-attr]
    # Channels last is three times as fast as the default layout on a CPU, and what tensor cores want.
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def load(
    argument: str, *, device: torch.device, dtype: torch.dtype, size: int | None, score_threshold: float
) -> YoloXDetector:
    """`argument` is a checkpoint, or empty for the shipped nano."""
    weights = find_weights(argument or SHIPPED)
    name = f"yolox:{weights.name}" if argument else "yolox-nano"
    return YoloXDetector(weights, name, device, dtype, size, score_threshold)
