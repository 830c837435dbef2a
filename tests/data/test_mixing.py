"""MixUp and CutMix: what they mix, what the labels become, and that a resume mixes the same."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import pytest

import toumei as tm
from toumei import nn
from toumei.data import CutMix, DataLoader, MixUp, RandomChoice, TensorDataset
from toumei.io.checkpoint import load_checkpoint
from toumei.train import Callback, Checkpoint, Trainer, accuracy

N, C = 24, 4


def images_and_labels(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.random((N, 3, 8, 6), np.float32), rng.integers(0, C, N)


def dataset() -> TensorDataset:
    return TensorDataset(*(tm.from_numpy(a) for a in images_and_labels()))


class OneByOne(tm.data.Dataset[Any]):
    """Gives single samples: the loader collates a plain list of them."""

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> tuple[tm.Tensor, int]:
        images, labels = images_and_labels()
        return tm.from_numpy(images[index].copy()), int(labels[index])


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_mixup_is_the_same_mean_of_images_and_labels(alpha: float) -> None:
    images, labels = images_and_labels()
    tm.manual_seed(0)
    mixed, soft = MixUp(alpha=alpha, num_classes=C)(tm.from_numpy(images), tm.from_numpy(labels))
    onehot = np.eye(C)[labels]
    other = (np.roll(labels, 1) != labels).argmax()  # a sample whose partner has another label
    share = float(soft.numpy()[other, labels[other]])
    assert 0 < share < 1
    expected = share * images + (1 - share) * np.roll(images, 1, 0)
    np.testing.assert_allclose(mixed.numpy(), expected, atol=1e-6)
    expected = share * onehot + (1 - share) * np.roll(onehot, 1, 0)
    np.testing.assert_allclose(soft.numpy(), expected, atol=1e-6)
    assert mixed.dtype == soft.dtype == tm.float32


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_the_share_is_beta_distributed(alpha: float) -> None:
    tm.manual_seed(1)
    mix = MixUp(alpha=alpha, num_classes=2)
    x, y = tm.rand(2, 1), tm.tensor([0, 1])
    shares = np.array([float(mix(x, y)[1][0, 0]) for _ in range(3000)])
    variance = 1 / (4 * (2 * alpha + 1))
    assert shares.mean() == pytest.approx(0.5, abs=5 * np.sqrt(variance / 3000))
    assert shares.var() == pytest.approx(variance, rel=0.1)


def test_cutmix_pastes_one_rectangle_and_counts_its_area() -> None:
    images, labels = images_and_labels()
    tm.manual_seed(0)
    areas = set()
    for _ in range(50):
        mixed, soft = CutMix(num_classes=C)(tm.from_numpy(images), tm.from_numpy(labels))
        result, partner = mixed.numpy(), np.roll(images, 1, 0)
        pasted = result == partner
        assert ((result == images) | pasted).all()
        inside = pasted[0, 0]
        assert (pasted == inside).all()  # the same rectangle in all
        rows, columns = inside.any(1), inside.any(0)
        assert (inside == np.outer(rows, columns)).all()
        for side in (rows, columns):
            assert np.abs(np.diff(side.astype(int))).sum() <= 2  # one piece
        share = 1 - inside.mean()
        areas.add(share)
        onehot = np.eye(C)[labels]
        expected = share * onehot + (1 - share) * np.roll(onehot, 1, 0)
        np.testing.assert_allclose(soft.numpy(), expected, atol=1e-6)
    assert len(areas) > 10 and min(areas) <= 0.5 and max(areas) > 0.9


def test_samples_and_batches_and_two_arguments_are_all_taken() -> None:
    images, labels = (tm.from_numpy(a) for a in images_and_labels())
    mix = CutMix(num_classes=C)
    results = []
    samples = [OneByOne()[i] for i in range(N)]
    for batch in ((images, labels), ([images, labels],), (samples,)):
        tm.manual_seed(3)
        results.append(mix(*batch))
    for pair in results[1:]:
        assert all(bool((a == b).all()) for a, b in zip(pair, results[0], strict=True))


@pytest.mark.parametrize("data", [dataset(), OneByOne()], ids=["columns", "samples"])
def test_a_loader_mixes_the_same_whatever_the_threads_and_interruptions(data: Any) -> None:
    def loader(**options: Any) -> DataLoader:
        mix = RandomChoice([MixUp(num_classes=C), CutMix(num_classes=C)])
        return DataLoader(data, 6, shuffle=True, collate_fn=mix, seed=5, **options)

    def content(batches: Any) -> list[bytes]:
        return [x.numpy().tobytes() + y.numpy().tobytes() for x, y in batches]

    plain = loader()
    first, second = content(plain), content(plain)
    assert len(set(first + second)) == 8
    assert content(loader(num_workers=2)) == first
    cut = loader()
    begun = iter(cut)
    next(begun)
    again = loader()
    again.load_state_dict(cut.state_dict())
    assert content(again) == first[1:] and content(again) == second


def test_a_choice_takes_each_as_often_as_it_should() -> None:
    tm.manual_seed(0)
    counts = {"a": 0, "b": 0, "c": 0}

    def count(name: str) -> Any:
        return lambda *batch: counts.update({name: counts[name] + 1})

    choice = RandomChoice([count("a"), count("b"), count("c")], p=[3, 1, 0])
    for _ in range(800):
        choice(None)
    assert counts["c"] == 0 and counts["a"] == pytest.approx(600, abs=60)


def test_what_cannot_be_mixed_is_refused() -> None:
    images, labels = (tm.from_numpy(a) for a in images_and_labels())
    whole = (images * 255).to(tm.uint8)
    for call, error, words in (
        (lambda: MixUp(alpha=0.0), ValueError, "alpha must be positive"),
        (lambda: MixUp()(images, labels), ValueError, "needs num_classes"),
        (lambda: MixUp(num_classes=2)(images, labels), ValueError, "from 0 to 1, they are int64"),
        (lambda: MixUp(num_classes=C)(whole, labels), TypeError, "float images, not uint8"),
        (lambda: CutMix(num_classes=C)(images[:, 0], labels), ValueError, "channels, height"),
        (lambda: CutMix(num_classes=C)(images, labels[:3]), ValueError, "takes images"),
        (lambda: MixUp(num_classes=C)(images, labels, labels), TypeError, "images and labels"),
        (lambda: MixUp(num_classes=9)(images, tm.rand(N, C)), ValueError, "have 4 classes"),
        (lambda: RandomChoice([]), ValueError, "needs transforms"),
        (lambda: RandomChoice([MixUp()], p=[1, 2]), ValueError, "a weight >= 0 for each"),
    ):
        with pytest.raises(error, match=words):
            call()
    assert bool((CutMix(num_classes=C)(whole, labels)[0] <= 255).all())


class StopAfter(Callback):
    last = True

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_batch_end(self, trainer: Trainer) -> None:
        if trainer.steps == self.steps:
            raise KeyboardInterrupt


def test_training_on_mixed_batches_learns_and_resumes_exactly(tmp_path: pathlib.Path) -> None:
    def make(stop: int) -> tuple[Trainer, DataLoader]:
        tm.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(144, C))
        trainer = Trainer(
            model, tm.optim.Adam(model.parameters(), lr=0.05), nn.functional.cross_entropy,
            metrics={"accuracy": accuracy}, callbacks=[Checkpoint(tmp_path, 0), StopAfter(stop)],
        )  # fmt: skip
        mix = RandomChoice([MixUp(alpha=0.3, num_classes=C), CutMix(num_classes=C)])
        return trainer, DataLoader(dataset(), 10, shuffle=True, collate_fn=mix, seed=4)

    straight, loader = make(-1)
    straight.fit(loader, DataLoader(dataset(), N), epochs=15)
    assert straight.history["validation_accuracy"][-1] == 1.0
    assert straight.history["accuracy"][-1] > 0.6
    first, loader = make(26)
    with pytest.raises(KeyboardInterrupt):
        first.fit(loader, DataLoader(dataset(), N), epochs=15)
    second, loader = make(-1)
    second.load_state_dict(load_checkpoint(tmp_path / Checkpoint.LAST)["state"])
    second.fit(loader, DataLoader(dataset(), N), epochs=15)
    for a, b in zip(second.model.parameters(), straight.model.parameters(), strict=True):
        assert a.detach().numpy().tobytes() == b.detach().numpy().tobytes()
