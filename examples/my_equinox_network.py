"""Descramble your own Equinox network, one layer at a time, and check the frame on unseen signals.

Run: python examples/my_equinox_network.py [--steps 1500]
"""

import argparse

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

import jaxdescramble as jd


def shapes(key, count):
    """Draw bumps of random place and width on 48 points; the targets are place and width."""
    place, width, noise = jax.random.split(key, 3)
    y = jnp.stack(
        [jax.random.uniform(place, (count,)), jax.random.uniform(width, (count,), minval=0.05, maxval=0.2)], 1
    )
    x = jnp.exp(-0.5 * ((jnp.arange(48) / 47 - y[:, :1]) / y[:, 1:]) ** 2)
    return x + 0.05 * jax.random.normal(noise, x.shape), y


def main(steps: int):
    key = jax.random.key(0)
    model = eqx.nn.MLP(48, 2, width_size=32, depth=2, activation=jax.nn.softplus, key=key)
    optimiser = optax.adam(2e-3)
    state = optimiser.init(eqx.filter(model, eqx.is_array))

    @eqx.filter_jit
    def step(model, state, key):
        x, y = shapes(key, 256)
        loss, gradient = eqx.filter_value_and_grad(lambda m: jnp.mean((jax.vmap(m)(x) - y) ** 2))(model)
        update, state = optimiser.update(gradient, state)
        return eqx.apply_updates(model, update), state, loss

    loss = jnp.inf
    for i in range(steps):
        model, state, loss = step(model, state, jax.random.fold_in(key, i))

    params, static = eqx.partition(model, eqx.is_array)
    f = lambda params, x: jax.vmap(eqx.combine(params, static))(x)  # noqa: E731
    _, taps = jax.jit(jd.wiretap(f))(params, shapes(jax.random.key(1), 2000)[0])
    _, unseen = jax.jit(jd.wiretap(f))(params, shapes(jax.random.key(2), 2000)[0])

    for name in list(taps)[:-1]:  # the two outputs of the last layer already have a meaning
        found = jd.descramble(taps[name].preactivation, jd.objectives.smoothness(boundary="neumann"))
        held_out = found.score(unseen[name].preactivation)
        print(f"{name}: roughness {found.initial_value:.2e} -> {found.value:.2e} (unseen signals {held_out:.2e})")
    print(f"loss {loss:.1e}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=1500)
    main(**vars(parser.parse_args()))
