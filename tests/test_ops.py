"""Every op in the registry keeps its promises, and states its derivative in tensors only."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import toumei as tm
from toumei import testing
from toumei.op import REGISTRY, Case, Elementwise, Op, Spec, op

PACKAGE = Path(tm.__file__).parent
for _module in pkgutil.walk_packages([str(PACKAGE)], "toumei."):
    if ".ops" in _module.name or ".nn" in _module.name:
        importlib.import_module(_module.name)
OPS = {name: cls for name, cls in REGISTRY.items() if cls.__module__.startswith("toumei.")}


@pytest.mark.parametrize("name", OPS)
def test_op_keeps_its_promises(name: str) -> None:
    testing.check_op(OPS[name])


@pytest.mark.parametrize("name", OPS)
def test_op_is_documented(name: str) -> None:
    doc = vars(OPS[name]).get("__doc__")
    assert doc and doc.strip(), f"{name} has no docstring"


def test_there_are_ops() -> None:
    assert len(OPS) >= 200


EXEMPT = {"layout", "gradients"}


def test_exemptions_have_a_reason() -> None:
    for name, cls in OPS.items():
        for check, reason in cls.exempt.items():
            known = check in EXEMPT or check.removeprefix("gradient of ") in cls.params
            assert known, f"{name}.exempt names {check!r}, which may not be left out"
            assert len(reason) > 10, f"{name}.exempt[{check!r}] gives no reason"


# --- backward is written in tensors --------------------------------------------------------------

# What a gradient function may ask of an array or tensor within a call of NumPy: shapes, not values.
SHAPES = {"shape", "dtype", "ndim", "size"}
FORBIDDEN = {"_data", "data", "numpy", "_array", "item", "tolist"}


def gradient_functions() -> Iterator[tuple[str, ast.FunctionDef]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ClassDef):
                continue
            for item in node.body:
                if not isinstance(item, ast.FunctionDef):
                    continue
                if (
                    item.name.startswith("backward")
                    and len(item.args.args) > 1
                    and item.args.args[1].arg == "gy"
                ):
                    yield f"{path.name}:{item.lineno} {node.name}.{item.name}", item


def faults(function: ast.FunctionDef) -> list[str]:
    """Say where a gradient function leaves the world of tensors.

    It mentions neither `xp` nor a tensor's array; NumPy may be called on shapes and dtypes alone:
    no name that may stand for a tensor occurs within a call `np.f(…)` except as `name.shape` and
    the like.  Names that may: the parameters without `_spec`, and what is computed from them.
    """
    found = []
    tensors = _tensor_names(function)
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and node.id == "xp":
            found.append("mentions xp")
        if isinstance(node, ast.Attribute) and node.attr in FORBIDDEN:
            found.append(f"reads .{node.attr}")
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[0] == "np":
            used = tensors & set().union(
                *map(_values, [*node.args, *[k.value for k in node.keywords]])
            )
            if used:
                found.append(f"NumPy gets the values of {sorted(used)}: {ast.unparse(node)}")
    return found


def _tensor_names(function: ast.FunctionDef) -> set[str]:
    arguments = function.args
    names = [a.arg for a in (*arguments.args[1:], *filter(None, [arguments.vararg]))]
    tensors = {n for n in names if not n.endswith("_spec")}
    for node in ast.walk(function):  # in the order of the source, near enough
        if isinstance(node, ast.Assign) and _values(node.value) & tensors:
            for target in node.targets:
                tensors |= {n.id for n in ast.walk(target) if isinstance(n, ast.Name)}
    return tensors


def _values(node: ast.AST) -> set[str]:
    """Return the names whose values an expression uses, rather than only their shapes."""
    if isinstance(node, ast.Attribute) and node.attr in SHAPES:
        return set()
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "len":
        return set()
    if isinstance(node, ast.Name):
        return {node.id}
    return set().union(*map(_values, ast.iter_child_nodes(node)))


def test_backward_is_written_in_tensors() -> None:
    functions = list(gradient_functions())
    assert len(functions) > 100
    problems = [f"{name} {fault}" for name, f in functions for fault in faults(f)]
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("return gy * xp.cos(x)", "mentions xp"),
        ("return gy._data * 2", "reads ._data"),
        ("return wrap(np.sign(gy))", "NumPy gets"),
        ("z = gy * x\n    return np.add(z, 1)", "NumPy gets"),
        ("return np.zeros(x_spec.shape, gy.dtype)", None),
        ("return gy.expand(x.shape) * float(np.prod(x.shape))", None),
    ],
)
def test_the_rule_itself(source: str, fault: str | None) -> None:
    tree = ast.parse(f"def backward(self, gy, x, x_spec):\n    {source}")
    function = tree.body[0]
    assert isinstance(function, ast.FunctionDef)
    found = faults(function)
    assert (not found) if fault is None else (found and fault in found[0])


# --- check_op notices what is wrong --------------------------------------------------------------


class _Square(Elementwise):
    """y = x²;   dy/dx = 2x"""

    def forward(self, xp: Any, x: Any) -> Any:
        return x * x

    def backward(self, gy: Any, x: Any) -> Any:
        return gy * (2 * x)


def _defined(**methods: Any) -> type[Op]:
    """Return a variant of the square, outside of the registry."""
    cls = op(type("_Wrong", (_Square,), {"__annotations__": {}, **methods}))
    del REGISTRY["_Wrong"]
    return cls


def _overwrite(self: Any, xp: Any, x: Any) -> Any:
    y = x * x
    x += 1
    return y


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "gradient": ({"backward": lambda self, gy, x: gy * 3 * x}, "wrong derivative of order 1"),
    "second gradient": (
        {"backward": lambda self, gy, x: gy * (2 * x.detach())},
        "wrong derivative of order 2",
    ),
    "shape": ({"infer": lambda self, x: Spec((1, *x.shape), x.dtype)}, "infer says"),
    "dtype": ({"forward": lambda self, xp, x: (x * x).astype("float64")}, "infer says float32"),
    "integers": (
        {
            "forward": lambda self, xp, x: xp.square(x * 1.0).astype(
                x.dtype.name.replace("bool", "int8")
            )
        },
        "infer says bool",
    ),
    "alias": ({"forward": lambda self, xp, x: x, "backward": lambda self, gy: gy}, "shares memory"),
    "input": ({"forward": _overwrite}, "input 0 changed"),
    "layout": ({"forward": lambda self, xp, x: x * x if x.flags.c_contiguous else x}, "contiguous"),
    "empty": (
        {"forward": lambda self, xp, x: x * x if x.max() > -9 else x},
        "not in words of ours",
    ),
    "bad": (
        {"bad": classmethod(lambda cls: iter([(Case(cls(), (np.ones(2),)), "too big")]))},
        "isn't refused",
    ),
}


def test_check_op_passes_what_is_right() -> None:
    testing.check_op(_defined())


@pytest.mark.parametrize("what", WRONG)
def test_check_op_notices(what: str) -> None:
    methods, words = WRONG[what]
    for name, function in methods.items():
        if inspect.isfunction(function):
            function.__name__ = name
    with pytest.raises(AssertionError, match=words):
        testing.check_op(_defined(**methods))


def test_check_op_notices_a_missing_gradient() -> None:
    class _NoGradient(Elementwise):
        """y = x²"""

        def forward(self, xp: Any, x: Any) -> Any:
            return x * x

    cls = op(_NoGradient)
    del REGISTRY["_NoGradient"]
    with pytest.raises(AssertionError, match="wrong derivative of order 1"):
        testing.check_op(cls)
