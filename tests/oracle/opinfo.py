"""Every op of PyTorch's OpInfo database, run on both sides.

    python -m tests.oracle.opinfo tanh linalg.inv      one or a few ops, with the first failure
    python -m tests.oracle.opinfo --all                all of them, a line each
    python -m tests.oracle.opinfo --write docs/ops.md  all of them, into the table

A name counts when every float64 sample of it (of all its variants) agrees in value, gradient and,
where PyTorch has one, second gradient.  Random ops are compared in shape and dtype.
"""

from __future__ import annotations

import argparse
import collections
import pathlib
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.testing._internal.common_methods_invocations import op_db

import toumei as tm
from toumei.errors import ToumeiError

RANDOM = {
    "bernoulli",
    "cauchy",
    "exponential",
    "geometric",
    "log_normal",
    "multinomial",
    "normal",
    "rand_like",
    "randint",
    "randint_like",
    "randn",
    "randn_like",
    "uniform",
    "nn.functional.alpha_dropout",
    "nn.functional.dropout",
    "nn.functional.dropout2d",
    "nn.functional.dropout3d",
    "nn.functional.feature_alpha_dropout",
    "nn.functional.fractional_max_pool2d",
    "nn.functional.fractional_max_pool3d",
    "nn.functional.rrelu",
    "empty",
    "empty_like",
    "empty_permuted",
    "empty_strided",
    "new_empty",
    "new_empty_strided",
}

SWAPPED = {"nn.functional.embedding", "nn.functional.embedding_bag"}  # the database's lambda swaps


class Outcome(NamedTuple):
    """How an op fared: samples that agreed, all samples, what went wrong first."""

    good: int
    total: int
    problem: str


def infos() -> dict[str, list[Any]]:
    """Return the variants of each op name that takes float64."""
    found = collections.defaultdict(list)
    for info in op_db:
        if torch.float64 in info.dtypes:
            found[info.name].append(info)
    return dict(found)


PLAIN = (None, "cpu", "contiguous_format")  # wishes that are always granted

# The database hands the tensor first; these functions take it later.
PLACES = {"einsum": (1, 0), "where": (1, 0, 2), "polygamma": (1, 0), "special.polygamma": (1, 0)}


def lookup(name: str) -> list[Callable[..., Any]]:
    """Return the public function and the Tensor method of a name, as far as they exist."""
    found: list[Callable[..., Any]] = []
    target: Any = tm
    for part in name.split("."):
        target = getattr(target, part, None)
    if callable(target):
        if name in PLACES:
            found.append(lambda *a: target(*(a[i] for i in PLACES[name])))
        else:
            found.append(target)
    if "." not in name and hasattr(tm.Tensor, name):
        method = getattr(tm.Tensor, name)
        if isinstance(method, property):
            found.append(lambda x, method=method: method.fget(x))
        elif name.endswith("_"):  # the database, too, changes a copy in place
            found.append(lambda x, *a, method=method, **k: method(x.clone(), *a, **k))
        elif callable(method) and method is not target:
            found.append(method)
    if name in SWAPPED:
        found = [lambda x, y, *a, f=f, **k: f(y, x, *a, **k) for f in found]
    if not found and name in RANDOM and hasattr(tm.Tensor, name + "_"):
        found.append(getattr(tm.Tensor, name + "_"))
    return found


DTYPES = {
    torch.float32: tm.float32, torch.float64: tm.float64, torch.int64: tm.int64,
    torch.int32: tm.int32, torch.uint8: tm.uint8, torch.bool: tm.bool,
}  # fmt: skip


def ours(value: Any, made: list[tuple[torch.Tensor, Any]]) -> Any:
    """Translate arguments; the pairs of tensors that require grad are added to `made`."""
    if isinstance(value, torch.Tensor):
        for known, t in made:  # the same tensor given twice
            if known is value:
                return t
        array = value.detach().numpy()
        t = tm.from_numpy(np.copy(array, order="K"))
        if value.requires_grad:
            t.requires_grad_()
            made.append((value, t))
        return t
    if isinstance(value, torch.dtype):
        if value not in DTYPES:
            raise NotImplementedError(f"dtype {value}")
        return DTYPES[value]
    if isinstance(value, torch.Size):
        return tuple(value)
    if isinstance(value, slice):
        return slice(*(ours(v, made) for v in (value.start, value.stop, value.step)))
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(ours(v, made) for v in value))
    if isinstance(value, list | tuple):
        return type(value)(ours(v, made) for v in value)
    if isinstance(value, dict):
        return {k: ours(v, made) for k, v in value.items()}
    if isinstance(value, torch.device):
        return str(value)
    if isinstance(value, torch.memory_format):
        return str(value).removeprefix("torch.")
    if value is torch.strided:
        return None
    if isinstance(value, torch.nn.PairwiseDistance):
        options = value.norm, value.eps, value.keepdim
        return lambda x1, x2: tm.nn.functional.pairwise_distance(x1, x2, *options)
    return value


def flat(value: Any, tensor: type) -> list[Any]:
    """Return the tensors and numbers within a result."""
    if isinstance(value, tensor):
        return [value]
    if isinstance(value, list | tuple):
        return [t for v in value for t in flat(v, tensor)]
    return [value] if value is not None else []


def check_equal(a: Any, b: Any, what: str, rtol: float, atol: float, values: bool = True) -> None:
    """Compare a result of ours with PyTorch's."""
    x = a.detach().numpy() if isinstance(a, tm.Tensor) else np.asarray(a)
    y = b.numpy(force=True) if isinstance(b, torch.Tensor) else np.asarray(b)
    assert x.shape == y.shape, f"{what}: shape {x.shape}, PyTorch {y.shape}"
    if isinstance(b, torch.Tensor):
        assert isinstance(a, tm.Tensor), f"{what}: a {type(a).__name__}, PyTorch a tensor"
        assert x.dtype == y.dtype, f"{what}: dtype {x.dtype}, PyTorch {y.dtype}"
    if values:
        np.testing.assert_allclose(x, y, rtol, atol, err_msg=what, equal_nan=True)


def check_sample(function: Callable[..., Any], info: Any, sample: Any, random: bool) -> None:
    """Compare one call: value, gradient, second gradient."""
    made: list[tuple[torch.Tensor, Any]] = []
    args = ours([sample.input, *sample.args], made)
    kwargs = {
        k: ours(v, made)
        for k, v in sample.kwargs.items()
        if not (k in ("layout", "device", "memory_format") and ours(v, []) in PLAIN)
    }
    raw = info.op(sample.input, *sample.args, **sample.kwargs)
    raw_mine = function(*args, **kwargs)
    theirs, mine = flat(raw, torch.Tensor), flat(raw_mine, tm.Tensor)
    assert len(mine) == len(theirs), f"{len(mine)} results, PyTorch {len(theirs)}"
    for i, (a, b) in enumerate(zip(mine, theirs, strict=True)):
        check_equal(a, b, f"value {i}", 1e-7, 1e-9, values=False)
    if random:
        return
    # Vectors that are only defined up to a sign: the database says what of them can be compared.
    process = sample.output_process_fn_grad or (lambda result: result)
    theirs, mine = flat(process(raw), torch.Tensor), flat(process(raw_mine), tm.Tensor)
    for i, (a, b) in enumerate(zip(mine, theirs, strict=True)):
        check_equal(a, b, f"value {i}", 1e-7, 1e-9)
    if not info.supports_autograd or not made:
        return
    twice = info.supports_gradgrad
    first = first_gradients(mine, theirs, made, twice)
    if twice:
        second_gradients(first, made)


def first_gradients(
    mine: list[Any], theirs: list[Any], made: list[Any], twice: bool
) -> list[tuple[Any, Any]]:
    """Compare and return the gradients; `twice` keeps them differentiable."""
    pairs = [
        (a, b) for a, b in zip(mine, theirs, strict=True)
        if isinstance(b, torch.Tensor) and b.requires_grad
    ]  # fmt: skip
    if not pairs:
        return []
    for a, _ in pairs:
        assert a.requires_grad, "the result doesn't require grad, PyTorch's does"
    first = gradients(pairs, made, create_graph=twice)
    compare_gradients(first, "gradient")
    return first


def second_gradients(first: list[tuple[Any, Any]], made: list[Any]) -> None:
    """Compare the gradients of gradients."""
    second = [(a, b) for a, b in first if b is not None and b.requires_grad]
    if not second:
        return
    linked = [(a, b) for a, b in second if a is not None and a.requires_grad]
    if len(linked) < len(second):  # constant for us: PyTorch's must be zero
        lost = [b for a, b in second if a is None or not a.requires_grad]
        zeros = torch.autograd.grad(
            [b.sum() for b in lost], [p for p, _ in made], allow_unused=True, retain_graph=True
        )
        assert all(z is None or not z.abs().max() > 0 for z in zeros if z is None or z.numel()), (
            "a gradient of ours doesn't require grad"
        )
    if linked:
        compare_gradients(gradients(linked, made, create_graph=False), "second gradient")


def gradients(pairs: list[Any], made: list[Any], create_graph: bool) -> list[tuple[Any, Any]]:
    """Return our and PyTorch's gradients of a random weighing of the results."""
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=tuple(b.shape)).astype(str(b.dtype)[6:]) for _, b in pairs]
    options = {"create_graph": create_graph, "retain_graph": True, "allow_unused": True}
    starts = [np.asarray(w) for w in weights]
    theirs = torch.autograd.grad(
        [b for _, b in pairs],
        [p for p, _ in made],
        [torch.from_numpy(w) for w in starts],
        **options,
    )
    mine = tm.autograd.grad(
        [a for a, _ in pairs],
        [t for _, t in made],
        [tm.from_numpy(w) for w in starts],
        **options,
    )
    return list(zip(mine, theirs, strict=True))


def compare_gradients(pairs: list[tuple[Any, Any]], what: str) -> None:
    """Compare gradients; no gradient equals a gradient of zeros."""
    for i, (a, b) in enumerate(pairs):
        if a is None and b is None:
            continue
        if b is None:
            b = torch.zeros(tuple(a.shape), dtype=torch.float64)
        if a is None:
            a = tm.zeros(tuple(b.shape), dtype=tm.float64)
        check_equal(a, b, f"{what} {i}", 1e-6, 1e-8)


def is_random(name: str, sample: Any) -> bool:
    """Tell whether the numbers of a result come from a random draw: dropout in attention, too."""
    attention = name == "nn.functional.multi_head_attention_forward"  # its one sample drops half
    return name in RANDOM or attention or bool(sample.kwargs.get("dropout_p"))


#: What the database does around an op in some variants.
AROUND: dict[str, Callable[..., Callable[..., Any]]] = {
    "linalg.pinv/singular": lambda f: lambda a, b: f(a @ b.mT),
    "linalg.lstsq/grad_oriented": lambda f: lambda a, b, driver: f(a, b, driver=driver)[:2],
}


@sdpa_kernel(SDPBackend.MATH)  # attention by formula: the fast one has no second derivative
def run(name: str, variants: list[Any], stop: bool = False) -> Outcome:
    """Run all samples of an op name; `stop` lets the first error through."""
    functions = lookup(name)
    if not functions:
        return Outcome(0, 0, "not there")
    good = total = 0
    problem = ""
    for info in variants:
        in_place = (
            [getattr(tm.Tensor, name + "_")] if info.variant_test_name == "in_place" else None
        )
        for sample in info.sample_inputs(
            "cpu", torch.float64, requires_grad=info.supports_autograd
        ):
            for function in in_place or functions:
                around = AROUND.get(f"{name}/{info.variant_test_name}")
                function = function if around is None else around(function)
                total += 1
                try:
                    check_sample(function, info, sample, is_random(name, sample))
                    good += 1
                except Exception as error:
                    if stop:
                        print(f"{name}{('/' + info.variant_test_name).rstrip('/')}: {sample}")
                        raise
                    kind = "refused" if isinstance(error, ToumeiError | TypeError) else "wrong"
                    text = " ".join(str(error).split())[:160]
                    problem = problem or f"{kind}: {type(error).__name__}: {text}"
    return Outcome(good, total, problem)


def run_all() -> Iterator[tuple[str, Outcome]]:
    """Run every op name."""
    for name, variants in sorted(infos().items()):
        try:
            yield name, run(name, variants)
        except Exception as error:  # the database itself failed to make a sample
            yield name, Outcome(0, 0, f"no samples: {type(error).__name__}")


def table(results: list[tuple[str, Outcome]]) -> str:
    """Write the results as docs/ops.md."""
    there = [(n, o) for n, o in results if o.total]
    full = [n for n, o in there if o.good == o.total]
    lines = [
        "# Ops, measured against PyTorch's OpInfo database",
        "",
        f"**{len(full)} op names** agree on every float64 sample in value, gradient and second",
        f"gradient; {len(there) - len(full)} more are there in part. Made by",
        "`python -m tests.oracle.opinfo --write docs/ops.md`.",
        "",
        "## Complete",
        "",
        ", ".join(f"`{n}`" for n in full),
        "",
        "## In part",
        "",
        "| op | samples that agree | first that doesn't |",
        "|---|---|---|",
    ]
    for name, o in there:
        if o.good < o.total:
            lines.append(
                f"| `{name}` | {o.good} of {o.total} | {o.problem.replace('|', '/')[:110]} |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("names", nargs="*")
    parser.add_argument("--all", action="store_true", help="run every op, a line each")
    parser.add_argument("--write", metavar="FILE", help="run every op and write the table")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    if args.all or args.write:
        results = []
        for name, o in run_all():
            results.append((name, o))
            mark = "ok  " if o.total and o.good == o.total else "part" if o.good else "    "
            print(f"{mark} {name:45} {o.good:4}/{o.total:<4} {o.problem[:100]}", flush=True)
        print(sum(o.total > 0 and o.good == o.total for _, o in results), "op names complete")
        if args.write:
            path = pathlib.Path(args.write)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(table(results), encoding="utf-8")
    for name in args.names:
        outcome = run(name, infos()[name], stop=not args.all)
        print(f"{name}: {outcome.good} of {outcome.total} samples agree {outcome.problem}")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
