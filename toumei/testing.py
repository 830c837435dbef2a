"""Checks for ops, yours included: `check_op(MyOp)` runs all that every op of Toumei must pass.

check_grads      derivatives of a function, of every order, against finite differences
gradcheck        … of order 1, element by element (PyTorch's function)
gradgradcheck    … of order 2
op_cases         the arguments that an op is checked with
check_op         everything that an op promises
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .autograd.gradcheck import check_grads, gradcheck, gradgradcheck
from .config import grad_mode
from .errors import ToumeiError
from .op import (
    Array,
    Case,
    Composite,
    Elementwise,
    Op,
    Random,
    Reduction,
    Refused,
    Spec,
    View,
    call_text,
)
from .tape import apply, wrap
from .tensor import Tensor

__all__ = ["check_grads", "check_op", "gradcheck", "gradgradcheck", "op_cases"]

Check = Callable[[Case], None]


def op_cases(op_class: type[Op], seed: int = 0) -> list[Case]:
    """Return the arguments that an op is checked with: its own `samples`.

    Raises:
        NotImplementedError: the op gives none.

    >>> import toumei as tm
    >>> from toumei.op import REGISTRY
    >>> [case.inputs[0].shape for case in tm.testing.op_cases(REGISTRY["Tanh"])]
    [(), (3,), (2, 0), (2, 3, 4)]
    """
    return list(op_class.samples(np.random.default_rng(seed)))


def check_op(op_class: type[Op]) -> None:
    """Check everything that an op promises, on its own samples.

    - infer: it says what shape and dtype `forward` returns, for float32 as well; tracing agrees;
    - dtypes: element by element and in reductions, integers and bools give what `infer` says, or
      are refused for a reason;
    - inputs: they stay as they are, and the result has memory of its own unless it is a view;
    - layout: where the inputs lie in memory doesn't matter;
    - empty: inputs without elements are refused for a reason, or give what `infer` says;
    - decomposition: `decompose` computes what `forward` does;
    - gradients: those of order 1 and 2 agree with finite differences, for each input and output;
      an input without a gradient function has no influence on floating results;
    - bad: what it lists is refused, eager and traced, in the same words.

    `exempt` of an op names the checks that it can't pass, each with the reason: "layout", or
    "gradient of weight" for one of the inputs.

    Raises:
        AssertionError: a promise isn't kept; the message says which, and on which arguments.

    >>> import toumei as tm
    >>> from toumei.op import REGISTRY
    >>> tm.testing.check_op(REGISTRY["Tanh"])
    """
    cases = op_cases(op_class)
    assert cases, f"{op_class.__name__}.samples yields nothing"
    for case in cases:
        for name, check in CASE_CHECKS.items():
            if name not in op_class.exempt:
                _named(check, case)
    for case, words in op_class.bad():
        _named(lambda case, words=words: check_refused(case, words), case)  # type: ignore[misc]


def _named(check: Check, case: Case) -> None:
    """Run a check; say in its failure which op and arguments it was about."""
    try:
        check(case)
    except (AssertionError, ToumeiError) as error:
        text = call_text(case.op, _specs(case.inputs))
        raise AssertionError(f"{text}: {error}") from error


def _specs(arrays: Sequence[Array]) -> list[Spec]:
    return [Spec(a.shape, a.dtype) for a in arrays]


def _run(op: Op, arrays: Sequence[Any]) -> tuple[Tensor, ...]:
    """Apply an op to arrays or Specs, unrecorded; the results as a tuple."""
    with grad_mode(False):
        result = apply(op, *map(wrap, arrays))
    return result if isinstance(result, tuple) else (result,)


def _compare_specs(case: Case, inputs: Sequence[Array]) -> None:
    eager = [Spec(y.shape, y.dtype) for y in _run(case.op, inputs)]
    traced = [y._data for y in _run(case.op, _specs(inputs))]
    assert all(isinstance(s, Spec) for s in traced), "tracing computed numbers"
    assert len(eager) == len(traced), f"infer gives {len(traced)} results, forward {len(eager)}"
    for i, (a, b) in enumerate(zip(eager, traced, strict=True)):
        assert a.shape == tuple(b.shape), f"result {i}: infer says {b}, forward returned {a}"
        assert a.dtype == b.dtype, f"result {i}: infer says {b}, forward returned {a}"


def check_infer(case: Case) -> None:
    """Compare what `infer` says with what `forward` returns, in the given dtypes and in float32."""
    _compare_specs(case, case.inputs)
    _compare_specs(case, [a.astype("float32") if a.dtype.kind == "f" else a for a in case.inputs])


def check_dtypes(case: Case) -> None:
    """Check that integers and bools give what `infer` says, or are refused for a reason."""
    if not isinstance(case.op, Elementwise | Reduction):
        return
    for dtype in ("int64", "bool"):
        inputs = [(1 + np.abs(a)).astype(dtype) if a.dtype.kind == "f" else a for a in case.inputs]
        eager, traced = _refusal(case.op, inputs), _refusal(case.op, _specs(inputs))
        assert eager == traced, f"{dtype}: eager says {eager or 'yes'}, traced {traced or 'yes'}"
        if eager is None:
            _compare_specs(case, inputs)
        else:
            _check_has_reason(eager, f"{dtype} is refused")


def check_inputs_kept(case: Case) -> None:
    """Check that the inputs stay as they are, and that results have memory of their own."""
    inputs = [a.copy() for a in case.inputs]
    results = [y._array() for y in _run(case.op, inputs)]
    for i, (before, after) in enumerate(zip(case.inputs, inputs, strict=True)):
        assert np.array_equal(before, after, equal_nan=before.dtype.kind == "f"), (
            f"input {i} changed"
        )
    if case.op.is_view:
        return
    for j, y in enumerate(results):
        for i, a in enumerate(inputs):
            assert not np.shares_memory(y, a), f"result {j} shares memory with input {i}"
        for k, other in enumerate(results[:j]):
            assert not np.shares_memory(y, other), f"results {k} and {j} share memory"


def _scattered(array: Array) -> Array:
    """Return the same numbers at other places in memory: reversed dimensions, with gaps."""
    if array.ndim == 0:
        return array
    room = np.zeros([2 * n for n in reversed(array.shape)], array.dtype)
    view = room[(slice(None, None, 2),) * array.ndim].transpose()
    view[...] = array
    return view


def check_layout(case: Case) -> None:
    """Check that the layout of the inputs in memory doesn't matter."""
    straight = _run(case.op, case.inputs)
    scattered = _run(case.op, [_scattered(a) for a in case.inputs])
    _compare(scattered, straight, "inputs that aren't contiguous change")


def _compare(mine: Sequence[Tensor], theirs: Sequence[Tensor], what: str) -> None:
    assert len(mine) == len(theirs), f"{what} the number of results: {len(mine)}, {len(theirs)}"
    for i, (a, b) in enumerate(zip(mine, theirs, strict=True)):
        x, y = a._array(), b._array()
        assert x.shape == y.shape, f"{what} the shape of result {i}: {x.shape}, {y.shape}"
        assert x.dtype == y.dtype, f"{what} the dtype of result {i}: {x.dtype}, {y.dtype}"
        same = np.allclose(x, y, rtol=1e-9, atol=1e-11, equal_nan=True)
        assert same, f"{what} result {i}:\n{x}\n{y}"


def check_empty(case: Case) -> None:
    """Check that empty inputs either are refused for a reason or give what `infer` says."""
    if isinstance(case.op, Random):  # its input is a key
        return
    for size in {n for a in case.inputs for n in a.shape if n}:
        inputs = [_emptied(a, size) for a in case.inputs]
        try:
            _run(case.op, inputs)
        except ToumeiError as error:
            if isinstance(case.op, Elementwise | Reduction | View):
                _check_has_reason(error.message, f"refused with size {size} replaced by 0")
            continue
        _compare_specs(case, inputs)


def _emptied(array: Array, size: int) -> Array:
    return array[tuple(slice(0 if n == size else None) for n in array.shape)]


def _check_has_reason(text: str, when: str) -> None:
    """Errors that NumPy raised are passed on as "ValueError: …": they lack a reason of our own."""
    raw = [n for n in ("ValueError", "IndexError", "TypeError", "AxisError") if f"{n}: " in text]
    assert not raw, f"{when}, but not in words of ours: {text}"


def check_decomposition(case: Case) -> None:
    """Compare a composite's own `forward` with what its `decompose` computes."""
    if not isinstance(case.op, Composite):
        return
    with grad_mode(False):
        parts = case.op.decompose(*map(wrap, case.inputs))
    parts = parts if isinstance(parts, tuple) else (parts,)
    _compare(_run(case.op, case.inputs), parts, "decompose and forward differ in")


def check_gradients(case: Case, order: int = 2) -> None:
    """Compare derivatives with finite differences: all results at once, then each alone."""
    names = [f"gradient of {n}" for n in _input_names(case)]
    floating = [
        i
        for i, a in enumerate(case.inputs)
        if a.dtype == np.float64 and names[i] not in case.op.exempt
    ]
    outs = _run(case.op, case.inputs)
    real = [j for j, y in enumerate(outs) if y.dtype.kind == "f"]
    if not floating or not real:
        return
    inputs = [
        wrap(a).requires_grad_() if i in floating else wrap(a) for i, a in enumerate(case.inputs)
    ]
    for chosen in [real, *([j] for j in real if len(outs) > 1)]:

        def function(*args: Tensor, chosen: list[int] = chosen) -> list[Tensor]:
            result = apply(case.op, *args)
            results = result if isinstance(result, tuple) else (result,)
            return [results[j] for j in chosen]

        check_grads(function, inputs, order)


def _input_names(case: Case) -> list[str]:
    params, count = list(case.op.params), len(case.inputs)
    return params + params[-1:] * (count - len(params)) if case.op.variadic else params


def check_refused(case: Case, words: str) -> None:
    """Check that arguments are refused, eager and traced, in the same words.

    What depends on values, which only `check` sees, can't be refused when traced.
    """
    eager, traced = _refusal(case.op, case.inputs), _refusal(case.op, _specs(case.inputs))
    assert eager is not None, f"isn't refused; expected: {words}"
    assert words in eager, f"refused without the words {words!r}: {eager}"
    if traced is None and _refused_by_check(case):
        return
    assert traced is not None, f"isn't refused when traced; expected: {words}"
    assert traced == eager, f"refused eager and traced in different words:\n{eager}\n{traced}"


def _refused_by_check(case: Case) -> bool:
    if case.op.check is None:
        return False
    try:
        case.op.check(*case.inputs)
    except Refused:
        return True
    return False


def _refusal(op: Op, inputs: Sequence[Any]) -> str | None:
    try:
        _run(op, inputs)
    except ToumeiError as error:
        return error.message
    return None


#: The checks that `check_op` runs on each case.
CASE_CHECKS: dict[str, Check] = {
    "infer": check_infer,
    "dtypes": check_dtypes,
    "inputs": check_inputs_kept,
    "layout": check_layout,
    "empty": check_empty,
    "decomposition": check_decomposition,
    "gradients": check_gradients,
}
