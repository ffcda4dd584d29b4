"""Objectives that are made from plain functions."""

import dataclasses
from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact

from jaxdescramble._base.checks import a_function, in_order, true_or_false
from jaxdescramble.objectives.objective import Objective
from jaxdescramble.objectives.summaries import Samples
from jaxdescramble.objectives.summary import Summary


def from_function(
    function: Callable[..., Array],
    *,
    summary: type[Summary] = Samples,
    name: str | None = None,
    static: str | Sequence[str] = (),
    takes_weights: bool = False,
    takes_complex: bool = False,
    **parameters: object,
) -> "FromFunction":
    """Make an objective from a plain function.

    `f(P) = function(P, summary, **parameters)`

    Use it to try out an idea. To add a bound or a curvature, write a subclass of `Objective`.

    Args:
        function: a function `function(point, summary, **parameters)` that returns a number; small is readable. Define
            it once, in a module: if you define the same function again, the objective is another one and compiles
            again.
        summary: the kind of summary that the function reads: `Samples` (the default; `summary.signals` are the
            signals), `Factor` or `Gram`.
        name: name in messages and tables; None means the name of the function.
        static: names of the parameters that are fixed at compile time: text, truth values, numbers that decide shapes.
        takes_weights: whether the function multiplies its sums over samples by `summary.weigh`. If it is False, only
            weights of zeros and ones are accepted.
        takes_complex: whether the function returns a real number for a complex point and complex signals, which group
            "U" gives it. If it is False, complex signals are refused.
        parameters: further arguments of the function. Those that are not static are data: numbers, arrays and
            operators. They may be traced and differentiated, and a change does not compile again.

    Returns:
        A `FromFunction`: an objective without a bound.

    Raises:
        TypeError: if `function` is not a function, `summary` is not a kind of summary, or a static parameter cannot be
            hashed.
        ValueError: if a name in `static` is not a parameter.

    >>> import jax.numpy as jnp
    >>> def roughness(point, summary, power, axis):
    ...     return jnp.mean(jnp.abs(jnp.diff(point @ summary.signals, axis=axis)) ** power)
    >>> objective = from_function(roughness, power=2.0, axis=0, static="axis")
    >>> float(objective(jnp.eye(2), jnp.asarray([[0.0, 1.0], [2.0, 1.0]])))
    2.0
    """
    a_function(function, "function", "a point and a summary")
    if not isinstance(summary, type) or not issubclass(summary, Summary):
        raise TypeError(f"summary: expected a kind of summary, Samples, Factor or Gram, got {summary!r}.")
    if not isinstance(name, str | None):
        raise TypeError(f"name: expected text or None, got {name!r}.")
    fixed = [static] if isinstance(static, str) else in_order(static, "static", "names of parameters")
    for one in fixed:
        if not isinstance(one, str):
            raise TypeError(f"static: expected names of parameters, got {type(one).__name__}.")
        if one not in parameters:
            raise ValueError(f"static: {one!r} is no parameter; there are {', '.join(parameters) or 'none'}.")
        try:
            hash(parameters[one])
        except TypeError as error:
            raise TypeError(f"{one}: {parameters[one]!r} cannot be static ({error}).") from error
    names = tuple(sorted(parameters.keys() - set(fixed)))
    return FromFunction(
        tuple(parameters[one] for one in names),
        function=function,
        names=names,
        settings=tuple((one, parameters[one]) for one in sorted(set(fixed))),
        summary=summary,
        name=name or getattr(function, "__name__", type(function).__name__),
        takes_weights=true_or_false(takes_weights, "takes_weights"),
        takes_complex=true_or_false(takes_complex, "takes_complex"),
    )


class FromFunction(Objective[Summary]):
    """An objective that is made from a plain function. Make it with `from_function`, which documents it.

    Attributes:
        values, names: values and names of the parameters that are data.
        function: the function.
        settings: names and values of the parameters that are fixed at compile time.
        summary, name, takes_weights, takes_complex: attributes of every objective; see `Objective`.
    """

    values: tuple[object, ...] = ()
    function: Callable[..., Array] = dataclasses.field(kw_only=True, metadata={"static": True})
    names: tuple[str, ...] = dataclasses.field(default=(), kw_only=True, metadata={"static": True})
    settings: tuple[tuple[str, object], ...] = dataclasses.field(default=(), kw_only=True, metadata={"static": True})
    summary: type[Summary] = dataclasses.field(default=Samples, kw_only=True, metadata={"static": True})
    name: str = dataclasses.field(default="", kw_only=True, metadata={"static": True})
    takes_weights: bool = dataclasses.field(default=False, kw_only=True, metadata={"static": True})
    takes_complex: bool = dataclasses.field(default=False, kw_only=True, metadata={"static": True})

    def value(self, point: Inexact[Array, "n n"], summary: Summary) -> Float[Array, ""]:
        options = dict(self.settings) | dict(zip(self.names, self.values, strict=True))
        found = self.function(point, summary, **options)
        if self.takes_complex and jnp.iscomplexobj(found):
            raise TypeError(
                f"{self.name}: the function returned a complex number ({found.dtype}) for complex signals; it must be "
                "real. Use absolute values, or .real if the imaginary part is rounding."
            )
        return found
