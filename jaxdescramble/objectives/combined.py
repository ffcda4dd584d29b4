"""Weighted sums of objectives."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxdescramble._base import decompositions
from jaxdescramble._base.checks import is_traced, number_between
from jaxdescramble._base.products import matmul
from jaxdescramble.objectives._mirrors import Symmetries, common
from jaxdescramble.objectives.objective import Curvature, Objective
from jaxdescramble.objectives.smooth import PrincipalCurvature, largest_eigenvalue
from jaxdescramble.objectives.spatial import SpatialCurvature, ratio
from jaxdescramble.objectives.summaries import Samples, Summary


def weighted(*terms: Objective | tuple[ArrayLike, Objective]) -> Objective:
    """A weighted sum of objectives of the same signals.

    `f(P) = sum_k w_k f_k(P)`

    As every term is dimensionless, weights mean something: smoothness plus a tenth of locality is that for any signals.
    Unchanged by whatever leaves all terms unchanged. It reads what its terms read, or samples where they read different
    summaries. The bound and the relaxation are sums of the terms', where all have one and no weight is negative; of
    quadratic terms the bound is the rearrangement bound of their sum, which is attained.

    There is no closed form. A sum of quadratic terms has one as `smoothness(operator=operators.combine(...))`, in the
    natural unit of the combined operator, its largest eigenvalue, which is not that of the sum.

    Args:
        terms: objectives, or pairs (weight, objective). Weights are parameters, and so are those of the terms: all may
            be traced and differentiated. What can be said of a sum with weights of at least 0 is said of traced
            weights.

    Returns:
        An `Objective`. It has a curvature where all terms are quadratic, in their common principal directions, or where
        all can give theirs in the neurons' frame; it is `concave` where all terms are. Where terms have corners it has
        a parameter `softness`, 1, in units of their own epsilons, for continuation to lower.

    Raises:
        ValueError, TypeError: no terms, terms that are no objectives, weights that are no numbers, terms of which some
            judge signals and others a weight.

    >>> from jaxdescramble.objectives import locality, smoothness
    >>> both = weighted(smoothness(), (0.5, locality()))
    >>> round(float(both(jnp.eye(3), jnp.asarray([[1.0], [0.0], [1.0]]))), 4)  # 1/3 and half of 1
    0.8333

    Source: Amey et al. 2021 weigh several criteria; the scale that makes weights comparable is this package's.
    """
    if not terms:
        raise ValueError("weighted: got no terms; give objectives, or pairs (weight, objective).")
    weights, objectives = zip(*map(_term, terms), strict=True)
    judged = sorted({objective.judges for objective in objectives})
    if len(judged) > 1:
        raise ValueError(f"weighted: some terms judge {judged[0]} and others a {judged[1]}; they have no S in common.")
    kinds = {objective.summary for objective in objectives}
    natural = all(is_traced(w) or float(w) >= 0 for w in weights)
    curvature: Any = _curvature if all(objective.curvature is not None for objective in objectives) else None
    bound = _bound if natural and all(objective.bound is not None for objective in objectives) else None
    known = all(objective.bound is not None or objective.relaxation is not None for objective in objectives)
    deep = natural and known and any(objective.relaxation is not None for objective in objectives)
    if all(objective.operator is not None for objective in objectives):
        curvature, bound = _quadratic_curvature, _quadratic_bound
    softness = (("softness", 1.0),) if any(objective.smoothing for objective in objectives) else ()
    return Objective(
        _weighted,
        kinds.pop() if len(kinds) == 1 else Samples,
        objectives[0].judges,
        parameters=(("weights", weights), ("terms", objectives), *softness),
        name="weighted",
        curvature=curvature,
        bound=bound,
        relaxation=_relaxation if deep else None,
        smoothing="softness" if softness else "",
        concave=natural and all(objective.concave for objective in objectives),
        symmetries=_symmetries if all(objective.symmetries is not None for objective in objectives) else None,
        takes_weights=all(one.takes_weights or one.summary is not Samples for one in objectives),
    )


def _term(term: Any) -> tuple[ArrayLike, Objective]:
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


Terms = tuple[Objective, ...]
Weights = Sequence[ArrayLike]


def _total(weights: Weights, values: Sequence[Array]) -> Any:
    return sum(jnp.asarray(w, value.dtype) * value for w, value in zip(weights, values, strict=True))


def _weighted(
    point: Float[Array, "n n"], summary: Summary, weights: Weights, terms: Terms, softness: ArrayLike = 1.0
) -> Float[Array, ""]:
    return _total(weights, [term.smoothed(softness)(point, summary) for term in terms])


def _symmetries(n: int, weights: Weights, terms: Terms, softness: ArrayLike = 1.0) -> Symmetries:
    return common([term.symmetries(n) for term in terms if term.symmetries is not None])


def _bound(summary: Summary, weights: Weights, terms: Terms, softness: ArrayLike = 1.0) -> Float[Array, ""]:
    return _total(weights, [term.smoothed(softness).bound_on(summary) for term in terms])  # pyright: ignore


def _relaxation(
    summary: Summary, steps: int, weights: Weights, terms: Terms, softness: ArrayLike = 1.0
) -> Float[Array, ""]:
    return _total(weights, [term.smoothed(softness).tightest_bound_on(summary, steps) for term in terms])  # pyright: ignore


def _curvature(
    summary: Summary, weights: Weights, terms: Terms, softness: ArrayLike = 1.0
) -> Callable[[Array], Curvature] | None:
    models: list[Any] = [term.smoothed(softness).curvature_on(summary) for term in terms]
    if not all(hasattr(model, "diagonal") for model in models):
        return None  # a term of the user's own, in a frame of its own
    return SpatialCurvature(lambda point: _total(weights, [model.diagonal(point) for model in models]))


def _quadratic_curvature(summary: Summary, weights: Weights, terms: Terms) -> "_Together":
    operators: list[Any] = [term.operator_on(summary.size) for term in terms]
    return _Together(weights, [PrincipalCurvature(summary, D) for D in operators])


class _Together:
    """A weighted sum of curvatures that share their frame."""

    def __init__(self, weights: Weights, models: Sequence[PrincipalCurvature]):
        self._weights, self._models = weights, models

    def __call__(self, point: Float[Array, "n n"]) -> Curvature:
        found = [model(point) for model in self._models]
        return Curvature(found[0].frame, _total(self._weights, [each.diagonal for each in found]))

    def diagonal(self, point: Float[Array, "n n"]) -> Float[Array, "n n"]:
        return _total(self._weights, [model.diagonal(point) for model in self._models])


def _quadratic_bound(summary: Summary, weights: Weights, terms: Terms) -> Float[Array, ""]:
    """The rearrangement inequality for `sum_k w_k D_k^T D_k / lambda_k`; weights may have any sign."""
    operators: list[Any] = [term.operator_on(summary.size) for term in terms]
    columns = [D.apply(jnp.eye(summary.size, dtype=summary.dtype)) for D in operators]
    squares = [matmul(c.T, c) / largest_eigenvalue(D, c.dtype) for c, D in zip(columns, operators, strict=True)]
    a, _ = decompositions.eigh(_total(weights, squares))
    _, singular = summary.normalised().principal()
    return ratio(jnp.sum(a * singular**2), jnp.sum(singular**2))
