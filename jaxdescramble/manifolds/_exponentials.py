"""The exponential of skew matrices by products only: no decomposition, a fixed cost, derivatives of every order."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Inexact

from jaxdescramble._base.checks import positive_number
from jaxdescramble._base.products import is_complex, matmul, square_sum
from jaxdescramble._base.programs import fused
from jaxdescramble.manifolds.projections import square

CAP = 2.0
"""The largest angle in radians up to which these Taylor polynomials are exact, nearly to rounding."""

_SQUARINGS = 16

# Taylor polynomials of exp, evaluated with the fewest products known: 4 for degree 12, 5 for degree 18. Each row has
# the coefficients of 1, W, W^2, W^3 (and W^6), in the order of the B_i in the paper.
_TAYLOR_12 = (
    (0.0, 0.46932117595418237389, -0.20099424927047284052, -0.04623946134063071740),
    (5.31597895759871264183, 1.19926790417132231573, 0.01179296240992997031, 0.01108844528519167989),
    (0.18188869982170434744, 0.05502798439925399070, 0.09351590770535414968, 0.00610700528898058230),
    (0.0, -0.13181061013830184015, -0.02027855540589259079, -0.00675951846863086359),
)
_TAYLOR_18 = (
    (0.0, -0.100365581030144618291, -8.02924648241156932449e-3, -8.92138498045729985177e-4, 0.0),
    (0.0, 0.397849749499645077844, 1.36783778460411720168, 0.498289622525382669416, -6.37898194594723280150e-4),
    (-10.9676396052962061844, 1.68015813878906206114, 0.0571779846478865511061, -6.98210122488052056106e-3,
     3.34975017086070470649e-5),
    (-0.0904316832390810593223, -0.0676404519071381882256, 0.0675961301770459654925, 0.0295552570429315521194,
     -1.39180257516060693404e-5),
    (0.0, 0.0, -0.0923364619367118555360, -0.0169364939002081722752, -1.40086798182036094347e-5),
)  # fmt: skip


def limit(velocity: Float[Array, "n n"], cap: ArrayLike = CAP) -> tuple[Float[Array, "n n"], Float[Array, ""]]:
    """Shorten a velocity, if necessary, so that no plane turns by more than `cap`.

    `factor = min(1, cap / b)` with `b = (||Omega^2||_F / sqrt 2)^(1/2) = (sum_j theta_j^4)^(1/4)`. The bound b is at
    least the largest angle `theta_j`, and at most (n / 2)^(1/4) times that angle. It costs one matrix product.

    Args:
        velocity: skew matrix Omega, in radians.
        cap: largest allowed angle, in radians, positive.

    Returns:
        `factor * velocity`, and the factor, which is in (0, 1].

    Raises:
        TypeError: if an argument is not made of real numbers.
        ValueError: if the velocity is not square, or the cap is not positive.

    >>> [x.tolist() for x in limit(jnp.asarray([[0.0, -4.0], [4.0, 0.0]]))]
    [[[0.0, -2.0], [2.0, 0.0]], 0.5]
    """
    velocity, cap = square(velocity, "velocity"), positive_number(cap, "cap")
    total, bound = _bound(velocity)
    factor = jnp.where(jnp.logical_or(total == 0, bound <= cap), 1, cap / bound).astype(velocity.dtype)
    return factor * velocity, factor


def angle_bound(velocity: Inexact[Array, "n n"]) -> Float[Array, ""]:
    """Return the bound of `limit` for the largest angle of a skew or skew-Hermitian matrix.

    >>> float(angle_bound(jnp.asarray([[0.0, -4.0], [4.0, 0.0]])))
    4.0
    """
    total, bound = _bound(velocity)
    return jnp.where(total == 0, 0, bound)


@fused
def _bound(velocity: Array) -> tuple[Array, Array]:
    """Return a number that is 0 for a velocity of 0, and the bound, which is then 1."""
    # Divide by the largest entry, so that fourth powers neither overflow nor vanish; the bound stays the same.
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(velocity)))
    largest = jnp.where(largest == 0, 1, largest)
    scaled = velocity / largest
    # Angles of real matrices come in pairs.
    total = square_sum(matmul(scaled, scaled)) / (1 if is_complex(velocity) else 2)
    return total, jnp.where(total == 0, 1, total) ** 0.25 * largest


@fused
def exponential_minus_one(velocity: Inexact[Array, "n n"]) -> Inexact[Array, "n n"]:
    """Return `exp(Omega) - 1` by the Taylor polynomial of degree 18 (12 in float32), for norms up to CAP.

    The error at the largest angle theta is theta^19 / 19!: 4e-12 at 2 rad, below rounding at 1.2 rad. In float32 it is
    theta^13 / 13!: 1e-6 at 2 rad, below rounding at 1.6 rad. It takes five products (four in float32). Small results
    keep all their digits.

    Args:
        velocity: skew matrix Omega, in radians, with a spectral norm of at most CAP (see `limit`).

    >>> exponential_minus_one(jnp.zeros((2, 2))).tolist()
    [[0.0, 0.0], [0.0, 0.0]]

    Source: Bader, Blanes, Casas, Mathematics 7 (2019) 1174, "Computing the matrix exponential with an optimized Taylor
    polynomial approximation".
    """
    W2 = matmul(velocity, velocity)
    W3 = matmul(W2, velocity)
    # The polynomial is `rest + (c + left) (d + right)` with c d = 1. Multiply it out and leave out the 1.
    if is_double(velocity):
        powers = (velocity, W2, W3, matmul(W3, W3))
        B0, B1, B2, B3, B4 = (_combine(row[1:], powers) for row in _TAYLOR_18)
        c, d = _TAYLOR_18[2][0] + _TAYLOR_18[3][0], _TAYLOR_18[3][0]
        right = B3 + matmul(B0, B4)
        left, rest = B2 + right, B1
    else:
        B0, B1, B2, B3 = (_combine(row[1:], (velocity, W2, W3)) for row in _TAYLOR_12)
        c, d = _TAYLOR_12[1][0] + _TAYLOR_12[2][0], _TAYLOR_12[2][0]
        right = B2 + matmul(B3, B3)
        left, rest = B1 + right, B0
    return rest + c * right + d * left + matmul(left, right)


def exponential_of_any(velocity: Inexact[Array, "n n"]) -> Inexact[Array, "n n"]:
    """Return `exp(Omega)` for any velocity up to 2^16 radians, by squaring the polynomial as often as needed.

    One problem alone computes only the squarings that it needs; under `vmap` every problem computes 16.
    `jax.scipy.linalg.expm` is not used, because its batches call LAPACK (see `decompositions`).

    Args:
        velocity: skew or skew-Hermitian matrix Omega, in radians.

    Returns:
        The exponential; NaN for longer velocities.

    >>> turn = jnp.asarray([[0.0, -jnp.pi], [jnp.pi, 0.0]])
    >>> (exponential_of_any(4 * turn).round(3) + 0.0).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    minus_one = exponential_of_any_minus_one(velocity, angle_bound(velocity))
    return jnp.eye(velocity.shape[-1], dtype=velocity.dtype) + minus_one


@fused
def exponential_of_any_minus_one(matrix: Inexact[Array, "n n"], bound: Float[Array, ""]) -> Inexact[Array, "n n"]:
    """Return `exp(M) - 1` for a matrix M whose norm has this bound; NaN if the bound is above 2^16.

    >>> exponential_of_any_minus_one(jnp.zeros((2, 2)), jnp.zeros(())).tolist()
    [[0.0, 0.0], [0.0, 0.0]]
    """
    bound = jax.lax.stop_gradient(bound)
    times = jnp.maximum(jnp.ceil(jnp.log2(jnp.where(bound > 0, bound, 1))), 0)  # up to 1 rad the polynomial is exact
    start = exponential_minus_one(matrix * jnp.exp2(-times))

    def squared(k: Array, E: Array) -> Array:
        return jax.lax.cond(k < times, lambda e: 2 * e + matmul(e, e), lambda e: e, E)

    found = jax.lax.fori_loop(0, _SQUARINGS, squared, start)
    return jnp.where(times <= _SQUARINGS, found, jnp.nan)


def is_double(array: Array) -> bool:
    """Return whether an array has the fifteen digits of float64.

    >>> is_double(jnp.ones(2, jnp.float32))
    False
    """
    return bool(jnp.finfo(array.dtype).eps < 1e-12)


def _combine(coefficients: tuple[float, ...], matrices: tuple[Array, ...]) -> Array:
    return sum((c * M for c, M in zip(coefficients, matrices, strict=True) if c), jnp.zeros_like(matrices[0]))
