"""Convert the weights of MTCNN from pickles of joblib to safetensors, once.

Run, in an environment of its own: pip install --no-deps mtcnn==1.0.0; pip install numpy safetensors joblib lz4
     python benchmarks/convert_mtcnn.py --out FOLDER

A pickle can run any code. So this script allows only the few names that arrays need, and refuses all others. Nothing of
mtcnn (MIT licence) is imported. `studies.published.mtcnn.load` reads the files that it writes.
"""

import argparse
import importlib
import importlib.util
import io
import sys
from pathlib import Path

import numpy as np

CONVOLUTIONS, HIDDEN = {"pnet": 3, "rnet": 3, "onet": 4}, {"pnet": False, "rnet": True, "onet": True}
HEADS = {"pnet": ("box", "face"), "rnet": ("box", "face"), "onet": ("box", "landmarks", "face")}
ALLOWED = {
    ("joblib.numpy_pickle", "NumpyArrayWrapper"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
}


def assets() -> Path:
    """Return the folder of the installed wheel's weights, without importing the package."""
    found = importlib.util.find_spec("mtcnn")
    if found is None or not found.submodule_search_locations:
        sys.exit("mtcnn is not installed. Run: pip install --no-deps mtcnn==1.0.0")
    return Path(found.submodule_search_locations[0]) / "assets" / "weights"


def arrays_of(path: Path) -> list[np.ndarray]:
    """Return the list of arrays in a file of joblib; stop at any name that arrays do not need."""
    numpy_pickle, lz4 = importlib.import_module("joblib.numpy_pickle"), importlib.import_module("lz4.frame")

    class Careful(numpy_pickle.NumpyUnpickler):
        def find_class(self, module: str, name: str) -> object:
            if (module, name) not in ALLOWED:
                sys.exit(f"{path}: asks for {module}.{name}, which arrays do not need. Refused.")
            return super().find_class(module, name)

    stream = io.BytesIO(lz4.decompress(path.read_bytes()))
    options = {"ensure_native_byte_order": True} if "ensure_native_byte_order" in _arguments(Careful) else {}
    return [np.asarray(one) for one in Careful(str(path), stream, **options).load()]


def _arguments(kind: type) -> tuple[str, ...]:
    return kind.__init__.__code__.co_varnames


def names(net: str) -> list[str]:
    """Return a name for each array, in the order of Keras."""
    found = [f"conv{k}.{part}" for k in range(1, CONVOLUTIONS[net] + 1) for part in ("weight", "bias", "slope")]
    found += [f"dense.{part}" for part in ("weight", "bias", "slope")] if HIDDEN[net] else []
    return found + [f"{head}.{part}" for head in HEADS[net] for part in ("weight", "bias")]


def main(folder: Path, out: Path) -> None:
    safetensors = importlib.import_module("safetensors.numpy")
    out.mkdir(parents=True, exist_ok=True)
    for net in CONVOLUTIONS:
        arrays = arrays_of(folder / f"{net}.lz4")
        named = {name: np.ascontiguousarray(one) for name, one in zip(names(net), arrays, strict=True)}
        safetensors.save_file(named, out / f"mtcnn_{net}.safetensors")
        print(f"{out / f'mtcnn_{net}.safetensors'}: { {name: one.shape for name, one in named.items()} }")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Convert MTCNN's weights to safetensors.")
    parser.add_argument("--assets", type=Path, help="folder with pnet.lz4, rnet.lz4, onet.lz4; default: the wheel")
    parser.add_argument("--out", type=Path, required=True, help="folder for the .safetensors files")
    given = parser.parse_args()
    main(given.assets or assets(), given.out)
