"""How a problem ended: as data inside `jit`, and as an exception outside."""

import enum
from collections.abc import Mapping

import numpy as np
from jax.typing import ArrayLike

from jaxdescramble._base.checks import is_traced


class Status(enum.IntEnum):
    """How a problem ended: one integer per problem, so that it works under `jit` and `vmap`.

    `SOLVED`, `KINK`, `PRECISION` and `DECREASE_SMALL` are answers; the others say why there is no answer. `KINK` is an
    exact answer, but the value has only a supergradient in the signals there, no gradient: singular values that
    are equal, in this precision, meet unequal eigenvalues. `PRECISION` means that rounding kept an iterative solver
    from reaching the gradient norm that was asked for. `DECREASE_SMALL` means that the last steps hardly lowered the
    value, although the gradient is not zero: further steps would gain little. `STEPS_SPENT`, `TIME_SPENT` and
    `INTERRUPTED` keep the best point so far.
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
    DECREASE_SMALL = 9

    @property
    def usable(self) -> bool:
        """Whether the point of a result with this status is a minimiser, exactly or to the accuracy asked for."""
        return self in (Status.SOLVED, Status.KINK, Status.PRECISION, Status.DECREASE_SMALL)


_GO_ON = "The point is orthogonal and its value is correct. Continue from it (start=result.point)"
_SPENT = (
    f"the solver took all its steps before the gradient vanished. {_GO_ON}, raise max_steps (for example "
    "solver=jd.solvers.LBFGS(max_steps=100_000)), raise tolerance, or give a preconditioner."
)
DIAGNOSES = {
    Status.ZERO_SIGNALS: (
        "the signals, or their squares, are all zero, so every point is a minimiser. Likely causes: the summary "
        "received no samples, all weights are zero, dead neurons (a ReLU layer that never fires), the wrong tap, or "
        "entries whose squares leave the type's range (rescale them). Pass signals that are not zero."
    ),
    Status.NOT_FINITE: (
        "the signals (or the operator) contain NaN or infinity, or a weight of a sample is negative or not finite. "
        "Likely causes: NaN or infinity in the input x of the network, an overflow in half precision, a diverged "
        "network, a division by zero. Find the finite samples, and leave the others out (weights=finite). For signals "
        "(features, samples): `finite = jnp.isfinite(signals).all(axis=-2)`. For x of a network, whose first axis is "
        "the samples: `finite = jnp.isfinite(x).all(axis=tuple(range(1, x.ndim)))`."
    ),
    Status.STEPS_SPENT: (
        f"{_SPENT} An objective that has a closed form, such as smoothness, needs no steps: leave the solver out."
    ),
    Status.OFF_GROUP: (
        "the point is not orthogonal. The likely cause is a start that is not orthogonal. Project it: "
        "manifolds.orthogonal.polar(start)[0]."
    ),
    Status.TIME_SPENT: f"max_seconds passed before the gradient vanished. {_GO_ON}, or raise max_seconds.",
    Status.INTERRUPTED: f"the solve was interrupted. {_GO_ON}.",
}
"""Causes and cures if the data are signals."""

FUNCTION_DIAGNOSES = DIAGNOSES | {
    Status.NOT_FINITE: (
        "the function or its gradient is NaN or infinite, at the start or at a later point. Look at "
        "`jax.value_and_grad(function)(start, *args)`. Likely causes: NaN or infinity in the data or in the start, a "
        "division by zero, the square root or the norm of zero (its gradient is NaN), an overflow. `jax.debug_nans` "
        "names the operation."
    ),
    Status.STEPS_SPENT: _SPENT,
}
"""Causes and cures if the user minimises a function of their own."""


def check_status(
    status: ArrayLike,
    what: str,
    diagnoses: Mapping[Status, str] = DIAGNOSES,
    names: list[str] | None = None,
    steps: ArrayLike | None = None,
) -> None:
    """Raise `FloatingPointError` with a diagnosis if any problem of a batch has no answer.

    Args:
        status: one `Status` per problem, an integer array of any batch shape.
        what: name of the result, for the message.
        diagnoses: causes and cures for each kind of failure.
        names: one name per problem; None means that the message gives indices.
        steps: how many steps the solver took, one number per problem; None if unknown.

    Raises:
        TypeError: inside `jit`.
        FloatingPointError: if a problem failed; one paragraph for each kind of failure lists the first failing
            problems, the likely causes and what to do.

    >>> check_status(np.asarray([0, 1]), "descramble")
    """
    if is_traced(status):
        raise TypeError(f"{what}: .check() needs concrete numbers; call it outside jit, on the result.")
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
        if member is Status.STEPS_SPENT and steps is not None and np.shape(steps) == seen.shape:
            where += f" after {np.asarray(steps)[failed].max()} steps"
        found.append(f"{what}: {member.name}{where}: {diagnoses[member]}")
    if found:
        raise FloatingPointError("\n".join(found))
