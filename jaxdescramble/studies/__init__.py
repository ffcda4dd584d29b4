"""Whole experiments, one paper each: train, descramble, read, compare."""
