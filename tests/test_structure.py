"""The shape of the package: who imports whom, what is public, how long files are."""

from __future__ import annotations

import ast
import fnmatch
import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

import toumei

ROOT = Path(toumei.__file__).parent

# A module imports only what stands above it in this list; each line is a file or a folder.
ORDER = [
    "errors", "config", "op", "traced", "debug", "device", "machine", "tape", "backward", "views",
    "numerics",
    "names", "ops", "mathmethods", "linalgmethods", "memorymethods", "methods", "tensor",
    "autograd", "linalg", "special", "signal", "masked", "testing", "nn", "optim", "io",
    "compiler", "eager", "data", "models", "viz", "train", "recipes",
    "cli_types", "cli_explain", "cli", "__main__",
]  # fmt: skip

# The one cycle: ops build tensors, and a tensor's methods are ops.  Ops import it within functions.
CYCLE = ("ops", "tensor")

# Imported where they are used: `import toumei` must stay fast, and not need them.
HEAVY = {
    "matplotlib",
    "PIL",
    "rich",
    "click",
    "llvmlite",
    "safetensors",
    "filelock",
    "onnx",
    "tensorboardX",
}
ALLOWED = {"numpy", "toumei", *HEAVY, *sys.stdlib_module_names}

# Tables of published numbers: nothing to read.
LONG = {"numerics/coefficients.py"}


class Import(NamedTuple):
    """One import of a module, by its full name."""

    source: str
    target: str
    name: str  # what is taken from it: "" for the module itself
    line: int
    within: bool  # within a function


def module_name(path: Path) -> str:
    parts = [*path.relative_to(ROOT.parent).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in FILES.items()}


def imports(module: str) -> Iterator[Import]:
    """Yield the imports that are run: those for type checkers alone are left out."""
    is_package = FILES[module].name == "__init__.py"
    package = module if is_package else module.rpartition(".")[0]

    def visit(node: ast.AST, within: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            inside = within or isinstance(child, ast.FunctionDef)
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(module, alias.name, "", child.lineno, within)
            elif isinstance(child, ast.ImportFrom):
                base = package.split(".")[: len(package.split(".")) - max(child.level - 1, 0)]
                whole = [*(base if child.level else []), *filter(None, [child.module])]
                for alias in child.names:
                    full = ".".join([*whole, alias.name])
                    target, name = (full, "") if full in FILES else (".".join(whole), alias.name)
                    yield Import(module, target, name, child.lineno, within)
            yield from visit(child, inside)

    yield from visit(TREES[module], False)


ALL = [i for module in FILES for i in imports(module)]


def part(module: str) -> str:
    """Return which line of ORDER a module of the package belongs to: "" for the package itself."""
    return module.split(".")[1] if "." in module else ""


def test_the_order_names_every_file() -> None:
    assert {part(m) for m in FILES} - {""} == set(ORDER)


def test_imports_point_up() -> None:
    wrong = []
    for i in ALL:
        source, target = part(i.source), part(i.target)
        if not i.target.startswith("toumei") or not source or source == target:
            continue
        if not target:  # only the version is taken from the package itself
            fine = i.name == "__version__"
        elif (source, target) == CYCLE:
            fine = i.within
        else:
            fine = ORDER.index(target) < ORDER.index(source)
        if not fine:
            wrong.append(f"{i.source}:{i.line} imports {i.target}.{i.name}")
    assert not wrong, "\n".join(wrong)


def test_the_order_is_not_vacuous() -> None:
    pairs = {(part(i.source), part(i.target)) for i in ALL}
    assert {("tensor", "methods"), ("nn", "ops"), ("recipes", "train")} <= pairs


def test_only_the_dependencies_are_imported() -> None:
    foreign = [i for i in ALL if i.target.split(".")[0] not in ALLOWED]
    assert not foreign, f"{foreign}"


def test_heavy_dependencies_are_imported_where_they_are_used() -> None:
    heavy = [i for i in ALL if i.target.split(".")[0] in HEAVY and not i.within]
    assert {part(i.source) for i in heavy} <= {"cli", "cli_types", "cli_explain"}, f"{heavy}"


@pytest.mark.parametrize("module", ["", "nn", "nn.functional", "optim", "data", "autograd"])
def test_import_stays_light(module: str) -> None:
    name = f"toumei.{module}".rstrip(".")
    code = f"import sys, {name}; print(sorted({HEAVY!r} & set(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]", f"import {name} reads {result.stdout}"


# --- what is public ------------------------------------------------------------------------------


def public_modules() -> list[str]:
    return [
        m for m in FILES if not any(p.startswith("_") for p in m.split(".")) and m != "toumei.cli"
    ]


def public_names(module: ModuleType) -> list[str]:
    """Return the names in `__all__`; without one, the functions and classes defined there."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    return [
        n
        for n, value in vars(module).items()
        if not n.startswith("_")
        and (inspect.isfunction(value) or inspect.isclass(value))
        and value.__module__ == module.__name__
    ]


@pytest.mark.parametrize("name", public_modules())
def test_all_names_exist_and_are_documented(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__ and module.__doc__.strip(), f"{name} has no docstring"
    names = public_names(module)
    assert len(names) == len(set(names)), f"{name}.__all__ names something twice"
    for n in names:
        value = getattr(module, n)
        if inspect.isfunction(value) or inspect.isclass(value):
            doc = inspect.getdoc(value) if not inspect.isclass(value) else value.__doc__
            assert doc and doc.strip(), f"{name}.{n} has no docstring"


# The parts of an op, and of a layer: `toumei.op` and `nn.Module` say what they are.
PARTS = {"forward", "infer", "check", "samples", "bad", "decompose", "lower", "extra_repr"}
CASTS = {f"toumei.tensor.Tensor.{n}" for n in ("float", "double", "long", "int", "byte", "bool")}


def methods() -> Iterator[tuple[str, Any]]:
    for name in public_modules():
        for cls in vars(importlib.import_module(name)).values():
            if not inspect.isclass(cls) or cls.__module__ != name or cls.__name__.startswith("_"):
                continue
            for attribute, value in vars(cls).items():
                public = not attribute.startswith(("_", "backward")) and attribute not in PARTS
                if public and inspect.isfunction(value):
                    yield f"{name}.{cls.__name__}.{attribute}", getattr(cls, attribute)


def test_public_methods_are_documented() -> None:
    found = dict(methods())
    assert len(found) > 300
    bare = {n for n, f in found.items() if not inspect.getdoc(f)}  # a base class's words count
    assert not bare - CASTS, "\n".join(sorted(bare - CASTS))


def test_star_import_gives_what_all_names() -> None:
    assert len(toumei.__all__) == len(set(toumei.__all__))
    for name in toumei.__all__:
        assert hasattr(toumei, name), name


# --- how it is written ---------------------------------------------------------------------------


def test_files_are_short() -> None:
    lengths = {
        str(p.relative_to(ROOT)): len(p.read_text(encoding="utf-8").splitlines())
        for p in FILES.values()
    }
    long = {name: n for name, n in lengths.items() if n > 500 and name not in LONG}
    assert not long, f"split these: {long}"
    assert set(lengths) >= LONG


@pytest.mark.parametrize("folder", ["ops", "compiler", "compiler/llvm"])
def test_the_map_of_a_folder_names_every_file(folder: str) -> None:
    files = {p.stem for p in FILES.values() if p.parent == ROOT / folder} - {"__init__"}
    text = ast.get_docstring(TREES["toumei." + folder.replace("/", ".")]) or ""
    words = re.findall(r"[\w*]+", text)
    left = {f for f in files if not any(fnmatch.fnmatchcase(f, word) for word in words)}
    assert not left, f"add to the docstring of toumei/{folder}/__init__.py: {left}"


def test_functions_are_short() -> None:
    lengths = sorted(
        sum(1 for line in range(f.body[0].lineno, (f.end_lineno or 0) + 1)) - _doc_lines(f)
        for tree in TREES.values()
        for f in ast.walk(tree)
        if isinstance(f, ast.FunctionDef)
    )
    p90 = lengths[int(0.9 * len(lengths))]
    assert p90 <= 25, f"nine functions in ten have at most {p90} lines, 25 is the aim"


def _doc_lines(function: ast.FunctionDef) -> int:
    first = function.body[0]
    if ast.get_docstring(function) is None:
        return 0
    return (first.end_lineno or first.lineno) - first.lineno + 1


def test_every_module_starts_with_future_annotations() -> None:
    for name, path in FILES.items():
        text = path.read_text(encoding="utf-8")
        if re.search(r"^(def|class) ", text, re.M):
            assert "from __future__ import annotations" in text, name


def test_nothing_is_left_undone() -> None:
    for name, path in FILES.items():
        text = path.read_text(encoding="utf-8")
        for mark in ("TODO", "FIXME", "XXX", "HACK"):
            assert mark not in text, f"{name} says {mark}"
