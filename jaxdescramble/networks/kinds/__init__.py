"""The kinds of operations that the package knows: everything about a kind stands in one file.

To add a kind, write its file, with a subclass of `Kind` or `LayerKind`, and put it on the list below. Of several kinds
of one primitive the first one that holds is taken.
"""

from jaxdescramble.networks.graph import Graph, Operation
from jaxdescramble.networks.kinds import (
    arranging,
    convolution,
    dense,
    elementwise,
    gates,
    grouped_convolution,
    identity,
    joining,
    lookups,
    ordering,
    others,
    pooling,
    products,
    reducing,
    slicing,
)
from jaxdescramble.networks.kinds.kind import Kind

KINDS: tuple[Kind, ...] = (
    dense.Dense(),
    convolution.Convolution(),
    grouped_convolution.GroupedConvolution(),
    grouped_convolution.BatchGroupedConvolution(),
    products.RaggedProduct(),
    identity.StopGradient(),
    identity.Identity(),
    arranging.Transpose(),
    arranging.Reshape(),
    arranging.Squeeze(),
    arranging.Broadcast(),
    slicing.Slicing(),
    joining.Concatenation(),
    joining.Stack(),
    joining.Padding(),
    joining.Writing(),
    lookups.Gather(),
    lookups.DynamicSlice(),
    ordering.Running(),
    ordering.RunningSum(),
    ordering.Reversal(),
    ordering.Sorting(),
    reducing.Summation(),
    reducing.ReducedExtreme(),
    reducing.ExtremePosition(),
    reducing.Reduction(),
    pooling.SumPool(),
    pooling.ExtremePool(),
    pooling.OtherPool(),
    gates.Extreme(),
    gates.Absolute(),
    gates.Clamp(),
    gates.Choice(),
    elementwise.Addition(),
    elementwise.Negation(),
    elementwise.RealPart(),
    elementwise.Multiplication(),
    elementwise.Division(),
    elementwise.Power(),
    elementwise.FirstPower(),
    elementwise.Curve(),
    elementwise.Rounding(),
    elementwise.Comparison(),
    elementwise.Elementwise(),
    others.Fourier(),
    others.Counting(),
)

BY_PRIMITIVE: dict[str, list[Kind]] = {}
for _kind in KINDS:
    for _name in _kind.primitives:
        BY_PRIMITIVE.setdefault(_name, []).append(_kind)

PRODUCTS = frozenset(name for kind in KINDS if kind.is_product for name in kind.primitives)
ELEMENTWISE = next(kind for kind in KINDS if type(kind) is elementwise.Elementwise)
UNKNOWN = Kind()


def kind_of(operation: Operation) -> Kind:
    """Return the kind of an operation; `UNKNOWN` if none holds."""
    if operation.known_kind is None:
        held = (kind for kind in BY_PRIMITIVE.get(operation.name, ()) if kind.holds(operation))
        # Calls that were not opened are elementwise if everything inside them is.
        operation.known_kind = next(held, ELEMENTWISE if operation.pointwise else UNKNOWN)
    return operation.known_kind


def arranges(operation: Operation, graph: Graph) -> bool:
    """Return whether an operation only arranges its operand's elements anew, all of them and each once."""
    return kind_of(operation).arranges(operation, graph)
