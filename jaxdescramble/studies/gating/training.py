"""Train gated networks side by side: different sources of gates, inputs of values, and orders of gates.

One program trains every variant of every architecture on the same pictures. Variants that differ only in data (ones
instead of x, the order of gates, the seed) are replicas of one network under `vmap`.
"""

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from jaxdescramble import gated
from jaxdescramble._base.checks import positive_integer
from jaxdescramble.datasets.pictures import Pictures

KINDS = ("dnn", "dgn", "dlgn", "dlgn-sf")
ARCHITECTURES = ("dense", "conv", "skip")
Programs = dict[tuple[str, str], gated.Spec]


@dataclass(frozen=True)
class GatingPlan:
    """Sizes and training.

    Args:
        widths: widths of the dense gated layers.
        channels: channels of the convolutions, which are circular and averaged over space.
        blocks, depth: blocks of the network with skips, and layers in a block. Its width is that of the first dense
            layer.
        beta, epsilon: settings of the soft gates, which all kinds but the ReLU network learn with.
        steps: number of training steps.
        batch: number of pictures in a step.
        learning_rate: learning rate of Adam at the start; it falls to 0 along a cosine.
        chunks: how often the validation pictures are used. The report takes the chunk with the best validation.
    """

    widths: tuple[int, ...] = (128,) * 4
    channels: tuple[int, ...] = (16,) * 3
    blocks: int = 2
    depth: int = 2
    beta: float = 4.0
    epsilon: float = 0.1
    steps: int = 1000
    batch: int = 32
    learning_rate: float = 3e-3
    chunks: int = 10

    def __post_init__(self):
        for name in ("blocks", "depth", "steps", "batch", "chunks"):
            positive_integer(getattr(self, name), name)
        for name in ("widths", "channels"):
            sizes = getattr(self, name)
            if not 2 <= len(sizes) <= 8 or len(set(sizes)) != 1:
                raise ValueError(
                    f"{name}: got {sizes}; must be 2 to 8 equal sizes, so that gate layers can be permuted."
                )

    def architecture(
        self, name: str, shape: tuple[int, ...], classes: int
    ) -> gated.FullyConnected | gated.Convolutional | gated.Residual:
        """Return the architecture "dense", "conv" or "skip" for pictures of this shape."""
        inputs = int(np.prod(shape))
        if name == "conv":
            return gated.Convolutional(shape, self.channels, classes)
        if name == "skip":
            return gated.Residual(inputs, self.widths[0], self.blocks, self.depth, classes)
        return gated.FullyConnected(inputs, self.widths, classes)

    def spec(self, name: str, kind: str, shape: tuple[int, ...], classes: int) -> gated.Spec:
        """Return the spec of a network. Gates are soft, except in the ReLU network."""
        gate = gated.Hard() if kind == "dnn" else gated.Soft(self.beta, self.epsilon)
        return gated.Spec(self.architecture(name, shape, classes), kind, gate)


class Replicas(NamedTuple):
    """Networks of one spec that are trained side by side. Everything has a leading axis.

    Attributes:
        params: parameters, at the start or now.
        ones: 1 if values start from ones, 0 if they start from x.
        order: order of the gate layers.
        keys: random keys; they decide the batches.
    """

    params: PyTree
    ones: Float[Array, " replicas"]
    order: Int[Array, "replicas layers"]
    keys: Array


class Course(NamedTuple):
    """The training of replicas: accuracies after every chunk of steps, and parameters at the end."""

    validation: Float[Array, "replicas chunks"]
    test: Float[Array, "replicas chunks"]
    params: PyTree

    @property
    def chosen(self) -> Float[Array, " replicas"]:
        """Accuracy on the test pictures at the first chunk that is best on the validation pictures."""
        best = jnp.argmax(self.validation, axis=1)
        return jnp.take_along_axis(self.test, best[:, None], axis=1)[:, 0]


def answer(params: PyTree, x: Array, spec: gated.Spec, ones: Array, order: Array) -> Float[Array, "batch classes"]:
    """Compute a gated network whose input of values and order of gates are data, so that all share one program.

    >>> spec = gated.Spec(gated.FullyConnected(3, (4, 4), 2))
    >>> params, x = gated.init(jax.random.key(0), spec), jnp.ones((1, 3))
    >>> swapped = gated.Spec(gated.FullyConnected(3, (4, 4), 2), order=(1, 0), value_input="ones")
    >>> y = answer(params, x, spec, jnp.asarray(1.0), jnp.asarray([1, 0]))
    >>> bool(jnp.allclose(y, gated.apply(params, x, swapped)))
    True
    """
    if spec.kind == "dnn":
        return gated.apply(params, x, spec)
    stacked = jnp.stack(gated.gates(params, x, spec))
    start = ones * jnp.ones_like(x) + (1 - ones) * x
    return gated.apply(params, x, spec, value_input=start, gates=list(jnp.take(stacked, order, axis=0)))


def variants(spec: gated.Spec) -> list[tuple[str, str]]:
    """List the inputs of the values and orders of the gates: one variant for a ReLU network, four for the others."""
    return (
        [("x", "in order")] if spec.kind == "dnn" else list(itertools.product(("x", "ones"), ("in order", "permuted")))
    )


def replicas(key: PRNGKeyArray, spec: gated.Spec, seeds: int) -> Replicas:
    """Make every variant of a spec for every seed, variant by variant. The seed decides weights, batches and orders.

    Orders are random permutations, but never the identity. All gate layers have one shape.
    """
    layers = len(spec.architecture.gate_shapes)
    by_seed = jax.random.split(key, seeds)

    def permuted(key: Array) -> Array:
        drawn = jax.random.permutation(key, layers)
        # Replace the identity by a cyclic shift.
        return jnp.where((drawn == jnp.arange(layers)).all(), jnp.roll(drawn, 1), drawn)

    params = jax.vmap(lambda key: gated.init(jax.random.fold_in(key, 0), spec, dtype=jnp.float32))(by_seed)
    rows: list[Replicas] = []
    for start, order in variants(spec):
        moved = jax.vmap(lambda key: permuted(jax.random.fold_in(key, 1)))(by_seed)
        straight = jnp.broadcast_to(jnp.arange(layers), (seeds, layers))
        rows.append(
            Replicas(
                params,
                jnp.full(seeds, float(start == "ones"), jnp.float32),
                moved if order == "permuted" else straight,
                jax.vmap(lambda key: jax.random.fold_in(key, 2))(by_seed),
            )
        )
    return jax.tree.map(lambda *each: jnp.concatenate(each), *rows)


def train(
    programs: Programs,
    groups: Mapping[tuple[str, str], Replicas],
    parts: tuple[Pictures, Pictures, Pictures],
    plan: GatingPlan,
    *,
    learned: tuple[str, ...] = ("features", "values"),
    callback: Callable[[int, int], None] | None = None,
) -> dict[tuple[str, str], Course]:
    """Train every group of replicas in one program.

    Args:
        programs: the spec of each group.
        groups: replicas at the start.
        parts: pictures for training, for the choice of the step, and for the test.
        plan: plan of the training.
        learned: names of the networks that are trained; the others stay unchanged.
        callback: called as `callback(done, steps)` after every chunk.

    Returns:
        A dictionary from group to `Course`.
    """
    seen, chosen_by, unseen = parts
    names, specs = tuple(programs), tuple(programs.values())
    held = [groups[name] for name in names]
    length = -(-plan.steps // plan.chunks)
    state = _states(held, plan, learned)
    x, labels = jnp.asarray(seen.images, jnp.float32), jnp.asarray(seen.labels)
    scores: list[list[tuple[Array, Array]]] = [[] for _ in names]
    for chunk in range(plan.chunks):
        held, state = _advance(held, state, chunk * length, (chunk + 1) * length, x, labels, specs, plan, learned)
        for i, (spec, group) in enumerate(zip(specs, held, strict=True)):
            scores[i].append((accuracies(group, chosen_by, spec), accuracies(group, unseen, spec)))
        if callback is not None:
            callback((chunk + 1) * length, plan.chunks * length)
    return {
        name: Course(jnp.stack([one for one, _ in score], 1), jnp.stack([two for _, two in score], 1), group.params)
        for name, score, group in zip(names, scores, held, strict=True)
    }


def snapshots(
    spec: gated.Spec, group: Replicas, pictures: Pictures, plan: GatingPlan, stages: Sequence[int]
) -> list[PyTree]:
    """Return the parameters of replicas at several steps of one training.

    Args:
        spec: spec of the replicas.
        group: replicas at the start.
        pictures: pictures to learn from.
        plan: plan of the training.
        stages: numbers of steps, in ascending order.
    """
    held, learned = [group], tuple(group.params)
    state = _states(held, plan, learned)
    x, labels = jnp.asarray(pictures.images, jnp.float32), jnp.asarray(pictures.labels)
    found, done = [], 0
    for stage in stages:
        held, state = _advance(held, state, done, stage, x, labels, (spec,), plan, learned)
        found.append(held[0].params)
        done = stage
    return found


def accuracies(group: Replicas, pictures: Pictures, spec: gated.Spec) -> Float[Array, " replicas"]:
    """Return the share of pictures that each replica classifies correctly."""
    return _accuracy(group, pictures.images, pictures.labels, spec)


def _states(groups: Sequence[Replicas], plan: GatingPlan, learned: tuple[str, ...]) -> list[PyTree]:
    return [jax.vmap(_optimiser(plan, group.params, learned).init)(group.params) for group in groups]


def _optimiser(plan: GatingPlan, params: PyTree, learned: tuple[str, ...]) -> optax.GradientTransformation:
    adam = optax.adam(optax.cosine_decay_schedule(plan.learning_rate, plan.steps))
    return optax.transforms.selective_transform(adam, freeze_mask={name: name not in learned for name in params})


@functools.partial(jax.jit, static_argnames=("specs", "plan", "learned"))
def _advance(
    groups: list[Replicas],
    states: list[PyTree],
    start: Int[Array, ""] | int,
    stop: Int[Array, ""] | int,
    x: Array,
    labels: Array,
    specs: tuple[gated.Spec, ...],
    plan: GatingPlan,
    learned: tuple[str, ...],
) -> tuple[list[Replicas], list[PyTree]]:
    """Run some steps of all groups in one loop."""

    def one(replica: Replicas, state: PyTree, i: Array, spec: gated.Spec) -> tuple[PyTree, PyTree]:
        some = jax.random.randint(jax.random.fold_in(replica.keys, i), (plan.batch,), 0, len(x))

        def loss(params: PyTree) -> Array:
            scores = answer(params, _shaped(x[some], spec), spec, replica.ones, replica.order)
            return optax.softmax_cross_entropy_with_integer_labels(scores, labels[some]).mean()

        update, state = _optimiser(plan, replica.params, learned).update(
            jax.grad(loss)(replica.params), state, replica.params
        )
        return optax.apply_updates(replica.params, update), state

    def step(i: Array, carry: tuple[list[Replicas], list[PyTree]]) -> tuple[list[Replicas], list[PyTree]]:
        groups, states = carry
        moved = [
            jax.vmap(functools.partial(one, spec=spec), in_axes=(0, 0, None))(group, state, i)
            for group, state, spec in zip(groups, states, specs, strict=True)
        ]
        return [g._replace(params=m[0]) for g, m in zip(groups, moved, strict=True)], [m[1] for m in moved]

    return jax.lax.fori_loop(start, stop, step, (groups, states))


@functools.partial(jax.jit, static_argnames="spec")
def _accuracy(group: Replicas, images: Array, labels: Array, spec: gated.Spec) -> Float[Array, " replicas"]:
    x = _shaped(jnp.asarray(images, jnp.float32), spec)

    def one(replica: Replicas) -> Array:
        scores = answer(replica.params, x, spec, replica.ones, replica.order)
        return jnp.mean(jnp.argmax(scores, axis=1) == labels)

    return jax.lax.map(one, group)


def _shaped(images: Array, spec: gated.Spec) -> Array:
    return images.reshape(len(images), *spec.architecture.input_shape)
