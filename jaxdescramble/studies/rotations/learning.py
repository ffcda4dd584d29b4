"""Learn a frame: from the weights alone, from activations, or from the loss of the network with rounded numbers."""

import functools
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxdescramble.descrambling import descramble
from jaxdescramble.manifolds import Power, SpecialOrthogonal, orthogonal
from jaxdescramble.objectives import spread
from jaxdescramble.solvers import LBFGS, minimise, riemannian
from jaxdescramble.studies.rotations.frames import Frame, moved
from jaxdescramble.studies.rotations.quantising import Quantising
from jaxdescramble.studies.rotations.transformer import Params, TransformerPlan, cross_entropy, network

ROTATED = ("q", "k", "v", "o", "gate", "up", "down")
MANIFOLD = Frame(SpecialOrthogonal(), Power(Power(SpecialOrthogonal())))  # pyright: ignore[reportArgumentType]


def kurtosis(x: Float[Array, "..."]) -> Float[Array, ""]:
    """Return `mean(x^4) / mean(x^2)^2`: 3 for normal numbers, large with outliers.

    >>> float(kurtosis(jnp.asarray([1.0, -1.0, 1.0])))
    1.0
    """
    return jnp.mean(x**4) / jnp.mean(x**2) ** 2


def data_free(start: Frame, params: Params, steps: int) -> Frame:
    """Minimise the kurtosis of the rotated weights, with no data: OptRot's fourth power, each weight in its own unit.

    Args:
        start: the first frame. Signs of rows change no fourth power, so both determinant classes have the same values.
        params: folded parameters.
        steps: largest number of steps of L-BFGS.
    """
    return minimise(weight_kurtosis, start, params, solver=LBFGS(max_steps=steps), manifold=MANIFOLD).point


def weight_kurtosis(frame: Frame, params: Params) -> Array:
    blocks = moved(params, frame)["blocks"]
    return jnp.mean(jnp.stack([kurtosis(block[name]) for block in blocks for name in ROTATED]))


class Activations(NamedTuple):
    """What enters the products of a network: signals (..., features, samples).

    Attributes:
        stream: the normed residual stream before every part of every block.
        heads: what attention mixed, for each block and head.
    """

    stream: Float[Array, "width samples"]
    heads: Float[Array, "layers heads size samples"]


@functools.partial(jax.jit, static_argnames=("plan", "samples"))
def activations(params: Params, tokens: Int[Array, "rows length"], plan: TransformerPlan, samples: int) -> Activations:
    """Return activations of a folded network at places spread evenly, at most `samples` of each kind."""
    seen: dict[str, list[Array]] = {"q": [], "gate": [], "o": [], "down": []}
    network(params, tokens, heads=plan.heads, watch=lambda name, _, x: seen[name].append(x.reshape(-1, x.shape[-1])))
    stream = jnp.concatenate(seen["q"] + seen["gate"])
    heads = jnp.stack(seen["o"])
    heads = heads[:, :: max(1, -(-heads.shape[1] // samples))]
    heads = heads.reshape(plan.layers, -1, plan.heads, plan.width // plan.heads)
    return Activations(stream[:: max(1, -(-len(stream) // samples))].T, jnp.transpose(heads, (0, 2, 3, 1)))


def data_learned(start: Frame, seen: Activations, steps: int) -> Frame:
    """Minimise the fourth powers of the rotated activations, each token in its own unit: `objectives.spread("fourth")`.

    Args:
        start: the first frame.
        seen: activations for calibration.
        steps: largest number of steps of L-BFGS for the stream, and for all heads.
    """
    solver, objective = LBFGS(max_steps=steps), spread("fourth")
    found = [
        descramble(signals, objective, solver, start=point).point for signals, point in zip(seen, start, strict=True)
    ]
    return Frame(*found)


def spinquant(rate: float, steps: int) -> optax.GradientTransformation:
    """Return SpinQuant's rule as an optax transformation for orthogonal matrices (..., n, n): Cayley SGD.

    A step solves `Y = P + a (P + Y) W^T / 2` by five iterations, with W the skew part of the gradient and a the smaller
    one of the rate and `1 / ||W||_1`. The rate falls to 0 along a cosine; there is no momentum. The published script
    makes one step in a hundred orthogonal again, at random; here it is the last one.

    Source: Li, Fuxin, Todorovic, ICLR 2020 (arXiv 2002.01113), algorithm 1; Liu et al., ICLR 2025 (arXiv 2405.16406).
    """
    schedule = optax.cosine_decay_schedule(rate, steps)

    def one(point: Array, slope: Array, rate: ArrayLike) -> Array:
        unit = point / jnp.linalg.norm(point, axis=-1, keepdims=True)
        X, V = unit.T, -slope.T
        MX = V @ unit
        half = MX - 0.5 * X @ (unit @ MX)
        W = half - half.T
        step = jnp.minimum(1 / (jnp.abs(W).sum(axis=0).max() + 1e-8), rate)
        Y = X + step * V
        for _ in range(5):
            Y = X + step * W @ (0.5 * (X + Y))
        return Y.T - point

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        def each(point: Array, slope: Array) -> Array:
            many = jax.vmap(one, (0, 0, None))(
                point.reshape(-1, *point.shape[-2:]), slope.reshape(-1, *point.shape[-2:]), schedule(state)
            )
            return many.reshape(point.shape)

        return jax.tree.map(each, params, updates), state + 1

    return optax.GradientTransformation(lambda params: jnp.zeros((), jnp.int32), update)


def adam(rate: float, steps: int) -> optax.GradientTransformation:
    """Return our rule: `jd.riemannian` of Adam, whose rate falls to 0 along a cosine."""
    return riemannian(optax.adam(optax.cosine_decay_schedule(rate, steps)))


RULES: dict[str, Callable[[float, int], optax.GradientTransformation]] = {"spinquant": spinquant, "adam": adam}


class Learned(NamedTuple):
    """A frame that was learned from the loss.

    Attributes:
        frame: the frame after the last step.
        losses: loss of the batch before each step.
        seconds: time of all steps, without compilation.
    """

    frame: Frame
    losses: np.ndarray
    seconds: float


@functools.partial(jax.jit, static_argnames=("rule", "rate", "bits", "heads"))
def _learn(
    start: Frame, params: Params, batches: Array, *, rule: str, rate: float, bits: Quantising, heads: int
) -> tuple[Frame, Array]:
    transform = RULES[rule](rate, len(batches))

    def step(carry: tuple[Frame, Any], tokens: Array) -> tuple[tuple[Frame, Any], Array]:
        frame, state = carry

        def loss(frame: Frame) -> Array:
            return cross_entropy(network(moved(params, frame), tokens, heads=heads, rounding=bits), tokens)

        value, slope = jax.value_and_grad(loss)(frame)
        update, state = transform.update(slope, state, frame)
        return (jax.tree.map(jnp.add, frame, update), state), value

    (frame, _), losses = jax.lax.scan(step, (start, transform.init(start)), batches)
    return frame, losses


def loss_learned(
    start: Frame,
    params: Params,
    batches: Int[Array, "steps rows length"],
    bits: Quantising,
    plan: TransformerPlan,
    rule: str,
    rate: float,
) -> Learned:
    """Minimise the cross-entropy of the network with rounded numbers, a step for each batch.

    Args:
        start: the first frame.
        params: folded parameters.
        batches: tokens of each step.
        bits: rounding of weights and activations.
        plan: plan of the network.
        rule: "spinquant" or "adam".
        rate: largest rate.
    """
    program = _learn.lower(start, params, batches, rule=rule, rate=rate, bits=bits, heads=plan.heads).compile()
    began = time.perf_counter()
    frame, losses = jax.block_until_ready(program(start, params, batches))
    seconds = time.perf_counter() - began
    # The iterations of SpinQuant's rule may leave the group a little.
    return Learned(Frame(*map(orthogonal.polish, frame)), np.asarray(losses), seconds)


def timed(
    start: Frame, params: Params, batches: Array, bits: Quantising, plan: TransformerPlan, rates: Mapping[str, float],
    repeats: int,
) -> dict[str, list[float]]:  # fmt: skip
    """Time rules in turn, so that other programs disturb all alike, without compilation.

    Args:
        start, params, batches, bits, plan: see `loss_learned`.
        rates: rate of each rule.
        repeats: timings of each; another one before them warms up.

    Returns:
        Seconds of all steps, for each rule and repeat.
    """
    given = (start, params, batches)
    programs = {
        rule: _learn.lower(*given, rule=rule, rate=rate, bits=bits, heads=plan.heads).compile()
        for rule, rate in rates.items()
    }
    found: dict[str, list[float]] = {rule: [] for rule in rates}
    for _ in range(repeats + 1):
        for rule, program in programs.items():
            began = time.perf_counter()
            jax.block_until_ready(program(*given))
            found[rule].append(time.perf_counter() - began)
    return {rule: some[1:] for rule, some in found.items()}


def batches_of(
    key: PRNGKeyArray, text: np.ndarray, steps: int, rows: int, length: int
) -> Int[Array, "steps rows length"]:
    """Draw windows of a text for each step."""
    starts = np.asarray(jax.random.randint(key, (steps, rows), 0, len(text) - length))
    return jnp.asarray(text[starts[..., None] + np.arange(length)].astype(np.int32))
