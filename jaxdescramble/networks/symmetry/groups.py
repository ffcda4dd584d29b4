"""What may act on a stream: groups of matrices, and groups of orders with charges."""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from jaxdescramble._base.results import Result
from jaxdescramble.networks.strands import DUAL, number_of


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Element(Result):
    """An element of a stream's group, for every strand of the stream.

    Attributes:
        order: the new order of the positions, shape (*places, n); None if they stay.
        scales: by strand, charges, shape (*places, n).
        matrices: by strand, matrices g, shape (*places, n, n).
    """

    order: np.ndarray | None = None
    scales: Mapping[int, np.ndarray] = dataclasses.field(default_factory=dict)
    matrices: Mapping[int, np.ndarray] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, eq=False)
class Matrices:
    """Matrices g of a strand: `GL(n)` or `O(n)`, or those that keep the vector of ones in some way.

    If `mean`, the network takes the mean away before it uses the strand. Then `g = R + 1 w^T`, where R acts on the
    vectors of mean zero and w is any vector; the strands `centred`, without the mean, take `R + b 1^T`.

    Attributes:
        size: n.
        places: at each of these places, g may be another one (the heads of attention).
        strand: its label.
        orthogonal: whether `g^T g = 1` (for a centred strand: on the vectors of mean zero).
        fixes, cofixes: whether `g 1 = 1`, and whether `1^T g = 1^T`.
        ones: whether the vector of ones is an eigenvector of g and g^T.
        mean, centred: see above.
    """

    size: int
    places: tuple[int, ...]
    strand: str
    orthogonal: bool = False
    fixes: bool = False
    cofixes: bool = False
    ones: bool = False
    mean: bool = False
    centred: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name, as the table shows it."""
        n, letters = self.size, "O" if self.orthogonal else "GL"
        if self.mean:
            text = f"{letters}({n - 1}) on mean 0, any shift" if not self.ones else f"{letters}1({n})"
        elif self.ones and self.orthogonal:
            text = f"±O1({n})"
        else:
            text = f"{letters}({n})" + (f" on {n - 1} of {n}" if self._keeps else "")
        return text + (f" at each of {'x'.join(map(str, self.places))} places" if self.places else "")

    @property
    def _keeps(self) -> bool:
        return self.fixes or self.cofixes or self.ones

    @property
    def dimension(self) -> int:
        """Dimension of the group, as a Lie group."""
        n, places = self.size, math.prod(self.places)
        if self.mean:
            inner = (n - 1) * (n - 2) // 2 if self.orthogonal else (n - 1) ** 2
            return places * (inner + (0 if self.ones else n * (1 + len(self.centred))))
        if self.orthogonal:
            rest = n - self._keeps
            return places * rest * (rest - 1) // 2
        if self.ones:
            return places * ((n - 1) ** 2 + (0 if self.fixes or self.cofixes else 1))
        return places * (n - self.fixes) * (n - self.cofixes)

    def random(self, rng: np.random.Generator) -> Element:
        """Draw an element; its condition number is below 10, except for long shifts."""
        count, n = math.prod(self.places), self.size
        drawn = [self._one(rng) for _ in range(count)]
        return _element({one: np.stack([g[one] for g in drawn]).reshape(*self.places, n, n) for one in drawn[0]})

    def _one(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        n = self.size
        ones = np.ones((n, 1)) / n**0.5
        draw = _orthogonal if self.orthogonal else _general
        if self.mean:
            R = _beside(ones, draw(n - 1, rng), 0.0)
            mean = ones @ ones.T
            if self.ones:
                signed: np.ndarray = R + mean * rng.choice([-1, 1])
                return dict.fromkeys((self.strand, *self.centred), signed)
            shift = ones @ (ones.T + rng.normal(size=(1, n)) / n**0.5 / 2)
            others = {one: _inverse_dual(R + mean, ones, rng.normal(size=(n, 1)) / n**0.5 / 2) for one in self.centred}
            return {self.strand: R + shift, **others}
        if not self._keeps:
            return {self.strand: draw(n, rng)}
        if self.orthogonal or self.ones:
            sign = 1.0 if self.fixes or self.cofixes else rng.choice([-1.0, 1.0])
            return {self.strand: _beside(ones, draw(n - 1, rng), sign)}
        change = rng.normal(size=(n, n)) / n**0.5 / 2
        if self.fixes:
            change = change - (change @ ones) @ ones.T
        if self.cofixes:
            change = change - ones @ (ones.T @ change)
        return {self.strand: np.eye(n) + change / max(1.0, 2 * np.linalg.norm(change, 2))}

    def given(self, value: np.ndarray) -> Element:
        """Return the element that a matrix, an order or scales stand for.

        Raises:
            ValueError: if it is not in the group; the text completes "stream: ".
        """
        n = self.size
        matrix = _as_matrix(value, n, self.places)
        if not np.isfinite(matrix).all():
            raise ValueError("has numbers that are not finite")
        ones, eye = np.ones(n), np.eye(n)
        scale = max(1.0, float(np.abs(matrix).max()))
        small = 1e-5 * scale * n**0.5
        if np.linalg.cond(matrix).max() > 1e10:
            raise ValueError("is a singular matrix; it must have an inverse")
        if self.mean:
            centre = eye - np.ones((n, n)) / n
            inner = centre @ matrix @ centre
            if np.abs(centre @ matrix @ ones).max() > small:
                raise ValueError("does not map the vector of ones to a multiple of it; a mean is subtracted there")
            if self.orthogonal and np.abs(np.swapaxes(inner, -1, -2) @ inner - centre).max() > small:
                raise ValueError("is not orthogonal on the vectors of mean zero")
            readers = inner + np.ones((n, n)) / n
            return _element({self.strand: matrix} | dict.fromkeys(self.centred, readers))
        if self.orthogonal and np.abs(np.swapaxes(matrix, -1, -2) @ matrix - eye).max() > small:
            raise ValueError("is not orthogonal")
        for kept, turned in ((self.fixes, matrix), (self.cofixes, np.swapaxes(matrix, -1, -2))):
            if kept and np.abs(turned @ ones - ones).max() > small:
                raise ValueError("changes a vector that the network adds, or sums with")
        if self.ones:
            for turned in (matrix, np.swapaxes(matrix, -1, -2)):
                image = turned @ ones
                if np.abs(image - image.mean(-1, keepdims=True)).max() > small:
                    raise ValueError("does not keep the vector of ones; a mean is subtracted there")
        return _element({self.strand: matrix})


@dataclasses.dataclass(frozen=True, eq=False)
class Ordered:
    """Orders of the positions, with charges c for the strands: `P diag(c)`.

    Attributes:
        size: n.
        places: at each of these places, the element may be another one.
        strands: their labels.
        moves: whether the order is free.
        sizes, signs: the free charges of each position: whole exponents, shape (strands, free).
        common_sizes, common_signs: those that are the same for all positions.
    """

    size: int
    places: tuple[int, ...]
    strands: tuple[str, ...]
    moves: bool
    sizes: np.ndarray
    signs: np.ndarray
    common_sizes: np.ndarray
    common_signs: np.ndarray

    @property
    def trivial(self) -> bool:
        """Whether nothing may move."""
        return not (self.moves and self.size > 1) and not any(
            one.shape[1] for one in (self.sizes, self.signs, self.common_sizes, self.common_signs)
        )

    @property
    def name(self) -> str:
        """Name, as the table shows it."""
        parts = [f"S({self.size})"] if self.moves else []
        parts += [_several("signs", self.signs)] if self.signs.shape[1] else []
        parts += [_several("scales", self.sizes)] if self.sizes.shape[1] else []
        parts += ["one sign"] if self.common_signs.shape[1] else []
        parts += ["one scale"] if self.common_sizes.shape[1] else []
        text = " with ".join([parts[0], ", ".join(parts[1:])]) if len(parts) > 1 else (parts or ["nothing"])[0]
        return text + (f" at each of {'x'.join(map(str, self.places))} places" if self.places else "")

    @property
    def dimension(self) -> int:
        """Dimension of the group, as a Lie group: that of the scales."""
        return math.prod(self.places) * (self.size * self.sizes.shape[1] + self.common_sizes.shape[1])

    def random(self, rng: np.random.Generator) -> Element:
        """Draw an element; scales lie between 1/2 and 2."""
        count, n = math.prod(self.places), self.size
        order = None
        if self.moves:
            order = np.stack([rng.permutation(n) for _ in range(count)]).reshape(*self.places, n)
        shape = (count, n)
        logs = rng.uniform(-1, 1, (*shape, self.sizes.shape[1])) @ self.sizes.T
        logs = logs + rng.uniform(-1, 1, (count, 1, self.common_sizes.shape[1])) @ self.common_sizes.T
        odd = rng.integers(0, 2, (*shape, self.signs.shape[1])) @ self.signs.T
        odd = odd + rng.integers(0, 2, (count, 1, self.common_signs.shape[1])) @ self.common_signs.T
        return self._element(order, logs, odd)

    def _element(self, order: np.ndarray | None, logs: np.ndarray, odd: np.ndarray) -> Element:
        scales = {}
        for j, strand in enumerate(self.strands):
            each = np.where(odd[..., j] % 2, -1.0, 1.0) * np.exp2(logs[..., j])
            if (each != 1).any():
                scales[number_of(strand)] = each.reshape(*self.places, self.size)
        return Element(order, scales)

    def given(self, value: np.ndarray) -> Element:
        """Return the element that an order, scales or a matrix stand for.

        Scales are those of the first strand that can be scaled; the others follow, by the smallest change.

        Raises:
            ValueError: if it is not in the group; the text completes "stream: ".
        """
        n, value = self.size, np.asarray(value)
        order, charges = None, None
        # Scales are not zero: an (n, n) array with zeros is a matrix, also where there are n places.
        matrix = value.shape[-2:] == (n, n) and n > 1 and not value.all()
        if np.issubdtype(value.dtype, np.integer) and value.shape in ((n,), (*self.places, n)):
            order = value
        elif value.shape in ((n,), (*self.places, n)) and not matrix:
            charges = value
        elif value.shape[-2:] == (n, n):
            order = np.abs(value).argmax(-1)
            charges = np.take_along_axis(value, order[..., None], -1)[..., 0]
            rest = np.abs(value).sum(-1) - np.abs(charges)
            if rest.max() > 1e-6 * np.abs(charges).max():
                raise ValueError("mixes positions; here only their order can change, and some scales")
            charges = None if np.allclose(charges, 1, atol=1e-6) else charges
        else:
            raise ValueError(f"has shape {value.shape}; expected ({n},) or ({n}, {n})")
        if order is not None:
            _check_order(order, n)
            if not self.moves and (order != np.arange(n)).any():
                raise ValueError("changes the order of the positions, which must stay")
            order = np.broadcast_to(order, (*self.places, n))
        if charges is None:
            return Element(order)
        if not (np.isfinite(charges).all() and (charges != 0).all()):
            raise ValueError("has scales that are zero or not finite")
        charges = np.broadcast_to(charges, (*self.places, n)).reshape(-1, n)
        return self._element(order, self._logs(np.log2(np.abs(charges))), self._odd(charges < 0))

    def _logs(self, wanted: np.ndarray) -> np.ndarray:
        """Return the logarithms of the charges of all strands, the first free one having those that are wanted."""
        for basis, same in ((self.sizes, False), (self.common_sizes, True)):
            rows = [j for j in range(len(basis)) if basis[j].any()]
            if rows and (not same or np.allclose(wanted, wanted[:, :1])):
                unit = basis @ np.linalg.pinv(basis[rows[:1]].astype(float))
                return wanted[..., None] * unit[:, 0] * (-1 if self.strands[rows[0]].endswith(DUAL) else 1)
        if np.abs(wanted).max() > 1e-6:
            raise ValueError("has scales other than 1 and -1; none are free here")
        return np.zeros((*wanted.shape, len(self.strands)))

    def _odd(self, wanted: np.ndarray) -> np.ndarray:
        if not wanted.any():
            return np.zeros((*wanted.shape, len(self.strands)), int)
        for basis, same in ((self.signs, False), (self.common_signs, True)):
            columns = [j for j in range(basis.shape[1]) if basis[:, j].any()]
            if columns and (not same or (wanted == wanted[:, :1]).all()):
                return wanted[..., None].astype(int) * basis[:, columns[0]]
        raise ValueError("has negative scales; none are free here")


def _element(matrices: Mapping[str, np.ndarray]) -> Element:
    """Return an element from the matrices of labels; a label that ends in "*" has the dual of its strand's."""
    found = {}
    for label, matrix in matrices.items():
        turned = np.swapaxes(np.linalg.inv(matrix), -1, -2) if label.endswith(DUAL) else matrix
        found[number_of(label)] = turned
    return Element(matrices=found)


def _several(text: str, basis: np.ndarray) -> str:
    return text if basis.shape[1] == 1 else f"{basis.shape[1]} {text}"


def _check_order(order: np.ndarray, n: int) -> None:
    if not (np.sort(order, -1) == np.arange(n)).all():
        raise ValueError(f"is no order of 0 ... {n - 1}, each once")


def _as_matrix(value: np.ndarray, n: int, places: tuple[int, ...]) -> np.ndarray:
    value = np.asarray(value)
    if np.issubdtype(value.dtype, np.integer) and value.shape[-1:] == (n,) and value.ndim == 1:
        _check_order(value, n)
        value = np.eye(n)[value]
    elif value.shape == (n,):
        value = np.diag(value)
    if value.shape not in ((n, n), (*places, n, n)):
        raise ValueError(
            f"has shape {value.shape}; expected ({n},), ({n}, {n})" + (f" or {(*places, n, n)}" * bool(places))
        )
    return np.broadcast_to(value, (*places, n, n)).astype(np.float64)


def _general(n: int, rng: np.random.Generator) -> np.ndarray:
    left, right = _orthogonal(n, rng), _orthogonal(n, rng)
    return (left * np.exp2(rng.uniform(-1, 1, n))) @ right


def _orthogonal(n: int, rng: np.random.Generator) -> np.ndarray:
    if n == 0:
        return np.zeros((0, 0))
    Q, R = np.linalg.qr(rng.normal(size=(n, n)))
    return Q * np.sign(np.diagonal(R))


def _beside(fixed: np.ndarray, inner: np.ndarray, sign: float) -> np.ndarray:
    """Return the matrix that multiplies a unit vector (n, 1) by `sign`, and does `inner` at right angles to it."""
    rest = np.linalg.qr(np.concatenate([fixed, np.eye(len(fixed))], axis=1))[0][:, 1:]
    return sign * fixed @ fixed.T + rest @ inner @ rest.T


def _inverse_dual(matrix: np.ndarray, ones: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Return the matrix of a reader: `R + b 1^T` with any b that leaves it invertible."""
    n = len(ones)
    return matrix + (vector - ones * (ones.T @ vector)) @ ones.T * n**0.5
