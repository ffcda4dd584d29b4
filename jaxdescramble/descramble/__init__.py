"""The main verb: signals or a network in, descramblings out; where networks, objectives and solvers meet."""

from jaxdescramble.descramble.bootstrap import Bootstrap, bootstrap
from jaxdescramble.descramble.network import LayerDescrambling, NetworkDescrambling, descramble_network
from jaxdescramble.descramble.result import Descrambling, Descramblings
from jaxdescramble.descramble.signals import descramble

__all__ = [
    "Bootstrap",
    "Descrambling",
    "Descramblings",
    "LayerDescrambling",
    "NetworkDescrambling",
    "bootstrap",
    "descramble",
    "descramble_network",
]
