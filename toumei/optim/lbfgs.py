"""L-BFGS: Newton's method with a Hessian guessed from the last few steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..config import grad_mode, run_quietly
from ..op import Array
from ..tape import wrap
from ..traced import refuse_within_step
from .line_search import Point, search
from .optimizer import Group, Optimizer, Params, State, need


class LBFGS(Optimizer):
    """Limited-memory BFGS, for problems whose whole loss is computed in each step.

    One `step(closure)` makes up to `max_iter` iterations p ← p + t·d, d = −H·g, where the inverse
    Hessian H is never formed: it is given by the last `history_size` differences of p and g.

    Args:
        params: tensors; only one group.
        lr: the distance t that is tried first.
        max_iter: iterations in one step.
        max_eval: evaluations of the closure in one step; 1.25·max_iter if None.
        tolerance_grad: stop where no element of the gradient is larger.
        tolerance_change: stop where neither parameters nor loss change by more.
        history_size: how many differences are kept.
        line_search_fn: "strong_wolfe", or None to go the distance lr.

    Raises:
        ValueError: several groups, or a hyper-parameter out of range.

    Source: Nocedal & Wright, "Numerical Optimization" (2006), algorithm 7.5

    >>> import toumei as tm
    >>> p = tm.tensor([3.0, -2.0], requires_grad=True)
    >>> optimizer = tm.optim.LBFGS([p], line_search_fn="strong_wolfe")
    >>> def closure():
    ...     optimizer.zero_grad()
    ...     loss = (p[0] - 1) ** 2 + 10 * p[1] ** 2
    ...     loss.backward()
    ...     return loss
    >>> _ = optimizer.step(closure)
    >>> (p - tm.tensor([1.0, 0.0])).abs().max().item() < 1e-4
    True
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "max_iter": max_iter,
            "max_eval": max_iter * 5 // 4 if max_eval is None else max_eval,
            "tolerance_grad": tolerance_grad,
            "tolerance_change": tolerance_change,
            "history_size": history_size,
            "line_search_fn": line_search_fn,
        }
        super().__init__(params, defaults)
        if len(self.param_groups) != 1:
            raise ValueError("LBFGS takes one parameter group only")

    def check(self, group: Group) -> None:
        need(group, 0, "lr", "tolerance_grad", "tolerance_change")
        need(group, 1, "max_iter", "max_eval", "history_size")
        if group["line_search_fn"] not in (None, "strong_wolfe"):
            wrong = group["line_search_fn"]
            raise ValueError(f"line_search_fn must be None or 'strong_wolfe', not {wrong!r}")

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Make up to `max_iter` iterations.

        Args:
            closure: zeroes the gradients, computes the loss and its gradients, returns the loss.

        Returns:
            The loss that the first call of the closure returned.

        Raises:
            TypeError: no closure.
        """
        refuse_within_step("step() of LBFGS", "compile its closure instead")
        if closure is None:
            raise TypeError("LBFGS.step needs a closure that computes the loss and its gradients")
        with grad_mode(True):
            loss = closure()
        with grad_mode(False):
            run_quietly(self._iterate, closure, float(loss))
        return loss

    def _iterate(self, closure: Callable[[], Any], value: float) -> None:
        group = self.param_groups[0]
        state = self.state.setdefault(group["params"][0], {"func_evals": 0, "n_iter": 0})
        here, evals = Point(0.0, value, self._gradient(), 0.0), 1
        iteration = 0
        while iteration < group["max_iter"] and not _is_flat(here, group):
            iteration += 1
            d = self._direction(here.gradient, state, group)
            here = here._replace(t=0.0, slope=float(here.gradient @ d))
            if here.slope > -group["tolerance_change"]:
                break
            first = state["n_iter"] == 1
            t = group["lr"] * (min(1.0, 1 / float(np.abs(here.gradient).sum())) if first else 1.0)
            last = iteration == group["max_iter"]
            before, (here, count) = here, self._move(closure, here, t, d, group, last)
            state["t"] = here.t
            evals += count
            if evals >= group["max_eval"] or _has_stopped(before, here, d, group):
                break
        state["func_evals"] += evals

    def _move(
        self, closure: Callable[[], Any], here: Point, t: float, d: Array, group: Group, last: bool
    ) -> tuple[Point, int]:
        """Go along d, by t or what the line search says; return where to, and evaluations."""
        x = self._parameters()

        def at(t: float) -> Point:
            self._set(x + t * d)
            with grad_mode(True):
                value = float(closure())
            g = self._gradient()
            return Point(t, value, g, float(g @ d))

        if group["line_search_fn"] is None:
            if not last:  # nobody would look at the loss there
                return at(t), 1
            self._set(x + t * d)
            return here._replace(t=t), 0
        longest = float(np.abs(d).max())
        found, count = search(at, here, t, group["tolerance_change"] / longest)
        self._set(x + found.t * d)
        return found, count

    def _direction(self, g: Array, state: State, group: Group) -> Array:
        """Return −H·g, having taken the last step's differences into H."""
        state["n_iter"] += 1
        if state["n_iter"] == 1:
            d = -g
            state.update(old_dirs=[], old_stps=[], ro=[], H_diag=1.0)
        else:
            _remember(g, state, group["history_size"])
            d = _times_inverse_hessian(-g, state)
        state["d"], state["prev_flat_grad"] = wrap(d), wrap(g)
        return d

    # --- all parameters as one vector ---

    def _parameters(self) -> Array:
        return np.concatenate([p._data.ravel() for p in self._params()])

    def _gradient(self) -> Array:
        grads = [
            np.zeros(p.numel(), p.dtype) if p.grad is None else p.grad._data.ravel()
            for p in self._params()
        ]
        return np.concatenate(grads)

    def _set(self, x: Array) -> None:
        start = 0
        for p in self._params():
            end = start + p.numel()
            p._data[...] = x[start:end].reshape(p.shape)
            p._storage.version += 1
            start = end


def _remember(g: Array, state: State, history_size: int) -> None:
    """Take in how parameters and gradient changed in the last step."""
    y = g - state["prev_flat_grad"]._data
    s = state["d"]._data * state["t"]
    ys = float(y @ s)
    if ys <= 1e-10:  # not convex here: H would lose its sign
        return
    for name, value in (("old_dirs", wrap(y)), ("old_stps", wrap(s)), ("ro", 1 / ys)):
        state[name] = [*state[name], value][-history_size:]
    state["H_diag"] = ys / float(y @ y)


def _times_inverse_hessian(q: Array, state: State) -> Array:
    """Return H·q by the two-loop recursion."""
    pairs = [
        (y._data, s._data, float(ro))
        for y, s, ro in zip(state["old_dirs"], state["old_stps"], state["ro"], strict=True)
    ]
    factors = []
    for y, s, ro in reversed(pairs):
        factor = float(s @ q) * ro
        factors.append(factor)
        q = q - factor * y
    r = q * float(state["H_diag"])
    for (y, s, ro), factor in zip(pairs, reversed(factors), strict=True):
        r = r + (factor - float(y @ r) * ro) * s
    return r


def _is_flat(point: Point, group: Group) -> bool:
    return bool(np.abs(point.gradient).max() <= group["tolerance_grad"])


def _has_stopped(before: Point, after: Point, d: Array, group: Group) -> bool:
    """Tell whether neither the parameters nor the loss change any more."""
    moved = float(np.abs(d).max()) * after.t
    return bool(
        moved <= group["tolerance_change"]
        or abs(after.value - before.value) < group["tolerance_change"]
    )
