"""Neural-network functions against PyTorch, where the OpInfo samples don't reach."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import toumei as tm
import toumei.nn.functional as F

torch = pytest.importorskip("torch")
TF = torch.nn.functional

Pair = tuple[Any, Any]


def pair(array: Any) -> Pair:
    """Return an array as PyTorch's and as our tensor; floats require grad."""
    a, b = torch.from_numpy(np.array(array)), tm.from_numpy(np.array(array))
    return (a.requires_grad_(), b.requires_grad_()) if array.dtype.kind == "f" else (a, b)


def agree(
    theirs: Callable[..., Any], ours: Callable[..., Any], *arrays: Any, rtol: float = 1e-8
) -> None:
    """Compare values and gradients."""
    pairs = [pair(a) for a in arrays]
    y, z = theirs(*(p[0] for p in pairs)), ours(*(p[1] for p in pairs))
    weights = np.random.default_rng(1).normal(size=tuple(y.shape))
    np.testing.assert_allclose(z.detach().numpy(), y.detach().numpy(), rtol, 1e-11)
    y.backward(torch.from_numpy(weights))
    z.backward(tm.from_numpy(weights))
    for a, b in pairs:
        if a.requires_grad:
            np.testing.assert_allclose(b.grad.numpy(), a.grad.numpy(), rtol, 1e-9)


def normal(*shape: int) -> Any:
    return np.random.default_rng(len(shape)).normal(size=shape)


LARGE: dict[str, tuple[Callable[..., Any], Callable[..., Any], list[tuple[int, ...]]]] = {
    "softmax": (lambda x: TF.softmax(x, -1), lambda x: F.softmax(x, -1), [(700, 301)]),
    "softmax of one": (lambda x: TF.softmax(x, 1), lambda x: F.softmax(x, 1), [(70000, 1)]),
    "softmax of ten": (lambda x: TF.softmax(x, 1), lambda x: F.softmax(x, 1), [(500, 10)]),
    "softmax of 32": (lambda x: TF.softmax(x, -1), lambda x: F.softmax(x, -1), [(9, 300, 32)]),
    "log_softmax of ten": (
        lambda x: TF.log_softmax(x, 1),
        lambda x: F.log_softmax(x, 1),
        [(9000, 10)],
    ),
    "softmax, middle": (lambda x: TF.softmax(x, 1), lambda x: F.softmax(x, 1), [(70, 300, 7)]),
    "log_softmax": (lambda x: TF.log_softmax(x, 2), lambda x: F.log_softmax(x, 2), [(7, 99, 301)]),
    "gelu": (TF.gelu, F.gelu, [(700, 301)]),
    "silu": (TF.silu, F.silu, [(700, 301)]),
}


@pytest.mark.parametrize("name", LARGE)
def test_arrays_taken_in_blocks(name: str) -> None:
    theirs, ours, shapes = LARGE[name]
    agree(theirs, ours, *[normal(*s) for s in shapes])


def test_gelu_in_single_precision() -> None:
    x = np.linspace(-12, 12, 20001)
    y = F.gelu(tm.from_numpy(x.astype(np.float32))).numpy()
    exact = TF.gelu(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(y, exact, 3e-6, 1e-6)


@pytest.mark.parametrize("shape", [(6, 3), (4, 3, 5), (2, 3, 4, 4)])
@pytest.mark.parametrize("momentum", [0.1, 1.0, 0.0])
def test_running_statistics(shape: tuple[int, ...], momentum: float) -> None:
    x = normal(*shape)
    for theirs, ours in ((TF.batch_norm, F.batch_norm), (TF.instance_norm, F.instance_norm)):
        if theirs is TF.instance_norm and len(shape) < 3:
            continue
        mean, var = (pair(a) for a in (normal(3), np.abs(normal(3)) + 1))
        for _ in range(2):
            theirs(
                torch.from_numpy(x), mean[0].detach(), var[0].detach(), None, None, True, momentum
            )
            ours(tm.from_numpy(x), mean[1].detach(), var[1].detach(), None, None, True, momentum)
        np.testing.assert_allclose(mean[1].detach().numpy(), mean[0].detach().numpy(), 1e-12)
        np.testing.assert_allclose(var[1].detach().numpy(), var[0].detach().numpy(), 1e-12)


@pytest.mark.parametrize("seed", range(12))
def test_ctc_loss_behind_log_softmax(seed: int) -> None:
    rng = np.random.default_rng(seed)
    t, n, c, s = rng.integers(1, 12), rng.integers(1, 5), rng.integers(2, 6), rng.integers(0, 5)
    blank = int(rng.integers(0, c))
    counts, steps = rng.integers(0, s + 1, n), rng.integers(1, t + 1, n)
    labels = rng.integers(0, c - 1, (n, s))
    labels += labels >= blank
    if seed % 2:  # one sequence after the other
        labels = np.concatenate([row[:k] for row, k in zip(labels, counts, strict=True)])
    x = rng.normal(size=(t, n, c))
    for reduction, zero in itertools.product(("none", "mean", "sum"), (True, False)):
        losses = []
        for i, f in ((0, TF), (1, F)):
            args = pair(labels)[i], pair(steps)[i], pair(counts)[i], blank, reduction, zero
            losses.append(partial(_ctc, f, args))
        if zero:
            agree(*losses, x)
        else:  # the gradient of an infinite loss is NaN in PyTorch, 0 here
            a, b = (f(p.detach()) for f, p in zip(losses, pair(x), strict=True))
            np.testing.assert_allclose(b.numpy(), a.numpy(), 1e-10, 1e-10)


def _ctc(functional: Any, args: Any, x: Any) -> Any:
    return functional.ctc_loss(x.log_softmax(2), *args)


E, HEADS, LENGTH = 8, 2, 4


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("mask", ["none", "bool", "float", "per head"])
@pytest.mark.parametrize("extra", [False, True])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("batched", [False, True])
def test_multi_head_attention(
    separate: bool, mask: str, extra: bool, padded: bool, batched: bool
) -> None:
    n, s = (3 if batched else 1), 5
    batch = (n,) if batched else ()
    masks = {
        "none": None,
        "bool": np.triu(np.ones((LENGTH, s), bool), 2),
        "float": normal(LENGTH, s),
        "per head": normal(n * HEADS, LENGTH, s),
    }
    padding = np.zeros((*batch, s), bool)
    padding[..., -1] = True
    if mask in ("float", "per head"):  # PyTorch wants both masks of one dtype
        padding = np.where(padding, -np.inf, 0.0)
    fixed = {
        "in_proj_weight": None if separate else normal(3 * E, E),
        "in_proj_bias": normal(3 * E),
        "bias_k": normal(1, 1, E) if extra else None,
        "bias_v": normal(1, 1, E) if extra else None,
        "out_proj_weight": normal(E, E),
        "out_proj_bias": normal(E),
        "attn_mask": masks[mask],
        "key_padding_mask": padding if padded else None,
    }
    if separate:
        fixed |= {f"{name}_proj_weight": normal(E, E) for name in "qkv"}
    options = {
        "embed_dim_to_check": E,
        "num_heads": HEADS,
        "add_zero_attn": extra,
        "dropout_p": 0.0,
        "training": False,
        "use_separate_proj_weight": separate,
        "average_attn_weights": extra,
    }

    def run(i: int, f: Any, part: int) -> Callable[..., Any]:
        tensors = {k: None if v is None else pair(v)[i].detach() for k, v in fixed.items()}
        return lambda q, k: f.multi_head_attention_forward(q, k, k, **tensors, **options)[part]

    for part in (0, 1):
        agree(run(0, TF, part), run(1, F, part), normal(LENGTH, *batch, E), normal(s, *batch, E))


@pytest.mark.parametrize("kind", ["none", "causal", "bool", "float"])
def test_attention_with_groups_and_blind_queries(kind: str) -> None:
    mask = np.ones((3, 5), bool)
    mask[1] = False  # a query that may look nowhere
    tensors = {"bool": mask, "float": np.where(mask, 0.3, -np.inf)}

    def run(i: int, f: Any) -> Callable[..., Any]:
        options: dict[str, Any] = {"is_causal": True} if kind == "causal" else {}
        if kind in tensors:
            options["attn_mask"] = pair(tensors[kind])[i].detach()
        return lambda q, k, v: f.scaled_dot_product_attention(q, k, v, enable_gqa=True, **options)

    agree(run(0, TF), run(1, F), normal(2, 4, 3, 8), normal(2, 2, 5, 8), normal(2, 2, 5, 8) + 1)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", [(5, 4), (2, 4, 3), (2, 4, 3, 2)])
def test_cross_entropy_of_many_kinds(
    smoothing: float, weighted: bool, shape: tuple[int, ...]
) -> None:
    labels = np.random.default_rng(0).integers(0, 4, (shape[0], *shape[2:]))
    labels.flat[0] = 2
    weight = np.array([0.5, 1.0, 2.0, 0.0]) if weighted else None

    def run(i: int, f: Any, reduction: str) -> Callable[..., Any]:
        w = None if weight is None else pair(weight)[i].detach()
        options = {"ignore_index": 2, "reduction": reduction, "label_smoothing": smoothing}
        return lambda x: f.cross_entropy(x, pair(labels)[i], w, **options)

    for reduction in ("none", "mean", "sum"):
        agree(run(0, TF, reduction), run(1, F, reduction), normal(*shape))


@pytest.mark.parametrize(
    "name",
    ["relu", "relu6", "leaky_relu", "elu", "selu", "celu", "silu", "mish", "hardtanh", "hardswish"],
)
def test_in_place_activations(name: str) -> None:
    def run(f: Any) -> Callable[..., Any]:
        def chain(x: Any) -> Any:
            y = x * 2
            z = getattr(f, name)(y, inplace=True)
            assert z is y
            return z * y

        return chain

    agree(run(TF), run(F), normal(4, 5))
