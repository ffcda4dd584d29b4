"""The rivals: each solves a task from its start and tells the `Trace` every value, in one thread and float64."""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.manifolds.problems import FORMULAS, Task
from benchmarks.peers.reference import ENDLESS


class Over(Exception):  # noqa: N818 - not an error: it is how a rival is stopped from inside its own callbacks
    """The time is up, or the last gap is reached."""


class Trace:
    """What a rival found, and when.

    Attributes:
        goals: values to reach, from the easiest.
        reached: seconds and evaluations at which each goal was reached.
        evaluations: number of evaluations of the function with its gradient, and of Hessian products.
    """

    def __init__(self, goals: list[float], limit: float):
        self.goals, self.limit, self.compile_s = goals, limit, 0.0
        self.begin()

    def begin(self) -> None:
        self.began, self.reached, self.lowest, self.evaluations = time.perf_counter(), {}, np.inf, 0

    def tick(self) -> None:
        """Count an evaluation."""
        self.evaluations += 1
        if time.perf_counter() - self.began > self.limit:
            raise Over

    def value(self, value: float) -> None:
        """Record a value; raise `Over` at the last goal."""
        now = time.perf_counter() - self.began
        self.lowest = min(self.lowest, float(value))
        for k, goal in enumerate(self.goals):
            if value <= goal and k not in self.reached:
                self.reached[k] = (now, self.evaluations)
        if len(self.reached) == len(self.goals) or now > self.limit:
            raise Over

    def run(self, solve: Callable[[], Any], warm: bool = False) -> None:
        """Run a solve; with `warm`, once before, for a second at most, so that it compiles."""
        if warm:
            limit, self.limit, began = self.limit, 1.0, time.perf_counter()
            self._run(solve)
            self.compile_s, self.limit = time.perf_counter() - began, limit
        self._run(solve)

    def _run(self, solve: Callable[[], Any]) -> None:
        self.begin()
        with contextlib.suppress(Over):
            solve()


def whole(parts: tuple) -> Any:
    """Return the point of a task: its only array, or a tuple."""
    return parts[0] if len(parts) == 1 else tuple(parts)


def pymanopt_rival(task: Task, trace: Trace, optimiser: Any) -> None:
    """pymanopt with derivatives written by hand in numpy, its fastest backend."""
    import pymanopt  # pyright: ignore[reportMissingImports]

    f, slope, product = FORMULAS[task.kind]
    known, (first, *_) = pymanopt.manifolds, task.parts
    manifold = {
        "stiefel": lambda: known.Stiefel(*first.shape),
        "rotations": lambda: known.SpecialOrthogonalGroup(len(first)),
        "unitary": lambda: known.UnitaryGroup(len(first)),
        "gates": lambda: known.UnitaryGroup(first.shape[-1], k=len(first)),
        "motions": lambda: known.Product(
            [known.SpecialOrthogonalGroup(len(first)), known.Euclidean(1), known.Euclidean(len(first))]
        ),
    }[task.manifold]()

    @pymanopt.function.numpy(manifold)
    def cost(*parts):
        trace.tick()
        found = f(whole(parts), *task.args)
        trace.value(found)
        return found

    @pymanopt.function.numpy(manifold)
    def gradient(*parts):
        return slope(whole(parts), *task.args)

    @pymanopt.function.numpy(manifold)
    def hessian(*parts):
        trace.tick()
        half = len(parts) // 2
        return product(whole(parts[:half]), whole(parts[half:]), *task.args)

    problem = pymanopt.Problem(manifold, cost, euclidean_gradient=gradient, euclidean_hessian=hessian)
    trace.run(lambda: optimiser.run(problem, initial_point=task.start))


def pymanopt_tr(task: Task, trace: Trace) -> None:
    from pymanopt.optimizers import TrustRegions  # pyright: ignore[reportMissingImports]

    pymanopt_rival(task, trace, TrustRegions(**ENDLESS))


def pymanopt_cg(task: Task, trace: Trace) -> None:
    from pymanopt.optimizers import ConjugateGradient  # pyright: ignore[reportMissingImports]

    pymanopt_rival(task, trace, ConjugateGradient(**ENDLESS))


def geojax_rival(task: Task, trace: Trace, solver: Any) -> None:
    """geojax; every function that its `Minimize` takes is jitted, the loop over them is its own."""
    import jax

    jax.config.update("jax_enable_x64", True)
    import jax.numpy as jnp
    from geojax.geometry import Stiefel  # pyright: ignore[reportMissingImports]
    from geojax.optimization import Minimize  # pyright: ignore[reportMissingImports]

    f, slope, product = FORMULAS[task.kind]
    manifold = Stiefel(size=task.only.shape)
    start, args = jnp.asarray(task.only), tuple(map(jnp.asarray, task.args))
    value = jax.jit(lambda X: f(X, *args))
    gradient = jax.jit(lambda X: manifold.egrad_to_rgrad(X, slope(X, *args)))
    second = jax.jit(lambda X, V: manifold.ehess_to_rhess(X, slope(X, *args), product(X, V, *args), V))

    def cost(X):
        trace.tick()
        found = value(X)
        trace.value(float(found))
        return found

    def hessian(X, V):
        trace.tick()
        return second(X, V)

    def solve() -> None:
        Minimize(M=manifold, cost=cost, x0=start, solver=solver, grad=gradient, rhess_vec=hessian).solve()

    trace.run(solve, warm=True)


def geojax_lbfgs(task: Task, trace: Trace) -> None:
    from geojax.optimization import LBFGS  # pyright: ignore[reportMissingImports]

    geojax_rival(task, trace, LBFGS(tolgradnorm=0.0, maxiter=10**9, verbosity=0))


def geojax_tr(task: Task, trace: Trace) -> None:
    from geojax.optimization import TrustRegions  # pyright: ignore[reportMissingImports]

    geojax_rival(task, trace, TrustRegions(tolgradnorm=0.0, maxiter=10**9, verbosity=0))


def best_of(trace: Trace, solves: list[Callable[[], Any]]) -> None:
    """Run solves with several settings, each for its part of the time; keep that with more goals, then the faster."""
    limit, best = trace.limit, None
    trace.limit = limit / len(solves)
    for solve in solves:
        trace.run(solve)
        found = len(trace.reached), -max([t for t, _ in trace.reached.values()], default=0.0), -trace.lowest
        if best is None or found > best[0]:
            best = found, trace.reached, trace.lowest, trace.evaluations
    assert best is not None
    _, trace.reached, trace.lowest, trace.evaluations = best


def geoopt_radam(task: Task, trace: Trace) -> None:
    """geoopt's Riemannian Adam, the best of three constant rates; the gradient is given by hand."""
    import geoopt  # pyright: ignore[reportMissingImports]
    import torch  # pyright: ignore[reportMissingImports]

    torch.set_num_threads(1)
    f, slope, _ = FORMULAS[task.kind]
    args = tuple(map(torch.as_tensor, task.args))

    def solve(rate: float) -> None:
        first, *others = (torch.as_tensor(part.copy()) for part in task.parts)
        leaves = [geoopt.ManifoldParameter(first, manifold=geoopt.Stiefel()), *map(torch.nn.Parameter, others)]
        optimiser = geoopt.optim.RiemannianAdam(leaves, lr=rate)
        while True:
            trace.tick()
            with torch.no_grad():
                trace.value(f(whole(tuple(leaves)), *args).item())
                found = slope(whole(tuple(leaves)), *args)
                for leaf, its in zip(leaves, found if others else (found,), strict=True):
                    leaf.grad = its
            optimiser.step()

    best_of(trace, [functools.partial(solve, rate) for rate in (0.1, 0.03, 0.01)])


def cdopt_lbfgs(task: Task, trace: Trace) -> None:
    """cdopt: constraint dissolving, and SciPy's L-BFGS on free matrices, the best of three penalties.

    Values count at the projected point.
    """
    import scipy.optimize
    from cdopt.core.problem import problem  # pyright: ignore[reportMissingImports]
    from cdopt.manifold_np import stiefel_np  # pyright: ignore[reportMissingImports]

    f, slope, product = FORMULAS[task.kind]
    size = float(np.linalg.norm(slope(task.only, *task.args)))
    options = {"maxiter": 10**9, "maxfun": 10**9, "ftol": 0.0, "gtol": 0.0, "maxcor": 10}

    def told(x):
        U, _, Vh = np.linalg.svd(x.reshape(task.only.shape), full_matrices=False)
        trace.value(f(U @ Vh, *task.args))

    def solve(penalty: float) -> None:
        posed = problem(
            stiefel_np(task.only.shape),
            lambda X: f(X, *task.args),
            obj_grad=lambda X: slope(X, *task.args),
            obj_hvp=lambda X, V: product(X, V, *task.args),
            beta=penalty,
            enable_jit=False,
            Xinit=task.only,
        )

        def both(x):
            trace.tick()
            return posed.cdf_fun_vec_np(x), posed.cdf_grad_vec_np(x)

        scipy.optimize.minimize(both, task.only.ravel(), jac=True, method="L-BFGS-B", callback=told, options=options)

    best_of(trace, [functools.partial(solve, penalty) for penalty in (0.1 * size, size, 10 * size)])


def geotorch_lbfgs(task: Task, trace: Trace) -> None:
    """geotorch: torch's L-BFGS on the parametrisation by an exponential (n x n inside)."""
    import geotorch  # pyright: ignore[reportMissingImports]
    import torch  # pyright: ignore[reportMissingImports]

    torch.set_num_threads(1)
    f, _, _ = FORMULAS[task.kind]
    args = tuple(map(torch.as_tensor, task.args))
    layer = torch.nn.Linear(task.only.shape[1], task.only.shape[0], bias=False, dtype=torch.float64)
    geotorch.orthogonal(layer, "weight")
    layer.weight = torch.as_tensor(task.only)
    optimiser = torch.optim.LBFGS(
        layer.parameters(), lr=1.0, max_iter=10**9, max_eval=10**9, tolerance_grad=0.0, tolerance_change=0.0,
        history_size=10, line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure():
        trace.tick()
        optimiser.zero_grad()
        value = f(layer.weight, *args)
        trace.value(value.item())
        value.backward()
        return value

    trace.run(lambda: optimiser.step(closure))


def by_hand(kind: str) -> Callable[..., Any]:
    """Return a function of a point and data whose slope is the formula that the rivals get too."""
    import jax

    f, slope, _ = FORMULAS[kind]

    @jax.custom_vjp
    def function(point, *args):
        return f(point, *args)

    def forward(point, *args):
        return f(point, *args), (slope(point, *args), len(args))

    def backward(kept, change):
        found, count = kept
        return jax.tree.map(lambda leaf: change * leaf.conj(), found), *[None] * count

    function.defvjp(forward, backward)
    return function


def ours(task: Task, trace: Trace, solver: Any, automatic: bool = False) -> None:
    """Time solves of as many steps as each goal needs: here a solve is compiled, so nobody can look inside."""
    import jax

    jax.config.update("jax_enable_x64", True)
    import jax.numpy as jnp

    from jaxdescramble import manifolds
    from jaxdescramble.solvers import minimise

    free = manifolds.Euclidean()
    manifold = {
        "stiefel": manifolds.Stiefel(),
        "rotations": manifolds.SpecialOrthogonal(),
        "unitary": manifolds.Unitary(),
        "gates": manifolds.Power(manifolds.SpecialUnitary()),
        "motions": (manifolds.SpecialOrthogonal(), free, free),
    }[task.manifold]
    function = FORMULAS[task.kind][0] if automatic else by_hand(task.kind)
    start, args = jax.tree.map(jnp.asarray, task.start), tuple(map(jnp.asarray, task.args))
    steps = 256
    while True:
        limited = dataclasses.replace(solver, max_steps=steps, tolerance=0.0)
        began = time.perf_counter()
        found = minimise(
            function, start, *args, solver=limited, manifold=manifold, history=steps, max_seconds=trace.limit
        )
        seconds = time.perf_counter() - began
        assert found.history is not None
        values = np.asarray(found.history.value)[: int(found.steps)]
        lowest = np.minimum.accumulate(values)
        if int(found.steps) < steps or lowest[-1] <= trace.goals[-1] or seconds > trace.limit:
            break
        steps *= 4
    trace.lowest = float(lowest[-1])
    for k, goal in enumerate(trace.goals):
        if lowest[-1] > goal:
            break
        count = int(np.argmax(lowest <= goal)) + 1
        limited = dataclasses.replace(solver, max_steps=count, tolerance=0.0)
        taken = []
        for _ in range(4):
            began = time.perf_counter()
            found = jax.block_until_ready(minimise(function, start, *args, solver=limited, manifold=manifold))
            taken.append(time.perf_counter() - began)
        trace.compile_s = max(trace.compile_s, taken[0] - min(taken[1:]))
        trace.reached[k] = float(np.median(taken[1:])), int(found.evaluations)


def our_lbfgs(task: Task, trace: Trace, automatic: bool = False) -> None:
    from jaxdescramble import solvers

    ours(task, trace, solvers.LBFGS(), automatic)


def our_cg(task: Task, trace: Trace) -> None:
    from jaxdescramble import solvers

    ours(task, trace, solvers.ConjugateGradient())


def our_tr(task: Task, trace: Trace) -> None:
    from jaxdescramble import solvers

    ours(task, trace, solvers.TrustRegion())


RIVALS = {
    "**L-BFGS**": our_lbfgs,
    "**L-BFGS**, slope by automatic differentiation": functools.partial(our_lbfgs, automatic=True),
    "**conjugate gradients**": our_cg,
    "**trust region**": our_tr,
    "pymanopt conjugate gradients": pymanopt_cg,
    "pymanopt trust region": pymanopt_tr,
    "geojax L-BFGS": geojax_lbfgs,
    "geojax trust region": geojax_tr,
    "geoopt Riemannian Adam": geoopt_radam,
    "cdopt, SciPy L-BFGS": cdopt_lbfgs,
    "geotorch, torch L-BFGS": geotorch_lbfgs,
}
SECOND_ORDER = ("pymanopt trust region", "geojax trust region")


def has(rival: str, manifold: str) -> bool:
    """Return whether a rival has the manifold of a task."""
    if rival.startswith("**") or "pymanopt" in rival:
        return True
    if manifold == "motions":
        return "geoopt" in rival
    return manifold in ("stiefel", "rotations")
