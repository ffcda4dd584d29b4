"""What an objective is: one pure function, the summary it reads, and what it can say about itself."""

import dataclasses
from collections.abc import Callable, Hashable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float

from jaxdescramble._base.checks import (
    a_function,
    a_summary,
    floating_type,
    is_traced,
    one_of,
    positive_integer,
    positive_number,
    real_array,
    same_size,
    sample_weights,
    true_or_false,
)
from jaxdescramble.objectives._mirrors import Symmetries
from jaxdescramble.objectives.summaries import Samples, Summary
from jaxdescramble.operators import Operator


@dataclasses.dataclass(frozen=True)
class _Rule:
    """A function that an objective was given about itself, called with the objective's own settings and parameters."""

    function: Callable[..., Any]
    options: dict[str, Any] = dataclasses.field(compare=False, repr=False)

    def __call__(self, *args: Any, **given: Any) -> Any:
        return self.function(*args, **(self.options | given))


RULES = ("operator", "curvature", "bound", "relaxation", "sparse_under", "assignment", "symmetries")


class Curvature(NamedTuple):
    """A diagonal model of an objective's Hessian in body coordinates, `P(t) = P exp(t frame W frame^T)`, W skew.

    The second derivative along `W = E_ij - E_ji` is modelled by `diagonal[i, j]`. The frame may depend on the point:
    `frame = P^T` turns rows of P, `exp(t W) P`, which is the frame in which sums over neurons are simple.
    """

    frame: Float[Array, "n n"]
    diagonal: Float[Array, "n n"]


@jax.tree_util.register_pytree_with_keys_class
@dataclasses.dataclass(frozen=True)
class Objective:
    """A figure of merit of `P S`, dimensionless and to be minimised: smaller is more readable.

    A new one is a function of a point and a summary, wrapped once:

    >>> import jax.numpy as jnp
    >>> def roughness(point, summary, power):
    ...     return jnp.mean(jnp.abs(jnp.diff(point @ summary.signals, axis=0)) ** power)
    >>> objective = Objective(roughness, settings=(("power", 2),))
    >>> float(objective(jnp.eye(2), jnp.asarray([[0.0, 1.0], [2.0, 1.0]])))
    2.0

    An objective is a pytree and a value: two that were built alike share one compilation, and changing a number in
    `parameters` does not compile again.

    Attributes:
        function: `function(point, summary, **settings, **parameters) -> scalar`; a module-level function, since its
            identity is part of the objective's.
        summary: the kind of summary it reads (`Samples`, `Factor` or `Gram`).
        judges: "signals" (the default) or "weight", what S is.
        settings: names and hashable values that are fixed at compile time.
        parameters: names and numbers, arrays or operators that may be traced and differentiated.
        name: what `Descrambling.load` looks up in `jaxdescramble.objectives`; the function's own name if empty.
        operator: `operator(n, **settings, **parameters)`, given by an objective that is
            `||D P S||_F^2 / (lambda_max(D^T D) ||S||_F^2)`: the D on n points. Such an objective has a closed form.
        curvature: `curvature(summary, **settings, **parameters)`, for preconditioners: a function `at(point)` that
            gives a `Curvature`. What does not depend on the point is computed once, where the function is made.
        bound: `bound(summary, **settings, **parameters)`, a number that no orthogonal point goes below.
        relaxation: `relaxation(summary, steps, **settings, **parameters)`, such a number again, from steps + 1
            eigenvalue problems in symmetric matrices: computed only for who asks.
        smoothing: the name of the parameter that rounds the corners ("epsilon"), if one does: continuation lowers it.
        concave: whether it is minus a convex function of the matrix P: then the polar fixed point
            `P <- polar(-gradient)` never goes up.
        sparse_under: `sparse_under(n, **settings, **parameters)`, the D of an objective that is a (smoothed) L1 norm of
            `D P S`; starting points are made from it.
        assignment: `assignment(summary, **settings, **parameters)`, symmetric matrices a and b with
            `f(P) = sum_ij a_ij b_{p(i) p(j)}` for every permutation, `(P S)_i = S_{p(i)}`; or None for these settings.
            Such an objective is a quadratic assignment problem over S(n).
        symmetries: `symmetries(n, **settings, **parameters)`, signed permutations of the n neurons that leave f alone,
            as `objectives.mirrors` writes them; None for every change of sign of single neurons. Where one of them has
            determinant -1, solvers look at one determinant class of O(n) and know both.
        takes_weights: whether `function`, and the functions above, weigh every sum over samples by `summary.weigh`.
            Needed only of those that read `Samples`: in the other summaries weights are contained. Without it, weights
            other than zeros and ones are refused.

    The functions that an objective is given about itself are called with its settings and parameters filled in:
    `objective.bound(summary)` is the bound of this very objective, and the same as `objective.bound_on(summary)`.
    """

    function: Callable[..., Array]
    summary: type[Any] = Samples
    judges: Literal["signals", "weight"] = "signals"
    settings: tuple[tuple[str, Hashable], ...] = ()
    parameters: tuple[tuple[str, Any], ...] = ()
    name: str = ""
    operator: Callable[..., Operator] | None = None
    curvature: Callable[..., Callable[[Array], Curvature]] | None = None
    bound: Callable[..., Array] | None = None
    relaxation: Callable[..., Array] | None = None
    smoothing: str = ""
    concave: bool = False
    sparse_under: Callable[..., Operator] | None = None
    assignment: Callable[..., tuple[Array, Array] | None] | None = None
    symmetries: Callable[..., Symmetries] | None = None
    takes_weights: bool = False

    def __post_init__(self):
        a_function(self.function, "function", "a point and a summary")
        one_of(self.judges, "judges", ("signals", "weight"))
        true_or_false(self.takes_weights, "takes_weights")
        if not isinstance(self.summary, type) or not hasattr(self.summary, "empty"):
            raise TypeError(f"summary: expected a kind of summary, Samples, Factor or Gram, got {self.summary!r}.")
        options = self.options
        for name in RULES:
            if (rule := getattr(self, name)) is not None:
                object.__setattr__(self, name, _Rule(_unbound(rule), options))

    @property
    def options(self) -> dict[str, Any]:
        """Settings and parameters together, as the functions take them."""
        return dict(self.settings) | dict(self.parameters)

    def __call__(
        self, point: ArrayLike, summary: Summary | ArrayLike, weights: ArrayLike | None = None
    ) -> Float[Array, ""]:
        """The value at a point; `summary` may be the signals themselves, with weights of their samples.

        Raises:
            ValueError: the point and the signals do not fit; weights as for `summarise`.
            TypeError: weights beside a summary, which has its own.
        """
        if not hasattr(summary, "principal"):
            summary = self.summarise(summary, weights)  # pyright: ignore[reportArgumentType]
        elif weights is not None:
            raise TypeError("weights: a summary holds its samples' weights already; give them to `summarise`.")
        elif getattr(summary, "weights", None) is not None:
            self._check_weighs()
        point = real_array(point, "point", (2,), "(rows, features)")
        same_size(point, -1, summary.size, "point", "the signals' features")  # pyright: ignore
        return self.function(point, summary, **self.options)

    def empty(self, n: int, dtype: DTypeLike) -> Summary:
        """The summary of no samples of n features.

        Raises:
            TypeError, ValueError: n is no positive integer, a type other than float32 and float64.
        """
        return self.summary.empty(positive_integer(n, "n"), floating_type(dtype, half=True))

    def update(self, summary: Summary, signals: ArrayLike, weights: ArrayLike | None = None) -> Summary:
        """The summary with more columns of signals added.

        Args:
            summary: of the samples before.
            signals: shape (features, samples).
            weights: how much each sample counts, shape (samples,); None for 1 each. All may be zero here.

        Raises:
            ValueError, TypeError: the signals do not fit the summary; weights as for `summarise`.
        """
        a_summary(summary)
        columns = real_array(signals, "signals", (2,), "(features, samples)")
        same_size(columns, 0, summary.size, "signals", "the summary's features")
        if columns.dtype != summary.dtype:
            raise TypeError(f"signals: {columns.dtype} given to a summary of {summary.dtype}; convert one of them.")
        return self._updated(summary, columns, weights, empty=True)

    def merge(self, one: Summary, other: Summary) -> Summary:
        """The summary of two data sets together.

        Raises:
            TypeError, ValueError: no summaries, or not of one kind and size.
        """
        a_summary(one, "one")
        a_summary(other, "other")
        if type(one) is not type(other) or one.size != other.size:
            raise ValueError(
                f"merge: got summaries {type(one).__name__} of {one.size} features and {type(other).__name__} of "
                f"{other.size}; both must come from one objective and have the same features."
            )
        return one.merge(other)

    def summarise(self, signals: ArrayLike, weights: ArrayLike | None = None) -> Summary:
        """`update(empty(n, dtype), signals)` in one step.

        Args:
            signals: shape (features, samples).
            weights: how much each sample counts, shape (samples,), at least 0; None for 1 each. A whole number counts
                its sample so many times. A sample of weight 0 does not count at all and may hold anything, NaN
                included. Under `jit`, where numbers are not known, weights that are negative, infinite or NaN give the
                status NOT_FINITE, and all zero ZERO_SIGNALS.

        Raises:
            ValueError: another shape; weights that are negative, infinite, NaN or all zero.
            TypeError: complex numbers; an objective that judges a weight, whose columns are no samples, or one that
                reads `Samples` and does not say `takes_weights` (weights of zeros and ones are allowed there outside of
                `jit`: they select the samples).

        >>> from jaxdescramble.objectives import total_variation
        >>> S, point = jnp.asarray([[1.0, 2.0, jnp.nan], [3.0, 1.0, 5.0]]), jnp.eye(2)
        >>> twice = total_variation()(point, S[:, jnp.asarray([0, 1, 1])])
        >>> bool(abs(total_variation()(point, S, weights=[1, 2, 0]) - twice) < 1e-6)
        True
        """
        columns = real_array(signals, "signals", (2,), "(features, samples)")
        return self._updated(self.empty(columns.shape[0], columns.dtype), columns, weights, empty=False)

    def _updated(self, summary: Any, columns: Array, weights: Any, empty: bool) -> Summary:
        if weights is None:
            return summary.update(columns)
        columns, weights = self.weighed(columns, sample_weights(weights, [columns.shape[1:]], columns.dtype, empty))
        return summary.update(columns) if weights is None else summary.update(columns, weights)

    def weighed(self, columns: Array, weights: Any) -> tuple[Array, Array | None]:
        """Signals and weights as this objective can take them: selected samples without weights where it takes none.

        Args:
            columns: shape (..., features, samples).
            weights: as `checks.sample_weights` gives them, shape (samples,) or (..., samples); or None.

        Raises:
            TypeError: as for `summarise`.

        >>> def user(point, summary):
        ...     return jnp.mean(point @ summary.signals)
        >>> Objective(user).weighed(jnp.ones((2, 3)), jnp.asarray([1.0, 0.0, 1.0]))[0].shape
        (2, 2)
        """
        if weights is None or (self.judges == "signals" and self._weighs):
            return columns, weights
        if self.judges == "signals" and weights.ndim == 1 and not is_traced(weights):
            plain = np.asarray(weights)
            if (plain * (plain - 1) == 0).all() and plain.any():
                return columns[..., np.flatnonzero(plain)], None
        self._check_weighs()
        return columns, weights

    @property
    def _weighs(self) -> bool:
        return self.takes_weights or not issubclass(self.summary, Samples)

    def _check_weighs(self) -> None:
        name = self.name or getattr(self.function, "__name__", "the objective")
        if self.judges != "signals":
            raise TypeError(f"weights: {name} judges a {self.judges}, whose columns are no samples; leave weights out.")
        if not self._weighs:
            raise TypeError(
                f"weights: {name} does not say that it weighs its samples, so only weights of zeros and ones, one set "
                "for all layers and outside of jit, can be used. Multiply the terms of its sums over samples by "
                "`summary.weigh(terms)` and give Objective(..., takes_weights=True)."
            )

    def operator_on(self, n: int) -> Operator | None:
        """The D of a quadratic objective on n points, or None where there is no such D.

        Raises:
            TypeError, ValueError: n is no positive integer, or does not fit the objective.
        """
        n = positive_integer(n, "n")
        return None if self.operator is None else self.operator(n)

    def curvature_on(self, summary: Summary) -> Callable[[Array], Curvature] | None:
        """The curvature as a function of the point, for these signals, or None where the objective gives none."""
        a_summary(summary)
        return None if self.curvature is None else self.curvature(summary)

    def bound_on(self, summary: Summary) -> Array | None:
        """What no orthogonal point goes below, for these signals, or None where the objective knows no bound."""
        a_summary(summary)
        return None if self.bound is None else self.bound(summary)

    def tightest_bound_on(self, summary: Summary, steps: int = 40) -> Array | None:
        """The larger of the bound and the relaxation, for these signals, or None where the objective knows neither.

        Raises:
            TypeError, ValueError: no summary; steps below 0; the signals are too large for the relaxation.
        """
        steps = positive_integer(steps, "steps", least=0)
        bound = self.bound_on(summary)
        if self.relaxation is None:
            return bound
        found = self.relaxation(summary, steps)
        return found if bound is None else jnp.maximum(bound, found)

    def assignment_on(self, summary: Summary) -> tuple[Array, Array] | None:
        """The matrices of the quadratic assignment problem over permutations, or None where there are none."""
        a_summary(summary)
        return None if self.assignment is None else self.assignment(summary)

    def mirrored(self, n: int) -> bool:
        """Whether the two determinant classes of O(n) hold the same values: some reflection leaves the objective alone.

        >>> from jaxdescramble.objectives import monotonicity, sparsity
        >>> sparsity().mirrored(4), monotonicity().mirrored(4)
        (True, False)
        """
        n = positive_integer(n, "n")
        if self.operator is not None:
            return True  # a mode of D^T D may change its sign
        if self.symmetries is None:
            return False
        found = self.symmetries(n)
        return found is None or any(one.determinant < 0 for one in found)

    def smoothed(self, factor: ArrayLike) -> "Objective":
        """The objective with corners rounded `factor` times as widely; itself where there are none to round.

        Raises:
            TypeError, ValueError: no positive number.
        """
        factor = positive_number(factor, "factor")
        wider = ((name, factor * value if name == self.smoothing else value) for name, value in self.parameters)
        return dataclasses.replace(self, parameters=tuple(wider))

    def tree_flatten_with_keys(self) -> tuple[tuple, tuple]:
        """Parameters are leaves; all else, the names of parameters included, is structure."""
        names = tuple(name for name, _ in self.parameters)
        leaves = tuple((jax.tree_util.GetAttrKey(name), value) for name, value in self.parameters)
        fields = (field.name for field in dataclasses.fields(self) if field.name != "parameters")
        fixed = tuple(_unbound(getattr(self, name)) for name in fields)
        return leaves, (names, fixed)

    @classmethod
    def tree_unflatten(cls, structure: tuple, leaves: tuple) -> "Objective":
        """The inverse of `tree_flatten_with_keys`."""
        names, fixed = structure
        fields = [field.name for field in dataclasses.fields(cls) if field.name != "parameters"]
        return cls(**dict(zip(fields, fixed, strict=True)), parameters=tuple(zip(names, leaves, strict=True)))


def _unbound(rule: Any) -> Any:
    return rule.function if isinstance(rule, _Rule) else rule
