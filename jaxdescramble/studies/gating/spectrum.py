"""Is a deep linearly gated network a universal spectral approximator? Each kind learns sines of rising frequency.

There is one input, x in [-1, 1], and every layer has biases. A ReLU network folds its input, so the number of its
pieces can be exponential in the depth. A gate of a linearly gated network turns where a linear function of x is zero:
each gating unit has one such place on the line. So there are at most as many kinks as gating units.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from jaxdescramble import gated

KINDS = ("dnn", "dgn", "dlgn")
POINTS = 512


class Spectrum(NamedTuple):
    """Errors after training.

    Attributes:
        frequencies: number of periods of the target on [-1, 1].
        widths: width of every gated layer.
        errors: by kind, mean squared error divided by that of the answer 0, on unseen points.
        hardened: the same with hard gates, for kinds with features.
        kinks: number of gates of the linearly gated networks that turn inside (-1, 1).
    """

    frequencies: tuple[int, ...]
    widths: tuple[int, ...]
    errors: dict[str, Float[np.ndarray, "widths frequencies seeds"]]
    hardened: dict[str, Float[np.ndarray, "widths frequencies seeds"]]
    kinks: Int[np.ndarray, "widths frequencies seeds"]


def spectrum(
    key: PRNGKeyArray,
    frequencies: Sequence[int] = (1, 2, 4, 8, 16, 32),
    widths: Sequence[int] = (16, 64, 128),
    seeds: int = 3,
    layers: int = 4,
    steps: int = 2000,
    learning_rate: float = 3e-3,
    kinds: Sequence[str] = KINDS,
    callback: Callable[[int, int], None] | None = None,
) -> Spectrum:
    """Train every kind at every width on every target, side by side.

    The target is `y = sin(pi k x + phase)` with random phases. Training uses full batches of 512 points on an even grid
    and Adam, whose learning rate falls to 0 along a cosine. Errors are measured at the midpoints of the grid.

    Args:
        key: random key; it decides weights and phases.
        frequencies: values of k.
        widths: widths of the gated layers.
        seeds: number of seeds.
        layers: number of gated layers.
        steps: number of training steps.
        learning_rate: learning rate at the start.
        kinds: kinds of gated networks. Kinds with features have soft gates.
        callback: called as `callback(done, total)`.

    Returns:
        A `Spectrum`.

    >>> found = spectrum(jax.random.key(0), (1,), (8,), seeds=1, steps=2, kinds=("dlgn",))
    >>> found.errors["dlgn"].shape
    (1, 1, 1)
    """
    frequencies, widths = tuple(frequencies), tuple(widths)
    errors: dict[str, list[np.ndarray]] = {kind: [] for kind in kinds}
    hardened: dict[str, list[np.ndarray]] = {kind: [] for kind in kinds if kind != "dnn"}
    turns: list[np.ndarray] = []
    total, done = len(widths) * len(kinds), 0
    for width in widths:
        for kind in kinds:
            spec = gated.Spec(
                gated.FullyConnected(1, (width,) * layers, 1, biases=True),
                kind,
                gated.Hard() if kind == "dnn" else gated.Soft(),
            )
            keys = jax.random.split(key, (len(frequencies), seeds))
            error, with_hard, turning = _fit(keys, jnp.asarray(frequencies, jnp.float32), spec, steps, learning_rate)
            errors[kind].append(np.asarray(error))
            if kind != "dnn":
                hardened[kind].append(np.asarray(with_hard))
            if kind == "dlgn":
                turns.append(np.asarray(turning))
            done += 1
            if callback is not None:
                callback(done, total)
    soft, hard = ({kind: np.stack(one) for kind, one in by_kind.items()} for by_kind in (errors, hardened))
    none = np.zeros((0, len(frequencies), seeds), np.int32)
    return Spectrum(frequencies, widths, soft, hard, np.stack(turns) if turns else none)


def kinks(params: PyTree, spec: gated.Spec) -> Int[Array, ""]:
    """Count the gates of a linearly gated network that turn inside (-1, 1). It has at most one piece more.

    >>> spec = gated.Spec(gated.FullyConnected(1, (3, 3), 1, biases=True))
    >>> int(kinks(gated.init(jax.random.key(0), spec), spec))  # without biases they all turn at 0
    6
    """
    weights = gated.primal_weights(params, spec)
    places = jnp.concatenate([-one.bias / one.weight[:, 0] for one in weights])
    return jnp.sum(jnp.abs(places) < 1)


@functools.partial(jax.jit, static_argnames=("spec", "steps", "learning_rate"))
def _fit(
    keys: Array, frequencies: Array, spec: gated.Spec, steps: int, learning_rate: float
) -> tuple[Array, Array, Array]:
    """Return errors, errors with hard gates, and the number of gates that turn on the line."""
    grid = jnp.linspace(-1, 1, POINTS, dtype=jnp.float32)[:, None]
    middles = (grid[1:] + grid[:-1]) / 2
    optimiser = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))

    def one(key: Array, frequency: Array) -> tuple[Array, Array, Array]:
        for_weights, for_phase = jax.random.split(key)
        phase = jax.random.uniform(for_phase, (), jnp.float32, 0, 2 * jnp.pi)
        # Biases of order one spread the gates over the line.
        start = gated.init(for_weights, spec, bias_scale=0.5, dtype=jnp.float32)

        def target(x: Array) -> Array:
            return jnp.sin(jnp.pi * frequency * x + phase)

        def loss(params: PyTree, x: Array, spec: gated.Spec = spec) -> Array:
            return jnp.mean((gated.apply(params, x, spec) - target(x)) ** 2)

        def step(_: object, carry: tuple[PyTree, PyTree]) -> tuple[PyTree, PyTree]:
            params, state = carry
            update, state = optimiser.update(jax.grad(loss)(params, grid), state)
            return optax.apply_updates(params, update), state

        params, _ = jax.lax.fori_loop(0, steps, step, (start, optimiser.init(start)))
        size = jnp.mean(target(middles) ** 2)
        hard = loss(params, middles, dataclasses.replace(spec, gate=gated.Hard()))
        turning = kinks(params, spec) if spec.kind == "dlgn" else jnp.zeros((), int)
        return loss(params, middles) / size, hard / size, turning

    return jax.vmap(jax.vmap(one, (0, None)), (0, 0))(keys, frequencies)
