"""geojax's trust region; every function that its `Minimize` takes is jitted, the loop over them is its own."""

import math
from collections.abc import Callable

import jax
from geojax.geometry import SpecialOrthogonal  # pyright: ignore[reportMissingImports]
from geojax.optimization import Minimize, TrustRegions  # pyright: ignore[reportMissingImports]

from benchmarks.peers.reference import Reference, Stopwatch

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp  # noqa: E402


def trust_regions(n: int, steps: int, told: Callable, largest: float = 1.0) -> TrustRegions:
    """Return the solver without a stopping rule of its own; `told` is called at every step."""
    return TrustRegions(
        tolgradnorm=0.0,
        maxiter=steps,
        maxtime=math.inf,
        verbosity=0,
        initial_radius=math.pi * n * largest / 8,
        max_radius=math.pi * n * largest,
        maxinner=n * (n - 1) // 2,
        stopfun=told,
    )


def trust_region(problem: Reference, watch: Stopwatch, largest: float = 1.0) -> None:
    """Second order; as many inner products as it likes, a radius that may grow to the size of the group."""
    n = problem.n
    group = SpecialOrthogonal(size=n)
    A, B = jnp.asarray(problem.A), jnp.asarray(problem.B)

    @jax.jit
    def cost(point):
        return jnp.vdot(point, A @ point @ B)

    gradient = jax.jit(lambda point: group.egrad_to_rgrad(point, 2 * A @ point @ B))
    product = jax.jit(lambda x, u: group.ehess_to_rhess(x, 2 * A @ x @ B, 2 * A @ u @ B, u))

    def hessian(point, direction):
        watch.tick()
        return product(point, direction)

    def told(_, point, info):
        watch.tick()
        watch.step(info.cost, point)
        return False, ""

    def solve(steps: int) -> None:
        solver = trust_regions(n, steps, told, largest)
        Minimize(M=group, cost=cost, x0=jnp.eye(n), solver=solver, grad=gradient, rhess_vec=hessian).solve()

    watch.warm(lambda: solve(2))
    watch.run(lambda: solve(10**9))
