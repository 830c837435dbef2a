"""Train the judge of generated digits, and write its weights to toumei/data/assets.

    python tools/make_judge.py                          # on the embedded digits (3 minutes)
    python tools/make_judge.py --data-dir FOLDER        # on all of MNIST

The weights that the package ships are those of the first command, so that the embedded test
digits are new to them.  They are stored as float16: half the size, and as accurate.
"""

from __future__ import annotations

import argparse
import pathlib

import numpy as np
from safetensors.numpy import save_file

import toumei as tm
from toumei.data import Compose, DataLoader, MNISTSample, RandomAffine, ToTensor, load_mnist
from toumei.data.sets import Splits
from toumei.nn.functional import cross_entropy
from toumei.recipes.judge import WEIGHTS, Judge


def digits(folder: str | None) -> Splits:
    """Return MNIST from a folder, or the embedded sample."""
    if folder is None:
        return Splits(MNISTSample(True), MNISTSample(False), "embedded sample")
    return load_mnist(folder)


def train(data: Splits, epochs: int) -> Judge:
    """Train on digits that are moved, turned, scaled and sheared a little, other ways each time."""
    data.train.transform = Compose(
        [RandomAffine(12, (0.08, 0.08), (0.9, 1.1), (-8, 8)), ToTensor()]
    )
    loader = DataLoader(data.train, 100, shuffle=True, drop_last=True, seed=0)
    model = Judge()
    optimizer = tm.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.02)
    schedule = tm.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=4e-3, total_steps=epochs * len(loader), pct_start=0.15
    )
    trainer = tm.train.Trainer(
        model, optimizer, cross_entropy, scheduler=schedule, schedule_every="step",
        callbacks=[tm.train.Progress()],
    )  # fmt: skip
    trainer.fit(loader, epochs=epochs)
    return model.eval()


def set_unit(model: Judge, images: np.ndarray) -> None:
    """Scale the features to a mean variance of 1 over some digits; the scores stay as they are."""
    features, _ = model.look(tm.from_numpy(images.astype(np.float32) / 255))
    unit = float(features.var(0).mean() ** 0.5)
    with tm.no_grad():
        for p in model.dense.parameters():
            p.div_(unit)
        model.scores.weight.mul_(unit)


def accuracy(model: Judge, images: np.ndarray, labels: np.ndarray) -> float:
    """Return the part of some digits, uint8 (N, 1, 28, 28), that is read right."""
    found = model.classes(tm.from_numpy(images.astype(np.float32) / 255))
    return float((found == labels).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", help="folder that holds MNIST")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--out", type=pathlib.Path, default=WEIGHTS)
    args = parser.parse_args()
    tm.manual_seed(0)
    data = digits(args.data_dir)
    model = train(data, args.epochs)
    set_unit(model, data.train.images)
    halves = {n: v.numpy().astype(np.float16) for n, v in model.state_dict().items()}
    save_file(halves, args.out, {"format": "pt"})
    model.load_state_dict(tm.load(args.out))
    right = accuracy(model, data.test.images, data.test.labels)
    print(f"{data.title}: {right:.2%} of the test part; {args.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
