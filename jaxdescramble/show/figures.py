"""Figures of a network's layers: counterparts of figures 2 to 5 of the paper, and one figure for your own network."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxdescramble._base.products import adjoint
from jaxdescramble.descrambling import LayerDescrambling
from jaxdescramble.findings import band_edge, fourier_energy, fourier_map, ridge
from jaxdescramble.show.style import (
    AMBER,
    BLUE,
    DOUBLE,
    GREEN,
    GREY,
    INK,
    PALE,
    SKY,
    VERMILION,
    image,
    note,
    panel,
    sheet,
    styled,
)
from jaxdescramble.studies.deernet.demonstration import Demonstration

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INPUT_FREQUENCY, LINK_FREQUENCY = "Input frequency (cycles per record)", "Link frequency (cycles)"
TIME, DISTANCE, LINK = "Time (μs)", "Distance (Å)", "Link index"
# Compile each as one small program. Compiled in parts, they would take longer than the drawing.
_band_edge, _fourier_energy, _fourier_map, _ridge = (
    jax.jit(function) for function in (band_edge, fourier_energy, fourier_map, ridge)
)


@styled
def first_layer_figure(demonstration: Demonstration) -> "Figure":
    """Draw figure 2: the first layer, raw and descrambled, in time and in frequency; its band and its notch.

    Args:
        demonstration: result of `jaxdescramble.studies.deernet.demonstration.demonstrate`.

    Returns:
        A matplotlib Figure, 180 mm wide.

    Raises:
        ImportError: if matplotlib is not installed.

    Source: Amey et al. 2021, fig. 2.
    """
    raw, found = _first(demonstration.net.params), demonstration.first
    start = _first(demonstration.net.initial_params)
    t_max, points = demonstration.settings.plan.grid.t_max, raw.shape[1]
    figure = sheet(DOUBLE, 112)
    top, bottom = figure.add_gridspec(2, 1, height_ratios=(1, 1.25))
    top, bottom = top.subgridspec(1, 2), bottom.subgridspec(1, 3, width_ratios=(1, 1, 0.9))
    a, b = (figure.add_subplot(cell) for cell in top)
    for ax, letter, title, weight in (
        (a, "a", "Raw $W_1$", raw),
        (b, "b", "Descrambled $P\\,W_1$", found),
    ):
        image(ax, weight, (0, t_max, 0, len(weight) - 1), label="Weight")
        panel(ax, letter, title, TIME, LINK)

    c, d = (figure.add_subplot(bottom[i]) for i in range(2))
    for ax, letter, title, weight in (
        (c, "c", "$|F_+W_1F_-|$, raw", raw),
        (d, "d", "$|F_+P\\,W_1F_-|$, descrambled", found),
    ):
        spectrum = _fourier_map(weight)
        link, given = (np.asarray(axis) for axis in spectrum[:2])
        # The end frequency of an even axis stands for both signs, so the picture shows it on both sides.
        magnitude = np.pad(np.asarray(spectrum.magnitude), ((0, 1 - len(link) % 2), (0, 1 - len(given) % 2)), "wrap")
        image(ax, magnitude, (given[0], -given[0], link[0], -link[0]), label="Amplitude", decades=3)
        panel(ax, letter, title, INPUT_FREQUENCY, LINK_FREQUENCY)
    _draw_laws(d, found)

    e, f = (figure.add_subplot(cell) for cell in bottom[2].subgridspec(2, 1))
    for weight, colour, name in ((start, GREY, "before training"), (raw, BLUE, "trained")):
        density = _input_spectrum(weight)
        e.plot(density / density.sum(), color=colour, label=name)
        edge = float(_band_edge(weight))
        e.axvline(edge, color=colour, lw=0.6, ls=(0, (3, 2)))
    e.set(xlim=(0, points / 2), yscale="log", xticks=range(0, points // 2 + 1, max(1, points // 8)))
    e.legend(loc="upper right", bbox_to_anchor=(0.93, 1.04), frameon=True, edgecolor="none", framealpha=0.85)
    panel(e, "e", "Band (dashed: 95%)", "|Input frequency|", "Energy share")

    reach = min(12, points // 4)
    for skip, colour in ((0, AMBER), (1, BLUE)):
        density = _input_spectrum(found, skip)[: reach + 1]
        both = np.concatenate([density[:0:-1], density])
        f.plot(np.arange(-reach, reach + 1), both / density[1:4].mean(), "o-", color=colour, lw=0.8)
    f.axhline(1, color=PALE, lw=0.5, zorder=0)
    f.set(yscale="log", xlim=(-reach, reach))
    f.margins(y=0.25)
    note(f, 0.02, 0.97, "all link frequencies", color=AMBER, va="top")
    note(f, 0.98, 0.03, "link frequency 0 excluded", color=BLUE, ha="right", va="bottom")
    panel(f, "f", "A notch at zero?", "Input frequency", "Relative energy")
    return figure


@styled
def last_layer_figure(demonstration: Demonstration) -> "Figure":
    """Draw figure 3: the last layer as a map from link waves to distances.

    Args:
        demonstration: result of `jaxdescramble.studies.deernet.demonstration.demonstrate`.

    Returns:
        A matplotlib Figure, 180 mm wide.

    Raises:
        ImportError: if matplotlib is not installed.

    Source: Amey et al. 2021, fig. 3.
    """
    raw, found = _last(demonstration.net.params), demonstration.last
    name = _last_name(demonstration)
    r = demonstration.settings.plan.grid.distance
    figure = sheet(DOUBLE, 62)
    a, b, c, d = figure.subplots(1, 4, width_ratios=(1, 1, 1, 0.8))
    for ax, letter, title, weight in (
        (a, "a", f"Raw {name}", raw),
        (b, "b", f"Descrambled {name}$Q^T$", found),
    ):
        image(ax, weight, (0, weight.shape[1] - 1, r[0], r[-1]), label="Weight")
        panel(ax, letter, title, LINK, DISTANCE)

    energy = _link_spectrum(found)
    tau = {reading.name: reading for reading in demonstration.readings["last"]}["distance map"].value
    label = f"descrambled, $\\tau$ = {tau:.2f}".replace("-", "\N{MINUS SIGN}")
    frequencies = np.arange(energy.shape[1])
    image(c, np.sqrt(energy), (0, frequencies[-1], r[0], r[-1]), label="Amplitude", decades=2)
    panel(c, "c", f"{name}$Q^TF_-$", "|Link frequency| (cycles)", DISTANCE)
    spectra = {label: energy, "raw frame": _link_spectrum(raw)}
    for (label, spectrum), colour in zip(spectra.items(), (VERMILION, GREY), strict=True):
        centroid = spectrum @ frequencies / spectrum.sum(axis=1)
        d.plot(centroid, r, color=colour, label=label)
    d.set(xlim=(0, None), ylim=(r[0], r[-1]))
    d.legend(loc="upper center", bbox_to_anchor=(0.4, -0.17))
    panel(d, "d", "Row centroids", "|Link frequency| (cycles)", DISTANCE)
    return figure


@styled
def products_figure(demonstration: Demonstration) -> "Figure":
    """Draw figure 4: which link points and which distances work together in the last layer, and its singular values.

    Args:
        demonstration: result of `jaxdescramble.studies.deernet.demonstration.demonstrate`.

    Returns:
        A matplotlib Figure, 180 mm wide.

    Raises:
        ImportError: if matplotlib is not installed.

    Source: Amey et al. 2021, fig. 4; the Gram matrix by link frequency is ours.
    """
    params, found = demonstration.net.params, np.asarray(demonstration.last, np.float64)
    raw, name = np.asarray(_last(params), np.float64), _last_name(demonstration)
    inner = name.strip("$")
    r = demonstration.settings.plan.grid.distance
    figure = sheet(DOUBLE, 104)
    cells = figure.add_gridspec(2, 3)
    a, b, c, d = (figure.add_subplot(cells[i]) for i in ((0, 0), (0, 1), (0, 2), (1, 0)))
    for ax, letter, title, weight in (
        (a, "a", f"${inner}^T{inner}$, raw", raw),
        (b, "b", f"$Q\\,{inner}^T{inner}Q^T$", found),
    ):
        image(ax, weight.T @ weight, label="Inner product")
        panel(ax, letter, title, LINK, LINK)
    blocks = _blocks_by_frequency(found)
    image(c, blocks, label="Amplitude", decades=2)
    # Higher frequencies show only the rest of the initial noise.
    reach = min(20, len(blocks) - 1) + 0.5
    c.set(
        xlim=(-0.5, reach), ylim=(-0.5, reach), xticks=range(0, int(reach) + 1, 5), yticks=range(0, int(reach) + 1, 5)
    )
    panel(c, "c", "Panel b by frequency", "|Link frequency| (cycles)", "|Link frequency| (cycles)")
    image(d, raw @ raw.T, (r[0], r[-1], r[0], r[-1]), label="Inner product")
    panel(d, "d", f"${inner}{inner}^T$, in every frame", DISTANCE, DISTANCE)
    for ax in (a, b, c, d):
        ax.set_box_aspect(1)

    e = figure.add_subplot(cells[1, 1:])
    layers = sorted(params)
    for layer, colour in zip(layers, (BLUE, GREEN, VERMILION) if len(layers) > 2 else (BLUE, VERMILION), strict=True):
        for source, options in (
            (params, {"ls": "-", "marker": "o", "ms": 1.6, "label": f"${layer[0]}_{layer[1:]}$, trained"}),
            (demonstration.net.initial_params, {"ls": (0, (2, 1.5)), "label": f"${layer[0]}_{layer[1:]}$, before"}),
        ):
            values = np.linalg.svd(np.asarray(source[layer], np.float64), compute_uv=False)
            e.plot(np.arange(1, len(values) + 1), values, color=colour, lw=0.8, **options)
    e.set(yscale="log", xlim=(0, min(params[layers[-1]].shape) + 1))
    e.set_ylim(top=4 * e.get_ylim()[1])  # room for the legend
    e.legend(loc="upper right", ncols=len(layers))
    panel(e, "e", "Singular values, in every frame", "Number", "Singular value")
    return figure


@styled
def vectors_figure(demonstration: Demonstration, count: int = 5) -> "Figure":
    """Draw figure 5: leading singular vectors of the last layer, in three frames of the link side, and on the output.

    Args:
        demonstration: result of `jaxdescramble.studies.deernet.demonstration.demonstrate`.
        count: number of vectors.

    Returns:
        A matplotlib Figure, 180 mm wide.

    Raises:
        ImportError: if matplotlib is not installed.

    Source: Amey et al. 2021, fig. 5.
    """
    weight = np.asarray(_last(demonstration.net.params), np.float64)
    left, _, right = np.linalg.svd(weight, full_matrices=False)
    last = list(demonstration.layers.values())[-1]
    assert last.input is not None and demonstration.joint.input is not None  # noqa: PT018 - DEERNet's last layer
    r = demonstration.settings.plan.grid.distance
    frames = (
        ("Raw frame", right, GREY),
        ("Descrambled: data alone", right @ np.asarray(last.input.point).T, BLUE),
        ("Joint tap: by construction", right @ np.asarray(demonstration.joint.input.point).T, SKY),
    )
    degrees = np.arange(1, 9)
    members = np.polynomial.chebyshev.chebvander(np.linspace(-1, 1, len(r)), 8)[:, 1:]
    members = members - members.mean(axis=0)
    members /= np.linalg.norm(members, axis=0)

    figure = sheet(DOUBLE, 18 * count + 16)
    axes = figure.subplots(count, 4, sharex="col", squeeze=False)
    for i in range(count):
        for column, (_, vectors, colour) in enumerate(frames):
            energy = _link_spectrum(vectors[i : i + 1])[0]
            _line(axes[i, column], np.arange(len(vectors[i])), vectors[i], colour)
            note(axes[i, column], 0.98, 0.97, _share(energy, i == 0), ha="right", va="top")
        u = left[:, i] - left[:, i].mean()
        u /= np.linalg.norm(u)
        overlap = members.T @ u
        best = int(np.argmax(np.abs(overlap)))
        _line(axes[i, 3], r, u, VERMILION)
        axes[i, 3].plot(r, overlap[best] * members[:, best], color=INK, lw=0.8, ls=(0, (3, 2)))
        note(axes[i, 3], 0.98, 0.97, f"$T_{degrees[best]}$, $R^2$ = {overlap[best] ** 2:.2f}", ha="right", va="top")
        axes[i, 0].set_ylabel(f"Vector {i + 1}")
    for column, (title, _, _) in enumerate(frames):
        panel(axes[0, column], "abc"[column], title, y=axes[0, column].get_ylabel())
        axes[-1, column].set_xlabel(LINK)
    panel(axes[0, 3], "d", "Output side; Chebyshev")
    axes[-1, 3].set_xlabel(DISTANCE)
    return figure


@styled
def layers_figure(layers: Mapping[str, LayerDescrambling]) -> "Figure":
    """Draw every layer of a network, raw beside descrambled.

    Args:
        layers: result of `jaxdescramble.descramble_network`. If a layer is a batch, its first member is shown.

    Returns:
        A matplotlib Figure, 180 mm wide, with one row for each layer. The raw weight is `P^T (P W Q^T) Q`. Of complex
        weights, absolute values are shown.

    Raises:
        ImportError: if matplotlib is not installed.
        ValueError: if there are no layers.

    >>> from jaxdescramble.descrambling import descramble_network
    >>> keys = jax.random.split(jax.random.key(0), 3)
    >>> params = {"a": jax.random.normal(keys[0], (6, 4)), "b": jax.random.normal(keys[1], (4, 2))}
    >>> network = lambda params, x: jnp.tanh(x @ params["a"]) @ params["b"]
    >>> len(layers_figure(descramble_network(network, params, jax.random.normal(keys[2], (50, 6)))).axes)
    8
    """
    if not layers:
        raise ValueError("layers: got none; must be the result of descramble_network, one entry for each linear layer.")
    figure = sheet(DOUBLE, 42 * len(layers) + 4)
    axes = figure.subplots(len(layers), 2, squeeze=False)
    for row, (name, layer) in zip(axes, layers.items(), strict=True):
        found, raw = layer.weight, layer.weight
        if layer.output is not None:
            raw = jnp.matmul(adjoint(layer.output.point), raw, precision="highest")
        if layer.input is not None:
            raw = jnp.matmul(raw, layer.input.point, precision="highest")
        both = [np.asarray(weight).reshape(-1, *weight.shape[-2:])[0] for weight in (raw, found)]
        for ax, weight, title in zip(row, both, ("raw", "descrambled"), strict=True):
            if np.iscomplexobj(weight):
                image(ax, np.abs(weight), label="|Weight|")
            else:
                image(ax, weight, label="Weight")
            ax.set_title(f"{_plain(name)}, {title}", loc="left")
            ax.set(xlabel="Input index", ylabel="Output index")
    return figure


def _plain(name: str) -> str:
    """Write `['encoder'].kernel` as `encoder.kernel`, and escape dollar signs, which would start a formula."""
    return name.replace("']['", ".").replace("['", "").replace("']", "").replace("$", r"\$")


def _first(params: Mapping[str, Array]) -> Array:
    return params[min(params)]


def _last(params: Mapping[str, Array]) -> Array:
    return params[max(params)]


def _last_name(demonstration: Demonstration) -> str:
    return f"$W_{demonstration.settings.plan.layers}$"


def _draw_laws(ax: "Axes", weight: Float[Array, "n m"]) -> None:
    """Draw the 95% band, the paper's cube law and the places of the ridge on a centred 2-D spectrum."""
    n, m = weight.shape
    edge, found = float(_band_edge(weight)), _ridge(weight)
    for sign in (-1, 1):
        ax.axvline(sign * edge, color="white", lw=0.6, ls=(0, (3, 2)))
    k = np.linspace(-n / 2, n / 2, 200)
    for sign in (-1, 1):
        law = sign * 0.05 * np.abs(k) ** 3
        inside = np.abs(law) <= m / 2
        for half in (k >= 0, k <= 0):
            ax.plot(law[inside & half], k[inside & half], color=SKY, lw=0.7, alpha=0.9)
    size = 120 * np.asarray(found.weight)
    ax.scatter(found.input_frequency, found.link_frequency, s=size, facecolor="none", edgecolor="white", lw=0.5)
    # Higher link frequencies carry white noise, and the law leaves the picture before them.
    reach = min(n / 2, max(8.0, 1.45 * np.cbrt(m / 2 / 0.05)))
    ax.set(xlim=(-m / 2 - 0.5, m / 2 + 0.5), ylim=(-reach - 0.5, reach + 0.5))
    dark = {"color": "white", "halo": "black", "fontsize": 5.5, "ha": "center"}
    note(ax, 0.5, 0.975, "dashed: 95% of the energy\nblue: paper's law, 0.05 $k^3$", va="top", **dark)
    note(ax, 0.5, 0.025, "circles: median input frequency", va="bottom", **dark)


def _input_spectrum(weight: Float[Array, "n m"], skip: int = 0) -> np.ndarray:
    """Return the energy at each |input frequency| per two-sided bin, without the first `skip` link frequencies."""
    energy = np.asarray(_fourier_energy(weight), np.float64)[skip:].sum(axis=0)
    energy[1 : (weight.shape[1] + 1) // 2] /= 2
    return energy


def _link_spectrum(weight: np.ndarray | Array) -> np.ndarray:
    """Return the energy of every row at each |link frequency|."""
    columns = np.asarray(weight, np.float64)
    energy = np.abs(np.fft.rfft(columns, norm="ortho")) ** 2
    energy[:, 1 : (columns.shape[1] + 1) // 2] *= 2
    return energy


def _blocks_by_frequency(weight: np.ndarray) -> np.ndarray:
    """Return `||K(k, k')||_F` of K = F M^T M F+, folded onto |k|. It does not depend on phases of the link axis."""
    n = weight.shape[1]
    energy = np.abs(np.fft.fft(np.fft.fft(weight.T @ weight, axis=0, norm="ortho"), axis=1, norm="ortho")) ** 2
    fold = np.minimum(np.arange(n), n - np.arange(n))
    onto = np.eye(n // 2 + 1)[fold]
    return np.sqrt(onto.T @ energy @ onto)


def _line(ax: "Axes", x: np.ndarray, y: np.ndarray, colour: str) -> None:
    ax.axhline(0, color=PALE, lw=0.5, zorder=0)
    ax.plot(x, y, color=colour)
    reach = 1.1 * float(np.abs(y).max())
    ax.set(xlim=(x[0], x[-1]), ylim=(-reach, 1.5 * reach), yticks=[])
    ax.spines["left"].set_visible(False)


def _share(energy: np.ndarray, in_full: bool) -> str:
    k = int(np.argmax(energy))
    return f"{energy[k] / energy.sum():.2f} {'of the energy ' if in_full else ''}at {k}"
