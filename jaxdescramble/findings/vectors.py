"""Readings of a descrambled second layer `M = W_2 Q^T`, shape (output, link): singular vectors and bands.

Q rotates only the link axis. Readings of the output axis (left singular vectors, `M M^T = W_2 W_2^T`) therefore do not
depend on the descrambler. The link axis is known up to its gauge, so its readings use the energy at each |link
frequency|, which does not change under the gauge. For complex M (`M = W_2 Q^H`), each transpose is a conjugate
transpose, and each square that of an absolute value.
"""

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Inexact

from jaxdescramble._base import decompositions, transforms
from jaxdescramble._base.checks import one_of, positive_integer
from jaxdescramble._base.products import adjoint, real_type, squared
from jaxdescramble.findings.fourier import fold, pair, ratio

FAMILIES = ("chebyshev", "legendre", "fourier")
DEGREES = 8
AXES = "(output, link)"


def link_purity(fit: ArrayLike, read: ArrayLike, count: int = 5) -> Float[Array, ""]:
    """Measure how close the leading link-side singular vectors are to sinusoids: mean share of energy at one frequency.

    For the leading left vectors u_i of `fit`: `mean_i ||v_i at +-k_i||^2 / ||v_i||^2`, with `v_i = read^T u_i` and k_i
    the strongest frequency of `fit^T u_i`. Both halves are the same W_2 in two frames, so they have the same left
    vectors. The comparison therefore matches right singular vectors exactly, whatever their order, signs or ties.

    Args:
        fit, read: the weight, descrambled on the two halves of the signals, shape (output, link).
        count: number of singular vectors. A matrix of lower rank uses fewer.

    Returns:
        A number in [0, 1]; 0 for a zero matrix. If the tap contains W_2^T, the value is near 1 by construction.

    Raises:
        TypeError, ValueError: if `fit` and `read` are not finite matrices of one shape; if `count` is below 1.

    >>> t = 2 * jnp.pi * jnp.arange(16) / 16
    >>> M = jnp.stack([jnp.cos(2 * t), 3 * jnp.sin(5 * t)])
    >>> round(float(link_purity(M, M)), 3)
    1.0

    Source: Amey et al. 2021, frequency-division multiplexing in the second layer.
    """
    fit, read = pair(fit, read, AXES)
    left, present = _left_vectors(fit, count)
    chosen = jnp.argmax(_link_shares(fit, left), axis=1)
    there = jnp.take_along_axis(_link_shares(read, left), chosen[:, None], axis=1)[:, 0]
    return _mean(there, present)


def polynomial_match(fit: ArrayLike, read: ArrayLike, family: str, count: int = 5) -> Float[Array, ""]:
    """Measure how close the leading output-side singular vectors are to members of a family of functions: mean R^2.

    `mean_i max_d corr(u_i, phi_d)^2`, with means removed. The member d in 1..8 is chosen on `fit`, and the correlation
    is computed on `read`. Member d changes its sign d times. The families are "chebyshev" T_d, "legendre" P_d, and
    "fourier", the half-range cosines `cos(pi d (j + 1/2) / n)`. After the mean is removed, T_1 equals P_1 and T_2
    equals P_2 up to a factor; the two families differ from degree 3 on.

    This reading does not depend on the descrambler: the left vectors of `W_2 Q^T` are those of W_2. `fit` and `read`
    therefore show the same vectors, and the split guards against nothing here. (The vectors are matched as
    `read read^T u_i`, a multiple of u_i, so ties do no harm.) The best of eight members fits well by chance alone: use
    the null models to learn how well, and use the other families to learn what is particular to one.

    Args:
        fit, read: the weight, descrambled on the two halves of the signals, shape (output, link).
        family: "chebyshev", "legendre" or "fourier".
        count: number of singular vectors. A matrix of lower rank uses fewer.

    Returns:
        A number in [0, 1]; 0 for a zero matrix.

    Raises:
        TypeError, ValueError: if `fit` and `read` are not finite matrices of one shape; if `family` is unknown; if
            `count` is below 1.

    >>> x = jnp.linspace(-1, 1, 32)
    >>> M = (4 * x**3 - 3 * x)[:, None] * jnp.ones((1, 3))
    >>> [round(float(polynomial_match(M, M, family, 1)), 2) for family in ("chebyshev", "legendre")]
    [1.0, 0.75]

    Source: Amey et al. 2021, Chebyshev-like output vectors of the second layer.
    """
    one_of(family, "family", FAMILIES)
    fit, read = pair(fit, read, AXES)
    members = jnp.asarray(_members(family, fit.shape[0]), fit.dtype)
    if members.shape[1] == 0:
        return jnp.zeros((), real_type(fit.dtype))
    left, present = _left_vectors(fit, count)
    left_there = jnp.matmul(read, jnp.matmul(adjoint(read), left, precision="highest"), precision="highest")
    left_there = ratio(left_there, jnp.linalg.norm(left_there, axis=0, keepdims=True))
    chosen = jnp.argmax(_squared_correlations(left, members), axis=1)
    there = jnp.take_along_axis(_squared_correlations(left_there, members), chosen[:, None], axis=1)[:, 0]
    return _mean(there, present)


def link_bandedness(fit: ArrayLike, read: ArrayLike, width: int = 2) -> Float[Array, ""]:
    """Measure whether only nearby link frequencies work together: share of the energy of `M^T M` in a band.

    `sum_{|k - k'| <= width} ||K(k, k')||_F^2 / ||M^T M||_F^2` with `K = T^T M^T M T`. T is the Fourier basis, and
    K(k, k') is a block of (cosine, sine) by (cosine, sine). A band in the basis of points is not gauge-invariant: a
    phase at a single frequency moves energy away from the diagonal. A band in the Fourier basis is gauge-invariant.

    Args:
        fit, read: the weight, descrambled on the two halves of the signals, shape (output, link). The value is that of
            `read`; `fit` is only checked, because nothing is chosen here.
        width: half-width of the band in cycles per axis. Diagonal blocks belong to the band.

    Returns:
        A number in [0, 1]; 0 for a zero matrix.

    Raises:
        TypeError, ValueError: if `fit` and `read` are not finite matrices of one shape; if `width` is below 1.

    >>> t = 2 * jnp.pi * jnp.arange(16) / 16
    >>> M = jnp.stack([jnp.cos(t) + jnp.cos(6 * t), jnp.cos(2 * t)])
    >>> round(float(link_bandedness(M, M)), 3)  # of energies 1, 1 and 1 on the diagonal and 2 between 1 and 6
    0.6

    Source: Amey et al. 2021, W_2^T W_2; the gauge-invariant form is ours.
    """
    _, read = pair(fit, read, AXES)
    blocks = _link_blocks(read)
    return ratio(jnp.sum(jnp.where(_near(len(blocks), width), blocks, 0)), jnp.sum(blocks))


def link_orthogonality(fit: ArrayLike, read: ArrayLike, width: int = 2) -> Float[Array, ""]:
    """Measure how close to orthogonal the parts of M at distant link frequencies are.

    `1 - mean_{|k - k'| > width} ||M_k^T M_k'||_F^2 / (||M_k||_F^2 ||M_k'||_F^2)`, where M_k holds the columns of `M T`
    at link frequency k. Each part is scaled to unit size, so weak frequencies, and their noise, count as much as strong
    ones.

    Args:
        fit, read: the weight, descrambled on the two halves of the signals, shape (output, link). The value is that of
            `read`; `fit` is only checked, because nothing is chosen here.
        width: half-width of the band in cycles per axis. Pairs within the band are not compared.

    Returns:
        A number in [0, 1]; 1 when there is no pair to compare.

    Raises:
        TypeError, ValueError: if `fit` and `read` are not finite matrices of one shape; if `width` is below 1.

    >>> round(float(link_orthogonality(jnp.eye(12), jnp.eye(12))), 3)
    1.0
    """
    _, read = pair(fit, read, AXES)
    columns = transforms.analyse(_scaled(read), "periodic", 1)
    sizes = fold(jnp.sum(squared(columns), axis=0), 0)
    blocks = _link_blocks(read)
    product = sizes[:, None] * sizes[None, :]
    return _far_from_parallel(blocks, product, width)


def output_bandedness(fit: ArrayLike, read: ArrayLike, width: int | None = None) -> Float[Array, ""]:
    """Measure whether only nearby outputs work together: share of the energy of `M M^T` in a band at the diagonal.

    `sum_{|i - j| <= width} (M M^T)_ij^2 / ||M M^T||_F^2`. This reading does not depend on the descrambler, because
    `M M^T = W_2 W_2^T`.

    Args:
        fit, read: the weight, descrambled on the two halves of the signals, shape (output, link). The value is that of
            `read`; `fit` is only checked, because nothing is chosen here.
        width: half-width of the band in points; None means a sixteenth of the outputs.

    Returns:
        A number in [0, 1]; 0 for a zero matrix.

    Raises:
        TypeError, ValueError: if `fit` and `read` are not finite matrices of one shape; if `width` is below 1.

    >>> float(output_bandedness(jnp.ones((4, 2)), jnp.ones((4, 2)), width=1))  # 10 of 16 entries
    0.625

    Source: Amey et al. 2021, W_2 W_2^T.
    """
    _, read = pair(fit, read, AXES)
    energy = squared(_gram(adjoint(_scaled(read))))
    return ratio(jnp.sum(jnp.where(_near(len(energy), _output_width(width, read)), energy, 0)), jnp.sum(energy))


def row_orthogonality(fit: ArrayLike, read: ArrayLike, width: int | None = None) -> Float[Array, ""]:
    """Measure how close to orthogonal distant rows of M are.

    `1 - mean_{|i - j| > width} cos(row_i, row_j)^2`. Rows of zeros are excluded. Random rows give 1 - 1 / (number of
    links). This reading does not depend on the descrambler.

    Args:
        fit, read: the weight, descrambled on the two halves of the signals, shape (output, link). The value is that of
            `read`; `fit` is only checked, because nothing is chosen here.
        width: half-width of the band in points; None means a sixteenth of the outputs. Rows within it are not compared.

    Returns:
        A number in [0, 1]; 1 when there is no pair to compare.

    Raises:
        TypeError, ValueError: if `fit` and `read` are not finite matrices of one shape; if `width` is below 1.

    >>> float(row_orthogonality(jnp.eye(4), jnp.eye(4)))
    1.0
    """
    _, read = pair(fit, read, AXES)
    energy = squared(_gram(adjoint(_scaled(read))))
    product = jnp.sqrt(jnp.diagonal(energy)[:, None] * jnp.diagonal(energy)[None, :])
    return _far_from_parallel(energy, product, _output_width(width, read))


def _scaled(M: Array) -> Array:
    """Scale M to a largest entry of 1. Without this, fourth powers of small weights underflow in float32."""
    return ratio(M, jnp.max(jnp.abs(M)))


def _gram(columns: Array) -> Array:
    return jnp.matmul(adjoint(columns), columns, precision="highest")


def _left_vectors(M: Array, count: int) -> tuple[Inexact[Array, "o c"], Float[Array, " c"]]:
    """Return the leading left singular vectors, and 1 or 0 for each: is its singular value above rounding?"""
    count = min(positive_integer(count, "count"), *M.shape)
    left, singular, _ = decompositions.svd(M, full_matrices=False)
    floor = max(M.shape) * jnp.finfo(M.dtype).eps * singular[0]
    return left[:, :count], (singular[:count] > floor).astype(singular.dtype)


def _mean(scores: Float[Array, " c"], present: Float[Array, " c"]) -> Float[Array, ""]:
    return ratio(jnp.sum(scores * present), jnp.sum(present))


def _link_shares(M: Inexact[Array, "o n"], left: Inexact[Array, "o c"]) -> Float[Array, "c k"]:
    """Return the energy of each `M^T u` at each |link frequency|; the energies of one vector sum to 1."""
    partners = jnp.matmul(adjoint(left), M, precision="highest")
    energy = fold(squared(transforms.analyse(partners, "periodic", 1)), 1)
    return ratio(energy, jnp.sum(energy, axis=1, keepdims=True))


def _members(family: str, n: int) -> np.ndarray:
    """Return members 1 to 8 of a family on n points as columns, with mean 0 and length 1, in float64."""
    degrees, x = min(DEGREES, n - 1), np.linspace(-1, 1, n)
    if family == "fourier":
        values = np.cos(np.pi * (np.arange(n)[:, None] + 0.5) * np.arange(1, degrees + 1) / n)
    else:
        vander = np.polynomial.chebyshev.chebvander if family == "chebyshev" else np.polynomial.legendre.legvander
        values = vander(x, degrees)[:, 1:]
    centred = values - values.mean(axis=0)
    lengths = np.linalg.norm(centred, axis=0)
    # A member can be constant on very few points; T_2 is constant on two points.
    return centred[:, lengths > 1e-8] / lengths[lengths > 1e-8]


def _squared_correlations(vectors: Inexact[Array, "o c"], members: Inexact[Array, "o d"]) -> Float[Array, "c d"]:
    centred = vectors - jnp.mean(vectors, axis=0, keepdims=True)
    overlap = squared(jnp.matmul(centred.T, members, precision="highest"))
    size = jnp.sum(squared(centred), axis=0)[:, None]
    # A constant vector correlates with nothing. Rounding leaves a small rest of it, which must not correlate either.
    nothing = size <= (len(vectors) * jnp.finfo(vectors.dtype).eps) ** 2
    return jnp.where(nothing, 0, ratio(overlap, size))


def _link_blocks(M: Inexact[Array, "o n"]) -> Float[Array, "k k"]:
    """Return `||K(k, k')||_F^2` of `K = T^T M^T M T`, with M scaled."""
    gram = _gram(transforms.analyse(_scaled(M), "periodic", 1))
    return fold(fold(squared(gram), 0), 1)


def _near(n: int, width: int) -> np.ndarray:
    i = np.arange(n)
    return np.abs(i[:, None] - i[None, :]) <= positive_integer(width, "width")


def _output_width(width: int | None, M: Array) -> int:
    return max(1, M.shape[0] // 16) if width is None else width


def _far_from_parallel(energy: Array, product: Array, width: int) -> Float[Array, ""]:
    # At an empty frequency or row only rounding is left, which has no direction.
    size = jnp.diagonal(product)
    there = ~(size <= (jnp.finfo(size.dtype).eps ** 2) * jnp.max(size))  # written with <= so that NaN stays NaN

    compared = there[:, None] & there[None, :] & ~_near(len(energy), width)
    squared_cosines = jnp.where(compared, energy / jnp.where(compared, product, 1), 0)
    return 1 - ratio(jnp.sum(squared_cosines), jnp.sum(compared, dtype=energy.dtype))
