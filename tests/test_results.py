"""Every result can be looked at, checked, turned into plain values, and saved; a new one joins by itself.

A result is whatever class a room exports that is neither one of the kinds in `is_an_input` nor in `INPUTS`. Its example
is what a call of `fuzzing_calls` returns.
"""

import dataclasses
import functools
import importlib
import json
import typing
import xml.etree.ElementTree as ET
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from fuzzing_calls import CALLS, NO_FILE, F, users_network

import jaxdescramble as jd
from jaxdescramble._base import drawing, results
from jaxdescramble._base.status import Status
from jaxdescramble.descrambling import Accumulator, Film, refine

pytestmark = pytest.mark.usefixtures("as_installed")

ROOMS = (
    "descrambling", "solvers", "exact", "networks", "attribution.switched", "gated", "gated.path_kernel", "findings",
    "sweeps", "datasets.bandpass", "datasets.deer", "datasets.deernet_weights", "datasets.pictures",
    "datasets.planted", "datasets.relaxometry",
)  # fmt: skip
"""Where results come from; objectives, operators and manifolds export what goes in."""

INPUTS = {
    "Band", "ClosedForm", "DeerGrid", "DeerPriors", "Film", "Generated", "Isotropic", "LayerReading", "LayerSignals",
    "Measure", "PermutedEntries", "Problem", "RandomFrame", "RelaxometryPriors", "Spec",
    "TrainedNetworks", "Untrained",
}  # fmt: skip
"""Classes of values that you give to functions."""


def is_an_input(kind: type) -> bool:
    """Solvers, preconditioners, gauges, gates, layers, architectures have these methods; protocols have no values."""
    methods = ("bind", "run", "nearest", "hidden", "through", "__call__")
    own = any(name in vars(one) for one in kind.__mro__ for name in methods)
    layer = kind.__module__ == "jaxdescramble.gated.path_kernel.layers"
    return own or layer or getattr(kind, "_is_protocol", False) or issubclass(kind, BaseException)


def exported() -> dict[str, type]:
    found = {}
    for room in ROOMS:
        module = importlib.import_module(f"jaxdescramble.{room}")
        names = getattr(module, "__all__", None) or [
            name for name, one in vars(module).items() if getattr(one, "__module__", "") == module.__name__
        ]
        for name in names:
            one = getattr(module, name)
            if isinstance(one, type) and name not in INPUTS and not name.startswith("_"):
                found[f"{room}.{name}"] = one
    return {path: one for path, one in found.items() if not is_an_input(one) or path == "exact.Degeneracy"}


RESULTS = exported()


def function_of(path: str):
    """Return the public function that a path of `CALLS` calls."""
    return functools.reduce(getattr, path.split(" ")[0].split("."), jd)


def inside(value):
    """Yield a value and every result inside it."""
    yield value
    if isinstance(value, Mapping):
        parts = value.values()
    elif isinstance(value, list | tuple):
        parts = value
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = [getattr(value, one.name) for one in dataclasses.fields(value)]
    else:
        parts = []
    for one in parts:
        yield from inside(one)


def network(params, x):
    return jnp.tanh(x @ params["w"]) @ params["v"]


def made_by_hand(folder) -> list:
    """Return results that no call of `CALLS` returns."""
    S = np.random.default_rng(0).normal(size=(4, 9))
    film = Film(network, F["x"], every=1, wait=True)
    with film:
        film.see(0, F["params"])
    accumulator = Accumulator.empty(4, S.dtype).add(S)
    curve = np.arange(3.0)
    return [
        jd.descramble([S, S[:3]]),
        jd.sweep(jd.grid({"first": S}), folder / "sweep"),
        jd.explain({"first": (S[:3, :4], S)}, draws=2),
        film.frames,
        accumulator,
        refine(jd.objectives.sparsity(), jnp.eye(4), [S], accumulator, optax.sgd(0.1)),
        jd.wiretap(users_network)(F["params"], F["x"])[1],
        jd.symmetries(users_network, F["params"], F["x"]),
        jd.descramble_network(users_network, F["params"], F["x"], frames="symmetric"),
        *jd.symmetries(users_network, F["params"], F["x"]).random(jax.random.key(0)).values(),
        jd.findings.compare(jd.findings.FIRST_LAYER[:1], S, S, {"frame": (np.stack([S, -S]),) * 2}),
        jd.datasets.deernet_weights.PublishedDEERNet({"layer_1": {"weight": jnp.eye(2)}}, curve, curve),
        jd.datasets.deernet_weights.MeasuredTrace(curve, curve, curve, curve),
        next(iter(jd.gated.path_kernel.tiles(jd.gated.path_kernel.dense, (S, [S]), (S, [S]), tile_size=3))),
    ]


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """Return an example of every result, by its class."""
    found: dict[type, object] = {}

    def keep(value):
        for one in inside(value):
            found.setdefault(type(one), one)

    for value in made_by_hand(tmp_path_factory.mktemp("results")):
        keep(value)
    for path, call in CALLS.items():
        if path in NO_FILE:
            continue
        try:
            told = typing.get_type_hints(function_of(path)).get("return") if "." in path or hasattr(jd, path) else None
        except (AttributeError, TypeError, NameError):
            continue
        wanted = [kind for kind in RESULTS.values() if kind in (told, *typing.get_args(told))]
        if any(kind not in found for kind in wanted):
            keep(call.function(**call.arguments))
    return found


each = pytest.mark.parametrize("path", RESULTS)


def example(examples, path):
    kind = RESULTS[path]
    assert kind in examples, f"no call in fuzzing_calls.CALLS returns a {path}"
    return examples[kind]


@pytest.mark.every_case
@each
def test_a_result_is_short_in_a_terminal_and_has_a_page_in_a_notebook(examples, path):
    one = example(examples, path)
    assert repr(one).startswith(RESULTS[path].__name__)
    assert len(repr(one)) < 300
    page = ET.fromstring(one._repr_html_().replace("&nbsp;", " "))
    assert len(one._repr_html_()) < 100_000
    for picture in page.iter("{http://www.w3.org/2000/svg}svg"):
        assert picture.get("role") == "img"
        assert picture.get("aria-label") == picture.find("{http://www.w3.org/2000/svg}title").text


PLAIN = (bool, int, float, complex, str, np.ndarray, type(None))


@pytest.mark.every_case
@each
def test_a_result_becomes_plain_values(examples, path):
    for value in inside(example(examples, path).to_dict()):
        assert isinstance(value, (*PLAIN, dict, list)), type(value)


@pytest.mark.every_case
@each
def test_a_result_with_a_status_can_be_checked(examples, path):
    one = example(examples, path)
    if not hasattr(one, "status"):
        assert not hasattr(one, "check") or one.check() is one
    elif all(Status(code).usable for code in np.ravel(one.status)):
        assert one.check() is one
    else:
        with pytest.raises(FloatingPointError):
            one.check()


@pytest.mark.every_case
@each
def test_a_saved_result_is_the_same_and_has_a_format(examples, path, tmp_path):
    one, kind = example(examples, path), RESULTS[path]
    if not hasattr(kind, "save") or path == "sweeps.Table":
        # Named tuples of arrays, and what a larger result contains, are saved with `np.savez` or with that result.
        assert issubclass(kind, tuple) or path in NOT_SAVED
        return
    one.save(tmp_path / "saved.npz")
    back = kind.load(tmp_path / "saved.npz")
    assert type(back) is kind
    same(one.to_dict(), back.to_dict())
    if issubclass(kind, results.Stored):
        with np.load(tmp_path / "saved.npz") as file:
            header = json.loads(str(file["header"]))
            content = {name: file[name] for name in file.files}
        assert (header["format"], header["kind"]) == (kind.format, kind.__name__)
        header["format"] = kind.format + 1
        np.savez(tmp_path / "later.npz", **(content | {"header": json.dumps(header)}))
        with pytest.raises(ValueError, match=f"has format {kind.format + 1}; this version reads"):
            kind.load(tmp_path / "later.npz")


NOT_SAVED = {
    "descrambling.FilmedLayer": "saved with its Frames",
    "descrambling.FilmedSide": "saved with its Frames",
    "descrambling.SymmetricDescrambling": "its parameters are saved with the library that trains them",
    "descrambling.Barrier": "four arrays; to_dict returns them",
    "descrambling.Match": "holds both networks, which are saved with the library that trains them",
    "exact.Degeneracy": "holds an operator; made anew from the summary",
    "findings.LayerExplanation": "saved with its Report",
    "findings.LayerWave": "saved with its Report",
    "findings.Verdict": "saved with its Report",
    "gated.Regime": "parameters are saved with the library that trains them",
    "networks.Layers": "values of any kind",
    "networks.Element": "drawn anew, or given as an array",
    "networks.Layout": "part of a Tap",
    "networks.Stream": "part of Symmetries",
    "networks.Symmetries": "derived anew from the network",
    "networks.Tap": "made anew from the network",
    "sweeps.Table": "its folder is the saved form: Table.load",
}


def same(one, other):
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for name in one:
            same(one[name], other[name])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            same(a, b)
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    else:
        assert one == other or (one != one and other != other)


def test_reasons_for_results_that_are_not_saved_are_needed():
    assert set(NOT_SAVED) <= set(RESULTS)
    assert all(not hasattr(RESULTS[path], "save") for path in NOT_SAVED if path != "sweeps.Table")


def test_results_can_be_looked_at_inside_jit_and_in_batches():
    seen = []

    @jax.jit
    @jax.vmap
    def run(S):
        found = jd.descramble(S)
        seen.extend([repr(found), found._repr_html_()])
        with pytest.raises(TypeError, match=r"to_dict: point is traced.*outside jit"):
            found.to_dict()
        return found

    found = run(jnp.ones((3, 4, 9)))
    assert "point=float64[4,4]" in seen[0]
    assert "<svg" not in seen[1]
    assert "3 ZERO" not in repr(found)
    assert "status=3 KINK" in repr(found) or "status=3 SOLVED" in repr(found)
    assert "first of 3" in found._repr_html_()
    shapes = jax.eval_shape(run, jnp.ones((3, 4, 9)))
    assert "status=int32[3]" in repr(shapes)
    assert "<svg" not in shapes._repr_html_()


def test_every_kind_of_failure_is_said_at_once():
    S = jnp.stack([jnp.ones((4, 9)), jnp.zeros((4, 9)), jnp.full((4, 9), jnp.nan)])
    found = jd.descramble(list(S))
    assert repr(found) == "Descramblings(3 items: float64[4,4], float64[4,4], float64[4,4])"
    with pytest.raises(FloatingPointError, match=r"(?s)item 1 of 3.*ZERO_SIGNALS.*item 2 of 3.*NOT_FINITE"):
        found.check()
    found[0] = None
    with pytest.raises(FloatingPointError, match="item 0 of 3, descramble: INTERRUPTED before it began"):
        found.check()
    table_like = repr(jd.descramble(S))
    assert "1 ZERO_SIGNALS, 1 NOT_FINITE" in table_like


def test_lists_and_networks_are_saved_in_folders(tmp_path):
    found = jd.descramble([jnp.ones((4, 9)), jnp.ones((3, 9))])
    found.save(tmp_path / "list")
    same(jd.Descramblings.load(tmp_path / "list").to_dict(), found.to_dict())
    layers = jd.descramble_network(network, F["params"], F["x"])
    layers.save(tmp_path / "network")
    back = jd.NetworkDescrambling.load(tmp_path / "network")
    assert list(back) == list(layers)
    same(back.to_dict(), layers.to_dict())
    with pytest.raises(ValueError, match="holds a Descramblings, not a NetworkDescrambling"):
        jd.NetworkDescrambling.load(tmp_path / "list")
    with pytest.raises(FileNotFoundError):
        jd.Descramblings.load(tmp_path)
    contents = tmp_path / "list" / "contents.json"
    contents.write_text(contents.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(ValueError, match="has format 2; this version reads format 1"):
        jd.Descramblings.load(tmp_path / "list")
    contents.write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        jd.Descramblings.load(tmp_path / "list")
    (tmp_path / "network" / "weights.npz").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"weights\.npz is damaged"):
        jd.NetworkDescrambling.load(tmp_path / "network")


def test_a_folder_that_is_written_in_part_is_not_loaded(tmp_path, monkeypatch):
    found = jd.descramble([jnp.ones((4, 9)), jnp.ones((3, 9))])
    found.save(tmp_path)
    save = jd.Descrambling.save

    def full(self, path):
        if path.name == "1.npz":
            raise OSError("disk full")
        save(self, path)

    monkeypatch.setattr(jd.Descrambling, "save", full)
    with pytest.raises(OSError, match="disk full"):
        found.save(tmp_path)
    with pytest.raises(FileNotFoundError):
        jd.Descramblings.load(tmp_path)


def test_weights_of_a_network_are_never_newer_than_its_table_of_contents(tmp_path, monkeypatch):
    found = jd.descramble_network(network, F["params"], F["x"])
    found.save(tmp_path)

    def full(path, arrays):
        assert not (tmp_path / "contents.json").exists(), "new weights would stand beside old descramblings"
        raise OSError("disk full")

    monkeypatch.setattr("jaxdescramble.descrambling._folders.write_arrays", full)
    with pytest.raises(OSError, match="disk full"):
        found.save(tmp_path)
    with pytest.raises(FileNotFoundError):
        jd.NetworkDescrambling.load(tmp_path)


def test_files_that_are_something_else_are_refused(tmp_path):
    found = jd.minimise(lambda point: point[0, 0], jnp.eye(2))
    found.save(tmp_path / "solution.npz")
    with pytest.raises(ValueError, match="holds a Solution, not a Bootstrap"):
        jd.descrambling.Bootstrap.load(tmp_path / "solution.npz")
    (tmp_path / "broken.npz").write_bytes((tmp_path / "solution.npz").read_bytes()[:100])
    with pytest.raises(ValueError, match=r"not a whole Solution file.*write it again"):
        jd.Solution.load(tmp_path / "broken.npz")
    with pytest.raises(TypeError, match="path: expected a path, got 3"):
        jd.Solution.load(3)


# --- pictures ------------------------------------------------------------------------------------------------------

SVG = "{http://www.w3.org/2000/svg}"


def cells(picture: str) -> dict[tuple[int, int], tuple[str, float]]:
    """Return colour and opacity of every cell that is drawn."""
    found = {}
    for path in ET.fromstring(picture).iter(f"{SVG}path"):
        for stroke in path.get("d").split("M")[1:]:
            place, length = stroke.split("h")
            column, row = map(int, place.split())
            for k in range(int(length)):
                found[row, column + k] = (path.get("stroke"), float(path.get("stroke-opacity")))
    return found


def test_a_heat_map_shows_sign_size_and_what_is_missing():
    drawn = cells(drawing.heat_map(np.asarray([[2.0, -1.0, 0.0], [np.nan, 2.0, 2.0]]), "numbers"))
    assert drawn == {
        (0, 0): (drawing.POSITIVE, 1.0),
        (0, 1): (drawing.NEGATIVE, 0.5),
        (1, 0): (drawing.MISSING, 1.0),
        (1, 1): (drawing.POSITIVE, 1.0),
        (1, 2): (drawing.POSITIVE, 1.0),
    }


def test_thin_lines_of_a_large_matrix_stay_visible():
    matrix = np.zeros((1000, 300))
    matrix[:, 123] = -1e300
    drawn = cells(drawing.heat_map(matrix, "one column"))
    assert {row for row, _ in drawn} == set(range(drawing.CELLS))
    assert len({column for _, column in drawn}) == 1
    assert set(drawn.values()) == {(drawing.NEGATIVE, 1.0)}
    assert len(drawing.heat_map(np.random.default_rng(0).normal(size=(500, 500)), "noise")) < 20_000


@pytest.mark.parametrize("matrix", [np.zeros((3, 3)), np.full((2, 5), np.nan), np.ones((1, 1)), np.full((2, 2), 1e308)])
def test_pictures_of_degenerate_matrices_are_valid(matrix):
    assert ET.fromstring(drawing.heat_map(matrix, "a < b & c")).find(f"{SVG}title").text == "a < b & c"
    assert ET.fromstring(drawing.lines(matrix, '"quoted"')).get("aria-label") == '"quoted"'


def test_a_curve_breaks_where_a_number_is_missing():
    pieces = list(ET.fromstring(drawing.lines(np.asarray([0, 1, np.nan, 3, 2, np.inf]), "loss")).iter(f"{SVG}polyline"))
    heights = [[float(point.split(",")[1]) for point in one.get("points").split()] for one in pieces]
    assert [len(one) for one in heights] == [2, 2]
    assert heights[0][0] > heights[0][1] > heights[1][1] > heights[1][0]  # larger numbers are higher up
