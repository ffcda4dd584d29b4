"""The rivals of `checkpoints.py`: ways to keep a chunk of solved layers on disk. All store the same arrays."""

import functools
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
import safetensors
import safetensors.numpy

from jaxdescramble._base import files

HEADER = {"layers": [f"layer_{k}" for k in range(16)], "objective": "smoothness", "version": 1}
VECTORS = ("value", "bound", "initial_value", "gradient_norm", "steps", "status")


class Candidate(NamedTuple):
    name: str
    save: Callable[[Path, dict[str, np.ndarray]], Any]
    load: Callable[[Path], dict[str, np.ndarray]]
    needs: str


def chunk(n: int) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(n).standard_normal
    arrays = {"point": draw((16, n, n), np.float32), "singular_values": draw((16, n), np.float32)}
    return arrays | {name: draw(16, np.float32) for name in VECTORS}


def digest(arrays: dict[str, np.ndarray]) -> str:
    found = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        found.update(f"{name} {array.dtype} {array.shape} ".encode())
        found.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return found.hexdigest()


def save_npz(path, arrays, checksum=False):
    header = json.dumps(HEADER | ({"sha256": digest(arrays)} if checksum else {}))
    files.write_atomically(path, functools.partial(np.savez, header=np.array(header), **arrays))


def save_compressed(path, arrays):
    files.write_arrays(path, {"header": np.array(json.dumps(HEADER)), **arrays})


def load_npz(path):
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    header = json.loads(str(arrays.pop("header")))
    if "sha256" in header and header["sha256"] != digest(arrays):
        raise ValueError("checksum")
    return arrays


def save_safetensors(path, arrays):
    content = safetensors.numpy.save(arrays, {"header": json.dumps(HEADER)})
    files.write_atomically(path, lambda file: file.write(content))


def load_safetensors(path):
    with safetensors.safe_open(path, framework="np") as file:
        json.loads(file.metadata()["header"])
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


@functools.cache
def orbax(kind: str) -> Any:
    # No rival starts JAX's backend before use, so a process that only imports can fork.
    if kind == "async":
        return ocp.StandardCheckpointer()
    alone: dict[str, Any] = {}
    if kind == "alone":  # orbax's setting for processes of one job that save independently
        rank = jax.process_index()
        own = ocp.options.MultiprocessingOptions(rank, active_processes={rank}, barrier_sync_key_prefix=str(rank))
        alone = {"multiprocessing_options": own}
    return ocp.Checkpointer(ocp.StandardCheckpointHandler(**alone), **alone)


def save_orbax(path, arrays, force=False, kind="sync"):
    orbax(kind).save(path, args=ocp.args.StandardSave(arrays), custom_metadata=HEADER, force=force)


def save_orbax_async(path, arrays):
    start = time.perf_counter()
    orbax("async").save(path, arrays, custom_metadata=HEADER)
    blocked = time.perf_counter() - start
    orbax("async").wait_until_finished()
    return blocked


def load_orbax(path):
    return {name: np.asarray(array) for name, array in orbax("sync").restore(path).items()}


CANDIDATES = {
    "npz": Candidate("npz, the archive's own CRC-32", save_npz, load_npz, "zipfile"),
    "npz+": Candidate("npz, and SHA-256", functools.partial(save_npz, checksum=True), load_npz, "zipfile"),
    "npz.z": Candidate("npz, compressed", save_compressed, load_npz, "zipfile"),
    "orbax": Candidate("orbax, synchronous", save_orbax, load_orbax, "orbax.checkpoint"),
    "orbax.a": Candidate("orbax, asynchronous", save_orbax_async, load_orbax, "orbax.checkpoint"),
    "orbax.o": Candidate(
        "orbax, told that it is alone", functools.partial(save_orbax, kind="alone"), load_orbax, "orbax.checkpoint"
    ),
    "safetensors": Candidate("safetensors, atomic", save_safetensors, load_safetensors, "safetensors.numpy"),
}


def same(found, arrays) -> bool:
    return found.keys() == arrays.keys() and all(np.array_equal(found[name], arrays[name]) for name in arrays)


def outcome(load, path, arrays) -> str:
    try:
        return "same" if same(load(path), arrays) else "missed"
    except Exception:
        return "noticed"
