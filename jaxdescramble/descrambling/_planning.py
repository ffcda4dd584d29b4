"""Choose the solver of a call by what is known about the objective: the kind of solver, its stages and its starts."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, PRNGKeyArray

from jaxdescramble._base.checks import is_traced
from jaxdescramble._base.pytrees import register_dataclass
from jaxdescramble.exact import ClosedForm
from jaxdescramble.exact.brockett import UNITARY
from jaxdescramble.objectives import Objective, Summary, Weighted
from jaxdescramble.solvers import (
    LBFGS,
    Chain,
    Continuation,
    FromSources,
    InFrame,
    PolarPower,
    Restarts,
    Seriated,
    SinglePrecision,
    Solver,
    Tournament,
)
from jaxdescramble.solvers.starts import order_of_sources


@runtime_checkable
class Answer(Protocol):
    """What a direct solver returns, such as `exact.Extremum`."""

    @property
    def point(self) -> Array: ...

    @property
    def value(self) -> Array: ...

    @property
    def bound(self) -> Array: ...

    @property
    def singular_values(self) -> Array: ...

    @property
    def rank(self) -> Array: ...

    @property
    def status(self) -> Array: ...


DirectSolver = Callable[[Objective, Summary, str], Answer]
"""A solver that does not iterate: `solver(objective, summary, group)`, such as `exact.ClosedForm()`."""

ROUGH, FINE = 1e-3, 1e-5
"""The default solver stops when ten steps lower the value by less than this fraction, in rough and in fine solves."""

STEPS = 100
"""Largest number of steps of one stage of a rough solve."""

RUGGED_STARTS = 3
"""Number of random starts of a default call for a rugged objective; for others it is 1."""

WIDEST, UNKNOWN = 0.3, 300.0
"""How widely the first stage rounds corners, in units of the signals; and the factor if the given width is unknown."""

KEY = 0
"""Seed of the random starts of a default call."""


@register_dataclass
@dataclasses.dataclass(frozen=True)
class DefaultSolver(Tournament):
    """The tournament of a call without a solver: its starts follow from the arguments of the call (`planned`)."""


def solver_for(objective: Objective) -> LBFGS | PolarPower | ClosedForm | Tournament:
    """Return the solver that suits an objective.

    This is the closed form for a quadratic form, and the polar fixed point (`PolarPower`) for a concave objective. For
    all others it is L-BFGS, with a model of the Hessian as preconditioner: first roughly, from the computed start and
    from a second one (`planned`), with corners rounded less and less; then finely, from the better answer. Rugged
    objectives take `RUGGED_STARTS` random starts.

    >>> from jaxdescramble.objectives import smoothness
    >>> solver_for(smoothness())
    ClosedForm()
    """
    if objective.quadratic:
        return ClosedForm()
    if objective.concave:
        return PolarPower()
    rough: Solver = LBFGS(decrease=ROUGH, max_steps=STEPS)
    factors = stages(objective)
    if factors:
        rough = Continuation(rough, factors)
    rough, fine = InFrame(rough), InFrame(LBFGS(decrease=FINE))
    chain, starts = Chain((SinglePrecision(fine), fine)), RUGGED_STARTS if _rugged(objective) else 1
    return DefaultSolver(chain, SinglePrecision(rough), starts, key=jax.random.key(KEY))


@register_dataclass
@dataclasses.dataclass(frozen=True)
class DefaultUnitary(Restarts):
    """The solver of a call with complex signals and without a solver; its starts follow from the arguments too."""


def unitary_solver_for(objective: Objective) -> ClosedForm | DefaultUnitary:
    """Return the solver that suits an objective of complex signals: the closed form, or L-BFGS on U(n).

    >>> from jaxdescramble.objectives import smoothness
    >>> unitary_solver_for(smoothness())
    ClosedForm()
    """
    if objective.quadratic:
        return ClosedForm()
    solver: Solver = LBFGS(decrease=FINE)
    factors = stages(objective)
    if factors:
        solver = Chain((Continuation(LBFGS(decrease=ROUGH, max_steps=STEPS), factors), solver))
    return DefaultUnitary(solver, RUGGED_STARTS if _rugged(objective) else 1, key=jax.random.key(KEY))


def near_start(solver: Solver | DirectSolver) -> Solver | DirectSolver:
    """Return the solver for starts near the answer, instead of the default one.

    It searches no better minimum elsewhere, and takes no preconditioner: that may turn a plane by a quarter at once, to
    another order of the neurons.

    >>> from jaxdescramble.objectives import sparsity
    >>> near_start(solver_for(sparsity())) == LBFGS(decrease=FINE, preconditioner=None)
    True
    """
    is_default = isinstance(solver, DefaultSolver | DefaultUnitary)
    return LBFGS(decrease=FINE, preconditioner=None) if is_default else solver


def stages(objective: Objective) -> tuple[ArrayLike, ...]:
    """Return the factors of a continuation: they begin at a width of `WIDEST` and fall by a factor of about 3.

    >>> from jaxdescramble.objectives import locality, sparsity
    >>> [round(float(factor), 1) for factor in stages(sparsity())], stages(locality())
    ([300.0, 95.9, 30.6, 9.8, 3.1], ())
    """
    if not objective.smoothing:
        return ()
    width = _width(objective)
    if width is None or is_traced(width):
        first: ArrayLike = UNKNOWN if width is None else jnp.clip(WIDEST / width, 1, 1e3)
        count = 5
    else:
        first = min(max(WIDEST / float(width), 1.0), 1e3)
        count = math.ceil(math.log(first) / math.log(3.2))
    return tuple(first ** ((count - k) / count) for k in range(count))


def _width(objective: Objective) -> Any:
    """Return how widely an objective rounds its corners, in units of the signals; None if that is unknown."""
    if isinstance(objective, Weighted):
        widths = [_width(term) for term in objective.terms if term.smoothing]
        if objective.softness is None or any(width is None for width in widths):
            return None
        each = [objective.softness * width for width in widths if width is not None]
        return functools.reduce(jnp.minimum, each) if any(map(is_traced, each)) else min(map(float, each))
    if not type(objective).__module__.startswith("jaxdescramble."):
        return None
    return getattr(objective, objective.smoothing)


def planned(
    objective: Objective,
    summary: Summary,
    solver: Solver,
    started: bool,
    restarts: int,
    key: PRNGKeyArray | None,
    group: str = "O",
) -> Solver:
    """Return the solver with its restarts. A given start without restarts is the only start.

    Where sparse sources and their order make a start, the default begins there instead of at a random point.

    >>> from jaxdescramble.objectives import locality
    >>> summary = locality().summarise(jnp.ones((2, 3)))
    >>> planned(locality(), summary, solver_for(locality()), True, 0, None).restarts
    0
    """
    if group in UNITARY:
        default = isinstance(solver, DefaultUnitary)
        if restarts and key is not None:
            return Restarts(solver.solver if default else solver, restarts, key=key)
        return solver.solver if default and started else solver
    if not isinstance(solver, DefaultSolver):
        if not restarts or key is None:
            return solver
        with_sources = order_of_sources(objective, summary) in ("chain", "any")
        return FromSources(solver, restarts, key=key) if with_sources else Restarts(solver, restarts, key=key)
    if started and not restarts:
        return dataclasses.replace(solver, restarts=0)
    order = order_of_sources(objective, summary)
    if restarts and key is not None:
        solver = dataclasses.replace(solver, restarts=restarts, key=key)
        return _with_sources(solver, order, restarts) if order else solver
    if order in ("chain", "line"):
        return _with_sources(dataclasses.replace(solver, restarts=0), order, 1)
    return solver


def _with_sources(solver: DefaultSolver, order: str, searches: int) -> DefaultSolver:
    """Return the tournament with one more rough solve, from sparse sources; its search is in single precision too."""
    search = LBFGS(decrease=ROUGH, max_steps=STEPS, preconditioner=None)
    rough = Seriated(solver.rough) if order == "line" else solver.rough
    sources = FromSources(rough, searches, search, key=solver.key)
    return dataclasses.replace(solver, others=(SinglePrecision(sources),))


def _rugged(objective: Objective) -> bool:
    """Return whether an objective, or a term of a sum, says that it is rugged."""
    if isinstance(objective, Weighted):
        return any(map(_rugged, objective.terms))
    return objective.rugged
