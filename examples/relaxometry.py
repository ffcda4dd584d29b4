"""Do the singular vectors of a parameter-estimation network show its signal model?

Networks estimate the two time constants of a noisy biexponential decay. Their input is the decay and a smoothed copy
("joined", "fitted"), or the decay twice ("duplicated"). The script fits biexponentials to the first three right
singular vectors of their first layers, and compares with nulls and with polynomials of as many parameters.

Run: python examples/relaxometry.py [--steps 6000] [--seeds 4] [--out relaxometry.png] [--table relaxometry.md]
"""

import argparse
import os
import platform
import time
from pathlib import Path

import jax

from jaxdescramble.show import style
from jaxdescramble.studies.relaxometry import network as relaxometry
from jaxdescramble.studies.relaxometry.biexponential import VECTORS, fit_biexponential


@style.styled
def picture(report: relaxometry.RelaxometryReport, kinds: tuple[str, ...] = ("joined", "duplicated")):
    plan = report.nets.plan
    figure = style.sheet(style.DOUBLE, 8 + 32 * len(plan.snrs))
    panels = figure.subplots(len(plan.snrs), VECTORS * len(kinds), sharex=True, squeeze=False)
    for i, snr in enumerate(plan.snrs):
        for j, kind in enumerate(kinds):
            for k in range(VECTORS):
                ax = panels[i, VECTORS * j + k]
                halves = report.vectors[0, i, plan.inputs.index(kind), k]
                found = fit_biexponential(halves, plan.priors.time)
                for number, (vector, fitted) in enumerate(zip(halves, found.fitted, strict=True)):
                    where = plan.priors.time / 1000 + number * 1.1 * plan.priors.t_max / 1000
                    ax.plot(where, vector, ".", color=style.SKY, markersize=1.5)
                    ax.plot(where, fitted, color=style.VERMILION)
                ax.set_title(f"{kind}, $v_{k + 1}$\n$R^2$ {found.r2[0]:.2f}, {found.r2[1]:.2f}", loc="left")
                ax.set_yticks([0], ["0"])
        panels[i, 0].set_ylabel(f"SNR {snr:g}")
    for ax in panels[-1]:
        ax.set_xlabel("Time (s), both halves")
    return figure


def main(steps: int, seeds: int, out: str, table: str | None):
    started = time.perf_counter()
    plan = relaxometry.RelaxometryPlan(steps=steps)
    report = relaxometry.experiment(jax.random.split(jax.random.key(0), seeds), plan)
    seconds, processor = time.perf_counter() - started, time.process_time()

    columns = {
        "biexponential": report.mean("trained"),
        "quartic": report.mean("trained", "quartic"),
        "signal model": report.mean("trained", "signal model"),
        "random frame": report.mean("random frame"),
        "shuffled": report.mean("shuffled"),
        "inputs": report.mean("inputs"),
        "inputs, model": report.mean("inputs", "signal model"),
    }
    print("Mean R^2 of fits to three right singular vectors of the first layer, and the error in ms:")
    print(f"{'SNR':>6s} {'input':10s} " + " ".join(f"{name:>13s}" for name in columns) + "     T1     T2")
    for i, snr in enumerate(plan.snrs):
        for j, kind in enumerate(plan.inputs):
            cells = " ".join(f"{r2[i, j].mean():13.3f}" for r2 in columns.values())
            errors = report.errors[:, i, j].mean(axis=0)
            print(f"{snr:6g} {kind:10s} {cells} {errors[0]:6.1f} {errors[1]:6.1f}")
        print(f"{snr:6g} {'no estimator can do better than':>109s} {report.floor[i, 0]:6.1f} {report.floor[i, 1]:6.1f}")

    style.save(picture(report), out, "png")
    print(f"the singular vectors and their fits are in {out}")
    if table is not None:
        machine = f"{platform.machine()}, one core of {os.cpu_count()}, {jax.default_backend()}, jax {jax.__version__}"
        command = f"`python examples/relaxometry.py --steps {steps} --seeds {seeds} --table ...`"
        Path(table).write_text(
            report.markdown(f"{command}; {machine}; {processor:.0f} s of processor time, {seconds:.0f} s by the clock")
        )
        print(f"the table is in {table}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--out", default="relaxometry.png")
    parser.add_argument("--table")
    main(**vars(parser.parse_args()))
