"""Files that PyTorch writes, and files that it reads."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest

import toumei as tm
from toumei import nn
from toumei.errors import LoadError

torch = pytest.importorskip("torch")


def networks() -> tuple[nn.Sequential, torch.nn.Sequential]:
    return tuple(
        lib.nn.Sequential(lib.nn.Linear(3, 4), lib.nn.Tanh(), lib.nn.Linear(4, 2))
        for lib in (tm, torch)
    )  # type: ignore[return-value]


def test_there_and_back(tmp_path: pathlib.Path) -> None:
    from safetensors.torch import load_file, save_file

    ours, theirs = networks()
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    save_file(theirs.state_dict(), tmp_path / "theirs")
    ours.load_state_dict(tm.load(tmp_path / "theirs"))
    wanted = theirs(torch.tensor(x)).detach().numpy()
    np.testing.assert_allclose(ours(tm.tensor(x)).detach().numpy(), wanted, rtol=1e-5, atol=1e-6)
    with tm.no_grad():
        ours[0].weight.mul_(2)
    tm.save(ours.state_dict(), tmp_path / "ours")
    theirs.load_state_dict(load_file(tmp_path / "ours"))
    wanted = theirs(torch.tensor(x)).detach().numpy()
    np.testing.assert_allclose(ours(tm.tensor(x)).detach().numpy(), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision(dtype: str, tmp_path: pathlib.Path) -> None:
    from safetensors.torch import save_file

    x = torch.randn(7, 3).to(getattr(torch, dtype))
    save_file({"x": x}, tmp_path / "x")
    np.testing.assert_array_equal(tm.load(tmp_path / "x")["x"].numpy(), x.float().numpy())


def test_tied_weights_both_ways(tmp_path: pathlib.Path) -> None:
    from safetensors.torch import load_model, save_model

    ours, theirs = (
        lib.nn.Sequential(lib.nn.Linear(3, 3, bias=False), lib.nn.Linear(3, 3, bias=False))
        for lib in (tm, torch)
    )
    for net in (ours, theirs):
        net[1].weight = net[0].weight
    save_model(theirs, str(tmp_path / "theirs"))
    loaded = tm.load(tmp_path / "theirs")
    assert set(loaded) == {"0.weight", "1.weight"} and loaded["0.weight"] is loaded["1.weight"]
    ours.load_state_dict(loaded)
    tm.save({k: v * 2 for k, v in [("0.weight", ours[0].weight.detach())]}, tmp_path / "ours")
    load_model(theirs, str(tmp_path / "ours"))
    np.testing.assert_array_equal(
        theirs[1].weight.detach().numpy(), 2 * ours[1].weight.detach().numpy()
    )


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_a_state_dict_of_pytorch_without_a_file(dtype: str) -> None:
    ours, theirs = networks()
    theirs.to(getattr(torch, dtype))
    for state in (theirs.state_dict(), dict(theirs.named_parameters())):  # the latter needs grad
        with tm.no_grad():
            ours[0].weight.zero_()
        ours.load_state_dict(state)
        for name, value in theirs.state_dict().items():
            wanted = value.float().numpy()
            np.testing.assert_array_equal(ours.state_dict()[name].numpy(), wanted)
    theirs.load_state_dict({n: torch.from_numpy(t.numpy()) for n, t in ours.state_dict().items()})


def test_a_checkpoint_around_the_state_dict() -> None:
    ours, theirs = networks()
    with pytest.raises(LoadError, match="unexpected model, a dict in itself: is it that one"):
        ours.load_state_dict({"model": theirs.state_dict(), "epoch": 3})
    sparse = {**theirs.state_dict(), "0.weight": torch.ones(4, 3).to_sparse()}
    with pytest.raises(LoadError, match=r"0\.weight, a Tensor, can.t be read: "):
        ours.load_state_dict(sparse)


def test_the_pickle_of_a_state_dict_is_refused_and_converted_as_the_message_says(
    tmp_path: pathlib.Path,
) -> None:
    from safetensors.torch import save_file

    ours, theirs = networks()
    for new in (True, False):
        path = tmp_path / "model.pt"
        torch.save(theirs.state_dict(), path, _use_new_zipfile_serialization=new)
        with pytest.raises(LoadError, match=r"is a pickle(.|\n)*save_file\("):
            tm.load(path)
    save_file(torch.load(path, weights_only=True), tmp_path / "model.safetensors")
    ours.load_state_dict(tm.load(tmp_path / "model.safetensors"))
    np.testing.assert_array_equal(ours[0].weight.detach().numpy(), theirs[0].weight.detach())
