"""Film a Flax network while it trains: descramble its hidden layer every few steps, and draw a strip of pictures.

The network recovers waves from noisy sums of waves. Its hidden layer starts at random weights and learns one wave after
another. Consecutive frames are aligned, so a movement in the film is a movement of the network.

Run: python examples/film_of_training.py [--steps 2000] [--every 50] [--out film.png] [--folder film]
"""

import argparse
import time

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import jaxdescramble as jd
from jaxdescramble.descrambling.film import Film
from jaxdescramble.show.strip import strip_figure


class Denoiser(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.encode = nnx.Linear(64, 48, rngs=rngs)
        self.decode = nnx.Linear(48, 64, rngs=rngs)

    def __call__(self, x):
        return self.decode(nnx.tanh(self.encode(x)))


def waves(key, count):  # noisy sums of two waves, more often slow ones, and the same sums without noise
    frequency, phase, noise = jax.random.split(key, 3)
    t = jnp.arange(64) / 64
    k = jnp.floor(12 * jax.random.uniform(frequency, (count, 2, 1)) ** 2) + 1
    clean = jnp.sin(2 * jnp.pi * (k * t + jax.random.uniform(phase, (count, 2, 1)))).sum(axis=1)
    return clean + 0.3 * jax.random.normal(noise, clean.shape), clean


def main(steps: int, every: int, out: str, folder: str | None):
    graph, params = nnx.split(Denoiser(nnx.Rngs(0)))
    optimiser, key = optax.adam(1e-3), jax.random.key(1)
    state = optimiser.init(params)

    def network(params, x):
        return nnx.merge(graph, params)(x)

    def train_step(params, state, seed):
        noisy, clean = waves(jax.random.fold_in(key, seed), 256)
        loss, grads = jax.value_and_grad(lambda params: jnp.mean((network(params, noisy) - clean) ** 2))(params)
        updates, state = optimiser.update(grads, state, params)
        return optax.apply_updates(params, updates), state, loss

    train_step = jax.jit(train_step, donate_argnums=(0, 1))  # the film copies the parameters before they are reused

    film = Film(network, waves(jax.random.key(2), 500)[0], jd.objectives.smoothness(), every=every, out=folder)
    film.see(0, params)
    film.wait()  # wait for the compilation once; the loop itself never waits
    began, loss = time.perf_counter(), jnp.nan
    for step in range(1, steps + 1):
        params, state, loss = train_step(params, state, step)
        film.see(step, params)
    loss, seconds = float(loss), time.perf_counter() - began
    frames = film.close().check()

    print(f"trained {steps} steps to a loss of {loss:.3f} in {seconds:.1f} s")
    print(f"{len(frames)} frames, {film.skipped} skipped, {sorted(frames.seconds)[len(frames) // 2]:.3f} s each")
    for name, layer in frames.layers.items():
        for side, one in layer.sides.items():
            jumps = one.jumps / len(one.point[0]) ** 0.5
            print(f"{name} {side}: roughness {one.value[0]:.2e} -> {one.value[-1]:.2e}, jumps {jumps.mean():.3f}")
    strip_figure(frames, next(iter(frames.layers)), kind="fourier").savefig(out, dpi=200)
    print(f"the strip is in {out}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--every", type=int, default=50)
    parser.add_argument("--out", default="film.png")
    parser.add_argument("--folder")
    main(**vars(parser.parse_args()))
