"""Quadratic assignment: the best permutation, with a bound."""
