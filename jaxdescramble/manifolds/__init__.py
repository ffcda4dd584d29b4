"""The manifolds from which descramblers come. A manifold is a value: `minimise(f, start, manifold=Stiefel())`.

The modules `orthogonal`, `unitary`, `permutation` and `retractions` hold functions of the groups.
"""

from jaxdescramble.manifolds import orthogonal, permutation, retractions, unitary
from jaxdescramble.manifolds.euclidean import Euclidean
from jaxdescramble.manifolds.groups import Orthogonal, SpecialOrthogonal, SpecialUnitary, Unitary
from jaxdescramble.manifolds.manifold import Manifold
from jaxdescramble.manifolds.powers import Power
from jaxdescramble.manifolds.products import Product
from jaxdescramble.manifolds.stiefel import Grassmann, Stiefel

__all__ = [
    "Euclidean",
    "Grassmann",
    "Manifold",
    "Orthogonal",
    "Power",
    "Product",
    "SpecialOrthogonal",
    "SpecialUnitary",
    "Stiefel",
    "Unitary",
    "orthogonal",
    "permutation",
    "retractions",
    "unitary",
]
