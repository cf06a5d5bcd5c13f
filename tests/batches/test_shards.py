"""Shards part a list without gaps or twice; Slurm's and torchrun's variables name them."""

import pytest

from hmrkit.batches.shards import parse_shard
from hmrkit.errors import UsageError


def test_shards_part_a_list():
    items = list(range(23))
    parts = [parse_shard(f"{k}/5").of(items) for k in range(1, 6)]
    assert sorted(item for part in parts for item in part) == items
    assert parse_shard("2-3,5/5").of(items) == sorted(parts[1] + parts[2] + parts[4])
    assert parse_shard(None).of(items) == items
    assert [parse_shard(t).label for t in ("7/100", "2-3,5/5", "1-5/5", "1/1")] == ["007_of_100", "2-3+5_of_5", "", ""]


@pytest.mark.parametrize(
    ("variables", "label"),
    [
        ({"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "0"}, "1_of_4"),
        ({"SLURM_ARRAY_TASK_ID": "4", "SLURM_ARRAY_TASK_COUNT": "4", "RANK": "0", "WORLD_SIZE": "1"}, "4_of_4"),
        (
            {f"SLURM_ARRAY_TASK_{k}": v for k, v in {"ID": "14", "COUNT": "3", "MIN": "10", "STEP": "2"}.items()},
            "3_of_3",
        ),
        ({"RANK": "3", "WORLD_SIZE": "8"}, "4_of_8"),
    ],
)
def test_auto(variables, label):
    assert parse_shard("auto", variables).label == label


@pytest.mark.parametrize(
    ("text", "variables", "words"),
    [
        ("0/4", {}, "from 1 to 4, found 0"),
        ("5/4", {}, "from 1 to 4, found 5"),
        ("3-2/4", {}, "found 3-2"),
        ("one/2", {}, "wants I/N"),
        ("auto", {}, "found neither"),
        ("auto", {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_COUNT": "2", "SLURM_ARRAY_TASK_MIN": "3"}, "gaps"),
        ("auto", {"RANK": "3"}, r"\$WORLD_SIZE"),
    ],
)
def test_what_names_no_shard(text, variables, words):
    with pytest.raises(UsageError, match=words):
        parse_shard(text, variables)
