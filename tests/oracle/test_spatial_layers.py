"""Layers of convolution, pooling, padding, resizing and embedding against PyTorch's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import toumei as tm

torch = pytest.importorskip("torch")

Call = tuple[str, tuple[Any, ...], dict[str, Any], tuple[int, ...]]


def spatial(rank: int) -> list[Call]:
    """Return layers of `rank` dimensions: name, arguments, shape of the input."""
    image = (2, 4, *range(7, 7 + rank))
    small = (2, 4, *[3] * rank)

    def name(kind: str) -> str:
        return f"{kind}{rank}d"

    return [
        *[
            (
                name("Conv"),
                (4, 6, 3),
                {"padding": padding, "padding_mode": mode, "groups": 2},
                image,
            )
            for mode in ("zeros", "reflect", "replicate", "circular")
            for padding in (0, 2, "same", "valid", tuple(range(rank)))
        ],
        (name("Conv"), (4, 6, 2), {"padding": "same", "padding_mode": "reflect"}, image),
        (name("Conv"), (4, 2, 2), {"stride": 2, "dilation": 2, "bias": False}, image[1:]),
        (name("ConvTranspose"), (4, 6, 3), {"stride": 3, "output_padding": 2, "groups": 2}, small),
        (name("ConvTranspose"), (4, 2, 2), {"padding": 1, "dilation": 2, "bias": False}, small[1:]),
        (name("MaxPool"), (3,), {"stride": 2, "padding": 1, "ceil_mode": True}, image),
        (name("MaxPool"), (2,), {"dilation": 2, "return_indices": True}, image),
        (name("AvgPool"), (3,), {"padding": 1, "count_include_pad": False}, image),
        (name("AvgPool"), (3, 2), {"ceil_mode": True}, image[1:]),
        (name("LPPool"), (2, 3), {"stride": 2}, image),
        (name("AdaptiveAvgPool"), (3,), {}, image),
        (name("AdaptiveMaxPool"), (2,), {"return_indices": True}, image),
        (name("ConstantPad"), (1, 2.5), {}, image),
        (name("ConstantPad"), (tuple(range(2 * rank)), -1), {}, image),
        *[
            (name(f"{kind}Pad"), (padding,), {}, image)
            for kind in ("Reflection", "Replication", "Zero", "Circular")
            for padding in (2, tuple(range(2 * rank)))
        ],
    ]


IMAGE = (2, 8, 4, 6)
RESIZING: list[Call] = [
    ("Upsample", (), {"scale_factor": 2}, IMAGE),
    ("Upsample", (), {"scale_factor": (1.5, 3), "mode": "bilinear"}, IMAGE),
    ("Upsample", ((5, 3),), {"mode": "bicubic", "align_corners": True}, IMAGE),
    ("Upsample", (), {"scale_factor": 1.7, "recompute_scale_factor": True}, IMAGE),
    ("Upsample", (7,), {"mode": "linear"}, (2, 3, 4)),
    ("Upsample", (), {"scale_factor": 1.2, "mode": "linear"}, (2, 3, 4)),  # as many: a copy
    ("Upsample", (), {"scale_factor": (1.2, 2), "mode": "bilinear"}, (2, 3, 4, 5)),
    ("UpsamplingNearest2d", (5,), {}, IMAGE),
    ("UpsamplingBilinear2d", (), {"scale_factor": 2}, IMAGE),
    ("PixelShuffle", (2,), {}, IMAGE),
    ("PixelUnshuffle", (2,), {}, IMAGE),
    ("ChannelShuffle", (4,), {}, IMAGE),
    ("Unfold", ((2, 3),), {"dilation": 2, "padding": 1, "stride": 2}, IMAGE),
    ("Fold", (4, 2), {"stride": 2}, (2, 8, 4)),
]
CALLS = [*spatial(1), *spatial(2), *spatial(3), *RESIZING]


def both(name: str, args: tuple[Any, ...], options: dict[str, Any]) -> tuple[Any, Any]:
    """Return our layer and PyTorch's, in float64 and with the same weights."""
    theirs = getattr(torch.nn, name)(*args, **options).double()
    ours = getattr(tm.nn, name)(*args, **options).double()
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    return ours, theirs


def agree(ours: Any, theirs: Any) -> None:
    """Compare numbers: of a result, or of gradients, that either are there in both or in none."""
    assert (ours is None) == (theirs is None)
    if ours is not None:
        got, wanted = ours.detach().numpy(), theirs.detach().numpy()
        assert got.shape == wanted.shape and got.dtype == wanted.dtype
        np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-11)


def compare(ours: Any, theirs: Any, inputs: list[Any], **named: Any) -> None:
    """Compare results, and the gradients of floating inputs and of parameters."""
    x, z = [tm.tensor(a) for a in inputs], [torch.tensor(a) for a in inputs]
    floats = [i for i, a in enumerate(inputs) if a.dtype.kind == "f"]
    for i in floats:
        x[i].requires_grad = z[i].requires_grad = True
    results = ours(*x, **named), theirs(*z, **named)
    got, wanted = (r if isinstance(r, tuple) else (r,) for r in results)
    for a, b in zip(got, wanted, strict=True):
        agree(a, b)
    weights = np.random.default_rng(1).normal(size=got[0].shape)
    (got[0] * tm.tensor(weights)).sum().backward()
    (wanted[0] * torch.tensor(weights)).sum().backward()
    for i in floats:
        agree(x[i].grad, z[i].grad)
    mine = dict(ours.named_parameters())
    for key, parameter in theirs.named_parameters():
        agree(mine[key].grad, parameter.grad)


@pytest.mark.parametrize(("name", "args", "options", "shape"), CALLS)
def test_layer(
    name: str, args: tuple[Any, ...], options: dict[str, Any], shape: tuple[int, ...]
) -> None:
    ours, theirs = both(name, args, options)
    assert repr(ours) == repr(theirs)
    compare(ours, theirs, [np.random.default_rng(0).uniform(0.1, 2, size=shape)])


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("whole", [False, True])
def test_output_size_of_a_transposed_convolution(rank: int, whole: bool) -> None:
    ours, theirs = both(f"ConvTranspose{rank}d", (3, 2, 4), {"stride": 3, "padding": 1})
    size = [*([2, 2] if whole else []), *[13] * rank]  # least: (4 − 1)·3 − 2 + 3 + 1 = 11
    compare(
        ours, theirs, [np.random.default_rng(0).normal(size=(2, 3, *[4] * rank))], output_size=size
    )


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(("n", "size"), [(6, None), (7, 7)])
def test_max_unpool(rank: int, n: int, size: int | None) -> None:
    data = np.random.default_rng(0).normal(size=(2, 3, *[n] * rank))
    pool = getattr(torch.nn, f"MaxPool{rank}d")(2, return_indices=True)
    values, indices = (t.numpy() for t in pool(torch.tensor(data)))
    ours, theirs = both(f"MaxUnpool{rank}d", (2,), {})
    assert repr(ours) == repr(theirs)
    compare(ours, theirs, [values, indices], output_size=size and [size] * rank)


INDEX = np.array([[0, 2, 2], [4, 1, 2]])
TABLES: list[dict[str, Any]] = [
    {},
    {"padding_idx": -3},
    {"max_norm": 1.0, "norm_type": 1.0},
    {"max_norm": 0.5, "norm_type": float("inf")},
    {"padding_idx": 0, "max_norm": 0.5, "scale_grad_by_freq": True},
]


@pytest.mark.parametrize("options", TABLES)
def test_embedding(options: dict[str, Any]) -> None:
    ours, theirs = both("Embedding", (5, 3), options)
    assert repr(ours) == repr(theirs)
    compare(ours, theirs, [INDEX])
    agree(ours.weight, theirs.weight)  # max_norm has shortened rows


BAGS: list[dict[str, Any]] = [
    *[{"mode": mode} for mode in ("sum", "mean", "max")],
    *[{"mode": mode, "padding_idx": 2} for mode in ("sum", "mean", "max")],
    {"mode": "sum", "max_norm": 1.0},
    {"mode": "mean", "norm_type": 1.0},
]


@pytest.mark.parametrize("options", BAGS)
@pytest.mark.parametrize("offsets", [None, [0, 2, 2, 6], [0, 6]])
@pytest.mark.parametrize("last", [False, True])
def test_embedding_bag(options: dict[str, Any], offsets: list[int] | None, last: bool) -> None:
    ours, theirs = both("EmbeddingBag", (5, 3), {**options, "include_last_offset": last})
    assert repr(ours) == repr(theirs)
    inputs = [INDEX] if offsets is None else [INDEX.reshape(-1), np.array(offsets)]
    compare(ours, theirs, inputs)
    agree(ours.weight, theirs.weight)


def test_factors_of_an_embedding_bag() -> None:
    ours, theirs = both("EmbeddingBag", (5, 3), {"mode": "sum"})
    offsets, factors = np.array([0, 2, 2]), np.random.default_rng(0).normal(size=6)
    x = tm.tensor(factors, requires_grad=True)
    z = torch.tensor(factors, requires_grad=True)
    got = ours(tm.tensor(INDEX.reshape(-1)), tm.tensor(offsets), per_sample_weights=x)
    wanted = theirs(torch.tensor(INDEX.reshape(-1)), torch.tensor(offsets), per_sample_weights=z)
    agree(got, wanted)
    got.square().sum().backward()
    wanted.square().sum().backward()
    agree(x.grad, z.grad)
    agree(ours.weight.grad, theirs.weight.grad)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("Conv2d", (20, 30, 5)),
        ("Conv1d", (400, 30, 3, 1, 0, 1, 10)),
        ("ConvTranspose2d", (20, 30, 5)),
        ("Embedding", (300, 40)),
        ("EmbeddingBag", (300, 40)),
    ],
)
def test_start(name: str, args: tuple[Any, ...]) -> None:
    """Weights and biases start from PyTorch's distributions, within the same bounds."""
    tm.manual_seed(0)
    torch.manual_seed(0)
    ours, theirs = getattr(tm.nn, name)(*args), getattr(torch.nn, name)(*args)
    mine = dict(ours.named_parameters())
    bound = np.inf if "Embedding" in name else np.prod(theirs.weight.shape[1:]) ** -0.5
    for key, parameter in theirs.named_parameters():
        got, wanted = mine[key].detach().numpy(), parameter.detach().numpy()
        assert got.shape == wanted.shape
        assert np.abs([got, wanted]).max() <= bound
        rough = 0.02 if got.size > 1000 else 0.5
        assert got.std() == pytest.approx(wanted.std(), rel=rough)
        assert abs(got.mean() - wanted.mean()) < rough * wanted.std()
