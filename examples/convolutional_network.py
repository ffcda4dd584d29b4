"""Sort the channels of a trained convolutional network in place: the function stays the same, the layer is readable.

A permutation is the one descrambler that commutes with every pointwise activation. Over permutations, total variation
along the channels is a quadratic assignment problem: it asks for the shortest path through all channels.

    python examples/convolutional_network.py
"""

import argparse
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

import jaxdescramble as jd
from jaxdescramble.show import style

NAME = "['second']['kernel']"


def network(params, x):
    """Compute two 3 x 3 convolutions with a pool between them, a mean over places, and ten class scores."""
    for name in ("first", "second"):
        x = jax.lax.conv_general_dilated(
            x, params[name]["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = jax.nn.relu(x + params[name]["bias"])
        if name == "first":
            x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return x.mean(axis=(1, 2)) @ params["last"]


def train(key, images, labels, channels, steps):
    keys = jax.random.split(key, 3)
    layer = lambda key, into: {  # noqa: E731
        "kernel": jax.random.normal(key, (3, 3, into, channels)) / (3 * into**0.5), "bias": jnp.zeros(channels),
    }  # fmt: skip
    params = {"first": layer(keys[0], 1), "second": layer(keys[1], channels)}
    params["last"] = jax.random.normal(keys[2], (channels, 10)) / channels**0.5
    optimiser = optax.adam(3e-3)

    @jax.jit
    def step(k, carry):
        params, state = carry
        some = jax.random.randint(jax.random.fold_in(key, k), (128,), 0, len(images))
        loss = lambda p: optax.softmax_cross_entropy_with_integer_labels(network(p, images[some]), labels[some]).mean()  # noqa: E731
        updates, state = optimiser.update(jax.grad(loss)(params), state)
        return optax.apply_updates(params, updates), state

    return jax.lax.fori_loop(0, steps, step, (params, optimiser.init(params)))[0]


@style.styled
def picture(params, tidy, images, labels):
    """Draw the mean activation of each channel for each digit, and the channels' correlations, before and after."""
    figure = style.sheet(style.DOUBLE, 75)
    shown = [int((labels == digit).argmax()) for digit in range(10)]
    for row, (name, now) in enumerate({"as trained": params, "reordered": tidy}.items()):
        activation = np.asarray(jd.wiretap(network)(now, images)[1][NAME].activation)
        digits = activation.reshape(len(activation), len(images), -1)[:, shown].mean(axis=2)
        alike = np.corrcoef(activation + 1e-6 * np.random.default_rng(0).standard_normal(activation.shape))
        for k, (matrix, title) in enumerate(((digits, "Mean activation of a digit"), (alike, "Correlation"))):
            axes = figure.add_subplot(2, 2, 2 * row + k + 1)
            colours = {"cmap": style.SIGNED, "vmin": -1, "vmax": 1} if k else {"cmap": style.ENERGY, "vmin": 0}
            figure.colorbar(axes.imshow(matrix, aspect="auto", **colours), ax=axes)
            axes.set(title=title if row == 0 else "", ylabel=f"Channel, {name}", xlabel=("Digit", "Channel")[k])
    return figure


def main(channels: int, steps: int, out: str):
    digits: Any = load_digits()
    images, labels = jnp.asarray(digits.images[..., None] / 16, jnp.float32), jnp.asarray(digits.target)
    params = train(jax.random.key(0), images[:1400], labels[:1400], channels, steps)
    accuracy = float((network(params, images[1400:]).argmax(axis=1) == labels[1400:]).mean())

    tap = jd.wiretap(network)(params, images[:400])[1][NAME]
    variation = jd.objectives.total_variation(boundary="neumann")
    found = jd.descramble(tap.activation, variation, group="permutation", restarts=7, key=jax.random.key(1))
    order = np.asarray(found.point).argmax(axis=1)
    tidy = jd.reorder(network, params, images[:1], NAME, order)
    change = float(jnp.abs(network(tidy, images) - network(params, images)).max())
    print(f"accuracy {accuracy:.3f} on unseen digits")
    print(f"total variation along the channels {found.initial_value:.4f} -> {found.value:.4f}, bound {found.bound:.4f}")
    print(f"function changed by {change:.1e}: the order of summation")

    picture(params, tidy, images[:400], labels[:400]).savefig(out)
    print(f"Picture: {out}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=int, default=24)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--out", default="channels.png")
    main(**vars(parser.parse_args()))
