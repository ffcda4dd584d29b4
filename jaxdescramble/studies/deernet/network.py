"""DEERNet, the network of the descrambler paper: from a DEER trace to a distance distribution in two or three layers.

256 time points -> 80 (tanh) -> 256 distances (logistic), no biases. A third layer, 80 -> 80 (tanh), can stand between.
Every training step simulates new traces and never uses them again, so the network cannot overfit a training set.
"""

import functools
import json
import os
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Key, PRNGKeyArray, PyTree

from jaxdescramble._base.checks import positive_integer
from jaxdescramble._base.files import write_arrays
from jaxdescramble._base.products import matmul
from jaxdescramble._base.pytrees import register_dataclass
from jaxdescramble.datasets.deer import DeerGrid, DeerPriors, draw, simulate

# Steps between two checks of a run from outside; they are one compiled loop.
CHUNK = 100
# Noise is cut from a tape of this many batches, which every chunk draws again. New noise would cost as much as the net.
TAPE = 16


@dataclass(frozen=True)
class TrainingPlan:
    """Everything that a training run depends on, except the random key."""

    layers: int = 2
    steps: int = 6000
    batch: int = 1024
    shuffled: bool = False
    width: int = 80
    learning_rate: float = 3e-3
    weight_decay: float = 1e-3
    grid: DeerGrid = field(default_factory=DeerGrid)
    priors: DeerPriors = field(default_factory=DeerPriors)

    def __post_init__(self):
        if self.layers not in (2, 3):
            raise ValueError(f"layers: got {self.layers}; must be 2, or 3 for a second hidden layer.")
        for name in ("steps", "batch", "width"):
            positive_integer(getattr(self, name), name)
        if self.shuffled and self.batch < 2:
            raise ValueError(
                f"batch: got {self.batch}; shuffled targets need at least 2 traces, so that each gets another target."
            )


@functools.partial(register_dataclass, data_fields=["params", "initial_params", "losses"], meta_fields=["plan"])
@dataclass(frozen=True)
class TrainedDEERNet:
    """A trained network: weights after and before training, loss at every step. With many keys, a leading axis."""

    params: dict[str, Array]
    initial_params: dict[str, Array]
    losses: Array
    plan: TrainingPlan


def network(params: dict[str, Array], traces: Float[Array, "samples points"]) -> Float[Array, "samples distances"]:
    """Compute DEERNet: p = logistic(W_n tanh(... tanh(W_1 v))). Each row is a trace.

    Args:
        params: weights by name, `W1` to `W2` or `W3`, each of shape (out, in).
        traces: the traces, shape (samples, points): the transpose of what `datasets.deer.sample` returns.

    Returns:
        Distance distributions, shape (samples, distances), with values in (0, 1).

    >>> import jax, jax.numpy as jnp
    >>> network(initial_parameters(jax.random.key(0)), jnp.zeros((3, 256))).shape
    (3, 256)

    Source: Amey et al., PNAS 118, e2016917118 (2021), fig. 1.
    """
    *hidden, last = (params[name] for name in sorted(params))
    for weight in hidden:
        traces = jnp.tanh(matmul(traces, weight.T))
    return jax.nn.sigmoid(matmul(traces, last.T))


def initial_parameters(
    key: PRNGKeyArray, plan: TrainingPlan | None = None, dtype: DTypeLike = float
) -> dict[str, Array]:
    """Draw normal weights of standard deviation 0.01 for the first layer and 0.05 for the others."""
    plan = plan or TrainingPlan()
    sizes = [plan.grid.points, *[plan.width] * (plan.layers - 1), plan.grid.points]
    keys = jax.random.split(key, plan.layers)
    return {
        f"W{i + 1}": (0.05 if i else 0.01) * jax.random.normal(keys[i], (sizes[i + 1], sizes[i]), dtype)
        for i in range(plan.layers)
    }


def _optimiser(plan: TrainingPlan) -> optax.GradientTransformation:
    schedule = optax.cosine_decay_schedule(plan.learning_rate, plan.steps)
    return optax.adamw(schedule, weight_decay=plan.weight_decay)


def _loss(params: dict[str, Array], traces: Array, targets: Array) -> Array:
    # This is `network` on columns, the order of the simulator. It saves a transpose of a megabyte at every step.
    *hidden, last = (params[name] for name in sorted(params))
    for weight in hidden:
        traces = jnp.tanh(matmul(weight, traces))
    return jnp.mean((jax.nn.sigmoid(matmul(last, traces)) - targets) ** 2)


@functools.partial(jax.jit, static_argnames="plan")
def _start(key, plan: TrainingPlan):
    params = initial_parameters(jax.random.fold_in(key, 0), plan, jnp.float32)
    return params, _optimiser(plan).init(params)


@functools.partial(jax.jit, static_argnames="plan")
def _advance(params, state, key, start, stop, plan: TrainingPlan):
    """Run the steps start..stop; start is a multiple of CHUNK. The data of a step depend on the key and its number."""
    optimiser = _optimiser(plan)
    for_steps, for_tape = jax.random.split(jax.random.fold_in(key, 1))
    length = plan.grid.points * plan.batch
    tape = jax.random.normal(jax.random.fold_in(for_tape, start), (TAPE * length,), jnp.float32)

    def step(i, carry):
        params, state, losses = carry
        for_parameters, for_noise = jax.random.split(jax.random.fold_in(for_steps, i))
        offset = jax.random.randint(for_noise, (), 0, (TAPE - 1) * length + 1)
        noise = jax.lax.dynamic_slice(tape, (offset,), (length,)).reshape(plan.grid.points, plan.batch)
        drawn = draw(for_parameters, plan.batch, plan.grid, plan.priors, jnp.float32)
        batch = simulate(drawn, noise, plan.grid, plan.priors.peak)
        # Samples are independent, so a shift by one is as good as any permutation, and moves every target.
        targets = jnp.roll(batch.distribution, 1, axis=1) if plan.shuffled else batch.distribution
        loss, gradient = jax.value_and_grad(_loss)(params, batch.trace, targets)
        update, state = optimiser.update(gradient, state, params)
        return optax.apply_updates(params, update), state, losses.at[i - start].set(loss)

    losses = jnp.zeros(CHUNK, jnp.float32)
    return jax.lax.fori_loop(start, stop, step, (params, state, losses))


def train(
    key: PRNGKeyArray | Key[Array, " networks"],
    *,
    layers: int | None = None,
    steps: int | None = None,
    batch: int | None = None,
    shuffled: bool | None = None,
    plan: TrainingPlan | None = None,
    callback: Callable[[int, float], None] | None = None,
    checkpoint: str | os.PathLike | None = None,
    checkpoint_every: int = 500,
) -> TrainedDEERNet:
    """Train DEERNet on simulated traces: mean squared error, Adam-W, learning rate 3e-3 falling to 0 along a cosine.

    Args:
        key: random key. Keys with a leading axis train that many networks side by side (`jax.vmap`).
        layers: number of layers: 2, or 3 for a second hidden layer. None means the value of the plan.
        steps: number of training steps; the schedule of the learning rate spans them. None means the value of the plan
            (6000 by default).
        batch: number of new traces in each step. None means the value of the plan (1024 by default).
        shuffled: whether every trace gets the distribution of another trace. The network then learns the shapes of the
            data but no inversion, which is the null for readings of a trained network. Its loss is flat after 500
            steps, so steps=1500 is enough. None means the value of the plan.
        plan: everything else, and the defaults of the four arguments above. None means `TrainingPlan()`.
        callback: called as `callback(step, loss)` every 100 steps, with the mean loss over these steps.
        checkpoint: path of a file that keeps the state of the run. If it exists, the run continues from it, and its
            result is the same to the last bit. An interruption costs the steps since the last write.
        checkpoint_every: number of steps between two writes, rounded to a multiple of 100.

    Returns:
        A `TrainedDEERNet`, in float32.

    Raises:
        ValueError: if the plan is not valid; if the checkpoint is damaged, or belongs to another plan or key.
        FloatingPointError: if the loss is not finite.

    >>> import jax
    >>> net = train(jax.random.key(0), steps=2, batch=8)
    >>> net.losses.shape, {name: weight.shape for name, weight in net.params.items()}
    ((2,), {'W1': (80, 256), 'W2': (256, 80)})

    Source: Amey et al., PNAS 118, e2016917118 (2021), Methods; optimiser and initial weights are ours.
    """
    given = {"layers": layers, "steps": steps, "batch": batch, "shuffled": shuffled}
    plan = replace(plan or TrainingPlan(), **{name: value for name, value in given.items() if value is not None})
    checkpoint_every = positive_integer(checkpoint_every, "checkpoint_every")
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        key = jax.random.wrap_key_data(key)
    begin, advance = functools.partial(_start, plan=plan), functools.partial(_advance, plan=plan)
    if key.ndim:
        begin, advance = jax.vmap(begin), jax.vmap(advance, in_axes=(0, 0, 0, None, None))

    initial, state = begin(key)
    params, losses, done = initial, np.zeros((*key.shape, plan.steps), np.float32), 0
    store = None if checkpoint is None else Checkpoint(Path(checkpoint), _identity(plan, key))
    if store and store.path.exists():
        (params, state, losses), done = store.load((params, state, losses))
        params, state = jax.tree.map(jnp.asarray, (params, state))

    while done < plan.steps:
        stop = min(done + CHUNK, plan.steps)
        params, state, latest = advance(params, state, key, done, stop)
        losses[..., done:stop] = latest[..., : stop - done]
        mean = float(losses[..., done:stop].mean())
        if not np.isfinite(mean):
            raise FloatingPointError(
                f"learning_rate: got {plan.learning_rate}; the loss became {mean} between steps {done} and {stop}. "
                "Lower the learning rate in the plan."
            )
        due = stop // checkpoint_every > done // checkpoint_every or stop == plan.steps
        done = stop
        if store and due:
            store.save((params, state, losses), done)
        if callback is not None:
            callback(done, mean)
    return TrainedDEERNet(params, initial, jnp.asarray(losses), plan)


def _identity(plan: TrainingPlan, key: PRNGKeyArray) -> dict[str, object]:
    identity = {**asdict(plan), "key": jax.random.key_data(key).tolist(), "key_kind": str(jax.random.key_impl(key))}
    return json.loads(json.dumps(identity))  # tuples become lists, as in the file


@dataclass(frozen=True)
class Checkpoint:
    """The state of one run in a file that is only replaced whole. `identity` tells it from other runs."""

    path: Path
    identity: dict[str, object]

    def save(self, tree: PyTree, step: int) -> None:
        leaves = {f"leaf_{i:03}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(tree))}
        write_arrays(self.path, {"identity": json.dumps(self.identity), "step": step, **leaves})

    def load(self, like: PyTree) -> tuple[PyTree, int]:
        """Return the tree, in the structure of `like`, and the step at which it was saved."""
        expected, structure = jax.tree.flatten(like)
        try:
            # Open the file here, because NumPy does not close a file that it cannot read. Reading checks the checksums.
            with open(self.path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
                identity, step = dict(json.loads(str(file["identity"]))), int(file["step"])
                leaves = [file[name] for name in sorted(file.files) if name.startswith("leaf_")]
        except (
            OSError,
            EOFError,
            KeyError,
            TypeError,
            ValueError,
            zipfile.BadZipFile,
            zlib.error,
            NotImplementedError,
        ) as error:
            raise ValueError(
                f"checkpoint: {self.path} is not a readable checkpoint ({type(error).__name__}: {error}). To train "
                "from the start, delete it or name another file."
            ) from error
        differing = [
            f"{name} is {identity.get(name)!r} in the file and {self.identity.get(name)!r} in this run"
            for name in {**identity, **self.identity}
            if identity.get(name) != self.identity.get(name)
        ]
        if not differing and [np.shape(leaf) for leaf in leaves] != [np.shape(leaf) for leaf in expected]:
            differing = ["the arrays have other shapes, as if written by another version of this library or of optax"]
        if differing:
            raise ValueError(
                f"checkpoint: {self.path} belongs to another run: {'; '.join(differing)}. "
                "Name another file, or delete this one."
            )
        return jax.tree.unflatten(structure, leaves), step
