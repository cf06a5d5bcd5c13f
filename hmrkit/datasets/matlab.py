"""Read MATLAB's files: up to version 7 with scipy, 7.3 (which is HDF5) with h5py where it is installed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.io import loadmat

from hmrkit.errors import InputError, reason_of


def read_matlab(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Those of the variables `names` that the file has, with MATLAB's order of dimensions in either format.

    InputError where it cannot be read, or needs h5py and h5py is not installed.
    """
    try:
        variables = loadmat(path, variable_names=list(names))
        return {key: value for key, value in variables.items() if isinstance(value, np.ndarray)}
    except NotImplementedError:
        return _read_hdf5(path, names)
    except Exception as error:  # a damaged file can fail anywhere in scipy's reader, with any exception
        raise InputError(f"{path}: cannot read it as a MATLAB file ({reason_of(error)}); fetch it again") from error


def _read_hdf5(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    try:
        import h5py
    except ImportError:
        raise InputError(
            f"{path}: is a MATLAB 7.3 file, which needs h5py: pip install h5py, or save it from MATLAB with -v7"
        ) from None
    try:
        with h5py.File(path, "r") as file:
            # HDF5 names the dimensions of the same memory the other way round.
            return {name: np.asarray(file[name]).T for name in names if name in file}
    except Exception as error:  # as above
        raise InputError(f"{path}: cannot read it as a MATLAB file ({reason_of(error)}); fetch it again") from error
