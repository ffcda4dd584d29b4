"""Weighted sums of objectives."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Inexact

from jaxdescramble._base import decompositions
from jaxdescramble._base.checks import is_traced, number_between
from jaxdescramble._base.products import matmul, real_type
from jaxdescramble.objectives._curvatures import SpatialCurvature, axes_curvature
from jaxdescramble.objectives._symmetries import Symmetries, common
from jaxdescramble.objectives.objective import Curvature, Objective
from jaxdescramble.objectives.smooth import PrincipalCurvature, largest_eigenvalue
from jaxdescramble.objectives.summaries import Samples, SampleSummary
from jaxdescramble.objectives.summary import Summary, size_of
from jaxdescramble.objectives.units import ratio, tighter
from jaxdescramble.operators import Operator


def weighted(*terms: Objective | tuple[ArrayLike, Objective]) -> "Weighted":
    """Return a weighted sum of objectives of the same signals. Use it if signals should be readable in several ways.

    `f(P) = sum_k w_k f_k(P)`

    Every term is dimensionless, so the weights w_k mean the same for all signals. f does not change under anything that
    changes no term. f reads the summary of its terms; if these differ, it reads `Samples`. The bound and the relaxation
    are the sums over the terms, if all terms have one and no weight is negative. If all terms are quadratic, the bound
    is the rearrangement bound of their sum, which is attained.

    There is no closed form. If all terms are quadratic and you need one, use
    `smoothness(operator=operators.combine(...))` instead. It divides by the largest eigenvalue of the combined
    operator, so its values differ from those of the sum.

    Args:
        terms: objectives, or pairs (weight, objective). An objective without a weight has weight 1. Weights and the
            fields of the terms are data: they may be traced and differentiated. Traced weights are assumed to be at
            least 0.

    Returns:
        A `Weighted`. It takes complex signals if all terms do. It has a curvature if all terms have one: in the
        principal directions of the signals, or in the frame of the neurons. It is `concave` if all terms are. If terms
        have corners, it has a field `softness`: how widely they are rounded, in units of their own epsilons. It is 1 at
        first; continuation lowers it.

    Raises:
        ValueError, TypeError: if there are no terms, a term is not an objective, a weight is not a number, or some
            terms apply to signals and others to weights.

    >>> from jaxdescramble.objectives import locality, smoothness
    >>> both = weighted(smoothness(), (0.5, locality("neumann")))
    >>> round(float(both(jnp.eye(3), jnp.asarray([[1.0], [0.0], [1.0]]))), 4)  # 1/3 and half of 1
    0.8333

    Source: Amey et al. 2021 weigh several criteria; the scale that makes weights comparable is ours.
    """
    if not terms:
        raise ValueError("weighted: got no terms; give objectives, or pairs (weight, objective).")
    weights, objectives = zip(*map(_term, terms), strict=True)
    if len({one.applies_to for one in objectives}) > 1:
        raise ValueError("weighted: some terms apply to signals and others to weights; they have no S in common.")
    kinds = {one.summary for one in objectives}
    natural = all(is_traced(weight) or float(weight) >= 0 for weight in weights)
    corners = any(one.smoothing for one in objectives)
    return Weighted(
        weights,
        objectives,
        softness=1.0 if corners else None,
        natural=natural,
        summary=kinds.pop() if len(kinds) == 1 else Samples,
        applies_to=objectives[0].applies_to,
        smoothing="softness" if corners else "",
        concave=natural and all(one.concave for one in objectives),
        takes_weights=all(one.takes_weights or one.summary is not Samples for one in objectives),
        takes_complex=all(one.takes_complex for one in objectives),
    )


class Weighted(Objective[Summary]):
    """A weighted sum of objectives. Make it with `weighted`, which documents it and sets the static fields.

    Attributes:
        weights, terms: weights and terms of the sum.
        softness: how widely corners are rounded, in units of the epsilons of the terms; None if there are no corners.
        natural: whether no weight is negative. If one is, there is a bound only if all terms are quadratic.
        summary, applies_to, smoothing, concave, takes_weights, takes_complex: attributes of every objective; see
            `Objective`.
    """

    weights: tuple[ArrayLike, ...]
    terms: tuple[Objective, ...]
    softness: ArrayLike | None = None
    natural: bool = dataclasses.field(default=False, repr=False, metadata={"static": True})
    summary: type[Summary] = dataclasses.field(default=Samples, repr=False, metadata={"static": True})
    applies_to: Literal["signals", "weights"] = dataclasses.field(
        default="signals", repr=False, metadata={"static": True}
    )
    smoothing: str = dataclasses.field(default="", repr=False, metadata={"static": True})
    concave: bool = dataclasses.field(default=False, repr=False, metadata={"static": True})
    takes_weights: bool = dataclasses.field(default=False, repr=False, metadata={"static": True})
    takes_complex: bool = dataclasses.field(default=False, repr=False, metadata={"static": True})

    @property
    def _rounded(self) -> tuple[Objective, ...]:
        """The terms with their corners rounded by `softness`."""
        return self.terms if self.softness is None else tuple(term.smoothed(self.softness) for term in self.terms)

    def value(self, point: Inexact[Array, "n n"], summary: Summary) -> Float[Array, ""]:
        return _total(self.weights, [term(point, summary) for term in self._rounded])

    def bound(self, summary: Summary) -> Float[Array, ""] | None:
        operators = self._operators(size_of(summary))
        if operators is not None:
            return _quadratic_bound(summary, self.weights, operators)
        bounds = [term.bound(summary) for term in self._rounded] if self.natural else [None]
        return _total_if_all(self.weights, bounds)

    def relaxation(self, summary: Summary, steps: int) -> Float[Array, ""] | None:
        relaxations = [term.relaxation(summary, steps) for term in self._rounded] if self.natural else []
        if all(one is None for one in relaxations):
            return None
        bounds = [term.bound(summary) for term in self._rounded]
        return _total_if_all(self.weights, [tighter(*both) for both in zip(bounds, relaxations, strict=True)])

    def curvature(self, summary: Summary) -> Callable[[Array], Curvature] | None:
        operators = self._operators(size_of(summary))
        if jnp.issubdtype(summary.dtype, jnp.complexfloating):
            return None
        if operators is not None:
            return _Together(self.weights, [PrincipalCurvature(summary, D) for D in operators])
        models = [term.curvature(summary) for term in self._rounded]
        bends = [one for model in models if (one := getattr(model, "bending", None)) is not None]
        known = self.symmetries(size_of(summary))

        def all_bend(point: Array, V: Array) -> Array:
            return _total(self.weights, [at(point, V) for at in bends])

        bending = all_bend if len(bends) == len(models) else None
        if bending is not None and isinstance(summary, SampleSummary) and not (known and known.every_order):
            return axes_curvature(self, summary, bending)
        diagonals = [getattr(model, "diagonal", None) for model in models]
        if any(diagonal is None for diagonal in diagonals):
            return None  # a term has no curvature, or a user-defined one in another frame

        def diagonal(point: Array) -> Array:
            return _total(self.weights, [at(point) for at in diagonals if at is not None])

        return SpatialCurvature(diagonal, bending)

    def symmetries(self, n: int) -> Symmetries | None:
        known = [term.symmetries(n) for term in self.terms]
        return None if any(one is None for one in known) else common([one for one in known if one is not None])

    def _operators(self, n: int) -> list[Operator] | None:
        """Return the operators of the terms, if all are quadratic."""
        found = [term.operator(n) for term in self.terms]
        known = [D for D in found if D is not None]
        return known if len(known) == len(found) else None


def _term(term: object) -> tuple[ArrayLike, Objective]:
    weight, objective = (1.0, term) if not isinstance(term, tuple) or len(term) != 2 else term
    if not isinstance(objective, Objective):
        raise TypeError(
            f"weighted: got {term!r}; expected objectives such as locality() - mind the parentheses - or pairs "
            "(weight, objective)."
        )
    if is_traced(weight):
        return weight, objective
    if isinstance(weight, bool) or not isinstance(weight, int | float | np.generic | Array) or np.ndim(weight) != 0:
        raise TypeError(f"weighted: got the weight {weight!r}; expected a number.")
    return number_between(weight, "weighted", -jnp.inf, jnp.inf, "weights that are finite numbers"), objective


Weights = Sequence[ArrayLike]


def _total(weights: Weights, values: Sequence[Array]) -> Array:
    first, *rest = (jnp.asarray(w, value.dtype) * value for w, value in zip(weights, values, strict=True))
    return sum(rest, start=first)


def _total_if_all(weights: Weights, values: Sequence[Array | None]) -> Array | None:
    known = [value for value in values if value is not None]
    return _total(weights, known) if len(known) == len(values) else None


class _Together:
    """A weighted sum of curvatures that have the same frame."""

    def __init__(self, weights: Weights, models: Sequence[PrincipalCurvature]):
        self._weights, self._models = weights, models

    def __call__(self, point: Float[Array, "n n"]) -> Curvature:
        found = [model(point) for model in self._models]
        return Curvature(found[0].frame, _total(self._weights, [each.diagonal for each in found]))

    def diagonal(self, point: Float[Array, "n n"]) -> Float[Array, "n n"]:
        return _total(self._weights, [model.diagonal(point) for model in self._models])

    def bending(self, point: Float[Array, "n n"], V: Float[Array, "n k"]) -> Float[Array, " k"]:
        return _total(self._weights, [model.bending(point, V) for model in self._models])


def _quadratic_bound(summary: Summary, weights: Weights, operators: Sequence[Operator]) -> Float[Array, ""]:
    """Apply the rearrangement inequality to `sum_k w_k D_k^T D_k / lambda_k`. Weights may have any sign."""
    columns = [D.apply(jnp.eye(summary.size, dtype=real_type(summary.dtype))) for D in operators]
    squares = [matmul(c.T, c) / largest_eigenvalue(D, c.dtype) for c, D in zip(columns, operators, strict=True)]
    a, _ = decompositions.eigh(_total(weights, squares))
    _, singular = summary.normalised().principal()
    return ratio(jnp.sum(a * singular**2), jnp.sum(singular**2))
