"""Malformed arguments to every public function: a result, or an error of the package's own that names the argument.

The default tier spoils every argument in two ways, the thorough tier in six more;
`pytest -m slow tests/test_fuzz.py -s` runs 10,000 cases and prints the tally.
"""

import collections

import jax
import jax.numpy as jnp
import pytest
from fuzzing import every_case, public_functions
from fuzzing_calls import CALLS, LEFT_OUT, PROTOCOLS, ROOMS_LEFT_OUT, P, S, dictionary_of, objectives_made

import jaxdescramble as jd

pytestmark = pytest.mark.usefixtures("as_installed")


def test_every_public_function_is_fuzzed_or_left_out_with_a_reason():
    known = {path.split(" ")[0] for path in CALLS} | set(LEFT_OUT)
    unknown = [path for path in public_functions() if path not in known and path.split(".")[-1] not in PROTOCOLS]
    missing = [path for path in unknown if not any(f"{path}.".startswith(f"{room}.") for room in ROOMS_LEFT_OUT)]
    wanted = [f"{path} in {dictionary_of(path)}" for path in missing]
    assert not missing, (
        "tests/fuzzing_calls.py has no call of these. Give each a line in the dictionary that is named here, or in "
        f"LEFT_OUT with the reason: {wanted}"
    )


CASES = every_case(CALLS)
KINDS = [
    pytest.param({"text", "an object"}, id="strangers"),
    pytest.param(
        {"a structured array", "float16", "bfloat16", "three words", "a number as text", "an empty axis"},
        id="arrays and numbers",
        marks=pytest.mark.thorough,
    ),
]
"""Ways to spoil an argument that are nearly always refused before anything is compiled."""
MAY_NOT_BE = ("crash", "hang", "silent")


def failures(cases):
    """What may not be, with the number that makes it again, and how often was what."""
    tally, wrong = collections.Counter(), []
    for count, case in enumerate(cases, start=1):
        found = case.run(CALLS)
        tally[found.kind] += 1
        if found.kind in MAY_NOT_BE:
            wrong.append(f"{found.kind}: case {case.number}, {case.path}({case.argument}={case.what}): {found.detail}")
        if count % 1500 == 0:
            jax.clear_caches()  # thousands of programs would fill the memory
    return wrong, tally


@pytest.mark.parametrize("kinds", KINDS)
def test_malformed_arguments_are_refused_by_name(kinds):
    cases = [case for case in CASES if case.what in kinds]
    wrong, tally = failures(cases)
    assert not wrong, "\n".join(wrong[:20])
    assert tally["refused"] > 0.7 * len(cases)


def test_every_argument_is_spoiled():
    known = {(case.path, case.argument) for case in CASES if case.what in KINDS[0].values[0]}
    assert len(known) > 600
    assert known == {(path, name) for path, call in CALLS.items() for name in call.arguments if name not in call.fixed}


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_half_precision_gets_a_clear_answer_wherever_signals_are_taken(half):
    taken = ("signals", "matrix", "weight", "point", "start", "fit", "read", "x", "decay", "matrices", "p", "q")
    cases = [case for case in CASES if case.what == half and case.argument in taken]
    assert len(cases) > 60
    found = {(case.path, case.argument): case.run(CALLS) for case in cases}
    del found["gated.path_kernel.enumerate_paths", "x"]  # on the host, in float64 whatever it is given
    assert not {where: what for where, what in found.items() if what.kind != "refused"}


@pytest.mark.slow
def test_ten_thousand_malformed_arguments(capsys):
    assert len(CASES) > 10_000
    # One after another by function, so that what is compiled is used again.
    cases = sorted(CASES[:10_000], key=lambda case: (case.path, case.argument))
    wrong, tally = failures(cases)
    kinds = collections.Counter(case.path.split(".")[0] for case in cases)
    with capsys.disabled():
        print(f"\n{len(cases)} malformed arguments: {dict(tally)}; by room {dict(kinds)}")
    assert not wrong, f"{len(wrong)}:\n" + "\n".join(wrong[:40])


@pytest.mark.thorough
def test_no_objective_makes_a_number_of_nan():
    """0 is the best there is: an objective of signals that are not numbers must not look like it."""
    broken = S.at[0, 0].set(jnp.nan)
    for name, objective in objectives_made().items():
        assert jnp.isnan(objective(P, broken)), name
    assert jnp.isnan(jd.descramble(broken).initial_value)
    assert jnp.isnan(jd.descramble(S).score(broken))


def test_arguments_of_nan_are_answered_with_nan_or_a_reason():
    paths = (
        "attribution.gradient",
        "datasets.relaxometry.fit",
        "gated.path_kernel.alignment",
        "manifolds.orthogonal.polar",
    )
    cases = [case for case in CASES if case.what == "all NaN" and case.path in paths]
    assert len(cases) >= 5
    wrong, tally = failures(cases)
    assert not wrong, "\n".join(wrong)
    assert tally["result"] >= 3
