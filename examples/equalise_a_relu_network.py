"""Make the weights of a ReLU network fit for int8 by scales that cost nothing (cross-layer equalisation).

A neuron's incoming weights times s and its outgoing weights divided by s are the same network (Nagel et al., 2019).
Run: python examples/equalise_a_relu_network.py [width [steps]]
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

import jaxdescramble as jd


def network(params, x):
    for layer in ("first", "second"):
        x = jax.nn.relu(x @ params[layer] + params[f"{layer} bias"])
    return x @ params["last"]


def rounded(weight):  # int8, one step for the whole matrix
    step = jnp.abs(weight).max() / 127
    return step * jnp.round(weight / step)


def main(width=128, steps=300):
    x, y = load_digits(return_X_y=True)
    x, y, keys = jnp.asarray(x / 16, jnp.float32), jnp.asarray(y), jax.random.split(jax.random.key(0), 3)
    shapes = {"first": (64, width), "second": (width, width), "last": (width, 10)}
    params = {name: jax.random.normal(key, shapes[name]) / 8 for name, key in zip(shapes, keys, strict=True)}
    params |= {"first bias": jnp.zeros(width), "second bias": jnp.zeros(width)}
    loss = lambda p: optax.softmax_cross_entropy_with_integer_labels(network(p, x[:1200]), y[:1200]).mean()  # noqa: E731
    optimiser = optax.adam(3e-3)

    def step(_, carry):
        updates, state = optimiser.update(jax.grad(loss)(carry[0]), carry[1])
        return optax.apply_updates(carry[0], updates), state

    params, _ = jax.lax.fori_loop(0, steps, step, (params, optimiser.init(params)))
    equal = params
    for _ in range(20):  # equal ranges of each neuron's weights on both sides, one stream after the other
        for made, read in (("first", "second"), ("second", "last")):
            ranges = [np.abs(equal[made]).max(axis=0), np.abs(equal[read]).max(axis=1)]
            scales = np.sqrt(np.maximum(ranges[1], 1e-6) / np.maximum(ranges[0], 1e-6))
            equal = jd.transform(network, equal, x, {f"['{made}']": scales})
    x, outputs = x[1200:], network(params, x[1200:])
    print(f"outputs changed by {jnp.abs(network(equal, x) - outputs).max() / jnp.abs(outputs).max():.1e}")
    for name, now in {"as trained": params, "equalised": equal}.items():
        errors = [float(jnp.sum((rounded(now[k]) - now[k]) ** 2) / jnp.sum(now[k] ** 2)) for k in shapes]
        coarse = network(now | {k: rounded(now[k]) for k in shapes}, x)
        error = float(jnp.sum((coarse - outputs) ** 2) / jnp.sum(outputs**2))
        print(f"{name}: int8 weight errors {errors[0]:.1e} {errors[1]:.1e} {errors[2]:.1e}, output error {error:.1e}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
