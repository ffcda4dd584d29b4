"""The demonstration as a script: train DEERNet, descramble it, and test whether the picture is a finding.

Run: python examples/deernet.py [--steps 6000]
"""

import argparse

import jax
import jax.numpy as jnp

import jaxdescramble as jd
from jaxdescramble.studies.deernet import network as deernet


def main(steps: int):
    # The network turns spectrometer traces into distance distributions. It is trained on simulated traces.
    net = deernet.train(jax.random.key(0), steps=steps, callback=lambda step, loss: None)
    fit, read = (jd.datasets.deer.sample(jax.random.key(seed), 4096, dtype="float32").trace.T for seed in (1, 2))
    print(f"trained: loss {net.losses[-1]:.4f}")

    # Find every linear layer in the function itself, and the frame in which its signals are smoothest.
    layers = jd.descramble_network(deernet.network, net.params, fit)
    P, Q = layers["['W1']"].sides["output"], layers["['W2']"].sides["input"]
    print(f"layer 1: roughness {P.initial_value:.1e} -> {P.value:.1e} (gap {P.gap:.0e})")

    # Only the frame has changed: with P^-1 P inserted, the function stays the same.
    same = jd.insert(deernet.network, net.params, fit, {"['W1']": P.point}, {"['W2']": Q.point})
    change = jnp.linalg.norm(same(net.params, read) - deernet.network(net.params, read))
    print(f"function changed by {change / jnp.linalg.norm(deernet.network(net.params, read)):.0e}, relative")

    # What does layer 1 do? Fit on one half of the signals, read on the other half, and compare with random frames.
    def descrambled(weight, traces):
        return jd.descramble(weight @ traces.T).point @ weight

    weight = net.params["W1"]
    null = jax.vmap(jd.findings.random_frame, (0, None))(jax.random.split(jax.random.key(3), 19), weight)
    stacks = [jax.vmap(descrambled, (0, None))(null, half) for half in (fit, read)]
    readings = jd.findings.compare(
        jd.findings.FIRST_LAYER, descrambled(weight, fit), descrambled(weight, read), {"random frame": tuple(stacks)}
    )
    for reading in readings:
        chance = reading.nulls["random frame"].mean()
        print(
            f"{reading.name:34s} {reading.value:8.3f}   chance {chance:8.3f}   p {reading.p_value['random frame']:.2f}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=6000)
    main(**vars(parser.parse_args()))
