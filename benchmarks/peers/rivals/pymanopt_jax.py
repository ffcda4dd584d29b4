"""pymanopt with its JAX backend; cost, gradient and Hessian product are each jitted, which it does not do by itself."""

import jax
import numpy as np
import pymanopt  # pyright: ignore[reportMissingImports]
from pymanopt.optimizers import TrustRegions  # pyright: ignore[reportMissingImports]

from benchmarks.peers.reference import Reference, Stopwatch
from benchmarks.peers.rivals.pymanopt_numpy import ENDLESS

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp  # noqa: E402


def trust_region(problem: Reference, watch: Stopwatch) -> None:
    """Second order, its defaults."""
    manifold = pymanopt.manifolds.SpecialOrthogonalGroup(problem.n, retraction="qr")
    A, B = jnp.asarray(problem.A), jnp.asarray(problem.B)

    @jax.jit
    def value(point):
        return jnp.vdot(point, A @ point @ B)

    slope = jax.jit(jax.grad(value))
    bend = jax.jit(lambda point, direction: jax.jvp(jax.grad(value), (point,), (direction,))[1])

    @pymanopt.function.jax(manifold)
    def cost(point):
        watch.tick()
        found = float(value(point))
        watch.step(found, point)
        return found

    @pymanopt.function.jax(manifold)
    def gradient(point):
        return np.asarray(slope(point))

    @pymanopt.function.jax(manifold)
    def hessian(point, direction):
        watch.tick()
        return np.asarray(bend(point, direction))

    posed = pymanopt.Problem(manifold, cost, euclidean_gradient=gradient, euclidean_hessian=hessian)
    settings = ENDLESS | {"max_iterations": 2}
    watch.warm(lambda: TrustRegions(**settings).run(posed, initial_point=np.eye(problem.n)))
    watch.run(lambda: TrustRegions(**ENDLESS).run(posed, initial_point=np.eye(problem.n)))
