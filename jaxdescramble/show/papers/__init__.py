"""Figures and reports of the studies."""
