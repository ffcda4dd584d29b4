"""The frames of a film: arrays whose first axis is time, and files with one frame each."""

import dataclasses
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int

from jaxdescramble._base.files import write_atomically
from jaxdescramble._base.results import Result, brief, laid_out, picture
from jaxdescramble._base.status import DIAGNOSES, Status, check_status

FORMAT, WIDE_FORMAT = 2, 3
"""Versions of the files: of square points, and of points from `rank`, which also have `left_out`."""
NAME = re.compile(r"frame-(\d+)\.npz")


@dataclasses.dataclass(frozen=True, repr=False)
class FilmedSide(Result):
    """One side of one layer through time: the fields of a `Descrambling`, with an axis of frames in front.

    Attributes:
        point: the descrambler P of each frame, as near to the one before as the gauge allows. With `rank`, rows without
            signal are free.
        value: the objective at P.
        initial_value: the objective in the raw frame, P = 1; with `rank`, that of the leading principal components.
        bound: a lower bound of the objective for all orthogonal matrices.
        rank: number of principal components of the signals that are larger than rounding.
        steps: number of steps of an iterative solver, which starts from the frame before.
        status: a `jaxdescramble.Status` for each frame.
        samples: effective number of samples; NaN in frames of format 1.
        left_out: the fraction of the energy of the signals that P leaves out; None without `rank`.
    """

    point: Float[np.ndarray, "frames *batch k n"]
    value: Float[np.ndarray, "frames *batch"]
    initial_value: Float[np.ndarray, "frames *batch"]
    bound: Float[np.ndarray, "frames *batch"]
    rank: Int[np.ndarray, "frames *batch"]
    steps: Int[np.ndarray, "frames *batch"]
    status: Int[np.ndarray, "frames *batch"]
    samples: Float[np.ndarray, "frames *batch"]
    left_out: Float[np.ndarray, "frames *batch"] | None = None

    @property
    def jumps(self) -> Float[np.ndarray, "pairs *batch"]:
        """`||P_t - P_(t-1)||_F` for each pair of neighbouring frames."""
        return np.linalg.norm(np.diff(self.point, axis=0), axis=(-2, -1))

    def check(self) -> "FilmedSide":
        """Return this side if it has an answer in every frame.

        Raises:
            FloatingPointError: if a frame has none; the message names the frames, the reason and what to do.
        """
        check_status(self.status, "film")
        return self


@dataclasses.dataclass(frozen=True, repr=False)
class FilmedLayer(Result):
    """One layer through time.

    Attributes:
        output, input: the two sides; None for a side that was not descrambled.
        weight: the descrambled weight `P W Q^T` of each frame, shape (frames, ..., out, in).
    """

    output: FilmedSide | None
    input: FilmedSide | None
    weight: Float[np.ndarray, "frames *batch out in"]

    @property
    def sides(self) -> dict[str, FilmedSide]:
        """The descrambled sides by name, "output" and "input"; sides that are None are missing."""
        return {name: one for name in ("output", "input") if (one := getattr(self, name)) is not None}


class LayerFrame(NamedTuple):
    """One layer in one frame: the fields of each side that was descrambled, and the weight `P W Q^T`."""

    sides: Mapping[str, Mapping[str, Array | np.ndarray]]
    weight: Array | np.ndarray


class Frame(NamedTuple):
    """One frame, in memory or from a file: the layers that `make_frame` returns, as NumPy arrays."""

    step: int
    seconds: float
    layers: Mapping[str, LayerFrame]


@dataclasses.dataclass(frozen=True, repr=False)
class Frames(Result):
    """A film: NumPy arrays whose first axis counts the frames.

    Attributes:
        steps: training step of each frame.
        seconds: time in seconds to make each frame, compilation included.
        layers: `{layer name: FilmedLayer}`, in the order of computation.
    """

    steps: Int[np.ndarray, " frames"]
    seconds: Float[np.ndarray, " frames"]
    layers: dict[str, FilmedLayer]

    def __len__(self) -> int:
        return len(self.steps)

    def check(self) -> "Frames":
        """Return these frames if every side of every one has an answer.

        Raises:
            FloatingPointError: if a frame has none; one paragraph for each side and kind of failure names the steps,
                the reason and what to do.
        """
        failures = []
        for name, layer in self.layers.items():
            for side, one in layer.sides.items():
                for status in map(Status, np.unique(one.status)):
                    where = np.flatnonzero((one.status == status).reshape(len(self), -1).any(axis=1))
                    if not status.usable:
                        failures.append(
                            f"film: {status.name} at layer {name}, {side} side, steps {self.steps[where][:5].tolist()}"
                            f"{' and more' if len(where) > 5 else ''}: {DIAGNOSES[status]}"
                        )
        if failures:
            raise FloatingPointError("\n".join(failures))
        return self

    def _repr_html_(self) -> str:
        last = {name: layer.weight[-1] for name, layer in self.layers.items()} if len(self) else {}
        drawn = "".join(picture(weight, f"weight of {name} at the last frame") for name, weight in last.items())
        rows = [(name, f"weights {brief(layer.weight)}") for name, layer in self.layers.items()]
        return laid_out(repr(self), drawn, rows)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write each frame into a file of its own; a file is written completely or not at all.

        Raises:
            OSError: if a file could not be written.
        """
        for k in range(len(self)):
            layers = {
                name: LayerFrame(
                    {
                        side: {field: value[k] for field, value in vars(one).items() if value is not None}
                        for side, one in layer.sides.items()
                    },
                    layer.weight[k],
                )
                for name, layer in self.layers.items()
            }
            write_frame(folder, Frame(int(self.steps[k]), float(self.seconds[k]), layers))

    @staticmethod
    def load(folder: str | os.PathLike) -> "Frames":
        """Read the frames in a folder; you can do this while the film is still being made.

        Raises:
            FileNotFoundError: if there is no such folder.
            ValueError: if a file is not a complete frame, or belongs to another network than the others.
        """
        return joined([read_frame(path) for path in frame_files(folder).values()])


def joined(frames: Sequence[Frame]) -> Frames:
    """Join the frames of one film along a first axis."""
    layers = {}
    for name, first in frames[0].layers.items() if frames else ():
        for frame in frames:
            # A film continues one network; files of another one in the same folder are a mistake.
            if frame.layers.keys() != frames[0].layers.keys() or _shapes(frame.layers[name]) != _shapes(first):
                raise ValueError(
                    f"frames of different networks: layer {name} at step {frame.step} is not as at step "
                    f"{frames[0].step}; keep films in folders of their own."
                )
        sides = {
            side: FilmedSide(
                **{field: np.stack([frame.layers[name].sides[side][field] for frame in frames]) for field in one}
            )
            for side, one in first.sides.items()
        }
        weight = np.stack([frame.layers[name].weight for frame in frames])
        layers[name] = FilmedLayer(sides.get("output"), sides.get("input"), weight)
    steps = np.asarray([frame.step for frame in frames], np.int64)
    return Frames(steps, np.asarray([frame.seconds for frame in frames], np.float64), layers)


def _shapes(layer: LayerFrame) -> dict[str, tuple[int, ...]]:
    return {"weight": layer.weight.shape} | {side: one["point"].shape for side, one in layer.sides.items()}


def frame_files(folder: str | os.PathLike) -> dict[int, Path]:
    """Return the files of a folder that are frames, by step and in order."""
    found = {int(match[1]): path for path in Path(folder).iterdir() if (match := NAME.fullmatch(path.name))}
    return dict(sorted(found.items()))


def write_frame(
    folder: str | os.PathLike, frame: Frame, objectives: Mapping[tuple[str, str], str] | None = None
) -> None:
    """Write one frame into its file; for the errors see `files.write_atomically`."""
    arrays, described = {}, []
    for place, (name, layer) in enumerate(frame.layers.items()):
        described.append({"name": name, "sides": {}})
        arrays[f"{place}/weight"] = layer.weight
        for side, one in layer.sides.items():
            described[-1]["sides"][side] = (objectives or {}).get((name, side), "")
            arrays |= {f"{place}/{side}/{field}": value for field, value in one.items()}
    wide = any("left_out" in one for layer in frame.layers.values() for one in layer.sides.values())
    version = WIDE_FORMAT if wide else FORMAT
    header = {"format": version, "kind": "film", "step": frame.step, "seconds": frame.seconds, "layers": described}
    arrays["header"] = np.asarray(json.dumps(header))
    # Do not compress: such numbers hardly become smaller, and it would take time away from the training.
    write_atomically(Path(folder) / f"frame-{frame.step:09d}.npz", lambda file: np.savez(file, **arrays))


def read_frame(path: str | os.PathLike) -> Frame:
    """Read what `write_frame` wrote.

    Raises:
        ValueError: if the file is not a complete frame.
    """
    try:
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            content = {name: file[name] for name in file.files}
        header = json.loads(str(content.pop("header")))
        if header["format"] not in (1, FORMAT, WIDE_FORMAT) or header["kind"] != "film":
            raise ValueError(f"format {header['format']!r} of {header['kind']!r}")
        layers: dict[str, LayerFrame] = {}
        for place, described in enumerate(header["layers"]):
            sides = {}
            for side in described["sides"]:
                front = f"{place}/{side}/"
                fields = {name.removeprefix(front): value for name, value in content.items() if name.startswith(front)}
                # Format 1 did not contain the number of samples.
                fields.setdefault("samples", np.full_like(fields["value"], np.nan))
                sides[side] = fields
            layers[described["name"]] = LayerFrame(sides, content[f"{place}/weight"])
        return Frame(header["step"], header["seconds"], layers)
    except Exception as error:  # numpy, zipfile and json raise different errors for a broken file
        raise ValueError(f"{path}: not a whole frame of a film ({error}); move it out of the folder.") from error
