"""The groups that descramblers are taken from."""

from jaxdescramble.groups import orthogonal

__all__ = ["orthogonal"]
