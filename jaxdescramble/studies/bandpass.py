"""A network that learns a band-pass filter, descrambled by the maximum diagonal sum.

In the frame with the largest diagonal sum, `P W` is the square root of `W^T W`. It is symmetric and positive, and for
square W it depends on `W^T W` alone. So `P W_1` looks like a filter for any W_1 (untrained weights give an all-pass
filter). Training decides only its spectrum. `W_2 P^T` is a real test, because P is computed without W_2.
"""

import functools
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from jaxdescramble._base.checks import one_of, positive_integer
from jaxdescramble._base.products import matmul
from jaxdescramble._base.pytrees import register_dataclass
from jaxdescramble.datasets.bandpass import Band, band_pass, filter_matrix, sample
from jaxdescramble.exact import diagonal_sum
from jaxdescramble.findings import fourier_energy
from jaxdescramble.manifolds import orthogonal

ACTIVATIONS = {"linear": lambda x: x, "relu": jax.nn.relu}


@dataclass(frozen=True)
class BandPlan:
    """Everything that a training run depends on, except the random key.

    The network has as many hidden neurons as points. `P W_1` is therefore square.

    Args:
        band: the filter to learn.
        activation: activation of the hidden layer, "linear" or "relu".
        steps: number of training steps.
        batch: number of records in a step; every step draws new records.
        learning_rate: learning rate of Adam at the start; it falls to 0 along a cosine.
        first: standard deviation of the initial weights in units of `1 / sqrt(points)`. Training never needs the
            weights outside the band, and they only fade, so large initial weights remain visible.
        shuffled: whether every record gets the target of another record, so that nothing can be learned.
    """

    band: Band = field(default_factory=Band)
    activation: str = "relu"
    steps: int = 400
    batch: int = 128
    learning_rate: float = 1e-3
    first: float = 0.05
    shuffled: bool = False

    def __post_init__(self):
        one_of(self.activation, "activation", tuple(ACTIVATIONS))
        positive_integer(self.steps, "steps")
        if positive_integer(self.batch, "batch") < 2 and self.shuffled:
            raise ValueError(f"batch: got {self.batch}; shuffled targets need at least 2 records.")


@functools.partial(register_dataclass, data_fields=["params", "initial_params", "losses"], meta_fields=["plan"])
@dataclass(frozen=True)
class TrainedBandNet:
    """Weights `W1`, `W2` after and before training. Losses are relative: 1 for a network that answers 0."""

    params: dict[str, Array]
    initial_params: dict[str, Array]
    losses: Float[Array, " steps"]
    plan: BandPlan


def network(params: dict[str, Array], records: Float[Array, "samples points"], activation: str = "relu") -> Array:
    """Compute a network with one hidden layer and no biases: `W_2 a(W_1 x)`. Each row is a record.

    >>> params = {"W1": jnp.eye(3), "W2": jnp.eye(3)}
    >>> network(params, jnp.asarray([[1.0, -2.0, 3.0]])).tolist()
    [[1.0, 0.0, 3.0]]
    """
    hidden = ACTIVATIONS[one_of(activation, "activation", tuple(ACTIVATIONS))](matmul(records, params["W1"].T))
    return matmul(hidden, params["W2"].T)


def train(key: PRNGKeyArray, plan: BandPlan | None = None) -> TrainedBandNet:
    """Train a network to filter white noise: mean squared error, Adam, one compiled program, float32.

    Args:
        key: random key; it decides weights and records.
        plan: everything else; None means `BandPlan()`: a ReLU network at 1024 points and a band of 100 to 200 Hz.

    Returns:
        A `TrainedBandNet`.

    Raises:
        FloatingPointError: if the loss is not finite.

    >>> net = train(jax.random.key(0), BandPlan(Band(2.0, 5.0, 16, 16.0), steps=3, batch=4))
    >>> net.params["W1"].shape, net.losses.shape
    ((16, 16), (3,))

    Source: Sule, Spencer, Czaja, ACHA 79, 101793 (2025), whose output layer has a tanh.
    """
    plan = plan or BandPlan()
    initial, params, losses = _train(key, plan)
    if not bool(jnp.isfinite(losses).all()):
        raise FloatingPointError(f"learning_rate: got {plan.learning_rate}; the loss is not finite. Lower it.")
    return TrainedBandNet(params, initial, losses, plan)


@functools.partial(jax.jit, static_argnames="plan")
def _train(key: Array, plan: BandPlan) -> tuple[dict[str, Array], dict[str, Array], Array]:
    points, optimiser = plan.band.points, optax.adam(optax.cosine_decay_schedule(plan.learning_rate, plan.steps))
    for_weights, for_steps = jax.random.split(key)
    draws = plan.first / points**0.5 * jax.random.normal(for_weights, (2, points, points), jnp.float32)
    initial = {"W1": draws[0], "W2": draws[1]}

    def loss(params: dict[str, Array], signal: Array, target: Array) -> Array:
        missed = network(params, signal.T, plan.activation) - target.T
        return jnp.sum(missed**2) / jnp.sum(target**2)

    def step(carry: tuple, i: Array) -> tuple[tuple, Array]:
        params, state = carry
        batch = sample(jax.random.fold_in(for_steps, i), plan.batch, plan.band, jnp.float32)
        target = jnp.roll(batch.passed, 1, axis=1) if plan.shuffled else batch.passed
        value, gradient = jax.value_and_grad(loss)(params, batch.signal, target)
        update, state = optimiser.update(gradient, state, params)
        return (optax.apply_updates(params, update), state), value

    (params, _), losses = jax.lax.scan(step, (initial, optimiser.init(initial)), jnp.arange(plan.steps))
    return initial, params, losses


def passband_share(weight: Float[Array, "link points"], band: Band) -> Float[Array, ""]:
    """Return the share of a layer's energy at input frequencies inside the band. It does not depend on the frame.

    >>> band = Band(2.0, 3.0, 16, 16.0)
    >>> round(float(passband_share(jnp.eye(16), band)), 3), band.rank / 16
    (0.25, 0.25)
    """
    return jnp.sum(band_pass(weight.T, band) ** 2) / jnp.sum(weight**2)


def diagonal_share(weight: Float[Array, "link points"]) -> Float[Array, ""]:
    """Return the share of energy where link frequency equals input frequency. It is 1 for every convolution.

    >>> round(float(diagonal_share(jnp.eye(16))), 3)
    1.0
    """
    energy = fourier_energy(weight)
    return jnp.trace(energy) / jnp.sum(energy)


def likeness(weight: Float[Array, "points points"], band: Band) -> Float[Array, ""]:
    """Return the cosine between a matrix and the ideal filter: 1 if they are proportional.

    >>> band = Band(2.0, 3.0, 16, 16.0)
    >>> round(float(likeness(filter_matrix(band), band)), 3), round(float(likeness(jnp.eye(16), band)), 3)
    (1.0, 0.5)
    """
    ideal = filter_matrix(band, weight.dtype)
    return jnp.sum(weight * ideal) / (jnp.linalg.norm(weight) * jnp.linalg.norm(ideal))


def read(params: dict[str, Array], band: Band, key: PRNGKeyArray) -> dict[str, dict[str, float]]:
    """Read the two layers in three frames of the hidden layer: as trained, random, and descrambled.

    P maximises the diagonal sum of `P W_1`. The first layer is read as `P W_1`, the second as `W_2 P^T`. Together they
    are the same network if its activation is linear.

    Args:
        params: weights `W1` and `W2`, both of shape (points, points).
        band: the filter that the network should learn.
        key: random key; it decides the random frame.

    Returns:
        A dictionary from frame ("raw", "random", "descrambled") to its readings: "diagonal sum"
        (`tr(P W_1) / ||W_1||_*`), "passband share", and "diagonal share" and "likeness" of both layers.

    >>> Pi = filter_matrix(Band(2.0, 3.0, 16, 16.0))
    >>> turned = {"W1": Pi[::-1], "W2": Pi[:, ::-1]}
    >>> found = read(turned, Band(2.0, 3.0, 16, 16.0), jax.random.key(0))["descrambled"]
    >>> round(found["likeness of P W1"], 3), round(found["diagonal sum"], 3)
    (1.0, 1.0)
    """
    first, second = params["W1"], params["W2"]
    best = diagonal_sum(first)
    nuclear = jnp.sum(best.singular_values)
    frames = {
        "raw": jnp.eye(len(first), dtype=first.dtype),
        "random": orthogonal.random(key, len(first), "O", first.dtype),
        "descrambled": best.point,
    }
    return {name: _read(point, first, second, nuclear, band) for name, point in frames.items()}


def _read(point: Array, first: Array, second: Array, nuclear: Array, band: Band) -> dict[str, float]:
    turned, back = matmul(point, first), matmul(second, point.T)
    found: dict[str, Array] = {
        "diagonal sum": jnp.trace(turned) / nuclear,
        "passband share": passband_share(turned, band),
    }
    for name, weight in (("P W1", turned), ("W2 P^T", back)):
        found[f"diagonal share of {name}"] = diagonal_share(weight)
        found[f"likeness of {name}"] = likeness(weight, band)
    return {name: float(value) for name, value in found.items()}
