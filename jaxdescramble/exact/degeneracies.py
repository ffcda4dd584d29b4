"""The full gauge group of one problem: the changes of P, from the left and from the right, that keep `||D P S||_F`.

With `A = D^T D` and `B = S S^T`, the square of this norm is `f(P) = tr(A P B P^T)`. It has the same value at P and at
`G P H`, for every orthogonal G that commutes with A and every orthogonal H that commutes with B. Such G are signs of
single modes and O(2) on each cosine-sine pair. Such H are signs, O(k) on k equal singular values, and O(n - r) on the
null space of signals of rank r. Two minimisers are the same answer if one is `G P H` of the other.
"""

import dataclasses
import functools
import itertools
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Inexact, PRNGKeyArray

from jaxdescramble._base import decompositions
from jaxdescramble._base.checks import an_operator, is_traced, number_between, random_key
from jaxdescramble._base.products import is_complex, matmul
from jaxdescramble._base.pytrees import register_dataclass
from jaxdescramble._base.results import Result
from jaxdescramble.exact.gauge import Stabiliser
from jaxdescramble.manifolds import orthogonal
from jaxdescramble.manifolds.projections import square
from jaxdescramble.objectives.summary import Summary, a_summary
from jaxdescramble.operators import MatrixOperator, Operator

ROUNDS = 50
"""Largest number of alternations between the left and the right factor of an alignment. A few are usually enough."""


@functools.partial(register_dataclass, data_fields=["operator", "directions"], meta_fields=["ties"])
@dataclasses.dataclass(frozen=True, repr=False)
class Degeneracy(Result):
    """The gauge group of one problem, all changes `P -> G P H`. `degeneracy` returns it; `align` accepts it as a gauge.

    It is a pytree.

    Attributes:
        operator: the derivative operator D; G is in its `Stabiliser`.
        directions: U, the left singular vectors of the signals in columns, strongest first; H is
            `U diag(O(k), ...) U^T`.
        ties: lengths of the runs of equal singular values, the null space last; their sum is n.
    """

    operator: Operator
    directions: Float[Array, "n n"]
    ties: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of points n."""
        return self.operator.size

    @property
    def dimension(self) -> int:
        """Dimension of the group: the number of free angles, `sum k (k - 1) / 2` over the runs of both sides.

        0 means that only signs are free.
        """
        return sum(k * (k - 1) // 2 for k in (*self.operator.multiplicities, *self.ties))

    def __str__(self) -> str:
        """Describe the group in words, such as `operator: 2 signs, 3 O(2); signals: 5 signs, O(3)`.

        `3 O(2)` means three groups O(2), each acting on its own plane.
        """
        return f"operator: {_words(self.operator.multiplicities)}; signals: {_words(self.ties)}"

    def random(self, key: PRNGKeyArray, point: Float[Array, "n n"]) -> Float[Array, "n n"]:
        """Return `G P H` with Haar-random (uniformly random) G and H. If P is a minimiser, so is the result.

        Args:
            key: random key.
            point: the descrambler P, an orthogonal matrix of shape (n, n).

        Raises:
            TypeError: if `key` is not a key.
            ValueError: if `point` is not a square matrix of this size.
        """
        point, keys = square(point, "point", like=self.directions), jax.random.split(random_key(key))
        left, right = _random_blocks(keys[0], self.operator.multiplicities), _random_blocks(keys[1], self.ties)
        modes = matmul(left.astype(point.dtype), matmul(self.operator.analyse(point), self.directions))
        return self.operator.synthesise(matmul(matmul(modes, right.astype(point.dtype)), self.directions.T))

    def nearest(self, p: Inexact[Array, "n k"], q: Inexact[Array, "n k"]) -> Inexact[Array, "n n"]:
        """Return the left factor `(G p H) p^T` that turns an orthogonal p into the best `G p H`.

        The search alternates between G and H, until neither lowers `||G p H - q||_F`. Each step is one Procrustes
        problem per run of equal values. The search runs twice: once with G first, once with H first. Use it for
        minimisers of the problem, whose modes nearly match. For other points it can stop too early, because signs on
        the two sides can block each other.

        Raises:
            TypeError: if a matrix is complex.
            ValueError: if p is not square, as with `rank=k`.
        """
        if is_complex(p) or is_complex(q):
            raise TypeError(
                "gauge: got complex matrices; a Degeneracy aligns real ones. Use exact.Stabiliser(operator), which "
                "takes complex matrices too."
            )
        if p.shape[0] != p.shape[1]:
            raise ValueError(
                f"p: got shape {p.shape}; a Degeneracy takes square descramblers, because it turns components of the "
                "signals too. Use exact.Stabiliser(operator) for a P from rank=k, or for other matrices."
            )
        return _nearest(self, p, q)


def degeneracy(operator: Operator, summary: Summary, tolerance: float | None = None) -> Degeneracy:
    """Return the gauge group of `||D P S||_F`: all changes of P that keep this norm, for these signals S.

    Use it to see how far an answer of `objectives.smoothness` is unique (print it), and to compare two answers: pass it
    to `align` as the gauge.

    Args:
        operator: the derivative operator D, from `jaxdescramble.operators`.
        summary: summary of the signals S, from `objective.summarise(signals)`, with concrete numbers (not traced).
        tolerance: singular values of S count as equal if neighbouring ones differ by at most this fraction of the
            largest one; None means `8 eps` of the dtype. Values below `n eps` of the largest belong to the null space.

    Returns:
        A `Degeneracy`. Its text names the groups on both sides: in the example, the operator leaves 1 sign and two
        groups O(2) free, and so do the signals. Each O(2) has one angle, so `dimension` is 4.

    Raises:
        TypeError: if the signals are complex, or the summary is traced. Call `degeneracy` outside `jit`: the number of
            equal singular values must be known.
        ValueError: if the sizes differ, or the tolerance is negative.

    >>> from jaxdescramble.objectives import Samples
    >>> from jaxdescramble.operators import derivative
    >>> free = degeneracy(derivative(5), Samples(jnp.diag(jnp.asarray([3.0, 2.0, 2.0, 0.0, 0.0]))))
    >>> str(free), free.dimension
    ('operator: 1 sign, 2 O(2); signals: 1 sign, 2 O(2)', 4)

    Source: Sule, Spencer, Czaja 2025 (the proof of their theorem specifies the freedom); the group is derived here.
    """
    an_operator(operator)
    a_summary(summary)
    if jnp.issubdtype(summary.dtype, jnp.complexfloating):
        raise TypeError(
            f"summary: got complex signals ({summary.dtype}); degeneracy takes real ones. For complex signals, the "
            "groups O(k) become U(k), and each sign a phase."
        )
    if any(is_traced(leaf) for leaf in jax.tree.leaves(summary)):
        raise TypeError("summary: got traced values; degeneracy counts ties, so call it outside jit and vmap.")
    if operator.size != summary.size:
        raise ValueError(
            f"degeneracy: got an operator on {operator.size} points and signals with {summary.size} features; the two "
            "numbers must be the same."
        )
    directions, singular = summary.normalised().principal()
    seen = np.asarray(singular) ** summary.exponent
    if tolerance is None:
        tolerance = 8 * float(np.finfo(seen.dtype).eps)
    tolerance = number_between(tolerance, "tolerance", 0, np.inf, "a number of at least 0", ends=True)
    rank = int(np.asarray(decompositions.resolved(jnp.asarray(seen))).sum())
    borders = (np.flatnonzero(-np.diff(seen[:rank]) > tolerance * seen[0]) + 1).tolist()
    ends = sorted({0, *borders, rank, summary.size})
    return Degeneracy(operator, directions, tuple(after - before for before, after in itertools.pairwise(ends)))


@jax.jit
def _nearest(gauge: Degeneracy, p: Array, q: Array) -> Array:
    left, right = Stabiliser(gauge.operator), Stabiliser(_as_operator(gauge.directions, gauge.ties))
    gain = 10 * jnp.finfo(p.dtype).eps * p.shape[0]

    def from_left(turned: Array) -> Array:
        return matmul(left.nearest(turned, q), turned)

    def from_right(turned: Array) -> Array:
        return matmul(right.nearest(turned.T, q.T), turned.T).T

    def climb(start: Array) -> tuple[Array, Array]:
        def body(state: tuple) -> tuple:
            turned, best, k, _ = state
            turned = from_right(from_left(turned))
            now = jnp.sum(turned * q)
            return turned, now, k + 1, now > best + gain

        state = (start, jnp.sum(start * q), jnp.zeros((), jnp.int32), jnp.ones((), bool))
        turned, value, *_ = jax.lax.while_loop(lambda s: s[3] & (s[2] < ROUNDS), body, state)
        return turned, value

    (one, value), (other, better) = climb(p), climb(from_right(p))
    return matmul(jnp.where(better > value, other, one), p.T)


def _as_operator(directions: Array, ties: tuple[int, ...]) -> Operator:
    """Return an operator whose stabiliser is the group of H: eigenvectors U, one eigenvalue for each run."""
    runs = jnp.asarray(np.repeat(np.arange(float(len(ties))), ties), directions.dtype)
    return MatrixOperator(runs[:, None] * directions.T, runs**2, directions, ties)


def _random_blocks(key: PRNGKeyArray, runs: tuple[int, ...]) -> Array:
    blocks = [orthogonal.random(one, k) for one, k in zip(jax.random.split(key, len(runs)), runs, strict=True)]
    return jax.scipy.linalg.block_diag(*blocks)


def _words(runs: tuple[int, ...]) -> str:
    counts = Counter(runs)
    signs = counts.pop(1, 0)
    words = [f"{signs} sign{'s' if signs > 1 else ''}"] if signs else []
    return ", ".join(words + [f"{'' if m == 1 else f'{m} '}O({k})" for k, m in sorted(counts.items())])
