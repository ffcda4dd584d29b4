"""Train a network to be a band-pass filter, and show the filter by the maximum diagonal sum of its hidden layer.

The network gets white noise of 1024 points at 1024 Hz and returns the part between two frequencies. P is the closed
form of the maximum diagonal sum of P W_1. It is computed without the second layer, which is read as W_2 P^T.

Run: python examples/bandpass.py [--points 1024] [--steps 400] [--out bandpass.png]
"""

import argparse

import jax
import numpy as np

import jaxdescramble as jd
from jaxdescramble.datasets.bandpass import Band
from jaxdescramble.show import style
from jaxdescramble.studies import bandpass

READINGS = (
    "passband share",
    "diagonal share of P W1",
    "likeness of P W1",
    "diagonal share of W2 P^T",
    "likeness of W2 P^T",
)


@style.styled
def picture(nets: dict[str, bandpass.TrainedBandNet]):
    figure = style.sheet(style.DOUBLE, 4 + 56 * len(nets))
    panels = figure.subplots(len(nets), 3, squeeze=False)
    letters = iter("abcdef")
    for row, (name, net) in zip(panels, nets.items(), strict=True):
        first, second = net.params["W1"], net.params["W2"]
        point = jd.exact.diagonal_sum(first).point
        for ax, title, weight in (
            (row[0], f"$|F_+W_1F_-|^2$, {name}", first),
            (row[1], "$|F_+P\\,W_1F_-|^2$", point @ first),
            (row[2], "$|F_+W_2P^TF_-|^2$", second @ point.T),
        ):
            edge = int(min(1.5 * net.plan.band.high * net.plan.band.points / net.plan.band.rate, len(first) // 2))
            energy = np.asarray(jd.findings.fourier_energy(weight))[: edge + 1, : edge + 1]
            style.image(ax, energy, (0, edge, 0, edge), label="Energy", decades=4)
            style.panel(ax, next(letters), title, "Frequency (cycles per record)", "Frequency (cycles per record)")
    return figure


def main(points: int, steps: int, out: str):
    nets = {}
    for low, high in ((10.0, 50.0), (100.0, 200.0)):
        # A shorter record has fewer frequencies, so the band is scaled with the record.
        band = Band(low * points / 1024, high * points / 1024, points, float(points))
        plan = bandpass.BandPlan(band, steps=steps)
        name = f"{band.low:g} to {band.high:g} Hz"
        net = nets[name] = bandpass.train(jax.random.key(0), plan)
        print(f"{name}: {band.rank} of {points} dimensions pass; loss {net.losses[-1]:.3f} of 1 at the start")
        trained, untrained = (
            bandpass.read(params, band, jax.random.key(1)) for params in (net.params, net.initial_params)
        )
        print(f"  {'':26s} {'raw':>11s} {'random P':>11s} {'descrambled':>11s} {'untrained, descrambled':>23s}")
        for reading in READINGS:
            cells = [trained[frame][reading] for frame in ("raw", "random", "descrambled")]
            print(f"  {reading:26s} " + " ".join(f"{x:11.3f}" for x in cells), end="")
            print(f" {untrained['descrambled'][reading]:23.3f}")
    style.save(picture(nets), out, "png")
    print(f"the Fourier maps are in {out}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--out", default="bandpass.png")
    main(**vars(parser.parse_args()))
