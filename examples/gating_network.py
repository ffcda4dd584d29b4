"""Descramble the gating network of a trained deep linearly gated network.

Its gates are linear in the input, so you can read what they look for, and the frame in which they are readable is
exact.

    python examples/gating_network.py [--steps 1500] [--out gating-network.png]    (needs scikit-learn, matplotlib)
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdescramble as jd
from jaxdescramble.show import style

SPEC = jd.gated.Spec(jd.gated.FullyConnected(256, (48, 48, 48), 10), "dlgn", jd.gated.Soft(), value_input="ones")


def train(key, x, labels, steps):
    """Train the network. Values start from ones, so all information about the picture comes through the gates."""
    params = jd.gated.init(key, SPEC)
    optimiser = optax.adamw(optax.cosine_decay_schedule(3e-3, steps), weight_decay=1e-3)

    def step(k, carry):
        params, state = carry
        some = jax.random.randint(jax.random.fold_in(key, k), (64,), 0, len(x))

        def loss(params):
            scores = jd.gated.apply(params, x[some], SPEC)
            return optax.softmax_cross_entropy_with_integer_labels(scores, labels[some]).mean()

        update, state = optimiser.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, update), state

    return params, jax.lax.fori_loop(0, steps, step, (params, optimiser.init(params)))[0]


@style.styled
def picture(before, after, filters):
    """Draw the primal weights of the gates as trained and descrambled, and some rows of each as pictures."""
    figure = style.sheet(style.DOUBLE, 84)
    top, bottom = figure.add_gridspec(2, 1, height_ratios=(1, 1))
    upper, lower = (np.asarray(part.subgridspec(*shape).subplots(), object) for part, shape in
                    ((top, (1, 2)), (bottom, (2, 10))))  # fmt: skip
    for ax, letter, matrix, title in zip(upper, "ab", (before, after), ("as trained", "descrambled"), strict=True):
        style.image(ax, matrix, label="Weight")
        style.panel(ax, letter, f"Primal weights $V_3V_2V_1$, {title}", "Pixel", "Gate")
    for row, name in zip(lower, ("trained", "descrambled"), strict=True):
        for ax, values in zip(row, filters[name], strict=True):
            reach = float(jnp.abs(values).max())
            ax.imshow(values.reshape(16, 16), cmap=style.SIGNED, vmin=-reach, vmax=reach)
            ax.set(xticks=(), yticks=())
        row[0].set_ylabel(name)
    return figure


def main(steps: int, out: str):
    learned, unseen = jd.datasets.pictures.split(jd.datasets.pictures.digits(16), 0.8, 0.2, key=jax.random.key(0))
    x, test = learned.images.reshape(-1, 256), unseen.images.reshape(-1, 256)
    start, params = jax.jit(train, static_argnums=3)(jax.random.key(1), x, learned.labels, steps)
    right = (jd.gated.apply(params, test, SPEC).argmax(axis=1) == unseen.labels).mean()
    gap = jd.gated.hardening_gap(params, test, SPEC)
    print(f"accuracy {right:.3f}; hard gates change {100 * gap.predictions:.1f}% of the answers")

    objective = jd.objectives.smoothness(order=1, boundary="neumann")
    for stage, now in (("before training", start), ("trained", params)):
        signals = jd.gated.preactivations(now, x, SPEC)[2].T
        found = jd.descramble(signals, objective).check()
        weight = jd.gated.primal_weights(now, SPEC)[2].weight
        energy = jnp.linalg.svd(weight, compute_uv=False) ** 2  # the same in every frame
        patterns = int((jnp.cumsum(energy) / energy.sum() < 0.9).sum()) + 1
        print(f"{stage}: roughness {found.initial_value:.3g} -> {found.value:.3g}, gap {found.gap:.1e}")
        print(f"{stage}: 90% of the gates' weights in {patterns} patterns of 48")
    # The signals (P V) x are linear in x, without a ReLU, so their frame follows from the primal weights V.
    limit = jd.exact.from_weights(weight, autocorrelation=x.T @ x / len(x), objective=objective)
    print(f"from the weights and the pictures' autocorrelation alone: {limit.value:.3g}")
    rows = jnp.linspace(0, 47, 10).astype(int)
    filters = {"trained": weight[rows], "descrambled": (found.point @ weight)[rows]}
    picture(weight, found.point @ weight, filters).savefig(out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--out", default="gating-network.png")
    main(**vars(parser.parse_args()))
