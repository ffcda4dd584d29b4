"""pymanopt with derivatives written by hand in numpy: its fastest backend.

`A P B` is formed once per point: the cost, the gradient and the correction of every Hessian product share it.
"""

import numpy as np
import pymanopt  # pyright: ignore[reportMissingImports]
from pymanopt.optimizers import ConjugateGradient, TrustRegions  # pyright: ignore[reportMissingImports]

from benchmarks.peers.reference import ENDLESS, Reference, Stopwatch


def posed(problem: Reference, watch: Stopwatch, preconditioner=None, retraction: str = "qr"):
    """Return the problem in pymanopt's terms."""
    manifold = pymanopt.manifolds.SpecialOrthogonalGroup(problem.n, retraction=retraction)
    A, B = problem.A, problem.B
    last: list = [None, None]

    def product(point):
        if last[0] is not point:
            last[:] = [point, A @ point @ B]
        return last[1]

    @pymanopt.function.numpy(manifold)
    def cost(point):
        watch.tick()
        value = np.vdot(point, product(point))
        watch.step(value, point)
        return value

    @pymanopt.function.numpy(manifold)
    def gradient(point):
        return 2 * product(point)

    @pymanopt.function.numpy(manifold)
    def hessian(_, direction):
        watch.tick()
        return 2 * (A @ direction @ B)

    return pymanopt.Problem(
        manifold, cost, euclidean_gradient=gradient, euclidean_hessian=hessian, preconditioner=preconditioner
    )


def trust_region(problem: Reference, watch: Stopwatch, retraction: str = "qr") -> None:
    """Second order, its defaults."""
    optimiser = TrustRegions(**ENDLESS)
    watch.run(lambda: optimiser.run(posed(problem, watch, None, retraction), initial_point=np.eye(problem.n)))


def conjugate_gradient(problem: Reference, watch: Stopwatch, retraction: str = "qr", rule: str = "HagerZhang") -> None:
    """Nonlinear conjugate gradients, its adaptive line search."""
    optimiser = ConjugateGradient(beta_rule=rule, **ENDLESS)
    watch.run(lambda: optimiser.run(posed(problem, watch, None, retraction), initial_point=np.eye(problem.n)))


def lent(problem: Reference, watch: Stopwatch) -> None:
    """Solve by pymanopt's trust region with our preconditioner, to compare the methods alone."""
    optimiser = TrustRegions(**ENDLESS)

    def solve() -> None:
        b, U = np.linalg.eigh(problem.B)
        slopes = 2 * (b[None, :] - b[:, None])
        last: list = [None, None]

        def divide(point, velocity):
            if last[0] is not point:
                turned = point @ U
                height = np.sum(turned * (problem.A @ turned), axis=0)
                size = np.abs((height[:, None] - height[None, :]) * slopes)
                last[:] = [point, np.maximum(size, 1e-6 * size.max())]
            return U @ ((U.T @ velocity @ U) / last[1]) @ U.T

        optimiser.run(posed(problem, watch, divide), initial_point=np.eye(problem.n))

    watch.run(solve)
