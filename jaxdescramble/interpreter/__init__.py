"""Walks the operations of any JAX function: which are layers, what flows through them, and where each axis goes."""

from jaxdescramble.interpreter.blame import curved, named, refuse_integers, telling
from jaxdescramble.interpreter.carry import follow_axis
from jaxdescramble.interpreter.evaluate import evaluate
from jaxdescramble.interpreter.facts import Facts, Origin, study
from jaxdescramble.interpreter.graph import Block, Graph, Operation, leaves_of, trace
from jaxdescramble.interpreter.layers import Affine, Layer, Product, find_layers, find_products, groups, made_of
from jaxdescramble.interpreter.pieces import Pieces, follow
from jaxdescramble.interpreter.unread import caution_unread, find_unread, why_no_layer

__all__ = [
    "Affine",
    "Block",
    "Facts",
    "Graph",
    "Layer",
    "Operation",
    "Origin",
    "Pieces",
    "Product",
    "caution_unread",
    "curved",
    "evaluate",
    "find_layers",
    "find_products",
    "find_unread",
    "follow",
    "follow_axis",
    "groups",
    "leaves_of",
    "made_of",
    "named",
    "refuse_integers",
    "study",
    "telling",
    "trace",
    "why_no_layer",
]
