"""Optax transformations on manifolds."""

import dataclasses
import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, PyTree

from jaxdescramble._base.checks import one_with
from jaxdescramble._base.products import is_complex
from jaxdescramble.manifolds.groups import Orthogonal
from jaxdescramble.manifolds.manifold import Manifold
from jaxdescramble.manifolds.powers import Power
from jaxdescramble.manifolds.products import is_manifold, spread
from jaxdescramble.solvers.descent import Info, Step
from jaxdescramble.solvers.problem import Iterate, ManifoldFunction, real_type_of


def riemannian(
    transform: optax.GradientTransformation, manifold: PyTree = None
) -> optax.GradientTransformationExtraArgs:
    """Return an optax transformation that keeps parameters on a manifold, such as orthogonal ones orthogonal.

    Use it inside your own training loop. It maps the Euclidean gradient to coordinates of the gradient on the manifold:
    on O(n), G becomes `g = skew(P^T G)`. The inner transformation receives them as the gradient of a parameter at zero
    and returns a velocity, on O(n) a skew Omega. The update leads to the end of the geodesic, `P exp(Omega) - P`,
    corrected onto the manifold to rounding, so that nothing drifts over any number of steps. Moments live in
    coordinates, where transport is the identity. A velocity that would turn a plane by more than
    `manifolds.retractions.CAP` is shortened.

    Do not use it with `optax.lbfgs`, whose memory is differences of parameters: they are always zero here. Use
    `solvers.LBFGS` instead.

    Args:
        transform: an optax transformation such as `optax.adam(1e-2)`. Its `value_fn` (for line searches) is mapped too.
        manifold: a manifold for all parameters, or a pytree of manifolds; one given for a branch stands for all
            parameters below. None means `manifolds.Orthogonal()`.

    Returns:
        A `GradientTransformation` for pytrees of points. Further leading axes of a parameter, (..., n, n), are many
        points. Its `update` takes what `jax.grad` returns, also for complex parameters, and needs `params`.

    Raises:
        TypeError: if `transform` is not an optax transformation, or `manifold` holds something else.
        ValueError: if `params` is missing, or a parameter has no shape of its manifold.

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
    given = Orthogonal() if manifold is None else manifold
    inner = optax.with_extra_args_support(transform)

    def each(params: PyTree) -> PyTree:
        return _manifolds(given, params)

    def arrays(params: PyTree) -> PyTree:
        return jax.tree.map(jnp.asarray, params)

    def zeros(params: PyTree) -> PyTree:
        return jax.tree.map(_zeros, each(params), params, is_leaf=is_manifold)

    def init(params: PyTree) -> PyTree:
        return inner.init(zeros(arrays(params)))

    def update(updates: PyTree, state: PyTree, params: PyTree = None, **extra: Any) -> tuple[PyTree, PyTree]:
        if params is None:
            raise ValueError("riemannian: update needs the parameters: optimiser.update(gradients, state, params).")
        params = arrays(params)
        manifolds = each(params)

        def moved(velocities: PyTree) -> PyTree:
            return jax.tree.map(_move, manifolds, params, velocities, is_leaf=is_manifold)

        def in_coordinates(slopes: PyTree) -> PyTree:
            return jax.tree.map(_in_coordinates, manifolds, params, arrays(slopes), is_leaf=is_manifold)

        if (value_fn := extra.get("value_fn")) is not None:
            extra["value_fn"] = lambda velocities, *args, **kwargs: value_fn(moved(velocities), *args, **kwargs)
        if "grad" in extra:
            extra["grad"] = in_coordinates(extra["grad"])
        velocities, state = inner.update(in_coordinates(updates), state, zeros(params), **extra)
        return jax.tree.map(lambda new, old: new - old, moved(velocities), params), state

    return optax.GradientTransformationExtraArgs(init, update)


def _manifolds(given: PyTree, params: PyTree) -> PyTree:
    """Return the manifold of each parameter, in the structure of the parameters."""
    return jax.tree.map(_of_many, spread(given, params), params, is_leaf=is_manifold)


def _of_many(manifold: Manifold, point: Array) -> Manifold:
    """Return the manifold of a parameter with further leading axes."""
    for _ in range(jnp.ndim(point) - manifold.axes if manifold.axes else 0):
        manifold = Power(manifold)
    try:
        manifold.shaped(point, "params")
    except ValueError as error:
        raise ValueError(
            f"riemannian: {error} Give each parameter its manifold, riemannian(transform, manifold=...), or use "
            "optax.partition to give other parameters another optimiser."
        ) from error
    if manifold.complex and not is_complex(point):
        raise TypeError(
            f"riemannian: got a parameter of {point.dtype} for {manifold.symbol}, whose points are complex; convert it "
            "with .astype(jnp.complex64)."
        )
    return manifold


def _zeros(manifold: Manifold, point: Array) -> Array:
    return jnp.zeros(manifold.extent(point), real_type_of(point))


def _in_coordinates(manifold: Manifold, point: Array, slope: Array) -> Array:
    """Return the coordinates of the gradient, from what `jax.grad` returns: for complex points, its conjugate."""
    return manifold.split(point, manifold.place(point), jnp.conj(slope))[0]


def _move(manifold: Manifold, point: PyTree, velocity: Array) -> PyTree:
    if isinstance(manifold, Power):  # each point has its own limit
        return jax.vmap(functools.partial(_move, manifold.manifold))(point, velocity)
    # The velocity lies in the space of coordinates in exact arithmetic, but optax need not keep the last digit.
    short, _ = manifold.limit(point, manifold.clean(point, velocity))
    return manifold.move(point, manifold.place(point), short)[0]


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Optax:
    """Any optax transformation as a solver: `Optax(optax.adam(1e-2), max_steps=1000)`.

    Use it to try an optax method on a deterministic function; for samples in batches, use `Minibatches`. It takes every
    step, up or down, and ends after `max_steps` or when the gradient vanishes. Its steps are those of a loop with
    `riemannian(transform)`, learning rate included.

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

    def bind(self, problem: ManifoldFunction, start: Iterate) -> tuple[PyTree, Step]:
        """Return the initial state and the step; see `solvers.descent.Descent`."""
        transform = optax.with_extra_args_support(self.transform)
        zero = jnp.zeros_like(start.gradient)
        # A learning rate is meant for the function as it is given, not for the function in units of its first gradient.
        unit = 1 if problem.unit is None else problem.unit

        def step(iterate: Iterate, state: PyTree) -> tuple[Iterate, PyTree, Info]:
            def value_fn(velocity: Array) -> Array:
                return unit * problem.value(_move(problem.manifold, iterate.point, velocity))

            gradient = unit * iterate.gradient
            given = {"value": unit * iterate.value, "grad": gradient, "value_fn": value_fn}
            velocity, state = transform.update(gradient, state, zero, **given)
            trial = problem.evaluate(_move(problem.manifold, iterate.point, jnp.asarray(velocity)))
            return trial, state, Info(jnp.zeros((), bool), jnp.ones((), jnp.int32))

        return transform.init(zero), step
