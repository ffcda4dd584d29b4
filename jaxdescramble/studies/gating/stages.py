"""Do the gates learn? Freeze gates at stages of a training, train new values behind them, and use their kernels."""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from jaxdescramble import gated
from jaxdescramble.datasets.pictures import Pictures
from jaxdescramble.gated import path_kernel
from jaxdescramble.studies.gating import training
from jaxdescramble.studies.gating.training import GatingPlan, Replicas

REGULARISATIONS = tuple(10.0**k for k in range(-6, 1))
SHARES = (0.0, 0.02, 0.1, 0.3, 1.0)
# Largest number of pictures of each part that kernels use. This covers the built-in sets, except for convolutions:
# their kernels cost the square of the number of positions for every pair.
MOST = {"dense": 3000, "conv": 300, "skip": 3000}
KERNELS = {"shares": SHARES, "regularisations": REGULARISATIONS, "most": MOST}


class Stages(NamedTuple):
    """Results with the gates of a ReLU network, by stage of its training and by seed.

    Attributes:
        steps: number of training steps of the gates, by stage.
        network: test accuracy of the ReLU network itself.
        values: test accuracy of new values trained behind its frozen gates (stage 0: FRNPF-II, the others: FLNPF).
        kernel: test accuracy of ridge regression with the path kernel of these gates, on at most `MOST` pictures.
        alignment: centred alignment of this kernel with the classes, on the training pictures.
        complexity: `y^T H^-1 y` of this kernel, divided by the number of pictures.
        dependent: test accuracy of values that start as a copy of their frozen random features (FRNPF-DI), by seed.
        decoupled: test accuracy if gates and values both learn (DLNPF), by seed.
    """

    steps: tuple[int, ...]
    network: Float[np.ndarray, "stages seeds"]
    values: Float[np.ndarray, "stages seeds"]
    kernel: Float[np.ndarray, "stages seeds"]
    alignment: Float[np.ndarray, "stages seeds"]
    complexity: Float[np.ndarray, "stages seeds"]
    dependent: Float[np.ndarray, " seeds"]
    decoupled: Float[np.ndarray, " seeds"]


def learning_in_gates(
    key: PRNGKeyArray,
    name: str,
    parts: tuple[Pictures, Pictures, Pictures],
    plan: GatingPlan,
    seeds: int,
    callback: Callable[[int, int], None] | None = None,
) -> Stages:
    """Train ReLU networks, freeze their gates at stages, and train values and kernels behind these gates.

    Args:
        key: random key; it decides weights and batches.
        name: name of the architecture: "dense", "conv" or "skip".
        parts: pictures for training, for the choice of the regularisation, and for the test.
        plan: sizes and training, of the ReLU networks and of all values.
        seeds: number of seeds.
        callback: called as `callback(done, total)`.

    Returns:
        A `Stages`.
    """
    seen, _, unseen = parts
    shape, classes = seen.images.shape[1:], int(np.max(seen.labels)) + 1
    relu, learning = plan.spec(name, "dnn", shape, classes), plan.spec(name, "dgn", shape, classes)
    frozen = gated.Spec(learning.architecture, "dgn", gated.Hard())
    say = callback or (lambda done, total: None)
    for_networks, for_values, for_decoupled = jax.random.split(key, 3)
    networks = training.replicas(for_networks, relu, seeds)
    steps = tuple(round(share * plan.steps) for share in SHARES)
    taken = training.snapshots(relu, networks, seen, plan, steps)
    say(1, 4)
    fresh = _fresh(for_values, frozen, seeds)
    # The gates come from the networks' layers at each stage, and from the new values themselves.
    features = [params["values"][:-1] for params in (*taken, fresh.params)]
    rows = [fresh._replace(params=fresh.params | {"features": one}) for one in features]
    behind: Replicas = jax.tree.map(lambda *each: jnp.concatenate(each), *rows)
    course = training.train({("", ""): frozen}, {("", ""): behind}, parts, plan, learned=("values",))["", ""]
    # The networks are compared at the last step too. A choice of the best step would favour one side.
    values = np.asarray(course.test[:, -1]).reshape(len(rows), seeds)
    say(2, 4)
    both = _fresh(for_decoupled, learning, seeds)
    decoupled = training.train({("", ""): learning}, {("", ""): both}, parts, plan)["", ""].test[:, -1]
    say(3, 4)
    kernel = kernel_of(name, plan)
    fewer = [Pictures(*(one[: MOST[name]] for one in pictures)) for pictures in parts]
    kernels = [[_kernel(kernel, _one(row.params, k), frozen, fewer) for k in range(seeds)] for row in rows[:-1]]
    say(4, 4)
    return Stages(
        steps,
        np.stack([training.accuracies(networks._replace(params=params), unseen, relu) for params in taken]),
        values[:-1],
        *(np.asarray([[one[i] for one in row] for row in kernels]) for i in range(3)),
        dependent=values[-1],
        decoupled=np.asarray(decoupled),
    )


def kernel_of(name: str, plan: GatingPlan) -> Callable[..., Array]:
    """Return the path kernel of an architecture."""
    if name == "conv":
        return path_kernel.convolutional
    return functools.partial(path_kernel.residual, depth=plan.depth) if name == "skip" else path_kernel.dense


def _fresh(key: Array, spec: gated.Spec, seeds: int) -> Replicas:
    """Return one replica for each seed, whose values start from x and whose gates are in order."""
    found = training.replicas(key, spec, seeds)
    return jax.tree.map(lambda leaf: leaf[:seeds], found)


def _one(params: PyTree, k: int) -> PyTree:
    return jax.tree.map(lambda leaf: leaf[k], params)


def _kernel(
    kernel: Callable[..., Array], params: PyTree, spec: gated.Spec, parts: Sequence[Pictures]
) -> tuple[float, float, float]:
    """Return the accuracy of ridge regression with the kernel of these gates, its alignment and its complexity."""
    seen, chosen_by, unseen = parts

    def data(pictures: Pictures) -> tuple[Array, list[Array]]:
        x = jnp.asarray(pictures.images, jnp.float32).reshape(-1, *spec.architecture.input_shape)
        return x, [gate.astype(jnp.int8) for gate in _gates(params, x, spec)]

    learned = data(seen)
    labels = jnp.asarray(seen.labels)
    K = path_kernel.gather(path_kernel.tiles(kernel, learned)).astype(np.float32)
    beside, new = (path_kernel.gather(path_kernel.tiles(kernel, data(one), learned)) for one in (chosen_by, unseen))
    best, accuracy = -1.0, 0.0
    for regularisation in REGULARISATIONS:
        fit = path_kernel.ridge(K, labels, regularisation)
        right = float(jnp.mean(path_kernel.classify(fit, beside) == jnp.asarray(chosen_by.labels)))
        if bool(fit.solved) and right > best:
            best = right
            accuracy = float(jnp.mean(path_kernel.classify(fit, new) == jnp.asarray(unseen.labels)))
    suits = float(path_kernel.alignment(K, labels))
    return accuracy, suits, float(path_kernel.complexity(K, labels, 1e-3)) / len(labels)


@functools.partial(jax.jit, static_argnames="spec")
def _gates(params: PyTree, x: Array, spec: gated.Spec) -> list[Array]:
    return gated.gates(params, x, spec)
