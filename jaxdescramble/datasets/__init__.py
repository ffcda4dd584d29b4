"""Simulators that make their own data, and readers of files that you have; nothing is downloaded."""

from jaxdescramble.datasets import deer, deernet_weights, planted

__all__ = ["deer", "deernet_weights", "planted"]
