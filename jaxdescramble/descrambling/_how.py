"""Say in words how an answer was found: the solver, its starts and its stages."""

import dataclasses
from collections.abc import Iterable

import numpy as np

from jaxdescramble._base.checks import is_traced
from jaxdescramble.exact import ClosedForm
from jaxdescramble.exact.brockett import UNITARY
from jaxdescramble.objectives import Objective, Weighted
from jaxdescramble.solvers import (
    Chain,
    Continuation,
    FromSources,
    InFrame,
    Restarts,
    Seriated,
    SinglePrecision,
    Tournament,
)
from jaxdescramble.solvers.preconditioners import Automatic


def how(objective: Objective, solver: object, group: str, started: bool = False) -> str:
    """Return one line of text.

    Args:
        objective, group: see `descramble`.
        solver: the solver with its restarts; see `_planning.planned`.
        started: whether the user gave the first point.

    >>> from jaxdescramble.objectives import smoothness
    >>> how(smoothness(), ClosedForm(), "O")
    'closed form'
    """
    if group == "permutation":
        return "search over permutations"
    if isinstance(solver, ClosedForm):
        return "closed form"
    if not (hasattr(solver, "bind") or hasattr(solver, "run")):
        return f"direct solver {type(solver).__name__}"
    start = "the given start" if started else "the computed start"
    return f"{_described(solver, objective, group)}, from {_starts(solver, start)}"


def _described(solver: object, objective: Objective, group: str) -> str:
    if isinstance(solver, Tournament):
        rough, fine = _described(solver.rough, objective, group), _described(solver.solver, objective, group)
        return f"{rough} from each start; from the best answer {fine}"
    if isinstance(solver, Chain):
        return ", then ".join(_described(one, objective, group) for one in solver.solvers)
    if isinstance(solver, SinglePrecision):
        return f"{_described(solver.solver, objective, group)} in single precision"
    if isinstance(solver, Restarts | FromSources | Seriated | InFrame):
        return _described(solver.solver, objective, group)
    if isinstance(solver, Continuation):
        wide = ", ".join("?" if is_traced(one) else f"{np.asarray(one).item():.3g}" for one in (*solver.factors, 1.0))
        inner = _described(solver.solver, objective, group)
        return f"{inner} in {len(solver.factors) + 1} stages with {objective.smoothing} x {wide}"
    return f"{type(solver).__name__}{_model(solver, objective, group)}"


def _model(solver: object, objective: Objective, group: str) -> str:
    """Return the name of the model of the Hessian that a solver uses."""
    used = getattr(solver, "preconditioner", None)
    if isinstance(used, Automatic):
        if group in UNITARY:  # models of the Hessian are for O(n)
            return ""
        return " (Hessian modelled by the objective)" if _has_model(objective) else " (Hessian measured)"
    return f" ({type(used).__name__})" if used is not None else ""


def _has_model(objective: Objective) -> bool:
    """Return whether an objective provides a curvature; a sum does if all its terms do."""
    if isinstance(objective, Weighted):
        return all(map(_has_model, objective.terms))
    return type(objective).curvature is not Objective.curvature


def _starts(solver: object, start: str) -> str:
    found = [*([] if isinstance(solver, FromSources) else [start]), *_further(solver)]
    return found[0] if len(found) == 1 else f"{', '.join(found[:-1])} and {found[-1]}"


def _further(solver: object) -> Iterable[str]:
    """Yield the starts beside the first."""
    count = getattr(solver, "restarts", 0)
    if count:
        yield "a random start" if count == 1 else f"{count} random starts"
    if isinstance(solver, FromSources):
        yield "the sources of the signals" if solver.searches == 1 else f"the sources of {solver.searches} searches"
    for inner in (getattr(solver, "solver", None), *getattr(solver, "others", ())):
        if dataclasses.is_dataclass(inner):
            yield from _further(inner)
