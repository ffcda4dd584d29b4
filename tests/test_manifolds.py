"""The geometry of every manifold: the checks of pymanopt and Manopt, in one battery. A new manifold joins by itself."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdescramble import manifolds
from jaxdescramble._base.products import inner, square_sum
from jaxdescramble.manifolds import (
    Euclidean,
    Grassmann,
    Manifold,
    Orthogonal,
    Power,
    Product,
    SpecialOrthogonal,
    SpecialUnitary,
    Stiefel,
    Unitary,
)
from jaxdescramble.solvers import minimise

MIXED = Product(
    {"columns": Stiefel("euclidean"), "turn": Unitary(), "free": Euclidean(), "gates": Power(SpecialUnitary())}
)

CASES = {
    "Stiefel, Euclidean metric": (Stiefel("euclidean"), (7, 3), float),
    "a product": (MIXED, ((5, 2), (2,), (2, 3, 3), (3, 3)), float),
    "Stiefel, complex": (Stiefel(), (6, 3), complex),
    "Stiefel, complex, Euclidean metric": (Stiefel("euclidean"), (5, 3), complex),
    "Stiefel, n < 2 p": (Stiefel(), (4, 3), float),
    "Stiefel, square": (Stiefel(), (4, 4), float),
    "sphere": (Stiefel(), (6, 1), float),
    "Grassmann, complex": (Grassmann(), (6, 2), complex),
    "free numbers, complex": (Euclidean(), (3, 2), complex),
    "a power": (Power(Stiefel()), (2, 5, 2), float),
}


def alone(kind):
    """Return the case of a manifold that is not listed: its default value, at the first shape that it accepts."""
    manifold = kind()
    for shape in ((6, 3), (4, 4), (5,)):
        try:
            manifold.random(jax.random.key(0), *shape)
        except (TypeError, ValueError):
            continue
        return manifold, shape, float
    raise AssertionError(f"{kind.__name__} accepts none of the shapes; list a case.")


for name in manifolds.__all__:
    kind = getattr(manifolds, name)
    if inspect.isclass(kind) and kind not in (Manifold, Power, Product):
        CASES[name] = alone(kind)

EACH = pytest.mark.parametrize("case", CASES)


def begun(case, seed, count):
    """Return the manifold of a case, a random point of it, and further keys: `count` keys in all."""
    manifold, shape, dtype = CASES[case]
    first, *others = jax.random.split(jax.random.key(seed), count)
    return manifold, manifold.random(first, *shape, dtype=dtype), others


def like(key, point):
    """Return random numbers in the shape of a point."""
    leaves, structure = jax.tree.flatten(point)
    keys = jax.random.split(key, len(leaves))
    return structure.unflatten(
        [jax.random.normal(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, leaves, strict=True)]
    )


def apart(a, b):
    return jnp.max(
        jnp.stack([jnp.max(jnp.abs(x - y)) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)])
    )


def function_on(manifold, point):
    """Return a function without symmetries beyond those that the manifold demands."""
    other = like(jax.random.key(7), point)
    if isinstance(manifold, Grassmann):
        target = other @ other.conj().T
        return lambda X: jnp.sum(jnp.abs(X @ X.conj().T - target / 8) ** 4)
    pairs = list(zip(jax.tree.leaves(point), jax.tree.leaves(other), strict=True))
    return lambda P: sum(
        jnp.sum(jnp.sin(jnp.abs(leaf - b) ** 2)) for leaf, (_, b) in zip(jax.tree.leaves(P), pairs, strict=True)
    )


@EACH
def test_coordinates_geodesics_gradients_and_hessians(case):
    manifold, start, keys = begun(case, 1, 4)
    f = function_on(manifold, start)

    @jax.jit
    def measured(point):
        def slope_of(P):
            return jax.tree.map(jnp.conj, jax.grad(f)(P))

        place, slope = manifold.place(point), slope_of(point)
        gradient, normal = manifold.split(point, place, slope)
        w, v = (manifold.clean(point, jax.random.normal(key, manifold.extent(point))) for key in keys[:2])
        w = w * 0.6 / jnp.maximum(manifold.bound(point, w), 0.3)
        W, V = manifold.vector(point, place, w), manifold.vector(point, place, v)

        def slope_along(t):
            return jax.jvp(lambda t: f(manifold.move(point, place, t * w)[0]), (t,), (1.0,))

        def along(t):  # value, slope and second derivative
            (value, slope), (_, second) = jax.jvp(slope_along, (t,), (1.0,))
            return value, slope, second

        def product(velocity):
            bend = jax.jvp(slope_of, (point,), (manifold.vector(point, place, velocity),))[1]
            return manifold.second(point, place, gradient, normal, velocity, bend)

        # One loop for all times, and one for all velocities: this program takes long to compile.
        (curve, arrival), (velocity, _) = jax.jvp(lambda t: manifold.move(point, place, t * w), (1.0,), (1.0,))
        end, at_end = curve, manifold.place(curve)
        times = jnp.asarray([0.0625, 0.03125, 0.015625, 0.0078125])
        values, slopes, seconds = jax.lax.map(along, jnp.concatenate([jnp.asarray([0.0, 1.0]), times]))
        first, second, slope_at_one, values = slopes[0], seconds[0], slopes[1], values[2:] - values[0]
        Hw, Hv = jax.lax.map(product, jnp.stack([w, v]))
        slope_at_end = manifold.split(end, at_end, slope_of(end))[0]
        one, two = inner(gradient, w), inner(w, Hw)
        ambient = like(keys[2], point)
        projected = manifold.vector(point, place, manifold.coordinates(point, place, ambient))
        again = manifold.vector(point, place, manifold.coordinates(point, place, projected))
        rest = jax.tree.map(lambda a, b: a - b, ambient, projected)
        carried = manifold.coordinates(end, at_end, manifold.vector(end, at_end, v))
        drifted = jax.tree.map(lambda leaf: leaf * 1.001, point)
        return (
            {
                "coordinates and back": apart(manifold.coordinates(point, place, W), w),
                "clean keeps": apart(manifold.clean(point, w), w),
                "slope by gradient": jnp.abs(
                    inner(gradient, w) - sum(map(inner, jax.tree.leaves(slope), jax.tree.leaves(W)))
                ),
                "projected twice": apart(projected, again),
                "projection is orthogonal": jnp.abs(sum(map(inner, jax.tree.leaves(rest), jax.tree.leaves(V)))),
                "first derivative": jnp.abs(first - one),
                "second derivative": jnp.abs(second - two),
                "symmetric": jnp.abs(inner(v, Hw) - inner(w, Hv)),
                "velocity at the end": apart(velocity, arrival),
                "constant speed": jnp.abs(square_sum(manifold.coordinates(end, at_end, arrival)) - square_sum(w)),
                "slope along": jnp.abs(
                    manifold.slope_along(slope_at_end, w, arrival, slope_of(end), 1.0) - slope_at_one
                ),
                "transport is an isometry": jnp.abs(square_sum(carried) - square_sum(v)),
                "on the manifold": manifold.defect(end) + manifold.defect(point),
                "polished": manifold.defect(manifold.polish(drifted))
                / jnp.maximum(manifold.defect(drifted), 1e-9)
                / 1e12,
            },
            second,
            (values - one * times) / times**2,
            (values - one * times - two * times**2 / 2) / times**3,
        )

    errors, second, squares, cubes = measured(start)
    for what, error in errors.items():
        assert float(error) < 1e-11, (what, float(error))
    # Slopes 2 and 3: what is left of the expansion, in units of t^2 and t^3, tends to the next coefficient.
    off = jnp.abs(squares - second / 2)
    assert float(off[-1]) < 0.25 * float(off[0]) + 1e-9
    assert float(jnp.abs(cubes[-1] - cubes[-2])) < 0.5 * float(jnp.abs(cubes[0] - cubes[1])) + 1e-6
    assert manifold.dimension(start) <= int(np.prod(manifold.extent(start)))


@pytest.mark.sampled(9)
@EACH
def test_the_dimension_is_the_rank_of_the_tangent_vectors(case):
    manifold, shape, dtype = CASES[case]
    point = manifold.random(jax.random.key(2), *shape, dtype=dtype)

    @jax.jit
    def images(arrays):
        return jax.vmap(lambda array: manifold.clean(point, array))(arrays)

    extent = manifold.extent(point)
    size = int(np.prod(extent))
    rows = images(jnp.eye(size).reshape(size, *extent)).reshape(size, size)
    np.testing.assert_allclose(rows @ rows, rows, atol=1e-12)  # a projection
    assert round(float(jnp.trace(rows))) == manifold.dimension(point)


@EACH
def test_exponentials_and_logarithms_are_inverse(case):
    manifold, start, keys = begun(case, 3, 3)
    if isinstance(manifold, Product) or getattr(manifold, "metric", "") == "euclidean":  # MIXED has such a part
        with pytest.raises(TypeError, match=r"know(s no|) logarithms"):
            manifold.logarithm(start, start)
        return
    place = manifold.place(start)
    w = manifold.clean(start, jax.random.normal(keys[0], manifold.extent(start)))
    v = manifold.vector(start, place, 0.75 * np.pi * w / jnp.sqrt(square_sum(w)))
    if "Special" in type(manifold).__name__ or isinstance(manifold, Power):
        v = v / 2  # the angles must be below pi, whatever their sum is
    end = jax.jit(lambda P, V: manifold.exponential(P, V))(start, v)
    assert float(manifold.defect(end)) < 1e-12
    back = jax.jit(lambda P, Q: manifold.logarithm(P, Q))(start, end)
    length = float(jnp.sqrt(manifold.inner(start, v, v)))
    distance = jax.jit(lambda P, Q: jnp.stack([manifold.distance(P, Q), manifold.distance(Q, P)]))(start, end)
    # Angles of the Grassmann manifold are at most pi / 2, and its logarithm ends at the same span.
    if not isinstance(manifold, Grassmann):
        np.testing.assert_allclose(back, v, atol=1e-10)
        np.testing.assert_allclose(distance, length, rtol=1e-10)
    else:
        again = manifold.exponential(start, back)
        np.testing.assert_allclose(again @ again.conj().T, end @ end.conj().T, atol=1e-10)
    np.testing.assert_allclose(distance[0], distance[1], rtol=1e-10)


@pytest.mark.sampled(6)
@EACH
def test_derivatives_of_exponentials_in_both_modes_are_finite_differences(case):
    manifold, start, keys = begun(case, 11, 4)
    other, V, W = (like(key, start) for key in keys)

    @jax.jit
    def measured(point, V, W):
        V, W = manifold.project(point, V), manifold.project(point, W)
        length = jnp.sqrt(manifold.inner(point, V, V))
        V = jax.tree.map(lambda leaf: 5 * leaf / length, V)  # longer than one piece of a geodesic

        def reading(V):
            end = manifold.exponential(point, V)
            return sum(map(inner, jax.tree.leaves(end), jax.tree.leaves(other)))

        def onward(t):
            return reading(jax.tree.map(lambda a, b: a + t * b, V, W))

        forward = jax.jvp(onward, (0.0,), (1.0,))[1]
        slope = jax.tree.map(jnp.conj, jax.grad(reading)(V))
        backward = sum(map(inner, jax.tree.leaves(slope), jax.tree.leaves(W)))

        def from_another(P):  # projections and exponentials have derivatives by the point too
            end = manifold.exponential(P, manifold.project(P, V))
            return sum(map(inner, jax.tree.leaves(end), jax.tree.leaves(other)))

        at_point = jax.tree.map(jnp.conj, jax.grad(from_another)(point))
        by_point = sum(map(inner, jax.tree.leaves(at_point), jax.tree.leaves(W)))
        ahead = jax.jvp(from_another, (point,), (W,))[1]
        return forward, backward, (onward(1e-5) - onward(-1e-5)) / 2e-5, by_point, ahead

    forward, backward, finite, by_point, ahead = measured(start, V, W)
    np.testing.assert_allclose(forward, finite, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(backward, forward, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(by_point, ahead, rtol=1e-9, atol=1e-10)


@pytest.mark.sampled(4)
@EACH
def test_distances_have_derivatives_and_means_of_two_points_lie_between_them(case):
    manifold, start, keys = begun(case, 12, 3)
    if isinstance(manifold, Product) or getattr(manifold, "metric", "") == "euclidean":
        pytest.skip("no logarithm")
    V = manifold.project(start, like(keys[0], start))
    V = 0.8 * V / jnp.sqrt(manifold.inner(start, V, V))
    end, middle = manifold.exponential(start, V), manifold.exponential(start, V / 2)

    def spread(point, one, other):
        return manifold.distance(point, one) ** 2 + manifold.distance(point, other) ** 2

    @jax.jit
    def measured(point, one, other, W):
        W = manifold.project(point, W)
        slope = jax.tree.map(jnp.conj, jax.grad(spread)(point, one, other))
        at = [spread(manifold.exponential(point, t * W), one, other) for t in (1e-5, -1e-5)]
        to = jax.grad(lambda other: manifold.distance(one, other))(other).conj()
        return inner(slope, W), (at[0] - at[1]) / 2e-5, inner(to, manifold.logarithm(other, one))

    found, finite, towards = measured(end, start, middle, like(keys[1], start))
    np.testing.assert_allclose(found, finite, rtol=1e-6)
    np.testing.assert_allclose(towards, -0.4, rtol=1e-9)  # the way back shortens the distance by its length
    assert float(jnp.abs(jax.grad(lambda P: manifold.distance(P, start))(start)).max()) == 0
    mean = minimise(spread, end, start, end, manifold=manifold).point
    assert float(manifold.distance(mean, middle)) < 1e-6


@EACH
def test_random_points_are_uniform(case):
    manifold, shape, dtype = CASES[case]
    if isinstance(manifold, Product | Power | Euclidean):
        pytest.skip("made of others, or no uniform distribution")
    points = jax.jit(jax.vmap(lambda key: manifold.random(key, *shape, dtype=dtype)))(
        jax.random.split(jax.random.key(4), 3000)
    )
    n = shape[0]
    size = 6 / (3000 * n) ** 0.5  # six standard errors
    assert float(jnp.abs(points.mean(0)).max()) < 1.2 * size
    assert float(jnp.abs((jnp.abs(points) ** 2).mean(0) - 1 / n).max()) < 2 * size
    # A row is as likely in any direction: products of entries of two rows vanish in the mean.
    assert float(jnp.abs((points[:, 0] * points[:, 1].conj()).mean(0)).max()) < 2 * size
    assert float(jax.vmap(manifold.defect)(points).max()) < 1e-12


@pytest.mark.thorough
def test_long_geodesics_and_random_points_of_so_and_su():
    for manifold, shape in ((Stiefel(), (6, 2)), (SpecialUnitary(), (3, 3)), (SpecialOrthogonal(), (4, 4))):
        P = manifold.random(jax.random.key(5), *shape)
        V = manifold.project(P, like(jax.random.key(6), P))
        V = V / jnp.sqrt(manifold.inner(P, V, V))
        travelled = jax.jit(lambda P, V, manifold=manifold: manifold.exponential(P, V))
        # 20 radians at once, and in twenty equal parts of a closed form: the geodesic is one curve.
        half = travelled(P, 10 * V)
        assert float(manifold.defect(half)) < 1e-11
        whole = travelled(P, 20 * V)
        if shape[0] == shape[1]:  # P exp(20 W) = P exp(10 W) exp(10 W)
            np.testing.assert_allclose(whole, half @ (P.conj().T @ half), atol=1e-11)
        else:  # the geodesic of the canonical metric is one column block of exp(20 W)
            assert float(manifold.defect(whole)) < 1e-11
            W = V @ P.T - P @ V.T + P @ V.T @ P @ P.T  # the rotation of all space whose block it is
            np.testing.assert_allclose(whole, jax.scipy.linalg.expm(20 * W) @ P, atol=1e-10)
    assert abs(complex(np.linalg.det(SpecialUnitary().random(jax.random.key(1), 4, 4))) - 1) < 1e-12
    assert float(np.linalg.det(SpecialOrthogonal().random(jax.random.key(1), 4, 4))) > 0.99


def test_sums_of_logarithms_on_su_have_no_trace():
    Q = jnp.diag(jnp.exp(1j * jnp.asarray([2.5, 2.5, -5.0])))
    found = SpecialUnitary().logarithm(jnp.eye(3), Q)
    np.testing.assert_allclose(jnp.trace(found), 0, atol=1e-12)
    np.testing.assert_allclose(SpecialUnitary().exponential(jnp.eye(3), found), Q, atol=1e-12)


def test_coordinates_are_tame_where_columns_are_turned_back():
    # 1 + K is singular at -1: the order of the axes changes there, and coordinates stay orthonormal.
    point = -jnp.eye(5, 2)
    manifold = Stiefel()
    place = manifold.place(point)
    assert float(jnp.abs(place.inverse).max()) < 1
    w = manifold.clean(point, jax.random.normal(jax.random.key(0), (5, 2)))
    np.testing.assert_allclose(manifold.coordinates(point, place, manifold.vector(point, place, w)), w, atol=1e-14)


BAD = {
    "wide": (Stiefel(), np.eye(2, 5), ValueError, r"more columns than rows.*point\.T"),
    "not orthonormal": (
        Stiefel(),
        2 * np.eye(5, 2),
        ValueError,
        r"\|\|X\^T X - 1\|\| = .*columns must be orthonormal.*qr",
    ),
    "not square": (
        Orthogonal(),
        np.eye(200, 5),
        ValueError,
        r"a point of O\(n\) is square; for \(200, 5\) use manifold=manifolds\.Stiefel\(\)",
    ),
    "complex for real": (
        Orthogonal(),
        np.eye(3) * 1j,
        TypeError,
        r"a point of O\(n\) is real\. Use manifolds\.Unitary\(\)",
    ),
    "not unitary": (Unitary(), 2 * np.eye(3), ValueError, r"must be unitary.*unitary\.polar"),
    "a phase": (SpecialUnitary(), 1j * np.eye(3), ValueError, r"determinant 1.*unitary\.special"),
    "NaN": (Stiefel(), np.full((4, 2), np.nan), ValueError, "columns must be orthonormal"),
    "NaN in one leaf": (
        Product({"a": Stiefel(), "b": Stiefel()}),
        {"a": np.eye(4, 2), "b": np.full((4, 2), np.nan)},
        ValueError,
        r"start\['b'\]: got .*orthonormal",
    ),
    "structure": (
        Product({"a": Stiefel(), "b": Euclidean()}),
        {"a": np.eye(4, 2)},
        TypeError,
        r"does not match Product.*same structure",
    ),
    "precisions": (
        Product((Orthogonal(), Euclidean())),
        (np.eye(2), np.zeros(2, np.float32)),
        TypeError,
        r"several precisions \(start\[0\] float64, start\[1\] float32\)",
    ),
    "integers": (Euclidean(), np.arange(3), TypeError, r"convert to a floating type"),
    "many": (Stiefel(), np.zeros((3, 4, 2)), ValueError, r"jax\.vmap for many problems, or manifolds\.Power"),
    "text": (Stiefel(), "O", TypeError, "expected an array of numbers"),
}


@pytest.mark.every_case
@pytest.mark.parametrize("case", BAD)
def test_bad_points_are_refused_by_name(case):
    manifold, point, error, message = BAD[case]
    with pytest.raises(error, match=message):
        manifold.check(point, "start")


def test_bad_manifolds_and_vectors_are_refused():
    with pytest.raises(ValueError, match="metric: got 'flat'"):
        Stiefel("flat")
    with pytest.raises(TypeError, match="expected a manifold"):
        Product({"a": "O"})
    with pytest.raises(ValueError, match="empty"):
        Product(())
    with pytest.raises(TypeError, match="expected a manifold"):
        Power("O")
    with pytest.raises(ValueError, match="must have the shape of the point"):
        Stiefel().project(jnp.eye(4, 2), jnp.eye(2, 4))
    with pytest.raises(TypeError, match="complex numbers"):
        Stiefel().project(jnp.eye(4, 2), 1j * jnp.eye(4, 2))
    with pytest.raises(ValueError, match="n >= p"):
        Stiefel().random(jax.random.key(0), 2, 3)
    with pytest.raises(ValueError, match="32 determinant classes"):
        Product((Orthogonal(),) * 5).in_each_class((jnp.eye(2),) * 5)


def test_what_is_not_a_number_stays_so_and_derivatives_at_zero_are_finite():
    X = jnp.eye(4, 2)
    assert not bool(jnp.isfinite(Stiefel().exponential(X, jnp.full((4, 2), jnp.nan))).any())
    apart = SpecialOrthogonal().logarithm(jnp.eye(2), jnp.diag(jnp.asarray([1.0, -1.0])))
    assert bool(jnp.isnan(SpecialOrthogonal().exponential(jnp.eye(2), apart)).all())
    bound = jax.grad(lambda v: Euclidean().farthest(jnp.zeros(2), v))(jnp.zeros(2))
    assert bool(jnp.isfinite(bound).all())


@pytest.mark.thorough
def test_products_flatten_and_know_what_their_parts_know():
    inner_one = Product((Stiefel(), Euclidean()))
    nested = Product({"a": inner_one, "b": Unitary()})
    assert nested == Product({"a": (Stiefel(), Euclidean()), "b": Unitary()})
    point = nested.random(jax.random.key(0), (4, 2), (3,), (2, 2))
    other = nested.random(jax.random.key(1), (4, 2), (3,), (2, 2))
    end = nested.exponential(point, nested.logarithm(point, other))
    assert float(apart(end, other)) < 1e-10
    assert Product((Orthogonal(),) * 64).classes((jnp.eye(2),) * 64) == 2**64


@pytest.mark.every_case
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Euclidean().logarithm(jnp.zeros(2), jnp.zeros((3, 1))), r"to: got shape \(3, 1\).*\(2,\)"),
        (lambda: Orthogonal().logarithm(jnp.eye(2), jnp.eye(3)), r"to: got shape \(3, 3\).*\(2, 2\)"),
        (lambda: Orthogonal().distance(jnp.eye(2), jnp.eye(3)), r"to: got shape \(3, 3\)"),
        (lambda: Grassmann().distance(jnp.eye(4, 2), jnp.eye(4, 3)), r"to: got shape \(4, 3\)"),
        (lambda: Stiefel().transport(jnp.eye(5, 2), jnp.eye(6, 2), jnp.ones((5, 2))), r"to: got shape \(6, 2\)"),
        (lambda: Power(Stiefel()).check(jnp.eye(5, 2)), r"got shape \(5, 2\).*\(k, n, p\).*Stiefel\(\)"),
    ],
)
def test_shapes_that_do_not_belong_together_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_numbers_of_python_take_the_precision_of_the_arrays_beside_them():
    both = Product({"turn": Orthogonal(), "shift": Euclidean()})
    checked = both.check({"turn": jnp.eye(2, dtype=jnp.float32), "shift": 0.0})
    assert checked["shift"].dtype == jnp.float32
    with pytest.raises(TypeError, match="several precisions"):
        both.check({"turn": jnp.eye(2, dtype=jnp.float32), "shift": jnp.zeros((), jnp.float64)})
