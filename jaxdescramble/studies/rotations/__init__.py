"""Rotations for quantisation: which frame of a network loses least when its numbers are rounded to few bits?"""
