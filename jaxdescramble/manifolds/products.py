"""Products of manifolds: one function of several parameters, each on its own manifold."""

import dataclasses
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from jaxdescramble._base.products import real_type
from jaxdescramble.manifolds.manifold import Manifold

CLASSES = 16
"""Largest number of determinant classes that are searched."""


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Product(Manifold):
    """A product of manifolds. Its points are pytrees, and so are its tangent vectors.

    You seldom need it: `minimise(f, {"turn": P, "shift": t}, manifold={"turn": Orthogonal(), "shift": Euclidean()})`
    makes it, and one manifold given for a branch stands for all leaves below. The metric is the sum of the
    metrics; coordinates are one vector, those of the leaves one after another.

    Args:
        manifolds: a pytree whose leaves are manifolds, in the structure of the points.

    Raises:
        TypeError: if a leaf is not a manifold.

    >>> from jaxdescramble.manifolds import Euclidean, SpecialOrthogonal
    >>> both = Product((SpecialOrthogonal(), Euclidean()))
    >>> both.dimension((jnp.eye(3), jnp.zeros(3)))
    6

    Source: Absil, Mahony, Sepulchre, Optimization Algorithms on Matrix Manifolds (2008), section 3.1.6.
    """

    leaves: tuple[Manifold, ...]
    structure: Any
    axes: ClassVar[int | None] = None
    symbol: ClassVar[str] = "a product"

    def __init__(self, manifolds: PyTree):
        plain = jax.tree.map(
            lambda leaf: leaf.parts if isinstance(leaf, Product) else leaf, manifolds, is_leaf=is_manifold
        )
        leaves, structure = jax.tree.flatten(plain, is_leaf=is_manifold)
        for leaf in leaves:
            if not is_manifold(leaf):
                raise TypeError(f"manifold: got {leaf!r}; expected a manifold such as manifolds.Stiefel().")
        if not leaves:
            raise ValueError("manifold: the product is empty; give at least one manifold.")
        object.__setattr__(self, "leaves", tuple(leaves))
        object.__setattr__(self, "structure", structure)

    def __repr__(self) -> str:
        return f"Product({self.parts!r})"

    @property
    def parts(self) -> PyTree:
        """The manifolds, in the structure of the points."""
        return jax.tree.unflatten(self.structure, self.leaves)

    @property
    def factors(self) -> tuple[Manifold, ...]:
        return self.leaves

    def parts_of(self, tree: Any, name: str = "point") -> list:
        try:
            return self.structure.flatten_up_to(tree)
        except (ValueError, TypeError) as error:
            raise TypeError(
                f"{name}: got {_sketch(tree)}, which does not match {self!r}; both must have the same structure."
            ) from error

    def whole_of(self, parts: Any) -> Any:
        return jax.tree.unflatten(self.structure, list(parts))

    def check(self, point: Any, name: str = "point") -> Any:
        parts = _of_one_precision(self.parts_of(point, name))
        paths, _ = jax.tree_util.tree_flatten_with_path(self.parts, is_leaf=is_manifold)
        names = [f"{name}{jax.tree_util.keystr(path)}" for path, _ in paths]
        arrays = self._ask("check", parts, names)
        precisions = {real_type(leaf.dtype).name for leaf in jax.tree.leaves(arrays)}
        if len(precisions) > 1:
            given = ", ".join(f"{called} {one.dtype}" for called, one in zip(names, arrays, strict=True))
            raise TypeError(f"{name}: got types of several precisions ({given}); convert all with .astype to one.")
        return self.whole_of(arrays)

    def shaped(self, like: Any, name: str) -> None:
        self._ask("shaped", self.parts_of(like, name), [name] * len(self.leaves))

    def random(self, key: PRNGKeyArray, *shape: Any, dtype: Any = float) -> Any:
        """Return a random point; give one shape for each leaf, in the order of `jax.tree.leaves`."""
        if len(shape) != len(self.leaves):
            raise ValueError(f"shape: got {len(shape)} shapes; must be one for each of {len(self.leaves)} manifolds.")
        keys = jax.random.split(key, len(self.leaves))
        made = [one.random(k, *size, dtype=dtype) for one, k, size in zip(self.leaves, keys, shape, strict=True)]
        return self.whole_of(made)

    def origin(self, like: Any) -> Any:
        return self.whole_of(self._ask("origin", self.parts_of(like)))

    def another(self, key: PRNGKeyArray, point: Any) -> Any:
        return self.whole_of(self._ask("another", jax.random.split(key, len(self.leaves)), self.parts_of(point)))

    def polish(self, point: Any) -> Any:
        return self.whole_of(self._ask("polish", self.parts_of(point)))

    def defect(self, point: Any) -> Float[Array, ""]:
        return jnp.max(jnp.stack(self._ask("defect", self.parts_of(point))))

    def dimension(self, point: Any) -> int:
        return sum(self._ask("dimension", self.parts_of(point)))

    def place(self, point: Any) -> PyTree:
        return tuple(self._ask("place", self.parts_of(point)))

    def split(self, point: Any, place: PyTree, slope: Any) -> tuple[Array, PyTree]:
        found = self._ask("split", self.parts_of(point), place, self.parts_of(slope))
        return _flat([gradient for gradient, _ in found]), tuple(normal for _, normal in found)

    def join(self, point: Any, place: PyTree, gradient: Array, normal: PyTree) -> Any:
        return self.whole_of(self._ask("join", self.parts_of(point), place, self.velocities(point, gradient), normal))

    def coordinates(self, point: Any, place: PyTree, vector: Any) -> Array:
        return _flat(self._ask("coordinates", self.parts_of(point), place, self.parts_of(vector)))

    def vector(self, point: Any, place: PyTree, velocity: Array) -> Any:
        return self.whole_of(self._ask("vector", self.parts_of(point), place, self.velocities(point, velocity)))

    def clean(self, point: Any, velocity: Array) -> Array:
        return _flat(self._ask("clean", self.parts_of(point), self.velocities(point, velocity)))

    def extent(self, point: Any) -> tuple[int, ...]:
        return (sum(map(math.prod, self._ask("extent", self.parts_of(point)))),)

    def move(self, point: Any, place: PyTree, velocity: Array) -> tuple[Any, Any]:
        found = self._ask("move", self.parts_of(point), place, self.velocities(point, velocity))
        return self.whole_of(end for end, _ in found), self.whole_of(arrival for _, arrival in found)

    def second(self, point: Any, place: PyTree, gradient: Array, normal: PyTree, velocity: Array, bend: Any) -> Array:
        gradients, velocities = self.velocities(point, gradient), self.velocities(point, velocity)
        found = self._ask("second", self.parts_of(point), place, gradients, normal, velocities, self.parts_of(bend))
        return _flat(found)

    def bound(self, point: Any, velocity: Array) -> Float[Array, ""]:
        return jnp.max(jnp.stack(self._ask("bound", self.parts_of(point), self.velocities(point, velocity))))

    def exponential(self, point: Any, vector: Any) -> Any:
        point, vector = self._given(point, vector)
        return self.whole_of(self._ask("exponential", self.parts_of(point), self.parts_of(vector)))

    def logarithm(self, point: Any, to: Any) -> Any:
        """Return the tangent vectors of the parts."""
        point, to = self._both(point, to)
        return self.whole_of(self._ask("logarithm", self.parts_of(point), self.parts_of(to)))

    def classes(self, point: Any) -> int:
        return math.prod(self._ask("classes", self.parts_of(point)))

    def in_each_class(self, point: Any) -> Any:
        count = self.classes(point)
        if count > CLASSES:
            raise ValueError(
                f"manifold: {self!r} has {count} determinant classes, and at most {CLASSES} are searched. Use "
                "manifolds.SpecialOrthogonal() for the parts whose class you know."
            )
        sets = self._ask("in_each_class", self.parts_of(point))
        sizes = [jax.tree.leaves(one)[0].shape[0] for one in sets]
        indices = np.indices(sizes).reshape(len(sizes), -1)
        return self.whole_of(
            jax.tree.map(lambda leaf, rows=rows: leaf[rows], one) for one, rows in zip(sets, indices, strict=True)
        )

    def class_of(self, point: Any) -> PyTree:
        return tuple(self._ask("class_of", self.parts_of(point)))

    def nearest(self, goal: Any, kind: PyTree) -> Any:
        return self.whole_of(self._ask("nearest", self.parts_of(goal), kind))

    def cost(self, point: Any) -> float:
        return sum(self._ask("cost", self.parts_of(point)))

    def _ask(self, method: str, *given: Any) -> list:
        """Return what a method of each part returns; each argument has one entry for each part."""
        return [getattr(one, method)(*its) for one, *its in zip(self.leaves, *given, strict=True)]

    def velocities(self, point: Any, velocity: Array) -> list[Array]:
        extents = self._ask("extent", self.parts_of(point))
        ends = np.cumsum([math.prod(extent) for extent in extents])[:-1]
        parts = jnp.split(velocity, ends)
        return [part.reshape(extent) for part, extent in zip(parts, extents, strict=True)]


def is_manifold(value: object) -> bool:
    """Return whether a value is a manifold.

    >>> is_manifold(Product), is_manifold("O")
    (False, False)
    """
    return isinstance(value, Manifold)


def as_manifold(value: Any, point: Any, name: str = "manifold") -> Manifold:
    """Return a manifold as it is; make a product of a pytree of manifolds, or of one manifold and a pytree of points.

    A manifold given for a branch of the point stands for all leaves below.

    Raises:
        TypeError: if a leaf is not a manifold, or the structure does not fit the point.

    >>> from jaxdescramble.manifolds import Euclidean
    >>> as_manifold([Euclidean(), Euclidean()], [1.0, 2.0])
    Product([Euclidean(), Euclidean()])
    """
    if is_manifold(value) and (isinstance(value, Product) or _is_array(value, point)):
        return value
    return Product(spread(value, point, name))


def spread(value: Any, point: Any, name: str = "manifold") -> Any:
    """Return the manifold of each leaf of a point, in its structure; see `as_manifold`.

    >>> from jaxdescramble.manifolds import Euclidean
    >>> spread(Euclidean(), [1.0, {"a": 2.0}])
    [Euclidean(), {'a': Euclidean()}]
    """
    leaves, structure = jax.tree.flatten(value, is_leaf=is_manifold)
    for leaf in leaves:
        if not is_manifold(leaf):
            raise TypeError(
                f"{name}: got {leaf!r}; expected a manifold such as manifolds.Stiefel(), or a pytree of them."
            )
    try:
        branches = structure.flatten_up_to(point)
    except (ValueError, TypeError) as error:
        raise TypeError(
            f"{name}: got {value!r} for a point of the structure {_sketch(point)}. Give one manifold for each part, in "
            "the same structure; one for a branch stands for all parts below."
        ) from error
    return structure.unflatten([_spread(leaf, branch) for leaf, branch in zip(leaves, branches, strict=True)])


def _spread(manifold: Manifold, branch: Any) -> Any:
    if isinstance(manifold, Product):
        return manifold.parts
    if _is_array(manifold, branch):
        return manifold
    return jax.tree.map(lambda leaf: manifold, branch)


def _is_array(manifold: Manifold, value: Any) -> bool:
    """Return whether a value is one point: an array, or for matrices a nested list of numbers."""
    if jax.tree_util.all_leaves([value]):
        return True
    numbers_only = all(isinstance(leaf, int | float | complex) for leaf in jax.tree.leaves(value))
    return isinstance(value, list) and manifold.axes is not None and numbers_only


def _of_one_precision(parts: list) -> list:
    """Return the parts, with Python numbers in the precision of the arrays beside them."""
    leaves = [leaf for leaf in jax.tree.leaves(parts) if hasattr(leaf, "dtype")]
    kinds = {real_type(leaf.dtype) for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.inexact)}
    if len(kinds) != 1:
        return parts
    (kind,) = kinds
    return [np.asarray(one, kind) if isinstance(one, float) else one for one in parts]


def _sketch(tree: Any) -> str:
    return str(jax.tree.map(lambda leaf: leaf if isinstance(leaf, str) else tuple(np.shape(leaf)), tree))


def _flat(parts: list[Array]) -> Array:
    return jnp.concatenate([jnp.ravel(part) for part in parts])
