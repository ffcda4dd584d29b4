"""Recompute every number of one explanation in plain NumPy, without a line of this package.

Run: python benchmarks/recompute_explanation.py [--out benchmarks/results/recompute_explanation.md]

A child process calls `jd.explain` on two layers (given as arrays) and writes `report.json` and `arrays.npz`. This
program imports NumPy and, for the random numbers only, JAX. It repeats the split, the frames of the halves, all
readings of the network and of every draw from both nulls, their means, the joint p-values and the headline's count, in
float64, and compares.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np

DRAWS = 99
CHILD = """
import sys
import numpy as np
import jaxdescramble as jd
with np.load(sys.argv[1]) as file:
    layers = {name: (file[name + ".weight"], file[name + ".input"]) for name in ("first", "last")}
jd.explain(layers, out=sys.argv[2], draws=int(sys.argv[3]))
"""


def network(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Write and return two layers: slow filters in noise, and noise."""
    rng = np.random.default_rng(7)
    waves = np.cos(np.outer(np.arange(1, 5), np.pi * (np.arange(20) + 0.5) / 20))
    hidden = np.linalg.qr(rng.standard_normal((14, 14)))[0][:, :4] @ waves
    first = hidden + 0.4 * rng.standard_normal((14, 20))
    x = np.cumsum(rng.standard_normal((90, 20)), axis=1).T / 4
    last = rng.standard_normal((9, 14))
    layers = {"first": (first, x), "last": (last, np.tanh(first @ x))}
    layers = {name: (W.astype("float32"), X.astype("float32")) for name, (W, X) in layers.items()}
    parts = {f"{name}.weight": W for name, (W, _) in layers.items()}
    np.savez(folder / "layers.npz", **parts, **{f"{name}.input": X for name, (_, X) in layers.items()})
    return layers


def split(count: int, seed: list[int]) -> np.ndarray:
    """Return the half of each sample."""
    side, total = np.zeros(count, int), [0, 0]
    for sample in np.random.default_rng(seed).permutation(count):
        side[sample] = int(total[1] < total[0])
        total[side[sample]] += 1
    return side


class Line:
    """The modes of an ordered axis: cosines, with the first derivative as roughness."""

    def __init__(self, n: int):
        self.theta = np.pi * np.arange(n) / n
        self.basis = np.sqrt(2 / n) * np.cos(np.outer(self.theta, np.arange(n) + 0.5))
        self.basis[0] /= np.sqrt(2)
        self.rough, self.frequency = self.theta**2 / self.theta[-1] ** 2, self.theta / self.theta[-1]
        self.run = np.arange(n)


class Circle:
    """The modes of an axis that descrambling orders: waves, with the second derivative as roughness."""

    def __init__(self, n: int):
        theta = 2 * np.pi * ((np.arange(n) + 1) // 2) / n
        self.basis = np.zeros((0, n))  # the frames of the signals take its place
        self.rough, self.frequency = theta**4 / theta[-1] ** 4, theta / theta[-1]
        self.run = (np.arange(n) + 1) // 2


def frame(signals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    energies, directions = np.linalg.eigh(signals @ signals.T)
    return directions[:, ::-1], energies[::-1]


def sums(values: np.ndarray, runs: np.ndarray) -> np.ndarray:
    return np.stack([values[runs == k].sum(axis=0) for k in range(runs[-1] + 1)])


def entropy(values: np.ndarray) -> float:
    share = values / values.sum()
    return float(-np.sum(share[share > 0] * np.log(share[share > 0])) / np.log(len(values)))


def bins(axis) -> np.ndarray:
    last = int(axis.run[-1])
    return np.minimum(axis.run * min(16, last + 1) // (last + 1), 15)


def edge(energies: np.ndarray, frequencies: np.ndarray) -> float:
    """Return the frequency below which 95% of the energy lies; between two modes, in proportion."""
    return float(np.interp(0.95, np.cumsum(energies) / energies.sum(), frequencies))


def readings(W: np.ndarray, halves: list[np.ndarray], first: bool) -> dict[str, float]:
    """Return every reading of one layer, averaged over the two ways to use the halves."""
    n, m = W.shape
    output, into = (Circle(n), Line(m)) if first else (Line(n), Circle(m))
    signals = [W @ X for X in halves]
    singular = np.linalg.svd(W, compute_uv=False)
    total: dict[str, float] = {}
    for fit, other in ((0, 1), (1, 0)):
        found: dict[str, float] = {}
        if first:
            (U, energies), (V, spectrum) = frame(signals[fit]), frame(signals[other])
            rows, modes = V.T @ W, V.T @ W @ into.basis.T
            held = np.sum((U.T @ signals[other]) ** 2, axis=1)
            found["roughness of signals"] = output.rough @ held / held.sum()
            same = output.run[:, None] == output.run[None, :]
            found["agreement of halves"] = energies @ np.sum((U.T @ V) ** 2 * same, axis=1) / energies.sum()
        else:
            (U, energies), (V, _) = frame(halves[fit]), frame(halves[other])
            spectrum = np.linalg.svd(signals[other], compute_uv=False) ** 2
            rows = output.basis @ W
            modes = rows @ V
            held = np.sum((U.T @ halves[other]) ** 2, axis=1)
            found["roughness of input signals"] = into.rough @ held / held.sum()
            same = into.run[:, None] == into.run[None, :]
            found["agreement of halves at the inputs"] = (
                energies @ np.sum((U.T @ V) ** 2 * same, axis=1) / energies.sum()
            )
        energy = modes**2
        down, across = energy.sum(axis=1), energy.sum(axis=0)
        if first:
            found["roughness along outputs"] = output.rough @ down / down.sum()
            found["entropy along outputs"] = entropy(sums(down, output.run))
            found["band edge of inputs"] = edge(across, into.frequency)
        else:
            found["roughness along ordered outputs"] = output.rough @ down / down.sum()
            found["band edge of outputs"] = edge(down, output.frequency)
        found["roughness along inputs"] = into.rough @ across / across.sum()
        found["entropy along inputs"] = entropy(sums(across, into.run))
        profiles = sums(rows**2, output.run)
        own = profiles.sum(axis=1)
        found["sparsity of waves"] = own @ (own**2 / np.sum(profiles**2, axis=1)) / own.sum() / m
        if first:
            place, share = np.arange(m), profiles / own[:, None]
            found["locality of waves"] = own @ (share @ place**2 - (share @ place) ** 2) / own.sum() / place.var()
        joint = sums(sums(energy, bins(output)).T, bins(into)).T
        joint = joint / joint.sum()
        product = joint.sum(axis=1)[:, None] * joint.sum(axis=0)[None, :]
        found["frequency concentration"] = np.sum(joint * np.log(joint / product)) / np.log(min(joint.shape))
        found["effective rank of weights"] = np.sum(singular**2) ** 2 / np.sum(singular**4)
        noise = np.sqrt(np.sum(singular**2) / (n * m)) * (np.sqrt(n) + np.sqrt(m))
        found["largest singular value"] = singular[0] / noise
        found["effective rank of signals"] = spectrum.sum() ** 2 / np.sum(spectrum**2)
        for name, value in found.items():
            total[name] = total.get(name, 0.0) + float(value) / 2
    return total


def haar(key, n: int, k: int) -> np.ndarray:
    Q, R = np.linalg.qr(np.asarray(jax.random.normal(key, (n, k), "float32"), np.float64))
    return Q * np.where(np.diagonal(R) < 0, -1, 1)


def drawn(null: str, key, W: np.ndarray) -> np.ndarray:
    """Return one draw from a null."""
    if null == "permuted entries":
        seed = np.asarray(jax.random.key_data(key)).tolist()
        return np.random.default_rng(seed).permutation(W.reshape(-1)).reshape(W.shape)
    left, right = jax.random.split(key)
    singular = np.linalg.svd(W, compute_uv=False)
    return (haar(left, W.shape[0], len(singular)) * singular) @ haar(right, W.shape[1], len(singular)).T


def p_values(observed: np.ndarray, draws: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Return step-down p-values of Westfall and Young, reading by reading."""
    pool = np.concatenate([observed[None], draws])
    moves = pool.std(axis=0) > 1e-5 * np.abs(pool).max(axis=0)
    scores = directions * (pool - pool.mean(axis=0)) / np.where(moves, pool.std(axis=0), 1)
    order = [k for k in np.argsort(-scores[0], kind="stable") if moves[k]]
    p, so_far = np.full(len(observed), np.nan), 0.0
    for rank, k in enumerate(order):
        beaten_by = sum(row[order[rank:]].max() >= scores[0, k] - 1e-9 for row in scores[1:])
        so_far = max(so_far, (1 + beaten_by) / len(pool))
        p[k] = so_far
    return p


def main(out: Path):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        layers = network(folder)
        arguments = [str(folder / "layers.npz"), str(folder / "report"), str(DRAWS)]
        subprocess.run([sys.executable, "-c", CHILD, *arguments], check=True)
        about = json.loads((folder / "report" / "report.json").read_text())
        with np.load(folder / "report" / "arrays.npz") as file:
            arrays = {name: file[name] for name in file.files}
    exact = {name: (W.astype(float), X.astype(float)) for name, (W, X) in layers.items()}
    key = jax.random.key(0)
    side = split(90, np.asarray(jax.random.key_data(key)).ravel().tolist())
    halves = {
        name: [X[:, side == half] / np.sqrt((side == half).sum()) for half in (0, 1)] for name, (_, X) in exact.items()
    }
    observed = {name: readings(W, halves[name], name == "first") for name, (W, _) in exact.items()}
    verdicts = {(one["layer"], one["reading"]): one for one in about["verdicts"]}
    worst = {"value": 0.0, "draw": 0.0, "mean of a null": 0.0, "p-value": 0.0}
    names = [(layer["name"], reading) for layer in about["layers"] for reading in layer["readings"]]
    for layer, reading in names:
        mine, theirs = observed[layer][reading], verdicts[layer, reading]["value"]
        worst["value"] = max(worst["value"], abs(mine - theirs) / max(abs(mine), 1e-9))
    counted = 0
    together: dict[tuple[str, str], list[float]] = {name: [] for name in names}
    for place, null in enumerate(about["nulls"]):
        table = np.zeros((DRAWS, len(names)))
        for draw in range(DRAWS):
            own = jax.random.fold_in(jax.random.fold_in(key, place + 1), draw)
            of_layers = {
                name: readings(drawn(null, jax.random.fold_in(own, k), W), halves[name], name == "first")
                for k, (name, (W, _)) in enumerate(exact.items())
            }
            table[draw] = [of_layers[layer][reading] for layer, reading in names]
        kept = np.concatenate([arrays[f"{k}/draws/{null}"] for k in range(len(exact))], axis=1)
        sizes = np.maximum(np.abs(table).max(axis=0), 1e-9)
        worst["draw"] = max(worst["draw"], float((np.abs(table - kept) / sizes).max()))
        directions = np.asarray([verdicts[name]["direction"] for name in names])
        p = p_values(np.asarray([observed[layer][reading] for layer, reading in names]), table, directions)
        for k, name in enumerate(names):
            counted += DRAWS + 2
            mean = verdicts[name]["nulls"][null][0]
            worst["mean of a null"] = max(worst["mean of a null"], abs(table[:, k].mean() - mean) / sizes[k])
            theirs = verdicts[name]["p_values"][null]
            theirs = np.nan if theirs is None else theirs
            if np.isnan(p[k]) != np.isnan(theirs):
                raise SystemExit(f"{name}, {null}: judged here {not np.isnan(p[k])}, there {not np.isnan(theirs)}")
            worst["p-value"] = max(worst["p-value"], 0.0 if np.isnan(theirs) else abs(p[k] - theirs))
            together[name].append(p[k])
    findings = sum(np.nanmax(p) <= about["alpha"] for p in together.values() if not np.isnan(p).all())
    lines = [
        "# One explanation, recomputed in plain NumPy",
        "",
        f"`python benchmarks/recompute_explanation.py`: {len(names)} readings of 2 layers, {DRAWS} draws of 2 nulls; "
        f"{counted + len(names)} numbers. The package computes in float32, this program in float64.",
        "",
        "| what | largest difference |",
        "|---|---|",
        *(f"| {name} ({'absolute' if name == 'p-value' else 'relative'}) | {gap:.1e} |" for name, gap in worst.items()),
        "",
        f'Headline: "{about["headline"]}" Findings here: {findings}.',
    ]
    out.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "recompute_explanation.md")
    main(parser.parse_args().out)
