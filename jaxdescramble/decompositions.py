"""Matrix decompositions that may be vmapped on any machine.

On a CPU, jaxlib spreads a batched LAPACK call over the very thread pool that runs it and waits there: on two cores, two
such calls in flight at once can each hold a thread and wait for the other's, for ever (seen with jaxlib 0.10.2 in a
program of three vmapped QR decompositions). So a batch is taken one matrix at a time on CPUs, which costs little where
LAPACK has threads of its own, and as a batch everywhere else.

Like the functions of `jax.numpy.linalg` behind them but for one matrix each, and without derivatives: whoever needs one
writes the rule that suits the gauge (`objectives.summaries`, `groups.orthogonal`, `exact.brockett`). An inverse has no
gauge, and has its derivatives.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Complex, Float

from jaxdescramble.products import matmul


def _one_at_a_time(decompose: Callable[[Array], Any]) -> Callable[[Array], Any]:
    def guarded(matrix: Array) -> Any:
        # LAPACK's dbdsqr iterates for ever on an infinity.
        finite = jnp.isfinite(matrix).all()
        found = decompose(jnp.where(finite, matrix, 0))
        return jax.tree.map(lambda leaf: jnp.where(finite, leaf, jnp.asarray(jnp.nan, leaf.dtype)), found)

    alone = jax.custom_batching.custom_vmap(guarded)

    @alone.def_vmap
    def _(axis_size: int, in_batched: list[bool], matrices: Array) -> tuple[Any, Any]:
        found = jax.lax.platform_dependent(
            matrices, cpu=functools.partial(jax.lax.map, alone), default=jax.vmap(guarded)
        )
        return found, jax.tree.map(lambda leaf: True, found)

    return alone


_svd_full = _one_at_a_time(lambda matrix: tuple(jnp.linalg.svd(matrix, full_matrices=True)))
_svd_thin = _one_at_a_time(lambda matrix: tuple(jnp.linalg.svd(matrix, full_matrices=False)))
_singular_values = _one_at_a_time(lambda matrix: jnp.linalg.svd(matrix, compute_uv=False))
_eigh = _one_at_a_time(lambda matrix: tuple(jnp.linalg.eigh(matrix)))
_qr = _one_at_a_time(lambda matrix: tuple(jnp.linalg.qr(matrix, mode="reduced")))
_triangle = _one_at_a_time(lambda matrix: jnp.linalg.qr(matrix, mode="r"))
_inverse = _one_at_a_time(jnp.linalg.inv)
_sign = _one_at_a_time(lambda matrix: jnp.linalg.slogdet(matrix)[0])


def svd(matrix: Float[Array, "n m"], full_matrices: bool = True) -> tuple[Array, Array, Array]:
    """`U, s, V^T` with s descending.

    >>> svd(jnp.asarray([[0.0, 2.0], [1.0, 0.0]]))[1].tolist()
    [2.0, 1.0]
    """
    return (_svd_full if full_matrices else _svd_thin)(matrix)


def singular_values(matrix: Float[Array, "n m"]) -> Float[Array, " k"]:
    """Singular values alone, descending.

    >>> singular_values(jnp.asarray([[0.0, 2.0], [1.0, 0.0]])).tolist()
    [2.0, 1.0]
    """
    return _singular_values(matrix)


def eigh(matrix: Float[Array, "n n"]) -> tuple[Array, Array]:
    """Eigenvalues, ascending, and eigenvectors in columns, of a symmetric matrix.

    >>> eigh(jnp.asarray([[2.0, 0.0], [0.0, 1.0]]))[0].tolist()
    [1.0, 2.0]
    """
    return _eigh(matrix)


def eigh_hermitian(matrix: Complex[Array, "n n"]) -> tuple[Array, Array]:
    """Eigenvalues, ascending, and eigenvectors in columns, of a complex Hermitian matrix.

    >>> eigh_hermitian(jnp.asarray([[0.0, 1j], [-1j, 0.0]]))[0].round(4).tolist()
    [-1.0, 1.0]
    """
    return _eigh(matrix)


def qr(matrix: Float[Array, "n m"]) -> tuple[Array, Array]:
    """The reduced decomposition `Q, R`.

    >>> abs(qr(jnp.asarray([[3.0], [4.0]]))[1]).round(4).tolist()
    [[5.0]]
    """
    return _qr(matrix)


def triangle(matrix: Float[Array, "n m"]) -> Float[Array, "k m"]:
    """R of the reduced decomposition, without forming Q.

    >>> abs(triangle(jnp.asarray([[3.0], [4.0]]))).round(4).tolist()
    [[5.0]]
    """
    return _triangle(matrix)


def determinant_sign(matrix: Float[Array, "n n"]) -> Float[Array, ""]:
    """Sign of the determinant, +1 or -1 (0 for a singular matrix).

    >>> float(determinant_sign(jnp.asarray([[0.0, 2.0], [1.0, 0.0]])))
    -1.0
    """
    return _sign(matrix)


@jax.custom_jvp
def inverse(matrix: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """The inverse X of a well-conditioned matrix; differentiable any number of times, `dX = -X dM X`.

    >>> inverse(jnp.asarray([[2.0, 0.0], [0.0, 4.0]])).tolist()
    [[0.5, 0.0], [0.0, 0.25]]
    """
    return _inverse(matrix)


@inverse.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    found = inverse(primals[0])
    return found, -matmul(matmul(found, tangents[0]), found)


def resolved(singular: Float[Array, " n"]) -> Bool[Array, " n"]:
    """Which singular values, given in descending order, stand clear of rounding: `> n eps s_1`.

    >>> resolved(jnp.asarray([1.0, 1e-3, 1e-20])).tolist()
    [True, True, False]
    """
    return singular > len(singular) * jnp.finfo(singular.dtype).eps * singular[0]
