"""The symmetries of a network: the frames that cost nothing, because the parameters alone can take them up."""

import dataclasses
import html
from collections.abc import Iterator, Mapping, Sequence

import jax
import numpy as np
from jaxtyping import PRNGKeyArray, PyTree

from jaxdescramble._base.checks import a_function, random_key, true_or_false
from jaxdescramble._base.results import Result
from jaxdescramble.networks.symmetry.deriving import Asked, Derivation
from jaxdescramble.networks.symmetry.groups import Element, Matrices, Ordered
from jaxdescramble.networks.symmetry.walking import read
from jaxdescramble.networks.tracing import Function

COSTS = {
    "pinned": "nothing may move",
    "orthogonal": "orthogonal matrices only",
    "charges": "an order and charges only",
    "ones": "the vector of ones must stay an eigenvector",
    "fixes": "the vector of ones must stay",
    "cofixes": "their sum must stay",
    "centred": "the mean must stay apart",
}


@dataclasses.dataclass(frozen=True)
class Reason:
    """What restricts a stream: an operation, its line, and why.

    Attributes:
        operation: name of the primitive; "" for the arguments of the network.
        line: file, line and function of the network's code.
        text: what the operation does with the features.
        costs: what it leaves.
    """

    operation: str
    line: str
    text: str
    costs: str

    def __str__(self) -> str:
        where = f"`{self.operation}` at {self.line}" if self.operation else "the axis"
        return f"{where} {self.text}: {self.costs}"


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Stream(Result):
    """Axes of values and parameters that move together.

    Attributes:
        name: tree path of the first leaf that makes the stream, with "#2", ... if the leaf makes several.
        size: number of features n.
        group: what may act: `Matrices` or `Ordered`.
        leaves: by tree path of a leaf, (axis, side), or a tuple of such pairs. "written": the leaf makes the stream
            (`W -> g W`); "read": the leaf reads it (`W -> W g^-1`).
        why: a `Reason` for each restriction.
    """

    name: str
    size: int
    group: Matrices | Ordered
    leaves: Mapping[str, tuple]
    why: tuple[Reason, ...]

    def random(self, key: PRNGKeyArray) -> Element:
        """Draw an element of the group."""
        return self.group.random(generator(key))

    def __repr__(self) -> str:
        return f"Stream({self.name!r}, {self.group.name}, {len(self.leaves)} leaves)"

    def to_dict(self) -> dict[str, object]:
        """Return the group's name and dimension, the leaves and the reasons, in plain Python types."""
        ends = {
            path: [list(end) if isinstance(end, tuple) else end for end in where] for path, where in self.leaves.items()
        }
        plain = {"size": self.size, "group": self.group.name, "dimension": self.group.dimension}
        return plain | {"leaves": ends, "why": [str(reason) for reason in self.why]}


class Symmetries(Mapping[str, Stream]):
    """The streams of a network by name: what `symmetries` returns. Printed, it is a table.

    Attributes:
        derivation: how the streams were found.
    """

    def __init__(self, derivation: Derivation):
        self.derivation = derivation
        self._streams: dict[str, Stream] = {}
        for one in derivation.streams:
            first = next((end.path for end in one.ends if end.side == "written"), one.ends[0].path) or "params"
            count = 1 + sum(name.split("#")[0] == first for name in self._streams)
            name = first if count == 1 else f"{first}#{count}"
            paths: dict[str, list[tuple[int, str]]] = {}
            for end in one.ends:
                paths.setdefault(end.path, []).append((end.axis, end.side))
            leaves = {path: some[0] if len(some) == 1 else tuple(some) for path, some in paths.items()}
            self._streams[name] = Stream(name, one.group.size, one.group, leaves, tuple(_why(one.asked)))

    def __getitem__(self, name: str) -> Stream:
        if name not in self._streams:
            raise KeyError(f"there is no stream {name}; there are {', '.join(self._streams) or 'none'}.")
        return self._streams[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._streams)

    def __len__(self) -> int:
        return len(self._streams)

    def random(self, key: PRNGKeyArray) -> dict[str, Element]:
        """Draw an element of every stream's group."""
        rng = generator(key)
        return {name: stream.group.random(rng) for name, stream in self.items()}

    def to_dict(self) -> dict[str, object]:
        """Return what `Stream.to_dict` returns of each stream, by name."""
        return {name: one.to_dict() for name, one in self.items()}

    def _rows(self) -> list[tuple[str, ...]]:
        rows = [(name, str(one.size), one.group.name, str(len(one.leaves))) for name, one in self.items()]
        return [("stream", "size", "group", "leaves"), *rows]

    def _repr_html_(self) -> str:
        head, *rows = [[html.escape(cell) for cell in row] for row in self._rows()]
        lines = [
            f"<tr><th>{'</th><th>'.join(head)}</th></tr>",
            *(f"<tr><td>{'</td><td>'.join(r)}</td></tr>" for r in rows),
        ]
        return f"<table>{''.join(lines)}</table>"

    def __repr__(self) -> str:
        return f"Symmetries({len(self)} streams; print it to see the table)"

    def __str__(self) -> str:
        rows = self._rows()
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
        return "\n".join(line.rstrip() for line in lines)


def symmetries(f: Function, params: PyTree, x: PyTree, *, at_values: bool = False) -> Symmetries:
    """Return the frames that a network can be moved to without a change of its function, stream by stream.

    Use it to see which transformations the network's parameters can take up alone: before you merge, quantise or
    compare networks, or move a descrambled frame into the parameters. A *stream* are all the axes of values and
    parameters that move together, such as the residual stream of a transformer. The function follows every feature
    axis through f and asks each operation what it allows. What it allows must hold for all values of the parameters.

    Args:
        f: a function `f(params, x)`, made of JAX operations.
        params, x: parameters and a batch of f; only their shapes and types matter.
        at_values: whether to take those leaves for constants whose numbers are all 0, or all 1: the gains and offsets
            of a new network, or of a network after `fold`. What is found then holds only while they keep these values.

    Returns:
        A mapping from names to `Stream`, which prints as a table. `stream.group` is the group, `stream.why` says which
        operation restricts it, and in which line. Move the parameters with `transform`.

    Raises:
        TypeError: if f is not a function.

    >>> import jax.numpy as jnp
    >>> f = lambda params, x: jnp.tanh(x @ params["a"]) @ params["b"]
    >>> print(symmetries(f, {"a": jnp.ones((2, 3)), "b": jnp.ones((3, 2))}, jnp.ones((4, 2))))
    stream  size  group            leaves
    ['a']   3     S(3) with signs  2

    Source: Hecht-Nielsen (1990) for permutations; Ainsworth et al. (2023, Git Re-Basin) and Ashkboos et al. (2024,
    QuaRot) write down by hand, for some architectures, what is derived here.
    """
    a_function(f, "f")
    return Symmetries(Derivation(read(f, params, x, true_or_false(at_values, "at_values"))))


def generator(key: PRNGKeyArray) -> np.random.Generator:
    """Return NumPy's generator of a key."""
    return np.random.default_rng(np.asarray(jax.random.key_data(random_key(key))).ravel().tolist())


def _why(asked: Sequence[Asked]) -> Iterator[Reason]:
    seen = set()
    for one in asked:
        if one.kind not in COSTS:
            continue
        operation = one.restriction.operation
        name, line = ("", "") if operation is None else (operation.equation.primitive.name, operation.source)
        reason = Reason(name, line, one.restriction.text, COSTS[one.kind])
        if reason not in seen:
            seen.add(reason)
            yield reason
