"""Input-layer regularisation: does the SVD of a relaxometry network's first layer show the signal model?

Networks estimate the two time constants of a noisy decay. Their input is the decay and a smoothed copy, or the decay
twice. The claim is that each half of the first right singular vectors of the first layer is a biexponential. Here these
vectors are fitted by biexponentials, and by other models for comparison.
"""

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, Key, PRNGKeyArray, PyTree

from jaxdescramble._base.checks import one_of, positive_integer, positive_number
from jaxdescramble._base.products import matmul
from jaxdescramble._base.pytrees import register_dataclass
from jaxdescramble.datasets.relaxometry import RelaxometryPriors, fit, posterior_mean, sample, smooth
from jaxdescramble.findings import random_frame
from jaxdescramble.studies.relaxometry.biexponential import VECTORS, read_vectors, right_vectors

# The second half of each input. The copy in "duplicated" has the same noise: two recordings would contain more
# information than one recording and its smoothed copy, so the comparison would not be fair.
INPUTS: dict[str, Callable[[Array, ArrayLike, RelaxometryPriors], Array]] = {
    "joined": smooth,
    "fitted": lambda decay, snr, priors: fit(decay, priors)[0],
    "duplicated": lambda decay, snr, priors: decay,
}
HIDDEN = 4
LEGEND = """\
Four fits for each half of the vectors: biexponentials with an offset (5 parameters); biexponentials without one (4);
biexponentials without one whose constants lie in the range of the signals; quartic polynomials (5). Values are means
over seeds, and over both halves unless one is named. The second table shows biexponentials with an offset for the
singular vectors of untrained layers, of the same singular values in a random frame, and of networks with shuffled
targets. Then it shows all fits for the principal components of the inputs."""


@dataclass(frozen=True)
class RelaxometryPlan:
    """Everything that a training run depends on, except the random keys.

    Args:
        steps: number of training steps.
        batch: number of new decays in a step.
        width: number of neurons in each of the four hidden layers.
        shuffled: whether every decay gets the constants of another decay, the null in which nothing can be learned.
        first: size of the initial weights of the first layer, in units of `1 / sqrt(inputs)`. Training adds to them and
            hardly removes anything. From weights of size 1 / sqrt(3), PyTorch's default, the R^2 of the second singular
            vector ends a fifth lower and that of the third a third lower or more, at nearly the same test error.
        learning_rate: learning rate of Adam-W at the start; it falls to 0 along a cosine.
        weight_decay: weight decay of Adam-W.
        snrs: signal-to-noise ratios.
        inputs: names of the inputs in `INPUTS`. There is one network for each ratio and each input.
        priors: times, and ranges of the constants.
    """

    steps: int = 6000
    batch: int = 128
    width: int = 64
    shuffled: bool = False
    first: float = 0.1
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    snrs: tuple[float, ...] = (1.0, 900.0, 1e4)
    inputs: tuple[str, ...] = ("joined", "fitted", "duplicated")
    priors: RelaxometryPriors = field(default_factory=RelaxometryPriors)

    def __post_init__(self):
        for name in ("steps", "batch", "width"):
            positive_integer(getattr(self, name), name)
        if self.shuffled and self.batch < 2:
            raise ValueError(f"batch: got {self.batch}; shuffled targets need at least 2 decays.")
        for snr in self.snrs:
            positive_number(snr, "snrs")
        for name in self.inputs:
            one_of(name, "inputs", tuple(INPUTS))
        if not (self.snrs and self.inputs):
            raise ValueError("snrs, inputs: got an empty tuple; must have at least one entry each.")


@functools.partial(register_dataclass, data_fields=["params", "initial_params", "losses"], meta_fields=["plan"])
@dataclass(frozen=True)
class TrainedNetworks:
    """Weights (float32) after and before training, and loss at every step; leading axes (seeds, snrs, inputs)."""

    params: dict[str, Array]
    initial_params: dict[str, Array]
    losses: Float[Array, "seeds snrs inputs steps"]
    plan: RelaxometryPlan


def network(params: dict[str, Array], decays: Float[Array, "samples inputs"]) -> Float[Array, "samples 2"]:
    """Compute a network of four hidden ReLU layers and a linear output layer. Each row is an input.

    Args:
        params: weights `W1` to `W5`, each of shape (out, in), and biases `b1` to `b5`.
        decays: the inputs, both halves, shape (samples, inputs).

    Returns:
        T1 and T2, in units of the longest possible time constant (500 ms), shape (samples, 2).

    >>> params = initial_parameters(jax.random.key(0), RelaxometryPlan(width=8))
    >>> network(params, jnp.zeros((3, 128))).shape
    (3, 2)
    """
    for i in range(1, HIDDEN + 1):
        decays = jax.nn.relu(matmul(decays, params[f"W{i}"].T) + params[f"b{i}"][None, :])
    return matmul(decays, params[f"W{HIDDEN + 1}"].T) + params[f"b{HIDDEN + 1}"][None, :]


def initial_parameters(key: PRNGKeyArray, plan: RelaxometryPlan, dtype: DTypeLike = "float32") -> dict[str, Array]:
    """Draw normal weights of size `first / sqrt(inputs)` in the first layer, `1 / sqrt(inputs)` after it; biases 0."""
    sizes = [2 * plan.priors.points, *[plan.width] * HIDDEN, 2]
    params = {}
    for i, (given, made) in enumerate(itertools.pairwise(sizes)):
        scale = jnp.asarray((1.0 if i else plan.first) / np.sqrt(given), dtype)
        params[f"W{i + 1}"] = scale * jax.random.normal(jax.random.fold_in(key, i), (made, given), dtype)
        params[f"b{i + 1}"] = jnp.zeros(made, dtype)
    return params


def assemble(
    decay: Float[Array, "points samples"], snr: ArrayLike, plan: RelaxometryPlan
) -> Float[Array, "kinds both s"]:
    """Make inputs of every kind of the plan: the decay above its second half, signals in columns."""
    return jnp.stack([jnp.concatenate([decay, INPUTS[name](decay, snr, plan.priors)]) for name in plan.inputs])


def train(keys: Key[Array, " seeds"], plan: RelaxometryPlan | None = None) -> TrainedNetworks:
    """Train all networks side by side in one compiled program: mean squared error, Adam-W.

    Networks of one seed start from the same weights and see the same decays. Networks of one seed and one SNR also see
    the same noise.

    Args:
        keys: one random key for each seed, shape (seeds,).
        plan: everything else; None means `RelaxometryPlan()`.

    Returns:
        A `TrainedNetworks`.

    Raises:
        FloatingPointError: if a loss is not finite.

    >>> plan = RelaxometryPlan(steps=2, batch=4, width=8, snrs=(900.0,))
    >>> nets = train(jax.random.split(jax.random.key(0), 2), plan)
    >>> nets.params["W1"].shape, nets.losses.shape
    ((2, 1, 3, 8, 128), (2, 1, 3, 2))

    Source: Rozowski et al. 2022 and Sule, Spencer, Czaja 2025 for the network and its inputs; widths, optimiser and
    initial weights are ours.
    """
    plan = plan or RelaxometryPlan()
    initial, params, losses = _train(keys, plan)
    if not bool(jnp.isfinite(losses).all()):
        raise FloatingPointError(
            f"learning_rate: got {plan.learning_rate}; a loss is not finite. Lower the learning rate in the plan."
        )
    return TrainedNetworks(params, initial, losses, plan)


@functools.partial(jax.jit, static_argnames="plan")
def _train(keys: Array, plan: RelaxometryPlan) -> tuple[dict[str, Array], dict[str, Array], Array]:
    optimiser = optax.adamw(optax.cosine_decay_schedule(plan.learning_rate, plan.steps), weight_decay=plan.weight_decay)
    snrs = jnp.asarray(plan.snrs, jnp.float32)

    def start(key: Array) -> tuple:
        params = initial_parameters(jax.random.fold_in(key, 0), plan)
        alike = (len(plan.snrs), len(plan.inputs))
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, alike + leaf.shape), (params, optimiser.init(params)))

    def learn(params: dict[str, Array], state: PyTree, inputs: Array, targets: Array) -> tuple:
        value, gradient = jax.value_and_grad(lambda p: jnp.mean((network(p, inputs.T) - targets.T) ** 2))(params)
        update, state = optimiser.update(gradient, state, params)
        return optax.apply_updates(params, update), state, value

    def step(i: Array, key: Array, snr: Array, params: dict[str, Array], state: PyTree) -> tuple:
        for_step = jax.random.fold_in(jax.random.fold_in(key, 1), i)
        batch = sample(for_step, plan.batch, snr, plan.priors, jnp.float32)
        targets = batch.constants / plan.priors.constants[1]
        # Samples are independent, so a shift by one is as good as any permutation.
        targets = jnp.roll(targets, 1, axis=1) if plan.shuffled else targets
        return jax.vmap(learn, (0, 0, 0, None))(params, state, assemble(batch.decay, snr, plan), targets)

    step = jax.vmap(jax.vmap(step, (None, None, 0, 0, 0)), (None, 0, None, 0, 0))
    initial, state = jax.vmap(start)(keys)

    def advance(carry: tuple, i: Array) -> tuple:
        params, state, losses = step(i, keys, snrs, *carry)
        return (params, state), losses

    (params, _), losses = jax.lax.scan(advance, (initial, state), jnp.arange(plan.steps))
    return initial, params, jnp.moveaxis(losses, 0, -1)


def held_out_error(nets: TrainedNetworks, key: PRNGKeyArray, samples: int = 8000) -> np.ndarray:
    """Return the root mean squared errors of T1 and T2 in ms on unseen decays, shape (seeds, snrs, inputs, 2)."""
    plan, errors = nets.plan, []
    for i, snr in enumerate(plan.snrs):
        batch = sample(key, samples, snr, plan.priors, jnp.float32)
        inputs = jnp.swapaxes(assemble(batch.decay, snr, plan), 1, 2)
        params = {name: leaf[:, i] for name, leaf in nets.params.items()}
        answers = jax.vmap(jax.vmap(network), (0, None))(params, inputs)
        misses = answers * plan.priors.constants[1] - batch.constants.T[None, None]
        errors.append(jnp.sqrt(jnp.mean(misses**2, axis=2)))
    return np.stack(errors, axis=1)


@dataclass(frozen=True)
class RelaxometryReport:
    """Errors and R^2 of one experiment; `markdown()` is a page to read.

    Attributes:
        nets: the trained networks.
        errors: errors of T1 and T2 in ms, shape (seeds, snrs, inputs, 2).
        floor: errors of the posterior mean in ms, shape (snrs, 2).
        singular: first three singular values of the first layer, shape (seeds, snrs, inputs, 3).
        r2: R^2 by source of the vectors, then by fit. Sources "trained", "untrained" and "shuffled" (targets) have
            shape (seeds, snrs, inputs, 3, 2), with the two halves last. "random frame" (the singular values in random
            frames) has shape (draws, 3, 2). "inputs" (principal components of the inputs, without a network) has shape
            (snrs, inputs, 3, 2).
        vectors: first three right singular vectors, shape (seeds, snrs, inputs, 3, 2, points).
    """

    nets: TrainedNetworks
    errors: np.ndarray
    floor: np.ndarray
    singular: np.ndarray
    r2: dict[str, dict[str, np.ndarray]]
    vectors: np.ndarray

    def mean(self, source: str, fit: str = "biexponential") -> np.ndarray:
        """Return R^2 averaged over seeds (or draws) and both halves, shape (snrs, inputs, 3)."""
        r2 = self.r2[source][fit].mean(axis=-1)
        r2 = r2 if source == "inputs" else r2.mean(axis=0)
        return np.broadcast_to(r2, (*self.errors.shape[1:3], VECTORS))

    def markdown(self, made_by: str = "") -> str:
        """Return the tables as a Markdown page; `made_by` names the command and the machine."""
        plan, seeds = self.nets.plan, len(self.errors)
        networks = list(itertools.product(enumerate(plan.snrs), enumerate(plan.inputs)))
        lines = ["# Singular vectors of relaxometry networks", "", made_by, ""]
        lines += [f"{seeds} seeds, {plan.steps} steps of {plan.batch} decays, four hidden layers of {plan.width}.", ""]
        lines += ["## Error on unseen decays, ms, mean +- sd over seeds", ""]
        lines += ["| SNR | input | T1 | T2 | Bayes T1 | Bayes T2 |", "|---|---|---|---|---|---|"]
        for (i, snr), (j, kind) in networks:
            cells = [f"{x.mean():.2f} +- {x.std(ddof=min(1, seeds - 1)):.2f}" for x in self.errors[:, i, j].T]
            cells += [f"{x:.2f}" for x in self.floor[i]]
            lines.append(f"| {snr:g} | {kind} | {' | '.join(cells)} |")
        fits = self.r2["trained"]["biexponential"].mean(axis=0)
        own = {
            "singular value": self.singular.mean(axis=0),
            "biexponential: first half": fits[..., 0],
            "second half": fits[..., 1],
            **{name: self.mean("trained", name) for name in ("no offset", "signal model", "quartic")},
        }
        others = {name: self.mean(name) for name in ("untrained", "random frame", "shuffled")}
        others |= {f"inputs: {name}": self.mean("inputs", name) for name in self.r2["inputs"]}
        lines += ["", "## R^2 of fits to the first three right singular vectors of the first layer", "", LEGEND, ""]
        for table in (own, others):
            lines += ["| SNR | input | vector | " + " | ".join(table) + " |", "|---" * (3 + len(table)) + "|"]
            for (i, snr), (j, kind) in networks:
                for k in range(VECTORS):
                    cells = " | ".join(f"{values[i, j, k]:.3f}" for values in table.values())
                    lines.append(f"| {snr:g} | {kind} | {k + 1} | {cells} |")
            lines.append("")
        return "\n".join(lines)


def experiment(
    keys: Key[Array, " seeds"], plan: RelaxometryPlan | None = None, draws: int = 20, samples: int = 8000
) -> RelaxometryReport:
    """Train the networks, and networks on shuffled targets (a quarter of the steps), and fit their singular vectors.

    Args:
        keys: one random key for each seed, shape (seeds,).
        plan: plan of the training; None means `RelaxometryPlan()`.
        draws: number of draws of the random frame.
        samples: number of unseen decays for the errors and for the principal components of the inputs.

    Returns:
        A `RelaxometryReport`.
    """
    plan = plan or RelaxometryPlan()
    points, key = plan.priors.points, jax.random.fold_in(keys[0], 2)
    nets, shuffled = train(keys, plan), train(keys, replace(plan, shuffled=True, steps=max(1, plan.steps // 4)))
    vectors = right_vectors(nets.params["W1"], points)
    frames = jax.vmap(random_frame, (0, None))(jax.random.split(key, draws), nets.params["W1"][0, 0, 0])
    components, floor = [], []
    for snr in plan.snrs:
        batch = sample(key, samples, snr, plan.priors, jnp.float32)
        # The right singular vectors of the transpose are principal components. The mean stays in, as the layer sees it.

        inputs = jnp.swapaxes(assemble(batch.decay, snr, plan), 1, 2)
        components.append(right_vectors(inputs, points))
        floor.append(jnp.sqrt(jnp.mean((posterior_mean(batch.decay, snr, plan.priors) - batch.constants) ** 2, axis=1)))
    sources = {
        "trained": vectors,
        "untrained": right_vectors(nets.initial_params["W1"], points),
        "shuffled": right_vectors(shuffled.params["W1"], points),
        "random frame": right_vectors(frames, points),
        "inputs": np.stack(components),
    }
    return RelaxometryReport(
        nets,
        held_out_error(nets, key, samples),
        np.stack(floor),
        np.linalg.svd(np.asarray(nets.params["W1"]), compute_uv=False)[..., :VECTORS],
        {name: read_vectors(source, plan.priors.time, plan.priors.constants) for name, source in sources.items()},
        vectors,
    )
