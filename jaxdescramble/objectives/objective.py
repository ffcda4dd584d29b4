"""The base class of objectives: a frozen dataclass with a method `value`, and optional methods for solvers."""

import dataclasses
import re
from collections.abc import Callable
from typing import ClassVar, Generic, Literal, NamedTuple, TypeVar, dataclass_transform

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float

from jaxdescramble._base.checks import (
    floating_type,
    is_traced,
    positive_integer,
    positive_number,
    real_array,
    real_or_complex_array,
    same_size,
    sample_weights,
)
from jaxdescramble._base.products import real_type
from jaxdescramble._base.pytrees import register_dataclass
from jaxdescramble.objectives._symmetries import Symmetries
from jaxdescramble.objectives.summaries import Samples, SampleSummary
from jaxdescramble.objectives.summary import Summary, a_summary, on_rows
from jaxdescramble.objectives.units import tighter
from jaxdescramble.operators import Operator


class Curvature(NamedTuple):
    """A diagonal model of the Hessian of an objective, for preconditioners.

    `diagonal[i, j]` is the second derivative, or a model of it, along the path `P(t) = P exp(t frame W frame^T)` with
    the skew matrix `W = E_ij - E_ji`. The frame may depend on the point; None means 1. With `frame = P^T` the path is
    `exp(t W) P`: it rotates rows of P (neurons). Sums over neurons are simple in this frame.
    """

    frame: Float[Array, "n n"] | None
    diagonal: Float[Array, "n n"]


Kind = TypeVar("Kind", bound=Summary, contravariant=True)
Self = TypeVar("Self", bound="Objective")


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
class Objective(Generic[Kind]):
    """A number that says how readable `P S` is. It is dimensionless, and smaller is more readable.

    To define a new objective, write a subclass with the method `value` and, as fields, the numbers that it needs:

    >>> import jaxdescramble as jd
    >>> class Roughness(jd.Objective):
    ...     power: ArrayLike = 2.0
    ...     def value(self, point, summary):
    ...         return jnp.mean(jnp.abs(jnp.diff(point @ summary.signals, axis=0)) ** self.power)
    >>> S = jnp.asarray([[0.0, 1.0], [2.0, 1.0]])
    >>> float(Roughness()(jnp.eye(2), S)), float(Roughness(power=1.0)(jnp.eye(2), S))
    (2.0, 1.0)

    Do not write a decorator: every subclass becomes a frozen dataclass and a pytree. Fields are data: numbers, arrays
    and operators. They may be traced and differentiated, and a change does not compile again. Mark a field that decides
    what is compiled (a name, an order, a shape) as static:
    `order: int = dataclasses.field(default=2, metadata={"static": True})`. For a plain function, use
    `objectives.from_function`.

    The methods from `operator` to `seriates` are optional. They return None by default; `seriates` returns False.
    `Objective[SampleSummary]` tells type checkers what kind of summary the methods take.

    Attributes:
        summary: the kind of summary that the objective reads (`Samples`, `Factor` or `Gram`).
        applies_to: what the columns of S are. "signals": samples without an order, which the package may repeat, weigh,
            draw and merge; the value must not depend on their order. "weights": columns that have places of their own,
            as in the weight matrix of a layer, or samples in an order that matters, such as a time series. Then sample
            weights, `bootstrap` and streams are refused.
        concave: whether the objective is minus a convex function of P. Then the polar fixed point,
            `P <- polar(-gradient)`, never increases it.
        smoothing: name of the field that says how widely corners are rounded, such as "epsilon"; "" means that there
            are no corners. Continuation lowers this field step by step.
        rugged: whether many local minima have quite different values. Default calls then take three random starts.
        takes_weights: whether `value` and the optional methods multiply every sum over samples by `summary.weigh`. Set
            it only for objectives that read `Samples`; the other summaries contain the weights. If it is False, only
            weights of zeros and ones are accepted.
        takes_complex: whether P and signals may be complex; bounds hold for unitary P, and phases are as free as signs.
        name: name in messages; by default the name of the class in lower case with underscores.

    Set an attribute in the class body (`concave = True`), or as a static field if it depends on the instance.
    """

    summary: type[Summary] = Samples
    applies_to: Literal["signals", "weights"] = "signals"
    concave: bool = False
    smoothing: str = ""
    rugged: bool = False
    takes_weights: bool = False
    takes_complex: bool = False
    name: str = ""
    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field]]  # the fields of subclasses

    def __init__(self, *args: object, **fields: object):
        raise TypeError(
            "Objective: this is the base class of objectives. Write a subclass with a method value(point, summary), or "
            "use objectives.from_function(function)."
        )

    def __init_subclass__(cls, **options: object):
        """Make the subclass a frozen dataclass and a pytree."""
        super().__init_subclass__(**options)
        if "name" not in vars(cls) and "name" not in vars(cls).get("__annotations__", {}):
            cls.name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower().strip("_")
        dataclasses.dataclass(frozen=True, repr=False)(cls)
        for field in dataclasses.fields(cls):
            if field.type in (str, bool, "str", "bool") and not field.metadata.get("static"):
                raise TypeError(
                    f"{cls.__name__}.{field.name}: text and truth values are fixed when a program is compiled. Write "
                    f"{field.name}: {getattr(field.type, '__name__', field.type)} = dataclasses.field(default=..., "
                    "metadata={'static': True})."
                )
        register_dataclass(cls)

    def __repr__(self) -> str:
        """Return the class and the fields that differ from their defaults.

        >>> from jaxdescramble.objectives import smoothness
        >>> smoothness(order=1, summary="gram")
        Smoothness(order=1, summary=Gram)
        """
        shown = [
            f"{field.name}={_shown(getattr(self, field.name))}"
            for field in dataclasses.fields(self)
            if field.repr and not _same(getattr(self, field.name), field.default)
        ]
        return f"{type(self).__name__}({', '.join(shown)})"

    # --- methods that a subclass defines -----------------------------------------------------------------------------

    def value(self, point: Float[Array, "n n"], summary: Kind) -> Float[Array, ""]:
        """Return the value at a point. Every objective must define this method."""
        raise NotImplementedError(f"{type(self).__name__}: define value(self, point, summary).")

    def operator(self, n: int) -> Operator | None:
        """Return D for n neurons, if the objective is `||D P S||_F^2 / (lambda_max(D^T D) ||S||_F^2)`.

        An objective that defines this method has a closed form.
        """
        return None

    def curvature(self, summary: Kind) -> Callable[[Array], Curvature] | None:
        """Return a model of the Hessian, for preconditioners: a function from the point to a `Curvature`.

        Before you return the function, compute everything that does not depend on the point.
        """
        return None

    def bound(self, summary: Kind) -> Float[Array, ""] | None:
        """Return a lower bound: no orthogonal point has a smaller value."""
        return None

    def relaxation(self, summary: Kind, steps: int) -> Float[Array, ""] | None:
        """Return a better lower bound, from `steps + 1` eigenvalue problems. It is computed only on request."""
        return None

    def assignment(self, summary: Kind) -> tuple[Float[Array, "n n"], Float[Array, "n n"]] | None:
        """Return the symmetric matrices a and b, if the objective is a quadratic assignment problem over S(n).

        This means `f(P) = sum_ij a_ij b_{p(i) p(j)}` for every permutation p, with `(P S)_i = S_{p(i)}`.
        """
        return None

    def symmetries(self, n: int) -> Symmetries | None:
        """Return signed permutations of the n neurons that do not change the objective.

        If one of them has determinant -1, both determinant classes of O(n) have the same values, and solvers search
        only one.
        """
        return None

    def sparsifying_operator(self, n: int) -> Operator | None:
        """Return D for n neurons, if the objective is a (rounded) L1 norm of `D P S`.

        Solvers use it to find starting points.
        """
        return None

    def seriates(self, n: int) -> bool:
        """Return whether the n neurons stand on a line or circle, and those that are active together near each other.

        Solvers use it to find starting points.
        """
        return False

    # --- what every objective does ------------------------------------------------------------------------------------

    def __call__(
        self, point: ArrayLike, summary: Summary | ArrayLike, weights: ArrayLike | None = None
    ) -> Float[Array, ""]:
        """Return the value at a point P, shape (n, n); for another shape (k, n), that of the k signals `P S`.

        Args:
            point: the descrambler P.
            summary: summary of the signals, or the signals themselves, shape (features, samples).
            weights: how much each sample counts, shape (samples,), at least 0; None means 1 each.

        Raises:
            ValueError: if the sizes of the point and of the signals differ, or `summarise` rejects the weights.
            TypeError: if you give weights with a summary; a summary contains its weights.
        """
        if not isinstance(summary, Summary):
            summary = self.summarise(summary, weights)
        elif weights is not None:
            raise TypeError("weights: a summary holds its samples' weights already; give them to `summarise`.")
        elif getattr(summary, "weights", None) is not None:
            self._check_weighs()
        point = self._array(point, "point", "(rows, features)")
        same_size(point, -1, summary.size, "point", "the signals' features")
        return self.value(*on_rows(point, summary))

    def empty(self, n: int, dtype: DTypeLike) -> Summary:
        """Return an empty summary for signals of n features. Then add signals with `update`.

        Raises:
            TypeError, ValueError: if n is not a positive integer, or the dtype is not a floating type.
        """
        return self.summary.empty(
            positive_integer(n, "n"), floating_type(dtype, half=True, is_complex=self.takes_complex)
        )

    def update(self, summary: Summary, signals: ArrayLike, weights: ArrayLike | None = None) -> Summary:
        """Return a summary that includes further samples.

        Args:
            summary: summary of the earlier samples.
            signals: the further signals, shape (features, samples).
            weights: how much each sample counts, shape (samples,), at least 0; None means 1 each. All may be zero here.

        Raises:
            ValueError, TypeError: if the signals do not fit the summary, or `summarise` rejects the weights.
        """
        a_summary(summary)
        columns = self._array(signals, "signals", "(features, samples)")
        same_size(columns, 0, summary.size, "signals", "the summary's features")
        if columns.dtype != summary.dtype:
            raise TypeError(f"signals: {columns.dtype} given to a summary of {summary.dtype}; convert one of them.")
        return self._updated(summary, columns, weights, empty=True)

    def merge(self, one: Summary, other: Summary) -> Summary:
        """Merge the summaries of two data sets.

        Raises:
            TypeError, ValueError: if an argument is not a summary, or if their kinds or sizes differ.
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
        """Return the summary of the signals: `update(empty(n, dtype), signals)` in one step.

        Args:
            signals: the signals S, shape (features, samples).
            weights: how much each sample counts, shape (samples,), at least 0; None means 1 each. A whole number counts
                a sample that many times; 0 leaves it out, and it may then contain NaN. Under `jit` the numbers are
                unknown: weights that are negative, infinite or NaN then give the status NOT_FINITE, and weights that
                are all zero give ZERO_SIGNALS.

        Raises:
            ValueError: if a shape is wrong, or weights are negative, infinite, NaN or all zero.
            TypeError: if signals are complex and the objective does not take them (`takes_complex`); or if it cannot
                use weights: it applies to weight matrices, or it reads `Samples` without `takes_weights`. In the last
                case, weights of zeros and ones are still accepted outside `jit`; they select samples.

        >>> from jaxdescramble.objectives import total_variation
        >>> S, point = jnp.asarray([[1.0, 2.0, jnp.nan], [3.0, 1.0, 5.0]]), jnp.eye(2)
        >>> twice = total_variation(boundary="neumann")(point, S[:, jnp.asarray([0, 1, 1])])
        >>> bool(abs(total_variation(boundary="neumann")(point, S, weights=[1, 2, 0]) - twice) < 1e-6)
        True
        """
        columns = self._array(signals, "signals", "(features, samples)")
        return self._updated(self.empty(columns.shape[0], columns.dtype), columns, weights, empty=False)

    def _array(self, value: ArrayLike, name: str, axes: str) -> Array:
        return (real_or_complex_array if self.takes_complex else real_array)(value, name, (2,), axes)

    def _updated(self, summary: Summary, columns: Array, weights: ArrayLike | None, empty: bool) -> Summary:
        if weights is None:
            return summary.update(columns)
        columns, given = self.weighed(
            columns, sample_weights(weights, [columns.shape[1:]], real_type(columns.dtype), empty)
        )
        return summary.update(columns) if given is None else summary.update(columns, given)

    def weighed(self, columns: Array, weights: Array | None) -> tuple[Array, Array | None]:
        """Return signals and weights in a form that this objective can use.

        If the objective takes no weights, the samples of weight 1 are returned, without weights.

        Args:
            columns: the signals S, shape (..., features, samples).
            weights: checked weights, shape (samples,) or (..., samples); None means 1 each.

        Raises:
            TypeError: if the objective cannot use these weights; see `summarise`.

        >>> from jaxdescramble.objectives import from_function
        >>> def user(point, summary):
        ...     return jnp.mean(point @ summary.signals)
        >>> from_function(user).weighed(jnp.ones((2, 3)), jnp.asarray([1.0, 0.0, 1.0]))[0].shape
        (2, 2)
        """
        if weights is None or (self.applies_to == "signals" and self._weighs):
            return columns, weights
        if self.applies_to == "signals" and weights.ndim == 1 and not is_traced(weights):
            plain = np.asarray(weights)
            if (plain * (plain - 1) == 0).all() and plain.any():
                return columns[..., np.flatnonzero(plain)], None
        self._check_weighs()
        return columns, weights

    @property
    def _weighs(self) -> bool:
        return self.takes_weights or not issubclass(self.summary, SampleSummary)

    def _check_weighs(self) -> None:
        if self.applies_to != "signals":
            raise TypeError(
                f"weights: {self.name} applies to a weight matrix, or to columns in an order that matters "
                "(applies_to = 'weights'); such columns are no samples that can be weighed. Leave weights out."
            )
        if not self._weighs:
            raise TypeError(
                f"weights: {self.name} does not say that it weighs its samples, so only weights of zeros and ones, one "
                "set for all layers and outside of jit, can be used. Multiply the terms of its sums over samples by "
                "`summary.weigh(terms)`, and say so: `takes_weights = True` in the class, or "
                "from_function(..., takes_weights=True)."
            )

    @property
    def quadratic(self) -> bool:
        """Whether the class defines `operator`. Then the objective has a closed form."""
        return type(self).operator is not Objective.operator

    def tightest_bound(self, summary: Kind, steps: int = 40) -> Float[Array, ""] | None:
        """Return the larger of the bound and the relaxation, or None if the objective has neither.

        Args:
            summary: summary of the signals.
            steps: number of steps of the relaxation. More steps take longer and never lower the bound.

        Raises:
            TypeError, ValueError: if `summary` is not a summary, `steps` is negative, or the signals are too large for
                the relaxation.
        """
        a_summary(summary)
        steps = positive_integer(steps, "steps", least=0)
        orthogonal = jnp.issubdtype(summary.dtype, jnp.floating)  # relaxations do not hold for unitary P
        return tighter(self.bound(summary), self.relaxation(summary, steps) if orthogonal else None)

    def mirrored(self, n: int) -> bool:
        """Return whether the objective has the same values on both determinant classes of O(n).

        This is so if a symmetry of the objective has determinant -1.

        >>> from jaxdescramble.objectives import monotonicity, sparsity
        >>> sparsity().mirrored(4), monotonicity().mirrored(4)
        (True, False)
        """
        n = positive_integer(n, "n")
        if self.quadratic:
            return True  # a mode of D^T D may change its sign
        known = self.symmetries(n)
        return known is not None and known.reflect(n)

    def smoothed(self: Self, factor: ArrayLike) -> Self:
        """Return a copy whose corners are rounded `factor` times as widely, or the objective itself without corners.

        Raises:
            TypeError, ValueError: if `factor` is not a positive number.
        """
        factor = positive_number(factor, "factor")
        if not self.smoothing:
            return self
        return dataclasses.replace(self, **{self.smoothing: factor * getattr(self, self.smoothing)})


def _same(value: object, default: object) -> bool:
    return value is default or (isinstance(value, str | int | float) and value == default)


def _shown(value: object) -> str:
    if isinstance(value, jax.Array | np.ndarray) and value.ndim:
        return f"{value.dtype}{list(value.shape)}"
    return getattr(value, "__name__", None) or repr(value)
