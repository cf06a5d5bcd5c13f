"""A name that is not there: what there is, and what was probably meant."""

import pytest

from hmrkit.datasets import DATASETS
from hmrkit.errors import UsageError
from hmrkit.exporters import check_formats
from hmrkit.lifters import LIFTERS
from hmrkit.members import choose
from hmrkit.options import Options
from hmrkit.rendering.options import RenderOptions


@pytest.mark.parametrize(
    ("ask", "meant"),
    [
        (lambda: Options(detector="yolox_nano"), "yolox-nano"),
        (lambda: Options(method="pchmr"), "pc-hmr"),
        (lambda: Options(keypoints="BlazePose-heavi"), "blazepose-heavy"),
        (lambda: Options(mode="serail"), "serial"),
        (lambda: choose(LIFTERS, "videopose", "lifter"), "videopose3d"),
        (lambda: choose(DATASETS, "3dwp", "dataset"), "3dpw"),
        (lambda: check_formats("npz,objj"), "obj"),
        (lambda: RenderOptions(style="wirefame"), "wireframe"),
    ],
)
def test_near_misses_are_named(ask, meant):
    with pytest.raises(UsageError, match=f"choose one of .*; did you mean {meant}\\?$"):
        ask()


def test_what_is_near_nothing_gets_the_list_alone():
    with pytest.raises(UsageError, match=r"^unknown lifter 'qqq'; choose one of videopose3d.*[a-z0-9]$"):
        choose(LIFTERS, "qqq", "lifter")
