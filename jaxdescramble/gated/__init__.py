"""Deep gated networks: networks that compute their gates apart from their values; some have linear features."""

from jaxdescramble.gated import path_kernel
from jaxdescramble.gated.chains import Convolutional, FullyConnected
from jaxdescramble.gated.gate_kinds import Hard, Soft, StraightThrough
from jaxdescramble.gated.hardening import HardeningGap, hardening_gap
from jaxdescramble.gated.initial import init, scales
from jaxdescramble.gated.networks import apply, as_function, gates, preactivations
from jaxdescramble.gated.primal import PrimalWeight, primal_weights
from jaxdescramble.gated.regimes import Regime, dlnpf, flnpf, frnpf_di, frnpf_ii
from jaxdescramble.gated.residual import ConvolutionalResidual, Residual
from jaxdescramble.gated.spec import Spec

__all__ = [
    "Convolutional",
    "ConvolutionalResidual",
    "FullyConnected",
    "Hard",
    "HardeningGap",
    "PrimalWeight",
    "Regime",
    "Residual",
    "Soft",
    "Spec",
    "StraightThrough",
    "apply",
    "as_function",
    "dlnpf",
    "flnpf",
    "frnpf_di",
    "frnpf_ii",
    "gates",
    "hardening_gap",
    "init",
    "path_kernel",
    "preactivations",
    "primal_weights",
    "scales",
]
