"""Attention and transformers against PyTorch, in float64."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import toumei as tm

torch = pytest.importorskip("torch")
from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: E402

Arrays = list[Any]
N, S, T, E, HEADS = 3, 5, 4, 8, 2
pytestmark = pytest.mark.filterwarnings("ignore:enable_nested_tensor")  # PyTorch on its speed
NAMES = ["MultiheadAttention", "TransformerEncoderLayer", "TransformerEncoder",
         "TransformerDecoderLayer", "TransformerDecoder", "Transformer"]  # fmt: skip


@pytest.fixture(autouse=True)
def by_formula() -> Iterator[None]:
    """Attention by formula: PyTorch's fast one has no second derivative."""
    with sdpa_kernel(SDPBackend.MATH):
        yield


def normal(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def tensors(library: Any, arrays: Any) -> Any:
    """Return the same arguments with arrays as a library's tensors."""
    if isinstance(arrays, dict):
        return {k: tensors(library, v) for k, v in arrays.items()}
    return library.tensor(arrays) if isinstance(arrays, np.ndarray) else arrays


def twins(make: Callable[[Any], Any]) -> tuple[Any, Any]:
    """Make a model of both libraries; load random weights into ours, and from there into theirs."""
    theirs, ours = make(torch).double(), make(tm).double()
    state = theirs.state_dict()
    assert list(ours.state_dict()) == list(state)
    for i, (name, value) in enumerate(state.items()):
        state[name] = 0.5 * normal(*value.shape, seed=i) + ("norm" in name)
    ours.load_state_dict(state)
    theirs.load_state_dict({k: torch.from_numpy(v.numpy()) for k, v in ours.state_dict().items()})
    return theirs, ours


def outcome(library: Any, model: Any, arrays: Arrays, options: dict[str, Any]) -> Arrays:
    """Return outputs, all gradients of a weighted sum of them, and all second derivatives."""
    inputs = [library.tensor(a).requires_grad_() for a in arrays]
    outs = model(*inputs, **tensors(library, options))
    outs = [o for o in (outs if isinstance(outs, tuple) else (outs,)) if o is not None]
    leaves = [*inputs, *model.parameters()]

    def derived(values: Any, seed: int, **graph: Any) -> Any:
        total = sum((v * library.tensor(normal(*v.shape, seed=seed))).sum() for v in values)
        return library.autograd.grad(total, leaves, materialize_grads=True, **graph)

    first = derived(outs, 1, create_graph=True)
    second = derived(first, 2)
    return [t.detach().numpy() for t in (*outs, *first, *second)]


def agree(make: Callable[[Any], Any], arrays: Arrays, options: dict[str, Any]) -> None:
    theirs, ours = twins(make)
    wanted = outcome(torch, theirs, arrays, options)
    got = outcome(tm, ours, arrays, options)
    assert len(got) == len(wanted)
    for i, (a, b) in enumerate(zip(got, wanted, strict=True)):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-9 * abs(b).max() + 1e-12, err_msg=i)


def arranged(batch_first: bool, *arrays: Any) -> Arrays:
    """Return arrays (n, length, features) in the order that a layer takes."""
    return [a if batch_first else np.ascontiguousarray(a.swapaxes(0, 1)) for a in arrays]


def causal(n: int, kind: str) -> Any:
    mask = np.triu(np.ones((n, n), bool), 1)
    return mask if kind == "bool" else np.where(mask, -np.inf, 0.0)


def padding(length: int, kind: str) -> Any:
    """Return a mask that hides the last position of one sequence and the last two of another."""
    mask = np.zeros((N, length), bool)
    mask[1, -1:] = mask[2, -2:] = True
    return mask if kind == "bool" else np.where(mask, -np.inf, 0.0)


ATTENTIONS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({"batch_first": True}, {"need_weights": False}),
    ({"batch_first": True}, {"average_attn_weights": False}),
    ({"bias": False}, {"attn_mask": np.triu(np.ones((T, S), bool), 2)}),
    ({"add_bias_kv": True}, {"attn_mask": normal(T, S), "key_padding_mask": padding(S, "float")}),
    ({"add_zero_attn": True}, {"key_padding_mask": padding(S, "bool"), "need_weights": False}),
    ({"kdim": 3, "vdim": 6}, {"need_weights": False}),
    ({"kdim": 3, "vdim": 6, "bias": False, "batch_first": True}, {}),
    (
        {"add_bias_kv": True, "add_zero_attn": True, "batch_first": True},
        {"attn_mask": normal(N * HEADS, T, S), "average_attn_weights": False},
    ),
    (
        {"add_bias_kv": True, "add_zero_attn": True, "kdim": 3},
        {
            "attn_mask": np.triu(np.ones((N * HEADS, T, S), bool), 2),
            "key_padding_mask": padding(S, "bool"),
            "need_weights": False,
        },
    ),
    (
        {"dropout": 0.0},
        {"attn_mask": causal(max(S, T), "bool")[:T, :S], "is_causal": True},
    ),
]


@pytest.mark.parametrize(("options", "call"), ATTENTIONS)
def test_attention(options: dict[str, Any], call: dict[str, Any]) -> None:
    sizes = E, options.get("kdim", E), options.get("vdim", E)
    arrays = [normal(N, length, e) for length, e in zip((T, S, S), sizes, strict=True)]
    arrays = arranged(options.get("batch_first", False), *arrays)
    agree(lambda lib: lib.nn.MultiheadAttention(E, HEADS, **options), arrays, call)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("call", [{}, {"need_weights": False}, {"average_attn_weights": False}])
def test_attention_to_itself_without_a_batch(batch_first: bool, call: dict[str, Any]) -> None:
    def make(lib: Any) -> Any:
        class ToItself(lib.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.part = lib.nn.MultiheadAttention(E, HEADS, batch_first=batch_first)

            def forward(self, x: Any, **kwargs: Any) -> Any:
                return self.part(x, x, x, **kwargs)

        return ToItself()

    agree(make, [normal(S, E)], {**call, "key_padding_mask": np.arange(S) > 2})


@pytest.mark.parametrize("need_weights", [False, True])
def test_query_that_may_look_nowhere(need_weights: bool) -> None:
    """With weights it gets NaN, without them zeros (projected out), as in PyTorch."""
    theirs, ours = twins(lambda lib: lib.nn.MultiheadAttention(E, HEADS))
    mask = np.zeros((S, S), bool)
    mask[1] = True
    x = normal(S, N, E)
    results = [
        model(*[lib.tensor(x)] * 3, attn_mask=lib.tensor(mask), need_weights=need_weights)
        for lib, model in ((torch, theirs), (tm, ours))
    ]
    wanted, got = ([None if t is None else t.detach().numpy() for t in r] for r in results)
    assert np.isnan(got[0][1]).all() == need_weights
    for a, b in zip(got, wanted, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_allclose(a, b, 1e-10, 1e-12)


OPTIONS: list[dict[str, Any]] = [
    {},
    {"batch_first": True, "norm_first": True},
    {"activation": "gelu", "layer_norm_eps": 0.1},
    {"activation": "relu", "bias": False, "batch_first": True},
    {"norm_first": True, "bias": False},
]
MASKS = ["none", "causal", "causal float", "padding", "padding float", "both", "both float"]


def encoder_masks(kind: str, name: str) -> dict[str, Any]:
    of = "float" if kind.endswith("float") else "bool"
    masks: dict[str, Any] = {}
    if kind.startswith(("causal", "both")):
        masks |= {name: causal(S, of), "is_causal": True}
    if kind.startswith(("padding", "both")):
        masks["src_key_padding_mask"] = padding(S, of)
    return masks


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("kind", MASKS)
def test_encoder_layer(options: dict[str, Any], kind: str) -> None:
    def make(lib: Any) -> Any:
        return lib.nn.TransformerEncoderLayer(E, HEADS, 6, 0.0, **options)

    x = arranged(options.get("batch_first", False), normal(N, S, E))
    agree(make, x, encoder_masks(kind, "src_mask"))


def decoder_masks(kind: str) -> dict[str, Any]:
    of = "float" if kind.endswith("float") else "bool"
    masks: dict[str, Any] = {}
    if kind.startswith(("causal", "both")):
        masks = {"tgt_mask": causal(T, of), "tgt_is_causal": True}
        masks["memory_mask"] = causal(S, of)[:T]
    if kind.startswith(("padding", "both")):
        masks["tgt_key_padding_mask"] = padding(T, of)
        masks["memory_key_padding_mask"] = padding(S, of)
    return masks


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("kind", MASKS)
def test_decoder_layer(options: dict[str, Any], kind: str) -> None:
    def make(lib: Any) -> Any:
        return lib.nn.TransformerDecoderLayer(E, HEADS, 6, 0.0, **options)

    x = arranged(options.get("batch_first", False), normal(N, T, E), normal(N, S, E))
    agree(make, x, decoder_masks(kind))


@pytest.mark.parametrize("kind", ["none", "both"])
def test_activation_of_the_users(kind: str) -> None:
    """A function or a module does as the activation."""

    def make(lib: Any) -> Any:
        layers = lib.nn.TransformerEncoderLayer, lib.nn.TransformerEncoder
        activation = lib.tanh if kind == "none" else lib.nn.SiLU()
        return layers[1](layers[0](E, HEADS, 6, 0.0, activation), 2, enable_nested_tensor=False)

    agree(make, [normal(S, N, E)], encoder_masks(kind, "mask"))


@pytest.mark.parametrize("norm", [False, True])
def test_stacks(norm: bool) -> None:
    def encoder(lib: Any) -> Any:
        layer = lib.nn.TransformerEncoderLayer(E, HEADS, 6, 0.0, batch_first=True)
        return lib.nn.TransformerEncoder(layer, 2, lib.nn.LayerNorm(E) if norm else None)

    def decoder(lib: Any) -> Any:
        layer = lib.nn.TransformerDecoderLayer(E, HEADS, 6, 0.0, batch_first=True)
        return lib.nn.TransformerDecoder(layer, 2, lib.nn.LayerNorm(E) if norm else None)

    agree(encoder, [normal(N, S, E)], encoder_masks("both", "mask"))
    agree(decoder, [normal(N, T, E), normal(N, S, E)], decoder_masks("both float"))


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("batched", [False, True])
def test_transformer(options: dict[str, Any], batched: bool) -> None:
    """In evaluation, where dropout does nothing."""
    arrays = arranged(options.get("batch_first", False), normal(N, S, E), normal(N, T, E))
    masks = {k: v for k, v in decoder_masks("both").items() if k != "memory_mask"}
    masks["src_key_padding_mask"] = masks["memory_key_padding_mask"]
    if not batched:
        masks = {k: v[1] if k.endswith("padding_mask") else v for k, v in masks.items()}
        arrays = [normal(S, E), normal(T, E)]

    def make(lib: Any) -> Any:
        return lib.nn.Transformer(E, HEADS, 1, 2, 6, 0.3, **options).eval()

    agree(make, arrays, masks)


def test_parts_of_the_users() -> None:
    """A custom encoder and decoder are called as the built-in ones are."""

    def make(lib: Any) -> Any:
        class Half(lib.nn.Module):
            def forward(self, x: Any, memory: Any = None, **kwargs: Any) -> Any:
                assert len(kwargs) == (3 if memory is None else 6)
                return x / 2 if memory is None else x * memory.mean()

        return lib.nn.Transformer(E, HEADS, custom_encoder=Half(), custom_decoder=Half())

    agree(make, [normal(S, N, E), normal(T, N, E)], {})


@pytest.mark.parametrize("n", [1, 4])
def test_causal_mask(n: int) -> None:
    ours, theirs = (
        lib.nn.Transformer.generate_square_subsequent_mask(n, "cpu", lib.float64)
        for lib in (tm, torch)
    )
    np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    assert ours.dtype == tm.float64


@pytest.mark.parametrize("name", NAMES)
def test_signatures(name: str) -> None:
    """Arguments, their order and defaults are PyTorch's, of the class and of forward."""

    def arguments(function: Any) -> dict[str, Any]:
        found = inspect.signature(function).parameters.items()
        return {
            k: getattr(p.default, "__name__", p.default)
            for k, p in found
            if k not in ("device", "dtype")
        }

    ours, theirs = getattr(tm.nn, name), getattr(torch.nn, name)
    for a, b in ((ours, theirs), (ours.forward, theirs.forward)):
        assert list(arguments(a).items()) == list(arguments(b).items())


def test_initial_weights() -> None:
    """Their spread is PyTorch's, tensor by tensor; so are those that start at 0 or 1."""
    models = [
        lib.nn.Transformer(64, 4, 1, 1, 128).state_dict()
        | lib.nn.MultiheadAttention(64, 4, add_bias_kv=True).state_dict(prefix="joint.")
        | lib.nn.MultiheadAttention(64, 4, kdim=32, vdim=16).state_dict(prefix="separate.")
        for lib in (tm, torch)
    ]
    ours, theirs = ({k: v.numpy() for k, v in m.items()} for m in models)
    assert list(ours) == list(theirs)
    for name, b in theirs.items():
        a = ours[name]
        assert a.shape == b.shape
        if b.std() == 0:
            np.testing.assert_array_equal(a, b, err_msg=name)
        else:
            wide = 6 / b.size**0.5
            assert abs(a.mean() - b.mean()) < wide * b.std(), name
            assert 1 - wide < a.std() / b.std() < 1 + wide, name


@pytest.mark.parametrize("p", [0.2, 0.6])
def test_dropout_of_weights(p: float) -> None:
    """The weights that are left out, and what is returned in their place, as in PyTorch."""
    theirs, ours = twins(lambda lib: lib.nn.MultiheadAttention(E, HEADS, dropout=p))
    x = normal(40, 40, E)
    kept = []
    for lib, model in ((torch, theirs), (tm, ours)):
        lib.manual_seed(0)
        call = {"average_attn_weights": False}
        weights = model(*[lib.tensor(x)] * 3, **call)[1].detach().numpy()
        whole = model.eval()(*[lib.tensor(x)] * 3, **call)[1].detach().numpy()
        there = weights != 0
        np.testing.assert_allclose(weights[there], whole[there] / (1 - p), 1e-10)
        kept.append(there.mean())
    assert kept == pytest.approx([1 - p] * 2, abs=0.01)


@pytest.mark.parametrize("norm_first", [False, True])
def test_dropout_of_a_layer(norm_first: bool) -> None:
    """Mean and spread over many draws are those of PyTorch: dropout is in the same places."""

    def make(lib: Any) -> Any:
        return lib.nn.TransformerDecoderLayer(E, HEADS, 6, 0.3, norm_first=norm_first)

    theirs, ours = twins(make)
    draws = 20_000
    x, memory = np.repeat(normal(2, 1, E), draws, 1), np.repeat(normal(3, 1, E), draws, 1)
    results = []
    for lib, model in ((torch, theirs), (tm, ours)):
        lib.manual_seed(1)
        out = model(lib.tensor(x), lib.tensor(memory)).detach().numpy()
        results.append((out.mean(1), out.std(1)))
    (mean, std), (our_mean, our_std) = results
    assert (abs(our_mean - mean) < 6 * std * (2 / draws) ** 0.5).all()
    np.testing.assert_allclose(our_std, std, rtol=0.05)
