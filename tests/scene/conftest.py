"""What tests of scenes share."""

import pytest
from synthetic_person import make_motion_of, make_person


@pytest.fixture(scope="module")
def walk():
    person = make_person(clip=1, frames=slice(0, 90))
    return make_motion_of(person), person.fps
