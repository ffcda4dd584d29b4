"""Quadratic assignment: search for the best permutation, with a lower bound."""
