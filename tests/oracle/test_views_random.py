"""Random programs of views, in-place changes and arithmetic, run here and in PyTorch.

Each step either succeeds on both sides with the same values, shapes and requires_grad, or is
refused on both.  At the end the gradients agree, or both refuse them because a value is gone.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import toumei as tm

torch = pytest.importorskip("torch")

Step = Callable[[Any, list[Any]], Any]


def unary(rng: random.Random) -> tuple[str, Step]:
    name = rng.choice(["sin", "exp", "tanh", "neg", "clone", "cos"])
    i = rng.random()
    return f"t.{name}()", lambda lib, ts: getattr(pick(ts, i), name)()


def binary(rng: random.Random) -> tuple[str, Step]:
    name, i, j = rng.choice(["add", "mul", "sub"]), rng.random(), rng.random()
    return f"t.{name}(u)", lambda lib, ts: getattr(pick(ts, i), name)(like(ts, i, j))


def view(rng: random.Random) -> tuple[str, Step]:
    i, k = rng.random(), rng.randrange(8)
    kinds: list[tuple[str, Callable[[Any], Any]]] = [
        ("t[0]", lambda t: t[0]),
        ("t[..., -1]", lambda t: t[..., -1]),
        ("t[1:]", lambda t: t[1:]),
        ("t[..., ::2]", lambda t: t[..., ::2]),
        ("t.transpose(0, -1)", lambda t: t.transpose(0, -1)),
        ("t.reshape(-1)", lambda t: t.reshape(-1)),
        ("t.unsqueeze(0)", lambda t: t.unsqueeze(0)),
        # A copy: PyTorch lets parts of an expanded tensor be changed, which is refused here.
        ("t.expand(2, …) + 0", lambda t: t.expand(2, *t.shape) + 0),
    ]
    text, function = kinds[k]
    return text, lambda lib, ts: function(pick(ts, i))


def detach(rng: random.Random) -> tuple[str, Step]:
    i = rng.random()
    return "t.detach()", lambda lib, ts: pick(ts, i).detach()


def in_place(rng: random.Random) -> tuple[str, Step]:
    name, i, j = rng.choice(["add_", "mul_", "copy_", "sub_"]), rng.random(), rng.random()

    def step(lib: Any, ts: list[Any]) -> Any:
        target = pick(ts, i)
        return getattr(target, name)(apart(like(ts, i, j), target))

    return f"t.{name}(u)", step


def in_place_number(rng: random.Random) -> tuple[str, Step]:
    name, i = rng.choice(["add_", "mul_"]), rng.random()
    return f"t.{name}(1.5)", lambda lib, ts: getattr(pick(ts, i), name)(1.5)


def set_item(rng: random.Random) -> tuple[str, Step]:
    i, j, k = rng.random(), rng.random(), rng.randrange(3)

    def step(lib: Any, ts: list[Any]) -> None:
        target = pick(ts, i)
        source = apart(like(ts, i, j), target)
        if k == 0:
            target[0] = source[0]
        elif k == 1:
            target[..., 1:] = 0.5
        else:
            target[lib.tensor([0, 1])] = source[lib.tensor([1, 0])]

    return f"t[{k}] = u", step


def unrecorded(rng: random.Random) -> tuple[str, Step]:
    # No views: PyTorch says that they require grad, although nothing leads back from them.
    text, inner = rng.choice([in_place, in_place_number, unary])(rng)

    def step(lib: Any, ts: list[Any]) -> Any:
        with lib.no_grad():
            return inner(lib, ts)

    return f"no_grad: {text}", step


STEPS = [unary, binary, view, view, view, detach, in_place, in_place_number, set_item, unrecorded]


def pick(ts: list[Any], place: float) -> Any:
    return ts[int(place * len(ts))]


def like(ts: list[Any], i: float, j: float) -> Any:
    """Return a tensor of the shape of the i-th: one of those there are."""
    shape = tuple(pick(ts, i).shape)
    fitting = [t for t in ts if tuple(t.shape) == shape]
    return pick(fitting, j)


def apart(source: Any, target: Any) -> Any:
    """Return a copy of what shares the target's memory: PyTorch refuses `t.mul_(t)`, we don't."""

    def memory(t: Any) -> Any:
        return t.untyped_storage().data_ptr() if isinstance(t, torch.Tensor) else id(t._storage)

    return source.clone() if memory(source) == memory(target) else source


def outcome(step: Step, lib: Any, ts: list[Any]) -> tuple[Any, Exception | None]:
    try:
        return step(lib, ts), None
    except (RuntimeError, IndexError) as error:
        return None, error


def array(t: Any) -> Any:
    return t.detach().numpy()


def run(seed: int) -> tuple[list[str], bool, bool]:
    """Run one program; return its text, whether something was refused, whether it had gradients."""
    rng = random.Random(seed)
    start = np.random.default_rng(seed).uniform(0.5, 1.5, (3, 2, 2) if seed % 2 else (2, 3))
    x, p = tm.from_numpy(start.copy()), torch.from_numpy(start.copy())
    mine, theirs = [x.requires_grad_()], [p.requires_grad_()]
    text, refused = ["x"], False
    for _ in range(rng.randrange(3, 14)):
        words, step = rng.choice(STEPS)(rng)
        a, mine_error = outcome(step, tm, mine)
        b, their_error = outcome(step, torch, theirs)
        text.append(words)
        assert (mine_error is None) == (their_error is None), (
            f"ours: {mine_error!r}\nPyTorch: {their_error!r}"
        )
        refused = refused or mine_error is not None
        if isinstance(b, torch.Tensor) and not any(b is t for t in theirs):
            mine.append(a)
            theirs.append(b)
        for i, (s, t) in enumerate(zip(mine, theirs, strict=True)):
            np.testing.assert_allclose(
                array(s), array(t), 1e-12, 1e-12, err_msg=f"{text} value {i}"
            )
            assert s.requires_grad == t.requires_grad, f"requires_grad of {i} is {s.requires_grad}"
            assert s.is_leaf == t.is_leaf, f"is_leaf of {i} is {s.is_leaf}"
    weights = [np.random.default_rng(i).normal(size=tuple(t.shape)) for i, t in enumerate(theirs)]
    loss = sum((t * tm.from_numpy(w)).sum() for t, w in zip(mine, weights, strict=True))
    other = sum((t * torch.from_numpy(w)).sum() for t, w in zip(theirs, weights, strict=True))
    _, mine_error = outcome(lambda lib, ts: ts[0].backward(), tm, [loss])
    _, their_error = outcome(lambda lib, ts: ts[0].backward(), torch, [other])
    assert (mine_error is None) == (their_error is None), (
        f"backward: ours: {mine_error!r}\nPyTorch: {their_error!r}"
    )
    if mine_error is None:
        assert x.grad is not None
        np.testing.assert_allclose(array(x.grad), array(p.grad), 1e-10, 1e-10, err_msg=f"{text}")
    return text, refused, mine_error is None


def checked(seed: int) -> tuple[bool, bool]:
    try:
        _, refused, gradients = run(seed)
    except AssertionError as error:
        raise AssertionError(f"seed {seed}: {error}") from None
    return refused, gradients


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("block", range(4))
def test_random_programs(block: int) -> None:
    results = [checked(seed) for seed in range(250 * block, 250 * (block + 1))]
    assert sum(refused for refused, _ in results) > 20  # refusals are tested as well
    assert sum(gradients for _, gradients in results) > 100
