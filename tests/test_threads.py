"""The threads of JAX's LAPACK: one as the package leaves them, another number on request, restored afterwards."""

import json
import os
import subprocess
import sys

import pytest

import jaxdescramble as jd
from jaxdescramble._base import lapack

pytestmark = pytest.mark.usefixtures("as_installed")

PROGRAM = """
import json, os, sys
import numpy
import threadpoolctl

def numbers():
    return {os.path.basename(os.path.dirname(one["filepath"])): one["num_threads"]
            for one in threadpoolctl.threadpool_info() if one["internal_api"] == "openblas"}

before = numbers()
import jaxdescramble as jd
from jaxdescramble._base.lapack import one_thread
told = int(jd.threads())  # this loads the library, if the import of the package left it alone
found = {"before": before, "after": numbers(), "told": told}
jd.threads(2)
found["set"] = numbers()
if "fork" in sys.argv:
    with one_thread():
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.write(writer, str(jd.threads()).encode())
            os._exit(0)
        os.waitpid(child, 0)
        found["child"] = os.read(reader, 10).decode()
print(json.dumps(found))
"""


def in_a_fresh_process(*words, **variables):
    environment = {name: value for name, value in os.environ.items() if name not in lapack.VARIABLES} | variables
    done = subprocess.run([sys.executable, "-c", PROGRAM, *words], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def restored():
    with jd.threads(1):
        yield


needs_wheels = pytest.mark.skipif(lapack._openblas() is None, reason="SciPy's LAPACK is not OpenBLAS here")
needs_cores = pytest.mark.skipif(os.cpu_count() == 1, reason="with one core there is one thread in any case")


@needs_wheels
@needs_cores
def test_one_thread_is_the_default_and_numpy_keeps_its_own():
    found = in_a_fresh_process("fork")
    assert found["told"] == 1
    assert found["after"]["scipy.libs"] == 1
    assert found["after"]["numpy.libs"] == found["before"]["numpy.libs"] > 1
    assert found["set"] == {"scipy.libs": 2, "numpy.libs": found["before"]["numpy.libs"]}
    # A child of a process that holds LAPACK to one thread is not held itself, and does not wait for its parent's lock.
    assert found["child"] == "2"


@needs_wheels
@needs_cores
def test_an_environment_variable_has_the_last_word():
    found = in_a_fresh_process(OMP_NUM_THREADS="2")
    assert found["told"] == found["after"]["scipy.libs"] == 2


@needs_wheels
@pytest.mark.parametrize(
    ("environment", "number"),
    [
        ({}, 1),
        ({"OPENBLAS_NUM_THREADS": ""}, 1),
        ({"OMP_NUM_THREADS": "0"}, 1),
        ({"OMP_NUM_THREADS": "many"}, 1),
        ({"MKL_NUM_THREADS": "3"}, 1),
        ({"OPENBLAS_NUM_THREADS": "2"}, 3),
        ({"GOTO_NUM_THREADS": " 2 "}, 3),
    ],
)
@pytest.mark.usefixtures("restored")
def test_which_variables_count(environment, number):
    jd.threads(3)
    lapack.set_default(environment)
    assert jd.threads() == number


@needs_wheels
@pytest.mark.usefixtures("restored")
def test_the_number_comes_back():
    assert jd.threads(2) == 1
    with jd.threads(3) as before:
        assert before == 2
        assert jd.threads() == 3
        with pytest.raises(ZeroDivisionError), jd.threads(1):
            _ = 1 / 0
        assert jd.threads() == 3
    assert jd.threads(before) == 2


@needs_wheels
@pytest.mark.usefixtures("restored")
def test_several_holders_and_a_new_number_meanwhile():
    get = lapack._openblas()[0]
    jd.threads(3)
    first, second = lapack.one_thread(), lapack.one_thread()
    with first:
        second.__enter__()
        assert (get(), jd.threads()) == (1, 3)
    assert get() == 1  # the second one still holds it
    assert jd.threads(2) == 3
    assert get() == 1
    second.__exit__(None, None, None)
    assert get() == jd.threads() == 2


@pytest.mark.parametrize("count", [0, -1, 1.5, "2", True, [2]])
def test_a_number_that_is_none_is_refused(count):
    with pytest.raises((TypeError, ValueError), match="count: expected a positive integer"):
        jd.threads(count)


def test_where_lapack_is_not_openblas_nothing_happens_and_it_is_said(monkeypatch):
    monkeypatch.setattr(lapack, "_openblas", lambda: None)
    lapack.set_default({})
    assert jd.threads() == 0
    with pytest.warns(jd.JaxdescrambleWarning, match="not OpenBLAS.*nothing changed"), jd.threads(4) as before:
        assert before == 0
    assert jd.threads(before) == 0
    with lapack.one_thread():
        pass
