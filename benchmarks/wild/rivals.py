"""The rivals on one task. Each function runs a library from one start, until it gives up or `Done` stops it."""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.peers.reference import ENDLESS
from benchmarks.wild.task import Task

RATES = (0.003, 0.01, 0.03, 0.1, 0.3)


def pymanopt_problem(task: Task) -> Any:
    """Return the task in pymanopt's terms; the cost and the gradient of one point are computed together."""
    import pymanopt  # pyright: ignore[reportMissingImports]

    manifold = pymanopt.manifolds.SpecialOrthogonalGroup(task.n, retraction="qr")
    last: list = [None, None]

    def both(point: np.ndarray) -> tuple[float, np.ndarray]:
        if last[0] is not point:
            last[:] = [point, task.value_and_gradient(point)]
        return last[1]

    @pymanopt.function.numpy(manifold)
    def cost(point):
        return both(point)[0]

    @pymanopt.function.numpy(manifold)
    def gradient(point):
        return both(point)[1]

    @pymanopt.function.numpy(manifold)
    def hessian(point, direction):
        return task.hessian(point, direction)

    return pymanopt.Problem(manifold, cost, euclidean_gradient=gradient, euclidean_hessian=hessian)


def pymanopt_cg(task: Task, start: np.ndarray) -> None:
    """pymanopt's conjugate gradients with its Hager-Zhang rule."""
    from pymanopt.optimizers import ConjugateGradient  # pyright: ignore[reportMissingImports]

    ConjugateGradient(beta_rule="HagerZhang", **ENDLESS).run(pymanopt_problem(task), initial_point=start)


def pymanopt_tr(task: Task, start: np.ndarray) -> None:
    """pymanopt's trust region, its defaults."""
    from pymanopt.optimizers import TrustRegions  # pyright: ignore[reportMissingImports]

    TrustRegions(**ENDLESS).run(pymanopt_problem(task), initial_point=start)


def scipy_lbfgs(task: Task, start: np.ndarray) -> None:
    """SciPy's L-BFGS-B on the generator of a Cayley transform, `P = start (1 - X)^-1 (1 + X)`, X skew."""
    import scipy.linalg
    import scipy.optimize

    n = task.n
    upper, eye = np.triu_indices(n, 1), np.eye(n)

    def value_and_gradient(numbers):
        X = np.zeros((n, n))
        X[upper] = numbers
        X -= X.T
        factors = scipy.linalg.lu_factor(eye - X, overwrite_a=True, check_finite=False)
        turn = scipy.linalg.lu_solve(factors, eye + X, overwrite_b=True, check_finite=False)
        value, slope = task.value_and_gradient(start @ turn)
        # dP = start (1 - X)^-1 dX (1 + turn)
        turned = scipy.linalg.lu_solve(factors, start.T @ slope, trans=1, check_finite=False) @ (turn + eye).T
        return value, (turned - turned.T)[upper]

    settings = {"maxcor": 20, "maxiter": 10**9, "maxfun": 10**9, "ftol": 0.0, "gtol": 0.0, "maxls": 50}
    first = np.zeros(len(upper[0]))
    scipy.optimize.minimize(value_and_gradient, first, jac=True, method="L-BFGS-B", options=settings)


def geoopt_adam(task: Task, start: np.ndarray, rate: float = 0.01) -> None:
    """geoopt's Riemannian Adam at a constant rate."""
    import geoopt  # pyright: ignore[reportMissingImports]
    import torch  # pyright: ignore[reportMissingImports]

    torch.set_num_threads(1)
    point = geoopt.ManifoldParameter(torch.as_tensor(start.copy()), manifold=geoopt.Stiefel(canonical=False))
    optimiser = geoopt.optim.RiemannianAdam([point], lr=rate)
    while True:
        with torch.no_grad():
            _, slope = task.value_and_gradient(point.detach().numpy())
            point.grad = torch.as_tensor(slope.copy())
        optimiser.step()


def geojax_tr(task: Task, start: np.ndarray) -> None:
    """geojax's trust region; every function that its `Minimize` takes is jitted, the loop over them is its own."""
    import jax
    import jax.numpy as jnp
    from geojax.geometry import SpecialOrthogonal  # pyright: ignore[reportMissingImports]
    from geojax.optimization import Minimize  # pyright: ignore[reportMissingImports]

    from benchmarks.peers.rivals.geojax_newton import trust_regions

    n = task.n
    group = SpecialOrthogonal(size=n)
    cost = jax.jit(lambda point: task.both(point)[0])
    gradient = jax.jit(lambda point: group.egrad_to_rgrad(point, task.both(point)[1]))
    product = jax.jit(lambda x, u: group.ehess_to_rhess(x, task.both(x)[1], task.product(x, u), u))

    def hessian(point, direction):
        task.check()
        return product(point, direction)

    def told(_, point, info):
        task.tell(float(info.cost))
        return False, ""

    def solve(steps: int) -> None:
        solver = trust_regions(n, steps, told)
        problem = {"M": group, "cost": cost, "x0": jnp.asarray(start), "grad": gradient, "rhess_vec": hessian}
        Minimize(solver=solver, **problem).solve()

    solve(2)
    task.begin()  # all is compiled
    solve(10**9)


def picard_o(task: Task, start: np.ndarray) -> None:
    """Picard-O with the density whose score is tanh: it minimises the same log cosh. Longer and longer runs."""
    sys.modules["numexpr"] = None  # pyright: ignore[reportArgumentType] - it is slower here
    import time

    from picard import picard  # pyright: ignore[reportMissingImports]

    from jaxdescramble.objectives.units import in_own_unit

    X = np.asarray(in_own_unit(task.summary))
    trace, steps = [], 4
    while not trace or trace[-1][0] < task.limit_s:
        began = time.perf_counter()
        W = picard(
            X, ortho=True, extended=False, whiten=False, centering=False, w_init=start, max_iter=steps, tol=1e-12
        )[1]
        seconds = time.perf_counter() - began
        trace.append((seconds, float(task.both(W)[0])))
        steps *= 2
        if steps > 4096:
            break
    task.trace, task.lowest = trace[:-1] if len(trace) > 1 else trace, min(value for _, value in trace)


RIVALS: dict[str, Callable[[Task, np.ndarray], None]] = {
    "pymanopt_cg": pymanopt_cg,
    "pymanopt_tr": pymanopt_tr,
    "scipy_lbfgs": scipy_lbfgs,
    "geoopt_adam": geoopt_adam,
    "geojax_tr": geojax_tr,
    "picard_o": picard_o,
}
LABELS = {
    "pymanopt_cg": "pymanopt CG",
    "pymanopt_tr": "pymanopt trust region",
    "scipy_lbfgs": "SciPy L-BFGS, Cayley",
    "geoopt_adam": "geoopt Adam, best of five rates",
    "geojax_tr": "geojax trust region",
    "picard_o": "Picard-O",
    "ours": "**`jd.descramble`**",
}


def applies(name: str, objective: str) -> bool:
    """Return whether a rival can minimise an objective: Picard-O minimises log cosh only.

    >>> applies("picard_o", "l1"), applies("picard_o", "log-cosh")
    (False, True)
    """
    return name != "picard_o" or objective == "log-cosh"
