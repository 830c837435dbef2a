"""Tensors over several files: out and in, whole or not at all, and sets that don't fit together."""

from __future__ import annotations

import errno
import json
import os
import pathlib
import shutil
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import toumei as tm
from toumei import nn
from toumei.errors import LoadError, SaveError
from toumei.io import shards
from toumei.io.files import replace_with

Path = pathlib.Path
KB = {name: np.full(250, i, np.float32) for i, name in enumerate("abcde")}  # 1 kB each


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A folder with five tensors in three shards."""
    tm.save({n: tm.tensor(a) for n, a in KB.items()}, tmp_path / "model.safetensors",
            max_shard_size="2KB")  # fmt: skip
    return tmp_path


def check(loaded: dict[str, Any], factor: float = 1) -> None:
    assert list(loaded) == list(KB)
    assert all(np.array_equal(loaded[n].numpy(), factor * a) for n, a in KB.items())


def test_out_and_in(saved: Path) -> None:
    assert names(saved) == [
        "model-00001-of-00003.safetensors",
        "model-00002-of-00003.safetensors",
        "model-00003-of-00003.safetensors",
        "model.safetensors.index.json",
    ]
    for place in ("", "model.safetensors", "model.safetensors.index.json"):
        check(tm.load(saved / place))
    index = json.loads((saved / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == 5000
    assert index["weight_map"]["c"] == "model-00002-of-00003.safetensors"
    for shard in set(index["weight_map"].values()):  # any other reader finds them there
        held = load_file(saved / shard)
        assert sum(a.nbytes for a in held.values()) <= 2000
        assert all(np.array_equal(a, KB[n]) for n, a in held.items())


def test_nesting_and_ties_over_shards(tmp_path: Path) -> None:
    w = tm.arange(500.0)
    tm.save({"m": {"a": w, "b": [w, tm.ones(300)]}, "n": 3}, tmp_path / "x", max_shard_size=2000)
    loaded = tm.load(tmp_path / "x")
    assert loaded["n"] == 3 and loaded["m"]["a"] is loaded["m"]["b"][0]
    assert np.array_equal(loaded["m"]["a"].numpy(), w.numpy())
    assert len(names(tmp_path)) == 3


def test_what_others_wrote_needs_no_metadata(tmp_path: Path) -> None:
    save_file({"a": KB["a"].astype(np.float16)}, tmp_path / "one.safetensors")
    save_file({"b": KB["b"]}, tmp_path / "two.safetensors")
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    (tmp_path / "m.safetensors.index.json").write_text(json.dumps(index))
    loaded = tm.load(tmp_path / "m.safetensors.index.json")
    assert list(loaded) == ["a", "b"] and loaded["a"].dtype == tm.float32
    assert np.array_equal(loaded["b"].numpy(), KB["b"])


def test_one_file_if_it_fits_and_a_larger_tensor_alone(tmp_path: Path) -> None:
    tm.save({"a": tm.ones(250)}, tmp_path / "x.safetensors", max_shard_size="1KB")
    assert names(tmp_path) == ["x.safetensors"]
    state = {"a": tm.ones(10), "big": tm.ones(1000), "b": tm.ones(10)}
    tm.save(state, tmp_path / "y.safetensors", max_shard_size="1KiB")
    assert len(names(tmp_path)) == 5 and tm.load(tmp_path / "y.safetensors")["big"].shape == (1000,)


def test_a_later_save_takes_the_place_of_an_earlier_one(saved: Path) -> None:
    path, new = saved / "model.safetensors", {n: tm.tensor(2 * a) for n, a in KB.items()}
    (saved / "model-other.safetensors").write_bytes(b"mine")
    tm.save(new, path, max_shard_size="2KB")  # as many shards: the names are taken
    check(tm.load(path), 2)
    assert len(names(saved)) == 5
    tm.save(new, path, max_shard_size="1KB")
    assert len(names(saved)) == 7
    tm.save(new, path, max_shard_size="1MB")
    assert names(saved) == ["model-other.safetensors", "model.safetensors"]
    tm.save({n: 2 * t for n, t in new.items()}, path, max_shard_size="3KB")
    assert len(names(saved)) == 4 and not path.exists()
    check(tm.load(path), 4)


@pytest.mark.parametrize("which", range(1, 5))
def test_a_failure_leaves_the_old_tensors(
    saved: Path, which: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, calls = names(saved), []
    sync = os.fsync

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) == which:  # the three shards, then the index
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SaveError, match="could not be written: No space left on device"):
        tm.save({n: tm.zeros(250) for n in KB}, saved / "model.safetensors", max_shard_size="2KB")
    assert len(calls) == which and names(saved) == before
    check(tm.load(saved))


def test_old_and_new_are_never_mixed_whenever_it_is_cut_off(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill after any step: what a reader finds then is either wholly old or wholly new."""
    seen = []

    def spy(path: Any, write: Any) -> None:
        for done in (False, True):
            if done:
                replace_with(path, write)
            seen.append(float(tm.load(saved)["e"][0]))
            check(tm.load(saved), seen[-1] / 4)

    monkeypatch.setattr(shards, "replace_with", spy)
    monkeypatch.setattr(
        shards, "write_whole", lambda p, d: spy(p, lambda t: Path(t).write_bytes(d))
    )
    new = {n: tm.tensor(3 * a) for n, a in KB.items()}
    tm.save(new, saved / "model.safetensors", max_shard_size="2KB")
    assert seen == [4.0] * 7 + [12.0]


@pytest.mark.parametrize("size", [0, -1, "5", "five GB", "1.5XB", 2.5, True, "0GB"])
def test_sizes_that_are_none(size: Any, tmp_path: Path) -> None:
    with pytest.raises(SaveError, match="max_shard_size is"):
        tm.save({}, tmp_path / "x", max_shard_size=size)


def test_a_folder_is_no_place_for_shards(tmp_path: Path) -> None:
    with pytest.raises(SaveError, match=r"is a folder: name a file, .*model\.safetensors"):
        tm.save({"a": tm.ones(9), "b": tm.ones(9)}, tmp_path, max_shard_size=8)


# --- sets that don't fit together ----------------------------------------------------------------


def refused(place: Path, words: str) -> None:
    with pytest.raises(LoadError, match=words):
        tm.load(place)


def test_shards_missing_short_and_mixed_up(saved: Path) -> None:
    second = saved / "model-00002-of-00003.safetensors"
    data = second.read_bytes()
    second.unlink()
    refused(saved, r"00002-of-00003.safetensors doesn't exist \(it is a shard that .*index\.json")
    for size in (0, 5, 60, len(data) - 1):
        second.write_bytes(data[:size])
        refused(saved, f"00002-of-00003.safetensors is cut short.*{size} bytes.*it is a shard")
    shutil.copy(saved / "model-00001-of-00003.safetensors", second)
    refused(saved, r"00002-of-00003.safetensors doesn't belong to .*: it has no c, d")


def test_tensors_that_the_index_leaves_out(saved: Path) -> None:
    path = saved / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    del index["weight_map"]["d"], index["metadata"]["toumei"]
    path.write_text(json.dumps(index))
    with pytest.warns(UserWarning, match="00002-of-00003.safetensors also holds d, which"):
        assert list(tm.load(saved)) == ["a", "b", "c", "e"]


@pytest.mark.parametrize(
    "name",
    ["../secret.safetensors", "/etc/x.safetensors", "sub/x.safetensors", "..\\x.safetensors",
     "C:x.safetensors", "..", "", 3, None, ["x"]],
)  # fmt: skip
def test_an_index_leads_to_no_other_folder(name: Any, tmp_path: Path) -> None:
    save_file({"a": KB["a"]}, tmp_path / "secret.safetensors")
    inner = tmp_path / "inner"
    (inner / "sub").mkdir(parents=True)
    save_file({"a": KB["a"]}, inner / "sub" / "x.safetensors")
    index = inner / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": name}}))
    refused(index, "a is said to be in .*, which is no file next to the index")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"weight_map": ', "can't be read"),
        ('{"weight_map": {}}', "no index of safetensors files: it has no weight_map"),
        ('{"weight_map": []}      ', "it has no weight_map"),
        ('{"architectures": ["BertModel"]}', "it has no weight_map"),
        ('{"weight_map": {"a": "pytorch_model-1.bin"}}', r"is a pickle(.|\n)*save_file"),
        ('{"a": ' * 100_000, "can't be read"),
    ],
)
def test_files_that_are_no_index(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(text)
    refused(tmp_path / "x.json", words)


def test_folders_without_and_with_several(tmp_path: Path) -> None:
    refused(tmp_path, "a folder without a safetensors file")
    save_file({"a": KB["a"]}, tmp_path / "first.safetensors")
    assert list(tm.load(tmp_path)) == ["a"]
    save_file({"b": KB["b"]}, tmp_path / "second.safetensors")
    refused(tmp_path, r"has several: name one of first\.safetensors, second\.safetensors")
    save_file({"c": KB["c"]}, tmp_path / "model.safetensors")
    assert list(tm.load(tmp_path)) == ["c"]


def test_a_whole_model_by_shards(tmp_path: Path) -> None:
    def net() -> nn.Sequential:
        return nn.Sequential(nn.Linear(8, 30), nn.Tanh(), nn.Linear(30, 4))

    ours, other = net(), net()
    tm.save(ours.state_dict(), tmp_path / "model.safetensors", max_shard_size=600)
    other.load_state_dict(tm.load(tmp_path))
    x = tm.ones(2, 8)
    assert np.array_equal(ours(x).detach().numpy(), other(x).detach().numpy())
