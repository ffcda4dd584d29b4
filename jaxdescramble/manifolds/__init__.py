"""The groups from which descramblers come: orthogonal matrices and permutations, and moves on them."""

from jaxdescramble.manifolds import orthogonal, permutation, retractions

__all__ = ["orthogonal", "permutation", "retractions"]
