"""Protocols are data: everything that a figure depends on is stated, and nothing is scored that has no meaning."""

import pytest

from hmrkit.datasets import DATASETS, DatasetOptions, load_dataset
from hmrkit.errors import UsageError
from hmrkit.evaluation.protocols import CHALLENGE_PARTS, CHALLENGE_PCK, HIPS, PROTOCOLS, choose_protocol
from hmrkit.skeletons import LSP_14, SMPL_24


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=list(PROTOCOLS))
def test_a_protocol_says_everything(protocol):
    words = protocol.describe()
    assert {"protocol", "source", "joints", "predicted joints", "true joints", "pelvis", "true body", "frames",
            "average"} <= set(words)  # fmt: skip
    assert protocol.metrics
    assert set(protocol.datasets) <= set(DATASETS)
    assert set(protocol.pck_joints) <= set(protocol.joints)
    assert set(protocol.parts) <= set(SMPL_24.joints)
    assert ("vertices" in words) == any(name.startswith(("pve", "surface")) for name in protocol.metrics)


def test_the_five_protocols_of_3dpw_differ_where_their_code_does():
    spin, vibe, wham, official = (PROTOCOLS[name] for name in ("spin", "vibe", "wham", "3dpw-official"))
    assert spin.joints == vibe.joints == wham.joints == LSP_14.joints
    assert official.joints == SMPL_24.joints
    assert (spin.pelvis, vibe.pelvis, wham.pelvis, official.pelvis) == (("pelvis",), HIPS, HIPS, ("pelvis",))
    assert [p.vertices for p in (spin, vibe, wham)] == ["untranslated", "untranslated", "pelvis"]
    assert [p.truth_gender for p in (spin, vibe, wham)] == ["annotated", "neutral", "annotated"]
    assert [p.min_keypoints for p in (spin, vibe)] == [1, 7]
    assert SMPL_24.indices(*CHALLENGE_PARTS) == [0, 1, 2, 4, 5, 16, 17, 18, 19]
    assert sorted(SMPL_24.indices(*CHALLENGE_PCK)) == [1, 2, 4, 5, 7, 8, 16, 17, 18, 19, 20, 21]
    assert (official.pck_mm, official.auc_mm[0], official.auc_mm[-1], len(official.auc_mm)) == (50, 0, 199, 200)


@pytest.mark.parametrize("name", DATASETS)
def test_every_dataset_has_a_protocol_of_its_own(name, tmp_path):
    options = DatasetOptions(frame_list=tmp_path / "list.txt") if name == "3dpw-occ" else DatasetOptions()
    dataset = load_dataset(name, tmp_path, options)
    assert choose_protocol(dataset.default_protocol, name).name == dataset.default_protocol


def test_what_has_no_meaning_is_refused():
    with pytest.raises(UsageError, match="unknown protocol 'mine'; choose one of body"):
        choose_protocol("mine", "3dpw")
    with pytest.raises(UsageError, match=r"hmr-p2 is defined on h36m, npz, not on 3dpw; use one of .*spin.*vibe"):
        choose_protocol("hmr-p2", "3dpw")
    assert choose_protocol("spin", "3dpw-occ").name == "spin"
    with pytest.raises(UsageError, match="--data"):
        load_dataset("3dpw", None)
