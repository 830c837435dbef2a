"""Derivatives checked against central finite differences, in float64.

    (f(x + ε·d) − f(x − ε·d)) / 2ε  ≈  ∇f(x)·d

`check_grads` does so in random directions d, for derivatives of every order; `gradcheck` and
`gradgradcheck` are PyTorch's functions of these names and compare element by element.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..config import config, grad_mode
from ..errors import GradError
from ..op import Array
from ..tape import spec_of, wrap
from ..tensor import Tensor
from .derivatives import Tensors, as_tuple, grad

__all__ = ["check_grads", "gradcheck", "gradgradcheck"]

_DIRECTIONS = 2  # random directions per input; two, for one may miss by chance


class _Tolerance(NamedTuple):
    eps: float
    atol: float
    rtol: float


class _Problem(NamedTuple):
    """A function of arrays: tensors are made of them anew for every call."""

    function: Callable[..., Any]
    inputs: tuple[Any, ...]  # arrays where a derivative is wanted, else what the user gave
    wanted: tuple[int, ...]  # which inputs these are
    names: tuple[str, ...]  # of all inputs, for messages
    order: int

    def __call__(
        self, inputs: Sequence[Any], requires_grad: bool
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return the wanted inputs as tensors, and the outputs that have floating values."""
        args = list(inputs)
        for i in self.wanted:
            args[i] = wrap(np.array(args[i], order="K")).requires_grad_(requires_grad)
        with grad_mode(requires_grad):
            outs = self.function(*args)
        found = [o for o in _flat(outs) if o.dtype.kind == "f"]
        if not found:
            raise GradError("gradient check: the function returned no floating-point tensor")
        return [args[i] for i in self.wanted], found


def check_grads(
    function: Callable[..., Any],
    inputs: Tensors,
    order: int = 2,
    *,
    eps: float = 1e-5,
    atol: float = 1e-6,
    rtol: float = 1e-4,
    seed: int = 0,
) -> None:
    """Check the derivatives of a function, of all orders up to `order`, in random directions.

    Args:
        function: takes the inputs and returns a tensor, or several.
        inputs: tensors; derivatives are checked for those that require grad (float64).
        order: the highest order; from the second on, the dependence on the incoming gradient is
            checked as well.
        eps: the step of the differences.
        atol: how far apart two numbers may be, plus
        rtol: times the difference quotient.
        seed: of the directions.

    Raises:
        GradError: a derivative is wrong; the message says of which input and order, and by how
            much.

    >>> import toumei as tm
    >>> x = tm.tensor([0.5, 2.0], dtype=tm.float64, requires_grad=True)
    >>> tm.testing.check_grads(lambda x: x.exp() * x, x, order=3)
    """
    rng = np.random.default_rng(seed)
    problem = _problem(function, as_tuple(inputs), "check_grads")
    for _ in range(order):
        weights = _check_directions(problem, _Tolerance(eps, atol, rtol), rng)
        problem = _gradient_of(problem, weights)


def gradcheck(
    func: Callable[..., Any],
    inputs: Tensors,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    fast_mode: bool = False,
) -> bool:
    """Check the first derivatives of a function, element by element.

    Args:
        func: takes the inputs and returns a tensor, or several.
        inputs: tensors; derivatives are checked for those that require grad (float64).
        eps: the step of the differences.
        atol: how far apart two numbers may be, plus
        rtol: times the difference quotient.
        raise_exception: raise an error rather than return False.
        fast_mode: check random directions only.

    Raises:
        GradError: a derivative is wrong.

    >>> import toumei as tm
    >>> x = tm.tensor([0.5, 2.0], dtype=tm.float64, requires_grad=True)
    >>> tm.testing.gradcheck(tm.exp, x)
    True
    """
    problem = _problem(func, as_tuple(inputs), "gradcheck")
    return _verdict(problem, _Tolerance(eps, atol, rtol), raise_exception, fast_mode)


def gradgradcheck(
    func: Callable[..., Any],
    inputs: Tensors,
    grad_outputs: Any = None,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    fast_mode: bool = False,
) -> bool:
    """Check the second derivatives of a function, element by element.

    Arguments are those of `gradcheck`; `grad_outputs` weigh the outputs (default: random).

    Raises:
        GradError: a derivative is wrong.

    >>> import toumei as tm
    >>> x = tm.tensor([0.5, 2.0], dtype=tm.float64, requires_grad=True)
    >>> tm.testing.gradgradcheck(tm.exp, x)
    True
    """
    problem = _problem(func, as_tuple(inputs), "gradgradcheck")
    _, outs = problem(problem.inputs, requires_grad=True)
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=o.shape) for o in outs]
    if grad_outputs is not None:
        weights = [g.detach()._array() for g in as_tuple(grad_outputs)]
    second = _gradient_of(problem, weights)
    return _verdict(second, _Tolerance(eps, atol, rtol), raise_exception, fast_mode)


def _problem(function: Callable[..., Any], inputs: tuple[Any, ...], name: str) -> _Problem:
    wanted = tuple(i for i, t in enumerate(inputs) if isinstance(t, Tensor) and t.requires_grad)
    if not wanted:
        raise GradError(f"{name}: none of the {len(inputs)} inputs requires grad; nothing to check")
    for i in wanted:
        if inputs[i].dtype != np.float64:
            raise GradError(
                f"{name}: input {i} is {spec_of(inputs[i])}; finite differences need float64: "
                "call .double()"
            )
    args = [t.detach()._array() if i in wanted else t for i, t in enumerate(inputs)]
    names = tuple(f"input {i}" for i in range(len(inputs)))
    return _Problem(function, tuple(args), wanted, names, 1)


def _flat(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [t for v in value for t in _flat(v)] if isinstance(value, tuple | list) else []


def _gradient_of(problem: _Problem, weights: Sequence[Array]) -> _Problem:
    """Return the gradient of Σ weights·outputs as a function of the inputs and the weights."""
    count = len(problem.inputs)

    def gradient(*args: Any) -> list[Tensor]:
        ins, create_graph = [args[i] for i in problem.wanted], config.grad
        with grad_mode(True):
            for t in ins:
                t.requires_grad_()
            outs = [o for o in _flat(problem.function(*args[:count])) if o.dtype.kind == "f"]
            pairs = [(o, w) for o, w in zip(outs, args[count:], strict=True) if o.requires_grad]
            if not pairs:
                return [wrap(np.zeros(t.shape, t.dtype)) for t in ins]
            linked, ws = zip(*pairs, strict=True)
            return list(grad(linked, ins, ws, create_graph=create_graph, materialize_grads=True))

    names = (*problem.names, *(f"the gradient of output {j}" for j in range(len(weights))))
    wanted = (*problem.wanted, *range(count, count + len(weights)))
    return _Problem(gradient, (*problem.inputs, *weights), wanted, names, problem.order + 1)


def _analytic(problem: _Problem, weights: Sequence[Array]) -> list[Array]:
    """Return the gradient of Σ weights·outputs that backward gives."""
    ins, outs = problem(problem.inputs, requires_grad=True)
    pairs = [(o, wrap(w)) for o, w in zip(outs, weights, strict=True) if o.requires_grad]
    if not pairs:
        return [np.zeros(t.shape) for t in ins]
    linked, ws = zip(*pairs, strict=True)
    return [g._array() for g in grad(linked, ins, ws, materialize_grads=True)]


def _slope(problem: _Problem, place: int, direction: Array, eps: float) -> list[Array]:
    """Return the difference quotients of all outputs when one input moves in a direction."""
    i = problem.wanted[place]
    moved = []
    for sign in (1, -1):
        inputs = list(problem.inputs)
        inputs[i] = inputs[i] + sign * eps * direction
        moved.append([o._array() for o in problem(inputs, requires_grad=False)[1]])
    return [(up - down) / (2 * eps) for up, down in zip(*moved, strict=True)]


def _check_directions(
    problem: _Problem, tolerance: _Tolerance, rng: np.random.Generator
) -> list[Array]:
    """Compare in random directions; return the weights of the outputs that were used."""
    weights = [rng.normal(size=o.shape) for o in _check_repeatable(problem)]
    analytic = _analytic(problem, weights)
    for place in range(len(problem.wanted)):
        for _ in range(_DIRECTIONS):
            direction = np.asarray(rng.normal(size=analytic[place].shape))
            slopes = _slope(problem, place, direction, tolerance.eps)
            number = sum(float((w * s).sum()) for w, s in zip(weights, slopes, strict=True))
            ours = float((analytic[place] * direction).sum())
            if not _close(ours, number, tolerance):
                raise GradError(
                    f"{_title(problem, place)}: in a random direction backward gives {ours:.9g}, "
                    f"finite differences {number:.9g}{_worst(problem, place, weights, tolerance)}"
                )
    return weights


def _worst(problem: _Problem, place: int, weights: list[Array], tolerance: _Tolerance) -> str:
    """Name the element of an input whose derivative is furthest off, if that isn't slow to find."""
    analytic = _analytic(problem, weights)[place]
    if analytic.size > 1000:
        return ""
    numeric = np.zeros_like(analytic)
    for index, unit in _units(analytic.shape):
        slopes = _slope(problem, place, unit, tolerance.eps)
        numeric[index] = sum(float((w * s).sum()) for w, s in zip(weights, slopes, strict=True))
    worst = np.unravel_index(np.argmax(np.abs(numeric - analytic)), analytic.shape)
    at = tuple(int(i) for i in worst)
    return f"; element {at} is furthest off: {analytic[at]:.9g}, not {numeric[at]:.9g}"


def _check_repeatable(problem: _Problem) -> list[Tensor]:
    _, first = problem(problem.inputs, requires_grad=False)
    _, second = problem(problem.inputs, requires_grad=False)
    for j, (a, b) in enumerate(zip(first, second, strict=True)):
        if not np.array_equal(a._array(), b._array(), equal_nan=True):
            raise GradError(
                f"gradient check: two calls of the function differ in output {j}: it isn't a "
                "function of its inputs (is there dropout in it, or a change in place?)"
            )
    return first


def _verdict(problem: _Problem, tolerance: _Tolerance, raise_exception: bool, fast: bool) -> bool:
    try:
        if fast:
            _check_directions(problem, tolerance, np.random.default_rng(0))
        else:
            _check_elements(problem, tolerance)
    except GradError:
        if raise_exception:
            raise
        return False
    return True


def _check_elements(problem: _Problem, tolerance: _Tolerance) -> None:
    """Compare every element of the Jacobian."""
    outs = _check_repeatable(problem)
    rows = {(j, at): row for j, at, row in _rows(problem, outs)}
    for place, i in enumerate(problem.wanted):
        shape = problem.inputs[i].shape
        for index, unit in _units(shape):
            for j, slopes in enumerate(_slope(problem, place, unit, tolerance.eps)):
                for at in np.ndindex(slopes.shape):
                    ours, number = float(rows[j, at][place][index]), float(slopes[at])
                    if not _close(ours, number, tolerance):
                        raise GradError(
                            f"{_title(problem, place)}: ∂ output {j}{list(at)} / ∂ "
                            f"{problem.names[i]}{list(index)} is {ours:.9g} by backward, "
                            f"{number:.9g} by finite differences"
                        )


def _rows(problem: _Problem, outs: Sequence[Tensor]) -> Iterator[tuple[int, Any, list[Array]]]:
    """Yield (output, element, its gradient for each wanted input)."""
    for j, out in enumerate(outs):
        for at, unit in _units(tuple(out.shape)):
            weights = [np.zeros(o.shape) for o in outs]
            weights[j] = unit
            yield j, at, _analytic(problem, weights)


def _units(shape: tuple[int, ...]) -> Iterator[tuple[Any, Array]]:
    """Yield (index, an array with a one there and zeros elsewhere)."""
    for index in np.ndindex(shape):
        unit = np.zeros(shape)
        unit[index] = 1
        yield index, unit


def _close(ours: float, number: float, tolerance: _Tolerance) -> bool:
    return abs(ours - number) <= tolerance.atol + tolerance.rtol * abs(number)


def _title(problem: _Problem, place: int) -> str:
    i = problem.wanted[place]
    shape = list(problem.inputs[i].shape)
    return f"wrong derivative of order {problem.order} for {problem.names[i]} (float64{shape})"
