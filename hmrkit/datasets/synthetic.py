"""Rendered people that everybody can make again from what ships: the test split of `hmrkit.synthetic.images`.

Images are rendered into ``--data`` (by default into the results' folder) when they are first needed, in batches of
16, each with a seed of its own: batch k is the same whatever is rendered before it. Poses, clothes and panoramas of the
test split are not used in training. The subset ``standing`` shows people who stand upright, with arms as people hold
them (`hmrkit.synthetic.everyday`)."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hmrkit.datasets import BodyTruth, DatasetOptions, EvalSequence, GroundTruth
from hmrkit.errors import InputError, UsageError
from hmrkit.files import atomic_path
from hmrkit.skeletons import SMPL_24, Skeleton
from hmrkit.take import code_version
from hmrkit.types import Camera
from hmrkit.untrusted.arrays import load_arrays

log = logging.getLogger(__name__)

BATCH = 16
COUNT = 384
STANDING = "standing"
SEED = 20260000  # of batch 0; batch k has SEED + k
_ARRAYS = (
    "joints_c", "keypoints_c", "keypoints_2d", "keypoints_visible", "global_orient", "body_pose", "betas", "transl_c",
    "focal_px", "boxes_xyxy",
)  # fmt: skip


class Synthetic:
    """See `hmrkit.datasets.Dataset`."""

    default_protocol = "body"

    def __init__(self, name: str, root: Path | None, options: DatasetOptions) -> None:
        if options.split not in ("", "test") or options.subset not in ("", STANDING) or options.frame_list:
            raise UsageError(f"dataset synthetic has the split test, the subset {STANDING} and no lists of frames")
        unknown = set(options.settings) - {"count", "seed"}
        if unknown:
            raise UsageError(f"dataset synthetic has the options count and seed, not {', '.join(sorted(unknown))}")
        try:
            self.count, self.seed = (int(options.settings.get(k, d)) for k, d in (("count", COUNT), ("seed", SEED)))
        except ValueError:
            raise UsageError("dataset synthetic: count and seed are whole numbers") from None
        if self.count < 1:
            raise UsageError("dataset synthetic: count must be 1 or more")
        self.name, self.root, self.standing = name, root, bool(options.subset)

    def check(self) -> None:
        """Nothing has to be there; InputError where images cannot be written."""
        if self.root is None:
            raise InputError("dataset synthetic: say with --data where its images go")

    def sequences(self) -> Iterator[EvalSequence]:
        """Sequences of 16 stills, each the crop of one person."""
        for k in range(-(-self.count // BATCH)):
            yield self._batch(k, min(BATCH, self.count - k * BATCH))

    def _batch(self, k: int, count: int) -> EvalSequence:
        assert self.root is not None
        name = f"batch_{k:04d}"
        folder = self.root / f"{STANDING + '_' if self.standing else ''}seed_{self.seed + k}"
        facts = self._facts(folder, self.seed + k)
        if facts is None:
            facts = render_batch(folder, self.seed + k, self.standing)
        facts = {key: values[:count] for key, values in facts.items()}
        focal = facts["focal_px"]
        middle = np.array([128.0, 128.0], np.float32)
        cameras = tuple(Camera(np.array([f, f], np.float32), middle, 256, 256, "given") for f in focal)
        seen = np.where(facts["keypoints_visible"], 2.0, 1.0)
        names = tuple(str(n) for n in facts["keypoint_names"][0])
        truth = GroundTruth(
            person="person",
            frame_indices=np.arange(count),
            valid=np.asarray(np.isfinite(facts["boxes_xyxy"]).all(-1)),
            boxes_xyxy=facts["boxes_xyxy"],
            joints_c=facts["joints_c"],
            skeleton=SMPL_24,
            keypoints_2d=np.concatenate([facts["keypoints_2d"], seen[..., None]], -1).astype(np.float32),
            keypoint_skeleton=Skeleton("hmrkit-keypoints", names),
            body=BodyTruth(
                facts["global_orient"], facts["body_pose"], facts["betas"], facts["transl_c"], "neutral", "hmrkit"
            ),
        )
        images = tuple(folder / f"{i:02d}.png" for i in range(count))
        return EvalSequence(name, images, count, (truth,), cameras, stills=True, cropped=True)

    def _facts(self, folder: Path, seed: int) -> dict[str, np.ndarray] | None:
        """What is known of a batch that was rendered before by this very code; None: it has to be rendered."""
        path = folder / "truth.npz"
        if not path.is_file():
            return None
        facts = load_arrays(path)
        return facts if str(facts.pop("code")) == code_version() else None


def render_batch(folder: Path, seed: int, standing: bool = False) -> dict[str, np.ndarray]:
    """Render the 16 images of a seed into `folder`, of people who stand upright where `standing`.

    Returns what is known of them, arrays of 16.
    """
    import torch
    from PIL import Image

    from hmrkit.body import load_body
    from hmrkit.synthetic.images import SyntheticImages
    from hmrkit.synthetic.poses import PoseSampler

    poses = PoseSampler("test", everyday=1.0) if standing else None
    samples = SyntheticImages("test", poses=poses)(BATCH, torch.Generator().manual_seed(seed))
    facts = {key: getattr(samples, key).cpu().numpy() for key in _ARRAYS if key != "boxes_xyxy"}
    facts = {key: v if v.dtype == bool else v.astype(np.float32) for key, v in facts.items()}
    facts["boxes_xyxy"] = _boxes(samples.mask.cpu().numpy(), facts["keypoints_2d"])
    facts["keypoint_names"] = np.tile(np.array(load_body().keypoint_names), (BATCH, 1))
    images = (samples.images.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        with atomic_path(folder / f"{i:02d}.png") as temporary:
            Image.fromarray(image).save(temporary, format="PNG", compress_level=1)
    log.debug("seed %d: images' sha256 %s", seed, hashlib.sha256(images.tobytes()).hexdigest()[:16])
    with atomic_path(folder / "truth.npz") as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, code=np.array(code_version()), **facts)
    return facts


def _boxes(masks: np.ndarray, keypoints_2d: np.ndarray) -> np.ndarray:
    """Boxes (B,4) about the visible pixels of masks (B,H,W); NaN for a person of whom less than 200 are seen."""
    boxes = np.full((len(masks), 4), np.nan, np.float32)
    for box, mask in zip(boxes, masks, strict=True):
        rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
        if mask.sum() >= 200:
            box[:] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return boxes


def load(name: str, root: Path | None, options: DatasetOptions) -> Synthetic:
    """`root`: where images are rendered to."""
    return Synthetic(name, root, options)
