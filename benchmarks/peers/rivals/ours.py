"""This library: the whole solve is one compiled program, so it is timed from outside.

A first solve keeps a history of values, which says which step reaches which gap. Then solves of exactly this number of
steps are timed, warm and without a history (another `max_steps` does not compile again).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from benchmarks.peers.reference import Reference, Stopwatch

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp  # noqa: E402

from jaxdescramble import objectives, operators, solvers  # noqa: E402
from jaxdescramble.exact import brockett_minimiser  # noqa: E402


def quadratic(point, A, B):
    """Return the objective, written without knowledge of this library."""
    return jnp.sum(point * (A @ point @ B))


def seconds(watch: Stopwatch, solve: Callable[[], Any]) -> float:
    """Median of five warm solves, of fewer where one takes long."""
    taken = []
    while len(taken) < (5 if sum(taken) < 5 else 3 if sum(taken) < 20 else 1):
        start = watch.clock()
        jax.block_until_ready(solve())
        taken.append(watch.clock() - start)
    return float(np.median(taken))


def first(watch: Stopwatch, solve: Callable[[], Any]) -> tuple[Any, float]:
    """Solve, including compilation; return the solution and the seconds."""
    start = watch.clock()
    found = jax.block_until_ready(solve())
    return found, watch.clock() - start


def measured(problem: Reference, watch: Stopwatch, function: Callable, args: tuple, solver: Any, unit: float) -> None:
    """Seconds to each gap, for a solver and the value that `unit` turns into the reference's.

    In the determinant class of the start alone, as the rivals do.
    """
    start = jnp.eye(problem.n)

    def recorded() -> None:
        steps = 128
        while True:
            limited = dataclasses.replace(solver, max_steps=steps, tolerance=0.0)
            found = solvers.minimise(
                function, start, *args, solver=limited, group="SO", history=steps, max_seconds=watch.limit_s
            )
            assert found.history is not None
            watch.begin()
            for value in np.asarray(found.history.value)[: int(found.steps)]:
                watch.step(float(value) * unit)
            if int(found.steps) < steps:
                return
            steps *= 4

    watch.run(recorded)
    if not watch.reached:
        return
    reached, spent = dict(watch.reached), 0.0
    for target in sorted(reached, reverse=True):
        steps = reached[target][1]

        def solve(steps: int = steps) -> solvers.Solution:
            limited = dataclasses.replace(solver, max_steps=steps, tolerance=0.0)
            return solvers.minimise(function, start, *args, solver=limited, group="SO")

        if not spent:
            _, spent = first(watch, solve)
            watch.compile_s = spent
        taken = seconds(watch, solve)
        if target == max(reached):
            watch.compile_s = max(spent - taken, 0.0)
        reached[target] = (taken, steps)
        found = solve()
        watch.point, watch.lowest = np.asarray(found.point), float(found.value) * unit
        watch.evaluations = int(found.evaluations)
    watch.reached = reached


def analytic(problem: Reference, watch: Stopwatch, solver: Any) -> None:
    """Solve with the objective that provides its own curvature. It reads the Gram matrix, which the peers read too."""
    objective = objectives.smoothness(summary="gram")
    summary = objectives.Gram(jnp.asarray(problem.B), jnp.asarray(4 * problem.n, jnp.int32))
    unit = 1 / float(objective(jnp.eye(problem.n), summary))
    measured(problem, watch, objective, (summary,), solver, unit)


def trust_region(problem: Reference, watch: Stopwatch) -> None:
    """Second order, preconditioned."""
    analytic(problem, watch, solvers.TrustRegion(preconditioner=solvers.Analytic()))


def lbfgs(problem: Reference, watch: Stopwatch) -> None:
    """Quasi-Newton, preconditioned."""
    analytic(problem, watch, solvers.LBFGS(preconditioner=solvers.Analytic()))


def black_box(problem: Reference, watch: Stopwatch, solver: Any) -> None:
    """Solve for a plain function that provides no curvature."""
    measured(problem, watch, quadratic, (jnp.asarray(problem.A), jnp.asarray(problem.B)), solver, 1.0)


def box_trust_region(problem: Reference, watch: Stopwatch) -> None:
    """Second order, preconditioned by what it measures itself."""
    black_box(problem, watch, solvers.TrustRegion(preconditioner=solvers.Kronecker()))


def box_lbfgs(problem: Reference, watch: Stopwatch) -> None:
    """Quasi-Newton, preconditioned by what it measures itself."""
    black_box(problem, watch, solvers.LBFGS(preconditioner=solvers.Kronecker()))


def bare_trust_region(problem: Reference, watch: Stopwatch) -> None:
    """Second order without any preconditioner: the method of the peers."""
    black_box(problem, watch, solvers.TrustRegion(preconditioner=None))


def bare_lbfgs(problem: Reference, watch: Stopwatch) -> None:
    """Quasi-Newton without any preconditioner."""
    black_box(problem, watch, solvers.LBFGS(preconditioner=None))


def closed_form(problem: Reference, watch: Stopwatch) -> None:
    """No iteration at all: one eigendecomposition of B, the other is known."""
    summary = objectives.Gram(jnp.asarray(problem.B), jnp.asarray(4 * problem.n, jnp.int32))
    operator = operators.derivative(problem.n)
    program = jax.jit(lambda given: brockett_minimiser(operator, given))

    def solve() -> None:
        found, spent = first(watch, lambda: program(summary))
        taken = seconds(watch, lambda: program(summary))
        watch.compile_s = max(spent - taken, 0.0)
        watch.point = np.asarray(found.point)
        watch.lowest, watch.steps = problem.value(watch.point), 1
        watch.reached = dict.fromkeys(watch.targets, (taken, 1))

    watch.run(solve)
