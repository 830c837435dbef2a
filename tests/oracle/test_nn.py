"""Layers and initialisers against PyTorch's."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

import toumei as tm

torch = pytest.importorskip("torch")

Arrays = list[np.ndarray[Any, Any]]
_rng = np.random.default_rng(0)
X = _rng.normal(size=(4, 6))
Y = _rng.normal(size=(4, 6))
SIGNS = np.where(X + Y > 0, 1.0, -1.0)
LABELS = np.array([0, 5, 2, 2])
POSITIVE = np.abs(Y) + 0.1

PLAIN = """
    CELU ELU GELU GLU Hardshrink Hardsigmoid Hardswish Hardtanh Identity LeakyReLU LogSigmoid Mish
    PReLU ReLU ReLU6 SELU SiLU Sigmoid Softplus Softshrink Softsign Tanh Tanhshrink
"""
ACTIVATIONS: list[tuple[str, dict[str, Any]]] = [
    *[(name, {}) for name in PLAIN.split()],
    ("CELU", {"alpha": 0.5}),
    ("ELU", {"alpha": 0.5}),
    ("GELU", {"approximate": "tanh"}),
    ("GLU", {"dim": 0}),
    ("Hardtanh", {"min_val": -0.5, "max_val": 0.2}),
    ("LeakyReLU", {"negative_slope": 0.3}),
    ("PReLU", {"num_parameters": 6, "init": 0.1}),
    ("Softplus", {"beta": 2.0, "threshold": 1.0}),
    ("Threshold", {"threshold": 0.1, "value": 3.0}),
    ("Softmax", {"dim": 1}),
    ("LogSoftmax", {"dim": 0}),
    ("Softmin", {"dim": -1}),
    ("Flatten", {"start_dim": 0}),
    ("Unflatten", {"dim": 1, "unflattened_size": (2, 3)}),
    ("Linear", {"in_features": 6, "out_features": 3}),
    ("Linear", {"in_features": 6, "out_features": 3, "bias": False}),
]  # fmt: skip
LOSSES: list[tuple[str, dict[str, Any], Arrays]] = [
    ("L1Loss", {}, [X, Y]),
    ("MSELoss", {"reduction": "none"}, [X, Y]),
    ("SmoothL1Loss", {"beta": 0.5}, [X, Y]),
    ("HuberLoss", {"reduction": "sum", "delta": 0.7}, [X, Y]),
    ("CrossEntropyLoss", {}, [X, LABELS]),
    ("CrossEntropyLoss", {"weight": POSITIVE[0], "label_smoothing": 0.1}, [X, LABELS]),
    ("CrossEntropyLoss", {"ignore_index": 2, "reduction": "sum"}, [X, LABELS]),
    ("NLLLoss", {"weight": POSITIVE[0]}, [X, LABELS]),
    ("BCELoss", {}, [1 / (1 + np.exp(X)), (SIGNS + 1) / 2]),
    ("BCEWithLogitsLoss", {"pos_weight": POSITIVE[0]}, [X, (SIGNS + 1) / 2]),
    ("KLDivLoss", {"reduction": "batchmean", "log_target": True}, [X, Y]),
    ("PoissonNLLLoss", {"full": True}, [X, POSITIVE]),
    ("GaussianNLLLoss", {"full": True}, [X, Y, POSITIVE]),
    ("HingeEmbeddingLoss", {"margin": 0.5}, [X, SIGNS]),
    ("CosineEmbeddingLoss", {"margin": 0.2}, [X, Y, SIGNS[:, 0]]),
    ("MarginRankingLoss", {"margin": 0.2}, [X, Y, SIGNS]),
    ("SoftMarginLoss", {}, [X, SIGNS]),
    ("MultiMarginLoss", {"p": 2, "margin": 0.5}, [X, LABELS]),
    ("MultiLabelMarginLoss", {}, [X, np.array([[0, 3, -1, 0, 0, 0]] * 4)]),
    ("MultiLabelSoftMarginLoss", {"weight": POSITIVE[0]}, [X, (SIGNS + 1) / 2]),
    ("TripletMarginLoss", {"margin": 2.0, "swap": True}, [X, Y, SIGNS]),
    ("TripletMarginWithDistanceLoss", {"margin": 2.0}, [X, Y, SIGNS]),
    ("CosineSimilarity", {}, [X, Y]),
    ("PairwiseDistance", {"p": 1.0, "keepdim": True}, [X, Y]),
    ("Bilinear", {"in1_features": 6, "in2_features": 6, "out_features": 2}, [X, Y]),
]
CASES = [*((name, options, [X]) for name, options in ACTIVATIONS), *LOSSES]


def build(library: Any, name: str, options: dict[str, Any]) -> Any:
    values = {k: library.tensor(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    return getattr(library.nn, name)(**values).double()


@pytest.mark.parametrize(("name", "options", "arrays"), CASES)
def test_layer(name: str, options: dict[str, Any], arrays: Arrays) -> None:
    ours, theirs = build(tm, name, options), build(torch, name, options)
    state = {k: v.detach().numpy() for k, v in theirs.state_dict().items()}
    shapes = {k: v.shape for k, v in ours.state_dict().items()}
    assert shapes == {k: v.shape for k, v in state.items()}
    ours.load_state_dict(state)
    got = ours(*[tm.tensor(a) for a in arrays]).detach().numpy()
    wanted = theirs(*[torch.tensor(a) for a in arrays]).detach().numpy()
    np.testing.assert_allclose(got, wanted, rtol=1e-10, atol=1e-12)


DEPRECATED = {"size_average", "reduce", "device", "dtype", "_stacklevel", "args", "kwargs"}
LAYERS = [n for n in tm.nn.__all__ if inspect.isclass(getattr(tm.nn, n)) and hasattr(torch.nn, n)]
EXCEPTIONS = {"Module", "Identity", "Buffer", "Parameter", "ParameterList", "ParameterDict",
              "ModuleList", "ModuleDict", "Sequential", "Hardtanh",
              "RNN", "LSTM", "GRU"}  # fmt: skip


@pytest.mark.parametrize("name", [n for n in LAYERS if n not in EXCEPTIONS])
def test_signature(name: str) -> None:
    """Every option of ours is one of PyTorch's, with the same default, in the same place."""
    ours = inspect.signature(getattr(tm.nn, name)).parameters
    theirs = inspect.signature(getattr(torch.nn, name)).parameters

    def defaults(parameters: Any) -> dict[str, Any]:  # functions by name
        kept = ((k, p.default) for k, p in parameters.items() if k not in DEPRECATED)
        return {k: getattr(d, "__qualname__", d) if inspect.isfunction(d) else d for k, d in kept}

    assert defaults(ours) == defaults(theirs)
    by_place = [k for k, p in ours.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert by_place == list(theirs)[: len(by_place)]


INITS: list[tuple[str, tuple[int, ...], dict[str, Any]]] = [
    ("uniform_", (200, 50), {"a": -1.0, "b": 3.0}),
    ("normal_", (200, 50), {"mean": 1.0, "std": 2.0}),
    ("trunc_normal_", (200, 50), {"std": 2.0, "a": -1.0, "b": 3.0}),
    ("xavier_uniform_", (100, 50, 3), {"gain": 2.0}),
    ("xavier_normal_", (100, 50, 3), {}),
    ("kaiming_uniform_", (100, 150), {"a": 0.5}),
    ("kaiming_normal_", (100, 150), {"mode": "fan_out", "nonlinearity": "relu"}),
    ("orthogonal_", (100, 150), {"gain": 2.0}),
    ("sparse_", (100, 150), {"sparsity": 0.3, "std": 2.0}),
]


@pytest.mark.parametrize(("name", "shape", "options"), INITS)
def test_distribution(name: str, shape: tuple[int, ...], options: dict[str, Any]) -> None:
    """The same distribution: quantiles of thousands of draws agree."""
    tm.manual_seed(0)
    torch.manual_seed(0)
    ours, theirs = (
        np.sort(getattr(library.nn.init, name)(library.empty(*shape), **options).numpy().ravel())
        for library in (tm, torch)
    )
    assert np.abs(ours - theirs)[len(ours) // 50 : -len(ours) // 50].max() < 0.1 * theirs.std()
    assert ours.std() == pytest.approx(theirs.std(), rel=0.05)


@pytest.mark.parametrize(
    ("name", "shape", "options"),
    [
        ("eye_", (3, 5), {}),
        ("dirac_", (4, 2, 3), {}),
        ("dirac_", (6, 2, 3, 3), {"groups": 2}),
        ("dirac_", (2, 5, 1, 2, 3), {}),
        ("constant_", (2, 3), {"val": 0.5}),
        ("ones_", (2,), {}),
        ("zeros_", (2,), {}),
    ],
)
def test_fixed_initialiser(name: str, shape: tuple[int, ...], options: dict[str, Any]) -> None:
    ours, theirs = (
        getattr(library.nn.init, name)(library.empty(*shape), **options) for library in (tm, torch)
    )
    np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def test_gains() -> None:
    for name in ("linear", "conv2d", "sigmoid", "tanh", "relu", "leaky_relu", "selu"):
        assert tm.nn.init.calculate_gain(name) == torch.nn.init.calculate_gain(name)


def test_repr() -> None:
    texts = []
    for nn in (tm.nn, torch.nn):
        net = nn.Sequential(
            nn.Linear(2, 3),
            nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3), nn.ReLU()]),
            nn.Dropout(0.1),
            nn.ModuleDict({"a": nn.Softmax(dim=1), "b": nn.Flatten()}),
        )
        texts.append(repr(net))
    assert texts[0] == texts[1]
