"""Every public function once, as users run it; the calls are made in `as_users.py`, in a process of its own.

By default every sixth function is called, and at least one of every room; in the thorough tier all are, with XLA's own
flags.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from as_users import chosen
from compile_fast import COMPILE_FAST
from fuzzing_calls import CALLS, NO_FILE

SCRIPT = Path(__file__).parent / "as_users.py"
ROOT = SCRIPT.parent.parent
VARIABLES = ("XLA_FLAGS", "JAX_PLATFORMS", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "GOTO_NUM_THREADS")


@pytest.fixture(scope="module", params=[COMPILE_FAST, None], ids=["compiled fast", "compiled as for users"])
def flags(request):
    """XLA's flags; its own are thorough, for they take three times as long."""
    return request.param


@pytest.fixture(scope="module")
def step(flags):
    """Every which function is called. With XLA's own flags, programs take three times as long to compile."""
    return 6 if flags else 1


@pytest.fixture(scope="module")
def told(flags, step):
    """What the process prints: its settings, and what is wrong with each answer."""
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    environment |= {"XLA_FLAGS": flags} if flags else {}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(step)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_nothing_else_is_set(told, flags):
    defaults = {"64-bit types": False, "rank promotion": "allow", "LAPACK's threads": 1, "flags": flags}
    assert told["settings"] == defaults


def test_every_public_function_answers(told, step):
    assert list(told["answers"]) == chosen(step)
    assert set(chosen(1)) == {path for path in CALLS if " " not in path} - NO_FILE
    wrong = {path: why for path, why in told["answers"].items() if why}
    assert not wrong, "\n".join(f"{path}: {why}" for path, why in wrong.items())
