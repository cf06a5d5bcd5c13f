"""The family's table and its choices."""

import pytest

from hmrkit.errors import UsageError
from hmrkit.exporters import EXPORTERS, check_formats, load_exporter


def test_formats_are_read_from_the_command_line_and_from_sequences():
    assert check_formats("npz,obj") == check_formats(["npz", "OBJ", "npz"]) == ["npz", "obj"]
    assert check_formats(" obj , ") == ["obj"]
    with pytest.raises(UsageError, match=r"unknown export format gif; choose from .*npz.*obj"):
        check_formats("npz,gif")


@pytest.mark.parametrize("name", EXPORTERS)
def test_every_exporter_of_an_empty_take_makes_nothing(name, take, tmp_path):
    from dataclasses import replace

    empty = replace(take, tracks=(), body={}, calibrated={}, keypoints={}, faces=None)
    assert load_exporter(name)(tmp_path / "out", empty).close() == []
    assert list(tmp_path.iterdir()) == []
