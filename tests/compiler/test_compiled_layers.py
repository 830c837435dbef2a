"""Every layer as machine code: forward, backward and a step of SGD leave behind what eager does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import toumei as tm
from tests.compiler.agree import check_training, error, fallbacks, native, numbers
from toumei import nn
from toumei.tensor import Tensor

Make = Callable[[], nn.Module]
Inputs = Callable[[], tuple[Any, ...]]
Case = tuple[Make, Inputs]


def normal(*shapes: tuple[int, ...]) -> Inputs:
    return lambda: tuple(tm.randn(*s).requires_grad_() for s in shapes)


def between(low: float, high: float, *shapes: tuple[int, ...]) -> Inputs:
    def make() -> tuple[Any, ...]:
        return tuple((tm.rand(*s) * (high - low) + low).requires_grad_() for s in shapes)

    return make


def signs(n: int) -> Tensor:
    return tm.sign(tm.randn(n))


def tokens(classes: int, *shape: int) -> Inputs:
    return lambda: (tm.randint(0, classes, shape),)


def scored(*shape: int) -> Inputs:
    """Return scores of classes, and a label for each."""
    return lambda: (tm.randn(*shape).requires_grad_(), tm.randint(0, shape[1], shape[:1]))


def _unpooled(rank: int) -> Inputs:
    def make() -> tuple[Any, ...]:
        x = tm.randn(2, 3, *[6] * rank)
        pool = getattr(nn, f"MaxPool{rank}d")(2, return_indices=True)
        y, i = pool(x)
        return y.requires_grad_(), i

    return make


ACTIVATIONS = [
    *("CELU", "ELU", "GELU", "Hardshrink", "Hardsigmoid", "Hardswish", "Hardtanh", "Identity"),
    *("LeakyReLU", "LogSigmoid", "Mish", "PReLU", "RReLU", "ReLU", "ReLU6", "SELU", "SiLU"),
    *("Sigmoid", "Softplus", "Softshrink", "Softsign", "Tanh", "Tanhshrink", "Dropout"),
    *("AlphaDropout", "FeatureAlphaDropout"),
]
LOSSES = ["HuberLoss", "L1Loss", "MSELoss", "SmoothL1Loss", "PoissonNLLLoss"]

CASES: dict[str, Case] = {
    **{n: (getattr(nn, n), normal((3, 4, 17))) for n in ACTIVATIONS},
    **{n: (getattr(nn, n), normal((5, 17), (5, 17))) for n in LOSSES},
    "Threshold": (lambda: nn.Threshold(0.1, 2.0), normal((3, 17))),
    "GLU": (lambda: nn.GLU(1), normal((3, 34))),
    "Softmax": (lambda: nn.Softmax(1), normal((3, 17, 4))),
    "Softmin": (lambda: nn.Softmin(-1), normal((3, 17))),
    "LogSoftmax": (lambda: nn.LogSoftmax(0), normal((9, 33))),
    "Softmax2d": (nn.Softmax2d, normal((2, 5, 3, 4))),
    # linear
    "Linear": (lambda: nn.Linear(17, 33), normal((15, 17))),
    "Linear, batches": (lambda: nn.Linear(6, 5, bias=False), normal((2, 3, 6))),
    "Bilinear": (lambda: nn.Bilinear(5, 4, 3), normal((7, 5), (7, 4))),
    "Embedding": (lambda: nn.Embedding(9, 5), tokens(9, 4, 3)),
    "EmbeddingBag": (lambda: nn.EmbeddingBag(9, 5), tokens(9, 4, 3)),
    "Flatten": (nn.Flatten, normal((3, 4, 5))),
    "Unflatten": (lambda: nn.Unflatten(1, (2, 3)), normal((4, 6))),
    # norms
    "BatchNorm1d": (lambda: nn.BatchNorm1d(5), normal((16, 5))),
    "BatchNorm1d, long": (lambda: nn.BatchNorm1d(3), normal((4, 3, 9))),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(17), normal((3, 17, 4, 5))),
    "BatchNorm3d": (lambda: nn.BatchNorm3d(2), normal((2, 2, 3, 4, 3))),
    "InstanceNorm1d": (lambda: nn.InstanceNorm1d(3, affine=True), normal((2, 3, 9))),
    "InstanceNorm2d": (
        lambda: nn.InstanceNorm2d(3, track_running_stats=True),
        normal((2, 3, 4, 5)),
    ),
    "InstanceNorm3d": (lambda: nn.InstanceNorm3d(2), normal((2, 2, 3, 4, 3))),
    "LayerNorm": (lambda: nn.LayerNorm(33), normal((5, 33))),
    "LayerNorm, two dims": (lambda: nn.LayerNorm([4, 5]), normal((3, 4, 5))),
    "GroupNorm": (lambda: nn.GroupNorm(2, 6), normal((3, 6, 4, 4))),
    "RMSNorm": (lambda: nn.RMSNorm(17), normal((5, 17))),
    "LocalResponseNorm": (lambda: nn.LocalResponseNorm(3), normal((2, 6, 4))),
    "CrossMapLRN2d": (lambda: nn.CrossMapLRN2d(3), normal((2, 5, 3, 3))),
    # convolutions
    "Conv1d": (lambda: nn.Conv1d(3, 5, 3), normal((2, 3, 17))),
    "Conv2d": (lambda: nn.Conv2d(3, 16, 3, 1, 1), normal((2, 3, 9, 8))),
    "Conv2d, strides": (lambda: nn.Conv2d(4, 6, (3, 2), 2, 1, groups=2), normal((2, 4, 9, 8))),
    "Conv2d, dilated": (lambda: nn.Conv2d(2, 3, 3, dilation=2), normal((2, 2, 9, 9))),
    "Conv2d, reflected": (
        lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"),
        normal((2, 2, 5, 5)),
    ),
    "Conv3d": (lambda: nn.Conv3d(2, 3, 2), normal((2, 2, 4, 4, 4))),
    "ConvTranspose1d": (lambda: nn.ConvTranspose1d(3, 4, 3, 2), normal((2, 3, 7))),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(3, 4, 4, 2, 1), normal((2, 3, 5, 5))),
    "ConvTranspose3d": (lambda: nn.ConvTranspose3d(2, 2, 2), normal((2, 2, 3, 3, 3))),
    "Fold": (lambda: nn.Fold((4, 5), (2, 2)), normal((2, 12, 12))),
    "Unfold": (lambda: nn.Unfold(3, padding=1), normal((2, 2, 5, 5))),
    # pooling
    "MaxPool1d": (lambda: nn.MaxPool1d(3, 2), normal((2, 3, 11))),
    "MaxPool2d": (lambda: nn.MaxPool2d(2), normal((2, 3, 8, 9))),
    "MaxPool2d, padded": (lambda: nn.MaxPool2d(3, 2, 1), normal((2, 3, 8, 9))),
    "MaxPool3d": (lambda: nn.MaxPool3d(2), normal((2, 2, 4, 4, 4))),
    "AvgPool1d": (lambda: nn.AvgPool1d(3), normal((2, 3, 9))),
    "AvgPool2d": (lambda: nn.AvgPool2d(3, 2, 1), normal((2, 3, 8, 9))),
    "AvgPool3d": (lambda: nn.AvgPool3d(2), normal((2, 2, 4, 4, 4))),
    "LPPool2d": (lambda: nn.LPPool2d(2, 2), between(0.5, 2, (2, 3, 4, 4))),
    "AdaptiveAvgPool2d": (lambda: nn.AdaptiveAvgPool2d((3, 2)), normal((2, 3, 7, 5))),
    "AdaptiveMaxPool2d": (lambda: nn.AdaptiveMaxPool2d((3, 2)), normal((2, 3, 7, 5))),
    "AdaptiveAvgPool1d": (lambda: nn.AdaptiveAvgPool1d(4), normal((2, 3, 9))),
    "MaxUnpool1d": (lambda: nn.MaxUnpool1d(2), _unpooled(1)),
    "MaxUnpool2d": (lambda: nn.MaxUnpool2d(2), _unpooled(2)),
    # other images
    "ChannelShuffle": (lambda: nn.ChannelShuffle(2), normal((2, 6, 3, 3))),
    "PixelShuffle": (lambda: nn.PixelShuffle(2), normal((2, 8, 3, 3))),
    "PixelUnshuffle": (lambda: nn.PixelUnshuffle(2), normal((2, 3, 4, 4))),
    "CircularPad1d": (lambda: nn.CircularPad1d(2), normal((2, 3, 5))),
    "ReflectionPad2d": (lambda: nn.ReflectionPad2d((1, 2, 0, 1)), normal((2, 3, 4, 5))),
    "ReplicationPad3d": (lambda: nn.ReplicationPad3d(1), normal((1, 2, 3, 3, 3))),
    "ConstantPad2d": (lambda: nn.ConstantPad2d((1, -1, 0, 2), 0.5), normal((2, 3, 4, 5))),
    "ZeroPad2d": (lambda: nn.ZeroPad2d(1), normal((2, 3, 4, 5))),
    "Upsample, nearest": (lambda: nn.Upsample(scale_factor=2), normal((2, 3, 4, 5))),
    "Upsample, bilinear": (
        lambda: nn.Upsample(size=(7, 9), mode="bilinear"),
        normal((2, 3, 4, 5)),
    ),
    "UpsamplingBilinear2d": (
        lambda: nn.UpsamplingBilinear2d(scale_factor=2),
        normal((1, 2, 3, 3)),
    ),
    "Dropout1d": (nn.Dropout1d, normal((3, 4, 5))),
    "Dropout2d": (nn.Dropout2d, normal((3, 4, 5, 5))),
    "Dropout3d": (nn.Dropout3d, normal((3, 4, 2, 2, 2))),
    # sequences
    "RNN": (lambda: nn.RNN(5, 7, 2, batch_first=True), normal((3, 6, 5))),
    "RNN, relu": (lambda: nn.RNN(5, 7, nonlinearity="relu"), normal((6, 3, 5))),
    "LSTM": (lambda: nn.LSTM(5, 7, 2, dropout=0.2), normal((6, 3, 5))),
    "LSTM, both ways": (
        lambda: nn.LSTM(5, 4, bidirectional=True, batch_first=True),
        normal((3, 6, 5)),
    ),
    "GRU": (lambda: nn.GRU(5, 16), normal((6, 3, 5))),
    "RNNCell": (lambda: nn.RNNCell(5, 7), normal((3, 5), (3, 7))),
    "LSTMCell": (lambda: nn.LSTMCell(5, 7), normal((3, 5))),
    "GRUCell": (lambda: nn.GRUCell(5, 7), normal((3, 5), (3, 7))),
    "MultiheadAttention": (
        lambda: nn.MultiheadAttention(8, 2, batch_first=True),
        normal((2, 5, 8), (2, 6, 8), (2, 6, 8)),
    ),
    "TransformerEncoderLayer": (
        lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
        normal((2, 5, 8)),
    ),
    "TransformerDecoderLayer": (
        lambda: nn.TransformerDecoderLayer(8, 2, 16, norm_first=True, activation="gelu"),
        normal((5, 2, 8), (6, 2, 8)),
    ),
    "LearnedPosition": (lambda: nn.LearnedPosition(8, max_len=9), normal((2, 5, 8))),
    "SinusoidalPosition": (lambda: nn.SinusoidalPosition(8, max_len=9), normal((2, 5, 8))),
    # losses
    "CrossEntropyLoss": (lambda: nn.CrossEntropyLoss(label_smoothing=0.1), scored(17, 10)),
    "CrossEntropyLoss, weighed": (
        lambda: nn.CrossEntropyLoss(tm.rand(5), ignore_index=2),
        scored(9, 5),
    ),
    "NLLLoss": (lambda: nn.NLLLoss(ignore_index=1), scored(17, 10)),
    "MultiMarginLoss": (nn.MultiMarginLoss, scored(7, 5)),
    "BCELoss": (nn.BCELoss, between(0.1, 0.9, (5, 7), (5, 7))),
    "BCEWithLogitsLoss": (nn.BCEWithLogitsLoss, between(0, 1, (5, 17), (5, 17))),
    "KLDivLoss": (lambda: nn.KLDivLoss(reduction="batchmean"), between(0.1, 1, (5, 7), (5, 7))),
    "GaussianNLLLoss": (nn.GaussianNLLLoss, between(0.5, 1, (5, 3), (5, 3), (5, 3))),
    "SoftMarginLoss": (
        nn.SoftMarginLoss,
        lambda: (tm.randn(9).requires_grad_(), signs(9)),
    ),
    "HingeEmbeddingLoss": (
        nn.HingeEmbeddingLoss,
        lambda: (tm.randn(9).requires_grad_(), signs(9)),
    ),
    "MarginRankingLoss": (
        nn.MarginRankingLoss,
        lambda: (*normal((9,), (9,))(), signs(9)),
    ),
    "CosineEmbeddingLoss": (
        nn.CosineEmbeddingLoss,
        lambda: (*normal((9, 4), (9, 4))(), signs(9)),
    ),
    "MultiLabelMarginLoss": (
        nn.MultiLabelMarginLoss,
        lambda: (tm.randn(2, 4).requires_grad_(), tm.tensor([[3, 0, -1, 1], [1, -1, 0, 0]])),
    ),
    "MultiLabelSoftMarginLoss": (
        nn.MultiLabelSoftMarginLoss,
        between(0, 1, (3, 7), (3, 7)),
    ),
    "TripletMarginLoss": (nn.TripletMarginLoss, normal((5, 7), (5, 7), (5, 7))),
    "PairwiseDistance": (nn.PairwiseDistance, normal((5, 7), (5, 7))),
    "CosineSimilarity": (nn.CosineSimilarity, normal((5, 7), (5, 7))),
}

_KINDS = {n[:-2] for n in dir(nn) if n[-2:] in ("1d", "2d", "3d")}  # one rank of each will do
_KINDS -= {k for k in _KINDS if not any(n.startswith(k) for n in CASES)}

#: Layers and containers that have no case of their own, and why.
WITHOUT = {
    "Module", "ModuleDict", "ModuleList", "Parameter", "Buffer", "ParameterDict", "ParameterList",
    "Sequential", "RNNBase", "RNNCellBase", "Transformer", "TransformerDecoder",  # of others
    "TransformerEncoder", "TripletMarginWithDistanceLoss", "LinearCrossEntropyLoss",
    "CTCLoss",  # whose lengths decide what is computed: a TraceError says so
    "FractionalMaxPool2d", "FractionalMaxPool3d",  # of numbers drawn once
    *(n for n in dir(nn) if n.startswith("Lazy")),  # which become others at the first call
    *(f"{n}{rank}d" for n in _KINDS for rank in (1, 2, 3)),
    "UpsamplingNearest2d",
}  # fmt: skip


def test_every_layer_has_a_case() -> None:
    layers = {n for n in dir(nn) if isinstance(getattr(nn, n), type)}
    assert layers - {n.split(",")[0] for n in CASES} <= WITHOUT


def flat(value: Any) -> list[Tensor]:
    """Return the floating tensors of a result."""
    if isinstance(value, Tensor):
        return [value] if value.dtype.kind == "f" else []
    return [t for part in value or () for t in flat(part)]


def build(make: Make, inputs: Inputs, dtype: Any) -> Any:
    """Return a step of SGD on a layer, its arguments and the layer."""
    before = tm.get_default_dtype()
    tm.set_default_dtype(dtype)
    try:
        layer, arguments = make(), inputs()
    finally:
        tm.set_default_dtype(before)
    leaves = [a for a in arguments if a.requires_grad]

    def step(*given: Tensor) -> Any:
        outs = flat(layer(*given))
        loss = sum((y * (2 * y.detach()).cos()).sum() for y in outs)
        wanted = [*layer.parameters(), *(a for a in given if a.requires_grad)]
        gradients = tm.autograd.grad(loss, wanted, allow_unused=True)
        with tm.no_grad():
            for p, g in zip(layer.parameters(), gradients, strict=False):
                if g is not None:
                    p.sub_(0.01 * g)
        inner = gradients[len(gradients) - len(leaves) :]
        return [y.detach() for y in outs], [g for g in inner if g is not None]

    return step, arguments, layer


@pytest.mark.parametrize("name", CASES)
def test_double(name: str) -> None:
    make, inputs = CASES[name]
    check_training(lambda: build(make, inputs, tm.float64))


MAIN = [
    *("Linear", "Conv2d", "ConvTranspose2d", "BatchNorm2d", "LayerNorm", "GroupNorm", "MaxPool2d"),
    *("AvgPool2d", "Embedding", "LSTM", "GRU", "MultiheadAttention", "Dropout", "GELU", "Softmax"),
    *("CrossEntropyLoss", "BCEWithLogitsLoss", "MSELoss", "AdaptiveAvgPool2d", "RMSNorm"),
]


@pytest.mark.parametrize("name", MAIN)
def test_single(name: str) -> None:
    """… and nothing of it is left to Python."""
    make, inputs = CASES[name]
    compiled = check_training(lambda: build(make, inputs, tm.float32))
    assert not fallbacks(compiled)


@pytest.mark.parametrize("optimizer", ["SGD", "Adam", "AdamW", "RMSprop"])
def test_optimizers(optimizer: str) -> None:
    def build() -> Any:
        model = nn.Sequential(nn.Linear(17, 16), nn.ReLU(), nn.BatchNorm1d(16), nn.Linear(16, 5))
        opt = getattr(tm.optim, optimizer)(model.parameters(), lr=0.01, weight_decay=0.1)

        def step(x: Tensor, y: Tensor) -> Tensor:
            opt.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            opt.step()
            return loss.detach()

        return step, (tm.randn(33, 17), tm.randint(0, 5, (33,))), model

    check_training(build, calls=3)


# --- what larger sizes bring in -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("width", "points", "activation"),
    [(20, 1000, nn.Tanh), (17, 777, nn.Sigmoid), (1, 600, nn.GELU), (33, 300, nn.Softplus)],
)
def test_small_networks_over_many_points(width: int, points: int, activation: Make) -> None:
    """A chain of narrow layers runs tile by tile through all of it, second derivatives too."""

    def build() -> Any:
        sizes = [(2, width), (width, width)]
        layers = [part for a, b in sizes for part in (nn.Linear(a, b), activation())]
        model = nn.Sequential(*layers, nn.Linear(width, 1)).double()
        optimizer = tm.optim.Adam(model.parameters())

        def step(points: Tensor) -> Tensor:
            optimizer.zero_grad()
            x = points.detach().requires_grad_()
            u = model(x)
            (slope,) = tm.autograd.grad(u.sum(), x, create_graph=True)
            (bend,) = tm.autograd.grad(slope[:, :1].sum(), x, create_graph=True)
            loss = ((slope[:, 1:] + u * slope[:, :1] - 0.01 * bend[:, :1]) ** 2).mean()
            loss.backward()
            optimizer.step()
            return loss.detach()

        return step, (tm.rand(points, 2, dtype=tm.float64),), model

    check_training(build)


@pytest.mark.parametrize(("channels", "size"), [(32, 14), (17, 9), (64, 8)])
def test_convolutions_of_many_channels(channels: int, size: int) -> None:
    """In float32 these may be Winograd's, which rounds more: 2e-4 is what they are held to."""

    def step(x: Tensor, w: Tensor, g: Tensor) -> Any:
        y = nn.functional.conv2d(x, w, padding=1)
        return y.detach(), *tm.autograd.grad((y * g).sum(), [x, w])

    x, g = (tm.randn(8, channels, size, size) for _ in range(2))
    arguments = x.requires_grad_(), tm.randn(channels, channels, 3, 3).requires_grad_(), g
    exact = [t.detach().double().requires_grad_(t.requires_grad) for t in arguments]
    found, expected = numbers(native(step)(*arguments)), numbers(step(*exact))
    assert all(error(a.astype("f8"), b) < 2e-4 for a, b in zip(found, expected, strict=True))
