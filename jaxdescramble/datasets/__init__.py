"""Simulators that make their own data, and readers of files that you have. Nothing is downloaded."""

from jaxdescramble.datasets import bandpass, deer, deernet_weights, picture_files, pictures, planted, relaxometry

__all__ = ["bandpass", "deer", "deernet_weights", "picture_files", "pictures", "planted", "relaxometry"]
