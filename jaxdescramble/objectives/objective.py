"""What an objective is: a frozen dataclass with a method `value`, and what else it can say about itself."""

import dataclasses
import re
from collections.abc import Callable
from typing import ClassVar, Generic, Literal, NamedTuple, TypeVar, cast, dataclass_transform

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
    same_size,
    sample_weights,
)
from jaxdescramble.objectives._symmetries import Symmetries
from jaxdescramble.objectives.summaries import Samples
from jaxdescramble.objectives.summary import Summary, a_summary
from jaxdescramble.operators import Operator


class Curvature(NamedTuple):
    """A diagonal model of an objective's Hessian in body coordinates, `P(t) = P exp(t frame W frame^T)`, W skew.

    The second derivative along `W = E_ij - E_ji` is modelled by `diagonal[i, j]`. The frame may depend on the point:
    `frame = P^T` turns rows of P, `exp(t W) P`, which is the frame in which sums over neurons are simple.
    """

    frame: Float[Array, "n n"]
    diagonal: Float[Array, "n n"]


Kind = TypeVar("Kind", bound=Summary, contravariant=True)
Self = TypeVar("Self", bound="Objective")


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
class Objective(Generic[Kind]):
    """A figure of merit of `P S`, dimensionless and to be minimised: smaller is more readable.

    To write a new one, write a subclass with `value` and, as fields, the numbers that it needs:

    >>> import jaxdescramble as jd
    >>> class Roughness(jd.Objective):
    ...     power: ArrayLike = 2.0
    ...     def value(self, point, summary):
    ...         return jnp.mean(jnp.abs(jnp.diff(point @ summary.signals, axis=0)) ** self.power)
    >>> S = jnp.asarray([[0.0, 1.0], [2.0, 1.0]])
    >>> float(Roughness()(jnp.eye(2), S)), float(Roughness(power=1.0)(jnp.eye(2), S))
    (2.0, 1.0)

    A subclass becomes a frozen dataclass and a pytree by itself; write no decorator. Fields are data: numbers, arrays
    and operators, which may be traced and differentiated, and which change without another compilation. Mark a field
    that decides what is compiled (a name, an order, a shape) as static:
    `order: int = dataclasses.field(default=2, metadata={"static": True})`. For a plain function, use
    `objectives.from_function`.

    The methods `operator` to `symmetries` are optional. They return None where there is nothing to say.
    `Objective[Samples]` tells type checkers what kind of summary the methods take.

    Attributes:
        summary: the kind of summary that the objective reads (`Samples`, `Factor` or `Gram`).
        applies_to: what S is, "signals" or "weights", a weight matrix of a layer.
        concave: whether it is minus a convex function of the matrix P: then the polar fixed point
            `P <- polar(-gradient)` never goes up.
        smoothing: the name of the field that rounds the corners ("epsilon"), if one does: continuation lowers it.
        takes_weights: whether `value`, and the optional methods, weigh every sum over samples by `summary.weigh`.
            Needed only of objectives that read `Samples`: the other summaries contain the weights. Without it, weights
            other than zeros and ones are refused.
        name: the class's name in lower case with underscores, unless the class gives another.

    Give an attribute in the class body (`concave = True`), or as a static field where it depends on the instance.
    """

    summary: type[Summary] = Samples
    applies_to: Literal["signals", "weights"] = "signals"
    concave: bool = False
    smoothing: str = ""
    takes_weights: bool = False
    name: str = ""
    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field]]  # of subclasses

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
        jax.tree_util.register_dataclass(cls)

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

    # --- what an objective says about itself -------------------------------------------------------------------------

    def value(self, point: Float[Array, "n n"], summary: Kind) -> Float[Array, ""]:
        """Return the value at a point. Every objective defines this."""
        raise NotImplementedError(f"{type(self).__name__}: define value(self, point, summary).")

    def operator(self, n: int) -> Operator | None:
        """Return the D on n points of an objective `||D P S||_F^2 / (lambda_max(D^T D) ||S||_F^2)`.

        An objective that defines this has a closed form.
        """
        return None

    def curvature(self, summary: Kind) -> Callable[[Array], Curvature] | None:
        """Return a model of the Hessian, for preconditioners: a function of the point that gives a `Curvature`.

        Compute what does not depend on the point once, before you return the function.
        """
        return None

    def bound(self, summary: Kind) -> Float[Array, ""] | None:
        """Return a number that no orthogonal point goes below."""
        return None

    def relaxation(self, summary: Kind, steps: int) -> Float[Array, ""] | None:
        """Return such a number again, from steps + 1 eigenvalue problems: higher, and computed only on request."""
        return None

    def assignment(self, summary: Kind) -> tuple[Float[Array, "n n"], Float[Array, "n n"]] | None:
        """Return symmetric matrices a and b of a quadratic assignment problem over S(n).

        `f(P) = sum_ij a_ij b_{p(i) p(j)}` for every permutation, `(P S)_i = S_{p(i)}`.
        """
        return None

    def symmetries(self, n: int) -> Symmetries | None:
        """Return signed permutations of the n neurons that leave the objective alone.

        Where one of them has determinant -1, solvers look at one determinant class of O(n) and know both.
        """
        return None

    def sparsifying_operator(self, n: int) -> Operator | None:
        """Return the D on n points of an objective that is a (smoothed) L1 norm of `D P S`.

        Starting points are made from it.
        """
        return None

    # --- what every objective does ------------------------------------------------------------------------------------

    def __call__(
        self, point: ArrayLike, summary: Summary | ArrayLike, weights: ArrayLike | None = None
    ) -> Float[Array, ""]:
        """Return the value at a point; `summary` may be the signals themselves, with weights of their samples.

        Raises:
            ValueError: the point and the signals do not fit; weights as for `summarise`.
            TypeError: weights beside a summary, which has its own.
        """
        if not isinstance(summary, Summary):
            summary = self.summarise(summary, weights)
        elif weights is not None:
            raise TypeError("weights: a summary holds its samples' weights already; give them to `summarise`.")
        elif getattr(summary, "weights", None) is not None:
            self._check_weighs()
        point = real_array(point, "point", (2,), "(rows, features)")
        same_size(point, -1, summary.size, "point", "the signals' features")
        return self.value(point, cast(Kind, summary))

    def empty(self, n: int, dtype: DTypeLike) -> Summary:
        """Return the summary of no samples of n features.

        Raises:
            TypeError, ValueError: n is no positive integer, a type other than float32 and float64.
        """
        return self.summary.empty(positive_integer(n, "n"), floating_type(dtype, half=True))

    def update(self, summary: Summary, signals: ArrayLike, weights: ArrayLike | None = None) -> Summary:
        """Return the summary with more columns of signals added.

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
        """Return the summary of two data sets together.

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
        """Return `update(empty(n, dtype), signals)` in one step.

        Args:
            signals: shape (features, samples).
            weights: how much each sample counts, shape (samples,), at least 0; None for 1 each. A whole number counts
                its sample so many times. A sample of weight 0 does not count at all and may hold anything, NaN
                included. Under `jit`, where numbers are not known, weights that are negative, infinite or NaN give the
                status NOT_FINITE, and all zero ZERO_SIGNALS.

        Raises:
            ValueError: another shape; weights that are negative, infinite, NaN or all zero.
            TypeError: complex numbers; an objective that applies to weight matrices, whose columns are no samples, or
                one that reads `Samples` and does not say `takes_weights` (weights of zeros and ones are allowed there
                outside of `jit`: they select the samples).

        >>> from jaxdescramble.objectives import total_variation
        >>> S, point = jnp.asarray([[1.0, 2.0, jnp.nan], [3.0, 1.0, 5.0]]), jnp.eye(2)
        >>> twice = total_variation(boundary="neumann")(point, S[:, jnp.asarray([0, 1, 1])])
        >>> bool(abs(total_variation(boundary="neumann")(point, S, weights=[1, 2, 0]) - twice) < 1e-6)
        True
        """
        columns = real_array(signals, "signals", (2,), "(features, samples)")
        return self._updated(self.empty(columns.shape[0], columns.dtype), columns, weights, empty=False)

    def _updated(self, summary: Summary, columns: Array, weights: ArrayLike | None, empty: bool) -> Summary:
        if weights is None:
            return summary.update(columns)
        columns, given = self.weighed(columns, sample_weights(weights, [columns.shape[1:]], columns.dtype, empty))
        return summary.update(columns) if given is None else summary.update(columns, given)

    def weighed(self, columns: Array, weights: Array | None) -> tuple[Array, Array | None]:
        """Return signals and weights as this objective can take them.

        An objective that takes no weights gets the samples of weight 1, without weights.

        Args:
            columns: shape (..., features, samples).
            weights: as `checks.sample_weights` gives them, shape (samples,) or (..., samples); or None.

        Raises:
            TypeError: as for `summarise`.

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
        return self.takes_weights or not issubclass(self.summary, Samples)

    def _check_weighs(self) -> None:
        if self.applies_to != "signals":
            raise TypeError(
                f"weights: {self.name} applies to a weight matrix, whose columns are no samples; leave weights out."
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
        """Whether the class defines `operator`, so that there is a closed form."""
        return type(self).operator is not Objective.operator

    def tightest_bound(self, summary: Kind, steps: int = 40) -> Float[Array, ""] | None:
        """Return the larger of the bound and the relaxation, or None where the objective knows neither.

        Args:
            summary: of the signals.
            steps: how long the relaxation looks for its best multipliers.

        Raises:
            TypeError, ValueError: no summary; steps below 0; the signals are too large for the relaxation.
        """
        a_summary(summary)
        steps = positive_integer(steps, "steps", least=0)
        return tighter(self.bound(summary), self.relaxation(summary, steps))

    def mirrored(self, n: int) -> bool:
        """Return whether the two determinant classes of O(n) hold the same values, by a symmetry that is a reflection.

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
        """Return the objective with corners rounded `factor` times as widely, or itself where there are none to round.

        Raises:
            TypeError, ValueError: no positive number.
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


def tighter(bound: Array | None, other: Array | None) -> Array | None:
    """Return the larger of two bounds, either of which may be missing.

    >>> float(tighter(jnp.asarray(1.0), None)), tighter(None, None)
    (1.0, None)
    """
    if bound is None or other is None:
        return other if bound is None else bound
    return jnp.maximum(bound, other)
