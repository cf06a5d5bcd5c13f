"""The published DaNet: its parts give what the authors' code gives (tests/data/README.md), its checkpoint fits."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from seeded_weights import published_keys
from torch import Tensor

from hmrkit.geometry import rotation_from_6d
from hmrkit.regressors import danet_published as published
from hmrkit.regressors.danet import load
from hmrkit.regressors.danet_graph import Refinement
from hmrkit.regressors.danet_iuv import clean_maps, crop_about, maps_to_image, soft_argmax

STORED = Path(__file__).parent.parent / "data" / "danet_parts.npz"
JOINTS = 24


@pytest.fixture(scope="module")
def stored() -> dict[str, Tensor]:
    return {key: torch.from_numpy(value) for key, value in np.load(STORED).items()}


def normal(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def uniform(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def made_up(key: str, shape: tuple[int, ...], key_in_file: str) -> Tensor:
    """The stored outputs' rule for weights: normal numbers, seeded by the key in the checkpoint."""
    x = normal(shape, zlib.crc32(key_in_file.encode()))
    if key.endswith("num_batches_tracked"):
        return torch.tensor(0)
    if key.endswith("running_var"):
        return 0.5 + (0.5 * x).abs()
    if key == "edge_importance":
        return 1 + 0.5 * x
    if len(shape) >= 2:
        return x / (x.numel() / shape[0]) ** 0.5
    return 1 + 0.1 * x if ".act." in key and key.endswith("weight") else 0.1 * x


def close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


@torch.no_grad()
def test_graph_refinement_is_the_published_one(stored) -> None:
    made = Refinement(published.WIDTH).eval()
    shapes = {key: tuple(value.shape) for key, value in made.state_dict().items()}
    made.load_state_dict({key: made_up(key, shape, f"iuv2smpl.smpl_para_Outs.{key}") for key, shape in shapes.items()})
    close(made.refinement_graph()[0], stored["gcn_norm_adjacency"])
    refined = made(stored["gcn_in_rot_features"])
    close(refined.positions[0], stored["gcn_r2p_out"])
    close(refined.positions[1], stored["gcn_refined"])
    close(refined.features, stored["gcn_p2r_out"])
    mean = torch.tensor([1.0, 0, 0, 1, 0, 0])
    close(rotation_from_6d(made.pose_regressors[1](refined.features) + mean, "interleaved"), stored["gcn_rotmat"])
    before, after = made.positions(refined)
    close(before, stored["gcn_joint_position_before"])
    close(after, stored["gcn_joint_position_after"])


def test_joints_rois_and_crops_are_the_published_ones(stored) -> None:
    x = torch.arange(56.0)
    centres = 40 * uniform((2, JOINTS, 2), 1413) + 8
    squares = (x - centres[..., :1]).square()[..., None, :] + (x - centres[..., 1:]).square()[..., :, None]
    heat = 0.2 * normal((2, JOINTS, 56, 56), 1412) + torch.exp(-squares / 18)
    close(soft_argmax(heat) / 100, stored["softargmax_pixels"] / 100)
    close(published.joint_centres(heat), stored["stn_centers"])
    centres, hidden = stored["roi_centers"], stored["roi_hidden_joint_by_batch"].T
    learned = stored["roi_learned_ratio"], stored["roi_learned_offset"]
    close(published.scales(centres, *learned, torch.zeros_like(hidden)), stored["roi_scale"])
    scale = published.scales(centres, *learned, hidden)
    close(scale, stored["roi_scale_hidden"])
    crops = crop_about(normal((3, 4, 56, 56), 1416), centres, scale, 56, aligned=True)
    close(crops[:, [0, 4, 20], :, ::4, ::4], stored["roi_crop_joints_0_4_20"])


def test_maps_are_cleaned_and_joints_hidden_as_published(stored) -> None:
    index = normal((3, 25, 14, 14), 1417).repeat_interleave(4, 2).repeat_interleave(4, 3)
    index[:, 0] += 1
    raw = torch.stack([uniform((3, 25, 56, 56), 1418), uniform((3, 25, 56, 56), 1419), index], 1)
    maps = clean_maps(raw)
    close(maps[:, 2].sum((0, 2, 3)), stored["clean_onehot_sum"])
    close(published.visibility(maps, stored["roi_centers"]), stored["vis_score_joint_by_batch"].T)
    image = maps_to_image(raw)[:1].permute(0, 3, 1, 2) / torch.tensor([24.0, 1, 1])[:, None, None]
    close(image, stored["map2img"])


def test_the_published_checkpoint_fits(tmp_path, monkeypatch) -> None:
    shapes = published_keys("danet")
    with torch.device("meta"):
        made = published.PublishedDanet("danet")
        found = published.parts_of({key: torch.empty(shape) for key, shape in shapes.items()})
    for part, tensors in found.items():
        wanted = {key: value.shape for key, value in made.get_submodule(part).state_dict().items()}
        assert {key: value.shape for key, value in tensors.items()} == wanted, part
    # The file's wrapping, and SMPL's own arrays beside the network.
    path = tmp_path / "danet_model_h36m_itw.pt"
    torch.save(
        {"model": {"img2iuv.learned_ratio": torch.ones(JOINTS), "iuv2smpl.smpl.betas": torch.ones(16, 10)}}, path
    )
    monkeypatch.setattr(
        "hmrkit.regressors.danet.published", lambda name, state, path: made if len(state) == 2 else None
    )
    monkeypatch.setattr(made, "to", lambda device: made)
    assert load("danet", path, device="cpu").shape_space == "smpl"
