"""tm.save and tm.load: every nesting, ties, foreign files, and files that are no good."""

from __future__ import annotations

import errno
import json
import os
import pathlib
import struct
import zipfile
from typing import Any

import numpy as np
import pytest

import toumei as tm
from toumei import nn
from toumei.errors import LoadError, SaveError

Path = pathlib.Path


def same(a: Any, b: Any) -> bool:
    """Whether two nestings are equal, types and dtypes included."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, tm.Tensor):
        return a.dtype == b.dtype and np.array_equal(a.numpy(), b.numpy(), equal_nan=True)
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b)
    return bool(a == b or a != a)


@pytest.mark.parametrize(
    "value",
    [
        tm.arange(6.0).reshape(2, 3),
        {"w": tm.ones(2), "step": 3, "lr": 0.1, "name": "ü", "none": None, "on": True},
        {"state": {0: {"m": tm.zeros(3)}, 1: {}}, "groups": [{"betas": (0.9, 0.999)}], "e": []},
        [tm.tensor(1.5), (tm.tensor([True, False]), [tm.ones(0, 3)])],
        {"a.b": tm.ones(1), "a": {"b": tm.zeros(2)}},
        {"toumei": tm.ones(1), "__metadata__": tm.zeros(1), "": tm.ones(2)},
        {"key": np.array([1, 2], np.uint64), "inf": float("inf"), "nan": float("nan")},
        {1: tm.ones(1), "1": tm.zeros(1)},
        {"tensor": "w"},
        3,
        None,
    ],
)
def test_round_trip(value: Any, tmp_path: Path) -> None:
    tm.save(value, tmp_path / "file.safetensors")
    assert same(tm.load(tmp_path / "file.safetensors"), value)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "int32", "uint8", "bool"])
def test_every_dtype(dtype: str, tmp_path: Path) -> None:
    value = tm.tensor(np.array([[0, 1, 200]]).astype(dtype))
    tm.save(value, tmp_path / "x")
    assert same(tm.load(tmp_path / "x"), value)


def test_layouts_and_views(tmp_path: Path) -> None:
    x = tm.arange(12.0).reshape(3, 4)
    state = {"t": x.T, "row": x[1], "step": x[:, ::2], "wide": tm.ones(1, 3).expand(2, 3)}
    tm.save(state, tmp_path / "x")
    loaded = tm.load(tmp_path / "x")
    assert all(np.array_equal(loaded[k].numpy(), v.numpy()) for k, v in state.items())
    loaded["row"].add_(1)  # memory of its own, which may be written
    assert np.array_equal(loaded["t"].numpy(), x.T.numpy())


def test_tied_tensors_are_stored_once_under_both_names(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(50, 50, bias=False), nn.Linear(50, 50, bias=False))
    model[1].weight = model[0].weight
    tm.save(model.state_dict(), tmp_path / "tied")
    assert (tmp_path / "tied").stat().st_size < 1.2 * 50 * 50 * 4
    loaded = tm.load(tmp_path / "tied")
    assert list(loaded) == ["0.weight", "1.weight"] and loaded["0.weight"] is loaded["1.weight"]
    model.load_state_dict(loaded)


def test_parameters_come_back_as_tensors(tmp_path: Path) -> None:
    tm.save({"w": nn.Parameter(tm.ones(2))}, tmp_path / "x")
    loaded = tm.load(tmp_path / "x")["w"]
    assert type(loaded) is tm.Tensor and not loaded.requires_grad


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"a": {"b": object()}}, r"a\.b is a object; only"),
        ({"m": nn.ReLU()}, r"m is a ReLU\. Save its state_dict\(\)"),
        ({(1, 2): 3}, "a key of the dict"),
        (np.array([1 + 2j]), "complex128"),
        ({"s": {1, 2}}, "s is a set"),
    ],
)
def test_what_no_file_can_hold(value: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(SaveError, match=words):
        tm.save(value, tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model"
    tm.save({"w": tm.ones(3)}, path)

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SaveError, match="model could not be written: No space left on device"):
        tm.save({"w": tm.zeros(3)}, path)
    assert (tm.load(path)["w"] == 1).all()
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_that_fills_up_while_writing(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    path = tmp_path / "model"
    tm.save(tm.ones(3), path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(SaveError, match=r"model could not be written.*File too large"):
            tm.save(tm.zeros(100_000), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tm.load(path) == 1).all()
    assert list(tmp_path.iterdir()) == [path]


def test_folders_are_made_and_paths_may_be_text(tmp_path: Path) -> None:
    tm.save(1, str(tmp_path / "a" / "b"))
    assert tm.load(str(tmp_path / "a" / "b")) == 1


def good_file(tmp_path: Path) -> tuple[Path, bytes]:
    path = tmp_path / "model.safetensors"
    tm.save({"w": tm.ones(100), "b": tm.ones(7)}, path)
    return path, path.read_bytes()


def test_files_cut_short_anywhere(tmp_path: Path) -> None:
    path, data = good_file(tmp_path)
    for size in [0, 1, 7, 8, 20, 150, len(data) - 400, len(data) - 1]:
        path.write_bytes(data[:size])
        with pytest.raises(LoadError, match=r"model\.safetensors is cut short, damaged") as error:
            tm.load(path)
        assert f"the file has {size} bytes" in str(error.value)


def test_damaged_files(tmp_path: Path) -> None:
    path, data = good_file(tmp_path)
    for start in range(0, 200, 3):
        damaged = bytearray(data)
        damaged[start : start + 3] = b"\xff\x00}"
        path.write_bytes(bytes(damaged))
        with pytest.raises(LoadError, match=r"model\.safetensors"):
            tm.load(path)
    path.write_bytes(data + b"more")
    with pytest.raises(LoadError, match="damaged"):
        tm.load(path)


def test_a_tree_that_names_what_is_not_there(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    trees = ['{"tensor": "v"}', '{"what": 1}', "{", "{}", '{"dict": 3}', '{"tensor": [1]}']
    for tree in trees:
        save_file({"w": np.ones(1)}, tmp_path / "x", {"toumei": tree})
        with pytest.raises(LoadError, match="x can't be read"):
            tm.load(tmp_path / "x")


def test_files_that_are_something_else(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    with pytest.raises(LoadError, match=r"model\.pt doesn't exist"):
        tm.load(path)
    for start in (b"PK\x03\x04rest", b"\x80\x02rest"):
        path.write_bytes(start * 10)
        with pytest.raises(LoadError, match=r"is a pickle.*would run code"):
            tm.load(path)
    path.write_text("hello, this is no safetensors file at all")
    with pytest.raises(LoadError, match="no safetensors file"):
        tm.load(path)
    np.savez(tmp_path / "x.npz", a=np.ones(2))
    with pytest.raises(LoadError, match=r"NumPy arrays: read it with numpy\.load"):
        tm.load(tmp_path / "x.npz")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("model.safetensors", b"")
    with pytest.raises(LoadError, match=r"a zip archive, no safetensors file: unpack it"):
        tm.load(tmp_path / "x.zip")
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 3\n")
    with pytest.raises(LoadError, match=r"Git LFS pointer.*git lfs pull"):
        tm.load(path)


def test_the_message_about_a_pickle_says_how_to_convert_it(tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(b"PK\x03\x04rest")
    for place in (path, tmp_path):  # in a folder without better, it is the file in question
        with pytest.raises(LoadError, match=r"would run code(.|\n)*torch\.save_file"):
            tm.load(place)


def raw_file(path: Path, dtype: str, shape: list[int], data: bytes) -> None:
    """Write a safetensors file by hand."""
    line = {"dtype": dtype, "shape": shape, "data_offsets": [0, len(data)]}
    header = json.dumps({"x": line}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)


def test_foreign_dtypes(tmp_path: Path) -> None:
    path = tmp_path / "x"
    values = np.array([[1.0, -2.5], [3.0e38, np.inf]], np.float32)
    raw_file(path, "BF16", [2, 2], (values.view(np.uint32) >> 16).astype("<u2").tobytes())
    loaded = tm.load(path)["x"]
    assert loaded.dtype == tm.float32 and loaded.shape == (2, 2)
    np.testing.assert_allclose(loaded.numpy(), values, rtol=2**-7)
    raw_file(path, "F16", [3], np.array([0.5, -2, 65504], "<f2").tobytes())
    assert same(tm.load(path), {"x": tm.tensor([0.5, -2.0, 65504.0])})
    raw_file(path, "I16", [2], np.array([-300, 300], "<i2").tobytes())
    assert same(tm.load(path), {"x": tm.tensor([-300, 300], dtype=tm.int32)})
    raw_file(path, "U32", [1], np.array([2**32 - 1], "<u4").tobytes())
    assert tm.load(path)["x"].item() == 2**32 - 1
    raw_file(path, "U64", [1], np.array([2**64 - 1], "<u8").tobytes())
    with pytest.raises(LoadError, match="uint64"):
        tm.load(path)
    raw_file(path, "F8_E4M3", [2], b"ab")
    with pytest.raises(LoadError, match=r"x is F8_E4M3.*convert it to F32"):
        tm.load(path)


def test_files_are_as_readers_of_the_hub_ask_for(tmp_path: Path) -> None:
    from safetensors import safe_open

    tm.save({"format": tm.ones(1), "pt": tm.zeros(2)}, tmp_path / "x")
    with safe_open(tmp_path / "x", "np") as file:
        assert file.metadata()["format"] == "pt"
    assert same(tm.load(tmp_path / "x"), {"format": tm.ones(1), "pt": tm.zeros(2)})
    line = {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}
    header = json.dumps({"__metadata__": {"format": "pt"}, "pt": line}).encode()
    (tmp_path / "y").write_bytes(struct.pack("<Q", len(header)) + header + b"\x07")
    assert same(tm.load(tmp_path / "y"), {"pt": tm.tensor([7], dtype=tm.uint8)})
