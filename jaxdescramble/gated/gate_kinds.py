"""Kinds of gates: functions that turn a preactivation into a factor.

Each gate is a pytree whose numbers are leaves. You can change its steepness inside one compiled program, or `vmap` over
it. A gate with Python numbers is also hashable, so it can be a static argument. `gate(q)` is the gate;
`gate.through(q, h)` is the gate times h.
"""

import dataclasses
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxdescramble._base.checks import number_between, positive_number, real_array
from jaxdescramble._base.pytrees import register_dataclass


@runtime_checkable
class Gate(Protocol):
    """The methods of a kind of gate. Write one as a frozen dataclass that is a pytree."""

    def __call__(self, q: Array) -> Array: ...

    def through(self, q: Array, h: Array) -> Array: ...


@register_dataclass
@dataclasses.dataclass(frozen=True)
class Hard:
    """The gate `1[q > 0]`, which is 0 at q = 0. It makes a network piecewise linear and has no gradient.

    A "dnn" with this gate is a ReLU network, in its values and in its gradients.

    >>> Hard()(jnp.asarray([-1.0, 0.0, 2.0])).tolist()
    [0.0, 0.0, 1.0]

    Source: Lakshminarayanan, Singh 2020 (arXiv 2006.10529).
    """

    def __call__(self, q: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        q = _preactivation(q)
        return (q > 0).astype(q.dtype)

    def through(self, q: Float[Array, "*shape"], h: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        # `where` and not a product: it blocks infinities, and `switched` recognises it as a gate.
        return jnp.where(q > 0, h, jnp.zeros((), h.dtype))


@register_dataclass
@dataclasses.dataclass(frozen=True)
class Soft:
    """The gate `(1 + epsilon) / (1 + exp(-beta q))`, which can be learned.

    Attributes:
        beta: steepness, positive, in units of 1 / preactivation. A large value is close to a hard gate.
        epsilon: an open gate multiplies by 1 + epsilon; must be above -1.

    >>> [round(float(g), 2) for g in Soft(beta=4.0, epsilon=0.1)(jnp.asarray([-9.0, 0.0, 9.0]))]
    [0.0, 0.55, 1.1]

    Source: Lakshminarayanan, Singh 2020 (arXiv 2006.10529); the values 4 and 0.1 are those of their code.
    """

    beta: ArrayLike = 4.0
    epsilon: ArrayLike = 0.1

    def __post_init__(self):
        _check_steepness(self.beta)
        if isinstance(self.epsilon, int | float):
            self._lets_through()

    def __call__(self, q: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        q, beta = _preactivation(q), positive_number(self.beta, "beta")
        return (1 + jnp.asarray(self._lets_through(), q.dtype)) * _sigmoid(q, jnp.asarray(beta, q.dtype))

    def _lets_through(self) -> ArrayLike:
        wanted = "a number above -1, because an open gate multiplies by 1 + epsilon,"
        return number_between(self.epsilon, "epsilon", -1, float("inf"), wanted)

    def through(self, q: Float[Array, "*shape"], h: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return self(q) * h


@register_dataclass
@dataclasses.dataclass(frozen=True)
class StraightThrough:
    """A hard gate with the derivative of a soft gate: forward `1[q > 0]`, backward that of `1 / (1 + exp(-beta q))`.

    Attributes:
        beta: steepness of the derivative, positive, in units of 1 / preactivation.

    >>> gate = StraightThrough(beta=4.0)
    >>> float(gate(jnp.asarray(0.1))), float(jax.grad(gate)(jnp.asarray(0.0)))
    (1.0, 1.0)

    Source: Bengio, Léonard, Courville 2013 (arXiv 1308.3432).
    """

    beta: ArrayLike = 4.0

    def __post_init__(self):
        _check_steepness(self.beta)

    def __call__(self, q: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        q = _preactivation(q)
        return _straight(q, jnp.asarray(positive_number(self.beta, "beta"), q.dtype))

    def through(self, q: Float[Array, "*shape"], h: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return self(q) * h


def _preactivation(q: ArrayLike) -> Array:
    return real_array(q, "q", range(9), "preactivations")


def _check_steepness(beta: object) -> None:
    # JAX may put any object here while it rebuilds a pytree. Only Python numbers come from a user.
    if isinstance(beta, int | float):
        positive_number(beta, "beta")


def _sigmoid(q: Array, beta: Array) -> Array:
    return jax.nn.sigmoid(beta * q)


@jax.custom_jvp
def _straight(q: Array, beta: Array) -> Array:
    return (q > 0).astype(q.dtype)


@_straight.defjvp
def _straight_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    return _straight(*primals), jax.jvp(_sigmoid, primals, tangents)[1]
