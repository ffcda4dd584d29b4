"""Coordinates in which the model of the Hessian is diagonal, as a combinator."""

import dataclasses
from typing import Any, ClassVar

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxdescramble._base.products import matmul
from jaxdescramble._base.programs import quick_jit
from jaxdescramble._base.pytrees import register_dataclass
from jaxdescramble._base.status import Status
from jaxdescramble.manifolds import orthogonal
from jaxdescramble.objectives.summaries import Samples
from jaxdescramble.solvers._starting import check_square
from jaxdescramble.solvers.descent import Function, RunOptions, Solver
from jaxdescramble.solvers.solution import Solution
from jaxdescramble.solvers.solve import solve


@register_dataclass
@dataclasses.dataclass(frozen=True)
class InFrame:
    """A solve in coordinates in which the objective's model of the Hessian is diagonal.

    Use it around solvers with a preconditioner (`LBFGS`, `TrustRegion`): a step takes about four fifths of the time,
    and 63% for 320 neurons. A preconditioner divides the gradient entrywise in the frame F of the model. In other
    coordinates, this takes four products of matrices each time, and F itself may have to be found again. The
    coordinates depend on the model:

    - Neurons rotate (`sparsity`, `locality`, `entropy`): the solver finds `Q = P^T`. Then the same model serves for
      several steps, because the frame moves with the point.
    - The principal directions F of the signals (`total_variation`): the solver finds `Q = P F` for the signals
      `F^T S`, which have the same `Q F^T S = P S`.

    On functions without such a model it changes nothing, nor on objectives of your own that compare neurons: their
    values may depend on more than `P S`. Solvers that compute a start go outside: `FromSources(InFrame(LBFGS()),
    key=key)`.

    Attributes:
        solver: the solver.

    Raises:
        TypeError: if a solver inside computes its start from the signals.

    >>> from jaxdescramble import objectives, solvers
    >>> objective = objectives.sparsity("logcosh")
    >>> summary = objective.summarise(jax.random.laplace(jax.random.key(0), (4, 200)))
    >>> found = solvers.minimise(objective, jnp.eye(4), summary, solver=InFrame(solvers.LBFGS()))
    >>> bool(abs(objective(found.point, summary) - found.value) < 1e-6), int(found.status)
    (True, 0)

    Source: this package; the change of variables is that of preconditioning by a basis (Nocedal, Wright, Numerical
    Optimization (2006), chapter 5).
    """

    solver: Solver

    def run(self, function: Function, start: Array, args: tuple, options: RunOptions) -> Solution:
        """Return the solution in the coordinates of the start."""
        check_square("InFrame", options)
        try:
            inside, begin, data, frame = _entered(function, start, args)
        except KeyboardInterrupt:  # while the program that turns the signals was compiled
            if options.watch is None or not options.watch.answered:
                raise
            options.watch.stopped = Status.INTERRUPTED
            return solve(function, start, args, self.solver, options)
        found = solve(inside, begin, data, self.solver, options)
        if inside is function:
            return found
        return dataclasses.replace(found, point=_left(found.point, frame))


@register_dataclass
@dataclasses.dataclass(frozen=True)
class _Aligned:
    """An objective in coordinates in which its model of the Hessian is diagonal."""

    objective: Any
    transposes: bool = dataclasses.field(metadata={"static": True})
    turned: ClassVar[bool] = True

    def __call__(self, point: Float[Array, "n n"], *args: Any) -> ArrayLike:
        return self.objective(point.T if self.transposes else point, *args)

    def curvature(self, *args: Any) -> Any:
        return self.objective.curvature(*args).aligned()

    @property
    def name(self) -> str:
        return self.objective.name

    @property
    def smoothing(self) -> str:
        return self.objective.smoothing

    def smoothed(self, factor: ArrayLike) -> "_Aligned":
        return dataclasses.replace(self, objective=self.objective.smoothed(factor))

    def mirrored(self, n: int) -> bool:
        known = getattr(self.objective, "mirrored", None)
        return known is not None and bool(known(n))


def _entered(function: Function, start: Array, args: tuple) -> tuple[Function, Array, tuple, Array | None]:
    """Return a problem in the coordinates of its model, and the frame; without a model, the problem as it is."""
    modelled = getattr(function, "curvature", None) is not None and not isinstance(function, _Aligned)
    entered = _turned((function, start, args)) if modelled and args and isinstance(args[0], Samples) else None
    return (function, start, args, None) if entered is None else entered


@quick_jit
def _turned(problem: tuple) -> tuple | None:
    function, start, (summary, *others) = problem
    at: Any = function.curvature(summary, *others)
    if not hasattr(at, "aligned"):
        return None
    inside = _Aligned(function, at.transposes)
    if at.transposes:
        return inside, start.T, (summary, *others), None
    # With other signals, the value is the same only if it is a function of `P S`.
    terms = getattr(function, "terms", (function,))
    if not all(type(term).__module__.startswith("jaxdescramble.") for term in terms):
        return None
    frame = at.frame.astype(start.dtype)
    turned = dataclasses.replace(summary, signals=matmul(frame.astype(summary.dtype).T, summary.signals))
    return inside, matmul(start, frame), (turned, *others), frame


@quick_jit
def _left(point: Float[Array, "*batch n n"], frame: Array | None) -> Float[Array, "*batch n n"]:
    """Return the point in the coordinates of the user."""
    return jnp.swapaxes(point, -1, -2) if frame is None else orthogonal.polish(matmul(point, frame.T))
