"""Learn which samples to leave out: gradient descent on sample weights, through the descrambler.

A layer receives sparse sources, mixed. Two in five of the recorded samples come from another source with another
mixing, and nobody knows which. A small set of samples is known to be good. The script learns weights of all samples, so
that the frame found with these weights makes the good samples sparse. The gradient is the derivative of the argmin, not
of the iterations.

    python examples/learn_a_prefilter.py
"""

import argparse

import jax
import jax.numpy as jnp
import optax

import jaxdescramble as jd


def main(n: int = 6, samples: int = 500, rounds: int = 60) -> dict[str, float]:
    keys = jax.random.split(jax.random.key(0), 3)
    frame, other = jd.manifolds.orthogonal.random(keys[0], n), jd.manifolds.orthogonal.random(keys[1], n)
    sources = jax.random.laplace(keys[2], (n, samples + 500))
    foreign = jnp.arange(samples) % 5 < 2
    mixed = frame.T @ sources
    recorded = jnp.where(foreign[None, :], 2 * other.T @ sources[:, :samples], mixed[:, :samples])
    clean = mixed[:, samples:]

    objective = jd.objectives.sparsity("logcosh", epsilon=0.5)
    known = objective.summarise(clean)

    def found(logits, start):
        weighted = recorded * jax.nn.sigmoid(logits)[None, :]
        return jd.minimise(objective, start, objective.summarise(weighted))

    def loss(logits, start):
        point = found(logits, start).point
        return objective(point, known), point

    optimiser = optax.adam(0.5)
    logits = jnp.zeros(samples)
    state = optimiser.init(logits)
    start = found(logits, jnp.eye(n)).point

    @jax.jit
    def step(logits, state, start):
        (value, point), gradient = jax.value_and_grad(loss, has_aux=True)(logits, start)
        updates, state = optimiser.update(gradient, state)
        return optax.apply_updates(logits, updates), state, point, value

    def mismatch(point):
        """Return the distance of `P frame^T` from a signed permutation, which sparsity cannot determine."""
        return float(jnp.linalg.norm(1 - jnp.max(jnp.abs(point @ frame.T), axis=1)))

    before, first = mismatch(start), float(loss(logits, start)[0])
    for number in range(rounds):
        logits, state, start, value = step(logits, state, start)
        if number % 10 == 0:
            print(f"round {number:3d}: good samples at {value:.4f}, frame off by {mismatch(start):.4f}")
    weights = jax.nn.sigmoid(logits)
    kept, left_out = float(weights[~foreign].mean()), float(weights[foreign].mean())
    print(f"mean weight of good samples {kept:.2f}, of foreign ones {left_out:.2f}")
    print(f"frame off by {before:.4f} before, {mismatch(start):.4f} after")
    return {"before": before, "after": mismatch(start), "kept": kept, "left_out": left_out, "first": first}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    main(rounds=parser.parse_args().rounds)
