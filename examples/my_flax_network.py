"""Descramble your own Flax network: an MLP that learned to remove noise from waves.

Run: python examples/my_flax_network.py [--steps 1500] [--out flax-layers.png]
"""

import argparse

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import jaxdescramble as jd
from jaxdescramble.show import figures


class Denoiser(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.encode = nnx.Linear(64, 48, rngs=rngs)
        self.decode = nnx.Linear(48, 64, rngs=rngs)

    def __call__(self, x):
        return self.decode(nnx.tanh(self.encode(x)))


def waves(key, count):  # noisy sums of two waves, and the same sums without noise
    frequency, phase, noise = jax.random.split(key, 3)
    t = jnp.arange(64) / 64
    k = jax.random.randint(frequency, (count, 2, 1), 1, 9)
    clean = jnp.sin(2 * jnp.pi * (k * t + jax.random.uniform(phase, (count, 2, 1)))).sum(axis=1)
    return clean + 0.5 * jax.random.normal(noise, clean.shape), clean


def main(steps: int, out: str):
    model, key = Denoiser(nnx.Rngs(0)), jax.random.key(1)
    optimizer = nnx.Optimizer(model, optax.adam(3e-3), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer, key):
        noisy, clean = waves(key, 256)
        optimizer.update(model, nnx.grad(lambda m: jnp.mean((m(noisy) - clean) ** 2))(model))

    for i in range(steps):
        step(model, optimizer, jax.random.fold_in(key, i))

    graph, params = nnx.split(model)
    layers = jd.descramble_network(lambda params, x: nnx.merge(graph, params)(x), params, waves(key, 2000)[0])
    for name, layer in layers.items():
        for side, found in layer.sides.items():
            print(f"{name} {side}: roughness {found.initial_value:.2e} -> {found.value:.2e}, rank {found.rank}")
    figures.layers_figure(layers).savefig(out, dpi=150)
    print(f"the figure is in {out}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--out", default="flax-layers.png")
    main(**vars(parser.parse_args()))
