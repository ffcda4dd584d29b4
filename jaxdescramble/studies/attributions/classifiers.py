"""Small picture classifiers for the studies of attribution: convolutional and dense ReLU networks."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from jaxdescramble._base.checks import positive_integer
from jaxdescramble.datasets.pictures import Pictures

Params = list[dict[str, Array]]
LAYOUT = ("NHWC", "HWIO", "NHWC")


@dataclass(frozen=True)
class ClassifierPlan:
    """A network and its training.

    Args:
        channels: number of channels of each convolution; () means no convolutions.
        kernel: size of the windows of the convolutions. A 2 x 2 max-pool follows each convolution.
        widths: widths of the dense hidden layers.
        bias: initial bias of all hidden neurons. With a negative bias most neurons are silent.
        steps: number of training steps.
        batch: number of pictures in a step.
        learning_rate: learning rate of Adam, which minimises the cross entropy.
    """

    channels: tuple[int, ...] = (32, 64)
    kernel: int = 5
    widths: tuple[int, ...] = (1024,)
    bias: float = 0.0
    steps: int = 400
    batch: int = 64
    learning_rate: float = 1e-3

    def __post_init__(self):
        for size in (*self.channels, *self.widths, self.kernel, self.steps, self.batch):
            positive_integer(size, "channels, widths, kernel, steps, batch")


def classifier(params: Params, images: Float[Array, "samples height width channels"]) -> Float[Array, "samples k"]:
    """Compute the scores before the softmax. The parameters show which layers there are.

    >>> plan = ClassifierPlan(channels=(2,), widths=(3,))
    >>> params = initial_parameters(jax.random.key(0), plan, (8, 8, 1), 10)
    >>> [layer["W"].shape for layer in params], classifier(params, jnp.ones((4, 8, 8, 1))).shape
    ([(5, 5, 1, 2), (32, 3), (3, 10)], (4, 10))
    """
    h = images
    for i, layer in enumerate(params):
        W, b = layer["W"], layer["b"]
        if W.ndim == 4:
            h = jax.lax.conv_general_dilated(h, W, (1, 1), "SAME", dimension_numbers=LAYOUT) + b[None, None, None]
            h = jax.nn.relu(h)
            h = jax.lax.reduce_window(h, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
            continue
        h = h.reshape(len(h), -1) @ W + b[None]
        h = jax.nn.relu(h) if i < len(params) - 1 else h
    return h


def initial_parameters(key: PRNGKeyArray, plan: ClassifierPlan, shape: tuple[int, ...], classes: int) -> Params:
    """Draw normal weights of variance `2 / fan_in`, with the planned biases and zero biases of the output."""
    height, width, inputs = shape
    shapes: list[tuple[int, ...]] = []
    for channels in plan.channels:
        shapes.append((plan.kernel, plan.kernel, inputs, channels))
        height, width, inputs = height // 2, width // 2, channels
    inputs *= height * width
    for units in (*plan.widths, classes):
        shapes.append((inputs, units))
        inputs = units
    keys = jax.random.split(key, len(shapes))
    params = [
        {
            "W": math.sqrt(2 / math.prod(one[:-1])) * jax.random.normal(k, one, jnp.float32),
            "b": jnp.full(one[-1:], plan.bias, jnp.float32),
        }
        for k, one in zip(keys, shapes, strict=True)
    ]
    params[-1]["b"] = jnp.zeros(classes, jnp.float32)
    return params


def train(
    key: PRNGKeyArray,
    plan: ClassifierPlan,
    pictures: Pictures,
    callback: Callable[[int, int], None] | None = None,
) -> tuple[Params, Params]:
    """Train a classifier in float32, and return its parameters before and after.

    Args:
        key: random key; it decides weights and batches.
        plan: the network and its training.
        pictures: pictures to learn from.
        callback: called as `callback(done, steps)` every 50 steps.

    Returns:
        A pair of parameters: before and after training.

    Raises:
        FloatingPointError: if the loss is not finite.

    >>> from jaxdescramble.datasets.pictures import shapes
    >>> plan = ClassifierPlan(channels=(), widths=(16,), steps=2)
    >>> before, after = train(jax.random.key(0), plan, shapes(jax.random.key(1), 40, size=12))
    >>> [layer["W"].shape for layer in after]
    [(144, 16), (16, 10)]
    """
    classes = int(np.max(pictures.labels)) + 1
    for_weights, for_batches = jax.random.split(key)
    images, labels = jnp.asarray(pictures.images, jnp.float32), jnp.asarray(pictures.labels)
    before = initial_parameters(for_weights, plan, images.shape[1:], classes)
    params, state, loss = before, _optimiser(plan).init(before), jnp.zeros(())
    # The loop runs on the host: inside an XLA loop, gradients of convolutions take ten times as long on a CPU.
    for i in range(plan.steps):
        params, state, loss = _step(params, state, jax.random.fold_in(for_batches, i), images, labels, plan)
        if callback is not None and (i + 1) % 50 == 0:
            callback(i + 1, plan.steps)
    if not bool(jnp.isfinite(loss)):
        raise FloatingPointError(f"learning_rate: got {plan.learning_rate}; the loss is not finite. Lower it.")
    return before, params


def _optimiser(plan: ClassifierPlan) -> optax.GradientTransformation:
    return optax.adam(plan.learning_rate)


@functools.partial(jax.jit, static_argnames="plan")
def _step(
    params: Params, state: PyTree, key: Array, images: Array, labels: Array, plan: ClassifierPlan
) -> tuple[PyTree, PyTree, Array]:
    some = jax.random.randint(key, (plan.batch,), 0, len(images))

    def loss(params: Params) -> Array:
        scores = classifier(params, images[some])
        return optax.softmax_cross_entropy_with_integer_labels(scores, labels[some]).mean()

    value, gradient = jax.value_and_grad(loss)(params)
    update, state = _optimiser(plan).update(gradient, state)
    return optax.apply_updates(params, update), state, value


def accuracy(params: Params, images: Array, labels: Array) -> Float[Array, ""]:
    """Return the share of pictures whose largest score belongs to the right class."""
    return jnp.mean(jnp.argmax(classifier(params, images), axis=1) == labels)
