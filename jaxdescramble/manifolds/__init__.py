"""The groups that descramblers are taken from."""

from jaxdescramble.manifolds import orthogonal, permutation, retractions

__all__ = ["orthogonal", "permutation", "retractions"]
