"""DEERNet, the network of the descrambler paper: from a DEER trace to a distance distribution in two or three layers.

256 time points -> 80 (tanh) -> 256 distances (logistic), no biases. A third layer, 80 -> 80 (tanh), can stand between.
Every training step sees traces that were simulated for it and are never seen again, so there is no set to overfit.
"""

import functools
import json
import os
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key, PRNGKeyArray

from jaxdescramble._base.checks import positive_integer
from jaxdescramble._base.files import write_arrays
from jaxdescramble._base.products import matmul
from jaxdescramble.datasets.deer import DeerGrid, DeerPriors, draw, simulate

# Steps between two looks at a run from outside; one compiled loop.
CHUNK = 100
# Noise is cut from a tape of this many batches, drawn afresh for every chunk: it would cost as much as the network.
TAPE = 16


@dataclass(frozen=True)
class TrainingPlan:
    """Everything, but the random key, that a training run depends on."""

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
            raise ValueError(f"layers: got {self.layers}; DEERNet has 2, or 3 with a second hidden one.")
        for name in ("steps", "batch", "width"):
            positive_integer(getattr(self, name), name)
        if self.shuffled and self.batch < 2:
            raise ValueError(
                f"batch: got {self.batch}; shuffled targets need 2 at least, so that each can find another trace."
            )


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["params", "initial_params", "losses"], meta_fields=["plan"]
)
@dataclass(frozen=True)
class TrainedDEERNet:
    """A trained network: weights now and before, loss at every step. A leading axis counts networks if keys had one."""

    params: dict[str, Array]
    initial_params: dict[str, Array]
    losses: Array
    plan: TrainingPlan


def network(params: dict[str, Array], traces: Float[Array, "samples points"]) -> Float[Array, "samples distances"]:
    """DEERNet: p = logistic(W_n tanh(... tanh(W_1 v))), batches in rows as JAX networks have them.

    Args:
        params: weights by name, `W1` to `W2` or `W3`, each (out, in).
        traces: one trace in a row; the transpose of what `datasets.deer.sample` gives.

    Returns:
        Distance distributions in rows, values in (0, 1).

    >>> import jax, jax.numpy as jnp
    >>> network(initial_parameters(jax.random.key(0)), jnp.zeros((3, 256))).shape
    (3, 256)

    Source: Amey et al., PNAS 118, e2016917118 (2021), fig. 1.
    """
    *hidden, last = (params[name] for name in sorted(params))
    for weight in hidden:
        traces = jnp.tanh(matmul(traces, weight.T))
    return jax.nn.sigmoid(matmul(traces, last.T))


def initial_parameters(key: PRNGKeyArray, plan: TrainingPlan | None = None, dtype: Any = float) -> dict[str, Array]:
    """Normal weights of standard deviation 0.01 for the first layer and 0.05 for the others."""
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
    # `network` on columns, the order in which the simulator writes: no transpose of a megabyte at every step.
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
    """Steps start..stop, start a multiple of CHUNK: what a step sees depends on the key and its number alone."""
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
        # Samples are independent, so a shift by one shuffles as well as any permutation, and no target stays at home.
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
    """Trains DEERNet on simulated traces: mean squared error, Adam-W, learning rate 3e-3 falling to 0 along a cosine.

    Args:
        key: random key. Keys with a leading axis train that many networks side by side (`jax.vmap`).
        layers: 2, or 3 for a second hidden layer.
        steps: training steps, 6000 unless given; the learning rate's schedule spans them.
        batch: fresh traces a step, 1024 unless given.
        shuffled: give every trace the distribution of another: the network then learns the shapes of the data and no
            inversion, which is the null for whatever is read from a trained one. Its loss is flat after 500 steps, so
            that steps=1500 is plenty.
        plan: everything else, and the values of the four above where they are not given.
        callback: called as `callback(step, loss)` every 100 steps, with the mean loss over them.
        checkpoint: file to keep the state of the run in. If it exists, the run goes on from there, and ends bitwise
            where it would have ended; an interruption costs the steps since the file was last written.
        checkpoint_every: steps between two writings, in effect a multiple of 100.

    Returns:
        A `TrainedDEERNet`, in float32.

    Raises:
        ValueError: for a plan that makes no sense, a damaged checkpoint, or one of another plan or key.
        FloatingPointError: if the loss stops being finite.

    >>> import jax
    >>> net = train(jax.random.key(0), steps=2, batch=8)
    >>> net.losses.shape, {name: weight.shape for name, weight in net.params.items()}
    ((2,), {'W1': (80, 256), 'W2': (256, 80)})

    Source: Amey et al., PNAS 118, e2016917118 (2021), Methods; optimiser and initial weights are this library's.
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
                f"The loss became {mean} between steps {done} and {stop}: the learning rate "
                f"({plan.learning_rate}) is probably too high; lower it in the plan."
            )
        due = stop // checkpoint_every > done // checkpoint_every or stop == plan.steps
        done = stop
        if store and due:
            store.save((params, state, losses), done)
        if callback is not None:
            callback(done, mean)
    return TrainedDEERNet(params, initial, jnp.asarray(losses), plan)


def _identity(plan: TrainingPlan, key: PRNGKeyArray) -> dict[str, Any]:
    identity = {**asdict(plan), "key": jax.random.key_data(key).tolist(), "key_kind": str(jax.random.key_impl(key))}
    return json.loads(json.dumps(identity))  # as it comes back from the file: tuples are lists there


@dataclass(frozen=True)
class Checkpoint:
    """The state of one run, told from that of any other by `identity`, in a file that is only ever replaced whole."""

    path: Path
    identity: dict[str, Any]

    def save(self, tree: Any, step: int) -> None:
        leaves: dict[str, Any] = {f"leaf_{i:03}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(tree))}
        write_arrays(self.path, {"identity": json.dumps(self.identity), "step": step, **leaves})

    def load(self, like: Any) -> tuple[Any, int]:
        """The tree, with the structure of `like`, and the step it was saved at."""
        expected, structure = jax.tree.flatten(like)
        try:
            # Opened here: numpy leaves a file that it cannot read open. Reading checks the archive's checksums.
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
                f"checkpoint: {self.path} is not a readable checkpoint ({type(error).__name__}: {error}); "
                "delete it to train from the start, or name another file."
            ) from error
        differing = [
            f"{name} is {identity.get(name)!r} there and {self.identity.get(name)!r} here"
            for name in {**identity, **self.identity}
            if identity.get(name) != self.identity.get(name)
        ]
        if not differing and [np.shape(leaf) for leaf in leaves] != [np.shape(leaf) for leaf in expected]:
            differing = ["the arrays have other shapes, as from another version of this library or of optax"]
        if differing:
            raise ValueError(
                f"checkpoint: {self.path} belongs to another run: {'; '.join(differing)}. "
                "Name another file, or delete this one."
            )
        return jax.tree.unflatten(structure, leaves), step
