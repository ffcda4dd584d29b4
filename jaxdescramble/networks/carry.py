"""Following an axis through a whole graph: what each operation makes of the axes of its operands."""

from jaxdescramble.networks.axes import FOREIGN, Axes, axis, cut, foreign, labels, moved
from jaxdescramble.networks.graph import IDENTITY, SLICES, Block, Graph, Operation

REDUCTIONS = frozenset(
    """reduce_sum reduce_max reduce_min reduce_and reduce_or reduce_prod argmax argmin""".split()  # noqa: SIM905
)


def carried(operation: Operation, position: int, output: int, axes: Axes, graph: Graph) -> Axes | None:
    """The axes of one result of an operation, from those of one of its operands; None where nothing can be said.

    Dimensions that are reduced go, those that are cut unevenly, joined or new are foreign, all others stay.
    """
    name, params = operation.name, operation.params
    before, after = graph.shape(operation.inputs[position]), graph.shape(operation.outputs[output])
    if name in IDENTITY and operation.outputs[output] != operation.output_for(position):
        return None  # a barrier hands each operand on by itself
    if name in SLICES:
        return cut(operation, output, axes, before)
    if name == "stack":
        place = params["axis"]
        return (*axes[:place], axis(FOREIGN, after[place]), *axes[place:])
    if name in REDUCTIONS:
        return tuple(dimension for i, dimension in enumerate(axes) if i not in params["axes"])
    if name == "dot_general":
        return _product(operation, position, axes, after)
    if name == "gather":
        return _gathered(operation, position, axes, after)
    if name == "conv_general_dilated":
        numbers, result = params["dimension_numbers"], list(foreign(after))
        if position == 0 and params["batch_group_count"] == 1:
            result[numbers.out_spec[0]] = axes[numbers.lhs_spec[0]]
        return tuple(result)
    arranged = moved(operation, axes, before, after)
    if arranged is not None:
        return arranged
    if len(before) != len(after):
        return None
    sizes = zip(before, after, axes, foreign(after), strict=True)
    return tuple(kept if old == new else lost for old, new, kept, lost in sizes)


def follow_axis(graph: Graph, start: int, at: int, label: str) -> dict[int, Axes]:
    """The axes of every value that a named axis gets into, from the value where it stands at some place."""
    shape = graph.shape(start)
    known = {start: tuple(axis(label if i == at else FOREIGN, size) for i, size in enumerate(shape))}

    def walk(block: Block) -> None:
        for operation in block.operations:
            live = [(k, known[number]) for k, number in enumerate(operation.inputs) if number in known]
            if operation.body is not None:
                _into(operation, operation.body)
                continue
            for i, number in enumerate(operation.outputs):
                found = [carried(operation, k, i, axes, graph) for k, axes in live]
                met = [axes for axes in found if axes is not None and any(label in labels(d) for d in axes)]
                if met:
                    # What two operands bring along one dimension is the same, or one of them is spread out there.
                    known[number] = tuple(
                        next((d for d in dimensions if label in labels(d)), dimensions[0])
                        for dimensions in zip(*met, strict=True)
                    )

    def _into(operation: Operation, body: Block) -> None:
        for k, (outer, inner) in enumerate(zip(operation.inputs, body.inputs, strict=True)):
            if outer in known:
                known[inner] = known[outer] if k < operation.carries else known[outer][1:]
        walk(body)
        for k, (outer, inner) in enumerate(zip(operation.outputs, body.outputs, strict=True)):
            if inner in known:
                steps = axis(FOREIGN, operation.params["length"])
                known[outer] = known[inner] if k < operation.carries else (steps, *known[inner])

    walk(graph)
    return known


def _gathered(operation: Operation, position: int, axes: Axes, after: tuple[int, ...]) -> Axes:
    numbers, sizes = operation.params["dimension_numbers"], operation.params["slice_sizes"]
    result = list(foreign(after))
    # Where indices stand in the result, in their order, but for the last axis, along which one index is written.
    of_indices = [i for i in range(len(after)) if i not in numbers.offset_dims]
    if position == 1:
        for i, place in enumerate(of_indices):
            result[place] = axes[i]
        return tuple(result)
    gone = {*numbers.collapsed_slice_dims, *numbers.operand_batching_dims}
    for i, place in zip((i for i in range(len(axes)) if i not in gone), numbers.offset_dims, strict=True):
        if after[place] == sizes[i] == operation.equation.invars[0].aval.shape[i]:
            result[place] = axes[i]
    for i, j in zip(numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True):
        result[of_indices[j]] = axes[i]
    return tuple(result)


def _product(operation: Operation, position: int, axes: Axes, after: tuple[int, ...]) -> Axes:
    (contract, batch) = operation.params["dimension_numbers"]
    free = [i for i in range(len(axes)) if i not in contract[position] and i not in batch[position]]
    kept = [axes[i] for i in batch[position]]
    mine, rest = [axes[i] for i in free], len(after) - len(kept) - len(free)
    others = foreign(after[len(kept) : len(kept) + rest] if position == 1 else after[len(after) - rest :])
    return tuple((*kept, *others, *mine) if position == 1 else (*kept, *mine, *others))
