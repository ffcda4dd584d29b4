"""Put the hidden neurons of an MLP in a readable order, in the parameters themselves.

The network removes noise from waves. Run: python examples/a_readable_mlp.py [width [steps]]; see readable-mlp.png.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdescramble as jd
from jaxdescramble.show import style


def network(params, x):
    return jnp.tanh(x @ params["encode"]) @ params["decode"]


def waves(key, count):  # noisy waves of one frequency, and the same waves without noise
    phase, noise = jax.random.split(key)
    clean = jnp.sin(2 * jnp.pi * (jnp.arange(32) / 32 + jax.random.uniform(phase, (count, 1))))
    return clean + 0.5 * jax.random.normal(noise, clean.shape), clean


@style.styled
def picture(networks):
    figure = style.sheet(style.DOUBLE, 60)
    for axes, (name, params) in zip(figure.subplots(1, 2), networks.items(), strict=True):
        axes.imshow(np.asarray(params["encode"]).T, cmap=style.SIGNED, aspect="auto")
        axes.set(title=name, xlabel="Input", ylabel="Neuron")
    return figure


def main(width=48, steps=1000):
    keys = jax.random.split(jax.random.key(0), 4)
    shapes = {"encode": (32, width), "decode": (width, 32)}
    params = {name: jax.random.normal(key, shapes[name]) / 8 for name, key in zip(shapes, keys, strict=False)}
    optimiser = optax.adam(3e-3)

    def step(k, carry):
        noisy, clean = waves(jax.random.fold_in(keys[2], k), 128)
        slope = jax.grad(lambda params: jnp.mean((network(params, noisy) - clean) ** 2))(carry[0])
        updates, state = optimiser.update(slope, carry[1])
        return optax.apply_updates(carry[0], updates), state

    params, _ = jax.jit(lambda p: jax.lax.fori_loop(0, steps, step, (p, optimiser.init(p))))(params)
    x = waves(keys[3], 300)[0]
    signals = jd.wiretap(network)(params, x)[1]["['encode']"].activation
    variation = jd.objectives.total_variation(boundary="neumann")
    found = jd.descramble(signals, variation, group="permutation", restarts=3, key=jax.random.key(1))
    tidy = jd.transform(network, params, x, {"['encode']": found.point.argmax(axis=1)})
    print(f"total variation along the neurons {found.initial_value:.3f} -> {found.value:.3f}")
    print(f"outputs changed by {jnp.abs(network(tidy, x) - network(params, x)).max():.1e}")
    picture({"As trained": params, "In order": tidy}).savefig("readable-mlp.png", dpi=200)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
