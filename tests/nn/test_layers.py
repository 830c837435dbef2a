"""Layers, containers, initialisers and helpers, without PyTorch."""

from __future__ import annotations

import copy
import inspect
import math
from typing import Any

import pytest

import toumei as tm
from toumei import nn
from toumei.errors import GradError, ModuleError, OpError


def test_linear_starts_within_its_bounds() -> None:
    layer = nn.Linear(100, 50)
    for p in layer.parameters():
        assert p.abs().max().item() <= 0.1
        assert p.std().item() == pytest.approx(0.1 / 3**0.5, rel=0.2)
    with pytest.raises(ModuleError, match=r"in_features must be a positive integer, got 2\.5"):
        nn.Linear(2.5, 1)  # type: ignore[arg-type]
    assert nn.Linear(2, 1, dtype=tm.float64).weight.dtype == tm.float64
    tm.manual_seed(3)
    first = nn.Linear(3, 3).weight
    tm.manual_seed(3)
    assert (nn.Linear(3, 3).weight == first).all()


def test_options_become_a_signature_and_a_repr() -> None:
    assert str(inspect.signature(nn.Softplus)).replace("'", "") == (
        "(beta: float = 1.0, threshold: float = 20.0)"
    )
    assert repr(nn.Threshold(0.5, 2)) == "Threshold(threshold=0.5, value=2)"
    assert repr(nn.CrossEntropyLoss(ignore_index=3)) == "CrossEntropyLoss(ignore_index=3)"
    assert copy.deepcopy(nn.LeakyReLU(0.3)).negative_slope == 0.3


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: nn.LeakyReLU(0.1, False, 3), "takes 2 positional arguments, got 3"),
        (lambda: nn.LeakyReLU(slope=0.1), "unknown option 'slope'"),
        (lambda: nn.LeakyReLU(0.1, negative_slope=0.1), "two values for 'negative_slope'"),
        (lambda: nn.CrossEntropyLoss(None, 3), "takes 1 positional"),
        (lambda: nn.Threshold(0.5), "needs a value for 'value'"),
    ],
)
def test_wrong_options(make: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        make()


def test_a_layer_is_made_before_it_is_called() -> None:
    with pytest.raises(ModuleError, match=r"call it: MSELoss\(\)\(x\)"):
        nn.MSELoss(tm.ones(2), tm.ones(2))  # type: ignore[misc,call-arg]
    with pytest.raises(ModuleError, match="takes options"):
        nn.ReLU(tm.ones(2))  # type: ignore[arg-type]


def test_weights_of_losses_are_buffers() -> None:
    loss = nn.CrossEntropyLoss(tm.tensor([1.0, 3.0]))
    assert list(loss.state_dict()) == ["weight"]
    assert loss.double().weight.dtype == tm.float64


def test_a_users_subclass_of_an_activation() -> None:
    class Scaled(nn.LeakyReLU):
        factor: float

        def __init__(self, factor: float) -> None:
            super().__init__(0.5)
            self.factor = factor

        def forward(self, x: Any) -> Any:
            return super().forward(x) * self.factor

    assert Scaled(3.0)(tm.tensor(-2.0)).item() == -3.0


@pytest.mark.parametrize("layer", [nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout])
def test_dropout_only_while_training(layer: Any) -> None:
    x = tm.ones(8, 16, 10) if layer is not nn.Dropout2d else tm.ones(4, 16, 3, 3)
    tm.manual_seed(0)
    drop = layer(0.4)
    kept = drop(x)
    assert not tm.allclose(kept, x) and tm.equal(drop.eval()(x), x)
    if layer in (nn.Dropout, nn.Dropout1d, nn.Dropout2d):
        assert sorted(set(kept.flatten().tolist())) == pytest.approx([0.0, 1 / 0.6])
    if layer is nn.Dropout1d:  # whole channels
        assert (kept == kept[:, :, :1]).all()
    with pytest.raises(ValueError, match="probability"):
        layer(1.5)


def test_sequential() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    assert net[0] is net.get_submodule("0") and net[-1].out_features == 1
    assert len(net[:2]) == 2 and isinstance(net[1:], nn.Sequential)
    net.append(nn.Sigmoid()).insert(1, nn.Tanh())
    assert [type(m).__name__ for m in net] == ["Linear", "Tanh", "ReLU", "Linear", "Sigmoid"]
    del net[1]
    assert list(dict(net.named_children())) == ["0", "1", "2", "3"]
    assert isinstance(net.pop(), nn.Sigmoid) and len(net) == 3
    net[1] = nn.GELU()
    assert isinstance(net[1], nn.GELU) and net(tm.ones(5, 2)).shape == (5, 1)
    with pytest.raises(IndexError, match="no element 9"):
        net[9]
    named = nn.Sequential({"a": nn.Linear(2, 2), "b": nn.ReLU()})
    assert named.a is named[0] and list(named.state_dict()) == ["a.weight", "a.bias"]
    with pytest.raises(ModuleError, match="not a layer: write ReLU"):
        nn.Sequential(nn.ReLU)
    with pytest.raises(ModuleError, match="A function isn't a layer"):
        nn.Sequential(nn.functional.relu)


def test_module_list_and_dict() -> None:
    layers = nn.ModuleList([nn.Linear(2, 2) for _ in range(3)])
    layers += [nn.ReLU()]
    assert len(layers) == 4 and layers[3] in layers
    assert "(0-2): 3 x Linear" in repr(layers)
    with pytest.raises(ModuleError, match="defines no forward"):
        layers(1)
    table = nn.ModuleDict({"a": nn.ReLU()})
    table["b"] = nn.Linear(1, 1)
    table.update({"a": nn.Tanh()})
    assert list(table) == ["a", "b"] and isinstance(table["a"], nn.Tanh) and "b" in table
    assert isinstance(table.pop("b"), nn.Linear) and len(table) == 1
    with pytest.raises(ModuleError, match="already"):
        table["forward"] = nn.ReLU()


def test_parameter_list_and_dict() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            self.listed = nn.ParameterList([tm.ones(2), nn.Parameter(tm.zeros(3))])
            self.named = nn.ParameterDict({"w": tm.ones(1)})

    net = Net()
    assert list(net.state_dict()) == ["listed.0", "listed.1", "named.w"]
    assert all(p.requires_grad for p in net.parameters()) and len(net.listed) == 2
    with pytest.raises(ModuleError, match="must be a tensor"):
        net.listed.append(3)


def test_initialisers_refuse_what_has_no_fan() -> None:
    with pytest.raises(OpError, match="at least 2 dimensions"):
        nn.init.xavier_uniform_(tm.empty(3))
    with pytest.raises(ValueError, match="no gain for 'rely'"):
        nn.init.calculate_gain("rely")
    with pytest.raises(ValueError, match="fan_in"):
        nn.init.kaiming_normal_(tm.empty(3, 3), mode="fan")


def test_initialisers_work_on_parameters_outside_of_the_graph() -> None:
    p = nn.Parameter(tm.empty(6, 4))
    assert nn.init.orthogonal_(p) is p and p.is_leaf
    assert tm.allclose(p.T @ p, tm.eye(4), atol=1e-6)
    nn.init.sparse_(p, 0.5)
    assert ((p == 0).sum(0) == 3).all()
    a = nn.init.normal_(tm.empty(5), generator=tm.Generator().manual_seed(1))
    b = nn.init.normal_(tm.empty(5), generator=tm.Generator().manual_seed(1))
    assert (a == b).all()


def test_parameters_as_a_vector() -> None:
    layer = nn.Linear(2, 3)
    vector = nn.utils.parameters_to_vector(layer.parameters())
    assert vector.shape == (9,)
    nn.utils.vector_to_parameters(tm.arange(9.0), layer.parameters())
    assert layer.bias is not None and layer.bias.tolist() == [6, 7, 8]
    assert layer.weight.requires_grad
    with pytest.raises(ModuleError, match="9 elements"):
        nn.utils.vector_to_parameters(tm.ones(8), layer.parameters())


def test_clipping() -> None:
    p, q = tm.ones(3, requires_grad=True), tm.ones(1, requires_grad=True)
    assert nn.utils.clip_grad_norm_([p, q], 1.0).item() == 0  # no gradients at all
    p.grad = tm.tensor([3.0, 0.0, 4.0])
    total = nn.utils.clip_grad_norm_((x for x in [p, q]), 1.0)
    assert total.item() == 5 and (p.grad**2).sum().item() == pytest.approx(1, abs=1e-5)
    nn.utils.clip_grad_norm_(p, 100.0)
    assert (p.grad**2).sum().item() == pytest.approx(1, abs=1e-5)
    nn.utils.clip_grad_value_(p, 0.7)
    assert p.grad.tolist() == pytest.approx([0.6, 0.0, 0.7])
    p.grad = tm.tensor([math.inf, 0.0, 0.0])
    with pytest.raises(GradError, match="inf"):
        nn.utils.clip_grad_norm_(p, 1.0, error_if_nonfinite=True)
