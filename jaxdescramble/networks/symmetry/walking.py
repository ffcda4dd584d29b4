"""Follow a network and fill a `Book`."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdescramble._base.checks import is_traced
from jaxdescramble.networks.axes import FOREIGN, Atom
from jaxdescramble.networks.book import Book
from jaxdescramble.networks.facts import study
from jaxdescramble.networks.graph import Block, Operation
from jaxdescramble.networks.kinds import kind_of
from jaxdescramble.networks.strands import UnevenError
from jaxdescramble.networks.tracing import Function, trace


def read(f: Function, params: object, x: object, at_values: bool = False) -> Book:
    """Return the book of a network `f(params, x)`; `at_values`: leaves of zeros or ones alone are constants."""
    graph = trace(f, params, x, opened=True)
    book = Book(graph, study(graph))
    for number, value in graph.constants.items():
        book.know(number, value if hasattr(value, "dtype") else np.asarray(value))
    for number in graph.inputs:
        book.axes[number] = tuple(book.strands.axis(size) for size in graph.shape(number))
    shared: dict[int, int] = {}
    for leaf, number in zip(jax.tree.leaves(params), graph.arguments[0], strict=True):
        if at_values and _is_plain(leaf):
            book.know(number, np.asarray(leaf))
        elif isinstance(leaf, jax.Array | np.ndarray) and shared.setdefault(id(leaf), number) != number:
            book.same([shared[id(leaf)], number], "")  # one array at two places moves as one
    for number in (one for argument in graph.arguments[1:] for one in argument):
        book.pin(book.labels(book.axes[number]), "is an axis of the data")
    _walk(graph, book)
    book.operation = None
    for number in graph.outputs:
        book.use(number)
        book.operation = book.facts.makers.get(number)
        book.pin(book.labels(book.of(number)), "computes the function's result")
    return book


def _is_plain(leaf: object) -> bool:
    """Return whether all numbers of a leaf are 0, or all are 1."""
    if not isinstance(leaf, jax.Array | np.ndarray) or is_traced(leaf) or not jnp.issubdtype(leaf.dtype, jnp.inexact):
        return False
    array = np.asarray(leaf)
    return array.size > 0 and bool((array == 0).all() or (array == 1).all())


def _walk(block: Block, book: Book) -> None:
    for operation in block.operations:
        book.operation = book.strands.operation = operation
        if operation.body is not None:
            _scan(operation, operation.body, book)
        elif not book.compute(operation):
            try:
                kind_of(operation).ties(operation, book)
            except UnevenError as why:
                book.stop(operation, str(why))


def _scan(scan: Operation, body: Block, book: Book) -> None:
    loop = book.strands.new(scan.params["length"])
    book.loops[scan] = loop
    book.pin([loop], "reads them one by one")
    for i, (outer, inner) in enumerate(zip(scan.inputs, body.inputs, strict=True)):
        book.use(outer)
        if i < scan.carries:
            book.axes[inner] = tuple(book.strands.axis(size) for size in book.graph.shape(inner))
            _carry(inner, outer, book)
        else:
            lead, *rest = book.filled(outer)
            book.axes[inner] = tuple(rest)
            if len(lead) == 1 and lead[0].label != FOREIGN and book.strands.is_whole(lead[0], lead):
                book.strands.tie(loop, lead[0].label)
            else:
                book.pin(book.labels([lead]), "reads them one by one")
    _walk(body, book)
    book.operation = scan
    for i, (result, outer) in enumerate(zip(body.outputs, scan.outputs, strict=True)):
        book.use(result)
        if i < scan.carries:
            _carry(body.inputs[i], result, book)
            book.axes[outer] = book.axes[body.inputs[i]]
        else:
            size = scan.params["length"]
            lead = book.strands.current(((Atom(loop, size, 1),) if size > 1 else (),))
            book.axes[outer] = (*lead, *book.filled(result))


def _carry(carried: int, given: int, book: Book) -> None:
    """Tie what a loop carries to what it starts with, or to what a step returns."""
    book.same([carried, given], "starts or ends with the same number for all of them")
