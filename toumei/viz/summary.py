"""summary: what a model consists of, as a table, found without computing a number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..config import get_default_dtype, grad_mode
from ..errors import ModuleError
from ..nn.module import Module
from ..op import Spec
from ..tape import spec_of, wrap
from ..tensor import Tensor

if TYPE_CHECKING:
    from rich.console import Group

_COLUMNS = ("Layer", "Output shape", "Parameters", "Trainable")


class Row(NamedTuple):
    """One module of a model.  Its numbers are its own, without those of the modules within it."""

    name: str  # from the model's root
    label: str  # from the module around it
    kind: str
    depth: int
    output: str  # the shape of what it returned; empty if it wasn't called
    parameters: int
    trainable: int


class Summary:
    """A model as a table: `str()` it, or print it with rich.

    Attributes:
        rows: one per module, in the order of the model's parts.
        parameters: the elements of all parameters, tied ones counted once.
        trainable: those of them that require grad.
        bytes: the memory that parameters and buffers take.
    """

    def __init__(self, model: Module, outputs: dict[int, str]) -> None:
        self.title = type(model).__name__
        self.rows = _rows(model, outputs)
        everything = list(model.parameters())
        self.parameters = sum(p.numel() for p in everything)
        self.trainable = sum(p.numel() for p in everything if p.requires_grad)
        self.bytes = sum(t.numel() * t.itemsize for t in [*everything, *model.buffers()])

    @property
    def mebibytes(self) -> float:
        """The memory that parameters and buffers take, in MiB (2²⁰ bytes)."""
        return self.bytes / 2**20

    def _cells(self) -> list[tuple[str, str, str, str]]:
        cells = []
        for row in self.rows:
            label = f"{row.label}: {row.kind}" if row.label else row.kind
            trains = {0: "no", row.parameters: "yes"}.get(row.trainable, f"{row.trainable:,}")
            count = f"{row.parameters:,}" if row.parameters else ""
            cells.append(("  " * row.depth + label, row.output, count, trains if count else ""))
        return cells

    def _totals(self) -> str:
        frozen = self.parameters - self.trainable
        return (
            f"{self.parameters:,} parameters ({self.trainable:,} trainable, {frozen:,} frozen), "
            f"{self.mebibytes:.2f} MiB"
        )

    def __str__(self) -> str:
        cells = [_COLUMNS, *self._cells()]
        widths = [max(len(row[i]) for row in cells) for i in range(len(_COLUMNS))]
        lines = [_aligned(row, widths) for row in cells]
        rule = "─" * max(len(line) for line in lines)
        return "\n".join([lines[0], rule, *lines[1:], rule, self._totals()])

    __repr__ = __str__

    def __rich__(self) -> Group:
        from rich.console import Group
        from rich.table import Table

        table = Table(title=self.title)
        for i, column in enumerate(_COLUMNS):
            table.add_column(column, justify="right" if i == 2 else "left", no_wrap=i != 0)
        for row in self._cells():
            table.add_row(*row)
        return Group(table, self._totals())


def summary(model: Module, *inputs: Any, dtype: Any = None) -> Summary:
    """Return a table of a model's layers, output shapes and numbers of parameters.

    The model is called on shapes alone: no number is computed, nothing is changed.

    Args:
        model: the module to look at.
        inputs: for each argument of the model a tensor or a shape, a tuple of ints with the batch
            size first; none leaves the output shapes out.
        dtype: of the inputs that are given as shapes; the default dtype if None.

    Raises:
        ModuleError: an input is neither a tensor nor a shape.
        OpError: the model can't take such inputs.

    >>> import toumei as tm
    >>> from toumei import nn
    >>> print(tm.summary(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), (8, 4)))
    Layer        Output shape  Parameters  Trainable
    ────────────────────────────────────────────────
    Sequential   [8, 3]
      0: Linear  [8, 3]                15  yes
      1: ReLU    [8, 3]
    ────────────────────────────────────────────────
    15 parameters (15 trainable, 0 frozen), 0.00 MiB
    """
    ghosts = [_ghost(value, dtype) for value in inputs]
    return Summary(model, _output_shapes(model, ghosts) if ghosts else {})


def _ghost(value: Any, dtype: Any) -> Tensor:
    """Return a tensor that has a shape and a dtype but no numbers."""
    import numpy as np

    if isinstance(value, Tensor):
        return wrap(Spec(tuple(value.shape), value.dtype))
    if isinstance(value, Sequence) and all(isinstance(n, int) for n in value):
        return wrap(Spec(tuple(value), np.dtype(get_default_dtype() if dtype is None else dtype)))
    raise ModuleError(f"summary: an input is a tensor or a shape, such as (32, 784), not {value!r}")


def _output_shapes(model: Module, inputs: list[Tensor]) -> dict[int, str]:
    """Call the model on tensors without numbers; return what each module put out, by identity."""
    outputs: dict[int, str] = {}
    modules = list(model.modules())
    training = [m.training for m in modules]
    handles = [
        m.register_forward_hook(lambda m, _, out: outputs.setdefault(id(m), _shape(out)) and None)
        for m in modules
    ]
    try:
        with grad_mode(False):
            model.eval()(*inputs)
    finally:
        for handle in handles:
            handle.remove()
        for m, mode in zip(modules, training, strict=True):
            m.training = mode
    return outputs


def _shape(output: Any) -> str:
    if isinstance(output, Tensor):
        return str(list(spec_of(output).shape))
    if isinstance(output, dict):
        output = list(output.values())
    return ", ".join(_shape(o) for o in output) if isinstance(output, list | tuple) else ""


def _rows(model: Module, outputs: dict[int, str]) -> list[Row]:
    depths: dict[str, int] = {}
    rows = []
    for name, module in model.named_modules():
        around = name
        while around and around not in depths:  # "layers.0" in a plain list is the root's child
            around = around.rpartition(".")[0]
        depths[name] = depths.get(around, -1) + 1
        label = name[len(around) + 1 :] if around else name
        output = outputs.get(id(module), "")
        rows.append(Row(name, label, type(module).__name__, depths[name], output, *_counts(module)))
    return rows


def _counts(module: Module) -> tuple[int, int]:
    own = list(module.parameters(recurse=False))
    return sum(p.numel() for p in own), sum(p.numel() for p in own if p.requires_grad)


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    layer, shape, count, trains = cells
    left = f"{layer:<{widths[0]}}  {shape:<{widths[1]}}  {count:>{widths[2]}}"
    return f"{left}  {trains:<{widths[3]}}".rstrip()
