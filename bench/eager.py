"""Eager training steps, Toumei against PyTorch, taking turns.

python -m bench.eager [--rounds N] [W1 W2 W5]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from subprocess import PIPE
from typing import Any

import numpy as np

Step = Callable[[], Any]


def layers(lib: Any, widths: list[int], activation: str) -> Any:
    """Return a stack of linear layers with an activation in between."""
    parts: list[Any] = []
    for n, m in pairwise(widths):
        parts += [lib.nn.Linear(n, m), getattr(lib.nn, activation)()]
    return lib.nn.Sequential(*parts[:-1])


def tensor(lib: Any, array: Any) -> Any:
    """Return an array as a tensor of a library."""
    return lib.from_numpy(np.ascontiguousarray(array))


def classifier(
    lib: Any, widths: list[int], activation: str, optimizer: str, **options: Any
) -> Step:
    """Return the training step of an MLP on random digits."""
    rng = np.random.default_rng(0)
    model = layers(lib, widths, activation)
    update = getattr(lib.optim, optimizer)(model.parameters(), **options)
    x = tensor(lib, rng.normal(size=(100, widths[0])).astype(np.float32))
    y = tensor(lib, rng.integers(0, widths[-1], 100))

    def step() -> Any:
        update.zero_grad()
        loss = lib.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        update.step()
        return loss

    return step


def pinn(lib: Any) -> Step:
    """Return the training step of a physics-informed network: u_t + u·u_x = ν·u_xx."""
    rng = np.random.default_rng(0)
    model = layers(lib, [2, *[20] * 8, 1], "Tanh")
    update = lib.optim.Adam(model.parameters(), lr=1e-3)
    points = tensor(lib, rng.uniform(-1, 1, (10_000, 2)).astype(np.float32)).requires_grad_()
    edge = tensor(lib, rng.uniform(-1, 1, (100, 2)).astype(np.float32))
    value = tensor(lib, rng.uniform(-1, 1, (100, 1)).astype(np.float32))

    def step() -> Any:
        update.zero_grad()
        u = model(points)
        (first,) = lib.autograd.grad(u.sum(), points, create_graph=True)
        u_x, u_t = first[:, :1], first[:, 1:]
        (second,) = lib.autograd.grad(u_x.sum(), points, create_graph=True)
        residual = u_t + u * u_x - (0.01 / np.pi) * second[:, :1]
        loss = (residual**2).mean() + ((model(edge) - value) ** 2).mean()
        loss.backward()
        update.step()
        return loss

    return step


WORKLOADS: dict[str, Callable[[Any], Step]] = {
    "W1": lambda lib: classifier(lib, [784, 100, 10], "Sigmoid", "SGD", lr=0.01),
    "W2": lambda lib: classifier(lib, [784, 1000, 1000, 10], "ReLU", "Adam", lr=1e-3),
    "W5": pinn,
}


def worker(side: str, name: str) -> None:
    """Run steps of one side whenever a line with their number comes in; answer with their times."""
    step = WORKLOADS[name](__import__(side))
    for line in sys.stdin:
        times = []
        for _ in range(int(line)):
            start = time.perf_counter()
            step()
            times.append(time.perf_counter() - start)
        print(json.dumps(times), flush=True)


def compare(name: str, rounds: int, steps: int = 10) -> list[float]:
    """Return the median milliseconds of a step of each side.

    The sides are processes of their own, as their threads would disturb each other in one.
    """
    command = [sys.executable, "-m", "bench.eager", "--worker"]
    sides = [
        subprocess.Popen([*command, side, name], stdin=PIPE, stdout=PIPE, text=True)
        for side in ("toumei", "torch")
    ]
    times: list[list[float]] = [[], []]
    for i in range(rounds + 1):
        for side, kept in zip(sides, times, strict=True):
            assert side.stdin is not None and side.stdout is not None
            print(steps, file=side.stdin, flush=True)
            measured = json.loads(side.stdout.readline())
            kept += measured[1:] if i else []  # the first round, and each round's first, warm up
    for side in sides:
        side.communicate()
    return [statistics.median(kept) * 1e3 for kept in times]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workloads", nargs="*", default=list(WORKLOADS))
    parser.add_argument("--rounds", type=int, default=8, help="of ten steps each (default 8)")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        worker(*args.worker)
        return
    print(f"{'':4} {'Toumei':>10} {'PyTorch':>10}   PyTorch's time / ours")
    for name in args.workloads:
        ours, theirs = compare(name, args.rounds)
        print(f"{name:4} {ours:8.2f}ms {theirs:8.2f}ms   {theirs / ours:.2f}")


if __name__ == "__main__":
    main()
