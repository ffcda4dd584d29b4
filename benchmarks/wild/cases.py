"""The 24 cases. They were fixed before any solver was tuned on them: `TUNE` may be looked at, `END` only at the end.

Run: python -m benchmarks.wild.cases --data FOLDER

It prints the size of each case, and the objective's value at P = 1. FOLDER holds `wild_activations.npz` (activations of
ordinary layers, features x samples) and `deervet_64_512_a.npz` (a published DEERNet). Neither is shipped.
"""

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import jaxdescramble as jd
from jaxdescramble.objectives import (
    entropy,
    locality,
    monotonicity,
    smoothness,
    sparsity,
    spectral_entropy,
    total_variation,
    weighted,
)
from jaxdescramble.studies.published import deernet_six

OBJECTIVES: dict[str, Callable[[int], jd.Objective]] = {
    "total variation": lambda n: total_variation(),
    "total variation, grid": lambda n: total_variation(shape=grid(n)),
    "l1": lambda n: sparsity("l1"),
    "log-cosh": lambda n: sparsity("logcosh"),
    "locality": lambda n: locality(),
    "entropy": lambda n: entropy(),
    "spectral entropy": lambda n: spectral_entropy(),
    "monotonicity": lambda n: monotonicity(),
    "smoothness and l1": lambda n: weighted((0.5, smoothness()), (0.5, sparsity("l1"))),
}


def grid(n: int) -> tuple[int, int]:
    """Return the sides of the most square grid of n points.

    >>> grid(120), grid(128)
    ((10, 12), (8, 16))
    """
    side = next(one for one in range(int(n**0.5), 0, -1) if n % one == 0)
    return side, n // side


@dataclasses.dataclass(frozen=True)
class Case:
    """Signals and an objective.

    Attributes:
        signals: name of an array of `wild_activations.npz`, or "deernet k" for the outputs of layer k of a DEERNet.
        objective: one of `OBJECTIVES`.
    """

    signals: str
    objective: str

    @property
    def name(self) -> str:
        """Return the name in the tables."""
        return f"{self.signals}, {self.objective}"


def _cases(*given: tuple[str, str]) -> tuple[Case, ...]:
    return tuple(Case(*one) for one in given)


TUNE = _cases(
    ("digits_relu_128", "total variation"),
    ("digits_relu_128", "l1"),
    ("digits_relu_64_last", "total variation"),
    ("digits_relu_64_last", "l1"),
    ("digits_relu_64_last", "locality"),
    ("random_relu_128", "total variation"),
    ("random_relu_128", "log-cosh"),
    ("crepe_conv6", "total variation"),
    ("crepe_conv6", "spectral entropy"),
    ("minilm_v1_head3", "entropy"),
    ("minilm_v1_head3", "l1"),
    ("digits_tanh_128", "total variation, grid"),
    ("minilm_mlp2_first256", "l1"),
    ("crepe_last_input", "total variation"),
    ("deernet 2", "monotonicity"),
    ("digits_tanh_128", "smoothness and l1"),
)
END = _cases(
    ("digits_relu_128_preactivation", "total variation"),
    ("crepe_conv1_preactivation", "log-cosh"),
    ("crepe_conv1_preactivation", "spectral entropy"),
    ("minilm_q1", "total variation"),
    ("minilm_residual3", "l1"),
    ("minilm_mlp2_first256", "locality"),
    ("random_relu_128", "total variation, grid"),
    ("deernet 4", "entropy"),
)


def signals_of(case: Case, data: Path) -> np.ndarray:
    """Return the signals of a case in float64: (features, samples)."""
    if not case.signals.startswith("deernet"):
        with np.load(data / "wild_activations.npz") as file:
            return np.asarray(file[case.signals], np.float64)
    f, params = deernet_six.load(data / "deervet_64_512_a.npz")
    traces = deernet_six.inputs(jax.random.key(0), 500)
    _, taps = jd.wiretap(f)(params, traces.inputs)
    tap = list(taps.values())[int(case.signals.split()[1])]
    return np.asarray(tap.input, np.float64)  # what the next layer reads


def main(data: Path) -> None:
    for title, cases in (("to tune on", TUNE), ("for the end", END)):
        print(f"{len(cases)} cases {title}")
        for case in cases:
            signals = jnp.asarray(signals_of(case, data))
            objective = OBJECTIVES[case.objective](len(signals))
            value = objective(jnp.eye(len(signals)), objective.summarise(signals))
            print(f"  {case.name:55} {signals.shape[0]:4} x {signals.shape[1]:5}   {float(value):.4f}")


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    main(parser.parse_args().data)
