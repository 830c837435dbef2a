"""Measure the layers against PyTorch's own database of modules.

    python -m tests.oracle.modules                     # every entry, some samples of each
    python -m tests.oracle.modules --all               # every entry, every sample
    python -m tests.oracle.modules nn.LSTM             # one entry, with the first error in full
    python -m tests.oracle.modules --write docs/layers.md

Each sample of an entry is a layer's arguments and an input.  PyTorch's layer and ours are made with
the same arguments in float64; the names and the order of their state dicts must be equal, and the
weights, moved to random places first, go over by `load_state_dict`.  Then are compared, in training
and in evaluation: results, buffers after the call, gradients of all inputs and parameters, and the
gradients of a random weighing of these gradients (where PyTorch has none, ours are checked against
finite differences).  No sample of the database draws random numbers.
"""

from __future__ import annotations

import argparse
import copy
import pathlib
import sys
import warnings
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.lazy import LazyModuleMixin
from torch.testing._internal.common_modules import module_db

import toumei as tm
from toumei import nn
from toumei.errors import ToumeiError

from .opinfo import check_equal, first_gradients, flat, ours, second_gradients

FEW = 12  # samples per entry and mode, where not all are run

CONSTANT_TARGET = {"nn.SoftMarginLoss"}  # PyTorch has no gradient for it

Pairs = list[tuple[torch.Tensor, Any]]


class Outcome(NamedTuple):
    """How an entry fared: how many samples got how far, and what stopped the first that failed."""

    total: int
    outputs: int = 0
    grads: int = 0
    seconds: int = 0
    refused: int = 0
    problem: str = ""

    @property
    def verdict(self) -> str:
        if self.total and self.seconds == self.total:
            return "right"
        return "in part" if self.seconds else "missing" if not self.outputs else "wrong"


class Progress:
    """How far one sample got."""

    outputs = grads = seconds = False


INFOS: dict[str, Any] = {info.name: info for info in module_db}


def samples(info: Any, training: bool) -> list[Any]:
    """Return the samples of an entry, the same ones each time; all floats require grad."""
    torch.manual_seed(0)
    made = info.module_inputs_func(
        info, device="cpu", dtype=torch.float64, requires_grad=True, training=training
    )
    found = list(made)
    for sample in found if info.name not in CONSTANT_TARGET else []:
        for t in (*sample.forward_input.args, *sample.forward_input.kwargs.values()):
            if isinstance(t, torch.Tensor) and t.is_floating_point():
                t.requires_grad_()
    return found


def spread(items: list[Any], few: int | None) -> list[Any]:
    """Return `few` of the items, from all over the list, or all of them."""
    if few is None or len(items) <= few:
        return items
    return [items[i * (len(items) - 1) // (few - 1)] for i in range(few)]


# --- from PyTorch's layer to ours -----------------------------------------------------------------


def options_of(layer: Any) -> dict[str, Any]:
    """Return the constructor's arguments of a transformer layer that exists."""
    return {
        "d_model": layer.self_attn.embed_dim,
        "nhead": layer.self_attn.num_heads,
        "dim_feedforward": layer.linear1.out_features,
        "dropout": layer.dropout.p,
        "activation": function(layer.activation),
        "layer_norm_eps": layer.norm1.eps,
        "batch_first": layer.self_attn.batch_first,
        "norm_first": layer.norm_first,
        "bias": layer.linear1.bias is not None,
    }


def function(value: Any) -> Any:
    """Return our function of the same name."""
    return getattr(nn.functional, value.__name__)


def option(value: Any, made: Pairs) -> Any:
    """Translate one argument of a constructor or a call."""
    if isinstance(value, torch.nn.TransformerEncoderLayer):
        return nn.TransformerEncoderLayer(**options_of(value))
    if isinstance(value, torch.nn.LinearCrossEntropyOptions):
        raise NotImplementedError("options: LinearCrossEntropyOptions")
    if callable(value) and not isinstance(value, torch.Tensor | torch.dtype):
        return function(value)
    return ours(value, made)


def arguments(given: Any, made: Pairs) -> tuple[list[Any], dict[str, Any]]:
    """Translate the arguments of a constructor or a call; where "the CPU" is said, it is meant."""
    kwargs = {k: option(v, made) for k, v in given.kwargs.items() if (k, v) != ("device", "cpu")}
    return [option(v, made) for v in given.args], kwargs


def shaken(module: Any) -> Any:
    """Move the weights and running statistics away from the zeros and ones that they start as."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, t in module.state_dict().items():
            if not t.is_floating_point():
                t.add_(3)  # batches that were counted
                continue
            if name == "_random_samples":  # of fractional pooling, random as they are
                continue
            noise = torch.rand(t.shape, generator=generator, dtype=t.dtype)
            t.add_(noise * 0.5 if name.endswith("var") else noise - 0.5)
    return module


def pair_of_modules(cls: Any, sample: Any, training: bool) -> tuple[Any, Any]:
    """Return PyTorch's layer and ours with the same arguments and the same weights."""
    given, inputs = sample.constructor_input, sample.forward_input
    args, kwargs = arguments(given, [])
    mine = getattr(nn, cls.__name__)(*args, **kwargs).train(training).double()
    theirs = cls(*given.args, **given.kwargs).train(training).double()
    if isinstance(theirs, LazyModuleMixin):  # it finds its sizes at the first call
        theirs(*copy.deepcopy(inputs.args), **copy.deepcopy(inputs.kwargs))
        call_args, call_kwargs = arguments(inputs, [])
        mine(*call_args, **call_kwargs)
    assert not any(draws(m) for m in theirs.modules()), "a sample that draws random numbers"
    weights = shaken(theirs).state_dict()
    assert list(mine.state_dict()) == list(weights), (
        f"names {list(mine.state_dict())}, PyTorch's {list(weights)}"
    )
    mine.load_state_dict({name: t.numpy() for name, t in weights.items()})
    return theirs, mine


def draws(module: Any) -> bool:
    """Tell whether a layer of PyTorch drops out at random."""
    p = module.p if "Dropout" in type(module).__name__ else getattr(module, "dropout", 0)
    return isinstance(p, float) and p > 0 and module.training


# --- the comparison -------------------------------------------------------------------------------


def check_sample(info: Any, sample: Any, training: bool, progress: Progress) -> None:
    """Compare one layer on one input: results, buffers, gradients, second gradients."""
    theirs, mine = pair_of_modules(info.module_cls, sample, training)
    given = sample.forward_input
    made: Pairs = []
    args, kwargs = arguments(given, made)
    call, call_mine = behind(info.name, theirs, torch), behind(info.name, mine, tm)
    results = flat(call(*given.args, **given.kwargs), torch.Tensor)
    results_mine = flat(call_mine(*args, **kwargs), tm.Tensor)
    assert len(results_mine) == len(results), f"{len(results_mine)} results, not {len(results)}"
    for i, (a, b) in enumerate(zip(results_mine, results, strict=True)):
        check_equal(a, b, f"output {i}", 1e-7, 1e-9)
    check_buffers(mine, theirs)
    progress.outputs = True

    own = dict(mine.named_parameters())
    made += [(p, own[name]) for name, p in theirs.named_parameters()]
    first = first_gradients(results_mine, results, made, info.supports_gradgrad)
    progress.grads = True
    if not compare_seconds(info, first, made):
        tm.testing.check_grads(lambda *inputs: call_mine(*inputs, **kwargs), args, order=2)
    progress.seconds = True


def behind(name: str, layer: Any, library: Any) -> Any:
    """Put CTCLoss behind the log_softmax that its input came out of, a second time.

    It changes no value.  PyTorch's gradient of CTCLoss alone is not that of the formula: it counts
    on this layer before it.
    """
    if name != "nn.CTCLoss":
        return layer
    return lambda x, *rest: layer(library.log_softmax(x, -1), *rest)


def compare_seconds(info: Any, first: list[tuple[Any, Any]], made: Pairs) -> bool:
    """Compare second gradients; tell whether PyTorch has them."""
    if not info.supports_gradgrad:
        return False
    try:
        second_gradients(first, made)
    except RuntimeError as error:
        if isinstance(error, ToumeiError) or "not implemented" not in str(error):
            raise
        return False
    return True


def check_buffers(mine: Any, theirs: Any) -> None:
    """Compare running statistics and what else a layer keeps."""
    kept = dict(mine.named_buffers())
    expected = dict(theirs.named_buffers())
    assert list(kept) == list(expected), f"buffers {list(kept)}, PyTorch's {list(expected)}"
    for name, b in expected.items():
        check_equal(kept[name], b, f"buffer {name}", 1e-7, 1e-9)


def reason(error: Exception) -> str:
    """Say in a line why a sample failed, and whether it was refused."""
    kind = "refused" if is_refusal(error) else "wrong"
    return f"{kind}: {type(error).__name__}: {' '.join(str(error).split())[:160]}"


def is_refusal(error: Exception) -> bool:
    return isinstance(error, ToumeiError | TypeError | NotImplementedError | ValueError)


@sdpa_kernel(SDPBackend.MATH)  # attention by formula: the fast one has no second derivative
def run(name: str, few: int | None = None, stop: bool = False) -> Outcome:
    """Run the samples of an entry; `stop` lets the first error through."""
    info = INFOS[name]
    counts = np.zeros(5, np.int64)
    problem = ""
    for training in (True, False):
        for sample in spread(samples(info, training), few):
            progress, refused = Progress(), False
            try:
                check_sample(info, sample, training, progress)
            except Exception as error:
                if stop:
                    print(f"{name}, training={training}: {describe(sample)}")
                    raise
                refused = is_refusal(error)
                problem = problem or reason(error)
            counts += (1, progress.outputs, progress.grads, progress.seconds, refused)
    return Outcome(*counts.tolist(), problem)


def describe(sample: Any) -> str:
    """Write out a sample, tensors as their shapes."""

    def text(v: Any) -> str:
        return f"{v.dtype}{list(v.shape)}" if isinstance(v, torch.Tensor) else repr(v)

    def call(given: Any) -> str:
        named = [f"{k}={text(v)}" for k, v in given.kwargs.items()]
        return ", ".join([text(v) for v in given.args] + named)

    return f"layer({call(sample.constructor_input)})({call(sample.forward_input)})"


# --- the table ------------------------------------------------------------------------------------


def run_all(names: Iterable[str], few: int | None) -> Iterator[tuple[str, Outcome]]:
    """Run many entries."""
    for name in names:
        if hasattr(nn, INFOS[name].module_cls.__name__):
            yield name, run(name, few)
        else:
            yield name, Outcome(0, problem="not there")


def line(name: str, o: Outcome) -> str:
    """Write one entry as a line of text."""
    counts = f"{o.outputs:4} {o.grads:4} {o.seconds:4} of {o.total:4}"
    return f"{o.verdict:8} {name:28} {counts}  {o.problem[:110]}"


def table(results: list[tuple[str, Outcome]]) -> str:
    """Write the results as docs/layers.md."""
    right = [(n, o) for n, o in results if o.verdict == "right"]
    rest = [(n, o) for n, o in results if o.verdict != "right"]
    lines = [
        "# Layers, measured against PyTorch's database of modules",
        "",
        f"**{len(right)} of {len(results)} entries** agree on every float64 sample, in training",
        "and in evaluation: names of the state dict, results, buffers after the call, gradients of",
        "all inputs and parameters, second gradients.  Made by",
        "`python -m tests.oracle.modules --write docs/layers.md`.",
        "",
        "## Right",
        "",
        "| layer | samples | results | gradients | second gradients |",
        "|---|---|---|---|---|",
    ]
    lines += [row(n, o) for n, o in right]
    if rest:
        lines += [
            "",
            "## In part, or missing",
            "",
            "| layer | samples | results | gradients | second gradients | refused | the first |",
            "|---|---|---|---|---|---|---|",
        ]
        lines += [
            f"{row(n, o)} {o.refused} | {o.problem.replace('|', '/')[:120]} |" for n, o in rest
        ]
    return "\n".join(lines) + "\n"


def row(name: str, o: Outcome) -> str:
    return f"| `{name}` | {o.total} | {o.outputs} | {o.grads} | {o.seconds} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("names", nargs="*")
    parser.add_argument("--all", action="store_true", help="run every sample, not some of each")
    parser.add_argument("--write", metavar="FILE", help="run everything and write the table")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    if args.names and not args.all:
        for name in args.names:
            print(line(name, run(name, stop=True)))
        return
    few = None if args.all or args.write else FEW
    results = []
    for name, o in run_all(args.names or INFOS, few):
        results.append((name, o))
        print(line(name, o))
        sys.stdout.flush()
    print(sum(o.verdict == "right" for _, o in results), "of", len(results), "entries right")
    if args.write:
        pathlib.Path(args.write).write_text(table(results), encoding="utf-8")


if __name__ == "__main__":
    main()
