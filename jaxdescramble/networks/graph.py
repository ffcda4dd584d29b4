"""A JAX function as a flat graph: every value has a number, calls are opened, and only loops are nested."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from jax.extend import source_info_util
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn

# Operations that act on every element by itself, each operand of the same shape, of size 1 along an axis, or a scalar.
POINTWISE = frozenset(
    """abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt ceil clamp clz complex conj
    convert_element_type copy copy_p cos cosh digamma div eq eq_to erf erf_inv erfc exp exp2 expm1 floor ge gt igamma
    igamma_grad_a igammac imag integer_pow is_finite le le_to lgamma log log1p log2 logistic lt lt_to max min mul
    custom_rule name ne neg nextafter not one_minus_square or polygamma population_count pow real reduce_precision
    regularized_incomplete_beta rem round rsqrt select_n shift_left shift_right_arithmetic shift_right_logical sign
    sin sinh sqrt square stop_gradient sub tan tanh xor zeta""".split()  # noqa: SIM905
)
# Operations that hand their operands on, one result each; `stop_gradient` and a change of type among them.
# `custom_rule` is ours: it closes the opened body of a call that has a derivative of its own (see `Operation`).
IDENTITY = frozenset(
    """convert_element_type copy copy_p custom_rule device_put layout_constraint mesh_cast name optimization_barrier
    pcast pvary reduce_precision relayout reshard sharding_constraint stop_gradient""".split()  # noqa: SIM905
)
CALLS = frozenset(
    """call checkpoint closed_call composite core_call core_closed_call eval_jaxpr jit pjit remat remat2""".split()  # noqa: SIM905
)
CUSTOM = frozenset({"custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr", "custom_vmap_call"})
# Those of them that have a derivative of their own.
RULED = CUSTOM - {"custom_vmap_call"}

# What an operation reads: an array, a number that the program contains, or a `Ref`. JAX has no type for all of these.
Value: TypeAlias = Any
# The two are one class from jax 0.11 on.
Code: TypeAlias = Jaxpr | ClosedJaxpr


@dataclasses.dataclass(eq=False)
class Block:
    """Operations in order, with the values that go in and the values that come out.

    A block may also read values of the blocks around it.
    """

    inputs: tuple[int, ...]
    operations: list["Operation"]
    outputs: tuple[int, ...]

    @property
    def defined(self) -> set[int]:
        """The values that are computed here or further inside."""
        result = set(self.inputs)
        for operation in self.operations:
            result.update(operation.outputs)
            for block in operation.blocks:
                result |= block.defined
        return result

    @property
    def free(self) -> set[int]:
        """The values read here or further inside that come from outside."""
        reads = set(self.outputs).union(*(operation.reads for operation in self.operations))
        return reads.difference(self.inputs, *(operation.outputs for operation in self.operations))


@dataclasses.dataclass(eq=False)
class Operation:
    """One primitive at work on numbered values.

    `body` is what a scan repeats. `unread` are the bodies of other operations that have any (`while`, `cond`): they can
    be inspected but run only as a whole. `feeds` gives for each input of a body the values that reach it. `callers` are
    the calls around it that were opened, outermost first.

    A `custom_rule` closes the opened body of a `custom_jvp` or `custom_vjp` call. For a reader it is the identity.
    `evaluate` runs the call itself in its place, so that values and derivatives are those of the call.
    `equation` is the call, `call` holds its operands, and `inside` the numbers of the body's values. Its operations are
    `closed`: their effects (prints) happen when the call runs.
    """

    equation: JaxprEqn
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    body: Block | None = None
    carries: int = 0
    unread: tuple[Block, ...] = ()
    feeds: Mapping[int, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    callers: tuple[JaxprEqn, ...] = ()
    call: tuple[int, ...] | None = None
    inside: range = range(0)
    closed: bool = False
    known_kind: Any = None  # what `kinds.kind_of` answered

    @property
    def name(self) -> str:
        return self.equation.primitive.name if self.call is None else "custom_rule"

    @property
    def params(self) -> Mapping[str, Any]:
        return self.equation.params

    @property
    def blocks(self) -> tuple[Block, ...]:
        return self.unread if self.body is None else (self.body, *self.unread)

    @property
    def reads(self) -> set[int]:
        return set(self.inputs).union(self.call or (), *(block.free for block in self.blocks))

    @property
    def effects(self) -> bool:
        """Whether it must run even if nothing reads its results."""
        return bool(self.equation.effects) and not self.closed

    @property
    def pointwise(self) -> bool:
        return self.name in POINTWISE or (self.name in CUSTOM and is_pointwise(self.equation))

    @property
    def source(self) -> str:
        """Where the user's code asked for this operation: file, line and function."""
        # Operations inside JAX's own functions have no line of the user's; the call of the function has one.
        lines = [source_info_util.summarize(e.source_info) for e in (self.equation, *reversed(self.callers))]
        return next((line for line in lines if line), "an unknown place")

    def output_for(self, position: int) -> int:
        """Return the result that an operand goes into, for operations that treat each operand by itself."""
        return self.outputs[position if len(self.outputs) > 1 else 0]

    def operands_of(self, output: int) -> tuple[int, ...]:
        """Return the operands that a result depends on: one if the operation treats each by itself."""
        return (self.inputs[self.outputs.index(output)],) if self.name in IDENTITY else self.inputs


@dataclasses.dataclass(eq=False)
class Graph(Block):
    """A traced function: its block, with types, constants and the names of what went in.

    Attributes:
        avals: the type of each value.
        constants: the values that are known already.
        arguments: for each argument, the values of its leaves; `names`: their tree paths.
        tree: the structure of the result.
        lost: the calls that could not keep their own derivative.
    """

    avals: Sequence[Any]
    constants: Mapping[int, Value]
    arguments: tuple[tuple[int, ...], ...]
    names: Mapping[int, str]
    tree: object
    lost: Sequence[Operation] = ()

    def shape(self, value: int) -> tuple[int, ...]:
        return tuple(self.avals[value].shape)


def everything(block: Block) -> Iterator[Operation]:
    """Yield every operation of a block, and after each one those of its bodies."""
    for operation in block.operations:
        yield operation
        for inner in operation.blocks:
            yield from everything(inner)


def is_pointwise(equation: JaxprEqn) -> bool:
    """Return whether an equation acts element by element, also inside the calls that it makes."""
    name = equation.primitive.name
    if name in CALLS or name in CUSTOM:
        return all(is_pointwise(inner) for inner in opened_jaxpr(bodies_of(equation)[0])[0].eqns)
    # A scalar spread out, as `where` writes it, is still the same for every element.
    return name in POINTWISE or (name == "broadcast_in_dim" and all(shape == () for shape in operand_shapes(equation)))


def operand_shapes(equation: JaxprEqn) -> list[tuple[int, ...]]:
    """Return the shapes of an equation's operands."""
    types: list[Any] = [operand.aval for operand in equation.invars]
    return [tuple(one.shape) for one in types]


def bodies_of(equation: JaxprEqn) -> list[Code]:
    """Return the jaxprs among an equation's parameters, alone or in tuples, in order."""
    flat: list[Any] = []
    for value in equation.params.values():
        flat.extend(value if isinstance(value, tuple | list) else [value])
    return [value for value in flat if hasattr(value, "eqns")]


def opened_jaxpr(code: Code) -> tuple[Jaxpr, Sequence[Value]]:
    """Return a jaxpr without its constants, and these."""
    return code if isinstance(code, Jaxpr) else code.jaxpr, getattr(code, "consts", ())
