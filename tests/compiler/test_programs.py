"""Less usual steps: hooks, functions of one's own, steps by hand, recurrent layers, odd memory."""

from __future__ import annotations

import functools
import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

import toumei as tm
from tests.compiler.eager import check, exact
from toumei import nn, optim
from toumei.compiler import Compiled


def test_a_function_with_a_backward_of_its_own() -> None:
    class Cube(tm.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: tm.Tensor) -> tm.Tensor:
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx: Any, g: tm.Tensor) -> tm.Tensor:
            (x,) = ctx.saved_tensors
            return g * 3 * x * x

    class Same(tm.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: tm.Tensor) -> tm.Tensor:
            return x

        @staticmethod
        def backward(ctx: Any, g: tm.Tensor) -> tm.Tensor:
            return g * 2

    def build(compile: Any) -> Iterator[Any]:
        w = nn.Parameter(tm.rand(3))

        @compile
        def f(x: tm.Tensor) -> tm.Tensor:
            w.grad = None
            loss = Cube.apply(Same.apply(w) * x).sum()
            loss.backward()
            return loss.detach()

        for _ in range(3):
            yield f(tm.rand(3)), w.grad
            with tm.no_grad():
                w.add_(0.1)

    check(build)


def test_functions_of_derivatives() -> None:
    def build(compile: Any) -> Iterator[Any]:
        functional = tm.autograd.functional

        @compile
        def f(x: tm.Tensor) -> Any:
            return (
                functional.jacobian(lambda t: t**2, x),
                functional.hessian(lambda t: (t**3).sum(), x),
                functional.jvp(tm.sin, x, tm.ones(3)),
                functional.vjp(tm.sin, x, tm.ones(3)),
                functional.hvp(lambda t: (t**4).sum(), x, tm.ones(3)),
            )

        for _ in range(2):
            yield f(tm.rand(3))

    check(build)


def test_an_optimiser_by_hand() -> None:
    def build(compile: Any) -> Iterator[Any]:
        ws = [nn.Parameter(tm.rand(3)) for _ in range(2)]

        @compile
        def by_data(x: tm.Tensor, lr: float) -> Any:
            for p in ws:
                p.grad = None
            loss = ((ws[0] * x).sin() * ws[1]).sum()
            loss.backward()
            for p in ws:
                assert p.grad is not None
                p.data = p.data - lr * p.grad
            return loss.detach()

        @compile
        def in_place(x: tm.Tensor, lr: float) -> Any:
            ((ws[0] * x).sin() * ws[1]).sum().backward()
            with tm.no_grad():
                for p in ws:
                    assert p.grad is not None
                    p -= lr * p.grad
                    p.grad.zero_()

        for i in range(4):
            yield by_data(tm.rand(3), 0.1 * i)
            yield ws, [p.grad for p in ws]
            yield in_place(tm.rand(3), 0.1 * i)
            yield ws, [p.grad for p in ws]

    check(build)


def test_hooks() -> None:
    def build(compile: Any) -> Iterator[Any]:
        model = nn.Sequential(nn.Linear(3, 3), nn.Tanh())
        model[0].register_forward_hook(lambda module, args, out: out * 2)
        model[0].weight.register_hook(lambda g: g * 0.5)
        optimizer = optim.SGD(model.parameters(), 0.1)

        @compile
        def f(x: tm.Tensor) -> Any:
            optimizer.zero_grad()
            y = model(x)
            y.retain_grad()
            y.register_hook(lambda g: g + 1)
            loss = y.sum()
            loss.backward()
            optimizer.step()
            return y.grad, loss.detach()

        for _ in range(3):
            yield f(tm.rand(2, 3))
            yield model.state_dict()
        model.register_forward_pre_hook(lambda module, args: (args[0] + 1,))
        yield f(tm.rand(2, 3))

    check(build)


def test_lazy_layers() -> None:
    def build(compile: Any) -> Iterator[Any]:
        model = nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.LazyLinear(2))
        f = compile(lambda x: model(x).detach())
        for _ in range(2):
            yield f(tm.rand(2, 3))

    check(build)


def test_recurrent_layers() -> None:
    def build(compile: Any) -> Iterator[Any]:
        lstm, gru, rnn = nn.LSTM(3, 4, 2, bidirectional=True), nn.GRU(8, 3), nn.RNN(3, 2)
        cell = nn.LSTMCell(2, 3)
        both = nn.ModuleList([lstm, gru, rnn, cell])
        optimizer = optim.SGD(both.parameters(), 0.1)

        @compile
        def f(x: tm.Tensor, h: tm.Tensor, state: Any) -> Any:
            optimizer.zero_grad()
            y, (last, _) = lstm(x)
            y, _ = rnn(gru(y)[0], h)
            for t in range(len(y)):
                state = cell(y[t], state)
            loss = y.pow(2).sum() + last.sum() + state[0].sum()
            loss.backward()
            optimizer.step()
            return loss.detach(), tuple(s.detach() for s in state)

        state: Any = (tm.zeros(2, 3), tm.zeros(2, 3))
        for _ in range(3):
            loss, state = f(tm.rand(5, 2, 3), tm.rand(1, 2, 2), tuple(state))
            yield loss, state, both.state_dict()

    check(build)


def test_attention_with_masks() -> None:
    def build(compile: Any) -> Iterator[Any]:
        layer = nn.MultiheadAttention(4, 2, batch_first=True)
        causal = tm.ones(5, 5).bool().triu(1)
        optimizer = optim.SGD(layer.parameters(), 0.1)

        @compile
        def f(x: tm.Tensor, pad: tm.Tensor) -> Any:
            optimizer.zero_grad()
            y, weights = layer(x, x, x, attn_mask=causal, key_padding_mask=pad)
            loss = y.pow(2).sum()
            loss.backward()
            optimizer.step()
            return loss.detach(), weights.detach()

        for i in range(3):
            pad = tm.zeros(2, 5).bool()
            pad[:, 4 - i :] = True
            yield f(tm.rand(2, 5, 4), pad)
            if i == 1:
                causal[4, 0] = True  # an outside tensor is read anew at each call
        yield layer.state_dict()

    check(build)


def test_empty_and_scattered_memory() -> None:
    def build(compile: Any) -> Iterator[Any]:
        nothing = tm.zeros(0)
        memory = tm.zeros(4, 6)[:, ::2].t()
        w = nn.Parameter(tm.rand(6, 4).t())
        optimizer = optim.Adam([w])

        @compile
        def f(x: tm.Tensor) -> Any:
            nothing.add_(1)
            optimizer.zero_grad()
            loss = (x @ w).pow(2).sum()
            loss.backward()
            optimizer.step()
            memory.add_(x.sum() + 1)
            return loss.detach(), nothing * 2, x.sum(0)

        for n in (0, 1, 4):
            yield f(tm.rand(4, n).t())
            yield memory, w, nothing

    check(build)


def test_memory_that_changes_places() -> None:
    def build(compile: Any) -> Iterator[Any]:
        a, b = tm.rand(3), tm.rand(3)
        whole = tm.rand(4)
        head = whole[:2]  # a view made outside of the step

        @compile
        def f() -> Any:
            old = a.clone()
            a.copy_(b)
            b.copy_(old)
            whole.add_(1)
            head.mul_(2)
            return head.sum()

        for _ in range(3):
            yield f()
            yield a, b, whole, head

    check(build)


def test_a_gradient_that_is_given() -> None:
    def build(compile: Any) -> Iterator[Any]:
        w = nn.Parameter(tm.rand(3))

        @compile
        def f(g: tm.Tensor, x: tm.Tensor) -> bool:
            w.grad = g
            (w * x).sum().backward()
            return w.grad is g

        for _ in range(3):
            g = tm.rand(3)
            yield f(g, tm.rand(3))
            yield w.grad, g

    check(build)
    a, b = nn.Parameter(tm.ones(2)), nn.Parameter(tm.ones(2))
    a.grad, b.grad = tm.zeros(2), tm.ones(2)

    @exact
    def swap() -> None:
        a.grad, b.grad = b.grad, a.grad

    with pytest.raises(tm.errors.TraceError, match="gradient that of another one"):
        swap()
    assert a.grad.tolist() == [0, 0]


def test_what_is_not_a_plain_function() -> None:
    class Scale:
        def __init__(self) -> None:
            self.by = 2

        def __call__(self, x: tm.Tensor) -> tm.Tensor:
            return x * self.by

    scale = Scale()
    for compiled in (exact(scale), exact(functools.partial(lambda s, x: s(x), scale))):
        scale.by = 2
        assert compiled(tm.ones(1)).item() == 2
    scale.by = 3
    assert exact(scale)(tm.ones(1)).item() == 3
    quick = exact(scale)
    quick(tm.ones(1))
    scale.by = 4
    assert quick(tm.ones(1)).item() == 4

    def numbers(x: tm.Tensor) -> Any:
        yield x

    with pytest.raises(tm.errors.TraceError, match="generator"):
        exact(numbers)(tm.ones(1))


def test_a_trace_lets_go_of_what_it_saw() -> None:
    w = nn.Parameter(tm.ones(1000))
    seen: list[Any] = []

    class Noting(nn.Module):
        def forward(self, x: tm.Tensor) -> tm.Tensor:
            y = x * w
            seen.append(weakref.ref(y))
            return y.sum()

    step: Compiled = exact(Noting().__call__)
    x = tm.ones(1000)
    step(x).backward()
    argument = weakref.ref(x)
    del x
    gc.collect()
    assert len(seen) == 1 and seen[0]() is None and argument() is None


def test_packed_sequences() -> None:
    def build(compile: Any) -> Iterator[Any]:
        lstm = nn.LSTM(3, 4)
        pack, pad = nn.utils.rnn.pack_padded_sequence, nn.utils.rnn.pad_packed_sequence

        @compile
        def of_tensor(x: tm.Tensor, lengths: tm.Tensor) -> tm.Tensor:
            y, _ = lstm(pack(x, lengths, enforce_sorted=False))
            return pad(y, total_length=5)[0].detach()

        @compile
        def of_list(x: tm.Tensor) -> tm.Tensor:
            return pad(lstm(pack(x, [5, 3]))[0])[0].detach()

        for _ in range(2):
            yield of_tensor(tm.rand(5, 2, 3), tm.tensor([3, 5])), of_list(tm.rand(5, 2, 3))

    check(build)


def test_sampling_word_by_word() -> None:
    def build(compile: Any) -> Iterator[Any]:
        table, head = nn.Embedding(7, 4), nn.Linear(4, 7)

        @compile
        @tm.no_grad()
        def more(tokens: tm.Tensor) -> Any:
            for _ in range(3):
                logits = head(table(tokens))[:, -1]
                tokens = tm.cat([tokens, tm.multinomial(logits.softmax(-1), 1)], 1)
            return tokens, logits.topk(2)

        for _ in range(2):
            yield more(tm.randint(0, 7, (2, 3)))

    check(build)


def test_layers_that_are_frozen_or_unused() -> None:
    def build(compile: Any) -> Iterator[Any]:
        first, second, unused = nn.Linear(2, 3), nn.Linear(3, 1), nn.Linear(2, 2)
        model = nn.ModuleList([first, second, unused])
        optimizer = optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1, momentum=0.5)

        @compile
        def step(x: tm.Tensor, both: bool) -> None:
            optimizer.zero_grad()
            y = first(x)
            (second(y) if both else y).sum().backward()
            optimizer.step()

        for i in range(8):
            for p in first.parameters():
                p.requires_grad_(not 2 <= i < 4 or i % 2 == 1)
            step(tm.rand(3, 2), i < 6)
            yield model.state_dict(), [p.grad is None for p in unused.parameters()]

    check(build)


def test_the_number_of_threads_makes_a_new_trace() -> None:
    from toumei.compiler.llvm.runtime import get_num_threads, set_num_threads

    f: Compiled = exact(lambda x: x * 2)
    threads = get_num_threads()
    try:
        for n in (threads, threads + 1, threads):
            set_num_threads(n)
            f(tm.ones(2))
    finally:
        set_num_threads(threads)
    assert sum(map(len, f.programs.values())) == 2
