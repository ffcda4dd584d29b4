"""The groups that descramblers are taken from."""

from jaxdescramble.groups import orthogonal, permutation, retractions

__all__ = ["orthogonal", "permutation", "retractions"]
