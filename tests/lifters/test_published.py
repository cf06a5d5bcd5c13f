"""Published lifters give what the authors' code gives (tests/data/README.md), through the door that users call."""

import zlib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from made_keypoints import waving

from hmrkit.camera import assume_camera
from hmrkit.errors import UsageError, WeightsError
from hmrkit.lifters import load_lifter
from hmrkit.lifters.inputs import convert_keypoints
from hmrkit.lifters.semgcn import SemGCN, SemGCNSize
from hmrkit.lifters.videopose3d_published import PublishedNet
from hmrkit.models import Models
from hmrkit.options import Options, changing
from hmrkit.pipeline import STAGES, lift
from hmrkit.skeletons import BLAZEPOSE_33, COCO_17
from hmrkit.types import Keypoints, Take, Track, VideoInfo

WIDTH, HEIGHT = 1280, 720
SIZE = {"width": WIDTH, "height": HEIGHT}
NETWORKS = {
    "semgcn": lambda: SemGCN(SemGCNSize(non_local=False)),
    "semgcn_nonlocal": lambda: SemGCN(SemGCNSize()),
    "videopose3d_27": lambda: PublishedNet((3, 3, 3), 1024, 34, 51),
}


def made_up(key: str, shape: tuple[int, ...], keys: set[str]) -> torch.Tensor:
    """The stored outputs' rule for weights: normal numbers, seeded by the key in the checkpoint."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(key.encode())))
    owner, _, kind = key.rpartition(".")
    if kind == "num_batches_tracked":
        return torch.tensor(0)
    if kind == "running_var":
        return 0.5 + (0.5 * x).abs()
    if kind == "e":
        return x
    if kind == "W":
        return x / shape[1] ** 0.5
    if len(shape) >= 2:
        return x / (x.numel() / shape[0]) ** 0.5
    return 1 + 0.1 * x if kind == "weight" and f"{owner}.running_var" in keys else 0.1 * x


@pytest.fixture(scope="module")
def stored():
    return dict(np.load(Path(__file__).parent.parent / "data" / "published_lifters.npz"))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Writes a network's checkpoint as its trainer does; keys and shapes alone decide its values."""
    folder = tmp_path_factory.mktemp("published")

    def write(name: str) -> Path:
        path = folder / f"{name}.pth.tar"
        if not path.exists():
            shapes = {key: tuple(value.shape) for key, value in NETWORKS[name]().state_dict().items()}
            state = {key: made_up(key, shape, set(shapes)) for key, shape in shapes.items()}
            rest = {"epoch": 80, "lr": 1e-3, "random_state": np.random.RandomState(1), "error": np.float64(40)}
            torch.save(rest | {("state_dict" if "semgcn" in name else "model_pos"): state}, path)
        return path

    return write


def pixels(screen: np.ndarray) -> np.ndarray:
    """The way back from screen coordinates."""
    return (screen + np.array([1, HEIGHT / WIDTH], np.float32)) * (WIDTH / 2)


def about_pelvis(joints: np.ndarray) -> np.ndarray:
    return joints - joints[:, :1]


@pytest.mark.parametrize(("name", "tensors"), [("semgcn", 75), ("semgcn_nonlocal", 145)])
def test_semgcn(stored, checkpoint, name, tensors):
    lifter = load_lifter("semgcn", checkpoint=checkpoint(name))
    assert (len(lifter.network.state_dict()), lifter.receptive_field) == (tensors, 1)
    assert lifter.input_skeleton.name == lifter.output_skeleton.name == "h36m-16"
    joints = lifter(pixels(stored["semgcn_input"]), fps=50.0, flip=False, **SIZE)
    np.testing.assert_allclose(joints, about_pelvis(stored[name]), atol=1e-5)


def test_videopose3d_of_human36m_order(stored, checkpoint):
    path, points = checkpoint("videopose3d_27"), pixels(stored["videopose3d_27_input"])
    lifter = load_lifter("videopose3d", checkpoint=path, input_skeleton="h36m17")
    assert (lifter.input_skeleton.name, lifter.receptive_field) == ("h36m-17", 27)
    for flip, wanted in ((False, stored["videopose3d_27"]), (True, stored["videopose3d_27_flip"])):
        np.testing.assert_allclose(lifter(points, fps=50.0, flip=flip, **SIZE), about_pelvis(wanted), atol=1e-4)
    # The same file in COCO's order: the shapes fit, the sides do not.
    coco = load_lifter("videopose3d", checkpoint=path)
    assert coco.input_skeleton.name == "coco-17"
    assert np.abs(coco(points, fps=50.0, **SIZE) - about_pelvis(wanted)).max() > 0.1


@pytest.mark.parametrize(
    ("options", "network", "joints"),
    [
        ({"lifter": "semgcn"}, "semgcn_nonlocal", 16),
        ({"lifter": "videopose3d", "lifter_skeleton": "h36m17"}, "videopose3d_27", 17),
    ],
)
def test_the_chain_lifts_blazepose_by_networks_of_human36m_order(checkpoint, options, network, joints):
    chosen = Options(device="cpu", lifter_checkpoint=str(checkpoint(network)), **options)
    points = np.zeros((6, 33, 3), np.float32)
    points[:, BLAZEPOSE_33.indices(*COCO_17.joints)] = waving(6)
    video = VideoInfo("clip.mp4", "00", WIDTH, HEIGHT, Fraction(30), 6, np.arange(6), np.arange(6) / 30)
    ones = np.ones(6, np.float32)
    person = Track(3, np.arange(6), np.tile(ones[:4], (6, 1)), ones, np.zeros(6, bool))
    seen = {3: Keypoints(points, None, "blazepose-33")}
    take = Take(video, assume_camera(WIDTH, HEIGHT), tracks=(person,), keypoints=seen)
    models = Models(chosen)
    lifted = lift(take, models, lambda *_: None)["lifted"][3]
    assert lifted.skeleton == f"h36m-{joints}"
    given = convert_keypoints(waving(6), COCO_17, models.lifter.input_skeleton)
    np.testing.assert_array_equal(lifted.joints_c, models.lifter(given, fps=30.0, **SIZE))
    assert [stage for stage in STAGES if "lifter_skeleton" in changing(stage)] == ["lift"]


def test_81_frames(tmp_path):
    torch.manual_seed(0)
    torch.save({"model_pos": PublishedNet((3,) * 4, 16, 34, 51).state_dict()}, tmp_path / "arc3333.bin")
    lifter = load_lifter("videopose3d", checkpoint=tmp_path / "arc3333.bin", input_skeleton="h36m17")
    assert lifter.receptive_field == 81
    assert lifter(waving(5), fps=25.0, **SIZE).shape == (5, 17, 3)


def test_what_cannot_be_is_refused_in_one_line(tmp_path):
    with pytest.raises(WeightsError, match=r"none.pth.tar not found"):
        load_lifter("semgcn", checkpoint=tmp_path / "none.pth.tar")
    with pytest.raises(UsageError, match="leave --lifter-skeleton out"):
        load_lifter("semgcn", input_skeleton="h36m17")
    with pytest.raises(UsageError, match="coco17 or h36m17"):
        load_lifter("videopose3d", input_skeleton="smpl24")
    with pytest.raises(UsageError, match="own lifter reads coco-17"):
        load_lifter("videopose3d", input_skeleton="h36m17")
    torch.save({"state_dict": torch.nn.Linear(2, 2).state_dict()}, tmp_path / "other.pth.tar")
    torch.save({"state_dict": SemGCN(SemGCNSize(width=8), channels=3).state_dict()}, tmp_path / "three.pth.tar")
    with pytest.raises(WeightsError, match="wanted a SemGCN checkpoint, found weight"):
        load_lifter("semgcn", checkpoint=tmp_path / "other.pth.tar")
    with pytest.raises(WeightsError, match="found 3 inputs"):
        load_lifter("semgcn", checkpoint=tmp_path / "three.pth.tar")
