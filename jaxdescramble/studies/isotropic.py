"""How much of a descrambled picture is chance? Readings of random layers on white inputs, predicted and measured.

Descrambling puts the largest components of any matrix on the slowest waves. So the picture of a layer that learned
nothing can be predicted, and so can each of its readings.
"""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from scipy import special, stats

from jaxdescramble._base import decompositions
from jaxdescramble._base.checks import positive_integer
from jaxdescramble._base.products import matmul
from jaxdescramble.descrambling import descramble
from jaxdescramble.exact import isotropic_form, isotropic_moments
from jaxdescramble.findings import FIRST_LAYER, measure
from jaxdescramble.objectives import smoothness
from jaxdescramble.operators import derivative

Moment = tuple[float, float]


@dataclass(frozen=True, eq=False)
class IsotropicNull:
    """Measured readings of random layers, beside the theory's predictions.

    Attributes:
        weight: one random layer as drawn, shape (outputs, inputs).
        readable: the same layer, descrambled.
        waves: norms of the waves of `P W`, descrambled from samples, shape (draws, outputs).
        limit: the same norms in the limit of infinitely many samples.
        readings: by name, the reading of every descrambled layer, shape (draws,).
        forms: by name, the reading of every draw of `exact.isotropic_form`. These draws need no descrambling.
        predicted: by name, the predicted mean and standard deviation. The standard deviation is NaN if it is unknown.
        p_values: by name, the p-value of a Kolmogorov-Smirnov test of `readings` against `forms`.
    """

    weight: Float[Array, "n k"]
    readable: Float[Array, "n k"]
    waves: Float[Array, "draws n"]
    limit: Float[Array, "draws n"]
    readings: dict[str, np.ndarray]
    forms: dict[str, np.ndarray]
    predicted: dict[str, Moment]
    p_values: dict[str, float]

    def markdown(self) -> str:
        """Return the readings as a Markdown table."""
        lines = [
            "| reading | predicted | drawn from the form | descrambled from samples | KS p |",
            "|---|---|---|---|---|",
        ]
        for name, read in self.readings.items():
            told = self.predicted.get(name)
            cells = [_cell(told) if told else "", *(_cell((x.mean(), x.std(ddof=1))) for x in (self.forms[name], read))]
            lines.append(f"| {name} | {' | '.join(cells)} | {self.p_values[name]:.2f} |")
        return "\n".join(lines) + "\n"


def isotropic_null(
    key: PRNGKeyArray, outputs: int = 80, inputs: int = 256, *, draws: int = 200, samples: int = 2000
) -> IsotropicNull:
    """Draw random layers, descramble them on white inputs, read them, and compare the readings with the theory.

    Each layer is Gaussian and has its own samples. The same P is used for both halves of the readings, because the
    question is only whether two ways to draw agree.

    Args:
        key: random key; it decides layers and samples.
        outputs, inputs: shape of a layer.
        draws: number of random layers, at least 2.
        samples: number of white inputs for each layer.

    Returns:
        An `IsotropicNull`.

    Raises:
        ValueError: if `draws` is below 2; if a size is not positive; if `measure` rejects a small matrix.
        FloatingPointError: if a descrambling failed.

    >>> found = isotropic_null(jax.random.key(0), 8, 16, draws=3, samples=50)
    >>> found.waves.shape, round(found.predicted["band edge"][0], 3)  # 95% of the band
    ((3, 8), 7.6)

    Source: Sule, Spencer, Czaja 2025 (arXiv 2301.07820), isotropic hidden data.
    """
    if positive_integer(draws, "draws") < 2:
        raise ValueError(f"draws: got {draws}; must be at least 2.")
    keys = [jax.random.split(k, draws) for k in jax.random.split(key, 3)]
    W = jax.vmap(lambda k: jax.random.normal(k, (outputs, inputs)) / inputs**0.5)(keys[0])
    said = jax.vmap(lambda k, w: matmul(w, jax.random.normal(k, (inputs, samples), w.dtype)))(keys[1], W)
    objective, operator = smoothness(), derivative(outputs)
    endless, found = descramble([W, said], objective)  # W itself is the limit of infinitely many white inputs
    tidy, ideal = (matmul(one.check().point, W) for one in (found, endless))
    of_all = jax.jit(jax.vmap(functools.partial(measure, FIRST_LAYER)))
    singular = jax.vmap(decompositions.singular_values)(W)
    drawn = jax.vmap(lambda k, s: isotropic_form(k, s, inputs, operator))(keys[2], singular)
    readings, forms = (
        {name: np.asarray(values, np.float64) for name, values in of_all(stack, stack).items()}
        for stack in (tidy, drawn)
    )
    waves, limit = (jnp.linalg.norm(jax.vmap(operator.analyse)(stack), axis=2) for stack in (tidy, ideal))
    p_values = {name: float(np.asarray(stats.ks_2samp(readings[name], forms[name]))[1]) for name in readings}
    predicted = expected_readings(jnp.sqrt(jnp.mean(singular**2, axis=0)), outputs, inputs)
    return IsotropicNull(W[0], tidy[0], waves, limit, readings, forms, predicted, p_values)


def expected_readings(singular: Float[Array, " r"], outputs: int, inputs: int) -> dict[str, Moment]:
    """Predict mean and standard deviation of readings of the isotropic form; NaN for an unknown standard deviation.

    Band edges and notches are ratios of energies `tr(A W^T W)`; the prediction is to first order in their fluctuations.
    The order along the ridge is random. Frequency concentration: the energies of w waves at i input modes follow a
    Dirichlet distribution of weight h = w i / 2. Its entropy contributes `digamma(h + 1) - log h` to the mutual
    information, minus the same term for all inputs, minus the part of the marginal distribution.

    Args:
        singular: singular values of W, in descending order.
        outputs, inputs: shape of a layer.

    Returns:
        A dictionary from the name of a reading to (mean, standard deviation).

    >>> round(expected_readings(jnp.ones(8), 8, 16)["notch, all link frequencies"][1], 3)
    0.372
    """
    gram, rest = (jnp.diag(jnp.pad(s**2, (0, inputs - len(s)))) for s in (singular, singular[1:]))
    trace = float(jnp.trace(gram))
    # Modes of one axis in the order of `transforms.analyse`: frequency 0, two modes per frequency, then Nyquist's.
    frequency = (np.arange(inputs) + 1) // 2
    neighbours = (frequency > 0) & (frequency <= min(3, max((inputs - 1) // 2, 1)))

    def spread(of: Array, form: np.ndarray) -> float:
        return float(isotropic_moments(of, jnp.diag(jnp.asarray(form, of.dtype))).spread)

    told = {}
    for name, fraction in (("band edge", 0.95), ("band edge, 99%", 0.99)):
        edge = fraction * inputs / 2
        below = np.clip(edge - frequency + 0.5, 0, 1)
        told[name] = edge, spread(gram, below) / trace * inputs / 2
    contrast = (frequency == 0) - neighbours / max(neighbours.sum(), 1)
    for name, of in (("notch, all link frequencies", gram), ("notch, link frequency 0 left out", rest)):
        told[name] = 1.0, spread(of, contrast) / max(float(jnp.trace(of)) / inputs, 1e-30)
    told["ridge monotonicity"] = 0.0, np.nan
    bins = (outputs // 2 + 1, inputs // 2 + 1)
    of_link, of_input = ((np.arange(size) + 1) // 2 for size in (len(singular), inputs))
    shape = np.outer(np.bincount(of_link), np.bincount(of_input)) / 2
    energy = np.bincount(of_link, np.asarray(singular**2))[:, None] * np.bincount(of_input) / (trace * inputs)
    whole = shape.sum(axis=1, keepdims=True)
    logs = special.digamma(shape + 1) - special.digamma(whole + 1) - np.log(shape / whole)
    apart = float(np.sum(energy * logs))
    marginal = spread(gram, frequency == 1) / (2 * trace / inputs)
    told["frequency concentration"] = (apart - marginal**2 / 2) / np.log(max(min(bins), 2)), np.nan
    return told


def _cell(moment: tuple) -> str:
    mean, spread = moment
    return f"{mean:.3g}" if not np.isfinite(spread) else f"{mean:.3g} +- {spread:.2g}"
