"""Descramble signals and networks. This package brings networks, objectives and solvers together."""

from jaxdescramble.descrambling.accumulators import Accumulator, Refined, refine, score
from jaxdescramble.descrambling.bootstrapping import Bootstrap, bootstrap
from jaxdescramble.descrambling.descramblings import Descramblings
from jaxdescramble.descrambling.film import Film, FilmedLayer, FilmedSide, Frames
from jaxdescramble.descrambling.matching import Barrier, Match, match
from jaxdescramble.descrambling.network import LayerDescrambling, NetworkDescrambling, descramble_network
from jaxdescramble.descrambling.result import Descrambling
from jaxdescramble.descrambling.signals import descramble
from jaxdescramble.descrambling.symmetric import SymmetricDescrambling

__all__ = [
    "Accumulator",
    "Barrier",
    "Bootstrap",
    "Descrambling",
    "Descramblings",
    "Film",
    "FilmedLayer",
    "FilmedSide",
    "Frames",
    "LayerDescrambling",
    "Match",
    "NetworkDescrambling",
    "Refined",
    "SymmetricDescrambling",
    "bootstrap",
    "descramble",
    "descramble_network",
    "match",
    "refine",
    "score",
]
