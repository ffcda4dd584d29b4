"""Places of samples, and what each operation makes of them.

A place gives, for every position of a value, an index along one axis of x, as a sum of one array for each dimension. So
slices, reversals, cuts, joins and reshapes are followed exactly, and no size is ever taken for another one. A place
ends at an operation that mixes positions (a mean over tokens, a product along them, a sort), and at one that has no
rule here.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from jaxdescramble.networks.axes import taken
from jaxdescramble.networks.carry import REDUCTIONS
from jaxdescramble.networks.graph import IDENTITY, SLICES, Operation

NOWHERE = -(2**40)
"""Added to the index of a position that comes from no position of x, such as a class token."""
WINDOWS = ("window_dimensions", "window_strides", "padding", "base_dilation")
LARGEST = 10**7
"""Elements that a reshape may mix: no more are followed one by one."""
CUMULATIVE = frozenset({"cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp"})


@dataclasses.dataclass(frozen=True)
class Place:
    """Indices along one axis of x: `offset` plus, for each dimension of the value, an entry of its array.

    A dimension along which the index does not change has an empty tuple.
    """

    offset: int
    steps: tuple[tuple[int, ...], ...]

    def along(self, dimension: int) -> bool:
        """Whether the index changes along a dimension."""
        return bool(self.steps[dimension])

    def indices(self, shape: Sequence[int]) -> np.ndarray:
        """The index of every position of a value of this shape; negative where there is none."""
        total = np.full((1,) * len(shape), self.offset, np.int64)
        for i, step in enumerate(self.steps):
            if step:
                total = total + np.asarray(step).reshape([-1 if j == i else 1 for j in range(len(shape))])
        return np.broadcast_to(total, tuple(shape))


Places = Mapping[int, frozenset[Place]]
"""By axis of x; an axis that is missing has no part in the value, one without places has been mixed."""


def place(offset: int, steps: Iterable[Sequence[int] | np.ndarray]) -> Place:
    """A place in its simplest form: steps begin at 0, and those that do not change are left out.

    >>> place(0, [[2, 3], [1, 1]])
    Place(offset=3, steps=((0, 1), ()))
    """
    found = []
    for step in steps:
        numbers = [int(i) for i in step]
        offset += numbers[0] if numbers else 0
        found.append(tuple(i - numbers[0] for i in numbers) if len(set(numbers)) > 1 else ())
    return Place(offset, tuple(found))


def inserted(one: Place, at: int) -> Place:
    """The place with one more dimension, along which it does not change."""
    return Place(one.offset, (*one.steps[:at], (), *one.steps[at:]))


def kept(
    operation: Operation,
    output: int,
    before: Sequence[tuple[int, ...]],
    after: tuple[int, ...],
    had: Sequence[frozenset[Place] | None],
    loops: int,
) -> frozenset[Place]:
    """The places of one result of an operation along one axis of x.

    Args:
        operation: no loop.
        output: which result.
        before, after: shapes of the operands and of this result.
        had: the places of the operands; None for one that does not depend on the axis.
        loops: how many of a place's first dimensions are loops, which the operation does not touch.
    """
    if operation.name in ("concatenate", "stack"):
        return _joined(operation, before, had, loops)
    found: set[Place] = set()
    for position, some in enumerate(had):
        # What a gather takes apart is not put in order again by its indices.
        if operation.name == "gather" and position == 1 and had[0] is not None:
            continue
        for one in some or ():
            moved = _moved(operation, position, output, list(one.steps[loops:]), before[position], after)
            if moved is not None and None not in moved:
                found.add(place(one.offset, [*one.steps[:loops], *moved]))
    return frozenset(found)


Steps = list[Sequence[int]]


def _still(shape: Sequence[int]) -> Steps:
    return [()] * len(shape)


def _moved(
    operation: Operation, position: int, output: int, steps: Steps, before: tuple[int, ...], after: tuple[int, ...]
) -> Steps | None:
    """The steps of a place in a result, from those in an operand; None where the place ends."""
    name, params = operation.name, operation.params
    if name in IDENTITY:
        return steps if operation.outputs[output] == operation.output_for(position) else None
    if operation.pointwise or name in CUMULATIVE:
        return steps if before else _still(after)
    if name in SLICES:
        cut = [
            step[start:stop:stride] if step else step
            for step, (start, stop, stride) in zip(steps, taken(operation, output), strict=True)
        ]
        return _ended(cut, {params["axis"]}) if name == "unstack" else cut
    if name == "transpose":
        return [steps[i] for i in params["permutation"]]
    if name == "reshape":
        return None if params.get("dimensions") is not None else _reshaped(steps, before, after)
    if name == "squeeze":
        return [step for i, step in enumerate(steps) if i not in {j % len(before) for j in params["dimensions"]}]
    if name == "broadcast_in_dim":
        spread = dict(zip(params["broadcast_dimensions"], steps, strict=True)) if position == 0 else {}
        return [spread.get(i, ()) for i in range(len(after))]
    if name == "rev":
        return [step[::-1] if i in params["dimensions"] else step for i, step in enumerate(steps)]
    if name in REDUCTIONS:
        return _ended(steps, set(params["axes"]))
    if name == "dot_general":
        return _multiplied(operation, position, steps, before, after)
    if name == "conv_general_dilated":
        return _convolved(operation, steps, before, after) if position == 0 else None
    if name.startswith("reduce_window"):
        rows = zip(*(params[key] for key in WINDOWS), strict=True)
        slid = zip(steps, rows, before, after, strict=True)
        # One that is None ends the place.
        return [step if not step or _centred(*row, old == new) else None for step, row, old, new in slid]  # pyright: ignore
    if name == "pad":
        wide = zip(steps, params["padding_config"], strict=True)
        return [_padded(step, low, high, inside) for step, (low, high, inside) in wide]  # pyright: ignore
    if name == "sort":
        return None if steps[params["dimension"]] else steps
    if name == "fft":
        return None if any(steps[-len(params["fft_lengths"]) :]) else steps
    if name == "gather":
        return _gathered(operation, position, steps, before, after)
    if name in ("dynamic_slice", "dynamic_update_slice", "scatter", "scatter-add", "scatter_add"):
        if position > 0 or (
            name == "dynamic_slice" and any(steps[i] for i in range(len(after)) if before[i] != after[i])
        ):
            return None
        return steps
    return None


def _ended(steps: Steps, gone: set[int]) -> Steps | None:
    """Without some dimensions, along which the index must not change."""
    return None if any(len(set(steps[i])) > 1 for i in gone) else [s for i, s in enumerate(steps) if i not in gone]


def _reshaped(steps: Steps, before: tuple[int, ...], after: tuple[int, ...]) -> Steps | None:
    """Groups of dimensions that hold the same elements before and after; in each, the index as a sum again."""
    if 0 in before:
        return None
    result: Steps = []
    i = 0
    while len(result) < len(after) or i < len(before):
        j, first = i, len(result)
        old = new = 1
        sizes: list[int] = []
        while True:
            if old <= new and j < len(before) and (old < new or old == 1):
                old *= before[j]
                j += 1
            elif new < old and first + len(sizes) < len(after):
                sizes.append(after[first + len(sizes)])
                new *= sizes[-1]
            else:
                break
            if old == new and old > 1:
                break
        if old == new == 1:  # only sizes of 1 are left
            return [*result, *[()] * (len(after) - len(result))]
        if old != new:
            return None
        found = _split(steps[i:j], before[i:j], sizes)
        if found is None:
            return None
        result += found
        i = j
    return result


def _split(steps: Steps, before: Sequence[int], after: Sequence[int]) -> Steps | None:
    if not any(steps):
        return _still(after)
    if math.prod(before) > LARGEST:
        return None
    index = Place(0, tuple(map(tuple, steps))).indices(before).reshape(after)
    parts, total = [], np.full((1,) * len(after), index.flat[0])
    for i in range(len(after)):
        line = index[tuple(slice(None) if j == i else 0 for j in range(len(after)))] - index.flat[0]
        parts.append(tuple(line.tolist()))
        total = total + line.reshape([-1 if j == i else 1 for j in range(len(after))])
    if not np.array_equal(np.broadcast_to(total, index.shape), index):
        return None
    parts[0] = tuple(i + int(index.flat[0]) for i in parts[0])
    return [*parts]


def _multiplied(
    operation: Operation, position: int, steps: Steps, before: tuple[int, ...], after: tuple[int, ...]
) -> Steps | None:
    contract, batch = operation.params["dimension_numbers"]
    if any(steps[i] for i in contract[position]):
        return None
    free = [i for i in range(len(before)) if i not in contract[position] and i not in batch[position]]
    common, mine = [steps[i] for i in batch[position]], [steps[i] for i in free]
    others: Steps = [()] * (len(after) - len(common) - len(mine))
    return [*common, *mine, *others] if position == 0 else [*common, *others, *mine]


def _convolved(operation: Operation, steps: Steps, before: tuple[int, ...], after: tuple[int, ...]) -> Steps | None:
    """A position of the result belongs to the one at the middle of its window, where there is one for each."""
    params, numbers = operation.params, operation.params["dimension_numbers"]
    if params["batch_group_count"] != 1 or steps[numbers.lhs_spec[1]]:
        return None
    result: Steps = [()] * len(after)
    result[numbers.out_spec[0]] = steps[numbers.lhs_spec[0]]
    window = [operation.equation.invars[1].aval.shape[i] for i in numbers.rhs_spec[2:]]
    for n, (i, j) in enumerate(zip(numbers.lhs_spec[2:], numbers.out_spec[2:], strict=True)):
        reach = (window[n] - 1) * params["rhs_dilation"][n] + 1
        at = (reach, params["window_strides"][n], params["padding"][n], params["lhs_dilation"][n])
        if steps[i] and not _centred(*at, before[i] == after[j]):
            return None
        result[j] = steps[i]
    return result


def _centred(window: int, stride: int, padding: tuple[int, int], dilation: int, same: bool) -> bool:
    return bool(same and stride == dilation == 1 and padding[0] == padding[1] and window == 2 * padding[0] + 1)


def _padded(step: Sequence[int], low: int, high: int, inside: int) -> Sequence[int] | None:
    if not step:
        return step
    return None if inside or min(low, high) < 0 else (*[NOWHERE] * low, *step, *[NOWHERE] * high)


def _gathered(
    operation: Operation, position: int, steps: Steps, before: tuple[int, ...], after: tuple[int, ...]
) -> Steps | None:
    numbers, sizes = operation.params["dimension_numbers"], operation.params["slice_sizes"]
    result: Steps = [()] * len(after)
    # Where indices stand in the result, in their order, but for the last axis, along which one index is written.
    of_indices = [i for i in range(len(after)) if i not in numbers.offset_dims]
    if position == 1:
        for i, at in enumerate(of_indices):
            result[at] = steps[i]
        return result
    gone = {*numbers.collapsed_slice_dims, *numbers.operand_batching_dims}
    for i, at in zip((i for i in range(len(steps)) if i not in gone), numbers.offset_dims, strict=True):
        if steps[i] and sizes[i] != before[i]:
            return None
        result[at] = steps[i]
    for i, j in zip(numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True):
        result[of_indices[j]] = steps[i]
    return None if any(steps[i] for i in numbers.collapsed_slice_dims) else result


def _joined(
    operation: Operation, before: Sequence[tuple[int, ...]], had: Sequence[frozenset[Place] | None], loops: int
) -> frozenset[Place]:
    """Of operands side by side, each with one place at most: what has none is nowhere along the axis that is joined."""
    name = operation.name
    along = loops + int(operation.params["dimension" if name == "concatenate" else "axis"])
    some = frozenset().union(*(one for one in had if one is not None))
    if name == "concatenate" and len({one.offset for one in some}) == 1 and not any(one.along(along) for one in some):
        return some
    if any(one is not None and len(one) > 1 for one in had):
        return frozenset()
    line: list[int] = []
    rests = set()
    for one, shape in zip(had, before, strict=True):
        size = shape[along - loops] if name == "concatenate" else 1
        if not one:
            line += [NOWHERE] * size
            continue
        (single,) = one
        steps = single.steps if name == "concatenate" else inserted(single, along).steps
        line += [single.offset + i for i in steps[along] or [0] * size]
        rests.add((*steps[:along], *steps[along + 1 :]))
    if len(rests) != 1:
        return frozenset()
    (rest,) = rests
    return frozenset({place(0, [*rest[:along], line, *rest[along:]])})
