"""The kinds of operations that the package knows: everything about a kind stands in one file.

To add a kind, write its file, with a subclass of `Kind` or `LayerKind` and a tuple `KINDS` of its instances. Put the
file's name on the list `FILES`. If several kinds have the same primitive, the first one that holds is taken.
"""

import importlib

from jaxdescramble.networks.graph import Graph, Operation
from jaxdescramble.networks.kinds.elementwise import Elementwise
from jaxdescramble.networks.kinds.kind import Kind

FILES = (
    "dense",
    "convolution",
    "grouped_convolution",
    "ragged",
    "identity",
    "arranging",
    "slicing",
    "joining",
    "lookups",
    "ordering",
    "reducing",
    "pooling",
    "gates",
    "elementwise",
    "others",
)
KINDS: tuple[Kind, ...] = tuple(
    kind for name in FILES for kind in importlib.import_module(f"jaxdescramble.networks.kinds.{name}").KINDS
)

BY_PRIMITIVE: dict[str, list[Kind]] = {}
for _kind in KINDS:
    for _name in _kind.primitives:
        BY_PRIMITIVE.setdefault(_name, []).append(_kind)

PRODUCTS = frozenset(name for kind in KINDS if kind.is_product or kind.weight_sides for name in kind.primitives)
"""Where layers may be found: calls with rules of their own are opened if one of these is inside."""
ELEMENTWISE = next(kind for kind in KINDS if type(kind) is Elementwise)
UNKNOWN = Kind()


def kind_of(operation: Operation) -> Kind:
    """Return the kind of an operation; `UNKNOWN` if none holds."""
    if operation.known_kind is None:
        held = (kind for kind in BY_PRIMITIVE.get(operation.name, ()) if kind.holds(operation))
        # Calls that were not opened are elementwise if everything inside them is.
        operation.known_kind = next(held, ELEMENTWISE if operation.pointwise else UNKNOWN)
    return operation.known_kind


def arranges(operation: Operation, graph: Graph) -> bool:
    """Return whether an operation only rearranges its operand's elements, all of them and each once."""
    return kind_of(operation).arranges(operation, graph)
