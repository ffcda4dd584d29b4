"""Descramble the Jacobians of a smooth network: a DEERNet of three layers, all sigmoids.

A smooth network has no linear piece, but it has a Jacobian at each trace. The hidden neurons of its second layer have
one common frame for all of these. Readings of the mean Jacobian in this frame are compared with networks that learned
nothing: untrained ones, and one that was trained on shuffled targets.

Run: python examples/jacobians.py [--steps 6000] [--traces 128]
"""

import argparse

import jax
import jax.numpy as jnp
from jaxtyping import Array

import jaxdescramble as jd
from jaxdescramble.studies.deernet import network as deernet


@jax.jit
def jacobians(params: dict[str, Array], traces: Array) -> Array:
    """Return the Jacobian of the second layer's preactivations at each trace, shape (traces, 80, 256)."""
    neurons = ("['W2']", None)
    return jd.attribution.switched.project(deernet.network, params, traces, neurons, jacobian=True).weight


@jax.jit
def described(params: dict[str, Array], halves: tuple[Array, Array]) -> dict[str, Array]:
    """Return what all Jacobians share, and the mean Jacobian in their common frame, for each half of the traces."""
    fit, read = (jacobians(params, traces) for traces in halves)
    frames = [jd.descramble(jnp.concatenate(half, axis=1)) for half in (fit, read)]
    means = [jnp.mean(half, axis=0) for half in (fit, read)]
    values = jnp.linalg.svd(jnp.concatenate(read, axis=1), compute_uv=False) ** 2
    return {
        "share of the mean": jnp.sum(means[1] ** 2) / jnp.mean(jnp.sum(read**2, axis=(1, 2))),
        "directions": 1 + jnp.sum(jnp.cumsum(values) < 0.95 * jnp.sum(values)),
        "raw": frames[1].initial_value,
        "own frame": frames[1].value,
        "other frame": frames[0].score(jnp.concatenate(read, axis=1)),
        "fit": frames[0].point @ means[0],
        "read": frames[1].point @ means[1],
    }


def main(steps: int, traces: int):
    key, halves = (
        jax.random.key(0),
        tuple(jd.datasets.deer.sample(jax.random.key(seed), traces, dtype="float32").trace.T for seed in (1, 2)),
    )
    trained, shuffled = (
        deernet.train(key, layers=3, steps=count, shuffled=mixed)
        for count, mixed in ((steps, False), (min(steps, 1500), True))
    )
    print(f"trained: loss {trained.losses[-1]:.4f}")
    new = [deernet.initial_parameters(k, trained.plan, jnp.float32) for k in jax.random.split(jax.random.key(3), 19)]
    found, wrong = described(trained.params, halves), described(shuffled.params, halves)
    untrained = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(described(params, halves) for params in new))

    print(
        f"roughness of all Jacobians: {found['raw']:.1e} raw, {found['own frame']:.1e} in their common frame, "
        f"{found['other frame']:.1e} in the frame of other traces"
    )
    for name, text in (("share of the mean", "the mean Jacobian's share"), ("directions", "directions for 95%")):
        print(f"{text}: {found[name]:.3g}; shuffled targets {wrong[name]:.3g}; untrained {untrained[name].mean():.3g}")
    readings = jd.findings.compare(
        jd.findings.FIRST_LAYER,
        found["fit"],
        found["read"],
        {"untrained": (untrained["fit"], untrained["read"]), "shuffled": (wrong["fit"][None], wrong["read"][None])},
    )
    for one in readings:
        print(
            f"{one.name:34s} {one.value:8.3f}   untrained {one.nulls['untrained'].mean():8.3f} "
            f"(p {one.p_value['untrained']:.2f})   shuffled targets {one.nulls['shuffled'][0]:8.3f}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--traces", type=int, default=128)
    main(**vars(parser.parse_args()))
