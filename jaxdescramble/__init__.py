"""Find the frame in which a neural network's layers become readable: descrambler groups in JAX.

>>> import jaxdescramble as jd
>>> jd.descramble(jax.random.normal(jax.random.key(0), (8, 100))).point.shape
(8, 8)

Rooms are imported when they are first used, so `import jaxdescramble` costs little more than `import jax`.
"""

from importlib.metadata import version
from typing import TYPE_CHECKING

from jaxdescramble._base.lapack import set_default as _set_default
from jaxdescramble._base.lazy import front_door

if TYPE_CHECKING:
    from jaxdescramble import (
        attribution,
        datasets,
        descrambling,
        exact,
        findings,
        gated,
        manifolds,
        networks,
        objectives,
        operators,
        solvers,
        sweeps,
    )
    from jaxdescramble import show as show
    from jaxdescramble import studies as studies
    from jaxdescramble._base.cautions import JaxdescrambleWarning
    from jaxdescramble._base.lapack import threads
    from jaxdescramble._base.status import Status
    from jaxdescramble.descrambling import (
        Accumulator,
        Descrambling,
        Descramblings,
        Film,
        LayerDescrambling,
        NetworkDescrambling,
        bootstrap,
        descramble,
        descramble_network,
        match,
    )
    from jaxdescramble.findings import Report, explain
    from jaxdescramble.networks import Layout, Tap, fold, insert, reorder, symmetries, transform, wiretap
    from jaxdescramble.objectives import Objective
    from jaxdescramble.solvers import Interrupted, Solution, minimise, riemannian
    from jaxdescramble.sweeps import Problem, grid, sweep

__version__ = version("jaxdescramble")
_set_default()

__all__ = [
    "Accumulator",
    "Descrambling",
    "Descramblings",
    "Film",
    "Interrupted",
    "JaxdescrambleWarning",
    "LayerDescrambling",
    "Layout",
    "NetworkDescrambling",
    "Objective",
    "Problem",
    "Report",
    "Solution",
    "Status",
    "Tap",
    "attribution",
    "bootstrap",
    "datasets",
    "descramble",
    "descramble_network",
    "descrambling",
    "exact",
    "explain",
    "findings",
    "fold",
    "gated",
    "grid",
    "insert",
    "manifolds",
    "match",
    "minimise",
    "networks",
    "objectives",
    "operators",
    "reorder",
    "riemannian",
    "solvers",
    "sweep",
    "sweeps",
    "symmetries",
    "threads",
    "transform",
    "wiretap",
]

# Where each name that is no room lives; the imports above say the same to type checkers and editors.
__getattr__, __dir__ = front_door(
    __name__,
    {
        "_base.cautions": ("JaxdescrambleWarning",),
        "_base.lapack": ("threads",),
        "_base.status": ("Status",),
        "descrambling": (
            "Accumulator",
            "Descrambling",
            "Descramblings",
            "Film",
            "LayerDescrambling",
            "NetworkDescrambling",
            "bootstrap",
            "descramble",
            "descramble_network",
            "match",
        ),
        "findings": ("Report", "explain"),
        "networks": ("Layout", "Tap", "fold", "insert", "reorder", "symmetries", "transform", "wiretap"),
        "objectives": ("Objective",),
        "solvers": ("Interrupted", "Solution", "minimise", "riemannian"),
        "sweeps": ("Problem", "grid", "sweep"),
    },
    (
        "attribution",
        "datasets",
        "descrambling",
        "exact",
        "findings",
        "fold",
        "gated",
        "manifolds",
        "networks",
        "objectives",
        "operators",
        "show",
        "solvers",
        "studies",
        "sweeps",
    ),
)
