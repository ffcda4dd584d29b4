"""Do many networks agree? The paper's claim on 100 DEERNets, with a null that the paper does not have.

One program trains all networks side by side, and another one descrambles them. They are compared up to the gauge of
smoothness: a sign and a phase for each wave of the link axis.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jaxdescramble._base.checks import positive_integer
from jaxdescramble._base.products import matmul
from jaxdescramble.datasets import deer
from jaxdescramble.descrambling import Descrambling, descramble
from jaxdescramble.exact import Stabiliser
from jaxdescramble.findings import Consistency, consistency
from jaxdescramble.objectives import smoothness
from jaxdescramble.operators import derivative
from jaxdescramble.studies.deernet.network import TrainedDEERNet, TrainingPlan, train

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class ManyNetworks:
    """What many trained networks have in common.

    Attributes:
        networks: weights before and after training, with the networks on a leading axis.
        first: descrambling of the preactivations of all first layers.
        last: descrambling of the inputs of all last layers.
        weights: `P W_1` of each network, aligned to the first network, shape (networks, link, time).
        scores: consistency by name: "first layer", "last layer", and both without descrambling ("raw").
        seconds: seconds of each stage, compilation included.
    """

    networks: TrainedDEERNet
    first: Descrambling
    last: Descrambling
    weights: Float[Array, "networks link time"]
    scores: dict[str, Consistency]
    seconds: dict[str, float]


def many_networks(
    key: PRNGKeyArray,
    count: int = 20,
    *,
    plan: TrainingPlan | None = None,
    samples: int = 4000,
    draws: int = 100,
    callback: Callable[[int, float], None] | None = None,
    checkpoint: str | Path | None = None,
) -> ManyNetworks:
    """Train networks from different starts on different data, descramble them, and measure whether they agree.

    Args:
        key: random key; it decides starts, data and nulls.
        count: number of networks, at least 2.
        plan: plan of each training; None means `TrainingPlan()`.
        samples: number of traces; all networks are descrambled on the same traces.
        draws: number of draws of the null.
        callback: called as `callback(step, loss)` every 100 steps, with the mean loss over these steps.
        checkpoint: path of a file that keeps the state of the training. If it exists, the training continues from it.

    Returns:
        A `ManyNetworks`.

    Raises:
        ValueError: if `count` is below 2; if the checkpoint is damaged or belongs to another run.

    >>> found = many_networks(jax.random.key(0), 2, plan=TrainingPlan(steps=2, batch=8), samples=100, draws=2)
    >>> found.weights.shape, sorted(found.scores)
    ((2, 80, 256), ['first layer', 'first layer, raw', 'last layer', 'last layer, raw'])

    Source: Amey et al., PNAS 118, e2016917118 (2021), SI: 100 networks agree.
    """
    positive_integer(count, "count")
    if count < 2:
        raise ValueError(f"count: got {count}; must be at least 2 networks.")
    for_training, for_signals, for_null = jax.random.split(key, 3)
    plan, seconds = plan or TrainingPlan(), {}

    def timed(name: str, stage: Callable[[], T]) -> T:
        begun = time.perf_counter()
        found = jax.block_until_ready(stage())
        seconds[name] = time.perf_counter() - begun
        return found

    networks = timed(
        "train",
        lambda: train(jax.random.split(for_training, count), plan=plan, callback=callback, checkpoint=checkpoint),
    )
    traces = deer.sample(for_signals, samples, plan.grid, plan.priors, jnp.float32).trace
    names = sorted(networks.params)
    W, V = networks.params[names[0]], networks.params[names[-1]]
    first, last = timed("descramble", lambda: _both_sides(networks.params, traces))
    read = {
        "first layer": matmul(first.point, W),
        "last layer": jnp.swapaxes(matmul(V, jnp.swapaxes(last.point, 1, 2)), 1, 2),
        "first layer, raw": W,
        "last layer, raw": jnp.swapaxes(V, 1, 2),
    }
    scores = timed("compare", lambda: {name: consistency(one, key=for_null, draws=draws) for name, one in read.items()})
    gauge, weights = Stabiliser(derivative(plan.width)), read["first layer"]
    aligned = jax.vmap(lambda one: matmul(gauge.nearest(one, weights[0]), one))(weights)
    return ManyNetworks(networks, first, last, aligned, scores, seconds)


def _both_sides(params: dict[str, Array], traces: Float[Array, "time samples"]) -> tuple[Descrambling, Descrambling]:
    """Descramble the preactivations of the first layers and the inputs of the last layers of all networks."""
    names = sorted(params)
    said = heard = matmul(params[names[0]], jnp.broadcast_to(traces, (len(params[names[0]]), *traces.shape)))
    for name in names[1:-1]:
        heard = matmul(params[name], jnp.tanh(heard))
    first, last = descramble([said, jnp.tanh(heard)], smoothness())
    return first, last
