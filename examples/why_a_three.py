"""Why is this digit a 3? The linear map that a trained network applies to one picture, and what other methods show.

Run: python examples/why_a_three.py [STEPS]    (needs scikit-learn and matplotlib)
"""

import sys

import jax
import jax.numpy as jnp
import optax

import jaxdescramble as jd
from jaxdescramble.attribution import switched
from jaxdescramble.show import style


def f(params, x):
    for W in params[:-1]:
        x = jax.nn.relu(x @ W)
    return x @ params[-1]


def train(key, x, labels, steps):
    shapes, optimiser = ((784, 128), (128, 64), (64, 10)), optax.adam(2e-3)
    params = [(2 / s[0]) ** 0.5 * jax.random.normal(k, s) for k, s in zip(jax.random.split(key, 3), shapes)]  # noqa: B905
    loss = lambda p: optax.softmax_cross_entropy_with_integer_labels(f(p, x), labels).mean()  # noqa: E731

    def step(_, carry):
        updates, state = optimiser.update(jax.grad(loss)(carry[0]), carry[1])
        return optax.apply_updates(carry[0], updates), state

    return jax.lax.fori_loop(0, steps, step, (params, optimiser.init(params)))[0]


def main(steps: int):
    digits = jd.datasets.pictures.digits()
    x = digits.images.reshape(1797, 784)
    params = jax.jit(train, static_argnums=3)(jax.random.key(0), x[:1400], digits.labels[:1400], steps)
    threes = x[1400:][digits.labels[1400:] == 3]
    one = threes[jnp.argmax(f(params, threes).argmax(axis=1) == 3)][None]  # unseen, and classified as a 3
    rival = int(jnp.argsort(scores := f(params, one)[0])[-2])
    weight = switched.project(f, params, one, 3).weight - switched.project(f, params, one, rival).weight
    print(f"3 scores {scores[3] - scores[rival]:.3f} more than {rival}; its map gives {jnp.sum(weight * one):.3f}")
    layer = switched.patterns(f, params, one, "[1]", 3)
    top = int(jnp.argmax(layer.contribution[0]))
    print(f"{int(layer.active.sum())} of 64 neurons speak; neuron {top} adds {layer.contribution[0, top]:.2f}")
    usual = [jd.attribution.integrated_gradients(f, params, one, 3), jd.attribution.lrp(f, params, one, 3)]
    maps = [one, weight, weight * one, layer.sensitivity[0, top], switched.insens(f, params, one).map, *usual]
    names = ["picture", f"3 less {rival}", "times picture", f"neuron {top}", "what silences", "integr. grad.", "LRP"]
    figure = style.sheet(style.DOUBLE, 30)
    for ax, name, values in zip(figure.subplots(1, len(maps)), names, maps, strict=True):
        reach = float(jnp.abs(values).max())
        ax.imshow(values.reshape(28, 28), cmap=style.SIGNED, vmin=-reach, vmax=reach)
        ax.set(xticks=(), yticks=(), title=name)
    figure.savefig("why-a-three.png")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
