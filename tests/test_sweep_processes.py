"""Sweeps in processes of their own: killed at random instants, and two at a time."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from compile_fast import COMPILE_FAST

from jaxdescramble.sweeps import Table
from jaxdescramble.sweeps import _chunks as chunks
from jaxdescramble.sweeps.folder import events, read_specification

SCRIPT = Path(__file__).parent / "sweeping.py"
CHUNKS = 12


def start(out, *options, devices=1, seed="0"):
    # The seed of Python's hashes differs from process to process, as it does from day to day.
    flags = f"--xla_force_host_platform_device_count={devices} {COMPILE_FAST}"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONHASHSEED": seed}
    command = [sys.executable, str(SCRIPT), str(out), *map(str, options)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1])


def same(one, other):
    for name in one.columns:
        np.testing.assert_array_equal(one[name], other[name], name)
    for row in range(len(one)):
        assert one.point(row).tobytes() == other.point(row).tobytes(), row


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """One run from beginning to end, and how long the part of it took in which there is something to lose."""
    out = tmp_path_factory.mktemp("uninterrupted")
    assert finished(start(out, "--wait", 0.02)) == {"done": True, "devices": 1, "processes": 1}
    logged = events(out)
    begin, end = (np.datetime64(logged[place]["time"][:-6]) for place in (0, -1))
    return Table.load(out), float((end - begin) / np.timedelta64(1, "s"))


def kill_at_random(out, seconds, instants, seed):
    """Start the sweep, and kill it at an instant of the time that it takes once it has begun."""
    before = (out / "log.jsonl").stat().st_size if (out / "log.jsonl").exists() else 0
    process = start(out, "--wait", 0.02, seed=seed)
    limit = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < limit:
        log = out / "log.jsonl"
        if log.exists() and log.stat().st_size > before:
            break
        time.sleep(0.002)
    time.sleep(instants.uniform(0, 1.1 * seconds))
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    return process.returncode == -signal.SIGKILL


def killed_and_resumed(out, whole, seconds, kills, seed):
    instants, landed = random.Random(seed), 0
    for number in range(kills):
        landed += kill_at_random(out, seconds, instants, str(number + 1))
        # Whatever bears a final name is whole, at once and not only after the next run.
        specification = read_specification(out)
        for path in out.glob("chunks/*/*.npz"):
            chunks.read(path, specification.digests[int(path.stem)])
    assert finished(start(out, "--wait", 0.02))["done"]
    same(Table.load(out), whole)
    begun = Counter(event["chunk"] for event in events(out) if event["event"] == "solve")
    assert set(begun) == set(range(CHUNKS))
    # One chunk is in flight at a time, so a kill can cost one: all the rest are solved once.
    assert sum(begun.values()) <= CHUNKS + landed
    assert not list(out.glob("chunks/*/.*.tmp"))
    return landed


@pytest.mark.thorough
def test_killed_at_random_instants_and_resumed_bitwise(uninterrupted, tmp_path):
    assert killed_and_resumed(tmp_path, *uninterrupted, kills=2, seed=0) >= 1


@pytest.mark.slow
def test_fifty_kills(uninterrupted, tmp_path):
    """Ten sweeps, each killed five times on its way; kills that came when the run was over are made again."""
    landed, chain = 0, 0
    while landed < 50:
        landed += killed_and_resumed(tmp_path / str(chain), *uninterrupted, kills=5, seed=chain)
        chain += 1
    print(f"{landed} kills in {chain} sweeps, all resumed to the same bits")


@pytest.mark.thorough
def test_two_processes_of_two_devices_find_the_same_bits(uninterrupted, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    pair = [start(tmp_path, "--process", i, "--count", 2, "--port", port, "--wait", 0.02, devices=2) for i in range(2)]
    assert [finished(one) for one in pair] == [{"done": True, "devices": 2, "processes": 2}] * 2
    same(Table.load(tmp_path), uninterrupted[0])
    shares = Counter((event["chunk"]) for event in events(tmp_path) if event["event"] == "solve")
    assert shares == Counter(range(CHUNKS))
    assert {path.name for path in tmp_path.glob("log*")} == {"log-0-of-2.jsonl", "log-1-of-2.jsonl"}
    assert (tmp_path / "table.csv").exists()


ENDLESS = """
import json, os, signal, sys, threading, time
from pathlib import Path
import numpy as np
import optax
import jaxdescramble as jd

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it, and so would this
out, phase = Path(sys.argv[1]), sys.argv[2]
signals = np.random.default_rng(0).standard_normal((3, 6, 20)).astype("float32")
endless = jd.solvers.Optax(optax.sgd(1e-3), max_steps=2_000_000_000, tolerance=0.0)
problems = jd.grid(signals[:1]) + jd.grid(signals, jd.objectives.sparsity("l4"), endless)
sent = []

def interrupt():
    time.sleep(0.2)
    sent.append(time.perf_counter())
    os.kill(os.getpid(), signal.SIGINT)

def see(stage, done, total):
    # One closed form is finished, or nothing has begun: an endless problem is compiled or solved next.
    if not sent and stage == phase and done == (phase == "solving"):
        sent.append(None)
        threading.Thread(target=interrupt).start()

try:
    jd.sweep(problems, out, progress=see, chunk_size=1 if phase == "solving" else None)
except KeyboardInterrupt as error:
    seconds = time.perf_counter() - sent[-1]
    print(json.dumps({"seconds": seconds, "notes": getattr(error, "__notes__", [])}), flush=True)
    os._exit(0)
"""


@pytest.mark.parametrize("phase", ["solving", pytest.param("measuring", marks=pytest.mark.thorough)])
def test_ctrl_c_is_answered_while_a_problem_never_ends(tmp_path, phase):
    command = [sys.executable, "-c", ENDLESS, str(tmp_path), phase]
    done = subprocess.run(
        command, env={**os.environ, "XLA_FLAGS": COMPILE_FAST}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["seconds"] < 5  # a second, on a machine that has one
    if phase == "solving":
        assert found["notes"] == [f"1 of 4 problems were solved and are kept in {tmp_path}."]
        assert Table.load(tmp_path)["status"].tolist() == [0, -1, -1, -1]
        assert [event["event"] for event in events(tmp_path)][-1] == "stopped"
    else:
        assert not list(tmp_path.iterdir())  # sizes are written when all are known
