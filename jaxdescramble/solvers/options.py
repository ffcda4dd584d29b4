"""Check a solver's options by name before anything is compiled."""

from collections.abc import Callable, Iterable
from math import inf

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array

from jaxdescramble._base.checks import (
    an_operator,
    in_order,
    is_traced,
    number_between,
    one_with,
    positive_integer,
    positive_number,
    random_key,
)
from jaxdescramble.solvers.solve import is_iterative


def check_solver(solver: object, name: str = "solver") -> None:
    """Check a solver and the solvers that it contains. Options of user-defined solvers are not checked.

    `CHECKS` says what the options mean that several solvers share. Another option whose default is a number must be a
    number.

    Raises:
        TypeError: if `solver` is not a solver, or an option has the wrong type.
        ValueError: if the value of an option is impossible.

    >>> from jaxdescramble.solvers import LBFGS
    >>> check_solver(LBFGS(max_steps=100))
    """
    if not is_iterative(solver):
        raise TypeError(f"{name}: got {solver!r}; expected a solver value such as solvers.LBFGS().")
    if type(solver).__module__.startswith("jaxdescramble."):
        for option, value in vars(solver).items():
            if option in CHECKS:
                CHECKS[option](value, option)
            elif _is_number(getattr(type(solver), option, None)):
                number_between(value, option, -inf, inf, "a finite number")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _steps(value: object, name: str) -> None:
    if is_traced(value) or (isinstance(value, Array) and value.ndim == 0 and jnp.issubdtype(value.dtype, jnp.integer)):
        return
    positive_integer(value, name, least=0)


def _tolerance(value: object, name: str) -> None:
    if value is not None:
        number_between(value, name, 0, inf, "a number of at least 0", ends=True)


def _preconditioner(value: object, name: str) -> None:
    if value is not None:
        one_with(value, name, ("bind",), "a preconditioner such as solvers.Kronecker(), or None")
        for option, number in vars(value).items():
            if option == "every" and number is not None:
                _steps(number, option)


def _factors(value: Iterable[ArrayLike], name: str) -> None:
    for factor in in_order(value, name, "numbers, one for each stage"):
        positive_number(factor, name)


def _several(value: Iterable[object], name: str) -> None:
    for solver in in_order(value, name, "a tuple of solvers"):
        check_solver(solver, name)


def _stages(value: Iterable[object], name: str) -> None:
    for step in in_order(value, name, "a tuple of integers"):
        positive_integer(step, name)


def _transform(value: object, name: str) -> None:
    one_with(value, name, ("init", "update"), "an optax transformation such as optax.adam(1e-2)")


CHECKS: dict[str, Callable[..., object]] = {
    "tolerance": _tolerance,
    "decrease": lambda value, name: number_between(value, name, 0, 1, "a number between 0 and 1", ends=True),
    "max_steps": _steps,
    "max_inner": _steps,
    "memory": positive_integer,
    "size": positive_integer,
    "accept": lambda value, name: number_between(value, name, 0, 1, "a number between 0 and 1", ends=True),
    "preconditioner": _preconditioner,
    "transform": _transform,
    "solver": check_solver,
    "search": check_solver,
    "rough": check_solver,
    "solvers": _several,
    "others": _several,
    "steps": _stages,
    "factors": _factors,
    "key": random_key,
    "restarts": lambda value, name: positive_integer(value, name, least=0),
    "searches": positive_integer,
    "operator": an_operator,
}
