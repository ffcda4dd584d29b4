"""Compare `jd.match` with coordinate descent that uses SciPy's assignment, as Git Re-Basin does.

Run: python -m benchmarks.matching [--width 512] [--pairs 5] [--repeats 5] [--out benchmarks/results/matching.md]

Both get the same pairs of networks, and all arrays are 32-bit. The rival takes the streams in random order until no
order changes. It knows only orders, so the networks have gelu: their groups have no scales or signs. The axes that it
permutes are those of `jd.symmetries`. Ours is called three ways: `jd.match` as users call it, which derives the
symmetries again in each call; the descent alone; and 16 starts at once, against 16 runs of the rival.
"""

import argparse
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.optimize
from sklearn.datasets import load_digits

import jaxdescramble as jd
from jaxdescramble.descrambling.matching import matches
from jaxdescramble.descrambling.matching.pieces import Pieces

STARTS = 16


def multilayer(activation):
    """Return a multilayer network."""

    def f(params, x):
        for layer in params[:-1]:
            x = activation(x @ layer["kernel"] + layer["bias"])
        return x @ params[-1]["kernel"] + params[-1]["bias"]

    return f


def multilayer_parameters(key, width, sizes=3):
    """Draw parameters of a multilayer network with `sizes` hidden layers."""
    shapes = [(64, width), *[(width, width)] * (sizes - 1), (width, 10)]
    keys = jax.random.split(key, len(shapes))
    return [
        {"kernel": jax.random.normal(one, shape) * (2 / shape[0]) ** 0.5, "bias": jnp.zeros(shape[1])}
        for one, shape in zip(keys, shapes, strict=True)
    ]


def convolved(x, layer, stride=1):
    """Convolve with 'SAME' padding, and add a bias."""
    layout = ("NHWC", "HWIO", "NHWC")
    return (
        jax.lax.conv_general_dilated(x, layer["kernel"], (stride, stride), "SAME", dimension_numbers=layout)
        + (layer["bias"])
    )


def resnet(params, x):
    """Compute a residual network of the shape of ResNet-20, with gelu and without norms."""
    h = convolved(x.reshape(-1, 8, 8, 1), params["stem"])
    for k, stage in enumerate(params["stages"]):
        if k:
            h = convolved(h, stage["shortcut"], 2)
        for block in stage["blocks"]:
            h = h + convolved(jax.nn.gelu(convolved(jax.nn.gelu(h), block["first"])), block["second"])
    return jax.nn.gelu(h).mean(axis=(1, 2)) @ params["head"]["kernel"] + params["head"]["bias"]


def resnet_parameters(key, channels=(16, 32, 64), depth=3):
    """Draw parameters of `resnet`."""
    count = iter(range(1000))

    def layer(*shape, gain=1.0):
        own = jax.random.fold_in(key, next(count))
        scale = gain / np.prod(shape[:-1]) ** 0.5
        return {"kernel": jax.random.normal(own, shape) * scale, "bias": jnp.zeros(shape[-1])}

    stages = []
    for k, n in enumerate(channels):
        blocks = [{"first": layer(3, 3, n, n), "second": layer(3, 3, n, n, gain=0.5)} for _ in range(depth)]
        stages.append({"blocks": blocks} | ({"shortcut": layer(1, 1, channels[k - 1], n)} if k else {}))
    return {"stem": layer(3, 3, 1, channels[0]), "stages": stages, "head": layer(channels[-1], 10)}


def train(f, params, x, y, steps, key):
    """Train with Adam and weight decay; return parameters."""
    optimiser = optax.adamw(1e-3, weight_decay=0.1)

    def loss(params, x, y):
        return optax.softmax_cross_entropy_with_integer_labels(f(params, x), y).mean()

    def step(k, carry):
        some = jax.random.randint(jax.random.fold_in(key, k), (128,), 0, len(x))
        updates, state = optimiser.update(jax.grad(loss)(carry[0], x[some], y[some]), carry[1], carry[0])
        return optax.apply_updates(carry[0], updates), state

    # XLA's convolutions on CPUs are slow inside loops, so the loop is one of Python.
    step, carry = jax.jit(step), (params, optimiser.init(params))
    for k in range(steps):
        carry = step(k, carry)
    return carry[0]


def by_path(params):
    """Return leaves by tree path, as NumPy arrays."""
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(params)}


def rival(streams, a, b, rng, random_start=False, in_order=False):
    """Match by orders, with SciPy's assignment; return the inner product `<a, moved b>` and the number of sweeps.

    `streams` are by name (size, {path: axis}); a and b are by path. `in_order` takes the streams in their order.
    """
    orders = {name: rng.permutation(n) if random_start else np.arange(n) for name, (n, _) in streams.items()}
    where: dict[str, dict[int, str]] = {path: {} for path in a}
    for name, (_, leaves) in streams.items():
        for path, axis in leaves.items():
            where[path][axis] = name

    def moved(path, without=None):
        array = b[path]
        for axis, name in where[path].items():
            if name != without:
                array = np.take(array, orders[name], axis=axis)
        return array

    sweeps, changed = 0, True
    while changed:
        changed, sweeps = False, sweeps + 1
        for name in streams if in_order else rng.permutation(list(streams)):
            n, leaves = streams[name]
            score = np.zeros((n, n), np.float32)
            for path, axis in leaves.items():
                left, right = (np.moveaxis(one, axis, 0).reshape(n, -1) for one in (a[path], moved(path, name)))
                score += left @ right.T
            found = scipy.optimize.linear_sum_assignment(score, maximize=True)[1]
            gain = score[np.arange(n), found].sum(dtype=float) - score[np.arange(n), orders[name]].sum(dtype=float)
            if gain > 1e-6 * abs(score).max():
                orders[name], changed = found, True
    return sum(float(np.vdot(a[path], moved(path)).real) for path in a), sweeps


def streams_of(f, params, x):
    """Return what the rival needs from `jd.symmetries`; the group of every stream must be S(n)."""
    found = {}
    for name, stream in jd.symmetries(f, params, x).items():
        assert stream.group.name == f"S({stream.size})", stream
        found[name] = (stream.size, {path: axis for path, (axis, _) in stream.leaves.items()})
    return found


def ordered(f, params, x):
    """Return what `streams_of` does, in the order in which `jd.match` takes the streams."""
    known, streams = jd.symmetries(f, params, x), streams_of(f, params, x)
    kept = Pieces(known.derivation)
    pairs = zip(known, known.derivation.streams, strict=True)
    names = {known.derivation.stream_of[derived.members[0]]: name for name, derived in pairs}
    return {names[k]: streams[names[k]] for k in sorted(kept.streams, key=lambda k: len(kept.kinds[k].places))}


def inner(a, b):
    """Return `<a, b>` over all leaves, in 64 bits."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return sum(float(np.vdot(np.asarray(one, float), np.asarray(other, float))) for one, other in pairs)


class Descent:
    """Record how long the descent of `jd.match` takes, apart from the derivation and the moving of parameters."""

    def __enter__(self):
        self.seconds, self.original = 0.0, matches._descend

        def timed(*args):
            began = time.perf_counter()
            found = self.original(*args)
            self.seconds += time.perf_counter() - began
            return found

        matches._descend = timed
        return self

    def __exit__(self, *_):
        matches._descend = self.original


def clock(call):
    """Return seconds and the result."""
    began = time.perf_counter()
    found = call()
    return time.perf_counter() - began, found


def rows(name, f, pairs, x, repeats, show):
    """Show two lines of the table: one start for each pair, and 16 starts for the first pair."""
    axes = streams_of(f, pairs[0][0], x)
    ones = [(by_path(a), by_path(b)) for a, b in pairs]
    compiled = clock(lambda: jd.match(f, pairs[0][0], pairs[0][1], x))[0]
    times: dict[str, list[float]] = {"rival": [], "match": [], "descent": []}
    reached: list[tuple[float, float]] = []
    for (a, b), (c, d) in zip(pairs, ones, strict=True):
        for repeat in range(repeats):
            seconds, (theirs, _) = clock(
                lambda c=c, d=d, repeat=repeat: rival(axes, c, d, np.random.default_rng(repeat))
            )
            times["rival"].append(seconds)
            with Descent() as descent:
                seconds, found = clock(lambda a=a, b=b: jd.match(f, a, b, x))
            times["match"].append(seconds)
            times["descent"].append(descent.seconds)
            reached.append((theirs, inner(a, found.params)))
    wins = sum(ours > theirs * (1 - 1e-6) for theirs, ours in reached)
    middle = {way: statistics.median(some) for way, some in times.items()}
    ratio = statistics.mean(ours / theirs for theirs, ours in reached)
    least = min(ours / theirs for theirs, ours in reached)
    show(
        f"| {name}, one start | {middle['rival']:.3f} | {middle['match']:.3f} | {middle['descent']:.3f} "
        f"| {compiled - middle['match']:.1f} | {ratio:.4f} | {least:.4f} | {wins} of {len(reached)} |"
    )
    (a, b), (c, d) = pairs[0], ones[0]
    call = lambda: jd.match(f, a, b, x, restarts=STARTS - 1, key=jax.random.key(0))  # noqa: E731
    compiled = clock(call)[0]
    rng = np.random.default_rng(0)
    many = lambda: max(rival(axes, c, d, rng, k > 0)[0] for k in range(STARTS))  # noqa: E731
    rounds = []
    for _ in range(max(1, repeats // 2)):
        slow, theirs = clock(many)
        with Descent() as descent:
            quick, found = clock(call)
        rounds.append((slow, quick, descent.seconds, inner(a, found.params) / theirs))
    slow, quick, alone = (statistics.median(one[k] for one in rounds) for k in range(3))
    ratios = [one[3] for one in rounds]
    show(
        f"| {name}, {STARTS} starts | {slow:.3f} | {quick:.3f} | {alone:.3f} | {compiled - quick:.1f} "
        f"| {statistics.mean(ratios):.4f} | {min(ratios):.4f} | {sum(r > 1 - 1e-6 for r in ratios)} of {len(ratios)} |"
    )


def orders(x, width, pairs, show):
    """Compare with the rival in our order of the streams, and in random orders, for random networks."""
    show(
        "| random gelu networks | our `<a, moved b>` / the rival's, same order, minus 1 | five random orders, minus 1 |"
    )
    show("|---|--:|--:|")
    f, rng = multilayer(jax.nn.gelu), np.random.default_rng(0)
    for case in range(pairs):
        a, b = (multilayer_parameters(jax.random.key(2 * case + k), width) for k in (0, 1))
        streams, ours = ordered(f, a, x), inner(a, jd.match(f, a, b, x).params)
        same, *others = (rival(streams, by_path(a), by_path(b), rng, in_order=not k)[0] for k in range(6))
        show(f"| pair {case + 1} | {ours / same - 1:.1e} | {', '.join(f'{ours / one - 1:.4f}' for one in others)} |")


def barriers(trained, x, unseen, show):
    """Write the table of barriers."""
    show("| digits | accuracy | average | average, matched | barrier before | after | null |")
    show("|---|--:|--:|--:|--:|--:|--:|")
    for name, (f, some) in trained.items():
        for k, (a, b) in enumerate(some):
            found = jd.match(f, a, b, x)

            def loss(params, f=f):
                return optax.softmax_cross_entropy_with_integer_labels(f(params, unseen[0]), unseen[1]).mean()

            line = found.barrier(loss, nulls=10)
            average = [jax.tree.map(lambda one, two: (one + two) / 2, a, other) for other in (b, found.params)]
            hits = [float((f(params, unseen[0]).argmax(axis=1) == unseen[1]).mean()) for params in (a, *average)]
            cells = " | ".join(f"{hit:.3f}" for hit in hits)
            show(
                f"| {name}, pair {k + 1} | {cells} | {line.before:.3f} | {line.after:.3f} "
                f"| {line.null.min():.3f} to {line.null.max():.3f} |"
            )


def compared(trained, networks, x, width, pairs, repeats, show):
    """Write the table of times and inner products."""
    for line in (
        "",
        "| networks | rival, s | `jd.match`, s | its descent, s | compilation, s | mean ratio of <a, moved b> | least "
        "| at least the rival's |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ):
        show(line)
    f, some = trained
    rows(f"digits, 3 x {width}, gelu, trained", f, some, x, repeats, show)
    some = [tuple(multilayer_parameters(jax.random.key(50 + 2 * k + i), width) for i in (0, 1)) for k in range(pairs)]
    rows("the same, random", f, some, x, repeats, show)
    some = networks(resnet, resnet_parameters, range(4))
    rows("residual, 16-32-64, gelu, trained", resnet, [tuple(some[:2]), tuple(some[2:])], x, repeats, show)
    some = [tuple(resnet_parameters(jax.random.key(50 + 2 * k + i)) for i in (0, 1)) for k in range(pairs)]
    rows("the same, random", resnet, some, x, repeats, show)


def main(width: int, pairs: int, repeats: int, steps: int, only: str | None, out: Path):
    x, y = load_digits(return_X_y=True)
    x, y = jnp.asarray(x / 16, jnp.float32), jnp.asarray(y)
    seen, unseen = (x[:1200], y[:1200]), (x[1200:], y[1200:])
    lines = ["# Matching two networks", ""]
    lines += [
        f"`python -m benchmarks.matching --width {width} --pairs {pairs} --repeats {repeats} --steps {steps}`; "
        f"{platform.machine()}, {len(__import__('os').sched_getaffinity(0))} core(s) of this process, "
        f"jax {jax.__version__}, SciPy {scipy.__version__}, 32-bit types.",
        "",
    ]

    def show(line: str) -> None:
        lines.append(line)
        print(line, flush=True)
        out.write_text("\n".join(lines) + "\n")

    def networks(f, draw, seeds):
        return [train(f, draw(jax.random.key(k)), *seen, steps, jax.random.key(100 + k)) for k in seeds]

    if only in (None, "orders"):
        orders(x[:2], width, pairs, show)
    if only == "orders":
        return
    trained: dict[str, Any] = {}
    for name, activation in (("gelu", jax.nn.gelu), ("relu", jax.nn.relu))[: 1 if only == "times" else 2]:
        f = multilayer(activation)
        some = networks(f, lambda key: multilayer_parameters(key, width), range(2 * pairs))
        trained[name] = (f, list(zip(some[::2], some[1::2], strict=True)))
    if only in (None, "barriers"):
        barriers(trained, x[:2], unseen, show)
    if only in (None, "times"):
        compared(trained["gelu"], networks, x[:2], width, pairs, repeats, show)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--only", choices=["orders", "barriers", "times"])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "matching.md")
    main(**vars(parser.parse_args()))
