"""What can be said about a graph's values without running it."""

import collections
import dataclasses
from collections.abc import Callable, Iterable
from typing import NamedTuple

from jaxdescramble.networks.graph import IDENTITY, Block, Graph, Operation
from jaxdescramble.networks.kinds import kind_of


class Origin(NamedTuple):
    """The argument leaf that a value is a view of, and the slices taken on the way, as text."""

    leaf: int
    cut: str


@dataclasses.dataclass(eq=False)
class Facts:
    """Dependencies within a graph of `f(params, x)`.

    `parameters` and `data` are the values that depend on the first and on the other arguments; `origin` tells of views
    of an argument's leaf; `loops` are the scans around a value and `varying` those from whose steps it depends;
    `readers` are the operations that read a value, with the position of the operand; `returned` are the values that a
    block ends in; `home` is the block an operation or a value belongs to; `makers` are the operations values come from;
    `passed` says which values a body's results become, outside or on the next turn; `spread` remembers `along`.
    """

    graph: Graph
    parameters: set[int]
    data: set[int]
    origin: dict[int, Origin] = dataclasses.field(default_factory=dict)
    loops: dict[int, tuple[Operation, ...]] = dataclasses.field(default_factory=dict)
    varying: dict[int, set[Operation]] = dataclasses.field(default_factory=dict)
    readers: dict[int, list[tuple[Operation, int]]] = dataclasses.field(
        default_factory=lambda: collections.defaultdict(list)
    )
    returned: set[int] = dataclasses.field(default_factory=set)
    home: dict[Operation | int, Block] = dataclasses.field(default_factory=dict)
    makers: dict[int, Operation] = dataclasses.field(default_factory=dict)
    spread: dict[int, set[int]] = dataclasses.field(default_factory=dict)
    passed: dict[int, list[int]] = dataclasses.field(default_factory=lambda: collections.defaultdict(list))

    def is_input(self, value: int) -> bool:
        """Return whether a value is x itself, at most rearranged or sliced: no layer comes before it."""
        origin = self.origin.get(value)
        return origin is not None and origin.leaf not in self.graph.arguments[0]

    def onward(self, value: int) -> Iterable[int]:
        """The values in other blocks that a value becomes by a loop's or branch's passing it on."""
        for operation, position in self.readers[value]:
            # A body's operand: a scan is given what its body starts from, in the same order.
            if operation.body is not None:
                yield operation.body.inputs[position]
        yield from self.passed.get(value, ())

    def along(self, value: int) -> set[int]:
        """The axes along which a value may vary; not those along which it was merely spread out."""
        if value not in self.spread:
            maker = self.makers.get(value)
            wide = {i for i, size in enumerate(self.graph.shape(value)) if size > 1}
            if maker is not None and maker.name == "broadcast_in_dim":
                inner = self.along(maker.inputs[0])
                wide &= {int(j) for i, j in enumerate(maker.params["broadcast_dimensions"]) if i in inner}
            elif maker is not None and maker.pointwise:
                wide &= {i for operand in maker.operands_of(value) for i in self.along(operand)}
            self.spread[value] = wide
        return self.spread[value]


def study(graph: Graph) -> Facts:
    """The facts about the graph of a function of parameters (its first argument) and data (the others)."""
    parameters = set(graph.arguments[0])
    data = {number for argument in graph.arguments[1:] for number in argument}
    facts = Facts(graph, _reached(graph, parameters), _reached(graph, data))
    for number in graph.inputs:
        facts.origin[number] = Origin(number, "")
    _walk(facts, graph, ())
    _vary(facts, graph)
    return facts


def _reached(graph: Graph, start: Iterable[int]) -> set[int]:
    """Return every value that depends on one of these."""
    reached = set(start)

    def enter(operation: Operation) -> None:
        reached.update(i for i, feeds in operation.feeds.items() if not reached.isdisjoint(feeds))

    def leave(operation: Operation) -> None:
        if operation.body is not None:
            results = zip(operation.outputs, operation.body.outputs, strict=True)
            reached.update(output for output, result in results if result in reached)
        elif operation.name in IDENTITY:
            reached.update(n for n in operation.outputs if not reached.isdisjoint(operation.operands_of(n)))
        elif not reached.isdisjoint(operation.reads):
            reached.update(operation.outputs)

    _spread(graph, lambda: len(reached), enter, leave)
    return reached


def _spread(
    block: Block, size: Callable[[], int], enter: Callable[[Operation], None], leave: Callable[[Operation], None]
) -> None:
    """Go through a block in order, and through each loop until what is known, of some size, grows no more."""
    for operation in block.operations:
        before = -1
        while operation.blocks and before != size():  # what a loop carries round may reach more on the next turn
            before = size()
            enter(operation)
            for inner in operation.blocks:
                _spread(inner, size, enter, leave)
        leave(operation)


def _walk(facts: Facts, block: Block, loops: tuple[Operation, ...]) -> None:
    facts.returned.update(block.outputs)
    for number in block.inputs:
        facts.loops[number] = loops
        facts.home[number] = block
    for operation in block.operations:
        facts.home[operation] = block
        for position, number in enumerate(operation.inputs):
            facts.readers[number].append((operation, position))
        for number in operation.outputs:
            facts.loops[number] = loops
            facts.home[number] = block
            facts.makers[number] = operation
        _view(facts, operation)
        for number, feeds in operation.feeds.items():
            # Something a loop does not change, all of it (while) or a slice at each step (scan), is still that leaf.
            if all(feed in (feeds[0], number) for feed in feeds) and feeds[0] in facts.origin:
                facts.origin[number] = facts.origin[feeds[0]]
            for feed in feeds[1:]:
                facts.passed[feed].append(number)
        if operation.body is not None:
            for number, result in zip(operation.outputs, operation.body.outputs, strict=True):
                facts.passed[result].append(number)
            _walk(facts, operation.body, (*loops, operation))
        for inner in operation.unread:
            _walk(facts, inner, loops)


def _view(facts: Facts, operation: Operation) -> None:
    for position, number in enumerate(operation.inputs):
        if number not in facts.origin or not operation.outputs:
            continue
        leaf, cuts = facts.origin[number]
        before = facts.graph.shape(number)
        kind = kind_of(operation)
        if kind.arranges(operation, facts.graph):
            facts.origin[operation.output_for(position)] = Origin(leaf, cuts)
        elif kind.cuts:
            for i, output in enumerate(operation.outputs):
                spans = kind.spans(operation, i)
                texts = [
                    ":" if span == (0, size, 1) else ":".join(map(str, span[: 2 if span[2] == 1 else 3]))
                    for span, size in zip(spans, before, strict=True)
                ]
                text = "" if set(texts) == {":"} else f"[{', '.join(texts)}]"
                facts.origin[output] = Origin(leaf, cuts + text)


def _vary(facts: Facts, graph: Graph) -> None:
    varying = facts.varying

    def union(numbers: Iterable[int]) -> set[Operation]:
        return set().union(*(varying.get(number, set()) for number in numbers))

    def enter(operation: Operation) -> None:
        own = {operation} if operation.body is not None else set()
        for number, feeds in operation.feeds.items():
            varying[number] = union(feeds) | own

    def leave(operation: Operation) -> None:
        if operation.body is not None:
            for number, result in zip(operation.outputs, operation.body.outputs, strict=True):
                varying[number] = union([result]) - {operation}
        elif operation.name in IDENTITY:
            varying.update((number, union(operation.operands_of(number))) for number in operation.outputs)
        else:
            varying.update(dict.fromkeys(operation.outputs, union(operation.reads)))

    _spread(graph, lambda: sum(map(len, varying.values())), enter, leave)
