"""Matrix decompositions and solves that are safe under `vmap` on every machine.

On a CPU, jaxlib spreads a batched LAPACK call over the thread pool that also runs the call itself, and waits there. On
two cores, two such calls can each hold one thread and wait forever for the other's. With jaxlib 0.10.2 this happened in
a program of three vmapped QR decompositions, and in one of two vmapped solves. Therefore these functions process a
batch one matrix at a time on CPUs. This costs little where LAPACK has its own threads. Other devices process the whole
batch at once.

Each function takes one matrix, like its namesake in `jax.numpy.linalg`; use `jax.vmap` for a stack. NaN or infinity in
a matrix gives NaN. The rest of the package calls LAPACK through these functions only (`tests/test_lapack.py`).

Inverses, solves and Cholesky factors have derivatives of every order. The other decompositions have no derivative:
each caller writes the rule that suits its gauge (`objectives.summaries`, `manifolds.orthogonal`, `exact.brockett`).
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Inexact, PyTree

from jaxdescramble._base.products import adjoint, matmul, squared
from jaxdescramble._base.programs import fused


def _one_at_a_time(compute: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """Return `compute`, which under `vmap` never hands a batch to LAPACK on a CPU."""
    alone = jax.custom_batching.custom_vmap(compute)

    @alone.def_vmap
    def _(axis_size: int, in_batched: list[bool], *operands: Array) -> tuple[PyTree, PyTree]:
        def each(*operands: Array) -> PyTree:
            def one(taken: list[Array]) -> PyTree:
                members = iter(taken)
                return alone(
                    *(next(members) if batched else x for x, batched in zip(operands, in_batched, strict=True))
                )

            return jax.lax.map(one, [x for x, batched in zip(operands, in_batched, strict=True) if batched])

        together = jax.vmap(compute, in_axes=tuple(0 if batched else None for batched in in_batched))
        found = jax.lax.platform_dependent(*operands, cpu=each, default=together)
        return found, jax.tree.map(lambda leaf: True, found)

    return fused(alone)


def _guarded(decompose: Callable[[Array], PyTree]) -> Callable[[Array], PyTree]:
    """Return `decompose`, which gives NaN for a matrix that is not finite: LAPACK's dbdsqr never ends on infinity."""

    def guarded(matrix: Array) -> PyTree:
        finite = jnp.isfinite(matrix).all()
        found = decompose(jnp.where(finite, matrix, 0))
        return jax.tree.map(
            lambda leaf: leaf if jnp.issubdtype(leaf.dtype, jnp.integer) else jnp.where(finite, leaf, jnp.nan), found
        )

    return _one_at_a_time(guarded)


_svd_full = _guarded(lambda matrix: tuple(jnp.linalg.svd(matrix, full_matrices=True)))
_svd_thin = _guarded(lambda matrix: tuple(jnp.linalg.svd(matrix, full_matrices=False)))
_singular_values = _guarded(lambda matrix: jnp.linalg.svd(matrix, compute_uv=False))
_eigh = _guarded(lambda matrix: tuple(jnp.linalg.eigh(matrix)))
_qr = _guarded(lambda matrix: tuple(jnp.linalg.qr(matrix, mode="reduced")))
_triangle = _guarded(lambda matrix: jnp.linalg.qr(matrix, mode="r"))
_inverse = _guarded(jnp.linalg.inv)
_sign = _guarded(lambda matrix: jnp.linalg.slogdet(matrix)[0])
_cholesky = _guarded(jnp.linalg.cholesky)
_lu = _guarded(lambda matrix: tuple(jax.lax.linalg.lu(matrix)[::2]))  # factors, permutation


@functools.cache
def _substitution(lower: bool, transposed: bool, unit_diagonal: bool = False) -> Callable[[Array, Array], Array]:
    def substitute(factor: Array, right: Array) -> Array:
        found = jax.lax.linalg.triangular_solve(
            factor, right, left_side=True, lower=lower, transpose_a=transposed, unit_diagonal=unit_diagonal
        )
        finite = jnp.isfinite(jnp.tril(factor) if lower else jnp.triu(factor)).all()
        return jnp.where(finite, found, jnp.nan)

    each = _one_at_a_time(substitute)
    alone = jax.custom_batching.custom_vmap(substitute)

    @alone.def_vmap
    def _(axis_size: int, in_batched: list[bool], factor: Array, right: Array) -> tuple[Array, bool]:
        if in_batched[0]:
            return jax.vmap(each, in_axes=(0, 0 if in_batched[1] else None))(factor, right), True
        # All problems share one factor: solve once, with their right-hand sides as columns.
        beside = jnp.moveaxis(right, 0, 1)
        found = alone(factor, beside.reshape(len(factor), -1))
        return jnp.moveaxis(found.reshape(beside.shape), 1, 0), True

    return fused(alone)


def svd(matrix: Inexact[Array, "n m"], full_matrices: bool = True) -> tuple[Array, Array, Array]:
    """Return `U, s, V^T` with s in descending order.

    >>> svd(jnp.asarray([[0.0, 2.0], [1.0, 0.0]]))[1].tolist()
    [2.0, 1.0]
    """
    return (_svd_full if full_matrices else _svd_thin)(matrix)


def singular_values(matrix: Inexact[Array, "n m"]) -> Float[Array, " k"]:
    """Return the singular values in descending order.

    >>> singular_values(jnp.asarray([[0.0, 2.0], [1.0, 0.0]])).tolist()
    [2.0, 1.0]
    """
    return _singular_values(matrix)


def eigh(matrix: Inexact[Array, "n n"]) -> tuple[Array, Array]:
    """Return the eigenvalues of a symmetric or Hermitian matrix, ascending, and its eigenvectors as columns.

    >>> eigh(jnp.asarray([[2.0, 0.0], [0.0, 1.0]]))[0].tolist()
    [1.0, 2.0]
    """
    return _eigh(matrix)


def qr(matrix: Inexact[Array, "n m"]) -> tuple[Array, Array]:
    """Return the reduced decomposition `Q, R`.

    >>> abs(qr(jnp.asarray([[3.0], [4.0]]))[1]).round(4).tolist()
    [[5.0]]
    """
    return _qr(matrix)


def triangle(matrix: Inexact[Array, "n m"]) -> Inexact[Array, "k m"]:
    """Return R of the reduced QR decomposition without forming Q.

    >>> abs(triangle(jnp.asarray([[3.0], [4.0]]))).round(4).tolist()
    [[5.0]]
    """
    return _triangle(matrix)


def determinant_sign(matrix: Inexact[Array, "n n"]) -> Inexact[Array, ""]:
    """Return the sign of the determinant, +1 or -1 (0 for a singular matrix), or its phase for a complex matrix.

    >>> float(determinant_sign(jnp.asarray([[0.0, 2.0], [1.0, 0.0]])))
    -1.0
    """
    return _sign(matrix)


@jax.custom_jvp
def inverse(matrix: Inexact[Array, "n n"]) -> Inexact[Array, "n n"]:
    """Return the inverse X of a well-conditioned matrix, with derivatives of every order (`dX = -X dM X`).

    >>> inverse(jnp.asarray([[2.0, 0.0], [0.0, 4.0]])).tolist()
    [[0.5, 0.0], [0.0, 0.25]]
    """
    return _inverse(matrix)


@inverse.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    found = inverse(primals[0])
    return found, -matmul(matmul(found, tangents[0]), found)


@fused
def inverse_or_transpose(matrices: Inexact[Array, "*stack n n"]) -> Inexact[Array, "*stack n n"]:
    """Return the inverse of each matrix of a stack; return the transposes if all are orthogonal to rounding.

    A matrix is orthogonal to rounding if `||M^T M - 1||_F <= 10 sqrt(n) eps`. One test at run time decides for the
    whole stack; then only the transposes are computed. The derivatives are those of `inverse`. The transpose of a
    complex matrix is its conjugate transpose.

    >>> inverse_or_transpose(jnp.asarray([[[0.0, 1.0], [-1.0, 0.0]]])).tolist()
    [[[0.0, -1.0], [1.0, 0.0]]]
    """
    return _inverse_or_transpose(matrices)


@jax.custom_jvp
def _inverse_or_transpose(matrices: Inexact[Array, "*stack n n"]) -> Inexact[Array, "*stack n n"]:
    n = matrices.shape[-1]
    # Without this barrier, XLA multiplies constant matrices while it compiles: eight seconds for n = 1536.
    matrices = jax.lax.optimization_barrier(matrices)
    transposed = adjoint(matrices)
    eye = jnp.broadcast_to(jnp.eye(n, dtype=matrices.dtype), matrices.shape)
    defect = jnp.sum(squared(matmul(transposed, matrices) - eye), axis=(-2, -1))
    rounding = 10 * n**0.5 * jnp.finfo(matrices.dtype).eps

    def inverted() -> Array:
        return jax.vmap(inverse)(matrices.reshape(-1, n, n)).reshape(matrices.shape)

    return jax.lax.cond((defect <= rounding**2).all(), lambda: transposed, inverted)


@_inverse_or_transpose.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    found = inverse_or_transpose(primals[0])
    return found, -matmul(matmul(found, tangents[0]), found)


def solve(matrix: Float[Array, "n n"], right: Float[Array, "n k"]) -> Float[Array, "n k"]:
    """Solve `M X = R` for a general square M by an LU factorisation, with derivatives of every order.

    A singular matrix gives inf or nan.

    >>> solve(jnp.asarray([[0.0, 2.0], [4.0, 0.0]]), jnp.asarray([[2.0], [4.0]])).tolist()
    [[1.0], [1.0]]
    """
    factors, permutation = _lu(jax.lax.stop_gradient(matrix))

    def solved(_: Callable, right: Array) -> Array:
        return _substitution(False, False)(factors, _substitution(True, False, True)(factors, right[permutation]))

    def transpose_solved(_: Callable, right: Array) -> Array:
        found = _substitution(True, True, True)(factors, _substitution(False, True)(factors, right))
        return found[jnp.argsort(permutation)]

    return jax.lax.custom_linear_solve(lambda x: matmul(matrix, x), right, solved, transpose_solved)


def solve_triangular(
    factor: Float[Array, "n n"], right: Float[Array, "n k"], lower: bool = True, transposed: bool = False
) -> Float[Array, "n k"]:
    """Solve `T X = R`, or `T^T X = R`, for the lower or upper triangle T of a matrix.

    The other triangle is ignored. Derivatives of every order exist.

    >>> solve_triangular(jnp.asarray([[2.0, 0.0], [1.0, 1.0]]), jnp.asarray([[2.0], [3.0]])).tolist()
    [[1.0], [2.0]]
    """
    held = jax.lax.stop_gradient(factor)
    triangle = jnp.tril(factor) if lower else jnp.triu(factor)
    triangle = triangle.T if transposed else triangle
    return jax.lax.custom_linear_solve(
        lambda x: matmul(triangle, x),
        right,
        lambda _, x: _substitution(lower, transposed)(held, x),
        lambda _, x: _substitution(lower, not transposed)(held, x),
    )


@jax.custom_jvp
def cholesky(matrix: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """Return the lower triangular L with `M = L L^T`; NaN if M is not positive definite.

    Derivatives of every order exist: `dL = L phi(L^-1 dM L^-T)`, where phi takes the lower triangle and halves the
    diagonal.

    >>> cholesky(jnp.asarray([[4.0, 2.0], [2.0, 2.0]])).tolist()
    [[2.0, 0.0], [1.0, 1.0]]

    Source: Murray 2016 (arXiv 1602.07527).
    """
    return _cholesky(matrix)


@cholesky.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    factor, change = cholesky(primals[0]), (tangents[0] + tangents[0].T) / 2
    inner = solve_triangular(factor, solve_triangular(factor, change).T)
    return factor, matmul(factor, jnp.tril(inner) - jnp.diag(jnp.diagonal(inner)) / 2)


def solve_cholesky(factor: Float[Array, "n n"], right: Float[Array, "n k"]) -> Float[Array, "n k"]:
    """Solve `L L^T X = R` with the factor L of `cholesky`, with derivatives of every order.

    >>> solve_cholesky(jnp.asarray([[2.0, 0.0], [1.0, 1.0]]), jnp.asarray([[6.0], [4.0]])).tolist()
    [[1.0], [1.0]]
    """
    return solve_triangular(factor, solve_triangular(factor, right), transposed=True)


def resolved(singular: Float[Array, " n"]) -> Bool[Array, " n"]:
    """Return which singular values, given in descending order, are larger than rounding: `> n eps s_1`.

    >>> resolved(jnp.asarray([1.0, 1e-3, 1e-20])).tolist()
    [True, True, False]
    """
    return singular > len(singular) * jnp.finfo(singular.dtype).eps * singular[0]
