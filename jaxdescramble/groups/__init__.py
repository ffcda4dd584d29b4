"""The groups that descramblers are taken from."""

from jaxdescramble.groups import orthogonal, retractions

__all__ = ["orthogonal", "retractions"]
