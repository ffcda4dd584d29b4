"""Programs are compiled for one class each: structures of different classes differ, whatever the version of jaxlib."""

import dataclasses
import itertools
from pathlib import Path

import jax
import pytest
from test_objectives import BATTERY, signals

import jaxdescramble
from jaxdescramble import solvers
from jaxdescramble._base.pytrees import register_dataclass


def test_structures_of_different_objectives_differ():
    # A `jax.jit` cache that finds two structures equal runs one program for both. Here hashes need not collide.
    structures = {name: jax.tree.structure((one, (one.summarise(signals()),))) for name, one in BATTERY.items()}
    for (one, left), (other, right) in itertools.combinations(structures.items(), 2):
        assert left != right, f"{one} and {other} share programs"


def test_structures_of_different_solvers_differ():
    kinds = [kind for kind in map(solvers.__dict__.get, solvers.__all__) if dataclasses.is_dataclass(kind)]
    made = []
    for kind in kinds:
        try:
            made.append(kind())
        except TypeError:  # it needs arguments
            continue
    assert len(made) > 3
    for one, other in itertools.combinations(map(jax.tree.structure, made), 2):
        assert one != other


def test_the_package_registers_dataclasses_in_one_way_only():
    root = Path(jaxdescramble.__file__).parent
    files = [path for path in root.rglob("*.py") if path.name != "pytrees.py"]
    found = [str(path) for path in files if "jax.tree_util.register_dataclass" in path.read_text()]
    assert not found, f"{found}: use _base.pytrees.register_dataclass, which says why"


@register_dataclass
@dataclasses.dataclass(frozen=True)
class Line:
    slope: float
    name: str = dataclasses.field(default="", metadata={"static": True})


@register_dataclass
@dataclasses.dataclass(frozen=True)
class Ray:
    slope: float
    name: str = dataclasses.field(default="", metadata={"static": True})


def test_it_is_the_pytree_that_jax_makes():
    leaves, structure = jax.tree_util.tree_flatten_with_path(Line(2.0, "a"))
    assert [(jax.tree_util.keystr(path), leaf) for path, leaf in leaves] == [(".slope", 2.0)]
    assert jax.tree.unflatten(structure, [3.0]) == Line(3.0, "a")
    assert structure != jax.tree.structure(Line(2.0, "b")), "static fields decide what is compiled"
    assert structure == jax.tree.structure(Line(5.0, "a"))
    assert structure != jax.tree.structure(Ray(2.0, "a"))


def test_fields_that_are_left_out_are_refused():
    made = dataclasses.make_dataclass("Plane", ["width", "height"])
    with pytest.raises(TypeError, match=r"Plane: its fields are \['width', 'height'\]"):
        register_dataclass(made, data_fields=["width"], meta_fields=[])
