"""Whole experiments, one room for each paper: train a network, descramble it, read it, compare with nulls."""
