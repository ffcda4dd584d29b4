"""Would a random matrix look the same? Descramble layers that learned nothing.

Two hundred Gaussian layers are descrambled on white inputs. The picture looks like a filter. The waves have the norms
that Marchenko and Pastur predict, and every reading has its predicted distribution.

Run: python examples/isotropic_null.py [--draws 200] [--samples 2000] [--out isotropic-null.png]
"""

import argparse
from pathlib import Path

import jax
import numpy as np
from scipy import stats

import jaxdescramble as jd
from jaxdescramble.show import style
from jaxdescramble.studies.isotropic import IsotropicNull, isotropic_null

SHOWN = ("band edge", "notch, all link frequencies", "frequency concentration")


@style.styled
def picture(found: IsotropicNull):
    figure = style.sheet(style.DOUBLE, 110)
    above, below = figure.subfigures(2, 1, height_ratios=[1.15, 1])  # pyright: ignore[reportGeneralTypeIssues]
    raw, tidy, waves = above.subplots(1, 3)
    n, k = found.weight.shape
    limit = float(abs(found.readable).max()) / 2
    for ax, letter, title, weight in (
        (raw, "a", "$W$, random", found.weight),
        (tidy, "b", "$PW$: no filter, chance", found.readable),
    ):
        ax.imshow(weight, cmap=style.SIGNED, vmin=-limit, vmax=limit, aspect="auto", origin="lower")
        style.panel(ax, letter, title, "Input", "Output")
    order, low, high = np.arange(1, n + 1), *np.quantile(found.waves, (0.05, 0.95), axis=0)
    waves.fill_between(order, low, high, color=style.SKY, alpha=0.5, lw=0, label="descrambled, 90% of draws")
    waves.plot(order, np.mean(found.limit, axis=0), color=style.VERMILION, label="of samples without end")
    waves.plot(order[: min(n, k)], jd.exact.marchenko_pastur(n, k), "k:", label="Marchenko and Pastur")
    waves.legend()
    waves.set(xlim=(1, n), ylim=(0, None))
    style.panel(waves, "c", "Norm of each wave of $PW$", "Wave, slowest first", "Norm")
    for ax, letter, name in zip(below.subplots(1, len(SHOWN)), "def", SHOWN, strict=True):
        bins = np.histogram_bin_edges(np.concatenate([found.readings[name], found.forms[name]]), 24)
        ax.hist(found.readings[name], bins, density=True, color=style.SKY, label="descrambled")
        ax.hist(
            found.forms[name], bins, density=True, histtype="step", color=style.VERMILION, label="drawn from the form"
        )
        mean, spread = found.predicted[name]
        if np.isfinite(spread):
            x = np.linspace(bins[0], bins[-1], 200)
            ax.plot(x, stats.norm.pdf(x, mean, spread), "k:", label="predicted")
        else:
            ax.axvline(mean, color="k", ls=":", label="predicted mean")
        ax.set_yticks([])
        style.panel(ax, letter, name.capitalize(), next(m.unit for m in jd.findings.FIRST_LAYER if m.name == name))
    below.axes[0].legend()
    return figure


def main(outputs: int, inputs: int, draws: int, samples: int, out: str, table: str | None):
    found = isotropic_null(jax.random.key(0), outputs, inputs, draws=draws, samples=samples)
    print(f"{draws} random layers of {outputs} x {inputs}, {samples} white inputs each; mean +- standard deviation\n")
    print(found.markdown())
    off = np.mean(found.limit, axis=0)[: min(outputs, inputs)] / jd.exact.marchenko_pastur(outputs, inputs) - 1
    print(f"Norms of waves against Marchenko and Pastur: off by {np.sqrt(np.mean(off**2)):.1%} (root mean square)")
    if table:
        head = f"{draws} random layers of {outputs} x {inputs}, {samples} white inputs each: mean +- standard deviation"
        Path(table).write_text(f"# Readings of layers that learned nothing\n\n{head}\n\n{found.markdown()}")
    picture(found).savefig(out, dpi=200)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--outputs", type=int, default=80)
    parser.add_argument("--inputs", type=int, default=256)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--out", default="isotropic-null.png")
    parser.add_argument("--table", help="path of a Markdown file for the table")
    main(**vars(parser.parse_args()))
