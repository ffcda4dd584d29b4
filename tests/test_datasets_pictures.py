"""Pictures: digits against an interpolation by hand, figures against their moments, textures against their shifts, and
files in the formats of MNIST and CIFAR, whole, damaged and hostile."""

import gzip
import os
import pickle
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.datasets import load_digits

from jaxdescramble._base import extras
from jaxdescramble.datasets import picture_files
from jaxdescramble.datasets.picture_files import cifar10, cifar100, mnist
from jaxdescramble.datasets.pictures import FIGURES, Pictures, digits, shapes, shifted, split

TEMPLATES = jax.random.key(7)


def ridge_accuracy(train, test, penalty=10.0):
    """How many of unseen pictures the best affine map to one-hot labels names."""
    X, T = (np.asarray(p.images, np.float64).reshape(len(p.labels), -1) for p in (train, test))
    Y, mean = np.eye(10)[np.asarray(train.labels)] - 0.1, X.mean(axis=0)
    W = np.linalg.solve((X - mean).T @ (X - mean) + penalty * np.eye(X.shape[1]), (X - mean).T @ Y)
    return np.mean(((T - mean) @ W + Y.mean(axis=0)).argmax(axis=1) == np.asarray(test.labels))


# Digits


def keys_cubic(x):
    """The interpolating kernel, a = -1/2, as in Keys 1981."""
    x = np.abs(x)
    return np.where(x < 1, 1.5 * x**3 - 2.5 * x**2 + 1, np.where(x < 2, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2, 0))


def test_digits_as_scanned():
    found, scanned = digits(8), load_digits()
    np.testing.assert_array_equal(found.images[..., 0] * 16, scanned.images)
    np.testing.assert_array_equal(found.labels, scanned.target)
    assert np.bincount(found.labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_digits_are_enlarged_by_cubic_interpolation():
    found, scanned = digits(28).images[..., 0], load_digits().images / 16
    places = (np.arange(28) + 0.5) * 8 / 28 - 0.5
    weights = keys_cubic(places[:, None] - np.arange(8)[None, :])
    weights /= weights.sum(axis=1, keepdims=True)
    expected = np.einsum("ia,nab,jb->nij", weights, scanned, weights).clip(0, 1)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    # The figures of the comment: how far the average is from what was scanned, and what is lit far from every stroke.
    large = np.asarray(digits(32).images[..., 0])
    back = large.reshape(-1, 8, 4, 8, 4).mean(axis=(2, 4))
    assert np.sqrt(np.mean((back - scanned) ** 2)) == pytest.approx(0.0630, abs=5e-4)
    padded = np.pad(scanned, ((0, 0), (2, 2), (2, 2)))
    near = np.lib.stride_tricks.sliding_window_view(padded, (5, 5), axis=(1, 2)).max(axis=(3, 4))
    far = np.repeat(np.repeat(near == 0, 4, axis=1), 4, axis=2)
    assert far.sum() > 10_000
    assert large[far].max() == 0


def test_digits_without_scikit_learn(monkeypatch):
    def without(name):
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(extras.importlib, "import_module", without)
    with pytest.raises(ImportError, match=r"the digits need scikit-learn: pip install 'jaxdescramble\[demo\]'"):
        digits()


def test_another_extra_is_named():
    with pytest.raises(ImportError, match=r"pip install 'jaxdescramble\[moon\]'"):
        extras.extra("no_such_module", "this needs it", group="moon")


# Figures

# Of each figure in the unit circle, its area and its mean squared distance from its centre.
L, B, H = 0.16, 0.25, np.sqrt(1 - 0.25**2)  # half a line, half a bar's breadth and length
OUTER, INNER = np.sqrt(2), np.sqrt(2) - 4 * L
PLUS = 8 * H * B - 4 * B**2
UNIT = {
    "disc": (np.pi, 1 / 2),
    "ring": (np.pi * (1 - (1 - 2 * L) ** 2), (1 + (1 - 2 * L) ** 2) / 2),
    "square": (2, 1 / 3),
    "frame": (OUTER**2 - INNER**2, (OUTER**2 + INNER**2) / 6),
    "triangle": (np.sqrt(27) / 4, 1 / 4),
    "cross": (PLUS, (2 * 4 * H * B * (H**2 + B**2) / 3 - 4 * B**2 * 2 * B**2 / 3) / PLUS),
    "plus": (PLUS, (2 * 4 * H * B * (H**2 + B**2) / 3 - 4 * B**2 * 2 * B**2 / 3) / PLUS),
    "horizontal bar": (4 * H * B, (H**2 + B**2) / 3),
    "vertical bar": (4 * H * B, (H**2 + B**2) / 3),
    "two dots": (2 * np.pi * 0.35**2, 0.65**2 + 0.35**2 / 2),
}


@pytest.fixture(scope="module")
def moments():
    """Of 600 large pictures: labels, area, centre (right, up), central moments, in units of half the picture."""
    images, labels = shapes(jax.random.key(3), 600, 128, dtype="float32")
    ink, place = np.asarray(images[..., 0], np.float64), (2 * np.arange(128) + 1) / 128 - 1
    area = ink.sum(axis=(1, 2)) * (2 / 128) ** 2
    share = ink / ink.sum(axis=(1, 2), keepdims=True)
    x, y = np.einsum("nij,j->n", share, place), np.einsum("nij,i->n", share, -place)
    right, up = place[None, None, :] - x[:, None, None], -place[None, :, None] - y[:, None, None]
    second = [np.sum(share * term, axis=(1, 2)) for term in (right**2, up**2, right * up)]
    higher = [np.sum(share * term, axis=(1, 2)) for term in (up**3, ((right + 1j * up) ** 4).real)]
    return np.asarray(labels), area, np.stack([x, y]), np.stack(second), np.stack(higher)


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_signed_distances_in_the_unit_circle(name):
    line = (np.arange(1000) + 0.5) / 500 - 1
    u, v = (jnp.asarray(a) for a in np.meshgrid(line, line + 2e-4))  # no point on a diagonal
    distance = np.asarray(FIGURES[name](u, v))
    assert np.mean(distance < 0) * 4 == pytest.approx(UNIT[name][0], rel=3e-3)
    assert np.hypot(u, v)[distance < 0].max() <= 1 + 1e-12
    # The slope of a distance is 1, but for points where the nearest side changes.
    slope = np.hypot(*(np.asarray(s) for s in jax.vmap(jax.grad(FIGURES[name], (0, 1)))(u.ravel(), v.ravel())))
    assert np.mean(np.abs(slope - 1) > 1e-9) < 1e-3


def test_pictures_show_the_figures_of_their_labels(moments):
    labels, area, _, (xx, yy, _), (third, fourfold) = moments
    for label, name in enumerate(FIGURES):
        here, (unit, spread) = labels == label, UNIT[name]
        # Independent of place, size and turn.
        np.testing.assert_allclose(((xx + yy) / area)[here], spread / unit, rtol=0.03)
    named = {name: labels == label for label, name in enumerate(FIGURES)}
    assert np.all((xx > 4 * yy)[named["horizontal bar"] | named["two dots"]])
    assert np.all((yy > 4 * xx)[named["vertical bar"]])
    assert np.all(third[named["triangle"]] > 0), "its point is up"
    assert np.all(fourfold[named["plus"]] > 0)
    assert np.all(fourfold[named["cross"]] < 0)


def test_figures_lie_anywhere_of_any_size_slightly_turned(moments):
    labels, area, centre, (xx, yy, xy), _ = moments
    radius = np.sqrt(area / np.asarray([area for area, _ in UNIT.values()])[labels])
    assert radius.min() == pytest.approx(0.35, abs=0.006)
    assert radius.max() == pytest.approx(0.6, abs=0.006)
    assert radius.mean() == pytest.approx(0.475, abs=4 * 0.25 / np.sqrt(12 * 600))
    away = centre / (1 - radius)
    assert np.abs(away).max() < 1.02
    # A uniform number in [-1, 1] has a standard deviation of 1/sqrt(3), itself known to 2 percent here.
    np.testing.assert_allclose(away.std(axis=1), 1 / np.sqrt(3), rtol=0.08)
    assert abs(np.corrcoef(away[0], away[1])[0, 1]) < 4 / np.sqrt(600)
    flat = (labels == 7) | (labels == 9)
    turn = np.degrees(np.arctan2(2 * xy, xx - yy) / 2)[flat]
    assert np.abs(turn).max() < 15.5
    assert turn.std() == pytest.approx(15 / np.sqrt(3), rel=0.2)


def test_a_pixel_is_what_the_figure_covers_of_it(key):
    small, large = (np.asarray(shapes(key, 60, size, dtype="float32").images[..., 0]) for size in (28, 280))
    covered = large.reshape(60, 28, 10, 28, 10).mean(axis=(2, 4))
    edge = (covered > 0) & (covered < 1)
    assert np.sqrt(np.mean((small - covered)[edge] ** 2)) < 0.1  # 0.3 if pixels were black or white
    assert abs(np.mean(small - covered)) < 5e-4
    assert np.all(small[covered == 1] > 0.9)
    assert np.all(small[covered == 0] < 0.1)
    assert np.mean(small == 0) > 0.6
    assert small.max() == 1


def test_noise_lies_on_the_same_figures(key):
    clean, noisy = shapes(key, 40), shapes(key, 40, noise=0.2)
    np.testing.assert_array_equal(clean.labels, noisy.labels)
    black, grey = noisy.images[clean.images == 0], np.asarray(noisy.images[jnp.abs(clean.images - 0.5) < 0.02])
    assert float(black.mean()) == pytest.approx(0.2 / np.sqrt(2 * np.pi), rel=0.02)  # its negative half is cut off
    assert grey.std() == pytest.approx(0.2, rel=0.25)
    assert float(noisy.images.min()) == 0
    assert float(noisy.images.max()) == 1


@pytest.mark.parametrize(
    "draw",
    [
        lambda key, noise: shapes(key, 23, 12, noise),
        lambda key, noise: shifted(key, 23, 12, noise=noise, templates=TEMPLATES),
    ],
    ids=["shapes", "shifted"],
)
def test_drawing_in_somebodys_jit_and_vmap(draw, key):
    expected = draw(key, 0.1)
    traced = jax.jit(jax.vmap(draw, (0, None)))(key[None], jnp.asarray(0.1))
    np.testing.assert_allclose(traced.images[0], expected.images, atol=1e-12)
    np.testing.assert_array_equal(traced.labels[0], expected.labels)
    assert sorted(np.bincount(expected.labels)) == [2] * 7 + [3] * 3
    assert np.mean(np.asarray(expected.labels) == np.arange(23) % 10) < 0.5, "in random order"


@pytest.mark.both_precisions
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtypes(dtype, key):
    for found in (
        digits(8, dtype),
        digits(10, dtype),
        shapes(key, 10, 8, 0.1, dtype),
        shifted(key, 10, 8, dtype=dtype, templates=TEMPLATES),
    ):
        assert found.images.dtype == jax.dtypes.canonicalize_dtype(dtype)
        assert found.labels.dtype == jax.dtypes.canonicalize_dtype(int)
        assert float(found.images.min()) >= 0
        assert float(found.images.max()) <= 1
        assert found.images.ndim == 4


def test_no_linear_classifier_tells_figures_apart(key):
    train, test = (shapes(k, n, 16, dtype="float32") for k, n in zip(jax.random.split(key), (2000, 1000), strict=True))
    assert ridge_accuracy(train, test) < 0.4


# Textures


@pytest.fixture(scope="module")
def turned():
    """Without noise: 4096 pictures of 3 textures, 8 x 8, minus their mean."""
    images, labels = shifted(jax.random.key(1), 4096, 8, 3, noise=0.0, templates=TEMPLATES)
    return np.asarray(images[..., 0]) - 0.5, np.asarray(labels)


def rolls(image):
    """All circular shifts of a picture, in rows."""
    return np.stack([np.roll(image, (a, b), (0, 1)).ravel() for a in range(8) for b in range(8)])


def test_pictures_of_a_class_are_circular_shifts_of_each_other_and_all_are_as_frequent(turned):
    images, labels = turned
    size = np.linalg.norm(images[0])
    for label in range(3):
        here = images[labels == label].reshape(-1, 64)
        away = np.linalg.norm(here[:, None] - rolls(here[0].reshape(8, 8))[None], axis=2)
        assert away.min(axis=1).max() < 1e-13 * size
        counts = np.bincount(away.argmin(axis=1), minlength=64)
        chi2 = np.sum((counts - len(here) / 64) ** 2) / (len(here) / 64)
        assert abs(chi2 - 63) < 4 * np.sqrt(2 * 63)
        other = images[labels == (label + 1) % 3][0].ravel()
        assert np.linalg.norm(other[None] - rolls(here[0].reshape(8, 8)), axis=1).min() > 0.3 * size


def test_textures_share_one_flat_band_limited_spectrum(turned):
    spectra = np.abs(np.fft.fft2(turned[0]))
    periods = np.fft.fftfreq(8, 1 / 8)
    passes = np.hypot(periods[:, None], periods[None, :]) <= 2
    passes[0, 0] = False
    np.testing.assert_allclose(spectra[:, passes], spectra[0, 0, 1], rtol=1e-12)
    assert spectra[:, ~passes].max() < 1e-13 * spectra[0, 0, 1]
    assert np.abs(turned[0]).max() == pytest.approx(0.5)  # of all classes the largest value reaches 0 or 1


def test_training_and_test_sets_share_templates():
    one, other = (shifted(jax.random.key(k), 3, 8, 3, 0.0, templates=TEMPLATES) for k in (1, 2))
    new = shifted(jax.random.key(1), 3, 8, 3, 0.0, templates=jax.random.key(8))
    for label in range(3):
        first, second, third = (np.asarray(p.images[p.labels == label][0, ..., 0]) for p in (one, other, new))
        assert np.abs(rolls(first) - second.ravel()[None]).max(axis=1).min() < 1e-13
        assert np.abs(rolls(first) - third.ravel()[None]).max(axis=1).min() > 0.1


@pytest.mark.parametrize("noise", [0.1, 3.0])
def test_noise_is_as_loud_as_asked_for_and_nothing_is_cut(noise, key):
    images, labels = shifted(key, 3000, noise=noise, shift="none", templates=TEMPLATES)
    images = np.asarray(images[..., 0])
    mean = np.stack([images[labels == label].mean(axis=0) for label in range(10)])
    clean = shifted(key, 3000, noise=0.0, shift="none", templates=TEMPLATES)
    template = np.stack([np.asarray(clean.images[clean.labels == label][0, ..., 0]) for label in range(10)]) - 0.5
    # The same templates, smaller by what the noise takes of the range.
    scale = np.sum(template * (mean - 0.5)) / np.sum(template**2)
    per_unit = scale * template.std()
    assert 0.5 / per_unit == pytest.approx(0.5 / template.std() + np.sqrt(3) * noise, rel=0.02)
    rest = images - 0.5 - scale * template[labels]
    assert rest.std() / per_unit == pytest.approx(noise, rel=0.01)
    assert np.mean(rest**4) / np.mean(rest**2) ** 2 == pytest.approx(9 / 5, rel=0.01)  # uniform
    assert images.min() > 0
    assert images.max() < 1


@pytest.mark.parametrize(("shift", "accuracy"), [("circular", 0.1), ("none", 1.0)])
def test_linear_classifiers_are_at_chance_where_textures_move(shift, accuracy, key):
    make = lambda key: shifted(key, 2000, shift=shift, templates=TEMPLATES)  # noqa: E731
    train, test = map(make, jax.random.split(key))
    assert ridge_accuracy(train, test) == pytest.approx(accuracy, abs=4 * np.sqrt(0.09 / 2000))


@pytest.mark.slow
@pytest.mark.parametrize("circular", [False, True], ids=["shapes", "shifted"])
def test_a_small_convolutional_network_learns_what_linear_classifiers_do_not(circular, key):
    make = (lambda key, n: shifted(key, n, templates=TEMPLATES, dtype="float32")) if circular else (
        lambda key, n: shapes(key, n, dtype="float32"))  # fmt: skip
    keys = jax.random.split(key, 6)
    train, test = make(keys[0], 5000), make(keys[1], 2000)
    sizes = [(5, 1, 16), (5 if circular else 3, 16, 16 if circular else 32), (3, 16 if circular else 32, 32)]
    params = {
        "kernels": [
            jax.random.normal(k, (w, w, into, out), "float32") * (2 / (w * w * into)) ** 0.5
            for k, (w, into, out) in zip(keys[2:5], sizes, strict=True)
        ],
        "last": jax.random.normal(keys[5], (32, 10), "float32") / 32**0.5,
    }

    def network(params, x):
        for k, kernel in enumerate(params["kernels"]):
            w = len(kernel) // 2
            x = jnp.pad(x, ((0, 0), (w, w), (w, w), (0, 0)), mode="wrap" if circular else "constant")
            x = jax.lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
            x = jax.nn.relu(x)
            if k < 2 and not circular:
                x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        return x.mean(axis=(1, 2)) @ params["last"]

    centre, optimiser = 0.5 * circular, optax.adam(optax.cosine_decay_schedule(3e-3, 700))

    @jax.jit
    def step(carry, key, images, labels):
        params, state = carry
        some = jax.random.randint(key, (64,), 0, len(labels))

        def loss(params):
            logits = network(params, images[some] - centre)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels[some]).mean()

        updates, state = optimiser.update(jax.grad(loss)(params), state)
        return optax.apply_updates(params, updates), state

    carry = (params, optimiser.init(params))
    for k in range(700):
        carry = step(carry, jax.random.fold_in(key, k), *train)
    assert float((network(carry[0], test.images - centre).argmax(axis=1) == test.labels).mean()) > 0.98


# Parts


def numbered(*sizes):
    """Pictures that say which they are."""
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    return Pictures(jnp.arange(len(labels), dtype=float)[:, None, None, None], jnp.asarray(labels))


@pytest.mark.parametrize(
    ("sizes", "fractions"),
    [
        ((50, 50, 50), (0.6, 0.2, 0.2)),
        ((4,) * 10, (0.1, 0.1)),  # a share of less than half a picture of each class
        ((97, 13, 41, 5), (0.7, 0.15)),
        ((30, 30), (0.1,) * 10),
        ((30, 30), (0.2, 0.4, 0.3, 0.1)),  # whose sum exceeds 1 by rounding
        ((7,), (1.0,)),
    ],
)
def test_parts_are_disjoint_and_every_class_has_its_share(sizes, fractions, key):
    whole = numbered(*sizes)
    parts = split(whole, *fractions, key=key)
    shown = [np.asarray(part.images).ravel().astype(int) for part in parts]
    together = np.concatenate(shown)
    assert len(set(together)) == len(together)
    if sum(fractions) > 1 - 1e-9:
        assert len(together) == len(whole.labels)
    for part, number, fraction in zip(parts, shown, fractions, strict=True):
        np.testing.assert_array_equal(part.labels, np.asarray(whole.labels)[number])
        counts = np.bincount(part.labels, minlength=len(sizes))
        assert np.all(np.abs(counts - fraction * np.asarray(sizes)) < 1)
        if len(set(sizes)) == 1:
            assert abs(len(number) - fraction * sum(sizes)) < 1


def test_parts_are_random(key):
    whole, keys = numbered(50, 50), jax.random.split(key, 200)
    chosen = np.stack(
        [np.bincount(np.asarray(split(whole, 0.3, key=k)[0].images, int).ravel(), minlength=100) for k in keys]
    )
    # Each picture in 30% of the parts, give or take; pairs of one class nearly independent.
    assert np.abs(chosen.mean(axis=0) - 0.3).max() < 4.5 * np.sqrt(0.21 / 200)
    (part,) = split(whole, 0.5, key=key)
    assert np.mean(np.diff(part.images.ravel()) < 0) > 0.25, "in random order"


@pytest.mark.parametrize(
    ("fractions", "message"),
    [
        ((0.7, 0.4), "a sum of at most 1"),
        ((), "must be positive numbers"),
        ((0.5, 0.0), "must be positive numbers"),
        ((1.2, -0.2), "must be positive numbers"),
        ((float("nan"),), "must be positive numbers"),
        ((0.9, 0.001), "0.001 of 100 pictures is less than one"),
    ],
)
def test_fractions_that_cannot_be(fractions, message, key):
    with pytest.raises(ValueError, match=message):
        split(numbered(50, 50), *fractions, key=key)


def test_images_and_labels_that_do_not_fit(key):
    with pytest.raises(ValueError, match="3 images and 2 labels"):
        split(Pictures(jnp.zeros((3, 1, 1, 1)), jnp.zeros(2, int)), 1.0, key=key)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda key: digits(0), ValueError, "size: expected a positive integer, got 0"),
        (lambda key: digits(dtype=int), TypeError, "dtype: got int64"),
        (lambda key: digits(dtype=jnp.bfloat16), TypeError, "dtype: got bfloat16"),
        (lambda key: shapes(key, 0), ValueError, "count: expected a positive integer"),
        (lambda key: shapes(key, 10, noise=-0.1), ValueError, "noise: got -0.1"),
        (lambda key: shapes(key, 10, noise=None), ValueError, "noise: got None"),
        (lambda key: shapes(key, 10, noise=jnp.zeros(2)), ValueError, "noise: got Array"),
        (lambda key: shifted(key, 10, 7, templates=key), ValueError, "size: got 7; must be at least 8"),
        (lambda key: shifted(key, 10, classes=0, templates=key), ValueError, "classes: expected a positive integer"),
        (lambda key: shifted(key, 10, shift="zero", templates=key), ValueError, "choose one of 'circular', 'none'"),
        (lambda key: shifted(key, 10, noise=float("inf"), templates=key), ValueError, "noise: got inf"),
    ],
)
def test_arguments_that_cannot_be(call, error, message, key, as_installed):
    with pytest.raises(error, match=message):
        call(key)


# Files: MNIST


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def idx_folder(tmp_path, rng):
    """Five pictures of 4 x 3 pixels under the names of the original."""
    images, labels = rng.integers(0, 256, (5, 4, 3), np.uint8), np.asarray([3, 1, 4, 1, 9], np.uint8)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(images))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(labels))
    return tmp_path


@pytest.mark.parametrize("form", ["-idx{}-ubyte", ".idx{}-ubyte", "-idx{}-ubyte.gz", ".idx{}-ubyte.gz"])
@pytest.mark.parametrize(("part", "prefix"), [("train", "train"), ("test", "t10k")])
def test_mnist_reads_every_way_its_files_are_named(part, prefix, form, tmp_path, rng):
    images = np.arange(256, dtype=np.uint8).reshape(4, 16, 4)
    labels = np.asarray([7, 0, 9, 200], np.uint8)
    pack = gzip.compress if form.endswith("gz") else bytes
    (tmp_path / f"{prefix}-images{form.format(3)}").write_bytes(pack(idx(images)))
    (tmp_path / f"{prefix}-labels{form.format(1)}").write_bytes(pack(idx(labels)))
    found = mnist(str(tmp_path), part)
    assert found.images.dtype == jnp.float32
    assert found.labels.dtype == jax.dtypes.canonicalize_dtype(int)
    np.testing.assert_array_equal(found.images[..., 0], images / np.float32(255))  # to the last bit
    np.testing.assert_array_equal(found.labels, labels)


def test_mnist_unpacked_under_the_packed_name(idx_folder):
    path = idx_folder / "train-images-idx3-ubyte"
    expected = mnist(idx_folder).images
    path.rename(path.with_name(path.name + ".gz"))
    np.testing.assert_array_equal(mnist(idx_folder).images, expected)


def damage(name, change):
    def do(folder):
        path = folder / name
        path.write_bytes(change(path.read_bytes()))

    return do


def pack(name, change):
    def do(folder):
        content = gzip.compress((folder / name).read_bytes())
        (folder / name).unlink()
        (folder / f"{name}.gz").write_bytes(change(content))

    return do


IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (damage(IMAGES, lambda b: b[:-1]), rf"{IMAGES} is truncated.*has 75 bytes, but .* 5 x 4 x 3, which needs 76"),
        (damage(IMAGES, lambda b: b + b"?"), "has 77 bytes, but .* needs 76"),
        (damage(IMAGES, lambda b: b[:10]), "has 10 bytes"),
        (damage(IMAGES, lambda b: b[:4] + b"\xff" * 12 + b[16:]), "4294967295 x 4294967295 x 4294967295"),
        (damage(IMAGES, lambda b: b""), rf"{IMAGES} begins with nothing.*00 00 08 03"),
        (damage(IMAGES, lambda b: b"\0\0\x0d" + b[3:]), "begins with 00 00 0d 03"),
        (damage(LABELS, lambda b: b"\0\0\x08\x03" + b[4:]), rf"{LABELS} begins with 00 00 08 03.*1 axes.*00 00 08 01"),
        (damage(LABELS, lambda b: idx(np.zeros(6, np.uint8))), "has 5 images, .* 6 labels"),
        (pack(IMAGES, lambda b: b[:-20]), rf"{IMAGES}.gz is truncated"),
        (pack(IMAGES, lambda b: b[:12] + b"\xff\xff\xff" + b[15:]), rf"{IMAGES}.gz is truncated or damaged"),
        (pack(IMAGES, lambda b: b[:-5] + bytes([b[-5] ^ 1]) + b[-4:]), "CRC check failed"),
        (lambda folder: (folder / LABELS).unlink(), f"no file {LABELS} or {LABELS}.gz or train-labels.idx1-ubyte"),
    ],
)
def test_mnist_damaged(harm, message, idx_folder):
    harm(idx_folder)
    with pytest.raises(ValueError, match=message):
        mnist(idx_folder)


@pytest.mark.parametrize("read", [mnist, cifar10, cifar100])
def test_folders_and_parts_that_are_not_there(read, tmp_path):
    with pytest.raises(ValueError, match=r"there is no folder .*nowhere"):
        read(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"there is no file .* in .*"):
        read(tmp_path)
    with pytest.raises(ValueError, match="part: got 'validation'; choose one of 'train', 'test'"):
        read(tmp_path, "validation")


# Files: CIFAR


def from_python_2(data, labels, key):
    """A batch byte by byte as Python 2 and the NumPy of 2009 wrote it: text is bytes, and 0 and 1 stand for truth."""
    text = lambda s: b"U" + bytes([len(s)]) + s  # noqa: E731
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x05cnumpy\nndarray\nq\x06K\x00\x85q\x07U\x01bq\x08\x87Rq\x09(K\x01"
        + b"K" + bytes([len(data)]) + b"M\x00\x0c\x86q\x0acnumpy\ndtype\nq\x0bU\x02u1q\x0cK\x00K\x01\x87Rq\x0d"
        + b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T" + data.nbytes.to_bytes(4, "little")
        + data.tobytes() + b"tb"
    )  # fmt: skip
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    name = text(b"batch_label") + text(b"testing batch 1 of 1")
    return b"\x80\x02}q\x01(" + name + text(key) + numbers + text(b"data") + array + b"u."


def colours(rng, n):
    return rng.integers(0, 256, (n, 3072), np.uint8)


def expected_images(data):
    """NHWC, pixel by pixel: 1024 bytes of red, then green, then blue, each row after row."""
    images = np.empty((len(data), 32, 32, 3), np.float32)
    for channel in range(3):
        for row in range(32):
            images[:, row, :, channel] = data[:, 1024 * channel + 32 * row :][:, :32] / np.float32(255)
    return images


@pytest.mark.parametrize("below", ["", "cifar-10-batches-py"])
def test_cifar10_as_it_was_written(below, tmp_path, rng):
    data, folder = colours(rng, 3), tmp_path / below
    folder.mkdir(exist_ok=True)
    content = from_python_2(data, [3, 9, 0], b"labels")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy's own reader dislikes the 0 and 1
        np.testing.assert_array_equal(pickle.loads(content, encoding="bytes")[b"data"], data)
    (folder / "test_batch").write_bytes(content)
    found = cifar10(tmp_path, "test")
    assert found.images.dtype == jnp.float32
    np.testing.assert_array_equal(found.images, expected_images(data))
    np.testing.assert_array_equal(found.labels, [3, 9, 0])


def test_cifar10_puts_its_five_files_together(tmp_path, rng):
    data = [colours(rng, n) for n in (2, 1, 3, 1, 2)]
    for number, some in enumerate(data, 1):
        batch = {b"data": np.asfortranarray(some), b"labels": [number] * len(some), b"filenames": [b"x.png"]}
        (tmp_path / f"data_batch_{number}").write_bytes(pickle.dumps(batch, 4))
    found = cifar10(tmp_path)
    np.testing.assert_array_equal(found.images, expected_images(np.concatenate(data)))
    np.testing.assert_array_equal(found.labels, np.repeat([1, 2, 3, 4, 5], [2, 1, 3, 1, 2]))
    (tmp_path / "data_batch_4").unlink()
    with pytest.raises(ValueError, match=r"no file data_batch_4 in .* or .*cifar-10-batches-py"):
        cifar10(tmp_path)


@pytest.mark.parametrize("part", ["train", "test"])
def test_cifar100_has_fine_labels(part, tmp_path, rng):
    data = colours(rng, 2)
    (tmp_path / "cifar-100-python").mkdir()
    batch = {b"data": data, b"fine_labels": [99, 5], b"coarse_labels": [1, 1]}
    (tmp_path / "cifar-100-python" / part).write_bytes(pickle.dumps(batch, 3))
    found = cifar100(tmp_path, part)
    np.testing.assert_array_equal(found.labels, [99, 5])
    np.testing.assert_array_equal(found.images, expected_images(data))


class Harm:
    """What unpickling turns into a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("wrap", [lambda harm: harm, lambda harm: {b"data": [harm], b"labels": [0]}])
@pytest.mark.parametrize("function", [os.system, os.mkdir, eval, open, np.fromfile, getattr, pickle.loads])
def test_a_hostile_pickle_calls_nothing(function, wrap, tmp_path):
    mark = tmp_path / "was here"
    says = {os.system: f"touch '{mark}'", eval: f"open({str(mark)!r}, 'w')", pickle.loads: pickle.dumps(0, 0)}
    arguments = (says.get(function, str(mark)), *(["w"] if function in (open, getattr) else []))
    content = pickle.dumps(wrap(Harm(function, *arguments)), 4)
    (tmp_path / "test_batch").write_bytes(content)
    with pytest.raises(
        ValueError, match=rf"test_batch, of \d+ bytes.*it asks for \S+\.{function.__name__}, which no original file"
    ):
        cifar10(tmp_path, "test")
    assert not mark.exists()


TEXT = b"X\x06\x00\x00\x00values"


@pytest.mark.parametrize(
    "content",
    [
        b"cnumpy.core.multiarray\n_reconstruct\n(d" + TEXT + b"I1\nsb.",
        b"cnumpy.core.multiarray\n_reconstruct\n(N(d" + TEXT + b"I1\nstb.",
        b"cnumpy\ndtype\n(N(d" + TEXT + b"I1\nstb.",
        b"cnumpy\nndarray\n(N(d" + TEXT + b"I1\nstb.",
        b"\x80\x04\x8c\x05numpy\x8c\x16ndarray.__array_ufunc__\x93.",
        b"\x80\x02\x82\x01.",  # an extension code
        b"P1\n.",  # a persistent name
    ],
)
def test_a_hostile_pickle_changes_nothing(content, tmp_path, rng):
    before = {name: dict(vars(stand_in)) for name, stand_in in picture_files.ADMITTED.items() if name[1] != "ndarray"}
    (tmp_path / "test_batch").write_bytes(content)
    with pytest.raises(ValueError, match=r"test_batch, of .* cannot be read"):
        cifar10(tmp_path, "test")
    assert before == {name: dict(vars(picture_files.ADMITTED[name])) for name in before}


GOOD = {b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 1]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"test_batch, of 0 bytes, cannot be read \(Ran out of input\)"),
        (pickle.dumps(GOOD, 4)[:-1000], r"of \d+ bytes, cannot be read"),
        (pickle.dumps(GOOD, 4)[:3], "cannot be read"),
        (b"not a pickle", "cannot be read"),
        (gzip.compress(pickle.dumps(GOOD, 4)), "cannot be read"),
        (pickle.dumps([1, 2], 4), "holds list; must be a dictionary with b'data' and b'labels'"),
        (pickle.dumps({"data": 0, b"labels": []}, 4), r"holds \['data', b'labels'\]; must be a dictionary"),
        (pickle.dumps(GOOD | {b"data": [0]}, 4), "has b'data' of list"),
        (
            pickle.dumps(GOOD | {b"data": np.zeros((2, 3073), np.uint8)}, 4),
            r"of shape \(2, 3073\); .*\(samples, 3072\)",
        ),
        (pickle.dumps(GOOD | {b"data": np.zeros((2, 3072))}, 4), "numbers of type 'f8'"),
        (pickle.dumps(GOOD | {b"data": np.asarray([None])}, 4), "numbers of type 'O8'"),
        (pickle.dumps(GOOD | {b"labels": [0, 10]}, 4), "labels b'labels'; must be a list of integers from 0 to 9"),
        (pickle.dumps(GOOD | {b"labels": [0, None]}, 4), "must be a list of integers"),
        (pickle.dumps(GOOD | {b"labels": [0]}, 4), "has 2 images but 1 labels"),
        (pickle.dumps(GOOD, 4).replace(b"M\x00\x0c", b"M\x01\x0c"), "cannot reshape"),
        (b"cnumpy.core.multiarray\n_reconstruct\n)R.", "holds _Array"),
        (b"(dS'data'\ncnumpy.core.multiarray\n_reconstruct\n)RsS'labels'\n(ls.", "b'data' of _Array"),
    ],
)
def test_cifar_damaged(content, message, tmp_path):
    (tmp_path / "test_batch").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        cifar10(tmp_path, "test")
