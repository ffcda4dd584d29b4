"""Compare formats for the chunks of a sweep: orbax-checkpoint, safetensors, and NumPy's archive, written atomically.

Run: python benchmarks/checkpoints.py [--flips 200] [--kills 30]

A chunk holds the results of 16 solved layers: points, values and a header. All candidates save and load the same arrays
in one run, in turns, after a warm-up. Then the files are damaged at random, and processes are killed while they save.
"""

import argparse
import contextlib
import hashlib
import logging
import os
import platform
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import numpy as np
from checkpoint_kinds import CANDIDATES, chunk, outcome, same, save_orbax

LEFT = (".tmp", ".orbax-checkpoint-tmp")  # parts of the names of files that an interrupted save leaves


def contents(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def times(folder: Path, n: int, rounds: int) -> tuple[dict[str, list[str]], dict[str, float]]:
    arrays, saves, loads, blocked = chunk(n), {}, {}, []
    for turn in range(rounds + 1):
        order = [key for key in CANDIDATES if key != "orbax.o"]
        for key in order[turn % len(order) :] + order[: turn % len(order)]:
            one, path = CANDIDATES[key], folder / f"{key}-{turn}"
            start = time.perf_counter()
            returned = one.save(path, arrays)
            middle = time.perf_counter()
            found = one.load(path)
            end = time.perf_counter()
            assert same(found, arrays), key
            if turn:
                saves.setdefault(key, []).append(middle - start)
                loads.setdefault(key, []).append(end - middle)
                blocked += [returned] if returned else []
    rows = {}
    for key in [key for key in CANDIDATES if key in saves]:
        left = contents(folder / f"{key}-0")
        inodes = len(list((folder / f"{key}-0").rglob("*"))) + 1
        extra = f" (blocked {1e3 * statistics.median(blocked):.0f})" if key == "orbax.a" else ""
        rows[key] = [
            f"{1e3 * statistics.median(saves[key]):.0f}{extra}",
            f"{1e3 * min(saves[key]):.0f}",
            f"{1e3 * statistics.median(loads[key]):.0f}",
            f"{len(left)} ({inodes})",
            f"{sum(file.stat().st_size for file in left) / 1e6:.3g}",
        ]
    return rows, {key: statistics.median(seconds) for key, seconds in saves.items()}


def faults(folder: Path, n: int, key: str, flips: int, cuts: int) -> list[Counter[str]]:
    one, arrays, chance = CANDIDATES[key], chunk(n), random.Random(0)
    path = folder / f"{key}-0"
    parts = contents(path)
    sizes = [file.stat().st_size for file in parts]

    def place() -> tuple[Path, int]:
        where = chance.randrange(sum(sizes))
        for file, size in zip(parts, sizes, strict=True):
            if where < size:
                return file, where
            where -= size
        raise AssertionError

    found = []
    for damage, trials in (("flip", flips), ("cut", cuts), ("delete", len(parts))):
        seen = []
        for trial in range(trials):
            file, where = (parts[trial], 0) if damage == "delete" else place()
            content = file.read_bytes()
            if damage == "flip":
                bit = bytes([content[where] ^ chance.randrange(1, 256)])
                file.write_bytes(content[:where] + bit + content[where + 1 :])
            elif damage == "cut":
                file.write_bytes(content[:where])
            else:
                file.unlink()
            seen.append(outcome(one.load, path, arrays))
            file.write_bytes(content)
        found.append(Counter(seen))
    assert outcome(one.load, path, arrays) == "same"
    return found


def save_forever(key: str, folder: Path, over: bool):
    """Save until killed. Chunk i has the number i as its first value."""
    arrays, i = chunk(320), 0
    while True:
        arrays["value"][0] = i
        if over and key == "orbax":
            save_orbax(folder / "0", arrays, force=True)
        else:
            CANDIDATES[key].save(folder / ("0" if over else str(i)), arrays)
        i += 1


def kills(key: str, over: bool, trials: int) -> str:
    """Fork from a process that has only imported, save in a loop, kill, and count what is left."""
    chance, whole, torn, absent, left, unknown = random.Random(1), 0, 0, 0, 0, 0
    for _ in range(trials):
        folder = Path(tempfile.mkdtemp())
        child = os.fork()
        if not child:
            with contextlib.suppress(Exception):
                save_forever(key, folder, over)
            os._exit(1)
        deadline = time.monotonic() + 30
        while not (folder / "0").exists():
            assert time.monotonic() < deadline, "nothing is saved"
            time.sleep(1e-3)
        time.sleep(chance.uniform(0.05, 0.35))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        done = [path for path in folder.iterdir() if not any(mark in path.name for mark in LEFT)]
        left += len(list(folder.iterdir())) - len(done)
        absent += not (folder / "0").exists()
        unknown += sum(not path.name.isdecimal() for path in done)
        # Read in a fork too: a reader may start threads, which do not survive the next fork.
        reader = os.fork()
        if not reader:
            wanted = chunk(320)
            bad = 0
            for path in done:
                try:
                    found = CANDIDATES[key].load(path)
                    wanted["value"][0] = found["value"][0] if over else int(path.name)
                    bad += not same(found, wanted)
                except Exception:
                    bad += 1
            os._exit(min(bad, 200))
        bad = os.waitstatus_to_exitcode(os.waitpid(reader, 0)[1])
        torn, whole = torn + bad, whole + len(done) - bad
        shutil.rmtree(folder)
    return f"{trials} | {whole} | {torn} | {absent if over else '-'} | {left} | {unknown}"


TWO = """
import sys, time
from pathlib import Path
sys.path.insert(0, {here!r})
import jax
if {port}:
    jax.distributed.initialize("localhost:{port}", 2, {rank})
    jax.devices()  # waits for the other process, whatever is saved later
from checkpoint_kinds import CANDIDATES, chunk
arrays = chunk(32)
if {rank} == 0 or not {port}:
    for i in range(5):
        CANDIDATES[{key!r}].save(Path({folder!r}) / f"{rank}-{{i}}", arrays)
if {port}: time.sleep(60)
"""


def two_processes(key: str, one_job: bool, limit: float) -> str:
    """Save from two processes at once. If they are one `jax.distributed` job, only the first saves."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1] if one_job else 0
    with tempfile.TemporaryDirectory() as folder:
        running = []
        for rank in (0, 1):
            code = TWO.format(here=str(Path(__file__).parent), port=port, rank=rank, key=key, folder=folder)
            running.append(
                subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            )
        start, wanted = time.perf_counter(), 5 if port else 10
        while time.perf_counter() - start < limit:
            done = [path for path in Path(folder).iterdir() if not any(mark in path.name for mark in LEFT)]
            if len(done) == wanted or all(one.poll() is not None for one in running):
                break
            time.sleep(0.1)
        spent = time.perf_counter() - start
        for one in running:
            if port or spent >= limit:
                one.kill()
            one.wait()
        done = [path for path in Path(folder).iterdir() if not any(mark in path.name for mark in LEFT)]
        good = sum(outcome(CANDIDATES[key].load, path, chunk(32)) == "same" for path in done)
    reason = f"waited {limit:.0f} s in vain" if spent >= limit else "they failed"
    return f"{good} of {wanted}" + (f", {reason}" if good < wanted else "")


def import_time(module: str) -> float:
    code = f"import time, jax, numpy\nt = time.perf_counter()\nimport {module}\nprint(time.perf_counter() - t)"
    return min(float(subprocess.check_output([sys.executable, "-c", code])) for _ in range(2))


def checksum_speeds() -> list[str]:
    data = chunk(320)["point"].tobytes()
    rows = []
    for name, function in (("sha256", hashlib.sha256), ("blake2b", hashlib.blake2b), ("crc32", zlib.crc32)):
        spent = []
        for _ in range(12):
            start = time.perf_counter()
            function(data)
            spent.append(time.perf_counter() - start)
        rows.append(f"| {name} | {len(data) / min(spent) / 1e6:.0f} | {1e3 * min(spent):.1f} |")
    return rows


def main(flips: int, trials: int, out: Path, cuts: int = 50, rounds: int = 10):
    logging.disable(logging.CRITICAL)
    started = time.perf_counter()
    imports = {module: import_time(module) for module in {one.needs for one in CANDIDATES.values()}}
    lines = [
        "# What to keep chunks of a sweep with",
        "",
        f"`python benchmarks/checkpoints.py --flips {flips} --kills {trials}`; {platform.machine()}, {os.cpu_count()} "
        f"cores (shared), numpy {np.__version__}, orbax-checkpoint {version('orbax-checkpoint')}, "
        f"safetensors {version('safetensors')}. A chunk: point (16, n, n), singular values (16, n), six vectors (16,) "
        "of float32, a JSON header. Atomic: written beside, flushed to the disk, renamed. Milliseconds are medians of "
        f"{rounds} saves and loads in turn; imports are what comes after `import jax`.",
        "",
        "| n | kept by | save, ms | fastest save | load, ms | files (inodes) | MB | import, s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    damaged, missed, seconds = [], Counter(), {}
    for n in (32, 320):
        with tempfile.TemporaryDirectory() as folder:
            rows, seconds = times(Path(folder), n, rounds)
            for key, row in rows.items():
                one = CANDIDATES[key]
                lines.append(f"| {n} | {one.name} | {' | '.join(row)} | {imports[one.needs]:.2f} |")
                print(lines[-1], flush=True)
                if key != "orbax.a":  # it writes the same files as the other one
                    counts = faults(Path(folder), n, key, flips, cuts)
                    missed[key] += sum(one["missed"] for one in counts)
                    said = [f"{seen['noticed']} / {seen['same']} / **{seen['missed']}**" for seen in counts]
                    damaged.append(f"| {n} | {one.name} | {' | '.join(said)} |")
                    print(damaged[-1], f"{time.perf_counter() - started:.0f} s", flush=True)
    lines += [
        "",
        f"Damage: one byte changed anywhere in the files ({flips} times), a file cut short at a random place ({cuts} "
        "times), every file deleted once. Columns: noticed when loading / no harm / **wrong arrays, silently**.",
        "",
        "| n | kept by | byte changed | cut short | deleted |",
        "|---|---|---|---|---|",
        *damaged,
        "",
        f"`kill -9` at a random instant of a process that saves a chunk (n = 320) after another, {trials} times each; "
        "then everything that bears a final name is loaded; torn is what does not load, or not as it was (what orbax "
        "saves over is deleted first). A power cut is another matter: npz are flushed before they are renamed, orbax's "
        "arrays too, but not its JSON.",
        "",
        "| kept by | saves | kills | whole | torn | old and new both gone | leftovers, recognised | not recognised |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for key in ("npz", "orbax"):
        for over in (False, True):
            found = subprocess.run(
                [sys.executable, __file__, "--worker", key, *(["--over"] if over else []), "--kills", str(trials)],
                capture_output=True,
                text=True,
                check=True,
            )
            what = "over the last one" if over else "under new names"
            lines.append(f"| {CANDIDATES[key].name} | {what} | {found.stdout.strip().splitlines()[-1]} |")
            print(lines[-1], f"{time.perf_counter() - started:.0f} s", flush=True)
    lines += [
        "",
        "Two processes at once: chunks that were saved and load. As two jobs both save five; as one job of "
        "`jax.distributed` with two processes, the first alone saves five.",
        "",
        "| kept by | two jobs | one job, one saves |",
        "|---|---|---|",
    ]
    for key in ("npz", "orbax", "orbax.o"):
        lines.append(f"| {CANDIDATES[key].name} | {two_processes(key, False, 30)} | {two_processes(key, True, 25)} |")
        print(lines[-1], f"{time.perf_counter() - started:.0f} s", flush=True)
    if missed["npz"] == 0 and missed["orbax"] > 0:
        faster, slower = seconds["orbax"] / seconds["npz"], seconds["npz.z"] / seconds["npz"]
        trials = 2 * (flips + cuts + 1)
        verdict = (
            f"Chunks are kept as uncompressed `.npz`, written atomically: {faster:.1f} times as fast to save as orbax "
            "(n = 320), one file and not ten, nothing to import, no barrier between shards. The archive's own CRC-32 "
            f"is enough: of {trials} faults it missed none, while orbax silently returned wrong arrays "
            f"{missed['orbax']} times and safetensors {missed['safetensors']} times; SHA-256 adds nothing against "
            f"damage, and compression costs {slower:.0f} times the time for a tenth fewer bytes. Orbax is for arrays "
            "that are sharded over devices and hosts, which chunks of a sweep are not; its checkpoints are read as "
            "input."
        )
    else:
        verdict = "The numbers above do not support the choice of npz that the package has made: look again."
    lines += ["", "## Verdict", "", verdict]
    lines += ["", "| checksum of a chunk's points | MB/s | ms |", "|---|---|---|", *checksum_speeds(), ""]
    print("\n".join(lines[-5:]), f"{time.perf_counter() - started:.0f} s")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("\n".join(lines))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flips", type=int, default=200)
    parser.add_argument("--kills", dest="trials", type=int, default=30)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "checkpoints.md")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--over", action="store_true", help=argparse.SUPPRESS)
    given = vars(parser.parse_args())
    key, over = given.pop("worker"), given.pop("over")
    if key:
        print(kills(key, over, given["trials"]))
    else:
        main(**given)
