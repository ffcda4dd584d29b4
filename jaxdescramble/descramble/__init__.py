"""The main verb: signals or a network in, descramblings out; where networks, objectives and solvers meet."""

from jaxdescramble.descramble.bootstrap import Bootstrap, bootstrap
from jaxdescramble.descramble.network import LayerDescrambling, descramble_network
from jaxdescramble.descramble.result import Descrambling
from jaxdescramble.descramble.signals import descramble

__all__ = ["Bootstrap", "Descrambling", "LayerDescrambling", "bootstrap", "descramble", "descramble_network"]
