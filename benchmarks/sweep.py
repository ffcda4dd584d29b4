"""Measure a sweep: one command from files to report, device queues against one program, and the cost model.

Run: python -m benchmarks.sweep [--layers 384] [--size 320] [--only command devices constants]

The command runs as for a user, in its own process, compilation included. Devices: the rival is
`shard_map(vmap(solve))` over the mesh, a wave of chunks at a time, on problems with unequal numbers of steps. Both are
warmed up. Constants: these are the constants of the cost model in docs/scale.md: seconds for a problem inside a warm
chunk, fitted by non-negative least squares of relative errors.
"""

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SHAPES = ((32, 128), (64, 256), (64, 4096), (128, 512), (128, 4096), (256, 512), (256, 8192), (320, 640), (512, 1024))
RESULTS = Path(__file__).parent / "results"


def netset(path, layers, size):
    """Make signals and weights of many layers: waves along a hidden axis, a rotation that hides it, and noise."""
    import numpy as np

    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.standard_normal((size, size)))[0]
    waves = np.cos(np.pi * np.arange(40) * (np.arange(size)[:, None] + 0.5) / size) / (1 + np.arange(40))
    arrays = {}
    for layer in range(layers):
        mix = turn[:, rng.permutation(size)] @ waves
        for name, width in (("signals", 2 * size), ("weight", size)):
            content = mix @ rng.standard_normal((40, width)) + 0.01 * rng.standard_normal((size, width))
            arrays[f"layer_{layer}.{name}"] = content.astype(np.float32)
    np.savez(path, **arrays)


def command(layers, size):
    """Measure one command from a file to a report."""
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder) / "netset.npz", Path(folder) / "out"
        netset(path, layers, size)
        program = "from jaxdescramble.show.commands import main; main()"
        words = [sys.executable, "-c", program, "run", str(path), "--out", str(out)]
        lines = []
        for name, extra in (("from files to report", []), ("the same again: all is there", ["--resume"])):
            began = time.perf_counter()
            subprocess.run([*words, *extra], check=True, capture_output=True)
            total = time.perf_counter() - began
            events = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
            events = events[max(i for i, event in enumerate(events) if event["event"] == "begin") :]
            solved = [event for event in events if event["event"] == "chunk"]
            solving, writing = (sum(event[what] for event in solved) for what in ("seconds", "writing"))
            lines.append(
                f"| {name} | {layers} x {size} x {2 * size} | {path.stat().st_size / 1e6:.0f} | {len(solved)} | "
                f"{total:.1f} | {solving:.1f} | {writing:.1f} | {total - solving - writing:.1f} |"
            )
            print(lines[-1], flush=True)
        kept = sum(one.stat().st_size for one in out.rglob("*") if one.is_file()) / 1e6
    return [
        "## One command",
        "",
        f"`jaxdescramble run netset.npz --out DIR`: smoothness, closed form, pictures; {kept:.0f} MB of results. "
        "The rest is start-up, reading the file, the table and the report.",
        "",
        "| | layers x features x samples | file, MB | chunks | seconds | solving, compilation too | writing | rest |",
        "|---|---|---|---|---|---|---|---|",
        *lines,
    ]


def devices():
    """Compare one program over a mesh with a program and a queue for each device."""
    lines = []
    for count in (1, 2, 4, 8):
        with tempfile.TemporaryDirectory() as folder:
            environment = {
                **os.environ,
                "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
                "JAX_PLATFORMS": "cpu",
            }
            words = [sys.executable, "-m", "benchmarks.sweep_devices", str(count), folder]
            said = subprocess.run(words, env=environment, check=True, capture_output=True, text=True).stdout
        wave, queue, wave_bits, queue_bits = json.loads(said.splitlines()[-1])
        lines.append(f"| {count} | {wave:.2f} | {queue:.2f} | {wave / queue:.2f} | `{wave_bits}` | `{queue_bits}` |")
        print(lines[-1], flush=True)
    return [
        "## A queue to each device against one program for the mesh",
        "",
        "32 problems of 24 x 60 (sparsity, gradient descent), half of 400 steps and half of 8000, in chunks of four, "
        "on virtual devices of one CPU; medians of three in turn. The sweep's seconds contain the writing of its "
        "results. Bits: a digest of all values.",
        "",
        "| devices | `shard_map`, waves, s | sweep, s | waves / sweep | bits of `shard_map` | bits of sweep |",
        "|---|---|---|---|---|---|",
        *lines,
    ]


def unmade(_):
    raise AssertionError("planning needs no signals")


def overheads():
    """Return median seconds to keep a chunk, to plan a problem, and to gather a chunk into the table."""
    import jax
    import numpy as np

    import jaxdescramble as jd
    from jaxdescramble.sweeps import Generated, run, table
    from jaxdescramble.sweeps import _chunks as chunks
    from jaxdescramble.sweeps import _plan as plan
    from jaxdescramble.sweeps.folder import specification

    problems = jd.grid({i: Generated(unmade, (i,), (320, 640)) for i in range(20_000)})
    began = time.perf_counter()
    settled = run.with_defaults(problems, None)
    planned = plan.planned(settled, None, None)
    wanted = specification(settled, planned)
    planning = (time.perf_counter() - began) / len(problems)
    point = np.random.default_rng(0).standard_normal((10, 320, 320)).astype(np.float32)
    numbers = {name: np.zeros(10, np.int32 if name == "status" else np.float32) for name in table.NUMBERS}
    arrays = {**numbers, "point": point}
    with tempfile.TemporaryDirectory() as folder:
        writes = []
        for number in range(50):
            began = time.perf_counter()
            path = chunks.location(folder, number)
            chunks.write(path, arrays, planned.digests[number], dict.fromkeys(range(10), "0" * 64), jax.devices()[0])
            writes.append(time.perf_counter() - began)
        began = time.perf_counter()
        table.gathered(Path(folder), wanted)
        everything = time.perf_counter() - began
        shutil.rmtree(Path(folder) / "chunks")
        began = time.perf_counter()
        table.gathered(Path(folder), wanted)
        gathering = (everything - (time.perf_counter() - began)) / 50
    return float(np.median(writes)), planning, gathering


def constants():
    """Measure the seconds for a problem, and their parts."""
    import jax
    import numpy as np
    from scipy.optimize import nnls

    import jaxdescramble as jd
    from jaxdescramble._base.lapack import one_thread
    from jaxdescramble.sweeps import _plan as plan
    from jaxdescramble.sweeps import _program as program

    rows = []
    for n, m in (
        (32, 128),
        (64, 256),
        (64, 4096),
        (128, 512),
        (128, 4096),
        (256, 512),
        (256, 8192),
        (320, 640),
        (512, 1024),
    ):
        count = max(2, min(64, int(4e8 / (50 * n**3 + 4 * n**2 * m))))
        signals = np.cumsum(np.random.default_rng(0).standard_normal((count, n, m)).astype(np.float32), axis=1)
        problems = [one.with_defaults() for one in jd.grid(signals)]
        planned = plan.planned(problems, None, count)
        chunk = planned.chunks[0]
        operands = jax.device_put(program.arguments(chunk, problems, None)[0], jax.devices()[0])
        static, seconds = program.static(chunk.kind), []
        began = time.perf_counter()
        with one_thread():
            jax.block_until_ready(program.run(*operands, **static))
            first = time.perf_counter() - began
            for _ in range(5):
                began = time.perf_counter()
                jax.block_until_ready(program.run(*operands, **static))
                seconds.append((time.perf_counter() - began) / count)
        rows.append((n, m, min(seconds), float(np.median(seconds)), first - min(seconds) * count))
        print(rows[-1], flush=True)
    n, m, best = (np.array([row[place] for row in rows], float) for place in range(3))
    terms = np.stack([n**3, n**2 * m, np.ones_like(n)], axis=1) / best[:, None]
    (cubic, gram, fixed), _ = nnls(terms, np.ones_like(best))
    fitted = cubic * n**3 + gram * n**2 * m + fixed
    written, planning, gathering = overheads()
    lines = [
        f"| {row[0]} | {row[1]} | {1e3 * row[2]:.3g} | {1e3 * row[3]:.3g} | {1e3 * fit:.3g} | {row[4]:.1f} |"
        for row, fit in zip(rows, fitted, strict=True)
    ]
    worst = float(np.max(np.maximum(fitted / best, best / fitted)))
    return [
        "## Constants",
        "",
        f"Closed form, float32, a QR factor as summary: `{1e12 * cubic:.0f} ps n^3 + {1e12 * gram:.1f} ps n^2 m + "
        f"{1e6 * fixed:.0f} us` for a problem (worst factor {worst:.2f}), one thread of LAPACK. Around it: a chunk "
        f"file of 4.1 MB on the disk {1e3 * written:.0f} ms; planning, in every process, {1e6 * planning:.0f} us for "
        f"each problem of the sweep; gathering the table {1e3 * gathering:.1f} ms for each chunk.",
        "",
        "| n | m | ms, best of 5 | median | fitted | compilation, s |",
        "|---|---|---|---|---|---|",
        *lines,
    ]


def main(layers: int, size: int, only: list[str], out: Path):
    import jax

    title = [
        "# What a sweep costs",
        "",
        f"`python -m benchmarks.sweep --layers {layers} --size {size}`; {platform.machine()}, {os.cpu_count()} cores, "
        f"{jax.devices()[0].device_kind}, jax {jax.__version__}, Python {platform.python_version()}, float32.",
    ]
    made = {"command": lambda: command(layers, size), "devices": devices, "constants": constants}
    old = dict(re.findall(r"<!-- (\w+) -->\n(.*?)(?=\n<!-- |\Z)", out.read_text(), re.DOTALL)) if out.exists() else {}
    parts = {name: "\n".join(make()) if name in only else old.get(name, "").strip() for name, make in made.items()}
    out.parent.mkdir(parents=True, exist_ok=True)
    body = "\n\n".join(f"<!-- {name} -->\n{text}" for name, text in parts.items() if text)
    out.write_text("\n".join(title) + "\n\n" + body + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=384)
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--only", nargs="+", default=["command", "devices", "constants"])
    parser.add_argument("--out", type=Path, default=RESULTS / "sweep.md")
    main(**vars(parser.parse_args()))
