"""Functional derivatives, hooks and Functions: the same nesting, numbers and flags as PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import toumei as tm

torch = pytest.importorskip("torch")

RNG = np.random.default_rng(0)
ARRAYS = {"x": RNG.normal(size=(2, 3)), "y": RNG.normal(size=3), "v": RNG.normal(size=(2, 3))}
ARRAYS["u"] = RNG.normal(size=3)


def one_to_one(x: Any) -> Any:
    return (x * x).sin() + x[0]


def many_to_many(x: Any, y: Any) -> Any:
    return (x * y).exp(), y.sum()


def many_to_scalar(x: Any, y: Any) -> Any:
    return ((x * y).sin() * x).sum()


def unused(x: Any, y: Any) -> Any:
    return (x * 2).sum()


CASES = [
    (name, function, tuple_inputs)
    for name, functions in {
        "jacobian": (one_to_one, many_to_many, many_to_scalar, unused),
        "vjp": (many_to_scalar, unused),
        "jvp": (one_to_one, many_to_many, many_to_scalar, unused),
        "hessian": (many_to_scalar, unused),
        "hvp": (many_to_scalar, unused),
        "vhp": (many_to_scalar, unused),
    }.items()
    for function in functions
    for tuple_inputs in [function is not one_to_one]
]


def compare(mine: Any, theirs: Any) -> None:
    if isinstance(theirs, tuple):
        assert isinstance(mine, tuple) and len(mine) == len(theirs)
        for a, b in zip(mine, theirs, strict=True):
            compare(a, b)
        return
    assert isinstance(mine, tm.Tensor) and tuple(mine.shape) == tuple(theirs.shape)
    np.testing.assert_allclose(mine.detach().numpy(), theirs.detach().numpy(), 1e-10, 1e-12)


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize(("name", "function", "tuple_inputs"), CASES)
def test_functional(name: str, function: Any, tuple_inputs: bool, create_graph: bool) -> None:
    results = []
    for lib, make in ((tm, tm.tensor), (torch, torch.tensor)):
        t = {k: make(a, requires_grad=k in "xy") for k, a in ARRAYS.items()}
        inputs = (t["x"], t["y"]) if tuple_inputs else t["x"]
        vectors = (t["v"], t["u"]) if tuple_inputs else t["v"]
        args = [inputs, vectors] if name in ("jvp", "hvp", "vhp") else [inputs]
        call = getattr(lib.autograd.functional, name)
        results.append(call(function, *args, create_graph=create_graph))
    compare(*results)


class Library:
    """One program, written once, run on either side."""

    def __init__(self, lib: Any) -> None:
        self.lib = lib
        self.log: list[Any] = []

    def leaf(self) -> Any:
        return self.lib.tensor([1.0, 2.0, 3.0], dtype=self.lib.float64, requires_grad=True)

    def note(self, value: Any) -> None:
        self.log.append(value.tolist() if hasattr(value, "tolist") else value)

    def hooks(self) -> None:
        x = self.leaf()
        y = x * 2
        x.register_hook(lambda g: self.note(g))
        y.register_hook(lambda g: g * 3)
        y.register_hook(lambda g: self.note(g))
        y.retain_grad()
        x.register_post_accumulate_grad_hook(lambda t: self.note(t.grad))
        (y * y).sum().backward()
        self.note(y.grad)
        self.note(y.retains_grad)
        self.note(x.retains_grad)

    def retained_and_changed(self) -> None:
        x = self.leaf()
        y = x * 2
        y.retain_grad()
        z = y * 3
        y.mul_(5)
        (y.sum() + z.sum()).backward()
        self.note(y.grad)
        self.note(x.grad)

    def inputs_of_backward(self) -> None:
        x, w = self.leaf(), self.leaf()
        y = x * w
        (y * y).sum().backward(inputs=[y, w])
        self.note(y.grad)
        self.note(w.grad)
        self.note(x.grad)

    def flags(self) -> None:
        x = self.leaf()
        y = x.detach()
        z = (x * 2)[1:]
        with self.lib.no_grad():
            a = x + 1
            b = x.clone().requires_grad_()
        for t in (x, y, z, a, b, z.clone(), x.round() > 1):
            self.note(t.requires_grad)
            self.note(t.is_leaf)
        y.requires_grad_()
        self.note(y.is_leaf and y.requires_grad)
        x.requires_grad_(False)
        self.note((x * 2).requires_grad)

    def function(self) -> None:
        note = self.note

        class Mine(self.lib.autograd.Function):  # type: ignore[name-defined,misc]
            @staticmethod
            def forward(ctx: Any, x: Any, n: int, y: Any) -> Any:
                note(ctx.needs_input_grad)
                out, other = x**n * y, y + 1
                ctx.save_for_backward(x, y, out)
                ctx.n = n
                return out, other

            @staticmethod
            def backward(ctx: Any, g: Any, g_other: Any) -> Any:
                x, y, out = ctx.saved_tensors
                note(g_other)
                note(out.requires_grad)
                return g * ctx.n * out / x, None, g * out / y + g_other

        x, y = self.leaf(), self.leaf()
        out, other = Mine.apply(x, 3, y)
        note(other)
        grads = self.lib.autograd.grad(out.sum(), [x, y], create_graph=True)
        for g in grads:
            note(g)
        for g in self.lib.autograd.grad(grads[0].sum() + grads[1].sum(), [x, y]):
            note(g)
        out, other = Mine.apply(x.detach(), 2, y)
        other.sum().backward()
        note(y.grad)

    def accumulation(self) -> None:
        x = self.leaf()
        kept = []
        for _ in range(3):
            (x * x).sum().backward()
            kept.append(x.grad)
        self.note(kept[0] is kept[2])
        self.note(kept[0])
        x.grad = None
        self.lib.autograd.backward([x.sum(), (x * 2).sum()])
        self.note(x.grad)
        self.note(x.grad.requires_grad)


PROGRAMS = [n for n in vars(Library) if not n.startswith("_") and n not in ("leaf", "note")]


@pytest.mark.parametrize("name", PROGRAMS)
def test_program(name: str) -> None:
    mine, theirs = Library(tm), Library(torch)
    getattr(mine, name)()
    getattr(theirs, name)()
    assert len(mine.log) > 0
    for i, (a, b) in enumerate(zip(mine.log, theirs.log, strict=True)):
        assert np.allclose(a, b) if isinstance(b, list | tuple) else a == b, f"{i}: {a}, not {b}"
