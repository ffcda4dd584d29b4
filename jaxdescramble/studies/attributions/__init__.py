"""Attributions put to the test: classifiers, maps with controls, five tests, and what becomes of the claims."""
