"""Strict settings for the whole suite, set before JAX is first imported, and the tiers that README.md describes.

`JAXDESCRAMBLE_TEST_X64=0` turns 64-bit types off: the thorough tier runs the tests marked `both_precisions` or
`default_precision` that way in a second pass.
"""

import gc
import os
import signal

from compile_fast import COMPILE_FAST

os.environ.setdefault("XLA_FLAGS", f"--xla_force_host_platform_device_count=8 {COMPILE_FAST}")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "Agg")

import jax
import jaxtyping
import pytest

# A shell's background jobs ignore Ctrl-C; tests of interruptions would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

X64 = os.environ.get("JAXDESCRAMBLE_TEST_X64", "1") == "1"
jax.config.update("jax_enable_x64", X64)
jax.config.update("jax_numpy_rank_promotion", "raise")

# Shapes stand in the signatures; here, and only here, they are checked.
jaxtyping.install_import_hook("jaxdescramble", "beartype.beartype")


LONG_FILES = {
    f"test_{name}.py"
    for name in (
        "as_users",
        "descramble_permutation",
        "docs",
        "docstrings",
        "evaluation",
        "examples",
        "gating_studies",
        "golden",
        "lapack",
        "published_studies",
        "relaxometry",
        "studies",
        "studies_deernet",
    )
}
"""Files that take long for their length."""
PROGRAMS = 500
"""A process forgets its programs, 1.4 MiB each, at the end of the file in which it has compiled so many."""


def spread_out(count, k):
    """Return k of the numbers below count, at equal distances from 0 on; all of them if there are fewer."""
    return [i * count // k for i in range(k)] if k < count else range(count)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Mark the cases of a parametrised test after the first as `thorough` and `further_case`, but for `every_case`.

    Of a test with the marker `sampled(k)`, k cases in all are in these two tiers; the others are marked `slow`.

    Among several workers, long files come first: a long one at the end keeps one core busy and the others idle.
    """
    cases = {}
    for item in items:
        whole = item.get_closest_marker("thorough") and not item.get_closest_marker("sampled")
        if not whole and not any(item.get_closest_marker(name) for name in ("every_case", "slow", "gpu")):
            cases.setdefault((item.path, item.originalname), []).append(item)
    for some in cases.values():
        sample = some[0].get_closest_marker("sampled")
        kept = set(spread_out(len(some), sample.args[0] if sample else len(some)))
        for number, item in enumerate(some[1:], 1):
            item.add_marker(pytest.mark.thorough if number in kept else pytest.mark.slow)
            item.add_marker(pytest.mark.further_case)
    if hasattr(config, "workerinput"):
        sizes = {path: path.stat().st_size for path in {item.path for item in items}}
        items.sort(key=lambda item: (item.path.name not in LONG_FILES, -sizes[item.path], item.path.name))


def pytest_collection_finish():
    """Take what was imported out of the garbage collector's rounds, which took a second each."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def key():
    return jax.random.key(0)


@pytest.fixture
def as_installed():
    """Run without the shape checks, as users do: what they see on bad input are the package's own messages."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


programs = 0


def count_programs(event, _, **__):
    global programs
    programs += event == "/jax/core/compile/backend_compile_duration"


jax.monitoring.register_event_duration_secs_listener(count_programs)


@pytest.fixture(autouse=True, scope="module")
def forget_what_was_compiled():
    """Compiled programs of thousands of tests would fill the memory of a small machine.

    Not after every module: many modules compile the same small programs.
    """
    global programs
    yield
    if programs > PROGRAMS:
        jax.clear_caches()
        programs = 0
