"""Files from others, which may be damaged or made to do harm: pickles, NumPy's files, PyTorch's checkpoints.

What this room promises, for any bytes: nothing that a file names is imported, called or given a state; NumPy and
PyTorch see only kinds, shapes and bytes that fit one another; memory stays below a small factor of the file's size
(`values.limit_of`); every error is a Python exception. `tests/untrusted` tries it with mutated files.
"""
