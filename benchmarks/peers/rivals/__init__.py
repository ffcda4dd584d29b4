"""One file per rival: `solve(problem, watch)` runs a library from P = 1 and tells the stopwatch what it finds."""

import dataclasses
import importlib
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Rival:
    """An entry of the table.

    Attributes:
        label: how the table calls it.
        place: "module:function" in this folder.
        kind: "peer", "ours", "exact", or "loan": a peer with our preconditioner, which is left out of comparisons.
        packages: whose versions the table states.
    """

    label: str
    place: str
    kind: str
    packages: tuple[str, ...]

    def load(self) -> Callable:
        """Import the library of the rival and return its function."""
        module, function = self.place.split(":")
        return getattr(importlib.import_module(f"benchmarks.peers.rivals.{module}"), function)


RIVALS = {
    "pymanopt_tr": Rival(
        "pymanopt trust region, numpy derivatives by hand", "pymanopt_numpy:trust_region", "peer", ("pymanopt", "numpy")
    ),
    "pymanopt_cg": Rival("pymanopt CG (Hager-Zhang)", "pymanopt_numpy:conjugate_gradient", "peer", ("pymanopt",)),
    "pymanopt_jax": Rival(
        "pymanopt trust region, JAX, jitted derivatives", "pymanopt_jax:trust_region", "peer", ("pymanopt", "jax")
    ),
    "geojax_tr": Rival("geojax trust region", "geojax_newton:trust_region", "peer", ("geojax", "jax")),
    "geoopt_radam": Rival("geoopt RAdam, best rate", "geoopt_adam:radam", "peer", ("geoopt", "torch")),
    "pogo": Rival("POGO, best rate", "pogo_adam:adam", "peer", ("pogo-torch", "torch")),
    "torch_expm": Rival("torch matrix_exp parametrisation, L-BFGS", "torch_expm:lbfgs", "peer", ("torch",)),
    "scipy_cayley": Rival("scipy L-BFGS on the Cayley generator", "scipy_cayley:lbfgs", "peer", ("scipy",)),
    "pymanopt_lent": Rival(
        "pymanopt trust region, lent the Brockett preconditioner", "pymanopt_numpy:lent", "loan", ("pymanopt",)
    ),
    "ours_tr": Rival("**trust region, Analytic**", "ours:trust_region", "ours", ("jaxdescramble", "jax")),
    "ours_lbfgs": Rival("**L-BFGS, Analytic**", "ours:lbfgs", "ours", ("jaxdescramble",)),
    "ours_box_tr": Rival("**trust region, black box**", "ours:box_trust_region", "ours", ("jaxdescramble",)),
    "ours_box_lbfgs": Rival("**L-BFGS, black box**", "ours:box_lbfgs", "ours", ("jaxdescramble",)),
    "ours_bare_tr": Rival("**trust region, black box, bare**", "ours:bare_trust_region", "ours", ("jaxdescramble",)),
    "ours_bare_lbfgs": Rival("**L-BFGS, black box, bare**", "ours:bare_lbfgs", "ours", ("jaxdescramble",)),
    "closed_form": Rival("closed form", "ours:closed_form", "exact", ("jaxdescramble",)),
}
