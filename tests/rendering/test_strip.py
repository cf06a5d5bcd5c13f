"""The README's strip: the panels show the same person."""

import numpy as np
import pytest

from hmrkit.errors import InputError
from hmrkit.rendering.strip import GAP, STUDIO, make_strip


def test_panels_are_cut_around_the_person_and_blenders_alpha_shows_the_studio():
    footage = np.full((90, 160, 3), 60, np.uint8)
    footage[40:80, 130:150] = 200
    rendered = np.concatenate([footage, np.full((90, 90, 3), 33, np.uint8)], 1)
    rendered[5:10, 2:20] = 250  # the frame's number
    rendered[40:80, 130:150] = (20, 40, 90)
    blender = np.zeros((30, 30, 4), np.uint8)
    blender[:, :15] = 10, 20, 200, 255
    strip = make_strip(footage, rendered, blender)
    assert strip.shape == (90, 4 * 90 + 3 * GAP, 3)
    person = slice(60, 80)  # columns of a panel that ends with the frame
    assert (strip[40:80, person] == 200).all()
    assert (strip[40:80, 90 + GAP :][:, person] == (20, 40, 90)).all()
    assert (strip[40:, 2 * (90 + GAP) :][:, :90] == 33).all()
    assert strip[60, [-1, -80]].tolist() == [list(STUDIO), [10, 20, 200]]


def test_a_frame_without_its_side_view_is_refused():
    frame = np.zeros((90, 160, 3), np.uint8)
    with pytest.raises(InputError, match=r"--view overlay,side.*\(160, 90\) pixels"):
        make_strip(frame, frame, np.zeros((9, 9, 4), np.uint8))
