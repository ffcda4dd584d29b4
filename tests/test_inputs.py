"""Arrays in files: every format gives back what was written, and a damaged file is named, never read wrongly."""

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest
import safetensors.numpy

from jaxdescramble._base import extras
from jaxdescramble._base.inputs.arrays import Stored, layers, stored

pytestmark = pytest.mark.usefixtures("as_installed")


def numbers(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


# A network as Flax holds it, more than nine layers, a list in it, and things that are no weights.
TREE = {
    "params": {f"Dense_{k}": {"kernel": numbers(4, 3, seed=k), "bias": numbers(3, seed=k)} for k in range(11)},
    "half": {"kernel": numbers(4, 5, dtype=ml_dtypes.bfloat16), "stack": numbers(2, 4, 5, dtype=np.float16)},
    "list": [numbers(2, 2), numbers(3, 3, dtype=np.float64)],
    "step": 7,
    "mask": np.array([True, False]),
    "nothing": None,
}


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A checkpoint by orbax; not to be changed."""
    folder = tmp_path_factory.mktemp("orbax") / "net"
    jaxed = TREE | {"params": {name: {k: jnp.asarray(v) for k, v in d.items()} for name, d in TREE["params"].items()}}
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder, jaxed)
    return folder


def by_name(path):
    return {one.name: one for one in stored(path)}


def assert_reads(one, array, stored_dtype=None):
    """`one` was listed as, and reads as, `array`."""
    found = one.read()
    assert (one.shape, one.dtype, one.stored_dtype) == (
        array.shape,
        array.dtype.name,
        stored_dtype or array.dtype.name,
    )
    assert found.dtype == array.dtype
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_gives_back_every_array_in_natural_order(tmp_path, save):
    arrays = {f"layer_{k}/w": numbers(k + 1, 3, seed=k) for k in (10, 2, 1)}
    arrays |= {"turned": np.asfortranarray(numbers(3, 4)), "swapped": numbers(2, 3).astype(">f4")}
    arrays |= {"half": numbers(3, 2, dtype=np.float16), "steps": np.array(3), "words": np.array(["a", "bc"])}
    arrays |= {"flags": np.array([True]), "none": np.zeros((0, 3)), "double": numbers(2, 2, dtype=np.float64)}
    save(tmp_path / "net.npz", **arrays)
    found = by_name(tmp_path / "net.npz")
    assert [name for name in found if name.startswith("layer")] == ["layer_1/w", "layer_2/w", "layer_10/w"]
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        wanted = array.astype(np.float32) if name in ("half", "swapped") else array
        assert_reads(found[name], wanted, array.dtype.name)


def test_npy_is_named_by_its_file(tmp_path):
    for name, array in (("a", numbers(3, 4)), ("b", np.asfortranarray(numbers(2, 3, 4))), ("c", np.zeros((3, 0)))):
        np.save(tmp_path / f"{name}.npy", array)
        (one,) = stored(tmp_path / f"{name}.npy")
        assert one.name == name
        assert_reads(one, array)


def test_safetensors_with_names_of_torch_and_bfloat16(tmp_path):
    arrays = {
        "model.layers.10.mlp.weight": numbers(3, 4),
        "model.layers.2.mlp.weight": numbers(4, 3, dtype=ml_dtypes.bfloat16),
        "half": numbers(2, 2, dtype=np.float16),
        "ids": np.arange(3),
        "mask": np.array([True]),
        "scalar": np.array(2.0, np.float32),
    }
    safetensors.numpy.save_file(arrays, tmp_path / "net.safetensors", {"format": "pt"})
    found = by_name(tmp_path / "net.safetensors")
    assert list(found)[-4:-2] == ["mask", "model.layers.2.mlp.weight"]
    for name, array in arrays.items():
        narrow = name in ("half", "model.layers.2.mlp.weight")
        assert_reads(found[name], array.astype(np.float32) if narrow else array, array.dtype.name)


def test_bfloat16_is_widened_without_loss(tmp_path):
    every = np.arange(2**16, dtype=np.uint16).view(ml_dtypes.bfloat16).reshape(256, 256)
    safetensors.numpy.save_file({"w": every}, tmp_path / "w.safetensors")
    (one,) = stored(tmp_path / "w.safetensors")
    # bfloat16 is the upper half of float32, so the bits themselves are known (NaNs may differ in their payload).
    bits = np.arange(2**16, dtype=np.uint32).reshape(256, 256) << 16
    np.testing.assert_array_equal(one.read(), bits.view(np.float32))


def test_orbax_gives_back_the_tree(kept):
    found = by_name(kept)
    flat = {f"params/{name}/{k}": v for name, d in TREE["params"].items() for k, v in d.items()}
    flat |= {f"list/{k}": array for k, array in enumerate(TREE["list"])}
    flat |= {"mask": TREE["mask"], "step": np.array(7), **{f"half/{k}": v for k, v in TREE["half"].items()}}
    assert found.keys() == flat.keys()
    assert list(found)[-6:-3] == ["params/Dense_8/kernel", "params/Dense_9/bias", "params/Dense_9/kernel"]
    for name, array in flat.items():
        half = name.startswith("half")
        assert_reads(found[name], array.astype(np.float32) if half else array, array.dtype.name)


def test_checkpoints_of_a_manager_are_found_in_their_folders(tmp_path):
    with ocp.CheckpointManager(tmp_path / "run") as manager:
        for step in (2, 10):
            manager.save(step, args=ocp.args.StandardSave({"w": np.full((2, 2), step, np.float32)}))
    (tmp_path / "run" / "11.orbax-checkpoint-tmp").mkdir()
    found = stored(tmp_path / "run")
    assert [one.name for one in found] == ["2/default/w", "10/default/w"]
    assert [one.read().tolist() for one in found] == [[[2, 2], [2, 2]], [[10, 10], [10, 10]]]
    with pytest.raises(ValueError, match=r"11\.orbax-checkpoint-tmp: orbax was interrupted"):
        stored(tmp_path / "run" / "11.orbax-checkpoint-tmp")


def test_a_folder_of_files_keeps_names_apart(tmp_path, kept):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    np.savez(tmp_path / "net.npz", w=numbers(2, 3))
    safetensors.numpy.save_file({"w": numbers(2, 3, seed=1)}, tmp_path / "net.safetensors")
    np.save(tmp_path / "deep" / "er" / "signals.npy", numbers(4, 5))
    np.save(tmp_path / "deep" / ".signals.npy.x.tmp", numbers(4, 5))
    np.save(tmp_path / ".hidden.npy", numbers(4, 5))
    (tmp_path / "README.md").write_text("notes")
    shutil.copytree(kept, tmp_path / "v1.5")
    found = by_name(tmp_path)
    assert [name for name in found if not name.startswith("v1.5/")] == [
        "deep/er/signals",
        "net.npz/w",
        "net.safetensors/w",
    ]
    np.testing.assert_array_equal(found["net.safetensors/w"].read(), numbers(2, 3, seed=1))
    np.testing.assert_array_equal(found["v1.5/list/0"].read(), TREE["list"][0])


def test_layers_are_read_one_by_one(tmp_path, kept):
    array, half = numbers(3, 4, 5), numbers(3, 4, 5, dtype=ml_dtypes.bfloat16)
    np.savez_compressed(tmp_path / "a.npz", other=numbers(3, 2, 2), x=array)
    np.save(tmp_path / "b.npy", np.asfortranarray(array))
    safetensors.numpy.save_file({"x": half}, tmp_path / "c.safetensors")
    for name, wanted in (("a/x", array), ("b", array), ("c/x", half.astype(np.float32))):
        whole = by_name(tmp_path)[name]
        split = layers(whole)
        assert [one.name for one in split] == [f"{name}[{k}]" for k in range(3)]
        for one, slice_ in zip(split, wanted, strict=True):
            assert_reads(one, slice_, whole.stored_dtype)
        assert split[1].digest() != split[0].digest()
    split = layers(by_name(kept)["half/stack"])
    np.testing.assert_array_equal(split[1].read(), TREE["half"]["stack"][1].astype(np.float32))
    matrix = by_name(kept)["list/0"]
    assert layers(matrix) == [matrix]
    with pytest.raises(ValueError, match=r"array 'mask': got bool \(2,\); must be floating-point"):
        layers(by_name(kept)["mask"])


def test_slices_do_not_share_memory_and_a_rewritten_file_is_read_again(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 3, 4)))
    first = layers(stored(tmp_path / "a.npz")[0])[0]
    first.read()[:] = 5
    assert first.read().max() == 0
    np.savez(tmp_path / "a.npz", x=np.ones((2, 3, 4)))
    os.utime(tmp_path / "a.npz", ns=(1, 1))  # clocks of file systems may be coarse
    assert first.read().min() == 1


def test_only_headers_are_read_for_the_list(tmp_path, monkeypatch):
    """A member's numbers may be damaged and the list still be made; reading them says so."""
    np.savez(tmp_path / "a.npz", x=numbers(100, 100))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[20_000] ^= 1
    (tmp_path / "a.npz").write_bytes(content)
    (one,) = stored(tmp_path / "a.npz")
    with pytest.raises(ValueError, match=r"a\.npz, array 'x': cannot be read \(BadZipFile: Bad CRC-32"):
        one.read()


def test_the_digest_is_of_dtype_shape_and_numbers_whatever_the_file(tmp_path):
    array = numbers(3, 4)
    np.savez_compressed(tmp_path / "a.npz", x=array)
    np.save(tmp_path / "b.npy", np.asfortranarray(array.astype(">f4")))
    safetensors.numpy.save_file({"x": array}, tmp_path / "c.safetensors")
    np.savez(tmp_path / "d.npz", turned=array.reshape(4, 3), double=array.astype(np.float64), words=np.array(["a"]))
    found = {name: one.digest() for name, one in by_name(tmp_path).items()}
    wanted = hashlib.sha256(b"float32 (3, 4) " + array.tobytes()).hexdigest()
    assert found["a/x"] == found["b"] == found["c/x"] == wanted
    assert len(set(found.values())) == 4


def test_what_is_no_array_of_numbers_is_listed_and_not_read(tmp_path):
    np.savez(tmp_path / "a.npz", objects=np.array([{}, 1], object), w=numbers(2, 2))
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        archive.writestr("notes.txt", "hello")
    head = json.dumps({"w": {"dtype": "F8_E4M3", "shape": [2, 2], "data_offsets": [0, 4]}}).encode()
    (tmp_path / "f8.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + b"1234")
    np.save(tmp_path / "o.npy", np.array([None]))
    found = by_name(tmp_path)
    refused = {"a/objects": "pickled objects", "o": "pickled objects", "a/notes.txt": "a file", "f8/w": "F8_E4M3"}
    for name, what in refused.items():
        assert found[name].dtype == "unreadable"
        with pytest.raises(ValueError, match=rf"{re.escape(found[name].path)}.*holds {what}"):
            found[name].read()
    assert_reads(found["a/w"], numbers(2, 2))


def written(kind):
    file, arrays = io.BytesIO(), {"first": numbers(20, 10), "second": numbers(2, 5, 6, dtype=np.float64)}
    if kind == "safetensors":
        return safetensors.numpy.save(arrays), arrays
    if kind == "npy":
        np.save(file, arrays["first"])
        return file.getvalue(), {"net": arrays["first"]}
    (np.savez_compressed if kind == "compressed.npz" else np.savez)(file, **arrays)
    return file.getvalue(), arrays


def read_all(path):
    return {one.name: one.read() for one in stored(path)}


def attempt(path):
    """What is read of a file, or None and what was said."""
    try:
        return read_all(path), ""
    except ValueError as error:
        return None, str(error)


def same(found, wanted):
    return found.keys() == wanted.keys() and all(
        found[name].dtype == wanted[name].dtype and np.array_equal(found[name], wanted[name]) for name in wanted
    )


@pytest.mark.parametrize("kind", ["npz", "compressed.npz", "npy", "safetensors"])
def test_a_file_cut_short_is_named(tmp_path, kind):
    content, wanted = written(kind)
    path = tmp_path / f"net.{kind.split('.')[-1]}"
    path.write_bytes(content)
    assert same(read_all(path), wanted)
    for length in [*range(0, len(content), 37), len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=re.escape(str(path))):
            read_all(path)


@pytest.mark.parametrize("kind", ["npz", "compressed.npz"])
def test_a_wrong_byte_in_an_archive_is_named_or_does_no_harm(tmp_path, kind):
    content, wanted = written(kind)
    path, noticed, places = tmp_path / "net.npz", 0, range(0, len(content), 11)
    for place in places:
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :])
        found, said = attempt(path)
        assert (found is None and str(path) in said) or same(found, wanted), place
        noticed += found is None
    assert noticed > 0.8 * len(places)


@pytest.mark.parametrize("kind", ["npy", "safetensors"])
def test_a_wrong_byte_in_a_header_is_named_or_leaves_the_shapes(tmp_path, kind):
    """These formats have no checksum: a wrong number goes unseen, which is what `digest` is for."""
    content, _ = written(kind)
    path = tmp_path / f"net.{kind}"
    for place in range(128 if kind == "npy" else 200):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :])
        found, said = attempt(path)
        assert found is not None or str(path) in said


DAMAGE = """
import shutil, sys
from pathlib import Path
import numpy as np
from jaxdescramble._base.inputs.arrays import stored

def attempt(path):
    try:
        return [one.read() for one in stored(path) if one.name in ("list/0", "half/kernel")]
    except ValueError as error:
        assert str(path) in str(error), error

kept, path = Path(sys.argv[1]), Path(sys.argv[2]) / "net"
shutil.copytree(kept, path)
wanted = attempt(path)
assert len(wanted) == 2
for file in sorted(file for file in path.rglob("*") if file.is_file()):
    content, noticed = file.read_bytes(), []
    for damaged in (content[: len(content) // 2], None, bytes(100)):
        file.unlink() if damaged is None else file.write_bytes(damaged)
        found = attempt(path)
        assert found is None or all(map(np.array_equal, found, wanted)), file
        noticed.append(found is None)
        file.write_bytes(content)
    print(file.relative_to(path), all(noticed))
"""


@pytest.mark.thorough
def test_a_damaged_checkpoint_is_named_or_does_no_harm(tmp_path, kept):
    """Every file of it cut, deleted and overwritten; in a process of its own, for orbax leaves threads behind."""
    done = subprocess.run(
        [sys.executable, "-c", DAMAGE, str(kept), str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert {"_METADATA True", "manifest.ocdbt True"} <= {*done.stdout.splitlines()}


def test_sizes_that_do_not_fit_the_header_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", numbers(3, 4))
    content = (tmp_path / "a.npy").read_bytes()
    for damaged in (content + b"more", content.replace(b"(3, 4), }", b"(-3, -4)}")):
        (tmp_path / "a.npy").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"a\.npy: cannot be read \(ValueError: float32 of shape"):
            stored(tmp_path / "a.npy")


def test_a_file_that_changed_since_it_was_listed_is_named(tmp_path, kept):
    np.savez(tmp_path / "a.npz", x=numbers(3, 4))
    np.save(tmp_path / "b.npy", numbers(3, 4))
    safetensors.numpy.save_file({"x": numbers(3, 4)}, tmp_path / "c.safetensors")
    a, b, c = stored(tmp_path)
    np.savez(tmp_path / "a.npz", x=numbers(4, 3))
    np.save(tmp_path / "b.npy", numbers(3, 4, dtype=np.float64))
    safetensors.numpy.save_file({"y": numbers(3, 4)}, tmp_path / "c.safetensors")
    with pytest.raises(ValueError, match=r"a\.npz, array 'x': was float32 \(3, 4\).* is float32 \(4, 3\) now"):
        a.read()
    with pytest.raises(ValueError, match=r"b\.npy: was float32 \(3, 4\).* is float64 \(3, 4\) now"):
        b.read()
    with pytest.raises(ValueError, match=r"c\.safetensors, array 'x': cannot be read"):
        c.read()
    member = io.BytesIO()
    np.save(member, numbers(3, 4))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", member.getvalue() + b"more")
    with pytest.raises(ValueError, match=r"a\.npz, array 'x': cannot be read .*more bytes than the array needs"):
        a.read()
    (tmp_path / "a.npz").unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.npz"):
        a.read()
    gone = by_name(kept)["list/0"]
    with pytest.raises(ValueError, match=r"array 'list/5': cannot be read"):
        Stored(gone.path, "x", gone.shape, gone.dtype, gone.stored_dtype, "list/5").read()


def test_what_is_not_there_or_of_another_kind_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such file or folder; expected \.npz.*nothing\.npz"):
        stored(tmp_path / "nothing.npz")
    with pytest.raises(ValueError, match=r"no arrays in this folder; expected .*, found nothing"):
        stored(tmp_path)
    (tmp_path / "net.pt").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"no arrays in this folder; expected .*, found net\.pt"):
        stored(tmp_path)
    with pytest.raises(ValueError, match=r"net\.pt: unknown kind of file \(\.pt\); expected .*save_file"):
        stored(tmp_path / "net.pt")
    np.savez(tmp_path / "empty.npz")
    with pytest.raises(ValueError, match=r"empty\.npz: contains no arrays"):
        stored(tmp_path / "empty.npz")
    (tmp_path / "torn" / "ocdbt").mkdir(parents=True)
    (tmp_path / "torn" / "manifest.ocdbt").write_bytes(b"")
    with pytest.raises(ValueError, match=r"torn: an orbax checkpoint without _METADATA"):
        stored(tmp_path)


def test_two_arrays_of_one_name_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", **{"b/c": numbers(2, 2)})
    (tmp_path / "a").mkdir()
    np.savez(tmp_path / "a" / "b.npz", c=numbers(2, 2))
    with pytest.raises(ValueError, match="several arrays are named 'a/b/c'"):
        stored(tmp_path)
    with (
        pytest.warns(UserWarning, match="Duplicate name"),
        zipfile.ZipFile(tmp_path / "a.npz", "a") as archive,
    ):
        archive.writestr("b/c.npy", b"")
    with pytest.raises(ValueError, match=r"a\.npz: cannot be read .*two arrays are named 'b/c'"):
        stored(tmp_path / "a.npz")


def test_a_file_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    names = ("a.npz", "b.npy", "c.safetensors")
    np.savez(tmp_path / "a.npz", x=numbers(2, 2))
    np.save(tmp_path / "b.npy", numbers(2, 2))
    safetensors.numpy.save_file({"x": numbers(2, 2)}, tmp_path / "c.safetensors")
    listed = [stored(tmp_path / name)[0] for name in names]
    (tmp_path / "folder").mkdir(mode=0)
    for name in names:
        (tmp_path / name).chmod(0)
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)  # the folders above may not be entered by others
    root = os.geteuid() == 0
    if root:  # to whom nothing is forbidden
        os.seteuid(65534)
    try:
        for name, one in zip(names, listed, strict=True):
            with pytest.raises(PermissionError) as raised:
                stored(name)
            assert raised.value.filename == name
            here = Stored(name, one.name, one.shape, one.dtype, one.stored_dtype, one.key)
            with pytest.raises(PermissionError, match=name):
                here.read()
        with pytest.raises(PermissionError, match="folder"):
            stored("folder")
    finally:
        if root:
            os.seteuid(0)
        (tmp_path / "folder").chmod(0o755)


def test_without_the_extra_its_name_is_said(tmp_path, kept, monkeypatch):
    safetensors.numpy.save_file({"x": numbers(2, 2)}, tmp_path / "c.safetensors")
    original = extras.importlib.import_module

    def missing(name, *rest):
        if name.split(".")[0] in ("safetensors", "orbax"):
            raise ImportError(name)
        return original(name, *rest)

    monkeypatch.setattr(extras.importlib, "import_module", missing)
    for path, what in ((tmp_path / "c.safetensors", "safetensors"), (kept, "orbax-checkpoint")):
        with pytest.raises(ImportError, match=rf"needs {what}: pip install 'jaxdescramble\[files\]'"):
            stored(path)
    np.save(tmp_path / "b.npy", numbers(2, 2))
    assert_reads(stored(tmp_path / "b.npy")[0], numbers(2, 2))
