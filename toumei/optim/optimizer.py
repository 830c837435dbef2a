"""Optimizer: what all optimisers share.

An optimiser is the mathematics of one parameter, written once:

    slots(group)                     what it remembers of each element, and what that starts as
    update(xp, p, g, s, t, group)    changes p and s["<slot>"] in place, at step number t

`update` is made of operators and of functions that NumPy and Toumei both have under one name, taken
from `xp`.  An eager step hands it NumPy's arrays, block by block, so that all that a block needs
stays in the processor's cache and the whole update costs one trip through memory.  A step that is
traced hands it Tensors.  Hyper-parameters are read through `group.live(name)`: a compiled step
takes their present values.  What decides which code runs is read as `group.on(name)`, whether it is
other than 0, or as `group[name]`: when that changes, the step is compiled anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np

from .. import ops
from ..config import config, grad_mode, run_quietly, untraced
from ..errors import LoadError
from ..op import Array
from ..tape import operand, spec_of, wrap
from ..tensor import Tensor
from ..traced import refuse_within_step

Params: TypeAlias = "Iterable[Tensor] | Iterable[Mapping[str, Any]]"
State: TypeAlias = "dict[str, Any]"

#: Elements that are updated at a time: what one block touches fits into the second-level cache.
BLOCK = 1 << 15


class Group(dict[str, Any]):
    """A parameter group: "params", and the hyper-parameters that they are updated with."""

    def __setitem__(self, name: str, value: Any) -> None:
        refuse_within_step(
            f"setting the optimizer's {name!r}",
            "set it outside of the step: a compiled step takes the value that it has at each call",
        )
        super().__setitem__(name, value)

    def live(self, name: str) -> Any:
        """Return the present value of a hyper-parameter that may change from step to step."""
        return self[name]

    def on(self, name: str) -> bool:
        """Tell whether a hyper-parameter is other than 0."""
        return bool(self[name])


class Optimizer:
    """The base of all optimisers.

    Args:
        params: tensors, or dicts with "params" and hyper-parameters of their own (groups).
        defaults: the hyper-parameters of groups that don't say otherwise.

    Raises:
        ValueError: no parameters, one given twice, or a hyper-parameter out of range.
        TypeError: a parameter isn't a tensor.
    """

    def __init__(self, params: Params, defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        self.param_groups: list[Group] = []
        self.state: dict[Tensor, State] = {}
        for group in _groups_of(params, type(self).__name__):
            self.add_param_group(group)

    # --- what a subclass says --------------------------------------------------------------------

    def check(self, group: Group) -> None:
        """Refuse hyper-parameters that are out of range."""

    def slots(self, group: Group) -> dict[str, float]:
        """Return what is remembered of each element, by name, and the value that it starts as."""
        return {}

    def counters(self, group: Group) -> dict[str, float]:
        """Return what is remembered of a parameter as one number, and the value it starts as."""
        return {"step": 0.0}

    def advance(self, state: State, group: Group) -> Any:
        """Move the counters on by a step and return the step's number, 1 for the first."""
        return move_on(state["step"], 1, 1)

    def update(self, xp: ModuleType, p: Any, g: Any, s: State, t: Any, group: Group) -> None:
        """Change the parameter p, and its slots s, by the gradient g; see the top of this file."""
        raise NotImplementedError(f"{type(self).__name__} defines no update")

    # --- what a user calls -----------------------------------------------------------------------

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        """Take in more parameters, with hyper-parameters of their own.

        Args:
            param_group: "params": a tensor or several; and hyper-parameters by name.
        """
        group = Group(self.defaults)
        group.update(param_group)
        _refuse_near_misses(param_group, self.defaults)
        group["params"] = _tensors_of(group["params"], type(self).__name__)
        taken = {id(p) for other in self.param_groups for p in other["params"]}
        for p in group["params"]:
            if id(p) in taken:
                raise ValueError(f"a parameter, {spec_of(p)}, is given to the optimizer twice")
            taken.add(id(p))
        self.check(group)
        self.param_groups.append(group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients; `set_to_none=False` fills them with zeros instead."""
        for group in self.param_groups:
            for p in group["params"]:
                if set_to_none:
                    p.grad = None
                elif p._has_grad():
                    p.grad = ops.zeros_like(p, requires_grad=False)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient.

        Args:
            closure: computes the loss and its gradients again; called first.

        Returns:
            What the closure returned.
        """
        loss = None
        if closure is not None:
            with grad_mode(True):
                loss = closure()
        with grad_mode(False):
            run_quietly(self._update_named if config.debug else self._update_all)
        return loss

    def _update_named(self) -> None:
        """Debug mode: what is computed here is told to be the optimiser's."""
        config.modules.append(f"{type(self).__name__}.step()")
        try:
            self._update_all()
        finally:
            config.modules.pop()

    def _update_all(self) -> None:
        trace = config.trace
        for given in self.param_groups:
            group = given if trace is None else trace.watched(given)
            slots, counters = self.slots(group), self.counters(group)
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state.setdefault(p, {})
                if not (state.keys() >= slots.keys() and state.keys() >= counters.keys()):
                    if trace is not None:
                        trace.makes_state(self.state, p)
                    with untraced():
                        self.init(p, state, group)
                self._update(p, state, slots, group)
        if trace is not None:
            trace.stepped(self)

    def init(self, p: Tensor, state: State, group: Group) -> None:
        """Create the state of a parameter that isn't there yet."""
        for name, start in self.counters(group).items():
            state.setdefault(name, wrap(np.array(start, np.float32)))
        for name, start in self.slots(group).items():
            if name not in state:
                state[name] = wrap(np.full(p.shape, start, p.dtype))

    def _update(self, p: Tensor, state: State, slots: Iterable[str], group: Group) -> None:
        t = self.advance(state, group)
        tensors = [p, p.grad, *[state[name] for name in slots]]
        if config.trace is not None:
            config.trace.consumes(p._cell)
            self.update(ops, p, p.grad, {name: state[name] for name in slots}, t, group)
            return
        for x, g, *rest in blocks([x._data for x in tensors]):
            self.update(np, x, g, dict(zip(slots, rest, strict=True)), t, group)
        for x in (p, *tensors[2:]):
            x._storage.version += 1

    # --- saving and loading ----------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return "state", by the parameters' numbers, and "param_groups"; tensors share memory."""
        refuse_within_step("state_dict() of an optimizer", "take it outside of the step")
        numbers = {p: i for i, p in enumerate(self._params())}
        groups = [
            {**group, "params": [numbers[p] for p in group["params"]]}
            for group in self.param_groups
        ]
        state = {numbers[p]: dict(s) for p, s in self.state.items() if s and p in numbers}
        return {"state": dict(sorted(state.items())), "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over hyper-parameters and state; numbers are copied into the memory that is there.

        Args:
            state_dict: what `state_dict()` of an optimiser of the same kind returned, for as many
                parameters in the same order.

        Raises:
            LoadError: it belongs to other parameters; the message lists every problem.
        """
        refuse_within_step("load_state_dict()", "load outside of the step")
        saved = list(state_dict["param_groups"])
        here = [len(group["params"]) for group in self.param_groups]
        there = [len(group["params"]) for group in saved]
        if here != there:
            raise LoadError(
                f"load_state_dict of {type(self).__name__}: the groups have {here} parameters, "
                f"those in the state dict {there}"
            )
        state = {int(number): values for number, values in state_dict["state"].items()}
        order = [number for group in saved for number in group["params"]]
        pairs = [(p, state[n]) for p, n in zip(self._params(), order, strict=True) if n in state]
        _check_shapes(type(self).__name__, pairs)
        for group, other in zip(self.param_groups, saved, strict=True):
            group.update({k: v for k, v in other.items() if k != "params"})
        self._fill(dict(pairs))

    def _fill(self, given: Mapping[Tensor, Mapping[str, Any]]) -> None:
        before = dict(self.state)
        self.state.clear()
        for group in self.param_groups:
            for p in group["params"]:
                if p in given:
                    state = before.get(p, {})  # the same dict: a compiled step knows it
                    old = dict(state)
                    state.clear()
                    for k, v in given[p].items():
                        if v is not None:
                            state[k] = _taken_over(v, old.get(k), p, k)
                    self.state[p] = state

    def _params(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    def __repr__(self) -> str:
        lines = []
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}")
            lines += [f"    {k}: {v}" for k, v in sorted(group.items()) if k != "params"]
        return "\n".join([f"{type(self).__name__} (", *lines, ")"])


def blocks(arrays: list[Array]) -> Iterable[list[Array]]:
    """Yield p, g and the slots in parts that fit into the cache; whole if one isn't dense."""
    p, g, *slots = arrays
    size = p.size
    if size <= BLOCK or not all(a.flags.c_contiguous for a in (p, *slots)):
        yield arrays
        return
    flat = [a.reshape(-1) for a in (p, np.ascontiguousarray(g), *slots)]
    for start in range(0, size, BLOCK):
        yield [a[start : start + BLOCK] for a in flat]


def move_on(counter: Tensor, factor: Any, amount: float) -> Any:
    """Multiply a counter, add to it, and return it as a number (while traced as a 0-d float64)."""
    if config.trace is not None:
        return counter.copy_(counter * factor + amount).double()
    counter._data[...] = counter._data * np.float32(factor) + amount
    counter._storage.version += 1
    return float(counter._data)


def descent(p: Any, g: Any, group: Group) -> Any:
    """Return the gradient to go down: turned round to maximise, with weight decay's part."""
    if group["maximize"]:
        g = -g
    if group.on("weight_decay"):
        g = g + group.live("weight_decay") * p
    return g


# --- checks --------------------------------------------------------------------------------------


def need(group: Group, low: float, *names: str, below: float | None = None) -> None:
    """Refuse hyper-parameters that aren't numbers ≥ low (and < below)."""
    for name in names:
        for value in group[name] if isinstance(group[name], tuple | list) else (group[name],):
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TypeError(f"{name} must be a number, got {value!r:.60}")
            if not value >= low or (below is not None and not value < below):
                upper = "" if below is None else f" and below {below}"
                raise ValueError(f"{name} must be at least {low}{upper}, got {group[name]}")


def _groups_of(params: Any, kind: str) -> list[Mapping[str, Any]]:
    if isinstance(params, Tensor):
        raise TypeError(f"{kind} needs several parameters: pass [tensor], or model.parameters()")
    if isinstance(params, Mapping):
        raise TypeError(f"{kind} needs a list of tensors or of groups: pass [group]")
    given = list(params)
    if not given:
        raise ValueError(
            f"{kind} got no parameters: is the model's parameters() empty, or a generator that "
            "has been used up?"
        )
    return given if isinstance(given[0], Mapping) else [{"params": given}]


def _tensors_of(params: Any, kind: str) -> list[Tensor]:
    tensors = [params] if isinstance(params, Tensor) else list(params)
    for p in tensors:
        if not isinstance(p, Tensor):
            raise TypeError(f"{kind} updates tensors, got {type(p).__name__}: {p!r:.60}")
        if not p.is_leaf:
            raise ValueError(
                f"{kind} can only update leaves; {spec_of(p)} was computed from other tensors"
            )
    return tensors


def _refuse_near_misses(given: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    import difflib

    for name in given:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
        if name not in known and near:
            raise ValueError(f"a parameter group has {name!r}; did you mean {near[0]!r}?")


# --- state ---------------------------------------------------------------------------------------


def _check_shapes(kind: str, pairs: list[tuple[Tensor, Mapping[str, Any]]]) -> None:
    problems = [
        f"{name} of parameter {i} is {list(value.shape)}, the parameter {list(p.shape)}"
        for i, (p, values) in enumerate(pairs)
        for name, value in values.items()
        if getattr(value, "shape", ()) not in ((), p.shape) and _is_slot(name)
    ]
    if problems:
        raise LoadError("\n  ".join([f"load_state_dict of {kind}: other shapes", *problems]))


def _is_slot(name: str) -> bool:
    return name not in ("d", "prev_flat_grad")  # vectors over all parameters (LBFGS)


def _taken_over(value: Any, old: Any, p: Tensor, name: str) -> Any:
    """Return a value of a state dict as state of `p`, in the old one's memory if it fits."""
    if isinstance(value, list):
        return [_taken_over(v, None, p, name) for v in value]
    if not isinstance(value, Tensor | np.ndarray):
        return value
    new = operand(value)
    if name != "step" and new.is_floating_point() and new.ndim:
        new = new.to(p.dtype)
    if isinstance(old, Tensor) and old.shape == new.shape and old.dtype == new.dtype:
        with grad_mode(False):
            return old.copy_(new)
    return new.detach().clone()
