"""Bad input, as users meet it (without the suite's shape checks): every message says what was seen and what to do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdescramble as jd

pytestmark = [pytest.mark.usefixtures("as_installed"), pytest.mark.both_precisions]

S = jnp.ones((4, 6)).at[0, 0].set(2.0)
PARAMS, X = {"w": jnp.ones((3, 2)), "v": jnp.ones((2, 2))}, jnp.ones((5, 3))


def f(params, x):
    return jnp.tanh(x @ params["w"]) @ params["v"]


def found():
    return jd.descramble(S)


CASES = {
    "signals with one axis": (
        lambda: jd.descramble(jnp.ones(4)),
        ValueError,
        r"signals: expected \(features, samples\)",
    ),
    "signals that are a number": (lambda: jd.descramble(3.0), ValueError, r"an array of shape \(\)"),
    "signals that are text": (lambda: jd.descramble("S"), TypeError, "signals: expected an array of numbers"),
    "signals that are None": (lambda: jd.descramble(None), TypeError, "signals: expected an array of numbers"),
    "no samples": (lambda: jd.descramble(jnp.ones((4, 0))), ValueError, r"\(4, 0\) has an empty axis"),
    "no features": (lambda: jd.descramble(jnp.ones((0, 4))), ValueError, "empty axis"),
    "integers": (lambda: jd.descramble(jnp.ones((3, 4), int)), TypeError, r"got int.*astype\(jnp.float32\)"),
    "booleans": (lambda: jd.descramble(jnp.ones((3, 4), bool)), TypeError, "got bool"),
    "complex": (lambda: jd.descramble(1j * S), TypeError, "use group='U'. Stack the real and the imaginary parts"),
    "float16": (lambda: jd.descramble(S.astype(jnp.float16)), TypeError, "too coarse for orthogonal matrices"),
    "bfloat16": (lambda: jd.descramble(S.astype(jnp.bfloat16)), TypeError, "got bfloat16"),
    "NaN": (lambda: jd.descramble(S * jnp.nan).check(), FloatingPointError, "NOT_FINITE: the signals"),
    "infinity": (lambda: jd.descramble(S / 0).check(), FloatingPointError, "Likely causes"),
    "all zero": (lambda: jd.descramble(0 * S).check(), FloatingPointError, "dead neurons"),
    "an empty summary": (
        lambda: jd.descramble(jd.objectives.smoothness().empty(3, float)).check(),
        FloatingPointError,
        "ZERO_SIGNALS",
    ),
    "a class in place of an objective": (
        lambda: jd.descramble(S, jd.objectives.smoothness),
        TypeError,
        "mind the paren",
    ),
    "a name in place of an objective": (lambda: jd.descramble(S, "smoothness"), TypeError, "objective: got str"),
    "an unknown solver": (lambda: jd.descramble(S, solver="exact"), TypeError, "solver: got 'exact'"),
    "a function as a solver": (
        lambda: jd.descramble(S, solver=lambda objective, summary, group: None),
        TypeError,
        "no pytree of numbers",
    ),
    "a solver class": (lambda: jd.descramble(S, solver=jd.exact.ClosedForm), TypeError, "a solver value"),
    "an unknown group": (lambda: jd.descramble(S, group="Sp"), ValueError, "group: got 'Sp'; choose one of 'O', 'SO'"),
    "an unknown boundary": (lambda: jd.objectives.smoothness(boundary="open"), ValueError, "boundary: got 'open'"),
    "an unknown scheme": (lambda: jd.objectives.smoothness(scheme="fd"), ValueError, "scheme: got 'fd'"),
    "an unknown summary": (lambda: jd.objectives.smoothness(summary="qr"), ValueError, "'factor', 'gram', 'samples'"),
    "order zero": (lambda: jd.objectives.smoothness(order=0), ValueError, "order: expected a positive integer, got 0"),
    "half an order": (lambda: jd.objectives.smoothness(order=1.5), TypeError, "got 1.5"),
    "a grid of the wrong size": (
        lambda: jd.descramble(S, jd.objectives.smoothness(shape=(3, 3))),
        ValueError,
        "9 points, the signals have 4",
    ),
    "an operator of the wrong size": (
        lambda: jd.descramble(S, jd.objectives.smoothness(operator=jd.operators.derivative(5))),
        ValueError,
        "5 points",
    ),
    "a matrix in place of an operator": (
        lambda: jd.objectives.smoothness(operator=jnp.eye(3)),
        TypeError,
        "operators.from_matrix",
    ),
    "a point that does not fit": (
        lambda: jd.objectives.smoothness()(jnp.eye(3), S),
        ValueError,
        r"point: shape \(3, 3\) does not fit",
    ),
    "batches of other features": (
        lambda: jd.objectives.smoothness().update(jd.objectives.smoothness().empty(3, S.dtype), S),
        ValueError,
        "does not fit the summary's features; axis 0 must have size 3",
    ),
    "batches of another type": (
        lambda: jd.objectives.smoothness().update(jd.objectives.smoothness().empty(4, jnp.float16), S),
        TypeError,
        "given to a summary of float16",
    ),
    "summaries of two kinds": (
        lambda: jd.objectives.smoothness().merge(
            jd.objectives.Gram.empty(3, float), jd.objectives.Factor.empty(3, float)
        ),
        ValueError,
        "merge: got summaries",
    ),
    "held-out signals of other features": (
        lambda: found().score(S[:3]),
        ValueError,
        "signals: shape .3, 6. does not fit",
    ),
    "held-out signals of other layers": (
        lambda: jd.descramble(S[None]).score(jnp.stack([S, S])),
        ValueError,
        r"batch \(2,\) does not fit",
    ),
    "transforming other features": (lambda: found().transform(S[:3]), ValueError, "does not fit the descrambler"),
    "checking inside jit": (
        lambda: jax.jit(lambda s: jd.descramble(s).check().value)(S),
        TypeError,
        "call it outside jit",
    ),
    "Procrustes of two shapes": (lambda: jd.exact.procrustes(S, S[:, :2]), ValueError, "must be the same"),
    "Procrustes of NaN": (lambda: jd.exact.procrustes(S, S * jnp.nan), ValueError, "reference: contains NaN"),
    "a diagonal sum of a vector": (
        lambda: jd.exact.diagonal_sum(jnp.ones(3)),
        ValueError,
        r"weight: expected \(out, in\)",
    ),
    "aligning two shapes": (
        lambda: jd.exact.align(S, S[:2], jd.exact.CircularShifts(4)),
        ValueError,
        "got p of shape .4, 6. and q of shape .2, 6.",
    ),
    "a gauge of another size": (
        lambda: jd.exact.align(S, S, jd.exact.CircularShifts(5)),
        ValueError,
        "does not fit the gauge; axis 0 must have size 5",
    ),
    "an uneven autocovariance": (
        lambda: jd.exact.circulant_minimiser(jnp.asarray([3.0, 2.0, 1.0])),
        ValueError,
        "Average the two",
    ),
    "a circulant with ends": (
        lambda: jd.exact.circulant_minimiser(jnp.ones(3), boundary="neumann"),
        ValueError,
        "must be 'periodic'",
    ),
    "random elements of size zero": (
        lambda: jd.manifolds.orthogonal.random(jax.random.key(0), 0),
        ValueError,
        "n: expected a positive integer, got 0",
    ),
    "a model object in place of parameters": (lambda: jd.wiretap(f)({"w": "text"}, X), TypeError, "not an array"),
    "an insertion at an unknown layer": (
        lambda: jd.insert(f, PARAMS, X, {"['u']": jnp.eye(2)}),
        ValueError,
        r"there is no layer \['u'\]; there are \['w'\]",
    ),
    "an insertion of the wrong size": (
        lambda: jd.insert(f, PARAMS, X, {"['w']": jnp.eye(3)}),
        ValueError,
        r"got shape \(3, 3\); the layer takes \(2, 2\)",
    ),
    "reordering an unknown layer": (
        lambda: jd.reorder(f, PARAMS, X, "['u']", [0, 1]),
        ValueError,
        "name: there is no layer",
    ),
    "no permutation": (lambda: jd.reorder(f, PARAMS, X, "['w']", [0, 0]), ValueError, "permutation"),
    "reordering the output": (
        lambda: jd.reorder(f, PARAMS, X, "['v']", [1, 0]),
        ValueError,
        "computes the function.s result",
    ),
    "a network without layers": (
        lambda: jd.descramble_network(lambda p, x: x + p, jnp.ones(()), X),
        ValueError,
        "no linear layer",
    ),
    "unknown ends": (lambda: jd.descramble_network(f, PARAMS, X, ends="both"), ValueError, "'ordered', 'free'"),
}


@pytest.mark.every_case
@pytest.mark.parametrize("name", list(CASES))
def test_bad_input_is_refused_with_a_reason(name):
    call, error, message = CASES[name]
    with pytest.raises(error, match=message) as caught:
        call()
    assert "Traceback" not in str(caught.value)


def test_there_are_at_least_thirty_kinds():
    assert len(CASES) >= 30


def test_what_looks_bad_but_is_not():
    """Rank-deficient signals, one neuron, one sample, constants, NumPy arrays: answers, not errors."""
    assert float(jd.descramble(np.ones((1, 5))).check().value) == 0
    one_sample = jd.descramble(np.arange(1.0, 6.0)[:, None]).check()
    assert int(one_sample.rank) == 1
    assert float(one_sample.value) < 1e-6
    deficient = jd.descramble(jnp.outer(jnp.arange(4.0), jnp.ones(9))).check()
    assert int(deficient.rank) == 1
    assert float(jd.manifolds.orthogonal.defect(deficient.point)) < 1e-5
