"""Objectives made of plain functions."""

import dataclasses
from collections.abc import Callable, Sequence

from jaxtyping import Array, Float

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
    **parameters: object,
) -> "FromFunction":
    """Make an objective of a plain function.

    `f(P) = function(P, summary, **parameters)`

    Use it to try an idea out. An objective that knows more about itself, such as a bound, is a subclass of `Objective`.

    Args:
        function: a function of a point and a summary that returns a number, to be minimised. Define it in a module: its
            identity is part of the objective's, so a function that is defined again compiles again.
        summary: the kind of summary that it reads: `Samples`, `Factor` or `Gram`.
        name: for messages and tables; the function's own name if None.
        static: names of the parameters that are fixed at compile time: text, truth values, numbers that decide shapes.
        takes_weights: whether the function weighs its sums over samples by `summary.weigh`.
        parameters: the function's further arguments. Those that are not static are data: numbers, arrays and operators,
            which may be traced and differentiated, and change without another compilation.

    Returns:
        An objective without a bound.

    Raises:
        TypeError: no function, no kind of summary, a static parameter that cannot be hashed.
        ValueError: a name in `static` that is no parameter.

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
    )


class FromFunction(Objective[Summary]):
    """An objective made of a plain function. Make one by `from_function`, which says what it is.

    Attributes:
        values, names: data that the function takes.
        function: the function.
        settings: names and values that the function takes, fixed at compile time.
        summary, name, takes_weights: as for every objective.
    """

    values: tuple[object, ...] = ()
    function: Callable[..., Array] = dataclasses.field(kw_only=True, metadata={"static": True})
    names: tuple[str, ...] = dataclasses.field(default=(), kw_only=True, metadata={"static": True})
    settings: tuple[tuple[str, object], ...] = dataclasses.field(default=(), kw_only=True, metadata={"static": True})
    summary: type[Summary] = dataclasses.field(default=Samples, kw_only=True, metadata={"static": True})
    name: str = dataclasses.field(default="", kw_only=True, metadata={"static": True})
    takes_weights: bool = dataclasses.field(default=False, kw_only=True, metadata={"static": True})

    def value(self, point: Float[Array, "n n"], summary: Summary) -> Float[Array, ""]:
        options = dict(self.settings) | dict(zip(self.names, self.values, strict=True))
        return self.function(point, summary, **options)
