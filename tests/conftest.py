"""Strict settings for the whole suite: they are set before JAX is first imported.

`JAXDESCRAMBLE_TEST_X64=0` turns 64-bit types off; `tests/test_default_precision.py` runs the tests marked
`both_precisions` or `default_precision` that way in a second pass.
"""

import os

# Most of the suite's time is compilation of programs that run once: a third less of it without LLVM's optimiser.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0 "
    "--xla_llvm_disable_expensive_passes=true",
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "Agg")

import jax
import jaxtyping
import pytest

X64 = os.environ.get("JAXDESCRAMBLE_TEST_X64", "1") == "1"
jax.config.update("jax_enable_x64", X64)
jax.config.update("jax_numpy_rank_promotion", "raise")

# Shapes stand in the signatures; here, and only here, they are checked.
jaxtyping.install_import_hook("jaxdescramble", "beartype.beartype")


@pytest.fixture
def key():
    return jax.random.key(0)


@pytest.fixture
def as_installed():
    """Run without the shape checks, as users do: what they see on bad input are the package's own messages."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(autouse=True, scope="module")
def forget_what_was_compiled():
    """Compiled programs of thousands of tests would fill the memory of a small machine."""
    yield
    jax.clear_caches()
