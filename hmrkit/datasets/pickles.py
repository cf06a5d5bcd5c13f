"""Read a dataset's pickles (3DPW, EMDB, UP-3D) as plain arrays, lists, dictionaries and text, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hmrkit.errors import InputError, WeightsError
from hmrkit.untrusted.arrays import open_regular
from hmrkit.untrusted.values import unpickle


def read_pickle(path: str | Path) -> Any:
    """What the pickle holds, Python 2's (latin1) or 3's: dict, list, tuple, str, bytes, numbers, None and ndarrays.

    InputError where it is absent, cut off, or names any function or class but NumPy's arrays: nothing that a file names
    is ever called.
    """
    path = Path(path)
    try:
        with open_regular(path) as stream:
            return unpickle(stream)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error
    except WeightsError as error:
        what = str(error).split(", which")[0]
        raise InputError(f"{path}: {what}, which no dataset needs: refused; get the file from its makers") from None
    except Exception as error:  # a damaged pickle can fail anywhere inside the unpickler, with any exception
        raise InputError(
            f"{path}: wanted a pickle of arrays, found something else or a cut-off file ({type(error).__name__}); "
            "get the file from its makers"
        ) from None
