"""Module: registering by assignment, names, state, hooks, messages."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import toumei as tm
from toumei import nn
from toumei.errors import AnomalyError, LoadError, ModuleError, OpError


class Net(nn.Module):
    """Parts in all the ways in which they may be kept; no super().__init__()."""

    def __init__(self) -> None:
        self.first = nn.Linear(3, 4)
        self.scale = nn.Parameter(tm.ones(4))
        self.layers = [nn.Linear(4, 4), (nn.Linear(4, 4, bias=False),)]
        self.by_name = {"a": nn.Linear(4, 2)}
        self.register_buffer("mean", tm.zeros(4))
        self.register_buffer("scratch", tm.zeros(1), persistent=False)
        self.width = 4

    def forward(self, x: Any) -> Any:
        h = self.first(x) * self.scale - self.mean
        for layer in (self.layers[0], self.layers[1][0]):
            h = layer(h).relu()
        return self.by_name["a"](h)


NAMES = [
    "scale", "first.weight", "first.bias", "layers.0.weight", "layers.0.bias", "layers.1.0.weight",
    "by_name.a.weight", "by_name.a.bias",
]  # fmt: skip


def names(pairs: Any) -> list[str]:
    return [name for name, _ in pairs]


def test_parts_are_found_in_order() -> None:
    net = Net()
    assert names(net.named_parameters()) == NAMES
    assert names(net.named_parameters(recurse=False)) == ["scale"]
    assert names(net.named_parameters(prefix="net"))[0] == "net.scale"
    assert names(net.named_buffers()) == ["mean", "scratch"]
    assert names(net.named_children()) == ["first", "layers.0", "layers.1.0", "by_name.a"]
    assert names(net.named_modules())[:2] == ["", "first"]
    assert list(net.state_dict()) == ["scale", "mean", *NAMES[1:]]
    assert net(tm.ones(5, 3)).shape == (5, 2)


def test_walk_sees_each_object_once_and_survives_cycles() -> None:
    net = Net()
    net.again = net.first
    net.first.parent = net
    assert names(net.named_parameters()) == NAMES
    assert "again.weight" in net.state_dict()
    assert len(list(net.modules())) == 5
    every = names(net.named_parameters(remove_duplicate=False))
    assert every.count("again.weight") == 1 and len(every) == len(NAMES) + 2


def test_super_init_is_optional_and_works() -> None:
    class WithSuper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(1, 1)

    assert len(list(WithSuper().parameters())) == 2


def test_untracked_hides() -> None:
    net, teacher = Net(), nn.Linear(2, 2)
    net.teacher = tm.untracked(teacher)
    assert net.teacher is teacher
    assert names(net.named_parameters()) == NAMES
    net.teacher = teacher
    assert "teacher.weight" in names(net.named_parameters())
    net.layers.append(tm.untracked(nn.Linear(1, 1)))
    with pytest.raises(ModuleError, match="hide the whole container"):
        list(net.parameters())


def test_train_eval_freeze_zero_grad_apply() -> None:
    net = Net()
    assert net.eval() is net and not any(m.training for m in net.modules())
    assert all(m.training for m in net.train().modules())
    net.layers[0].requires_grad_(False)
    net(tm.ones(2, 3)).sum().backward()
    assert net.layers[0].weight.grad is None and net.scale.grad is not None
    net.scale.grad = tm.full_like(net.scale, float("nan"))  # as after a step that overflowed
    net.zero_grad(set_to_none=False)
    assert net.scale.grad is not None and not net.scale.grad.any()
    net.zero_grad()
    assert net.scale.grad is None
    seen: list[nn.Module] = []
    net.apply(seen.append)
    assert seen[-1] is net and len(seen) == 5


def test_dtype_changes_keep_identity_and_gradients() -> None:
    net = Net()
    before = list(net.parameters())
    net(tm.ones(2, 3)).sum().backward()
    net.double()
    assert [id(p) for p in net.parameters()] == [id(p) for p in before]
    assert net.scale.dtype == tm.float64 and net.scale.grad is not None
    assert net.scale.grad.dtype == tm.float64 and net.mean.dtype == tm.float64
    net(tm.ones(2, 3, dtype=tm.float64)).sum().backward()
    assert net.to("cpu") is net and net.to(tm.float32).scale.dtype == tm.float32
    net(tm.ones(2, 3)).sum().backward()
    with pytest.raises(ModuleError, match="floating-point"):
        net.to(tm.int64)
    with pytest.raises(OpError, match="cpu"):
        net.to("cuda")


def test_state_goes_into_the_same_memory() -> None:
    net, other = Net(), Net()
    memory = net.scale.data_ptr()
    other.scale.data.fill_(7.0)
    result = net.load_state_dict(other.state_dict())
    assert result.missing_keys == [] and result.unexpected_keys == []
    assert net.scale.data_ptr() == memory and (net.scale == 7).all()
    state = net.state_dict()
    with tm.no_grad():
        net.scale.mul_(2)
    assert (state["scale"] == 14).all() and not state["scale"].requires_grad
    assert net.state_dict(keep_vars=True)["scale"] is net.scale


def test_all_problems_of_a_state_dict_at_once() -> None:
    net = Net()
    state: dict[str, Any] = dict(net.state_dict())
    state["first.wieght"] = state.pop("first.weight")
    state["scale"] = np.ones(5)
    before = net.mean.clone()
    state["mean"] = tm.ones(4)
    with pytest.raises(LoadError) as error:
        net.load_state_dict(state)
    assert error.value.message == (
        "load_state_dict of Net: 3 problems\n"
        "  scale is [4] here, but [5] in the state dict\n"
        "  missing first.weight [4, 3]\n"
        "  unexpected first.wieght [4, 3]; did you mean first.weight?"
    )
    assert (net.mean == before).all()  # nothing was changed
    with pytest.raises(LoadError, match="1 problem"):
        net.load_state_dict(state, strict=False)
    state["scale"] = np.ones(4)
    result = net.load_state_dict(state, strict=False)
    assert result == (["first.weight"], ["first.wieght"])
    assert (net.mean == 1).all()


def test_tied_tensors_keep_every_name_and_need_one() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            self.embed = nn.Linear(3, 3, bias=False)
            self.head = nn.Linear(3, 3, bias=False)
            self.head.weight = self.embed.weight

    net = Tied()
    assert list(net.state_dict()) == ["embed.weight", "head.weight"]
    assert names(net.named_parameters()) == ["embed.weight"]
    net.load_state_dict({"head.weight": tm.ones(3, 3)})
    assert (net.embed.weight == 1).all()
    copied = copy.deepcopy(net)
    assert copied.embed.weight is copied.head.weight


def test_deepcopy_is_independent() -> None:
    net = Net().eval()
    twin = copy.deepcopy(net)
    with tm.no_grad():
        twin.layers[0].weight.fill_(0.0)
    assert net.layers[0].weight.any() and not twin.training
    assert isinstance(twin.scale, nn.Parameter) and isinstance(twin.mean, nn.Buffer)


def test_what_takes_a_buffers_place_is_a_buffer() -> None:
    net = Net()
    x = tm.ones(4, requires_grad=True)
    net.mean = net.mean + 2 * x
    assert isinstance(net.mean, nn.Buffer) and "mean" in net.state_dict()
    net.mean.sum().backward()  # in its place in the graph
    assert (x.grad == 2).all()
    net.scratch = tm.ones(1)
    assert "scratch" not in net.state_dict()
    net.plain = tm.ones(1)
    assert "plain" not in net.state_dict()


def test_parameters_are_not_replaced_by_tensors() -> None:
    net = Net()
    with pytest.raises(ModuleError, match=r"Net.scale is a Parameter .* nn.Parameter"):
        net.scale = tm.ones(4)
    net.scale = None
    assert "scale" not in names(net.named_parameters())


def test_registering_by_name() -> None:
    net = Net()
    net.add_module("extra", nn.ReLU())
    net.register_module("none", None)
    net.register_parameter("w", nn.Parameter(tm.ones(2)))
    net.register_buffer("nothing", None)
    assert net.get_parameter("w") is net.w and net.nothing is None
    with pytest.raises(ModuleError, match="no dots"):
        net.register_buffer("a.b", tm.ones(1))
    with pytest.raises(ModuleError, match="already"):
        net.register_parameter("forward", nn.Parameter(tm.ones(2)))
    with pytest.raises(ModuleError, match="already"):
        net.register_buffer("width", tm.ones(1))
    with pytest.raises(ModuleError, match=r"expected an nn.Parameter"):
        net.register_parameter("v", tm.ones(2))  # type: ignore[arg-type]
    with pytest.raises(ModuleError, match="not a layer: write ReLU"):
        net.add_module("act", nn.ReLU)  # type: ignore[arg-type]


def test_getting_by_dotted_name() -> None:
    net = Net()
    assert net.get_submodule("") is net
    assert net.get_submodule("layers.1.0") is net.layers[1][0]
    assert net.get_parameter("by_name.a.bias") is net.by_name["a"].bias
    assert net.get_buffer("mean") is net.mean
    with pytest.raises(AttributeError, match=r"did you mean 'by_name.a.bias'"):
        net.get_parameter("by_nam.a.bias")


def test_a_layer_that_does_not_exist() -> None:
    net = Net()
    with pytest.raises(ModuleError, match="Net has no layer or attribute 'frist'; did you mean"):
        net.frist  # noqa: B018
    assert not hasattr(net, "nothing_like_it")

    class Misspelt(nn.Module):
        def _init_(self) -> None:
            self.layer = nn.Linear(1, 1)

        def forward(self, x: Any) -> Any:
            return self.layer(x)

    with pytest.raises(ModuleError, match=r"nothing has been assigned.*__init__") as error:
        Misspelt()(tm.ones(1))
    assert error.value.modules == ["Misspelt"]
    with pytest.raises(ModuleError, match="defines no forward"):
        nn.Module()(1)


def test_errors_name_the_modules_innermost_first() -> None:
    with pytest.raises(OpError) as error:
        Net()(tm.ones(5, 7))
    assert error.value.modules == ["Linear(in_features=3, out_features=4, bias=True)", "Net"]
    assert "in Linear(in_features=3, out_features=4, bias=True), in Net" in str(error.value)


def test_debug_mode_names_the_modules() -> None:
    net = Net()
    with tm.no_grad():
        net.layers[0].weight.fill_(float("inf"))
    with tm.debug(), pytest.raises(AnomalyError) as error:
        net(tm.ones(5, 3))
    assert error.value.modules == ["Linear(in_features=4, out_features=4, bias=True)", "Net"]


def test_forward_hooks() -> None:
    layer, calls = nn.Linear(2, 2), []

    def before(module: nn.Module, args: Any) -> Any:
        calls.append("before")
        return args[0] * 0

    def after(module: nn.Module, args: Any, output: Any) -> Any:
        calls.append("after")
        return output + 1

    first = layer.register_forward_pre_hook(before)
    second = layer.register_forward_hook(after)
    result = layer(tm.ones(1, 2))
    assert tm.allclose(result, layer.bias + 1) and calls == ["before", "after"]
    first.remove()
    second.remove()
    layer(tm.ones(1, 2))
    assert len(calls) == 2


def test_hooks_with_keywords_and_order() -> None:
    class Add(nn.Module):
        def forward(self, x: Any, *, y: Any) -> Any:
            return x + y

    layer, order = Add(), []
    layer.register_forward_hook(lambda *_: order.append(1))
    layer.register_forward_hook(lambda *_: order.append(0), prepend=True)
    layer.register_forward_pre_hook(lambda m, a, k: (a, {"y": k["y"] * 10}), with_kwargs=True)
    assert layer(1, y=2) == 21 and order == [0, 1]


def test_reprs() -> None:
    assert repr(Net()) == (
        "Net(\n"
        "  (first): Linear(in_features=3, out_features=4, bias=True)\n"
        "  (layers.0): Linear(in_features=4, out_features=4, bias=True)\n"
        "  (layers.1.0): Linear(in_features=4, out_features=4, bias=False)\n"
        "  (by_name.a): Linear(in_features=4, out_features=2, bias=True)\n"
        ")"
    )
