"""Eight resonances in quadrature, mixed by an unknown complex matrix: a unitary frame reads them one by one.

Each neuron of a hidden layer holds a mixture of free induction decays `exp(2 pi i f t - t / T)`, as two detectors in
quadrature record them, with noise. Their spectra are sparse, so each row of the frame with the sparsest spectra is one
resonance. A real frame does not know that the two parts of a signal belong together. The script compares three frames:

- unitary: `group="U"` on the complex signals;
- real, parts as samples: an orthogonal matrix of the same size; it cannot undo the phases of the mixture;
- real, parts as features: an orthogonal matrix of twice the size. It can undo the mixture. Its rows come in pairs, and
  nothing says which two rows are one resonance.

Run: python examples/quadrature_signals.py [--noise 0.1] [--seed 0] [--out quadrature-signals.png]
"""

import argparse

import jax
import jax.numpy as jnp

import jaxdescramble as jd
from jaxdescramble.show import style


def decays(key, n: int, times: int):
    """Return free induction decays, one in each row, with frequencies of both signs in cycles per point."""
    keys, t = jax.random.split(key), jnp.arange(times)
    frequency = 0.9 * ((jnp.arange(n) + 0.8 * jax.random.uniform(keys[0], (n,))) / n - 0.5)
    lifetime = jax.random.uniform(keys[1], (n,), minval=30, maxval=60)
    return jnp.exp(2j * jnp.pi * frequency[:, None] * t[None, :] - t[None, :] / lifetime[:, None])


def whitened(signals):
    """Return the matrix that makes signals uncorrelated and of equal power; a unitary mixture is left."""
    left, singular, _ = jnp.linalg.svd(signals, full_matrices=False)
    return jnp.sqrt(signals.shape[1]) * (left / singular[None, :]).conj().T


@style.styled
def picture(spectra, purity):
    figure = style.sheet(style.DOUBLE, 70)
    for ax, letter, (name, rows) in zip(figure.subplots(1, len(spectra)), "abcd", spectra.items(), strict=True):
        rows = jnp.abs(rows)[:, jnp.argsort(jnp.fft.fftfreq(rows.shape[1]))]
        rows = rows[jnp.argsort(jnp.argmax(rows, axis=1))]
        for k, row in enumerate(rows / jnp.max(rows, axis=1, keepdims=True)):
            ax.plot(jnp.linspace(-0.5, 0.5, len(row)), k + 0.9 * row, color=style.BLUE, lw=0.7)
        ax.set_yticks([])
        style.panel(ax, letter, f"{name}\npurity {purity[name]:.2f}", "Frequency", "Row" if letter == "a" else "")
    return figure


def main(n: int, times: int, noise: float, seed: int, out: str):
    keys = jax.random.split(jax.random.key(seed), 3)
    pure = decays(keys[0], n, times)
    parts = jax.random.normal(keys[1], (2, n, n))
    mixture = jax.lax.complex(parts[0], parts[1])
    parts = jax.random.normal(keys[2], (2, n, times)) * jnp.sqrt(n / 2)
    spectra = jnp.fft.fft(mixture @ pure + noise * jax.lax.complex(parts[0], parts[1]), norm="ortho")
    white = whitened(spectra)
    S = white @ spectra
    sparse = jd.objectives.sparsity()

    unitary = jd.descramble(S, sparse, group="U").check().point
    as_samples = jd.descramble(jnp.concatenate([S.real, S.imag], axis=1), sparse).check().point
    as_features = jd.descramble(jnp.concatenate([S.real, S.imag]), sparse).check().point
    frames = {
        "mixed": jnp.linalg.inv(white),
        "unitary": unitary,
        "real, parts as samples": as_samples,
        # A row (a, b) of this frame reads the real part of (a - i b) S.
        "real, parts as features": as_features[:, :n] - 1j * as_features[:, n:],
    }
    strength = jnp.sum(jnp.abs(pure) ** 2, axis=1)
    purity = {}
    for name, frame in frames.items():
        energy = jnp.abs(frame @ white @ mixture) ** 2 * strength[None, :]
        purity[name] = float(jnp.mean(jnp.max(energy, axis=1) / jnp.sum(energy, axis=1)))
        print(f"{name}: {len(frame)} rows, the strongest resonance has {purity[name]:.3f} of a row's energy")
    picture({name: frame @ S for name, frame in frames.items()}, purity).savefig(out, dpi=200)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=8)
    parser.add_argument("--times", type=int, default=256)
    parser.add_argument("--noise", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="quadrature-signals.png")
    main(**vars(parser.parse_args()))
