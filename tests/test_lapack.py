"""No public function makes a LAPACK or BLAS call with a batch above 1 on a CPU, where it could wait for ever.

Every line of `fuzzing_calls.CALLS` is traced with its arrays, and lowered alone, vmapped, and three times in one
program. A function that reads concrete numbers cannot be traced; it is run instead, and every program that JAX compiles
meanwhile is read. `pytest -m slow tests/test_lapack.py` compiles everything and reads the optimised programs.
"""

import ast
import functools
import os
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from fuzzing import Call
from fuzzing_calls import (
    CALLS,
    IMAGES,
    KEY,
    LEFT_OUT,
    NO_FILE,
    OBJECTIVE,
    ROOMS_LEFT_OUT,
    SPARSE,
    SUMMARY,
    D,
    P,
    S,
    W,
    X,
)
from lapack_calls import batched, lapack_calls, programs, result_of

import jaxdescramble as jd
from jaxdescramble._base import decompositions
from jaxdescramble.descrambling.film._nearest import nearest_equal, nearest_minimiser

pytestmark = pytest.mark.usefixtures("as_installed")


def heads(params, x):
    """Attention's queries: two heads of two features."""
    q = (x @ params["q"]).reshape(len(x), 2, 2)
    k = (x @ params["k"]).reshape(len(x), 2, 2)
    return jax.nn.softmax(jnp.einsum("ihd,jhd->hij", q, k))


def network(params, x):
    return jax.nn.relu(x @ params["w"]) @ params["v"]


DENSE = jd.gated.path_kernel.Dense()
COMPLEX = {"w": 1j * W[:, :3], "v": 1j * W[:3, :2]}
UNITARY = {"['w']": 1j * jnp.eye(3)}
HEADS = {"q": W, "k": W}
TURNS = {"['q']": jnp.stack([jnp.eye(2), 2 * jnp.eye(2)]), "['k']": jnp.eye(2)}
QUICK = jd.solvers.TrustRegion(max_steps=2, preconditioner=jd.solvers.Analytic())
AUTOMATIC = jd.solvers.TrustRegion(max_steps=2, preconditioner=jd.solvers.Automatic())


def filmed(params, x):
    few = jd.solvers.LBFGS(max_steps=2, preconditioner=None)
    for objective, solver, group in ((None, None, "SO"), (jd.objectives.sparsity(), few, "O")):
        with jd.Film(network, x, objective, solver, group=group, every=1, wait=True, layers=["['w']"]) as film:
            film.see(0, params)
            film.see(1, jax.tree.map(lambda leaf: 1.1 * leaf, params))
        assert len(film.frames.steps) == 2


def swept(signals, folder):
    few = jd.solvers.LBFGS(max_steps=2, preconditioner=None)
    random = jd.grid(signals, jd.objectives.sparsity(), few, seeds=range(2))
    assert jd.sweep([*jd.grid(signals), *random], folder, key=KEY).done


def explained(weight, signals):
    return jd.explain({"first": (weight, signals), "last": (weight[:, :3], signals[:3])}, draws=2)


def accumulated(signals):
    return jd.Accumulator.empty(len(signals), signals.dtype).add(signals).add(signals).summary(OBJECTIVE)


def scored(signals):
    sums = jd.Accumulator.empty(len(signals), signals.dtype).add(signals)
    return jd.descrambling.score(SPARSE, jnp.eye(len(signals)), [signals], sums)


def refined(signals):
    sums = jd.Accumulator.empty(len(signals), signals.dtype).add(signals)
    return jd.descrambling.refine(SPARSE, jnp.eye(len(signals)), [signals], sums, optax.sgd(0.1)).point


def quartic(manifold, point):
    solver = jd.solvers.LBFGS(max_steps=2)
    return jd.minimise(lambda X: jnp.sum(jnp.abs(X) ** 4), point, manifold=manifold, solver=solver)


MORE = (
    {
        f"objectives.{name}": Call(getattr(jd.objectives, name)(), {"point": P, "summary": S})
        for name in ("bandedness", "diagonal_norm", "diagonal_sum")
    }
    | {
        f"manifolds.{name}": Call(
            functools.partial(quartic, getattr(jd.manifolds, name)()),
            {"point": jnp.eye(4, columns)},
        )
        for name, columns in {
            "Euclidean": 2,
            "Grassmann": 2,
            "Orthogonal": 4,
            "SpecialOrthogonal": 4,
            "SpecialUnitary": 4,
            "Unitary": 4,
        }.items()
    }
    | {
        "solvers.Automatic": Call(
            lambda S: jd.minimise(OBJECTIVE, P, OBJECTIVE.summarise(S), solver=AUTOMATIC), {"S": S}
        ),
        "solvers.Analytic": Call(lambda S: jd.minimise(OBJECTIVE, P, OBJECTIVE.summarise(S), solver=QUICK), {"S": S}),
        "gated.path_kernel.Flatten": Call(
            jd.gated.path_kernel.network,
            IMAGES | {"layers": (DENSE, jd.gated.path_kernel.Gate(), jd.gated.path_kernel.Flatten(), DENSE)},
        ),
        "insert at heads": Call(jd.insert, {"f": heads, "params": HEADS, "x": X, "points": TURNS}),
        "align of complex matrices": Call(
            lambda p, q: jd.exact.align(p + 0j, q + 1j, jd.exact.Stabiliser(D)), {"p": P, "q": jnp.eye(4)}
        ),
        "insert of a unitary matrix": Call(jd.insert, {"f": network, "params": COMPLEX, "x": X, "points": UNITARY}),
        "film.nearest_minimiser": Call(
            lambda p, q: nearest_minimiser(D, p, q, jnp.asarray(2), "SO"), {"p": P, "q": jnp.eye(4)}
        ),
        "film.nearest_equal": Call(
            lambda p, q: nearest_equal(OBJECTIVE, SUMMARY, p, q, "SO"), {"p": P, "q": jnp.eye(4)}
        ),
        "Film": Call(filmed, {"params": {"w": W[:, :3], "v": W[:3, :2]}, "x": X}),
        "sweep": Call(swept, {"signals": np.stack([S, 2 * S]), "folder": None}),
        "explain": Call(explained, {"weight": np.asarray(S[:, :4]), "signals": np.asarray(S)}),
        "Accumulator": Call(accumulated, {"signals": np.asarray(S)}),
        "descrambling.refine": Call(refined, {"signals": np.asarray(S)}),
        "descrambling.score": Call(scored, {"signals": np.asarray(S)}),
    }
)
"""What takes no arguments, what keeps files, and uses that the lines of `fuzzing_calls` do not show."""

SHOWN = {
    "exact.ClosedForm": "exact.ClosedForm.__call__",
    "gated.Hard": "gated.Hard.__call__",
    "gated.path_kernel.Gate": "gated.path_kernel.network",
    "grid": "sweep",
    "Problem": "sweep",
    "findings.Isotropic": "explain",
    "findings.PermutedEntries": "explain",
    "findings.RandomFrame": "explain",
}
"""Which line shows what takes no arguments."""

EVERY = {path: call for path, call in (CALLS | MORE).items() if path not in NO_FILE}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """A function that returns the text of every program that JAX compiled since its last call."""
    folder, seen = tmp_path_factory.mktemp("programs"), set()
    jax.clear_caches()  # what is compiled already would not be compiled again, and so not be read
    jax.config.update("jax_dump_ir_to", str(folder))

    def read():
        new = [path for path in folder.iterdir() if path not in seen]
        seen.update(new)
        return [path.read_text() for path in new]

    yield read
    jax.config.update("jax_dump_ir_to", os.environ.get("JAX_DUMP_IR_TO", ""))


def run(call, folder):
    arguments = call.arguments | ({"folder": folder} if "folder" in call.arguments and call is MORE["sweep"] else {})
    jax.block_until_ready([leaf for leaf in jax.tree.leaves(result_of(call, arguments)) if isinstance(leaf, jax.Array)])


@pytest.mark.parametrize("path", EVERY)
def test_no_public_function_has_a_batched_lapack_call_on_a_cpu(path, compiled, tmp_path):
    try:
        lower = programs(EVERY[path])
    except Exception as error:
        traced = isinstance(error, jax.errors.JAXTypeError) or re.search("traced|jit", str(error))
        if path not in MORE and not traced:
            raise  # it is not that the function reads concrete numbers
        run(EVERY[path], tmp_path)
        texts = []
    else:
        texts = [lower().as_text()]
    assert not batched([*texts, *compiled()])


SOME = ("exact.procrustes", "manifolds.retractions.cayley", "manifolds.retractions.qr")
SOME += ("insert", "insert at heads", "gated.path_kernel.ridge", "gated.path_kernel.leave_one_out")


@pytest.mark.parametrize("path", SOME)
def test_optimised_programs_have_none_either(path):
    text = programs(EVERY[path])().compile().as_text()
    assert lapack_calls(text)
    assert not batched([text])


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in EVERY if path not in SOME])
def test_no_optimised_program_has_any(path):
    try:
        lowered = programs(EVERY[path])()
    except Exception as error:
        pytest.skip(f"cannot be traced: {type(error).__name__}")
    assert not batched([lowered.compile().as_text()])


def test_the_reader_finds_batched_calls(compiled):
    """The control: a vmapped solve of jax.numpy, traced, optimised and run; and the same through decompositions."""
    arguments = {"a": jnp.eye(3) + jnp.ones((3, 3)), "b": jnp.ones((3, 2))}
    for function, expected in ((jnp.linalg.solve, [1, 3]), (decompositions.solve, [1])):
        lowered = programs(Call(lambda a, b, function=function: function(a, b), arguments))()
        for text in (lowered.as_text(), lowered.compile().as_text()):
            found = lapack_calls(text)
            assert {call.name for call in found} == {"lapack_dgetrf_ffi", "lapack_dtrsm_ffi"}
            assert sorted({call.batch for call in found}) == expected
            assert bool(batched([text])) == (expected != [1])
    compiled()
    jnp.linalg.solve(jnp.stack([arguments["a"]] * 5), jnp.stack([arguments["b"]] * 5))
    assert {call.batch for call in batched(compiled())} == {5}


def test_every_public_function_is_here():
    """Each has a line in CALLS or in LEFT_OUT (`test_fuzz`); those left out for their arguments have one in MORE."""
    elsewhere = (
        "a result",
        "a protocol",
        "a record",
        "a class of",
        "an enumeration",
        "an exception",
        "made by",
        "sets",
    )
    left_out = (LEFT_OUT | ROOMS_LEFT_OUT).items()
    missing = [path for path, why in left_out if not why.startswith(elsewhere)]
    missing = [path for path in missing if path not in MORE and SHOWN.get(path) not in EVERY]
    assert not missing, f"give each a line in MORE: {missing}"


ELSEWHERE = {"norm", "block_diag", "cg"}
"""Functions of the modules below that call no LAPACK; `norm` as long as its order is not 2 or "nuc"."""
HIDDEN = {
    "jax.random.orthogonal",
    "jax.random.multivariate_normal",
    "jax.numpy.polyfit",
    "jax.numpy.roots",
    "jax.scipy.stats.multivariate_normal",
}
ROOMS = ("jax.numpy.linalg", "jax.scipy.linalg", "jax.lax.linalg", "jax.scipy.sparse.linalg")


def lapack_names(source):
    """Names of JAX's functions that may call LAPACK, as the code of a module writes them; docstrings are not code."""
    tree = ast.parse(source)
    known = {"jnp": "jax.numpy"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            known |= {alias.asname: alias.name for alias in node.names if alias.asname}
        if isinstance(node, ast.ImportFrom):
            known |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name):
            head, *rest = ast.unparse(node).split(".")
            name = ".".join([known.get(head, head), *rest])
            room, _, last = name.rpartition(".")
            if (room in ROOMS and last not in ELSEWHERE) or name in HIDDEN:
                found.add(name)
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("linalg.norm"):
            orders = [*node.args[1:2], *(word.value for word in node.keywords if word.arg == "ord")]
            if any(ast.unparse(order) in ("2", "-2", "'nuc'") for order in orders) and "jnp" in ast.unparse(node.func):
                found.add(ast.unparse(node))
    return found


def test_only_decompositions_calls_lapack_through_jax():
    package = Path(jd.__file__).parent
    found = {str(path.relative_to(package)): lapack_names(path.read_text()) for path in package.rglob("*.py")}
    assert "jax.numpy.linalg.svd" in found.pop("_base/decompositions.py")
    assert not {path: names for path, names in found.items() if names}
    wrong = (
        "import jax\nfrom jax.scipy import linalg\ndef f(x):\n    return linalg.cho_solve(jax.numpy.linalg.inv(x), x)"
    )
    assert lapack_names(wrong) == {"jax.scipy.linalg.cho_solve", "jax.numpy.linalg.inv"}
    assert lapack_names('def f():\n    """\n    >>> jnp.linalg.inv(x)\n    """') == set()
    assert lapack_names("import jax.numpy as jnp\njnp.linalg.norm(x)\njnp.linalg.norm(x, 2)") == {
        "jnp.linalg.norm(x, 2)"
    }
