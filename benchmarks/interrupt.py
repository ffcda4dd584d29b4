"""Record `jaxdescramble run` in a terminal, with times, and interrupt it while an iterative solver works.

Run: python benchmarks/interrupt.py [--out benchmarks/results/interrupt.md]

The command runs in a pseudo-terminal, as a user sees it. SIGINT comes 6 s after the second chunk begins. Then the
script shows `status`, runs the same command again with SIGTERM, and lists the folder. The last part does the same with
`jd.sweep` in Python.
"""

import argparse
import os
import platform
import pty
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SPECIFICATION = """
[signals]
files = ["layers.npz"]

[objectives.smoothness]

[objectives.total_variation]
boundary = "neumann"
"""
LIBRARY = """
import os, signal, sys, threading, time
from pathlib import Path
from jaxdescramble.sweeps import sweep
from jaxdescramble.sweeps.specification import read, request

path, out = Path(sys.argv[1]), Path(sys.argv[2])
problems, sent = request(read(path), path.parent).problems, []

def interrupt():
    before = out.joinpath("log.jsonl").read_text().count('"solve"')
    while out.joinpath("log.jsonl").read_text().count('"solve"') == before:
        time.sleep(0.05)
    time.sleep(6)
    sent.append(time.perf_counter())
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt, daemon=True).start()
try:
    sweep(problems, out)
except KeyboardInterrupt as error:
    seconds = time.perf_counter() - sent[0]
    print(f"KeyboardInterrupt {seconds:.2f} s after SIGINT; note: {error.__notes__[0]}", flush=True)
os._exit(0)
"""


def in_a_terminal(words, folder, number=None, begun=0):
    """Run a command, and return its lines with their times. The signal comes 6 s after `begun` chunks have begun.

    Returns:
        Pairs of seconds and lines, and the seconds from the signal to its answer and to the end.
    """
    leader, follower = pty.openpty()
    began = time.monotonic()
    environment = {**os.environ, "COLUMNS": "110", "JAX_PLATFORMS": "cpu"}
    process = subprocess.Popen(words, stdin=follower, stdout=follower, stderr=follower, env=environment, cwd=folder)
    os.close(follower)
    lines, rest, sent, due, answered = [], b"", None, None, None
    while True:
        ready, _, _ = select.select([leader], [], [], 0.02)
        try:
            piece = os.read(leader, 65536) if ready else b""
        except OSError:  # the command has closed the terminal
            break
        now = time.monotonic() - began
        rest += piece
        *whole, rest = re.split(rb"[\r\n]+", rest)
        for line in whole:
            text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line.decode(errors="replace")).rstrip()
            if text and not re.match(r"^.\s\w+ .*\d:\d\d:\d\d$", text):  # these lines are frames of the bar
                lines.append((now, text))
                if sent is not None and answered is None and ("Interrupted" in text or "Terminated" in text):
                    answered = now
        log = folder / "sweep" / "log.jsonl"
        if number is not None and due is None and log.exists() and log.read_text().count('"solve"') >= begun:
            due = now + 6
        if number is not None and due is not None and sent is None and now >= due:
            process.send_signal(number)
            sent = time.monotonic() - began
            lines.append((sent, f"--- {signal.Signals(number).name} sent ---"))
        if process.poll() is not None and not ready:
            break
    code = process.wait()
    ended = time.monotonic() - began
    os.close(leader)
    lines.append((ended, f"--- exit code {code} ---"))
    times = (answered - sent, ended - sent) if sent is not None and answered is not None else None
    return lines, times


def transcript(command, lines):
    return [f"$ {command}", *(f"{seconds:7.2f} s  {text}" for seconds, text in lines), ""]


def main(out):
    import numpy as np

    program = [sys.executable, "-c", "from jaxdescramble.show.commands import main; main()"]
    shown = ["```text"]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        rng = np.random.default_rng(0)
        layers = {f"layer_{i}": np.cumsum(rng.standard_normal((128, 1000)), 0).astype("float32") for i in range(6)}
        np.savez(folder / "layers.npz", **layers)  # pyright: ignore[reportArgumentType]
        (folder / "sweep.toml").write_text(SPECIFICATION)
        words = ["run", "sweep.toml", "--out", "sweep", "--no-figures"]
        measured = []
        for number in (signal.SIGINT, signal.SIGTERM):
            log = folder / "sweep" / "log.jsonl"
            seen = log.read_text().count('"solve"') if log.exists() else 0
            # The first run is interrupted in its second chunk, the second run in its first chunk.
            enough = seen + 2 - (seen > 0)
            lines, times = in_a_terminal([*program, *words], folder, number, enough)
            measured.append((signal.Signals(number).name, times))
            shown += transcript("jaxdescramble " + " ".join(words), lines)
            lines, _ = in_a_terminal([*program, "status", "sweep"], folder)
            shown += transcript("jaxdescramble status sweep", lines)
        files = sorted(path.name for path in (folder / "sweep" / "chunks").glob("*/*"))
        text = (folder / "sweep" / "sizes.json").read_text()
        sizes = re.sub(r'"specification": .*', '"specification": "...",', text)
        shown += [
            f"files of chunks: {', '.join(files)}",
            f"sizes.json: {sizes}",
        ]
        done = subprocess.run(
            [sys.executable, "-c", LIBRARY, "sweep.toml", "sweep"], cwd=folder, capture_output=True, text=True
        )
        shown += ["$ python: jd.sweep(problems, ...)", done.stdout + done.stderr]
    shown.append("```")
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    text = [
        "# A sweep that is interrupted",
        "",
        f"`python benchmarks/interrupt.py`; {os.cpu_count()} cores, {platform.machine()}, load averages {load}. Six "
        "layers of 128 x 1000, smoothness in closed form and total variation by L-BFGS.",
        "",
        "| signal | words after, s | end after, s |",
        "|---|--:|--:|",
        *(f"| {name} | {times[0]:.2f} | {times[1]:.2f} |" for name, times in measured if times),
        "",
        *shown,
    ]
    if out is None:
        print("\n".join(text))
    else:
        out.write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path)
    main(parser.parse_args().out)
