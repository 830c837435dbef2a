"""What people who come from PyTorch type without thinking."""

from __future__ import annotations

import numpy as np
import pytest

import toumei as tm
from toumei.errors import OpError

MAKERS = {
    "zeros": lambda **k: tm.zeros(2, **k),
    "full": lambda **k: tm.full((2,), 1.5, **k),
    "arange": lambda **k: tm.arange(3, **k),
    "eye": lambda **k: tm.eye(2, **k),
    "tensor": lambda **k: tm.tensor([1.0], **k),
    "as_tensor": lambda **k: tm.as_tensor([1.0], **k),
    "ones_like": lambda **k: tm.ones_like(tm.ones(2), **k),
    "new_zeros": lambda **k: tm.ones(2).new_zeros(3, **k),
    "randn": lambda **k: tm.randn(2, **k),
    "randint": lambda **k: tm.randint(5, (2,), **k),
    "randperm": lambda **k: tm.randperm(3, **k),
    "normal": lambda **k: tm.normal(0.0, 1.0, (2,), **k),
    "tril_indices": lambda **k: tm.tril_indices(2, 2, **k),
    "hann": lambda **k: tm.signal.windows.hann(4, **k),
}


@pytest.mark.parametrize("name", MAKERS)
def test_whatever_makes_tensors_takes_a_device(name: str) -> None:
    make = MAKERS[name]
    for device in ("cpu", "cpu:0", tm.device("cpu"), tm.ones(1).device, None):
        assert make(device=device).device == "cpu"
    with pytest.raises(OpError, match=r"'cuda'.*the only device is 'cpu'"):
        make(device="cuda")


def test_a_device_is_a_string_with_a_type() -> None:
    device = tm.device("cpu")
    assert (device.type, device.index, str(device)) == ("cpu", None, "cpu")
    assert repr(device) == "device(type='cpu')"
    assert tm.ones(2).to(device).device == device
    with pytest.raises(OpError, match="cuda:1"):
        tm.device("cuda", 1)
    with pytest.raises(OpError, match="cuda"):
        tm.ones(2).to("cuda")


def test_comparing_with_what_is_no_number_is_just_false() -> None:
    x = tm.ones(2)
    assert (x == None) is False and (x != None) is True  # noqa: E711
    assert (x == "a") is False
    assert (x == np.ones(2)).all() and (x == 1).all()


def test_a_single_element_formats_as_its_number() -> None:
    loss = tm.tensor(1.5, requires_grad=True) * 2
    assert f"{loss}" == "3.0" and f"{loss:.2f}" == "3.00" and f"{tm.tensor(3)}" == "3"
    assert f"{tm.tensor([1, 2])}" == "tensor([1, 2])"
    with pytest.raises(TypeError):
        format(tm.ones(2), ".2f")


def test_dtypes_have_pytorchs_other_names() -> None:
    assert (tm.float, tm.double, tm.int, tm.long) == (tm.float32, tm.float64, tm.int32, tm.int64)
    assert tm.ones(2, dtype=tm.long).dtype == tm.int64


def test_numpy_of_a_tensor_that_requires_grad_can_be_forced() -> None:
    x = tm.ones(2, requires_grad=True)
    assert x.numpy(force=True).tolist() == [1.0, 1.0]
    with pytest.raises(tm.errors.GradError):
        x.numpy()


def test_asarray_shares_or_copies_as_asked() -> None:
    a = np.zeros(2)
    tm.asarray(a).add_(1)
    tm.asarray(a, copy=True).add_(1)
    assert a.tolist() == [1.0, 1.0]
    with pytest.raises(OpError, match="without a copy"):
        tm.asarray([1.0], copy=False)
    with pytest.raises(OpError, match="without a copy"):
        tm.asarray(a, dtype=tm.float32, copy=False)


def test_memory_formats_have_names() -> None:
    x = tm.ones(1, 2, 3, 4).to(memory_format=tm.channels_last)
    assert x.stride() == (24, 1, 8, 2)
    assert x.to(memory_format=tm.contiguous_format).is_contiguous()
    assert x.to(memory_format=tm.preserve_format) is x


def test_a_shape_can_be_given_by_name() -> None:
    for make in (tm.zeros, tm.ones, tm.empty, tm.rand, tm.randn, tm.ones(1).new_zeros):
        assert make(size=(2, 3)).shape == (2, 3)
    assert tm.ones(2).broadcast_to(3, 2).shape == tm.broadcast_to(tm.ones(2), (3, 2)).shape


def test_a_generator_knows_its_device() -> None:
    for g in (tm.Generator("cpu"), tm.Generator(device="cpu"), tm.Generator(0)):
        assert g.device == "cpu" and g.initial_seed() == 0
    with pytest.raises(OpError, match="cuda"):
        tm.Generator(device="cuda")
    assert tm.seed() == tm.initial_seed()


def test_normal_takes_whole_numbers() -> None:
    assert tm.normal(0, 1, (2,)).shape == (2,)
    assert tm.normal(tm.zeros(3), 2).shape == (3,)
    with pytest.raises(OpError, match="-1"):
        tm.normal(0, -1, (2,))


def test_type_as_and_nbytes() -> None:
    x = tm.ones(2, 3).type_as(tm.arange(1))
    assert x.dtype == tm.int64 and x.nbytes == 48


def test_cat_and_stack_take_axis() -> None:
    x = tm.ones(2, 3)
    assert tm.cat((x, x), axis=1).shape == (2, 6) and tm.stack((x, x), axis=-1).shape == (2, 3, 2)


def test_the_class_makes_floats_as_in_pytorch() -> None:
    assert tm.Tensor([1, 2]).dtype == tm.float32
    assert tm.Tensor(tm.tensor([1, 2])).dtype == tm.int64
    with pytest.raises(tm.errors.OpTypeError, match=r"a number or a size\? Use tm\.tensor\(5\)"):
        tm.Tensor(5)
