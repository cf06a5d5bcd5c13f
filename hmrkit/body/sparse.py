"""Products with a constant, mostly zero matrix, differentiable with respect to the other factor."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

# Above this share of nonzeros a dense product is as fast (measured on two AVX-512 cores).
_DENSE_ABOVE = 0.2


class FixedProduct:
    """``product(x) == matrix @ x`` for `matrix` (M,N) that never changes and `x` (N,P).

    Sparse on CPUs where that pays; dense on CUDA, where it is fast anyway, and where PyTorch came without MKL, which
    its sparse products need. Any order of derivative with respect to `x`.
    """

    def __init__(self, matrix: Tensor) -> None:
        density = (matrix != 0).double().mean().item()
        self.is_sparse = matrix.device.type == "cpu" and torch.backends.mkl.is_available() and density < _DENSE_ABOVE
        self._matrix = _to_csr(matrix) if self.is_sparse else matrix.contiguous()
        self._transposed = _to_csr(matrix.T) if self.is_sparse else None

    def __call__(self, x: Tensor) -> Tensor:
        if self._transposed is None:
            return self._matrix @ x
        return _SparseProduct.apply(x, self._matrix, self._transposed)


class _SparseProduct(torch.autograd.Function):
    """PyTorch transposes a sparse matrix anew in every backward pass; here both forms are kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: Tensor, transposed: Tensor) -> Tensor:
        ctx.matrices = (matrix, transposed)
        return matrix @ x

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        matrix, transposed = ctx.matrices
        return _SparseProduct.apply(grad_outputs[0].contiguous(), transposed, matrix), None, None


def _to_csr(matrix: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch announces that CSR is in beta, once per process
        return matrix.contiguous().to_sparse_csr()
