"""Products and decompositions of NumPy arrays, by JAX on the CPU, in the arrays' own precision.

Layers are pictured in several threads. SciPy holds Python's global lock while it decomposes a matrix, so all other
threads wait. The threads of NumPy's BLAS wait for each other by spinning, so that two products at a time take longer
than one after the other.
"""

import contextlib
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxdescramble._base import decompositions, products
from jaxdescramble._base.programs import quick_jit

_matmul = quick_jit(products.matmul)
_eigh = quick_jit(decompositions.eigh)
_singular_values = quick_jit(decompositions.singular_values)


@contextlib.contextmanager
def _like(matrix: np.ndarray) -> Iterator[None]:
    try:
        device = jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        device = None  # JAX_PLATFORMS leaves the CPU out: compute where everything else is computed
    with jax.enable_x64(matrix.dtype == np.float64), jax.default_device(device):
        yield


def matmul(a: Float[np.ndarray, "n k"], b: Float[np.ndarray, "k m"]) -> Float[np.ndarray, "n m"]:
    """Return the product of two matrices.

    >>> matmul(np.ones((2, 3)), np.ones((3, 1))).tolist()
    [[3.0], [3.0]]
    """
    with _like(a):
        return np.asarray(_matmul(jnp.asarray(a), jnp.asarray(b)))


def eigh(matrix: Float[np.ndarray, "n n"]) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, "n n"]]:
    """Return the eigenvalues of a symmetric matrix, ascending, and its eigenvectors as columns."""
    with _like(matrix):
        values, vectors = _eigh(jnp.asarray(matrix))
        return np.asarray(values), np.asarray(vectors)


def singular_values(matrix: Float[np.ndarray, "n m"]) -> Float[np.ndarray, " k"]:
    """Return the singular values, descending."""
    with _like(matrix):
        return np.asarray(_singular_values(jnp.asarray(matrix)))
