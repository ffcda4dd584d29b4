"""Do independently trained networks agree? Train twenty DEERNets in one program, and compare them with chance.

    python examples/many_networks.py                # two cores: about ten minutes
    python examples/many_networks.py --count 100    # with a GPU

If the training is stopped, the next run continues from `many_networks.npz`.
"""

import argparse
import resource

import jax
import numpy as np

from jaxdescramble.show import style
from jaxdescramble.studies.deernet.many_networks import many_networks
from jaxdescramble.studies.deernet.network import TrainingPlan


@style.styled
def picture(found):
    """Draw the first layers of eight networks, as trained and descrambled, and the scores beside their nulls."""
    shown = min(8, len(found.weights))
    figure = style.sheet(style.DOUBLE, 90)
    raw, tidy, scores = np.ravel(figure.subfigures(3, 1, height_ratios=(1, 1, 1.2)))  # pyright: ignore
    largest = float(np.abs(found.weights).max())
    for part, title, stack in ((raw, "$W_1$ as trained", found.networks.params["W1"]), (tidy, "$PW_1$", found.weights)):
        for k, axes in enumerate(np.ravel(part.subplots(1, shown))):
            matrix = np.asarray(stack[k])
            size = largest if stack is found.weights else np.abs(matrix).max()
            axes.imshow(matrix, cmap=style.SIGNED, vmin=-size / 2, vmax=size / 2, aspect="auto")
            axes.set(xticks=[], yticks=[], title=f"Network {k + 1}" if part is raw else "")
            if k == 0:
                axes.set_ylabel(title)
    axes = scores.subplots()
    for row, score in enumerate(found.scores.values()):
        axes.plot(score.null, np.full(len(score.null), row), "|", color=style.GREY)
        axes.plot(score.score, row, "D", color=style.VERMILION)
    axes.set(yticks=range(len(found.scores)), yticklabels=list(found.scores), xlim=(-0.05, 1.05), ylim=(3.5, -0.5))
    axes.set_xlabel("Mean cosine between pairs of networks, after alignment; grey: chance twins")
    return figure


def main(count: int, steps: int, draws: int, out: str, checkpoint: str | None):
    plan = TrainingPlan(steps=steps)
    found = many_networks(
        jax.random.key(0), count, plan=plan, draws=draws, checkpoint=checkpoint,
        callback=lambda step, loss: print(f"step {step}: mean loss {loss:.5f}") if step % 500 == 0 else None,
    )  # fmt: skip
    found.first.check()
    found.last.check()
    with_style = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in found.seconds.items())
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{count} networks of {steps} steps: {with_style}; at most {memory:.1f} GiB")
    for name, score in found.scores.items():
        print(f"{name}: agreement {score.score:.3f}, by chance {score.null.mean():.3f}, p {score.p_value:.3f}")
    picture(found).savefig(out, dpi=200)
    print(f"Picture: {out}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--out", default="many_networks.png")
    parser.add_argument("--checkpoint", default="many_networks.npz")
    main(**vars(parser.parse_args()))
