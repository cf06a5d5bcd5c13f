"""Datasets' pickles become arrays, lists and text, and nothing that a file names is ever called."""

import os
import pickle

import numpy as np
import pytest
from made_datasets import dump_python2

from hmrkit.datasets.pickles import read_pickle
from hmrkit.errors import InputError

CONTENT = {"sequence": "bus", "betas": [np.arange(10.0), np.arange(300.0)], "good": np.array([True, False]), "n": 3}


class Calls:
    def __reduce__(self):
        return (os.makedirs, ("made-by-a-pickle",))


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_plain_values_come_back(tmp_path, protocol):
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(CONTENT, protocol=protocol))
    np.testing.assert_equal(read_pickle(path), CONTENT)


def test_python_2_s_pickles_are_read(tmp_path):
    dump_python2(CONTENT, tmp_path / "a.pkl")
    np.testing.assert_equal(read_pickle(tmp_path / "a.pkl"), CONTENT)


def test_object_arrays_of_equal_arrays_stay_what_they_are(tmp_path):
    arrays = np.empty(2, object)
    arrays[:] = [np.zeros(3), "text"]
    arrays[1] = np.ones(3)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"a": arrays}))
    back = read_pickle(tmp_path / "a.pkl")["a"]
    assert back.dtype == object
    assert back.shape == (2,)
    np.testing.assert_array_equal(back[1], np.ones(3))


@pytest.mark.parametrize("value", [Calls(), {"deep": [Calls()]}, np.array([Calls()], object), os.system])
def test_whatever_would_run_is_refused(tmp_path, value, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(value))
    with pytest.raises(InputError, match="refused"):
        read_pickle(tmp_path / "a.pkl")
    assert not (tmp_path / "made-by-a-pickle").exists()


@pytest.mark.parametrize("content", [b"", b"no pickle", pickle.dumps(CONTENT)[:-20]])
def test_other_files_get_one_line(tmp_path, content):
    (tmp_path / "a.pkl").write_bytes(content)
    with pytest.raises(InputError) as error:
        read_pickle(tmp_path / "a.pkl")
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="check the path"):
        read_pickle(tmp_path / "none.pkl")
