"""Preconditioners: diagonal models of the Hessian in a suitable frame, and the plane rotations that they suggest.

A preconditioner is an option of a solver. `bind(problem, start)` does once what does not depend on the point. It
returns a state and `refresh(iterate, state) -> (Curvature, state)`. In the frame F, the solver divides the gradient
entrywise, `M^-1 g = F ((F^T g F) / d) F^T`; see `jacobi_divisors` for d.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxdescramble._base import decompositions
from jaxdescramble._base.products import matmul
from jaxdescramble._base.pytrees import register_dataclass
from jaxdescramble.manifolds import orthogonal
from jaxdescramble.objectives.objective import Curvature
from jaxdescramble.objectives.summary import Summary
from jaxdescramble.solvers import _blocks, _columns
from jaxdescramble.solvers._kronecker import at_the_minimum, rank_one, rudin_shapiro
from jaxdescramble.solvers.problem import Iterate, ManifoldFunction, name_of

Refresh = Callable[[Iterate, PyTree], tuple[Curvature, PyTree]]
"""`refresh(iterate, state) -> (model of the Hessian, state)`."""

Prepare = Callable[[Iterate, PyTree], tuple[Callable[[Array], Array], Array, PyTree]]
"""`prepare(iterate, state) -> (M^-1 as a function, whether it models f, state)`."""

FLOOR = 0.6
"""The least divisor, in units of the largest, is the dtype's eps to this power: 4e-10 in float64, 7e-5 in float32."""

STEADY = 1e-6
"""The least divisor of a steady metric, in units of the largest."""

INNER = 4.0
"""How many Hessian products a step of a trust region takes far from the answer."""

COLUMNS = 32
"""Number of Hessian products that `Kronecker` takes together: it fills a matrix product and fits into memory."""


@runtime_checkable
class Preconditioner(Protocol):
    """A value that models the Hessian of a problem as a diagonal in a frame."""

    def bind(self, problem: ManifoldFunction, start: Iterate) -> tuple[PyTree, Refresh]:
        """Return an initial state, and the function that models the Hessian at a point."""
        ...


@register_dataclass
@dataclasses.dataclass(frozen=True)
class Analytic:
    """The curvature that the objective itself provides.

    Use it if the objective has a `curvature`, such as smoothness: it costs less than a measured one. For smoothness it
    is Brockett's: in the eigenbasis of `B = S S^T`, with `At = P^T A P`, the Hessian near the answer is nearly
    diagonal, `2 (At_ii - At_jj)(b_j - b_i)`.

    Attributes:
        every: ask the objective again after this many steps; between, the model stays as it was (fixed at compile
            time). None leaves it to the model: a model in a frame that moves with the point is asked at every step, one
            in a fixed frame may say that it changes slowly.

    Raises:
        TypeError: in `bind`, if the function is not an objective with a `curvature`.

    >>> from jaxdescramble.objectives import smoothness
    >>> from jaxdescramble.solvers import TrustRegion, minimise
    >>> objective = smoothness(order=1)
    >>> summary = objective.summarise(jax.random.normal(jax.random.key(0), (6, 20)))
    >>> found = minimise(objective, jnp.eye(6), summary, solver=TrustRegion(preconditioner=Analytic()))
    >>> bool(abs(found.value - objective.bound(summary)) < 1e-5)
    True
    """

    every: int | None = dataclasses.field(default=None, metadata={"static": True})

    def bind(self, problem: ManifoldFunction, start: Iterate) -> tuple[PyTree, Refresh]:
        """Return the initial state and `refresh`; see `Preconditioner`."""
        given = getattr(problem.function, "curvature", None)
        at = None if given is None else given(*problem.args)
        if at is None:
            raise TypeError(
                f"Analytic: {name_of(problem.function)} gives no curvature. Use an objective that gives one "
                "(objectives.smoothness), write one with a method `curvature`, or use solvers.Kronecker(), which "
                "measures it."
            )
        return _asked(at, self.every, problem, start)


def _asked(
    at: Callable[[Array], Curvature], every: int | None, problem: ManifoldFunction, start: Iterate
) -> tuple[PyTree, Refresh]:
    """Return the initial state and `refresh` of a model that the objective gives."""
    unit = 1 if problem.unit is None else problem.unit
    every, of = every or getattr(at, "every", 1), getattr(at, "of", None)

    def model(iterate: Iterate) -> Curvature:
        frame, diagonal = at(iterate.point) if of is None else of(iterate.point, unit * iterate.normal)
        dtype = start.point.dtype  # the data may have another
        return Curvature(None if frame is None else frame.astype(dtype), (diagonal / unit).astype(dtype))

    def refresh(iterate: Iterate, state: PyTree) -> tuple[Curvature, PyTree]:
        if every == 1:
            return model(iterate), state
        age, kept = state
        kept = jax.lax.cond(age % every == 0, lambda: model(iterate), lambda: kept)
        return kept, (age + 1, kept)

    if every == 1:
        return (), refresh
    kept = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(model, start))
    return (jnp.zeros((), jnp.int32), kept), refresh


@register_dataclass
@dataclasses.dataclass(frozen=True)
class Kronecker:
    """A Kronecker product `D^2 f[V] = A V B`, measured on any function.

    Use it for functions without a known curvature. Every function of `D P S` has nearly such a Hessian, with A from
    the operator and B from the signals. With one fixed sign vector u, B is the Hessian of `y -> f(P + u y^T)` and A
    that of `x -> f(P + x u^T)`, each up to a factor. This takes 2 n Hessian products and is exact for quadratic forms.
    In the eigenbasis of B, the plane (i, j) has the curvature `At_ii b_j + At_jj b_i - M_ii - M_jj`, with
    `At = P^T A P` and M the symmetric part of `P^T grad f`.

    On Stiefel and Grassmann manifolds of real n x p matrices, B is p x p and is measured in the same way, and the mean
    and the spread of the eigenvalues of A stand for A. This takes p Hessian products, O(n p^2) operations a step, and
    no n x n matrix. It takes out how differently a function weighs its columns (Brockett's function).

    Two products in advance test whether the Hessian has this form: it must map a rank-one matrix to a rank-one matrix,
    and to the same one at another point. If it does not, as at the corners of an L1 norm, nothing is measured, and the
    solver works without a preconditioner.

    Attributes:
        every: measure again after this many steps; 0 measures once, at the start (fixed at compile time).

    >>> from jaxdescramble.solvers import LBFGS, minimise
    >>> def roughness(point, signals):
    ...     return jnp.sum(jnp.diff(point @ signals, axis=0) ** 2)
    >>> signals = jax.random.normal(jax.random.key(0), (6, 20))
    >>> int(minimise(roughness, jnp.eye(6), signals, solver=LBFGS(preconditioner=Kronecker())).status)
    0

    Source: this package; the factors are those of K-FAC (Martens, Grosse, ICML 2015), measured instead of sampled.
    """

    every: int = dataclasses.field(default=0, metadata={"static": True})

    def bind(self, problem: ManifoldFunction, start: Iterate) -> tuple[PyTree, Refresh]:
        """Return the initial state and `refresh`; see `Preconditioner`."""

        def refresh(iterate: Iterate, state: PyTree) -> tuple[Curvature, PyTree]:
            age, factors = state
            if self.every:
                due = age % self.every == 0
                factors = jax.lax.cond(due, lambda: _factors(problem, iterate.point), lambda: factors)
            A, b, frame, fits = factors
            modes = matmul(iterate.point, frame)
            a = jnp.sum(modes * matmul(A, modes), axis=0)
            bent = jnp.sum(frame * matmul(iterate.normal, frame), axis=0)
            one_way = a[:, None] * b[None, :] - bent[:, None]
            diagonal = jnp.where(fits, one_way + one_way.T, jnp.inf)
            return Curvature(frame, diagonal), (age + 1, factors)

        # The measurement dominates the compile time, so the program contains it only once.
        factors = _unmeasured(start.point) if self.every else _factors(problem, start.point)
        return (jnp.zeros((), jnp.int32), factors), refresh


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Automatic:
    """The model that suits a function: `Analytic()` for an objective with a curvature, otherwise `Kronecker()`.

    It is the default of `LBFGS` and `TrustRegion`. For real n x p matrices with orthonormal columns, n >= 64 and
    p >= 2, it is `Kronecker()`, measured when a solve has cost as much. In a product, each part has one number: its
    curvature along one direction, measured at the steps 0, 1, 2, 4, 8, ... So parts may have different units. On other
    manifolds, nothing is modelled.

    >>> from jaxdescramble.objectives import total_variation
    >>> from jaxdescramble.solvers import LBFGS, minimise
    >>> objective = total_variation(epsilon=0.1)
    >>> summary = objective.summarise(jax.random.normal(jax.random.key(0), (6, 20)))
    >>> int(minimise(objective, jnp.eye(6), summary, solver=LBFGS(preconditioner=Automatic())).status)
    0

    Source: this package.
    """

    def bind(self, problem: ManifoldFunction, start: Iterate) -> tuple[PyTree, Refresh]:
        """Return the initial state and `refresh`; see `Preconditioner`."""
        given = getattr(problem.function, "curvature", None)
        on_summary = bool(problem.args) and isinstance(problem.args[0], Summary)
        at = given(*problem.args) if given is not None and on_summary else None
        return Kronecker().bind(problem, start) if at is None else _asked(at, None, problem, start)


class _Factors(NamedTuple):
    """`D^2 f[V] = A V B` with `B = frame diag(values) frame^T`, and whether the Hessian has this form."""

    left: Float[Array, "n n"]
    values: Float[Array, " n"]
    frame: Float[Array, "n n"]
    fits: Array


def _unmeasured(point: Float[Array, "n n"]) -> _Factors:
    n, dtype = point.shape[0], point.dtype
    eye = jnp.eye(n, dtype=dtype)
    return _Factors(eye, jnp.ones(n, dtype), eye, jnp.zeros((), bool))


def _factors(problem: ManifoldFunction, point: Float[Array, "n n"]) -> _Factors:
    n, dtype = point.shape[0], point.dtype
    signs, eye = jnp.asarray(rudin_shapiro(n), dtype), jnp.eye(n, dtype=dtype)
    others = jnp.asarray(rudin_shapiro(2 * n)[n:], dtype)
    slope = jax.grad(problem.value)

    _, _, fits = rank_one(slope, (point, point[:, ::-1]), signs, others)

    def measure() -> _Factors:
        _, product = jax.linearize(slope, point)

        def row(along: tuple[Array, Array]) -> Array:
            unit, of_rows = along
            left, right = jnp.where(of_rows, signs, unit), jnp.where(of_rows, unit, signs)
            image = product(left[:, None] * right[None, :])
            return jnp.where(of_rows, matmul(signs[None, :], image)[0], matmul(image, signs[:, None])[:, 0])

        # The first n rows give B, the others A: one program does both in one sweep. Fill up to whole batches, because
        # a remainder would compile another program.
        batches = -(-2 * n // COLUMNS)
        batch = -(-2 * n // batches)
        unit = jnp.concatenate([eye, eye, jnp.zeros((batch * batches - 2 * n, n), dtype)])
        found = jax.lax.map(row, (unit, jnp.arange(len(unit)) < n), batch_size=batch)
        B, A = found[:n], found[n : 2 * n]
        A, B = (jnp.where(jnp.isfinite(found).all(), (found + found.T) / 2, eye) for found in (A, B))
        # u^T A u = u^T B u is the product of the scales of both factors.
        common = signs @ matmul(B, signs[:, None])[:, 0]
        values, frame = decompositions.eigh(B)
        return _Factors(A / jnp.where(common == 0, 1, common), values, frame, jnp.ones((), bool))

    return jax.lax.cond(fits, measure, lambda: _unmeasured(point))


def jacobi_divisors(curvature: Curvature, gradient: Float[Array, "n n"]) -> tuple[Curvature, Array]:
    """Return divisors d with which `M^-1 g` turns every plane of the frame to the minimum of its own sinusoid.

    Along a rotation in one plane, a quadratic form is `c + r cos(2 theta - phi)`. With slope s and curvature h, its
    minimum is at `theta = -atan2(2 s, h) / 2`: Newton's step for large h, an eighth of a turn without curvature, and a
    quarter turn at a maximum. So `d = 2 s / atan2(2 s, h)`, which is positive, and equals h near the answer. This is
    Jacobi's method on all planes at once.

    Where the model bends downward, h < 0, but f hardly slopes, this is a quarter turn for a tiny slope. If the model is
    wrong there, such planes make every step along the whole direction tiny: spectral entropy stopped up to 1% above its
    minimum. So d is at least `DOWNWARD * |h|` there. Divisors below `eps^FLOOR` of the largest are raised to it. If the
    curvature is zero everywhere or not finite, it models nothing: then all divisors are 1, and the flag beside them is
    False.

    >>> flat = Curvature(jnp.eye(2), jnp.zeros((2, 2)))
    >>> round(float(jacobi_divisors(flat, jnp.asarray([[0.0, 0.5], [-0.5, 0.0]]))[0].diagonal[0, 1]), 4)  # 4 / pi
    1.2732

    Source: this package.
    """
    frame, diagonal = curvature
    slope = 2 * jnp.abs(_inside(frame, gradient))
    size = at_the_minimum(slope, diagonal)
    return _raised(frame, size, float(jnp.finfo(size.dtype).eps) ** FLOOR)


def steady(curvature: Curvature, gradient: Float[Array, "n n"]) -> tuple[Curvature, Array]:
    """Return the divisors `d = |h|`, at least `STEADY` of the largest: a metric that does not depend on the slope.

    Use it for methods that measure how far they trust a model: in the metric of `jacobi_divisors`, distances along
    slow planes look short.

    >>> steady(Curvature(jnp.eye(2), jnp.full((2, 2), -3.0)), jnp.zeros((2, 2)))[0].diagonal[0].tolist()
    [3.0, 3.0]
    """
    return _raised(curvature.frame, jnp.abs(curvature.diagonal), STEADY)


def _raised(frame: Array | None, size: Float[Array, "n n"], least: float) -> tuple[Curvature, Array]:
    """Return divisors of at least this fraction of the largest; return 1 and False if they model nothing."""
    largest = jnp.max(size)
    known = (largest > 0) & jnp.isfinite(largest)
    return Curvature(frame, jnp.where(known, jnp.maximum(size, least * largest), 1)), known


def divide(curvature: Curvature, velocity: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """Return `M^-1` of a skew matrix: the velocity of steepest descent in the metric of a positive diagonal.

    >>> turn = jnp.asarray([[0.0, 6.0], [-6.0, 0.0]])
    >>> divide(Curvature(jnp.eye(2), jnp.full((2, 2), 3.0)), turn)[0].tolist()
    [0.0, 4.0]
    """
    frame, diagonal = curvature
    divided = 2 * _inside(frame, velocity) / diagonal
    return orthogonal.skew(divided if frame is None else matmul(matmul(frame, divided), frame.T))


def _inside(frame: Array | None, X: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """Return `F^T X F`: the matrix in the frame."""
    return X if frame is None else matmul(matmul(frame.T, X), frame)


def bind(
    preconditioner: Preconditioner | None,
    problem: ManifoldFunction,
    start: Iterate,
    divisors: Callable[[Curvature, Array], tuple[Curvature, Array]] = jacobi_divisors,
) -> tuple[PyTree, Prepare]:
    """Return an initial state and `prepare`; `divisors` makes divisors of a curvature and a gradient."""
    manifold, automatic = problem.manifold, isinstance(preconditioner, Automatic)
    if automatic and manifold.factors:
        return _blocks.bind(problem, start)
    asked = _columns.possible(problem, start) and isinstance(preconditioner, Kronecker)
    if asked or (automatic and _columns.worthwhile(problem, start)):
        every = preconditioner.every if isinstance(preconditioner, Kronecker) else None
        products = INNER if divisors is steady else 0.5  # an evaluation costs half as much as a product
        return _columns.bind(problem, start, every, products)
    if preconditioner is None or (automatic and not manifold.frames):
        return (), lambda iterate, state: (lambda velocity: velocity, jnp.zeros((), bool), state)
    if not manifold.frames:
        raise TypeError(
            f"{type(preconditioner).__name__}: got {manifold!r}. Analytic models functions on O(n), and Kronecker also "
            "functions of real orthonormal columns (manifolds.Stiefel, Grassmann); otherwise use preconditioner=None, "
            "or the default."
        )
    state, refresh = preconditioner.bind(problem, start)

    def prepare(iterate: Iterate, state: PyTree) -> tuple[Callable[[Array], Array], Array, PyTree]:
        curvature, state = refresh(iterate, state)
        metric, known = divisors(curvature, iterate.gradient)
        return functools.partial(divide, metric), known, state

    return state, prepare
