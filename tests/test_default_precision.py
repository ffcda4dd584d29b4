"""The second pass, with 64-bit types disabled, as most users run JAX: what is marked for both passes, or for it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


@pytest.mark.skipif(os.environ.get("JAXDESCRAMBLE_TEST_X64", "1") == "0", reason="this is the second pass")
def test_the_suite_passes_with_64_bit_types_disabled():
    marks = "(both_precisions or default_precision) and not slow and not gpu"
    command = [sys.executable, "-m", "pytest", "-q", "-m", marks, "--numprocesses=0",
               "-p", "no:cacheprovider", str(TESTS)]  # fmt: skip
    environment = os.environ | {"JAXDESCRAMBLE_TEST_X64": "0"}
    environment.pop("PYTEST_XDIST_WORKER", None)
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stdout[-5000:] + shown.stderr[-2000:]
