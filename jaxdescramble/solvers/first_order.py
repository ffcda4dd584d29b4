"""Optax transformations on the orthogonal group."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PyTree

from jaxdescramble._base.checks import one_with
from jaxdescramble._base.products import matmul
from jaxdescramble.manifolds import orthogonal, retractions
from jaxdescramble.solvers.descent import Info, Step
from jaxdescramble.solvers.problem import GroupFunction, Iterate


def riemannian(transform: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Return an optax transformation that keeps orthogonal parameters orthogonal.

    Use it inside your own training loop. It maps the Euclidean gradient G to the Lie algebra, `g = skew(P^T G)`. The
    inner transformation receives g as the gradient of a parameter at zero and returns a skew velocity Omega. The update
    is `P exp(Omega) - P`, corrected onto the group to rounding, so that nothing drifts over any number of steps.
    Moments live in body coordinates, where transport is the identity. A velocity that would turn a plane by more than
    `manifolds.retractions.CAP` is shortened.

    Do not use it with `optax.lbfgs`, whose memory is differences of parameters: they are always zero here. Use
    `solvers.LBFGS` instead.

    Args:
        transform: an optax transformation such as `optax.adam(1e-2)`. Its `value_fn` (for line searches) is mapped too.

    Returns:
        A `GradientTransformation` for pytrees of orthogonal matrices (..., n, n); its `update` needs `params`.

    Raises:
        TypeError: if `transform` is not an optax transformation.
        ValueError: if `params` is missing, or a parameter is not square.

    >>> optimiser = riemannian(optax.sgd(0.1))
    >>> P = jnp.eye(2)
    >>> state = optimiser.init(P)
    >>> updates, state = optimiser.update(jnp.asarray([[0.0, 1.0], [0.0, 0.0]]), state, P)
    >>> P = optax.apply_updates(P, updates)
    >>> bool(abs(P.T @ P - jnp.eye(2)).max() < 1e-6)
    True

    Source: Lezcano-Casado, NeurIPS 2019 ("dynamic trivialisations"); Becigneul, Ganea, ICLR 2019, for Adam.
    """
    one_with(transform, "transform", ("init", "update"), "an optax transformation such as optax.adam(1e-2)")
    inner = optax.with_extra_args_support(transform)

    def init(params: PyTree) -> PyTree:
        return inner.init(jax.tree.map(_zeros, params))

    def update(updates: PyTree, state: PyTree, params: PyTree = None, **extra: Any) -> tuple[PyTree, PyTree]:
        if params is None:
            raise ValueError("riemannian: update needs the parameters: optimiser.update(gradients, state, params).")

        def moved(velocities: PyTree) -> PyTree:
            return jax.tree.map(_move, params, velocities)

        if (value_fn := extra.get("value_fn")) is not None:
            extra["value_fn"] = lambda velocities, *args, **kwargs: value_fn(moved(velocities), *args, **kwargs)
        if "grad" in extra:
            extra["grad"] = jax.tree.map(_to_algebra, extra["grad"], params)
        slopes = jax.tree.map(_to_algebra, updates, params)
        velocities, state = inner.update(slopes, state, jax.tree.map(_zeros, params), **extra)
        return jax.tree.map(lambda new, old: new - old, moved(velocities), params), state

    return optax.GradientTransformationExtraArgs(init, update)


def _zeros(point: Array) -> Array:
    if jnp.ndim(point) < 2 or point.shape[-1] != point.shape[-2]:
        raise ValueError(
            f"riemannian: got a parameter of shape {jnp.shape(point)}; must be square matrices (..., n, n). Use "
            "optax.partition to give other parameters another optimiser."
        )
    return jnp.zeros_like(point)


def _to_algebra(slope: Array, point: Array) -> Array:
    return orthogonal.skew(matmul(jnp.swapaxes(point, -1, -2), slope))


def _move(point: Array, velocity: Array) -> Array:
    def one(point: Float[Array, "n n"], velocity: Float[Array, "n n"]) -> Float[Array, "n n"]:
        # The velocity is skew in exact arithmetic, but optax need not keep the last digit.
        return retractions.exponential(point, retractions.limit(orthogonal.skew(velocity))[0])

    for _ in range(point.ndim - 2):
        one = jax.vmap(one)
    return one(point, velocity)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Optax:
    """Any optax transformation as a solver: `Optax(optax.adam(1e-2), max_steps=1000)`.

    Use it to try an optax method on a deterministic function; for samples in batches, use `Minibatches`. It takes every
    step, up or down, and ends after `max_steps` or when the gradient vanishes.

    Attributes:
        transform: an optax transformation. A new one compiles a new program, so make it once.
        max_steps: number of steps (fixed at compile time, like the tolerance).
        tolerance: stop at `||g||_F <= tolerance * (largest ||grad f||_F seen)`; None means what the dtype allows.

    >>> from jaxdescramble import solvers
    >>> def misfit(point, goal):
    ...     return jnp.sum((point - goal) ** 2)
    >>> goal = jnp.asarray([[0.0, -1.0], [1.0, 0.0]])
    >>> found = solvers.minimise(misfit, jnp.eye(2), goal, solver=Optax(optax.adam(0.05), max_steps=200))
    >>> bool(abs(found.point - goal).max() < 1e-2)
    True

    Source: see `riemannian`.
    """

    transform: optax.GradientTransformation
    max_steps: ArrayLike = 1000
    tolerance: ArrayLike | None = None
    may_rise: ClassVar[bool] = True

    def bind(self, problem: GroupFunction, start: Iterate) -> tuple[PyTree, Step]:
        """Return the initial state and the step; see `solvers.descent.Descent`."""
        transform = optax.with_extra_args_support(self.transform)
        zero = jnp.zeros_like(start.gradient)

        def step(iterate: Iterate, state: PyTree) -> tuple[Iterate, PyTree, Info]:
            def value_fn(velocity: Array) -> Array:
                return problem.value(_move(iterate.point, velocity))

            given = {"value": iterate.value, "grad": iterate.gradient, "value_fn": value_fn}
            velocity, state = transform.update(iterate.gradient, state, zero, **given)
            trial = problem.evaluate(_move(iterate.point, jnp.asarray(velocity)))
            return trial, state, Info(jnp.zeros((), bool), jnp.ones((), jnp.int32))

        return transform.init(zero), step
