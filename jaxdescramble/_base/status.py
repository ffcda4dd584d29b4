"""How one problem ended, as data inside `jit` and as an exception at the edge."""

import enum
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxdescramble._base.checks import is_traced


class Status(enum.IntEnum):
    """How a problem ended: an integer per problem, so that it survives `jit` and `vmap`.

    `SOLVED`, `KINK` and `PRECISION` are answers; the others say why there is none. `KINK` is an exact answer at which
    the value has no gradient in the signals, only a supergradient: singular values that are equal, in this precision,
    meet unequal eigenvalues. `PRECISION` is where an iterative solver could lower the value no further, short of the
    gradient norm it was asked for: what is left is rounding. `STEPS_SPENT`, `TIME_SPENT` and `INTERRUPTED` keep the
    best point so far.
    """

    SOLVED = 0
    KINK = 1
    ZERO_SIGNALS = 2
    NOT_FINITE = 3
    PRECISION = 4
    STEPS_SPENT = 5
    OFF_GROUP = 6
    TIME_SPENT = 7
    INTERRUPTED = 8

    @property
    def usable(self) -> bool:
        """Whether the point of a result with this status is a minimiser."""
        return self in (Status.SOLVED, Status.KINK, Status.PRECISION)


_GO_ON = "The point is orthogonal and as good as its value says. Go on from it (start=result.point)"
DIAGNOSES = {
    Status.ZERO_SIGNALS: (
        "the signals, or their squares, are all zero, so every point is a minimiser. Likely causes: no columns were "
        "given to the summary, weights that are all zero, dead neurons (a ReLU layer that never fires), the wrong tap, "
        "or entries whose squares leave the type's range (rescale them). Pass signals with some energy."
    ),
    Status.NOT_FINITE: (
        "the signals (or the operator) contain NaN or infinity, or a weight of a sample is negative or not finite. "
        "Likely causes: an overflow in half precision, a diverged network, a division by zero. Find the "
        "samples that are finite with `jnp.isfinite(signals).all(axis=-2)`, and leave the others out (weights=)."
    ),
    Status.STEPS_SPENT: (
        f"all steps were taken before the gradient vanished. {_GO_ON}, allow more max_steps, ask for less "
        "(tolerance=), or give a preconditioner."
    ),
    Status.OFF_GROUP: (
        "the point is not orthogonal, most likely because the start was not. Project it: "
        "manifolds.orthogonal.polar(start)[0]."
    ),
    Status.TIME_SPENT: f"max_seconds were over before the gradient vanished. {_GO_ON}, or allow more time.",
    Status.INTERRUPTED: f"the solve was interrupted. {_GO_ON}.",
}
"""Causes and cures where the data are signals."""

FUNCTION_DIAGNOSES = DIAGNOSES | {
    Status.NOT_FINITE: (
        "the function or its gradient is NaN or infinite, at the start or at a point on the way. Look at "
        "`jax.value_and_grad(function)(start, *args)`. Likely causes: NaN or infinity in the data or in the start, a "
        "division by zero, the square root or the norm of zero (its gradient is NaN), an overflow. `jax.debug_nans` "
        "names the operation."
    ),
}
"""Causes and cures where a function of the user's own is minimised."""


def check_status(
    status: Any, what: str, diagnoses: Mapping[Status, str] = DIAGNOSES, names: list[str] | None = None
) -> None:
    """Raise `FloatingPointError` with a diagnosis if any problem of a batch has no answer.

    Args:
        status: one `Status` per problem, an integer array of any batch shape.
        what: the name of the result, for the message.
        diagnoses: what to say of each kind of failure.
        names: what to call the problems, one each; None for their places in the batch.

    Raises:
        FloatingPointError: one paragraph for every kind of failure: the first failing problems, the likely causes and
            what to do.

    >>> check_status(np.asarray([0, 1]), "descramble")
    """
    if is_traced(status):
        raise TypeError(f"{what}: .check() reads concrete numbers; call it outside jit, on the result.")
    seen = np.asarray(status)
    found = []
    for member in Status:
        failed = seen == member
        if member.usable or not failed.any():
            continue
        where = ""
        if names is not None:
            failing = [name for name, is_failing in zip(names, failed, strict=True) if is_failing]
            where = f" in {', '.join(failing[:5])}" + (f" and {len(failing) - 5} more" if len(failing) > 5 else "")
        elif seen.ndim:
            where = f" in problems {np.argwhere(failed)[:5].tolist()} of {seen.shape}"
        found.append(f"{what}: {member.name}{where}: {diagnoses[member]}")
    if found:
        raise FloatingPointError("\n".join(found))
