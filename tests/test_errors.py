"""What users read after the commonest mistakes, word for word, with the line that is to blame."""

from __future__ import annotations

import errno
import inspect
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import toumei as tm
import toumei.nn.functional as F
from toumei import nn, optim
from toumei.data import MNIST
from toumei.errors import OpError, ToumeiError


class Mistake(NamedTuple):
    """A function that makes it, the message, and the modules that are named."""

    make: Callable[[Any], Any]
    error: type[Exception]
    message: str
    modules: str


MISTAKES: dict[str, Mistake] = {}


def mistake(
    error: type[Exception], message: str, modules: str = ""
) -> Callable[[Callable[[Any], Any]], Callable[[Any], Any]]:
    """Register a mistake; its line is the one marked with "# here"."""

    def register(make: Callable[[Any], Any]) -> Callable[[Any], Any]:
        MISTAKES[make.__name__] = Mistake(make, error, message, modules)
        return make

    return register


def blamed_line(make: Callable[[Any], Any]) -> str:
    lines, first = inspect.getsourcelines(make)
    for number, line in enumerate(lines, first):
        if "# here" in line:
            return f"test_errors.py:{number} in {make.__name__}:  {line.strip()}"
    return MODEL_LINE


class MLP(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(100, 50)
        self.out = nn.Linear(5, 10)

    def forward(self, x: tm.Tensor) -> tm.Tensor:
        return self.out(self.hidden(x).relu())  # in the model


_lines, _first = inspect.getsourcelines(MLP.forward)
MODEL_LINE = f"test_errors.py:{_first + 1} in forward:  {_lines[1].strip()}"


# --- shapes --------------------------------------------------------------------------------------


@mistake(
    RuntimeError,
    "matmul(a: float32[8, 100], b: float32[50, 10]): inner sizes differ: a has 100 columns, "
    "b has 50 rows",
)
def inner_sizes(_: Path) -> None:
    tm.ones(8, 100) @ tm.ones(50, 10)  # here


@mistake(
    RuntimeError,
    "linear(x: float32[8, 50], weight: float32[10, 5], bias: float32[10]): inner sizes differ: "
    "x has 50 columns, weight takes 5 inputs",
    "Linear(in_features=5, out_features=10, bias=True), in MLP",
)
def inner_sizes_within_a_model(_: Path) -> None:
    MLP()(tm.ones(8, 100))


@mistake(
    RuntimeError,
    "add(a: float32[3, 4], b: float32[3, 5]): shapes don't broadcast: dimension -1 is 4 in a but "
    "5 in b",
)
def broadcasting(_: Path) -> None:
    tm.ones(3, 4) + tm.ones(3, 5)  # here


@mistake(
    RuntimeError,
    "reshape(x: float32[3, 4], shape=(5, 3)): 12 elements don't fill the shape (5, 3), "
    "which holds 15",
)
def reshape_sizes(_: Path) -> None:
    tm.ones(3, 4).reshape(5, 3)  # here


@mistake(
    RuntimeError,
    "cat(float32[2, 3], float32[2, 4], dim=0): only dim 0 may differ, but dim 1 is 3 in tensor 0 "
    "and 4 in tensor 1",
)
def cat_sizes(_: Path) -> None:
    tm.cat([tm.ones(2, 3), tm.ones(2, 4)])  # here


@mistake(
    IndexError, "sum(float32[3, 4]): dim 2 is out of range: the tensor has 2 dimensions, so -2 to 1"
)
def dim_out_of_range(_: Path) -> None:
    tm.ones(3, 4).sum(dim=2)  # here


@mistake(IndexError, "indexing float32[3, 4]: index 7 is out of range: dim 1 has size 4")
def index_out_of_range(_: Path) -> None:
    tm.ones(3, 4)[0, 7]  # here


@mistake(
    IndexError, "index(float32[3], int64[2], dim=0): index 9 is out of range: dim 0 has size 3"
)
def index_tensor_out_of_range(_: Path) -> None:
    tm.ones(3)[tm.tensor([0, 9])]  # here


# --- losses and labels ---------------------------------------------------------------------------


@mistake(
    RuntimeError,
    "mse_loss(input: float32[4, 1], target: float32[4]): shapes differ; losses don't broadcast: "
    "use input.squeeze(1)",
)
def loss_of_a_column_against_a_row(_: Path) -> None:
    F.mse_loss(tm.ones(4, 1), tm.ones(4))  # here


@mistake(
    TypeError,
    "cross_entropy(input: float32[4, 3], target: float32[4]): class labels must be integers: "
    "use target.long()",
)
def label_dtype(_: Path) -> None:
    F.cross_entropy(tm.ones(4, 3), tm.tensor([0.0, 1.0, 2.0, 1.0]))  # here


@mistake(
    IndexError,
    "cross_entropy(x: float32[4, 3], target: int64[4], ignore_index=-100, smoothing=0.0): "
    "label 3 at 2 is out of range: there are 3 classes, 0 to 2",
)
def label_out_of_range(_: Path) -> None:
    F.cross_entropy(tm.ones(4, 3), tm.tensor([0, 1, 3, 1]))  # here


@mistake(
    RuntimeError,
    "cross_entropy(x: float32[4, 3], target: int64[3], ignore_index=-100, smoothing=0.0): the "
    "labels have the shape (3,), but for x of shape (4, 3) they need (4,): one per position, "
    "without the class dimension",
)
def label_shape(_: Path) -> None:
    F.cross_entropy(tm.ones(4, 3), tm.tensor([0, 1, 1]))  # here


# --- derivatives ---------------------------------------------------------------------------------


def squares() -> tuple[tm.Tensor, tm.Tensor]:
    x = tm.ones(3, requires_grad=True)
    return x, x * x


@mistake(
    RuntimeError,
    "backward through mul a second time: what it kept was freed after the first. Use "
    "backward(retain_graph=True) the first time, or compute the loss again",
)
def backward_twice(_: Path) -> None:
    _x, y = squares()
    y.sum().backward()
    y.sum().backward()  # here


@mistake(
    RuntimeError,
    "backward of exp needs its result, float32[3], which has been changed in place since "
    "(version 0 was kept, it is at version 1). Use the out-of-place form, or change a clone()",
)
def in_place_after_use(_: Path) -> None:
    y = squares()[1].exp()
    y.add_(1)
    y.sum().backward()  # here


@mistake(
    RuntimeError,
    "backward of mul needs its input a, float32[3], which has been changed in place since "
    "(version 0 was kept, it is at version 1). Use the out-of-place form, or change a clone()",
)
def in_place_change_of_an_input(_: Path) -> None:
    x, y = tm.ones(3), tm.ones(3, requires_grad=True)
    z = x * y
    x.zero_()
    z.sum().backward()  # here


@mistake(
    RuntimeError,
    "add_ on float32[3]: it is a leaf that requires grad, and changing it in place would change "
    "what its gradient means. Do it within `with tm.no_grad():`, or work on a clone()",
)
def leaf_changed_in_place(_: Path) -> None:
    x, _y = squares()
    x += 1  # here


@mistake(
    RuntimeError,
    "backward on float32[3]: only a single element has a gradient by itself. Use .sum() or "
    ".mean() first, or pass gradient=",
)
def backward_of_many_elements(_: Path) -> None:
    squares()[1].backward()  # here


@mistake(
    RuntimeError,
    "backward on float32[]: it doesn't depend on any tensor that requires grad. Was it computed "
    "within no_grad, or from a detach()? requires_grad_() asks for it",
)
def backward_of_nothing(_: Path) -> None:
    tm.ones(3).sum().backward()  # here


@mistake(RuntimeError, "numpy() on a tensor that requires grad: use .detach().numpy()")
def numpy_of_what_requires_grad(_: Path) -> None:
    squares()[1].numpy()  # here


@mistake(RuntimeError, "only floating-point tensors can require gradients, not int64: use .float()")
def integers_that_require_grad(_: Path) -> None:
    tm.tensor([1, 2], requires_grad=True)  # here


# --- values and dtypes ---------------------------------------------------------------------------


@mistake(
    TypeError,
    "complex64 is no dtype of Toumei: it has bool, uint8, int32, int64, float32, float64",
)
def unsupported_dtype(_: Path) -> None:
    tm.tensor([1, 2], dtype=np.complex64)  # here


@mistake(RuntimeError, "the truth of bool[3] is ambiguous: use .any(), .all() or a comparison")
def truth_of_many_elements(_: Path) -> None:
    bool(tm.ones(3) > 0)  # here


@mistake(RuntimeError, "item() needs a tensor of one element, this is float32[3]: use tolist()")
def item_of_many_elements(_: Path) -> None:
    tm.ones(3).item()  # here


@mistake(TypeError, "expected a tensor or a number, got NoneType: None")
def none_as_an_operand(_: Path) -> None:
    tm.ones(3) + None  # type: ignore[operator]  # here


@mistake(RuntimeError, "device 'cuda': the only device is 'cpu'")
def another_device(_: Path) -> None:
    tm.ones(2).to("cuda")  # here


# --- models and optimisers -----------------------------------------------------------------------


class Forgetful(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)

    def forward(self, x: tm.Tensor) -> tm.Tensor:
        return self.second(x)  # type: ignore[no-any-return]


_lines, _first = inspect.getsourcelines(Forgetful.forward)


def test_a_layer_used_before_it_exists() -> None:
    with pytest.raises(AttributeError) as caught:
        Forgetful()(tm.ones(4))
    assert str(caught.value) == (
        "Forgetful has no layer or attribute 'second'. It has first\n"
        f"  at test_errors.py:{_first + 1} in forward:  {_lines[1].strip()}\n"
        "  in Forgetful"
    )


@mistake(
    RuntimeError,
    "load_state_dict of Sequential: 3 problems\n"
    "  0.weight is [3, 4] here, but [4, 4] in the state dict\n"
    "  missing 0.bias [3]\n"
    "  unexpected 0.bais [3]; did you mean 0.bias?",
)
def state_dict_mismatch(_: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 3))
    model.load_state_dict({"0.weight": tm.ones(4, 4), "0.bais": tm.ones(3)})  # here


@mistake(
    ValueError,
    "SGD got no parameters: is the model's parameters() empty, or a generator that has been used "
    "up?",
)
def optimizer_of_nothing(_: Path) -> None:
    optim.SGD([], lr=0.1)


# --- files ---------------------------------------------------------------------------------------


@mistake(
    RuntimeError,
    "MNIST is not there: looked for train-images-idx3-ubyte, train-labels-idx1-ubyte, "
    "t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte in\n"
    "    DIR/mnist\n"
    "    DIR/MNIST/raw\n"
    "  to get it: toumei data fetch mnist\n"
    "  or name the folder that has it: --data-dir DIR, root=DIR or TOUMEI_DATA",
)
def missing_data(folder: Path) -> None:
    MNIST(folder)  # here


@mistake(RuntimeError, "DIR/model.safetensors doesn't exist")
def missing_file(folder: Path) -> None:
    tm.load(folder / "model.safetensors")  # here


def test_a_file_that_was_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    tm.save(nn.Linear(4, 3).state_dict(), path)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(RuntimeError) as caught:
        tm.load(path)
    text = str(caught.value)
    assert text.startswith(f"{path} is cut short, damaged, or no safetensors file (")
    assert "\n  at test_errors.py:" in text and "tm.load(path)" in text


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.safetensors"
    tm.save({"w": tm.ones(2)}, path)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        tm.save({"w": tm.zeros(2)}, path)
    expected = f"{path} could not be written: No space left on device. Nothing has been changed"
    assert str(caught.value).startswith(expected + "\n  at test_errors.py:")
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert tm.load(path)["w"].tolist() == [1, 1]


def test_nothing_but_files_is_replaced(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="it is no ordinary file"):
        tm.save({"w": tm.ones(2)}, tmp_path)
    link, file = tmp_path / "link", tmp_path / "file"
    link.symlink_to(file)
    tm.save({"w": tm.ones(2)}, link)
    assert link.is_symlink() and tm.load(file)["w"].tolist() == [1, 1]


# --- the test of all of them ---------------------------------------------------------------------


@pytest.mark.parametrize("name", MISTAKES)
def test_message(name: str, tmp_path: Path) -> None:
    case = MISTAKES[name]
    with pytest.raises(case.error) as caught:
        case.make(tmp_path)
    text = str(caught.value).replace(str(tmp_path), "DIR")
    expected = case.message
    if isinstance(caught.value, ToumeiError):
        expected += f"\n  at {blamed_line(case.make)}"
    if case.modules:
        expected += f"\n  in {case.modules}"
    assert text == expected


# --- how errors are made -------------------------------------------------------------------------


def test_there_are_twenty_and_more() -> None:
    assert len(MISTAKES) >= 20


def test_errors_are_pythons_errors_as_well() -> None:
    with pytest.raises(IndexError):
        tm.ones(2)[3]
    with pytest.raises(TypeError):
        tm.ones(2) + "x"  # type: ignore[operator]
    with pytest.raises(RuntimeError):
        tm.ones(2) @ tm.ones(3)
    assert issubclass(OpError, ToumeiError)


def test_an_error_in_a_notebook_or_a_shell_has_a_line_as_well() -> None:
    code = compile("import toumei as tm\ntm.ones(2) + tm.ones(3)", "<stdin>", "exec")
    with pytest.raises(OpError) as caught:
        exec(code, {})
    assert "\n  at <stdin>:2 in <module>" in str(caught.value)


def test_an_error_survives_pickling() -> None:
    with pytest.raises(OpError) as caught:
        MLP()(tm.ones(8, 100))
    copy = pickle.loads(pickle.dumps(caught.value))
    assert type(copy) is OpError and str(copy) == str(caught.value)
