"""One valid, tiny call of every public function, for `test_fuzz` to spoil; and what is left out, with the reason.

A new public function joins by a line here; an objective and a solver join by themselves. Functions called `users_...`
are the user's: what they raise is theirs.
"""

import functools
import inspect
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from fuzzing import Call

import jaxdescramble as jd
from jaxdescramble import exact, findings, gated, manifolds, objectives, operators, solvers
from jaxdescramble.attribution import switched
from jaxdescramble.gated import path_kernel

TRIED = ("check", "distance", "exponential", "gradient", "inner", "logarithm", "project", "transport")
"""Methods of manifolds that users call with points; the others are for solvers."""

LEFT_OUT = (
    {
        "Problem": "a result, made by grid",
        "grid": "writes and reads files; its bad input is in tests/test_sweep.py",
        "sweep": "writes and reads files; its bad input is in tests/test_sweep.py",
        "threads": "sets the whole process; its bad input is in tests/test_threads.py",
        "LayerDescrambling": "a result, made by descramble_network",
        "NetworkDescrambling": "a result, made by descramble_network",
        "Descramblings": "a result, made by descramble",
        "Layout": "a result, made by wiretap",
        "Solution": "a result, made by minimise",
        "Solution.save": "a result that writes files; its bad input is in tests/test_solution_files.py",
        "Solution.load": "a result that is read from files; its bad input is in tests/test_solution_files.py",
        "Interrupted": "an exception",
        "JaxdescrambleWarning": "a class of warnings",
        "Status": "an enumeration",
        "Tap": "a result, made by wiretap",
        "Descrambling": "a result, made by descramble",
        "objectives.Curvature": "a result, made by objectives",
        "operators.MatrixOperator": "made by operators.from_matrix",
        "operators.Derivative": "made by operators.derivative",
        "findings.Measure": "a record of what is known of a reading",
        "exact.ClosedForm": "takes no arguments",
        "gated.Hard": "takes no arguments",
        "gated.path_kernel.Flatten": "takes no arguments",
        "gated.path_kernel.Gate": "takes no arguments",
        "solvers.Analytic": "is tried through the solvers",
        "solvers.Automatic": "takes no arguments",
        "objectives.bandedness": "takes no arguments",
        "objectives.diagonal_norm": "takes no arguments",
        "objectives.diagonal_sum": "takes no arguments",
    }
    | dict.fromkeys(
        (
            "objectives.SampleSummary",
            "objectives.SampleSummary.empty",
            "objectives.SampleSummary.update",
            "objectives.SampleSummary.merge",
            "objectives.Summary",
            "objectives.Summary.empty",
            "objectives.Summary.update",
            "objectives.Summary.merge",
            "operators.Operator",
            "operators.Operator.apply",
            "operators.Operator.analyse",
            "operators.Operator.synthesise",
        ),
        "a protocol",
    )
    | {
        f"manifolds.{name}": "takes no arguments"
        for name in ("Euclidean", "Grassmann", "Orthogonal", "SpecialOrthogonal", "SpecialUnitary", "Unitary")
    }
    | {"manifolds.Manifold": "a protocol"}
    | {
        f"manifolds.{kind}.{method}": "a protocol of solvers, or an override of what is tried through Manifold"
        for kind in manifolds.__all__
        if inspect.isclass(getattr(manifolds, kind))
        for method, value in vars(getattr(manifolds, kind)).items()
        if inspect.isfunction(value) and not method.startswith("_")
        if kind != "Manifold" or method not in TRIED
    }
    | {
        f"{room}.{name}": "a result, or made by the function of the room that says so"
        for room, names in {
            "datasets.bandpass": ("BandBatch",),
            "datasets.deer": ("DeerBatch", "DeerParameters"),
            "datasets.deernet_weights": ("MeasuredTrace", "PublishedDEERNet"),
            "datasets.pictures": ("Pictures",),
            "datasets.planted": ("Planted",),
            "datasets.relaxometry": ("RelaxometryBatch",),
            "exact": ("Alignment", "CommonModes", "Degeneracy", "Extremum"),
            "gated": ("HardeningGap", "PrimalWeight", "Regime"),
            "objectives": ("Factor", "Gram", "Samples", "SignedOrder", "Sketch", "Symmetries"),
            "gated.path_kernel": ("LeaveOneOut", "Paths", "KernelRidge", "Tile"),
            "findings": ("Consistency", "FourierMap", "Reading", "Readings", "Ridge"),
            "solvers": ("Assignment", "History", "Stationarity"),
            "attribution.switched": ("Centre", "Insens", "Patterns", "Projection"),
        }.items()
        for name in names
    }
)
ROOMS_LEFT_OUT = {
    "Descramblings": "a result, made by descramble; its files are in tests/test_results.py",
    "LayerDescrambling": "a result, made by descramble_network; its files are in tests/test_results.py",
    "NetworkDescrambling": "a result, made by descramble_network; its files are in tests/test_results.py",
    "Report": "a result, made by explain; its files are in tests/test_explain.py",
    "Report.save": "a result that writes files; see tests/test_explain.py",
    "Report.load": "a result that reads files; see tests/test_explain.py",
    "explain": "reads networks and files; its bad input is in tests/test_explain.py",
    **dict.fromkeys(
        ("findings.LayerExplanation", "findings.LayerWave", "findings.Verdict"),
        "a result, made by explain; see tests/test_explain.py",
    ),
    **dict.fromkeys(
        (
            "findings.LayerReading",
            "findings.LayerSignals",
            "findings.TrainedNetworks",
            "findings.Untrained",
            "findings.Untrained.network",
        ),
        "a record that explain checks; see tests/test_explain.py and tests/test_explain_nulls.py",
    ),
    **dict.fromkeys(
        ("findings.Isotropic", "findings.PermutedEntries", "findings.RandomFrame"),
        "null models, whose only field is the name",
    ),
    "findings.WeightNull": "a protocol",
    "findings.Readings": "a result, made by measure; its files are in tests/test_results.py",
    "descrambling.Frames": "a result, made by Film",
    "descrambling.FilmedLayer": "a result, made by Film",
    "descrambling.FilmedSide": "a result, made by Film",
    "descrambling.Bootstrap": "a result, made by bootstrap",
    "descrambling.SymmetricDescrambling": "a result, made by descramble_network; see tests/test_symmetric_frames.py",
    "descrambling.Barrier": "a result, made by Match.barrier",
    "descrambling.Match": "a result, made by match",
    "descrambling.Refined": "a result, made by refine",
    "descrambling.refine": "reads streams; its bad input is in tests/test_streaming.py",
    "descrambling.score": "reads streams; its bad input is in tests/test_streaming.py",
    "networks.Layers": "a result, made by wiretap",
    "networks.Element": "a result, made by the groups of symmetries",
    "networks.Stream": "a result, made by symmetries",
    "networks.Symmetries": "a result, made by symmetries",
    "sweeps.Generated": "a record of a function that makes signals; its bad input is in tests/test_sweep.py",
    "sweeps.Source": "a protocol",
    "sweeps.Table": "a result, made by sweep",
    "Accumulator": "keeps state and files; its bad input is in tests/test_streaming.py",
    "Film": "keeps state and files; its bad input is in tests/test_film.py",
    "Problem": "keeps files; its bad input is in tests/test_sweep.py",
    "grid": "keeps files; its bad input is in tests/test_sweep.py",
    "sweep": "keeps files; its bad input is in tests/test_sweep.py",
}
"""With all their methods."""
PROTOCOLS = {
    "bind": "called by the loop of minimise",
    "run": "called by minimise",
    "hidden": "called by gated.apply",
    "views": "called by gated.apply",
    "tree_unflatten": "called by jax",
    "thin": "called by solvers.Progressive",
    "draw": "called by solvers.Minibatches",
    "weigh": "called by objectives",
    "value": "called by objective(point, signals)",
    "relaxation": "called by Objective.tightest_bound",
    "symmetries": "called by Objective.mirrored",
    "sparsifying_operator": "called by solvers.FromSources",
    "seriates": "called by descramble",
    "reflect": "called by Objective.mirrored",
    "effective": "called by descramble",
    "energy": "called by objectives",
    "spanning": "called by descramble",
    "compressed": "called by descramble",
    "moment": "called by exact",
    "nearest": "called by exact.align",
    "through": "called by gated.apply",
}
"""Methods that the package calls, after its own checks."""

N, M = 4, 6
KEY = jax.random.key(0)
S = jnp.asarray(np.random.default_rng(1).normal(size=(N, M)))
WEIGHTS = jnp.ones(M)
P = jnp.eye(N)[np.asarray([1, 2, 3, 0])]
W = jnp.asarray(np.random.default_rng(2).normal(size=(N, N)))
OMEGA = (W - W.T) / 4
ORDER = jnp.asarray([1, 2, 3, 0])
D = operators.derivative(N)
OBJECTIVE = objectives.smoothness()
SUMMARY = objectives.Samples(S)
PARAMS = {"w": W[:, :3], "v": W[:3, :2]}
X = S.T
SPEC = gated.Spec(gated.FullyConnected(N, (3, 3), 2), "dgn", gated.Soft())
GATED = gated.init(KEY, SPEC)
GATES = [jnp.abs(W), jnp.abs(W)]
KERNEL = W @ W.T + jnp.eye(N)
LABELS = jnp.asarray([0, 1, 1, 0])
CURVE = jnp.asarray([3.0, 1.0, 0.5, 1.0])
PRIORS = jd.datasets.relaxometry.RelaxometryPriors(points=6)
GRID = jd.datasets.deer.DeerGrid(points=6)
BAND = jd.datasets.bandpass.Band(1.0, 2.0, N, float(N))
FOUND = jd.descramble(S)
QUICK = solvers.LBFGS(max_steps=2)


def users_network(params: Any, x: Any) -> Any:
    return jax.nn.relu(x @ params["w"]) @ params["v"]


def users_loss(params: Any) -> Any:
    return jnp.mean(jnp.square(users_network(params, X)))


@functools.cache
def matched() -> Any:
    """Two tiny networks, matched on request."""
    return jd.match(users_network, PARAMS, jax.tree.map(lambda leaf: 2 - leaf, PARAMS), X)


def users_misfit(point: Any, goal: Any) -> Any:
    return -jnp.sum(point * goal)


def users_transform(updates: Any, state: Any, params: Any = None) -> Any:
    return jax.tree.map(lambda u: -0.1 * u, updates), state


TRANSFORM = optax.GradientTransformation(lambda params: (), users_transform)


def solved(make: Callable[..., Any], **options: Any) -> Any:
    """A solver's options, judged by a solve with it."""
    return solvers.minimise(users_misfit, jnp.eye(N), W, solver=make(**options))


def solved_samples(make: Callable[..., Any], **options: Any) -> Any:
    return solvers.minimise(SPARSE, jnp.eye(N), SUMMARY, solver=make(**options))


def evaluated(make: Callable[..., Any], **options: Any) -> Any:
    """An objective's options, judged by a value of it."""
    return make(**options)(P, SUMMARY)


def saved(path: Any) -> None:
    if isinstance(path, str):  # not to leave files of any name behind
        path = str(Path(tempfile.gettempdir()) / "no such folder" / path)
    FOUND.save(path)


def walked(make: Callable[..., Any], **options: Any) -> Any:
    """An architecture's options, judged by its parameters."""
    return gated.init(KEY, gated.Spec(make(**options)))


def users_objective(point: Any, summary: Any) -> Any:
    return jnp.mean((point @ summary.signals) ** 2)


class UsersObjective(jd.Objective):
    power: Any = 2.0

    def value(self, point: Any, summary: Any) -> Any:
        return jnp.mean((point @ summary.signals) ** self.power)


SPARSE = objectives.sparsity()
VARIATION = objectives.total_variation(boundary="neumann")
LINEAR_SPEC = gated.Spec(gated.FullyConnected(N, (3,), 2), "dlgn")
LINEAR = gated.init(KEY, LINEAR_SPEC)
DECAY = jd.datasets.relaxometry.sample(KEY, 2, 100.0, PRIORS).decay
SMALL = {"key": KEY, "n": N, "m": M, "noise": 0.1, "dtype": float}
F = {"f": users_network, "params": PARAMS, "x": X}
PAIR = {"fit": W, "read": W}
KERNELS = {
    "x1": X,
    "x2": X,
    "gates1": [jnp.abs(X)],
    "gates2": [jnp.abs(X)],
    "normalise": "width",
    "variances": 0.5,
    "bias_variances": 0.5,
}
IMAGE = jnp.ones((2, N, 1))
IMAGES = KERNELS | {"x1": IMAGE, "x2": IMAGE, "gates1": [IMAGE], "gates2": [IMAGE]}
ITERATIVE = {"tolerance": 1e-3, "max_steps": 2}

FOUND_MANY = jd.descramble(S[None])


def parameters() -> Any:
    return jd.datasets.deer.draw(KEY, 2, GRID, jd.datasets.deer.DeerPriors(gaussians=1))


CORE = {
    "descramble": Call(
        jd.descramble,
        {"signals": S, "objective": OBJECTIVE, "solver": exact.ClosedForm(), "group": "O", "weights": WEIGHTS},
    ),
    "descramble with a rank": Call(
        functools.partial(jd.descramble, solver=QUICK),
        {"signals": S, "objective": SPARSE, "rank": 2, "start": P[:2], "group": "O", "weights": WEIGHTS},
    ),
    "descramble of an iterative solver": Call(
        functools.partial(jd.descramble, S, SPARSE, QUICK), {"start": P, "restarts": 1, "key": KEY, "group": "O"}
    ),
    "descramble_network": Call(
        jd.descramble_network,
        F
        | {"objective": OBJECTIVE, "solver": exact.ClosedForm(), "group": "O", "joint": False, "ends": "ordered"}
        | {"weights": jnp.ones(len(X))},
        ("params", "x"),
    ),
    "descramble_network in symmetric frames": Call(
        functools.partial(jd.descramble_network, frames="symmetric"), F | {"objective": OBJECTIVE}, ("params", "x")
    ),
    "descramble_network with a rank": Call(jd.descramble_network, F | {"rank": 2}, ("params", "x")),
    "bootstrap": Call(
        jd.bootstrap,
        {
            "signals": S,
            "objective": OBJECTIVE,
            "solver": exact.ClosedForm(),
            "key": KEY,
            "draws": 2,
            "group": "O",
            "gauge": exact.Stabiliser(D),
            "weights": WEIGHTS,
            "size": 2,
        },
    ),
    "wiretap": Call(
        lambda f, weights: jd.wiretap(f)(PARAMS, X, weights), {"f": users_network, "weights": jnp.ones(len(X))}
    ),
    "insert": Call(jd.insert, F | {"points": {"['w']": jnp.eye(3)}, "inputs": {"['v']": jnp.eye(3)}}, ("params", "x")),
    "reorder": Call(jd.reorder, F | {"name": "['w']", "permutation": jnp.asarray([2, 0, 1])}, ("params", "x")),
    "symmetries": Call(jd.symmetries, F, ("params", "x")),
    "networks.Symmetries.random": Call(
        lambda key: jd.symmetries(users_network, PARAMS, X).random(key)["['w']"].order, {"key": KEY}
    ),
    "networks.Symmetries.to_dict": Call(lambda f: list(jd.symmetries(f, PARAMS, X).to_dict()), {"f": users_network}),
    "fold": Call(jd.fold, F, ("params", "x")),
    "transform": Call(jd.transform, F | {"elements": {"['w']": jnp.asarray([2, 0, 1])}}, ("params", "x")),
    "match": Call(
        jd.match,
        {
            "f": users_network,
            "a": PARAMS,
            "b": jax.tree.map(lambda leaf: 2 - leaf, PARAMS),
            "x": X,
            "by": "activations",
            "restarts": 1,
            "key": KEY,
            "progress": None,
            "max_seconds": 60.0,
        },
        ("a", "b", "x", "progress"),
    ),
    "descrambling.Match.barrier": Call(
        lambda **how: matched().barrier(**how), {"loss": users_loss, "points": 3, "nulls": 1, "key": KEY}
    ),
    "descrambling.Match.to_dict": Call(lambda f: jd.match(f, PARAMS, PARAMS, X).to_dict(), {"f": users_network}),
    "minimise": Call(
        lambda function, start, **how: jd.minimise(function, start, W, **how),
        {
            "function": users_misfit,
            "start": P,
            "solver": QUICK,
            "group": "SO",
            "history": 2,
            "progress": None,
            "max_seconds": 60.0,
        },
        ("progress",),
    ),
    "riemannian": Call(lambda transform: jd.riemannian(transform).init(P), {"transform": TRANSFORM}),
    "Descrambling.problem": Call(FOUND_MANY.problem, {"index": 0}),
    "Descrambling.transform": Call(FOUND.transform, {"signals": S}),
    "Descrambling.score": Call(FOUND.score, {"signals": S, "weights": WEIGHTS}),
    "Descrambling.stationarity": Call(FOUND.stationarity, {"signals": S, "weights": WEIGHTS, "key": KEY, "steps": 2}),
    "Descrambling.tightest_bound": Call(FOUND.tightest_bound, {"signals": S, "weights": WEIGHTS, "steps": 2}),
    "Descrambling.save": Call(saved, {"path": "found.npz"}),
    "Descrambling.load": Call(jd.Descrambling.load, {"path": "nowhere.npz", "objective": OBJECTIVE}, ("objective",)),
    "Objective": Call(lambda power: UsersObjective(power)(P, S), {"power": 2.0}, ("power",)),
    "objectives.from_function": Call(
        lambda **how: objectives.from_function(**how)(P, S),
        {
            "function": users_objective,
            "summary": objectives.Samples,
            "name": "mine",
            "static": (),
            "takes_weights": False,
            "takes_complex": False,
        },
    ),
    "Objective.__call__": Call(
        OBJECTIVE, {"point": P, "summary": S, "weights": WEIGHTS}, aliases={"summary": "signals"}
    ),
    "Objective.empty": Call(OBJECTIVE.empty, {"n": N, "dtype": float}),
    "Objective.update": Call(OBJECTIVE.update, {"summary": OBJECTIVE.summarise(S), "signals": S, "weights": WEIGHTS}),
    "Objective.merge": Call(
        OBJECTIVE.merge,
        {"one": OBJECTIVE.summarise(S), "other": OBJECTIVE.summarise(S)},
        aliases={"one": "summaries", "other": "summaries"},
    ),
    "Objective.summarise": Call(OBJECTIVE.summarise, {"signals": S, "weights": WEIGHTS}),
    "Objective.weighed": Call(lambda weights: OBJECTIVE.summarise(S, weights), {"weights": WEIGHTS}),
    "Objective.operator": Call(OBJECTIVE.operator, {"n": N}),
    "Objective.curvature": Call(lambda summary: OBJECTIVE.curvature(summary)(P), {"summary": SUMMARY}),
    "Objective.bound": Call(OBJECTIVE.bound, {"summary": SUMMARY}),
    "Objective.mirrored": Call(SPARSE.mirrored, {"n": N}),
    "Objective.tightest_bound": Call(SPARSE.tightest_bound, {"summary": SUMMARY, "steps": 2}),
    "Objective.assignment": Call(OBJECTIVE.assignment, {"summary": SUMMARY}),
    "Objective.smoothed": Call(SPARSE.smoothed, {"factor": 2.0}),
}

OBJECTIVES = {
    "entropy": {"epsilon": 0.1},
    "locality": {"boundary": "neumann", "shape": (2, 2)},
    "monotonicity": {"epsilon": 0.1},
    "periodicity": {"period": 2, "boundary": "periodic"},
    "similarity": {"reference": S},
    "smoothness": {"order": 2, "boundary": "periodic", "scheme": "spectral", "shape": (N,), "summary": "samples"},
    "sparsity": {"measure": "l1", "epsilon": 0.1},
    "spectral_entropy": {"epsilon": 0.1},
    "quantised": {"bits": 4, "group_size": 2, "symmetric": False, "gradient": "steps"},
    "spread": {"measure": "lp", "power": 4.0},
    "total_variation": {"order": 1, "boundary": "neumann", "shape": (N,), "isotropic": False, "epsilon": 0.1},
}
"""Valid arguments of the functions that make objectives; of others, the defaults are taken."""


def objectives_made() -> dict[str, Any]:
    """Return a valid objective for every name in `objectives` that makes one, functions first."""
    made = {}
    for name in sorted(objectives.__all__, key=str.isupper):
        make = getattr(objectives, name)
        if name.islower() and name not in ("weighted", "from_function"):
            made[name] = make(**OBJECTIVES.get(name, {}))
    known = {type(one) for one in made.values()} | {jd.Objective, objectives.Weighted, objectives.FromFunction}
    kinds = {name: getattr(objectives, name) for name in objectives.__all__ if not name.islower()}
    kinds = {name: one for name, one in kinds.items() if issubclass(one, jd.Objective) and one not in known}
    return made | {name: kind() for name, kind in kinds.items()} | {"weighted": objectives.weighted(SPARSE)}


def defaults_of(make: Callable[..., Any]) -> dict[str, Any]:
    given = {name: one.default for name, one in inspect.signature(make).parameters.items()}
    return {name: value for name, value in given.items() if value is not None and value is not inspect.Parameter.empty}


for name, one in objectives_made().items():
    if (
        name.islower()
        and name != "weighted"
        and (arguments := OBJECTIVES.get(name) or defaults_of(getattr(objectives, name)))
    ):
        CORE[f"objectives.{name}"] = Call(functools.partial(evaluated, getattr(objectives, name)), arguments)
    kind = type(one)
    reads = one.summarise(S)
    CORE |= {
        f"objectives.{kind.__name__}.{method}": Call(
            functools.partial(lambda one, method, **given: getattr(one, method)(**given), one, method),
            {argument: value},
        )
        for method, argument, value in (
            ("bound", "summary", reads),
            ("curvature", "summary", reads),
            ("assignment", "summary", reads),
            ("operator", "n", N),
            ("symmetries", "n", N),
        )
        if method in vars(kind)
    }
    LEFT_OUT[f"objectives.{kind.__name__}"] = "made by the function in lower case, which checks what it is given"
LEFT_OUT["objectives.FromFunction"] = "made by from_function"
CORE["objectives.Quantised.quantise"] = Call(objectives.quantised(3).quantise, {"array": S, "axis": 0})
CORE |= {
    "objectives.smoothness of an operator": Call(functools.partial(evaluated, objectives.smoothness), {"operator": D}),
    "objectives.locality of positions": Call(
        functools.partial(evaluated, objectives.locality), {"positions": jnp.arange(float(N))[:, None]}
    ),
    "objectives.weighted": Call(
        lambda term, weight: objectives.weighted((weight, term), SPARSE)(P, S),
        {"term": OBJECTIVE, "weight": 0.5},
        aliases={"term": "weighted", "weight": "weighted"},
    ),
}
for kind in (objectives.Factor, objectives.Gram, objectives.Samples, objectives.Sketch):
    some = kind.empty(N, S.dtype).update(S)
    CORE |= {
        f"objectives.{kind.__name__}.empty": Call(kind.empty, {"n": N, "dtype": float}),
        f"objectives.{kind.__name__}.update": Call(some.update, {"signals": S, "weights": WEIGHTS}),
        f"objectives.{kind.__name__}.merge": Call(some.merge, {"other": some}),
    }

SKETCH = objectives.Sketch.empty(N, S.dtype, rank=2)
CORE |= {
    "objectives.Sketch.empty": Call(objectives.Sketch.empty, {"n": N, "dtype": float, "rank": 2}),
    "objectives.Sketch.leading": Call(SKETCH.update(S).leading, {"k": 2}),
    "operators.derivative": Call(
        operators.derivative, {"shape": (N,), "order": 2, "boundary": "periodic", "scheme": "spectral"}
    ),
    "operators.from_matrix": Call(operators.from_matrix, {"matrix": W}),
    "operators.combine": Call(operators.combine, {"weights": [1.0, 0.5], "operators": [D, D]}),
}
for name, one in {"Derivative": D, "MatrixOperator": operators.from_matrix(W)}.items():
    CORE |= {
        f"operators.{name}.{method}": Call(getattr(one, method), {argument: S})
        for method, argument in (("apply", "x"), ("analyse", "x"), ("synthesise", "c"))
    }

ROTATION = {"point": P, "velocity": OMEGA}
STIEFEL, FRAME = manifolds.Stiefel(), jnp.eye(N, 2)
COLUMNS = {"point": FRAME, "vector": FRAME[::-1]}
TURN = manifolds.orthogonal.geodesic(jnp.eye(N), OMEGA)
MANIFOLDS = {
    "orthogonal.block_diagonal": Call(manifolds.orthogonal.block_diagonal, {"blocks": jnp.stack([P, P @ TURN])}),
    "orthogonal.hadamard": Call(manifolds.orthogonal.hadamard, {"n": N, "dtype": float}),
    "orthogonal.random_hadamard": Call(
        manifolds.orthogonal.random_hadamard, {"key": KEY, "n": N, "dtype": float, "permuted": True}
    ),
    "orthogonal.check_orthogonal": Call(
        manifolds.orthogonal.check_orthogonal, {"point": P, "name": "point"}, ("name",)
    ),
    "orthogonal.defect": Call(manifolds.orthogonal.defect, {"point": P}),
    "orthogonal.distance": Call(manifolds.orthogonal.distance, {"p": P, "q": P @ TURN}, aliases={"p": "point"}),
    "orthogonal.geodesic": Call(manifolds.orthogonal.geodesic, ROTATION),
    "orthogonal.logarithm": Call(manifolds.orthogonal.logarithm, {"point": TURN}),
    "orthogonal.polar": Call(manifolds.orthogonal.polar, {"matrix": W, "group": "SO"}),
    "orthogonal.polish": Call(manifolds.orthogonal.polish, {"point": P}),
    "orthogonal.random": Call(
        manifolds.orthogonal.random, {"key": KEY, "n": N, "group": "O", "dtype": float, "determinant": 1}
    ),
    "orthogonal.random_columns": Call(
        manifolds.orthogonal.random_columns, {"key": KEY, "n": N, "k": 2, "dtype": float}
    ),
    "orthogonal.skew": Call(manifolds.orthogonal.skew, {"matrix": W}),
    "orthogonal.special": Call(manifolds.orthogonal.special, {"point": P, "determinant": 1}),
    "orthogonal.tangent": Call(manifolds.orthogonal.tangent, {"point": P, "vector": W}),
    "orthogonal.to_body": Call(manifolds.orthogonal.to_body, ROTATION),
    "orthogonal.to_spatial": Call(manifolds.orthogonal.to_spatial, ROTATION),
    "orthogonal.transport": Call(manifolds.orthogonal.transport, ROTATION | {"vector": OMEGA}, free=("point",)),
    "Manifold.check": Call(STIEFEL.check, {"point": FRAME, "name": "point"}, ("name",)),
    "Manifold.distance": Call(STIEFEL.distance, {"point": FRAME, "to": FRAME[::-1]}),
    "Manifold.exponential": Call(STIEFEL.exponential, COLUMNS),
    "Manifold.gradient": Call(STIEFEL.gradient, {"point": FRAME, "slope": FRAME[::-1]}),
    "Manifold.inner": Call(STIEFEL.inner, COLUMNS | {"other": FRAME[::-1]}),
    "Manifold.logarithm": Call(STIEFEL.logarithm, {"point": FRAME, "to": FRAME[::-1]}),
    "Manifold.project": Call(STIEFEL.project, COLUMNS),
    "Manifold.transport": Call(STIEFEL.transport, COLUMNS | {"to": FRAME[::-1]}),
    "Power": Call(manifolds.Power, {"manifold": STIEFEL}),
    "Product": Call(manifolds.Product, {"manifolds": [STIEFEL]}),
    "Stiefel": Call(manifolds.Stiefel, {"metric": "canonical"}),
    "unitary.determinant": Call(manifolds.unitary.determinant, {"point": P}),
    "unitary.logarithm": Call(manifolds.unitary.logarithm, {"point": P, "traceless": False}, ("traceless",)),
    "unitary.polar": Call(manifolds.unitary.polar, {"matrix": W}),
    "unitary.random": Call(manifolds.unitary.random, {"key": KEY, "n": N, "dtype": float}),
    "unitary.random_columns": Call(manifolds.unitary.random_columns, {"key": KEY, "n": N, "k": 2, "dtype": float}),
    "unitary.special": Call(manifolds.unitary.special, {"point": P}),
    "permutation.compose": Call(manifolds.permutation.compose, {"p": ORDER, "q": ORDER}),
    "permutation.corners": Call(manifolds.permutation.corners, {"m": W}),
    "permutation.exchange_gains": Call(manifolds.permutation.exchange_gains, {"a": W, "b": W, "p": ORDER}),
    "permutation.gradient": Call(manifolds.permutation.gradient, {"a": W, "c": W}),
    "permutation.identity": Call(manifolds.permutation.identity, {"n": N}),
    "permutation.inverse": Call(manifolds.permutation.inverse, {"p": ORDER}),
    "permutation.matrix": Call(manifolds.permutation.matrix, {"p": ORDER, "dtype": float}),
    "permutation.nearest": Call(manifolds.permutation.nearest, {"point": W}),
    "permutation.random": Call(manifolds.permutation.random, {"key": KEY, "n": N}),
    "permutation.sign": Call(manifolds.permutation.sign, {"p": ORDER}),
    "retractions.limit": Call(manifolds.retractions.limit, {"velocity": OMEGA, "cap": 2.0}),
}
MANIFOLDS |= {
    f"retractions.{name}": Call(retraction, ROTATION) for name, retraction in manifolds.retractions.RETRACTIONS.items()
}

EXACT = {
    "CircularShifts": Call(
        lambda **how: exact.CircularShifts(**how).nearest(P, P), {"size": N, "reversal": True, "sign": True}
    ),
    "ClosedForm.__call__": Call(exact.ClosedForm(), {"objective": OBJECTIVE, "summary": SUMMARY, "group": "O"}),
    "Degeneracy.random": Call(exact.degeneracy(D, SUMMARY).random, {"key": KEY, "point": P}),
    "Phases": Call(lambda **how: exact.Phases(**how).nearest(P, P), {"size": N, "common": False}),
    "Stabiliser": Call(
        lambda operator: exact.align(P, P, exact.Stabiliser(operator)), {"operator": D}, aliases={"operator": "gauge"}
    ),
    "align": Call(exact.align, {"p": P, "q": P, "gauge": exact.Stabiliser(D)}),
    "brockett_maximiser": Call(exact.brockett_maximiser, {"operator": D, "summary": SUMMARY, "group": "O"}),
    "brockett_minimiser": Call(exact.brockett_minimiser, {"operator": D, "summary": SUMMARY, "group": "O"}),
    "canonical": Call(exact.canonical, {"point": P, "operator": D}),
    "circulant_minimiser": Call(
        exact.circulant_minimiser, {"autocovariance": CURVE, "order": 2, "boundary": "periodic", "scheme": "spectral"}
    ),
    "commuting_minimiser": Call(
        exact.commuting_minimiser, {"left": S, "right": S, "left_basis": jnp.eye(M), "right_basis": jnp.eye(M)}
    ),
    "degeneracy": Call(exact.degeneracy, {"operator": D, "summary": SUMMARY, "tolerance": 0.1}),
    "diagonal_sum": Call(exact.diagonal_sum, {"weight": W, "group": "O"}),
    "from_weights": Call(
        exact.from_weights,
        {
            "weight": W,
            "bias": CURVE,
            "mean": CURVE,
            "autocorrelation": 20 * jnp.eye(N),
            "objective": OBJECTIVE,
            "group": "O",
        },
    ),
    "isotropic_form": Call(exact.isotropic_form, {"key": KEY, "singular": CURVE[:3], "inputs": 5, "operator": D}),
    "isotropic_moments": Call(exact.isotropic_moments, {"gram": KERNEL, "form": KERNEL}),
    "learning_times": Call(
        exact.learning_times, {"singular_values": CURVE, "initial": 0.1, "tau": 1.0, "depth": 3, "fraction": 0.5}
    ),
    "linear_network_modes": Call(
        exact.linear_network_modes,
        {"singular_values": CURVE, "initial": 0.1, "times": CURVE, "tau": 1.0, "depth": 2},
    ),
    "marchenko_pastur": Call(exact.marchenko_pastur, {"outputs": 3, "inputs": 4}),
    "procrustes": Call(exact.procrustes, {"signals": S, "reference": S, "group": "O"}),
    "sampling_error": Call(
        exact.sampling_error, {"operator": D, "powers": jnp.asarray([4.0, 3.0, 2.0, 1.0]), "samples": 10}
    ),
}

SOLVERS = {
    name: Call(functools.partial(solved, getattr(solvers, name)), ITERATIVE | more)
    for name, more in {
        "LBFGS": {"memory": 2, "preconditioner": None},
        "ConjugateGradient": {"preconditioner": None},
        "GradientDescent": {"preconditioner": None},
        "TrustRegion": {"max_inner": 3, "preconditioner": None, "accept": 0.1},
        "PolarPower": {},
        "Optax": {"transform": TRANSFORM},
        "Chain": {"solvers": (QUICK, QUICK)},
        "Restarts": {"solver": QUICK, "restarts": 2, "key": KEY},
    }.items()
    for more in [more]
}
for name in ("Chain", "Restarts"):
    for option in ITERATIVE:
        SOLVERS[name].arguments.pop(option)
SOLVERS |= {
    "Continuation": Call(
        functools.partial(solved_samples, solvers.Continuation), {"solver": QUICK, "factors": (10.0, 2.0)}
    ),
    "Tournament": Call(
        functools.partial(solved, solvers.Tournament), {"solver": QUICK, "rough": QUICK, "restarts": 2, "key": KEY}
    ),
    "InFrame": Call(functools.partial(solved, solvers.InFrame), {"solver": QUICK}),
    "SinglePrecision": Call(functools.partial(solved, solvers.SinglePrecision), {"solver": QUICK}),
    "FromModes": Call(
        lambda solver, operator: solvers.minimise(VARIATION, P, SUMMARY, solver=solvers.FromModes(solver, operator)),
        {"solver": QUICK, "operator": D},
    ),
    "FromSources": Call(
        lambda **how: solvers.minimise(VARIATION, P, SUMMARY, solver=solvers.FromSources(**how)),
        {"solver": QUICK, "searches": 2, "search": QUICK, "key": KEY},
    ),
    "Seriated": Call(
        lambda solver: solvers.minimise(objectives.locality("neumann"), P, SUMMARY, solver=solvers.Seriated(solver)),
        {"solver": QUICK},
    ),
    "Kronecker": Call(
        lambda every: solved(solvers.LBFGS, max_steps=2, preconditioner=solvers.Kronecker(every)), {"every": 1}
    ),
    "Minibatches": Call(
        functools.partial(solved_samples, solvers.Minibatches),
        ITERATIVE | {"transform": TRANSFORM, "key": KEY, "size": 2},
    ),
    "Progressive": Call(
        functools.partial(solved_samples, solvers.Progressive), {"solver": QUICK, "rough": QUICK, "steps": (2,)}
    ),
    "quadratic_assignment": Call(
        solvers.quadratic_assignment,
        {"a": KERNEL, "b": KERNEL, "key": KEY, "start": ORDER, "searches": 1, "steps": 2, "symmetric": True},
    ),
    "stationarity": Call(
        lambda function, point, **how: solvers.stationarity(function, point, W, **how),
        {"function": users_misfit, "point": P, "key": KEY, "steps": 2},
    ),
}

# Other solvers join with their defaults: every option that is a number is spoiled.
SOLVERS |= {
    name: Call(functools.partial(solved, kind), {key: ITERATIVE.get(key, value) for key, value in defaults.items()})
    for name, kind in vars(solvers).items()
    if name in solvers.__all__ and name not in SOLVERS and {"bind", "max_steps"} <= set(dir(kind))
    if (defaults := defaults_of(kind) | ITERATIVE)
}

TARGETED = F | {"target": jnp.zeros(M, int)}
NETWORKS = {
    "attribution.gradient": Call(jd.attribution.gradient, TARGETED, ("params",)),
    "attribution.input_x_gradient": Call(jd.attribution.input_x_gradient, TARGETED, ("params",)),
    "attribution.integrated_gradients": Call(
        jd.attribution.integrated_gradients, TARGETED | {"baseline": 0.0, "steps": 2, "chunk_size": 1}, ("params",)
    ),
    "attribution.smooth_grad": Call(
        jd.attribution.smooth_grad, TARGETED | {"key": KEY, "samples": 2, "noise": 0.1, "chunk_size": 1}, ("params",)
    ),
    "attribution.lrp": Call(
        jd.attribution.lrp,
        TARGETED
        | {
            "rule": "alpha-beta",
            "epsilon": 0.1,
            "alpha": 2.0,
            "beta": 1.0,
            "input_rule": "z-box",
            "low": -9.0,
            "high": 9.0,
        },
        ("params",),
    ),
    "attribution.deep_taylor": Call(
        jd.attribution.deep_taylor, TARGETED | {"input_rule": "z-box", "low": -9.0, "high": 9.0}, ("params",)
    ),
    "attribution.switched.project": Call(switched.project, F | {"neuron": ("['w']", 0), "jacobian": True}, ("params",)),
    "attribution.switched.centre": Call(switched.centre, F | {"neuron": 0}, ("params",)),
    "attribution.switched.gates": Call(switched.gates, F, ("params",)),
    "attribution.switched.path_gates": Call(switched.path_gates, F, ("params",)),
    "attribution.switched.patterns": Call(
        switched.patterns, F | {"layer": "['w']", "target": 0, "neurons": [0, 1], "chunk_size": 1}, ("params",)
    ),
    "attribution.switched.insens": Call(
        switched.insens,
        F | {"method": "exact", "chunk_size": 1, "route": "forward", "cap": 1.0, "losers": False},
        ("params",),
    ),
    "attribution.switched.insens by probes": Call(
        functools.partial(switched.insens, method="probes"), F | {"key": KEY, "probes": 2}, ("params",)
    ),
}

GATED_ROOM = {
    "FullyConnected": Call(
        functools.partial(walked, gated.FullyConnected), {"inputs": N, "widths": (3,), "outputs": 2, "biases": False}
    ),
    "Convolutional": Call(
        functools.partial(walked, gated.Convolutional),
        {
            "shape": (4, 1),
            "channels": (2,),
            "outputs": 2,
            "kernel": 3,
            "padding": "circular",
            "pooling": (2,),
            "widths": (2,),
            "head": "average",
            "biases": False,
        },
    ),
    "Residual": Call(
        functools.partial(walked, gated.Residual),
        {
            "inputs": N,
            "width": 2,
            "blocks": 1,
            "depth": 2,
            "outputs": 2,
            "gate_after": False,
            "biases": False,
            "gate_before": True,
        },
    ),
    "ConvolutionalResidual": Call(
        functools.partial(walked, gated.ConvolutionalResidual),
        {
            "shape": (4, 1),
            "channels": 2,
            "blocks": 1,
            "depth": 2,
            "outputs": 2,
            "kernel": 3,
            "padding": "circular",
            "head": "average",
            "gate_after": False,
            "biases": False,
            "gate_before": True,
        },
    ),
    "Soft": Call(lambda **how: gated.Soft(**how)(W), {"beta": 4.0, "epsilon": 0.1}),
    "StraightThrough": Call(lambda beta: gated.StraightThrough(beta)(W), {"beta": 4.0}),
    "Hard.__call__": Call(gated.Hard(), {"q": W}, free=("q",)),
    "Soft.__call__": Call(gated.Soft(), {"q": W}),
    "StraightThrough.__call__": Call(gated.StraightThrough(), {"q": W}, free=("q",)),
    "Spec": Call(
        lambda **how: gated.init(KEY, gated.Spec(**how)),
        {
            "architecture": gated.FullyConnected(N, (3, 3), 2),
            "kind": "dgn",
            "gate": gated.Soft(),
            "value_input": "x",
            "order": (1, 0),
            "feature_gate": gated.Soft(),
        },
    ),
    "apply": Call(
        gated.apply,
        {"params": GATED, "x": X, "spec": SPEC, "value_input": X, "gates": [X[:, :3], X[:, :3]]},
        free=("x", "params"),
    ),
    "as_function": Call(lambda spec: gated.as_function(spec)(GATED, X), {"spec": SPEC}),
    "gates": Call(gated.gates, {"params": GATED, "x": X, "spec": SPEC}),
    "hardening_gap": Call(gated.hardening_gap, {"params": GATED, "x": X, "spec": SPEC}),
    "init": Call(
        gated.init,
        {"key": KEY, "spec": SPEC, "scale": 0.5, "distribution": "normal", "bias_scale": 0.1, "dtype": float},
    ),
    "preactivations": Call(gated.preactivations, {"params": GATED, "x": X, "spec": SPEC}),
    "primal_weights": Call(gated.primal_weights, {"params": LINEAR, "spec": LINEAR_SPEC}, free=("params",)),
    "scales": Call(gated.scales, {"spec": SPEC}),
    "dlnpf": Call(gated.dlnpf, {"key": KEY, "spec": SPEC}),
    "flnpf": Call(gated.flnpf, {"key": KEY, "spec": SPEC, "trained": GATED}, free=("trained",)),
    "frnpf_di": Call(gated.frnpf_di, {"key": KEY, "spec": SPEC}),
    "frnpf_ii": Call(gated.frnpf_ii, {"key": KEY, "spec": SPEC}),
}

FIT = path_kernel.ridge(KERNEL, LABELS)
LAYERS = (path_kernel.Dense(), path_kernel.Gate(), path_kernel.Dense())
KERNEL_ROOM = {
    "Convolution": Call(path_kernel.Convolution, {"window": (3,), "padding": "circular", "units": 2}),
    "Dense": Call(path_kernel.Dense, {"units": 2}),
    "Pool": Call(path_kernel.Pool, {"window": (2,)}),
    "Skip": Call(path_kernel.Skip, {"branch": LAYERS[:2], "shortcut": LAYERS[:1]}),
    "alignment": Call(path_kernel.alignment, {"kernel": KERNEL, "targets": CURVE, "centred": True}),
    "classify": Call(path_kernel.classify, {"fit": FIT, "kernel": KERNEL}),
    "complexity": Call(path_kernel.complexity, {"kernel": KERNEL, "targets": CURVE, "regularisation": 0.1}),
    "convolutional": Call(
        path_kernel.convolutional, IMAGES | {"window": 3, "padding": "circular", "pooling": (1,), "head": "average"}
    ),
    "dense": Call(path_kernel.dense, KERNELS),
    "empirical_ntk": Call(
        path_kernel.empirical_ntk,
        {"f": users_network, "params": PARAMS, "x1": X, "x2": X, "chunk_size": 2, "between_outputs": False},
        ("params",),
    ),
    "enumerate_paths": Call(
        path_kernel.enumerate_paths,
        {
            "layers": LAYERS,
            "x": X,
            "gates": [X[:, :3]],
            "weights": [W[:3], W[:2, :3]],
            "biases": None,
            "output": 0,
            "limit": 100,
        },
    ),
    "expected_ntk": Call(
        path_kernel.expected_ntk,
        {
            "kernel": path_kernel.dense,
            "x1": X,
            "x2": X,
            "gates1": [X],
            "gates2": [X],
            "variances": 0.5,
            "bias_variances": 0.5,
        },
    ),
    "gather": Call(path_kernel.gather, {"blocks": list(path_kernel.tiles(path_kernel.dense, (X, [X]), tile_size=3))}),
    "leave_one_out": Call(
        path_kernel.leave_one_out, {"kernel": KERNEL, "targets": CURVE, "regularisation": jnp.asarray([0.1, 1.0])}
    ),
    "network": Call(path_kernel.network, KERNELS | {"layers": LAYERS}),
    "predict": Call(path_kernel.predict, {"fit": FIT, "kernel": KERNEL}),
    "residual": Call(
        path_kernel.residual,
        KERNELS
        | {
            "gates1": [X] * 3,
            "gates2": [X] * 3,
            "depth": 1,
            "gate_after": False,
            "window": 3,
            "padding": "circular",
            "head": "average",
        },
    ),
    "ridge": Call(path_kernel.ridge, {"kernel": KERNEL, "targets": CURVE, "regularisation": 0.1}),
    "tiles": Call(
        lambda **how: list(path_kernel.tiles(**how)),
        {"kernel": path_kernel.dense, "data1": (X, [X]), "data2": (X, [X]), "tile_size": 3, "devices": None},
        ("devices",),
        # What does not fit the kernel, the kernel says of its own arguments.
        aliases={"data1": "x1|x2|gates1|gates2", "data2": "x1|x2|gates1|gates2"},
    ),
}

FINDINGS = {
    name: Call(getattr(findings, name), PAIR | more)
    for name, more in {
        "distance_map_monotonicity": {},
        "frequency_concentration": {},
        "link_bandedness": {"width": 1},
        "link_orthogonality": {"width": 1},
        "link_purity": {"count": 2},
        "output_bandedness": {"width": 1},
        "polynomial_match": {"family": "legendre", "count": 2},
        "ridge_exponent": {},
        "ridge_exponent_error": {},
        "ridge_fit_r2": {},
        "ridge_monotonicity": {},
        "row_orthogonality": {"width": 1},
    }.items()
} | {
    "band_edge": Call(findings.band_edge, {"weight": W, "fraction": 0.9}),
    "compare": Call(
        findings.compare, PAIR | {"battery": findings.FIRST_LAYER[:1], "nulls": {"frame": (jnp.stack([W, W]),) * 2}}
    ),
    "consistency": Call(findings.consistency, {"matrices": jnp.stack([W, W]), "key": KEY, "gauge": None, "draws": 2}),
    "fourier_energy": Call(findings.fourier_energy, {"weight": W}),
    "fourier_map": Call(findings.fourier_map, {"weight": W}),
    "joint_p_values": Call(
        findings.joint_p_values,
        {"observed": np.ones(2), "draws": np.arange(6.0).reshape(3, 2), "directions": np.asarray([1, -1])},
        free=("observed", "draws"),
    ),
    "time_blocks": Call(findings.time_blocks, {"samples": 9, "blocks": 3, "gap": 1}),
    "measure": Call(findings.measure, PAIR | {"battery": findings.FIRST_LAYER[:1]}, free=("fit",)),
    "notch_depth": Call(findings.notch_depth, {"weight": W, "link_zero": False, "neighbours": 1}),
    "random_frame": Call(findings.random_frame, {"key": KEY, "weight": W}),
    "ridge": Call(findings.ridge, {"weight": W}),
}

DRAWN = {"key": KEY, "count": 2, "dtype": float}
DATASETS = {
    "bandpass.Band": Call(jd.datasets.bandpass.Band, {"low": 1.0, "high": 2.0, "points": 8, "rate": 8.0}),
    "bandpass.band_pass": Call(jd.datasets.bandpass.band_pass, {"signals": S, "band": BAND}),
    "bandpass.filter_matrix": Call(jd.datasets.bandpass.filter_matrix, {"band": BAND, "dtype": float}),
    "bandpass.sample": Call(jd.datasets.bandpass.sample, DRAWN | {"band": BAND}),
    "deer.DeerGrid": Call(jd.datasets.deer.DeerGrid, {"points": 8, "t_max": 2.0}),
    "deer.DeerPriors": Call(
        jd.datasets.deer.DeerPriors,
        {
            "gaussians": 2,
            "width": (0.1, 0.2),
            "depth": (0.1, 0.2),
            "rate": (0.1, 0.2),
            "dimension": (2.0, 3.0),
            "noise": 0.1,
            "peak": 0.5,
        },
    ),
    "deer.dipolar_kernel": Call(
        jd.datasets.deer.dipolar_kernel, {"time": np.asarray([0.0, 0.1]), "distance": np.asarray([20.0, 40.0])}
    ),
    "deer.draw": Call(jd.datasets.deer.draw, DRAWN | {"grid": GRID, "priors": jd.datasets.deer.DeerPriors(1)}),
    "deer.sample": Call(jd.datasets.deer.sample, DRAWN | {"grid": GRID, "priors": jd.datasets.deer.DeerPriors(1)}),
    "deer.simulate": Call(
        jd.datasets.deer.simulate, {"parameters": parameters(), "noise": jnp.ones((6, 2)), "grid": GRID, "peak": 0.5}
    ),
    "deernet_weights.encode": Call(
        jd.datasets.deernet_weights.encode,
        {"traces": jnp.cos(jnp.arange(512.0))[None], "points": jd.datasets.deernet_weights.random_points(KEY, 1)},
    ),
    "deernet_weights.load": Call(jd.datasets.deernet_weights.load, {"path": "nowhere"}),
    "deernet_weights.load_trace": Call(jd.datasets.deernet_weights.load_trace, {"path": "nowhere"}),
    "deernet_weights.network": Call(
        jd.datasets.deernet_weights.network,
        {"params": {"layer_1": {"weight": W} | dict.fromkeys(("mean", "var", "offset", "scale"), CURVE)}, "inputs": X},
    ),
    "deernet_weights.random_points": Call(jd.datasets.deernet_weights.random_points, {"key": KEY, "samples": 2}),
    "picture_files.cifar10": Call(jd.datasets.picture_files.cifar10, {"folder": "nowhere", "part": "test"}),
    "picture_files.cifar100": Call(jd.datasets.picture_files.cifar100, {"folder": "nowhere", "part": "test"}),
    "picture_files.mnist": Call(jd.datasets.picture_files.mnist, {"folder": "nowhere", "part": "test"}),
    "pictures.digits": Call(jd.datasets.pictures.digits, {"size": 8, "dtype": float}),
    "pictures.shapes": Call(jd.datasets.pictures.shapes, DRAWN | {"size": 8, "noise": 0.1}),
    "pictures.shifted": Call(
        jd.datasets.pictures.shifted,
        DRAWN | {"size": 8, "classes": 2, "noise": 0.1, "shift": "circular", "templates": KEY},
    ),
    "pictures.split": Call(
        lambda pictures, key, fractions: jd.datasets.pictures.split(
            pictures, *(fractions if isinstance(fractions, tuple | list) else [fractions]), key=key
        ),
        {"pictures": jd.datasets.pictures.shapes(KEY, 10, 8), "key": KEY, "fractions": (0.5, 0.5)},
    ),
    "planted.local": Call(jd.datasets.planted.local, SMALL | {"width": 2.0, "smooth": False}),
    "planted.piecewise_constant": Call(jd.datasets.planted.piecewise_constant, SMALL | {"jumps": 1.0}),
    "planted.sparse": Call(jd.datasets.planted.sparse, SMALL | {"active": 0.5}),
    "relaxometry.RelaxometryPriors": Call(
        jd.datasets.relaxometry.RelaxometryPriors,
        {"points": 8, "t_max": 800.0, "fraction": 0.5, "constants": (50.0, 500.0)},
    ),
    "relaxometry.biexponential": Call(
        jd.datasets.relaxometry.biexponential, {"constants": jnp.asarray([[100.0], [400.0]]), "priors": PRIORS}
    ),
    "relaxometry.fit": Call(jd.datasets.relaxometry.fit, {"decay": DECAY, "priors": PRIORS, "strength": 1e-3}),
    "relaxometry.posterior_mean": Call(
        jd.datasets.relaxometry.posterior_mean, {"decay": DECAY, "snr": 100.0, "priors": PRIORS}
    ),
    "relaxometry.sample": Call(jd.datasets.relaxometry.sample, DRAWN | {"snr": 100.0, "priors": PRIORS}),
    "relaxometry.smooth": Call(jd.datasets.relaxometry.smooth, {"decay": DECAY, "snr": 100.0, "priors": PRIORS}),
}

ROOMS = {
    "manifolds": MANIFOLDS,
    "exact": EXACT,
    "solvers": SOLVERS,
    "gated": GATED_ROOM,
    "gated.path_kernel": KERNEL_ROOM,
    "findings": FINDINGS,
    "datasets": DATASETS,
}
CALLS: dict[str, Call] = (
    CORE | NETWORKS | {f"{room}.{name}": call for room, calls in ROOMS.items() for name, call in calls.items()}
)
"""Every public function by its path; of one that is called in several ways, `path ...` too."""


def dictionary_of(path: str) -> str:
    """Return the name of the dictionary in this file that a public function belongs to."""
    known = {"manifolds": "MANIFOLDS", "exact": "EXACT", "solvers": "SOLVERS", "gated": "GATED_ROOM"}
    known |= {"gated.path_kernel": "KERNEL_ROOM", "findings": "FINDINGS", "datasets": "DATASETS"}
    known |= {"attribution": "NETWORKS", "networks": "NETWORKS"}
    rooms = [room for room in known if path.startswith(f"{room}.")]
    return known[max(rooms, key=len)] if rooms else "CORE"


NO_FILE = {"Descrambling.load", "datasets.deernet_weights.load", "datasets.deernet_weights.load_trace"}
NO_FILE |= {f"datasets.picture_files.{name}" for name in ("mnist", "cifar10", "cifar100")}
"""Their valid calls name files that are not here."""
