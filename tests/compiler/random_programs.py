"""Random programs of tensors, run eager and as machine code.

    python -m tests.compiler.random_programs                        # 200 programs in float64
    python -m tests.compiler.random_programs --count 2000 --ops 30 --dtype float32 --seed 7

A program is text: lines over a growing list of tensors, some of them state that is changed in
place.  What it consists of is up to a `Choose`, a function that returns a number below another: a
seeded generator's, or that of hypothesis, which then makes failing programs small.
"""

from __future__ import annotations

import argparse
import linecache
import math
import time
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, NamedTuple, TypeVar

import numpy as np

import toumei as tm
from tests.compiler.agree import Array, differences, native, scattered
from toumei.compiler.llvm.target import Target
from toumei.config import run_quietly
from toumei.errors import ToumeiError

T = TypeVar("T")
Shape = tuple[int, ...]
Choose = Callable[[int], int]

SIZES = (1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 33, 64, 150)
LARGEST = 20_000  # elements of a tensor


class Known(NamedTuple):
    """A tensor that the program has."""

    name: str
    shape: Shape

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def ndim(self) -> int:
        return len(self.shape)


class Builder:
    """A program that is being written."""

    def __init__(self, choose: Choose, ops: int, dtype: str = "float64") -> None:
        self.choose, self.dtype = choose, dtype
        self.rng = np.random.default_rng(0)  # of the numbers alone
        self.lines: list[str] = []
        self.known: list[Known] = []
        self.arguments: list[Array] = []
        self.states: list[Array] = []
        self.names = count()
        self.differentiated = self.chance(2, 3)
        for _ in range(1 + choose(3)):
            self.tensor(self.shape())
        for _ in range(choose(3)):
            self.states.append(self.normal(self.shape(1 + choose(3))))
            self.known.append(Known(f"s[{len(self.states) - 1}]", self.states[-1].shape))
        for _ in range(ops):
            self.pick(OPERATIONS)(self)
        made = [k for k in self.known if k.name not in self.state_names()]
        self.results = [made[-1], *(self.pick(made) for _ in range(choose(3)))]

    # --- choices ---

    def chance(self, part: int, whole: int) -> bool:
        """Return True in `part` of `whole` cases."""
        return self.choose(whole) < part

    def pick(self, things: Sequence[T]) -> T:
        """Return one of some things."""
        return things[self.choose(len(things))]

    def shape(self, ndim: int | None = None) -> Shape:
        """Return the shape of a new tensor."""
        sizes = [self.pick(SIZES) for _ in range(self.choose(5) if ndim is None else ndim)]
        while math.prod(sizes) > LARGEST:
            sizes[sizes.index(max(sizes))] //= 4
        return tuple(sizes)

    def value(self, test: Callable[[Known], bool] = lambda k: True) -> Known:
        """Return a tensor that suits: one of the last, or a new one."""
        suited = [k for k in self.known if k.size <= LARGEST // 2 and test(k)]
        if suited and self.chance(5, 6):
            return suited[-1 - min(self.choose(len(suited)), self.choose(len(suited)))]
        for ndim in (0, 1, 2, 3, 4):
            new = Known("", (6, 4, 5, 6)[:ndim])
            if test(new):
                return self.tensor(new.shape)
        raise AssertionError("no tensor would suit")

    def alike(self, shape: Shape) -> Known:
        """Return a tensor that broadcasts to a shape."""
        suited = [k for k in self.known if broadcasts(k.shape, shape)]
        if suited and self.chance(2, 3):
            return self.pick(suited)
        sizes = [1 if self.chance(1, 3) else n for n in shape]
        return self.tensor(tuple(sizes[self.choose(len(sizes) + 1) :]))

    def dims(self, k: Known) -> list[int]:
        """Return some of a tensor's dims, at least one."""
        return [d for d in range(k.ndim) if self.chance(1, 2)] or [self.choose(k.ndim)]

    # --- lines ---

    def add(self, text: str, shape: Sequence[int]) -> Known:
        """Write a line that computes a tensor."""
        name = f"v{next(self.names)}"
        self.lines.append(f"{name} = {text}")
        self.known.append(Known(name, tuple(shape)))
        return self.known[-1]

    def normal(self, shape: Shape) -> Array:
        """Return random numbers, at times scattered in memory."""
        numbers = np.asarray(self.rng.normal(size=shape)).astype(self.dtype)
        return scattered(numbers) if self.chance(1, 4) else numbers

    def tensor(self, shape: Shape) -> Known:
        """Let the program have another argument."""
        self.arguments.append(self.normal(shape))
        self.known.append(Known(f"a[{len(self.arguments) - 1}]", shape))
        return self.known[-1]

    def index(self, shape: Shape, below: int) -> str:
        """Let the program have an argument of integers; return its name."""
        self.arguments.append(self.rng.integers(0, below, shape))
        return f"a[{len(self.arguments) - 1}]"

    def state_names(self) -> list[str]:
        """Return the names of the tensors that are changed in place."""
        return [f"s[{i}]" for i in range(len(self.states))]

    # --- the program ---

    def source(self) -> str:
        """Return the program: a function of arguments and states."""
        results = ", ".join(k.name for k in self.results)
        ends = [f"results = [{results}]"]
        if self.differentiated:
            ends += [
                "leaves = [x for x in a if x.requires_grad]",
                "loss = sum((y * y.detach().tanh()).mean() for y in results if y.requires_grad)",
                "gs = gradients(loss, leaves)",
                "return [y.detach() for y in results], [g for g in gs if g is not None]",
            ]
        else:
            ends.append("return results")
        return "\n".join(["def step(a, s):", *(f"    {line}" for line in [*self.lines, *ends])])

    def step(self) -> Callable[..., Any]:
        """Return the program as a function."""
        text, name = self.source(), f"<program {id(self)}>"
        linecache.cache[name] = len(text), None, text.splitlines(keepends=True), name
        names = {"tm": tm, "F": tm.nn.functional, "gradients": gradients}
        exec(compile(text, name, "exec"), names)
        made: Callable[..., Any] = names["step"]  # type: ignore[assignment]
        return made

    def inputs(self) -> tuple[list[tm.Tensor], list[tm.Tensor]]:
        """Return the arguments and the states."""
        arguments = [tm.from_numpy(a) for a in self.arguments]
        for t in arguments:
            if self.differentiated and t.dtype.kind == "f":
                t.requires_grad_()
        return arguments, [tm.from_numpy(a) for a in self.states]


def gradients(loss: Any, leaves: list[tm.Tensor]) -> Any:
    """Return the gradients that there are."""
    if not isinstance(loss, tm.Tensor):  # no result requires grad
        return []
    return tm.autograd.grad(loss, leaves, allow_unused=True)


def broadcasts(shape: Shape, to: Shape) -> bool:
    """Tell whether a shape broadcasts to another."""
    if len(shape) > len(to):
        return False
    return all(n in (1, m) for n, m in zip(shape[::-1], to[::-1], strict=False))


def run(program: Builder, target: str = "host") -> list[str] | None:
    """Return how a program differs as machine code for a target; None if eager refuses it.

    It does so where the backward pass needs a number that a later line has changed.
    """
    step = program.step()
    try:
        run_quietly(step, *program.inputs())
    except ToumeiError:
        return None
    return differences(step, program.inputs(), native(step, Target.named(target)), calls=2)


# --- what programs consist of ---------------------------------------------------------------------

OPERATIONS: list[Callable[[Builder], object]] = []


def often(times: int) -> Callable[[T], T]:
    """Register a kind of line, so many times as likely as others."""

    def register(write: Any) -> Any:
        OPERATIONS.extend([write] * times)
        return write

    return register


_UNARY = (
    "{0} * 2", "{0}.tanh()", "{0}.sigmoid()", "{0}.sin()", "{0}.abs()", "-{0}", "{0}.relu()",
    "{0}.tanh().exp()", "{0}**2", "({0}.abs() + 0.1).sqrt()", "({0}.abs() + 0.5).log()",
    "{0}.erf()", "F.gelu({0})", "F.silu({0})", "F.softplus({0})", "{0}.clamp(-0.7, 0.9)",
    "1 / (1 + {0}.abs())", "F.leaky_relu({0}, 0.1)", "{0}.masked_fill({0} > 0.3, -1.0)",
    "{0}.double().sin().to({0}.dtype)", "F.dropout({0}, 0.3)", "({0} * 3).floor() * 0.1 + {0}",
)  # fmt: skip


@often(4)
def unary(p: Builder) -> object:
    k = p.value()
    return p.add(p.pick(_UNARY).format(k.name), k.shape)


_BINARY = (
    "{0} + {1}", "{0} - {1}", "{1} * {0}", "{0} / ({1}.abs() + 0.6)", "tm.maximum({0}, {1})",
    "tm.where({0} > {1}, {0}, {1} * 2)", "1 - {0} * {1}", "tm.atan2({0}, {1} + 3)",
    "tm.lerp({0}, {1}, 0.3)", "tm.addcmul({0}, {1}, {1}, value=0.5)", "tm.hypot({0}, {1} + 2)",
)  # fmt: skip


@often(4)
def binary(p: Builder) -> object:
    k = p.value()
    return p.add(p.pick(_BINARY).format(k.name, p.alike(k.shape).name), k.shape)


def along(shape: Shape, dims: Sequence[int], keepdim: bool) -> Shape:
    """Return the shape of a reduction."""
    return tuple(1 if d in dims else n for d, n in enumerate(shape) if keepdim or d not in dims)


_REDUCTIONS = ("sum", "mean", "amax", "amin", "logsumexp", "var", "prod")


@often(4)
def reduction(p: Builder) -> object:
    k = p.value(lambda k: k.ndim > 0)
    how, dims, keepdim = p.pick(_REDUCTIONS), p.dims(k), p.chance(1, 2)
    if how == "prod":
        dims, text = dims[:1], f"(1 + 0.01 * {k.name}.tanh()).prod({dims[0]}, keepdim={keepdim})"
    elif how == "var":
        text = f"{k.name}.var({dims}, keepdim={keepdim}, unbiased=False)"
    else:
        text = f"{k.name}.{how}({dims}, keepdim={keepdim})" + (" * 0.1" if how == "sum" else "")
    return p.add(text, along(k.shape, dims, keepdim))


_ROWS = (
    "{0} - {0}.mean({1}, keepdim=True)", "{0} / ({0}.abs().amax({1}, keepdim=True) + 1)",
    "({0} - {0}.mean({1}, keepdim=True)) / "
    "({0}.var({1}, keepdim=True, unbiased=False) + 0.1).sqrt()",
    "F.softmax({0}, {2})", "F.log_softmax({0}, {2})", "F.normalize({0}, dim={2})",
)  # fmt: skip


@often(3)
def rows(p: Builder) -> object:
    k = p.value(lambda k: k.ndim > 0)
    dims = p.dims(k)
    return p.add(p.pick(_ROWS).format(k.name, dims, dims[0]), k.shape)


@often(1)
def norm(p: Builder) -> object:
    k = p.value(lambda k: k.ndim > 1 and k.size // k.shape[1] > 1)
    way = p.choose(4)
    if way == 0:
        shape = k.shape[-1 - p.choose(k.ndim) :]
        w, b = p.tensor(shape).name, p.tensor(shape).name
        return p.add(f"F.layer_norm({k.name}, {list(shape)}, {w}, {b})", k.shape)
    if way == 1:
        return p.add(f"F.batch_norm({k.name}, None, None, training=True)", k.shape)
    if way == 2 and k.shape[1] % 2 == 0:
        return p.add(f"F.group_norm({k.name}, 2)", k.shape)
    return p.add(f"F.rms_norm({k.name}, {list(k.shape[-1:])})", k.shape)


# --- views ---


@often(2)
def order(p: Builder) -> object:
    k = p.value(lambda k: k.ndim > 1)
    dims = list(range(k.ndim))
    order = [dims.pop(p.choose(len(dims))) for _ in range(k.ndim)]
    return p.add(f"{k.name}.permute({order})", [k.shape[d] for d in order])


@often(2)
def shape(p: Builder) -> object:
    k = p.value(lambda k: k.ndim > 0)
    if k.ndim > 1 and p.chance(1, 2):
        d = p.choose(k.ndim - 1)
        joined = (*k.shape[:d], k.shape[d] * k.shape[d + 1], *k.shape[d + 2 :])
        return p.add(f"{k.name}.flatten({d}, {d + 1})", joined)
    d = p.choose(k.ndim)
    part = next((f for f in (2, 3, 5) if k.shape[d] % f == 0), 1)
    new = (*k.shape[:d], part, k.shape[d] // part, *k.shape[d + 1 :])
    return p.add(f"{k.name}.reshape({list(new)})", new) if k.ndim < 5 else None


@often(2)
def part(p: Builder) -> object:
    k = p.value(lambda k: k.ndim > 0)
    d = p.choose(k.ndim)
    n, before = k.shape[d], ":, " * d
    if p.chance(1, 3):
        return p.add(f"{k.name}[{before}{p.choose(n)}]", k.shape[:d] + k.shape[d + 1 :])
    start, step = p.choose((n + 1) // 2), 1 + p.choose(3)
    stop = start + 1 + p.choose(n - start)
    size = len(range(start, stop, step))
    new = (*k.shape[:d], size, *k.shape[d + 1 :])
    return p.add(f"{k.name}[{before}{start}:{stop}:{step}]", new)


@often(1)
def diagonal(p: Builder) -> object:
    k = p.value(lambda k: k.ndim > 1)
    a = p.choose(k.ndim - 1)
    b = a + 1 + p.choose(k.ndim - 1 - a)
    rest = [n for d, n in enumerate(k.shape) if d not in (a, b)]
    return p.add(f"{k.name}.diagonal(0, {a}, {b})", [*rest, min(k.shape[a], k.shape[b])])


@often(1)
def turned(p: Builder) -> object:
    k = p.value(lambda k: k.ndim > 0)
    d, by = p.choose(k.ndim), 1 + p.choose(4)
    return p.add(p.pick([f"{k.name}.flip([{d}])", f"{k.name}.roll({by}, {d})"]), k.shape)


@often(1)
def larger(p: Builder) -> object:
    k = p.value(lambda k: k.ndim < 5 and k.size < LARGEST // 8)
    d, times = p.choose(k.ndim + 1), 2 + p.choose(3)
    new = (*k.shape[:d], times, *k.shape[d:])
    return p.add(f"{k.name}.unsqueeze({d}).expand({list(new)})", new)


@often(1)
def windows(p: Builder) -> object:
    k = p.value(lambda k: 0 < k.ndim < 5 and max(k.shape) >= 4 and k.size < LARGEST // 4)
    d = k.shape.index(max(k.shape))
    n = (k.shape[d] - 3) // 2 + 1
    return p.add(f"{k.name}.unfold({d}, 3, 2)", (*k.shape[:d], n, *k.shape[d + 1 :], 3))


# --- several tensors ---


@often(2)
def together(p: Builder) -> object:
    k = p.value(lambda k: 0 < k.ndim < 5 and k.size < LARGEST // 4)
    other = p.pick([o for o in p.known if o.shape == k.shape])
    d = p.choose(k.ndim)
    if p.chance(1, 3):
        return p.add(f"tm.stack([{k.name}, {other.name}], {d})", (*k.shape[:d], 2, *k.shape[d:]))
    parts = p.pick([f"{k.name}, {other.name}", f"-{k.name}, {other.name}.tanh(), {k.name} + 1"])
    size = (parts.count(",") + 1) * k.shape[d]
    return p.add(f"tm.cat([{parts}], {d})", (*k.shape[:d], size, *k.shape[d + 1 :]))


@often(1)
def padded(p: Builder) -> object:
    k = p.value(lambda k: k.ndim > 0 and k.shape[-1] > 1)
    before, after = p.choose(4) - 1, p.choose(3)
    size = k.shape[-1] + before + after
    mode = "value=0.5" if k.ndim < 2 or before < 0 or max(before, after) >= k.shape[-1] else ""
    mode = mode or p.pick(["value=0.5", "mode='replicate'"])
    if k.ndim not in (2, 3):
        mode = "value=0.5"
    return p.add(f"F.pad({k.name}, ({before}, {after}), {mode})", (*k.shape[:-1], size))


@often(2)
def product(p: Builder) -> object:
    k = p.value(lambda k: k.ndim > 1 and k.size < LARGEST // 4)
    *batch, m, inner = k.shape
    n = p.pick(SIZES)
    way = p.choose(6)
    if way == 0:
        return p.add(f"{k.name} @ {p.tensor((inner, n)).name} * 0.2", (*batch, m, n))
    if way == 1:
        w, b = p.tensor((n, inner)).name, p.tensor((n,)).name
        return p.add(f"F.linear({k.name}, {w}, {b}) * 0.2", (*batch, m, n))
    if way == 2 and math.prod(batch) * m * m < LARGEST:
        return p.add(f"{k.name} @ {k.name}.mT * 0.1", (*batch, m, m))
    if way == 3 and math.prod(batch) * inner * inner < LARGEST:
        return p.add(f"{k.name}.mT @ {k.name} * 0.1", (*batch, inner, inner))
    if way == 4:
        some = tuple(1 if p.chance(1, 3) else s for s in batch)
        return p.add(f"{k.name} @ {p.tensor((*some, inner, 3)).name} * 0.2", (*batch, m, 3))
    return p.add(f"{k.name} @ {p.tensor((inner,)).name} * 0.2", (*batch, m))


@often(1)
def convolution(p: Builder) -> object:
    k = p.value(lambda k: k.ndim in (3, 4) and k.size < LARGEST // 4 and k.shape[1] <= 17)
    out, stride, rank = p.pick((1, 2, 3, 8, 16, 17)), 1 + p.choose(2), k.ndim - 2
    w = p.tensor((out, k.shape[1], *[3] * rank)).name
    bias = f", {p.tensor((out,)).name}" if p.chance(1, 2) else ""
    new = (k.shape[0], out, *[(n - 1) // stride + 1 for n in k.shape[2:]])
    text = f"F.conv{rank}d({k.name}, {w}{bias}, stride={stride}, padding=1) * 0.2"
    return p.add(text, new) if math.prod(new) < LARGEST else None


@often(1)
def pooling(p: Builder) -> object:
    k = p.value(lambda k: k.ndim == 4 and min(k.shape[2:]) >= 2)
    new = (*k.shape[:2], k.shape[2] // 2, k.shape[3] // 2)
    return p.add(f"F.{p.pick(['max', 'avg'])}_pool2d({k.name}, 2)", new)


# --- indices ---


@often(2)
def indexed(p: Builder) -> object:
    k = p.value(lambda k: k.ndim > 0 and k.size < LARGEST // 4)
    d, m = p.choose(k.ndim), 1 + p.choose(8)
    new = (*k.shape[:d], m, *k.shape[d + 1 :])
    way = p.choose(5)
    if way == 0:
        return p.add(f"{k.name}.index_select({d}, {p.index((m,), k.shape[d])})", new)
    if way == 1:
        return p.add(f"{k.name}.gather({d}, {p.index(new, k.shape[d])})", new)
    if way == 2:
        more = p.tensor(new).name
        return p.add(f"{k.name}.index_add({d}, {p.index((m,), k.shape[d])}, {more})", k.shape)
    if way == 3:
        return p.add(f"{k.name}.cumsum({d}) * 0.1", k.shape)
    found = f"{p.tensor(k.shape).name}.argmax({d}, keepdim=True)"  # of what is surely no tie
    return p.add(f"{found}.to({k.name}.dtype) + {k.name}", k.shape)


@often(1)
def labelled(p: Builder) -> object:
    k = p.value(lambda k: k.ndim == 2 and k.size < LARGEST // 4)
    n, classes = k.shape
    labels = p.index((n,), classes)
    way = p.choose(3)
    if way == 0:
        return p.add(f"F.cross_entropy({k.name}, {labels}, reduction='none')", (n,))
    if way == 1:
        return p.add(f"{k.name} * F.one_hot({labels}, {classes})", k.shape)
    return p.add(f"F.embedding({p.index((2, 3), n)}, {k.name})", (2, 3, classes))


# --- in place ---

_CHANGES = (
    "{0}.add_({1} * 0.1)", "{0}.mul_({1}.tanh())", "{0}.copy_({1}.tanh())", "{0}.zero_()",
    "{0}.mul_(0.9).add_({1}, alpha=0.1)", "{0}[..., ::2].mul_(0.5)", "{0}[0].add_({1}.mean())",
    "{0}.copy_({0}.detach().flip([0]))", "{0}.sub_({0}.detach().mean())", "{0}[1:].copy_({0}[:-1])",
)  # fmt: skip


@often(2)
def changed(p: Builder) -> object:
    states = [k for k in p.known if k.name in p.state_names()]
    if not states:
        return None
    state = p.pick(states)
    by = f"{p.alike(state.shape).name}.detach()"
    p.lines.append(p.pick(_CHANGES).format(state.name, by))
    return None


_WITHIN = (
    "{0}[..., ::2].mul_({1})", "{0}.mul_({1})", "{0}.add_({1}).tanh_()", "{0}[0].copy_({1}.mean())",
    "{0}.masked_fill_({0} > 0.2, 0.5)", "{0}[1:] *= 2", "{0}.sub_({0}.mean())",
)  # fmt: skip


@often(1)
def changed_within(p: Builder) -> object:
    k = p.value(lambda k: k.ndim > 0)
    new = p.add(f"{k.name} * 1.5", k.shape)
    for _ in range(1 + p.choose(2)):
        p.lines.append(p.pick(_WITHIN).format(new.name, p.alike(k.shape).name))
    return new


# --- the command ----------------------------------------------------------------------------------


def main() -> None:
    """Run programs; print those that differ, or that can't be compiled."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ops", type=int, default=14)
    parser.add_argument("--dtype", default="float64")
    parser.add_argument("--target", default="host", help="avx2, generic …")
    options = parser.parse_args()
    began, verdicts = time.perf_counter(), {"equal": 0, "different": 0, "refused": 0}
    for seed in range(options.seed, options.seed + options.count):
        rng = np.random.default_rng(seed)
        program = Builder(lambda n, rng=rng: int(rng.integers(n)), options.ops, options.dtype)  # type: ignore[misc]
        try:
            wrong = run(program, options.target)
        except Exception as failure:
            wrong = [f"{type(failure).__name__}: {failure}"]
        verdicts["refused" if wrong is None else "different" if wrong else "equal"] += 1
        if wrong:
            print(f"--- {seed}\n{program.source()}\n{wrong[0]}")
    print(verdicts, f"in {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
