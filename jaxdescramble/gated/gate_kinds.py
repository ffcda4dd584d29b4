"""Kinds of gates: what a preactivation lets through.

Each is a pytree whose numbers are leaves: a gate can be annealed inside one compiled program, vmapped over its
steepness, or, as a hashable value, be a static argument. `gate(q)` is the gate, `gate.through(q, h)` the gate times h.
"""

import dataclasses
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxdescramble._base.checks import number_between, positive_number, real_array


@runtime_checkable
class Gate(Protocol):
    """What a gate kind can do; a frozen dataclass that is a pytree, with these two."""

    def __call__(self, q: Any) -> Any: ...

    def through(self, q: Any, h: Any) -> Any: ...


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Hard:
    """`1[q > 0]`, 0 at 0: with it a network is piecewise linear, and nothing is learned through its gates.

    A self-gated network is then a ReLU network, in its values and in its gradients.

    >>> Hard()(jnp.asarray([-1.0, 0.0, 2.0])).tolist()
    [0.0, 0.0, 1.0]

    Source: Lakshminarayanan, Singh 2020 (arXiv 2006.10529).
    """

    def __call__(self, q: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        q = _preactivation(q)
        return (q > 0).astype(q.dtype)

    def through(self, q: Float[Array, "*shape"], h: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        # A choice and not a product: it shuts out infinities, and is what `switched` knows as a gate.
        return jnp.where(q > 0, h, jnp.zeros((), h.dtype))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Soft:
    """`(1 + epsilon) / (1 + exp(-beta q))`: gates that can be learned.

    Attributes:
        beta: steepness, positive; the larger, the nearer to hard gates, in the unit of 1 / preactivation.
        epsilon: how far above 1 an open gate lets through, more than -1.

    >>> [round(float(g), 2) for g in Soft(beta=4.0, epsilon=0.1)(jnp.asarray([-9.0, 0.0, 9.0]))]
    [0.0, 0.55, 1.1]

    Source: Lakshminarayanan, Singh 2020 (arXiv 2006.10529); 4 and 0.1 are those of their code.
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
        wanted = "a number above -1, as an open gate lets 1 + epsilon through,"
        return number_between(self.epsilon, "epsilon", -1, float("inf"), wanted)

    def through(self, q: Float[Array, "*shape"], h: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return self(q) * h


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class StraightThrough:
    """A hard gate with a soft gate's derivative: forward `1[q > 0]`, backward that of `1 / (1 + exp(-beta q))`.

    Attributes:
        beta: steepness of the derivative, positive.

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


def _check_steepness(beta: Any) -> None:
    # Inside a pytree that is taken apart anything may stand here for a moment; a number is what a person gave.
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
