"""Neural path kernels of gated networks: in closed form, in tiles for many samples, and for learning."""

from jaxdescramble.gated.path_kernel.blocks import Tile, gather, tiles
from jaxdescramble.gated.path_kernel.empirical import empirical_ntk
from jaxdescramble.gated.path_kernel.kernels import convolutional, dense, expected_ntk, network, residual
from jaxdescramble.gated.path_kernel.layers import Convolution, Dense, Flatten, Gate, Pool, Skip
from jaxdescramble.gated.path_kernel.learning import (
    KernelRidge,
    LeaveOneOut,
    alignment,
    classify,
    complexity,
    leave_one_out,
    predict,
    ridge,
)
from jaxdescramble.gated.path_kernel.paths import Paths, enumerate_paths

__all__ = [
    "Convolution",
    "Dense",
    "Flatten",
    "Gate",
    "KernelRidge",
    "LeaveOneOut",
    "Paths",
    "Pool",
    "Skip",
    "Tile",
    "alignment",
    "classify",
    "complexity",
    "convolutional",
    "dense",
    "empirical_ntk",
    "enumerate_paths",
    "expected_ntk",
    "gather",
    "leave_one_out",
    "network",
    "predict",
    "residual",
    "ridge",
    "tiles",
]
