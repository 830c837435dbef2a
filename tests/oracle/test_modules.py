"""The layers that docs/layers.md calls right agree with PyTorch on the samples of its database."""

from __future__ import annotations

import pathlib
import re
from typing import Any

import pytest
import torch

import toumei as tm
from toumei import nn
from toumei.errors import ToumeiError
from toumei.op import Spec
from toumei.tape import wrap

from .modules import (
    FEW,
    INFOS,
    Progress,
    arguments,
    check_sample,
    flat,
    pair_of_modules,
    run,
    samples,
)

TABLE = pathlib.Path(__file__).parents[2] / "docs" / "layers.md"
RIGHT = re.findall(r"^\| `([^`]+)`", TABLE.read_text(encoding="utf-8").split("## ")[1], re.M)

pytestmark = pytest.mark.filterwarnings("ignore")  # PyTorch's, of choices of the samples


def test_the_table_names_enough_layers() -> None:
    assert len(set(RIGHT)) == len(RIGHT) >= 113


@pytest.mark.parametrize("name", RIGHT)
def test_right(name: str) -> None:
    outcome = run(name, 3 if name == "nn.CTCLoss" else FEW)  # 0.5 s a sample
    assert outcome.verdict == "right", outcome.problem


class Detached(nn.Tanh):
    """Its value is right, its gradient is zero."""

    def forward(self, input: Any) -> Any:
        return super().forward(input).detach() + 0 * input


class Once(nn.Tanh):
    """Its gradient is right, the gradient of that is zero."""

    def forward(self, input: Any) -> Any:
        y = super().forward(input)
        slope = (1 - y * y).detach()
        return y.detach() + slope * (input - input.detach())


class Forgetful(nn.BatchNorm1d):
    """It follows the batches at a wrong pace."""

    def _next_momentum(self) -> Any:
        return super()._next_momentum() * 0.9


class Renamed(nn.Linear):
    """Its weight has another name."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.kernel = self.weight
        del self.weight


@pytest.mark.parametrize(
    ("mutant", "found"),
    [
        (Detached, (True, False, False)),
        (Once, (True, True, False)),
        (Forgetful, (False, False, False)),
        (Renamed, (False, False, False)),
    ],
)
def test_mutants_are_caught(
    mutant: type, found: tuple[bool, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = mutant.__base__.__name__
    monkeypatch.setattr(nn, name, mutant)
    info = INFOS[f"nn.{name}"]
    progress = Progress()
    with pytest.raises((AssertionError, RuntimeError)):
        check_sample(info, samples(info, True)[0], True, progress)
    assert (progress.outputs, progress.grads, progress.seconds) == found


REFUSING = [name for name, info in INFOS.items() if info.module_error_inputs_func]


def test_what_the_database_calls_wrong_is_refused() -> None:
    count = 0
    for name in REFUSING:
        info, options = INFOS[name], {"device": "cpu", "dtype": torch.float64}
        for wrong in info.module_error_inputs_func(
            info, requires_grad=False, training=True, **options
        ):
            count += 1
            with pytest.raises((ToumeiError, TypeError, ValueError)):
                call(name, wrong.module_error_input)
                pytest.fail(f"{name}: PyTorch says {wrong.error_regex}")
    assert count >= 90


def call(name: str, sample: Any) -> None:
    """Make a layer of ours, and call it."""
    args, kwargs = arguments(sample.constructor_input, [])
    layer = getattr(nn, INFOS[name].module_cls.__name__)(*args, **kwargs).double()
    if sample.forward_input is not None:
        args, kwargs = arguments(sample.forward_input, [])
        layer(*args, **kwargs)


def ghost(value: Any) -> Any:
    """Return a tensor's shape and dtype without its numbers."""
    if isinstance(value, tm.Tensor):
        return wrap(Spec(tuple(value.shape), value.dtype))
    return tuple(map(ghost, value)) if isinstance(value, tuple) else value


# CTCLoss reads the lengths; PyTorch, too, needs their numbers.
@pytest.mark.parametrize("name", [n for n in RIGHT if n != "nn.CTCLoss"])
def test_shapes_alone(name: str) -> None:
    info = INFOS[name]
    for sample in samples(info, training=False)[:2]:
        theirs, mine = pair_of_modules(info.module_cls, sample, training=False)
        given = sample.forward_input
        args, kwargs = arguments(given, [])
        with tm.no_grad():
            out = mine(*map(ghost, args), **{k: ghost(v) for k, v in kwargs.items()})
        expected = flat(theirs(*given.args, **given.kwargs), torch.Tensor)
        assert [tuple(t.shape) for t in flat(out, tm.Tensor)] == [tuple(t.shape) for t in expected]
