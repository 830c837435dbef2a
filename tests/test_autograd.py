"""grad, backward, functional derivatives, modes, hooks, Function, debug mode."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import toumei as tm
from toumei import autograd, nn
from toumei.autograd import Function, functional
from toumei.errors import AnomalyError, GradError, OpError

A = pytest.approx


def leaf(*values: float) -> tm.Tensor:
    return tm.tensor(values, dtype=tm.float64, requires_grad=True)


def scalar(value: float) -> tm.Tensor:
    return tm.tensor(value, dtype=tm.float64, requires_grad=True)


# --- grad and backward ---------------------------------------------------------------------------


def test_any_order() -> None:
    x = scalar(0.7)
    y = x.sin()
    expected = [np.cos(0.7), -np.sin(0.7), -np.cos(0.7), np.sin(0.7)] * 2
    for value in expected:
        (y,) = autograd.grad(y, x, create_graph=True)
        assert y.item() == A(value)


def test_grad_leaves_grad_alone_and_backward_adds_to_it() -> None:
    x = leaf(1, 2)
    autograd.grad((x * x).sum(), x)
    assert x.grad is None
    (x * x).sum().backward()
    (x * x).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [4, 8]


def test_several_outputs_with_weights() -> None:
    x, y = leaf(1, 2), leaf(3, 4)
    gx, gy = autograd.grad([x * y, x.sum()], [x, y], [tm.ones(2).double(), None])
    assert gx.tolist() == [4, 5] and gy.tolist() == [1, 2]


def test_unused_inputs() -> None:
    x, y = leaf(1, 2), leaf(3)
    with pytest.raises(GradError, match=r"don't depend on input 1, float64\[1\]"):
        autograd.grad(x.sum(), [x, y])
    assert autograd.grad(x.sum(), [x, y], allow_unused=True)[1] is None
    assert autograd.grad(x.sum(), [x, y], materialize_grads=True)[1].tolist() == [0]


def test_grad_of_what_requires_none() -> None:
    x = leaf(1)
    with pytest.raises(GradError, match=r"input 0.* doesn't require grad"):
        autograd.grad(x.sum(), tm.ones(1))
    with pytest.raises(GradError, match=r"output 0.* doesn't require grad"):
        autograd.grad(tm.ones(1).sum(), x)
    with pytest.raises(GradError, match="2 outputs, but 1 grad_outputs"):
        autograd.grad([x, x], x, [tm.ones(1)])


def test_grad_of_an_inner_value_and_of_the_output_itself() -> None:
    x = leaf(1, 2)
    y = x * 3
    z = (y * y).sum()
    assert autograd.grad(z, y, retain_graph=True)[0].tolist() == [6, 12]
    assert autograd.grad(z, z, retain_graph=True)[0].item() == 1
    assert autograd.grad(z, [x, y])[0].tolist() == [18, 36]


def test_backward_of_several_tensors_and_into_chosen_inputs() -> None:
    x, y = leaf(1), leaf(2)
    autograd.backward([x * y, x], [tm.ones(1).double()] * 2)
    assert x.grad is not None and y.grad is not None
    assert (x.grad.item(), y.grad.item()) == (3, 1)
    x.grad = y.grad = None
    inner = x * 5
    (inner * y).backward(inputs=[x, inner])
    assert x.grad is not None and inner.grad is not None
    assert (x.grad.item(), inner.grad.item(), y.grad) == (10, 2, None)


def test_retain_graph() -> None:
    x = leaf(1, 2)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad is not None and x.grad.tolist() == [4, 8]
    with pytest.raises(GradError, match="a second time"):
        y.backward()


def test_a_gradient_never_shares_memory_with_the_user() -> None:
    x, kept = leaf(1, 2), []
    start = tm.ones(2).double()
    y = x + 0
    y.register_hook(kept.append)
    y.backward(start)
    (x * 3).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [4, 4]
    assert start.tolist() == [1, 1] and kept[0].tolist() == [1, 1]


def test_two_leaves_do_not_share_a_gradient() -> None:
    a, b = leaf(1, 2), leaf(3, 4)
    (a + b).backward(tm.ones(2).double())
    assert a.grad is not None and b.grad is not None
    a.grad.mul_(5)
    assert b.grad.tolist() == [1, 1]


def test_create_graph_in_backward() -> None:
    x = leaf(2)
    (x**3).sum().backward(create_graph=True)
    assert x.grad is not None and x.grad.requires_grad
    g, x.grad = x.grad, None
    g.sum().backward()
    assert x.grad.tolist() == [12]  # type: ignore[attr-defined]


def test_gradients_have_the_dtype_of_their_tensor() -> None:
    x = tm.ones(2, requires_grad=True)
    (x.double() * 2).sum().backward()
    assert x.grad is not None and x.grad.dtype == tm.float32


# --- functional ----------------------------------------------------------------------------------


def mixed(x: tm.Tensor, y: tm.Tensor) -> tm.Tensor:
    return (x.exp() * y[0]).sum() + (y**3).sum()


def test_jacobian_of_tuples() -> None:
    x, y = leaf(0.1, 0.2), leaf(1, 2, 3)
    result = functional.jacobian(lambda a, b: (a * b[:2], b.sum()), (x, y))
    (aa, ab), (ba, bb) = result
    assert aa.tolist() == [[1, 0], [0, 2]]
    np.testing.assert_allclose(ab.numpy(), [[0.1, 0, 0], [0, 0.2, 0]])
    assert ba.tolist() == [0, 0] and bb.tolist() == [1, 1, 1]


def test_hessian_and_its_products() -> None:
    x, y = leaf(0.1, 0.2), leaf(1, 2, 3)
    (xx, xy), (yx, yy) = functional.hessian(mixed, (x, y))
    e = np.exp([0.1, 0.2])
    np.testing.assert_allclose(xx.numpy(), np.diag(e))
    np.testing.assert_allclose(xy.numpy(), [[e[0], 0, 0], [e[1], 0, 0]])
    np.testing.assert_allclose(yx.numpy(), xy.numpy().T)
    np.testing.assert_allclose(yy.numpy(), np.diag([6, 12, 18]))
    v = (tm.tensor([1.0, 2.0]).double(), tm.tensor([3.0, 4.0, 5.0]).double())
    whole = np.block([[xx.numpy(), xy.numpy()], [yx.numpy(), yy.numpy()]])
    expected = whole @ np.concatenate([t.numpy() for t in v])
    for product in (functional.hvp, functional.vhp):
        value, result = product(mixed, (x, y), v)
        assert value.item() == A(mixed(x, y).item())
        np.testing.assert_allclose(np.concatenate([t.numpy() for t in result]), expected)


def test_vjp_and_jvp_agree_with_the_jacobian() -> None:
    x = leaf(0.5, 1.5)

    def f(x: tm.Tensor) -> tm.Tensor:
        return tm.stack([x[0] * x[1], x[0].sin(), x[1] ** 2])

    j = functional.jacobian(f, x).numpy()
    u, v = np.array([1.0, 2.0, 3.0]), np.array([0.5, -1.0])
    np.testing.assert_allclose(functional.vjp(f, x, tm.tensor(u))[1].numpy(), u @ j)
    out, pushed = functional.jvp(f, x, tm.tensor(v))
    np.testing.assert_allclose(pushed.numpy(), j @ v)
    assert not out.requires_grad and not pushed.requires_grad


@pytest.mark.parametrize("name", ["jacobian", "hessian", "vjp", "jvp", "hvp", "vhp"])
def test_create_graph_makes_results_differentiable(name: str) -> None:
    def f(x: tm.Tensor) -> tm.Tensor:
        result = getattr(functional, name)(lambda t: (t**4).sum(), x, *vector, create_graph=True)
        return (result[1] if isinstance(result, tuple) else result).sum()

    vector = [] if name in ("jacobian", "hessian", "vjp") else [tm.ones(2).double()]
    autograd.check_grads(f, leaf(0.5, 1.5), order=1)


def test_strict_and_bad_calls() -> None:
    x = leaf(1, 2)
    assert functional.jacobian(lambda t: t.detach(), x).tolist() == [[0, 0], [0, 0]]
    with pytest.raises(GradError, match="output 0 doesn't depend on any input"):
        functional.jacobian(lambda t: t.detach(), x, strict=True)
    with pytest.raises(GradError, match="no output depends on input 1"):
        functional.vjp(lambda a, b: a.sum(), (x, x), strict=True)
    with pytest.raises(GradError, match=r"single element, not float64\[2\]"):
        functional.hessian(lambda t: t * 2, x)
    with pytest.raises(GradError, match="no tensor"):
        functional.jacobian(lambda t: 3.0, x)
    with pytest.raises(GradError, match="v has 1 tensors, 2 are needed"):
        functional.jvp(lambda a, b: a + b, (x, x), (x,))


# --- modes ---------------------------------------------------------------------------------------


def test_modes_as_blocks() -> None:
    x = leaf(1)
    with tm.no_grad():
        assert not (x * 2).requires_grad
        with tm.enable_grad():
            assert (x * 2).requires_grad
        assert not tm.is_grad_enabled()
    with tm.inference_mode():
        y = x * 2
    assert not y.requires_grad and tm.is_grad_enabled()
    with tm.inference_mode(False):
        assert tm.is_grad_enabled()


def test_set_grad_enabled_acts_at_once_or_within_a_block() -> None:
    tm.set_grad_enabled(False)
    assert not tm.is_grad_enabled()
    tm.set_grad_enabled(True)
    with tm.set_grad_enabled(False):
        assert not tm.is_grad_enabled()
    assert tm.is_grad_enabled()

    @tm.set_grad_enabled(False)
    def f() -> bool:
        return tm.is_grad_enabled()

    assert tm.is_grad_enabled() and not f() and tm.is_grad_enabled()


@pytest.mark.parametrize("decorate", [tm.no_grad, tm.no_grad(), tm.inference_mode()])
def test_modes_as_decorators(decorate: Callable[[Any], Any]) -> None:
    @decorate
    def f(x: tm.Tensor, *, factor: int) -> tm.Tensor:
        """Doc."""
        return x * factor

    assert not f(leaf(1), factor=2).requires_grad
    assert (f.__name__, f.__doc__) == ("f", "Doc.") and tm.is_grad_enabled()


def test_a_decorated_generator_runs_in_its_mode_and_its_user_does_not() -> None:
    @tm.no_grad()
    def numbers() -> Iterator[bool]:
        got = yield tm.is_grad_enabled()
        yield got is not None or tm.is_grad_enabled()

    source = numbers()
    assert next(source) is False and tm.is_grad_enabled()
    assert source.send("x") is True and tm.is_grad_enabled()  # type: ignore[attr-defined]
    assert list(numbers()) == [False, False]


def test_modes_survive_errors_and_reentry() -> None:
    mode = tm.no_grad()
    with pytest.raises(ZeroDivisionError), mode, mode:
        1 / 0  # noqa: B018
    assert tm.is_grad_enabled()


def test_modes_belong_to_a_thread() -> None:
    seen = []
    with tm.no_grad():
        thread = threading.Thread(target=lambda: seen.append(tm.is_grad_enabled()))
        thread.start()
        thread.join()
    assert seen == [True]


# --- hooks ---------------------------------------------------------------------------------------


def test_hooks_see_and_replace_gradients_and_can_be_removed() -> None:
    x, seen = leaf(1, 2), []
    y = x * 3
    handle = y.register_hook(lambda g: seen.append(g.tolist()))
    y.register_hook(lambda g: g * 10)
    y.retain_grad()
    y.sum().backward(retain_graph=True)
    assert seen == [[1, 1]]
    assert x.grad is not None and x.grad.tolist() == [30, 30]
    assert y.grad is not None and y.grad.tolist() == [10, 10]
    handle.remove()
    y.sum().backward()
    assert len(seen) == 1


def test_hook_of_a_leaf_sees_the_sum_of_all_paths() -> None:
    x, seen = leaf(1), []
    x.register_hook(lambda g: seen.append(g.item()))
    (x * 2 + x * 3).backward()
    assert seen == [5]


def test_hook_with_a_wrong_shape_is_refused() -> None:
    x = leaf(1, 2)
    x.register_hook(lambda g: g.sum())
    with pytest.raises(GradError, match=r"returned a gradient of float64\[\] in place of"):
        x.sum().backward()


def test_hook_after_accumulation() -> None:
    x, seen = leaf(1, 2), []
    handle = x.register_post_accumulate_grad_hook(lambda p: seen.append(p.grad.tolist()))  # type: ignore[union-attr]
    for _ in range(2):
        x.sum().backward()
    handle.remove()
    x.sum().backward()
    assert seen == [[1, 1], [2, 2]]
    with pytest.raises(GradError, match="needs a leaf"):
        (x * 2).register_post_accumulate_grad_hook(print)


# --- Function ------------------------------------------------------------------------------------


class Product(Function):
    """Two outputs, an argument that is no tensor, inputs, an output and another tensor saved."""

    @staticmethod
    def forward(ctx: Any, x: tm.Tensor, n: int, y: tm.Tensor) -> tuple[tm.Tensor, tm.Tensor]:
        power, product = x**n, x * y
        ctx.n = n
        ctx.save_for_backward(x, y, power, product, x ** (n - 2), None)
        return power, product

    @staticmethod
    def backward(ctx: Any, g_power: tm.Tensor, g_product: tm.Tensor) -> tuple[Any, ...]:
        x, y, power, product, _, nothing = ctx.saved_tensors
        assert nothing is None
        return g_power * ctx.n * power / x + g_product * y, None, g_product * product / y


def test_function_of_many_arguments() -> None:
    x, y = leaf(1, 2), leaf(3, 4)
    autograd.check_grads(lambda x, y: Product.apply(x, 3, y), (x, y), order=3)
    autograd.check_grads(lambda x, y: Product.apply(x, 3, y)[1], (x, y))
    assert autograd.gradgradcheck(lambda x, y: Product.apply(x, 3, y), (x, y))
    assert Product.apply(x, 3, y)[0].grad_fn.name == "Product"


def test_function_frees_and_watches_what_it_saved() -> None:
    x, y = leaf(1, 2), leaf(3, 4)
    power, _ = Product.apply(x * 1, 2, y)
    power.sum().backward(retain_graph=True)
    power.add_(1)
    with pytest.raises(GradError, match=r"backward of Product needs .* changed in place"):
        power.sum().backward()
    power, _ = Product.apply(x, 2, y)
    power.sum().backward()
    with pytest.raises(GradError, match="through Product a second time"):
        power.sum().backward()


def test_needs_input_grad_and_materialized_gradients() -> None:
    seen: list[Any] = []

    class Two(Function):
        @staticmethod
        def forward(ctx: Any, x: tm.Tensor, y: tm.Tensor, zeros: bool) -> Any:
            seen.append(ctx.needs_input_grad)
            ctx.set_materialize_grads(zeros)
            return x * 2, y * 2

        @staticmethod
        def backward(ctx: Any, gx: Any, gy: Any) -> Any:
            seen.append(None if gy is None else gy.tolist())
            return gx * 2, None, None

    x = leaf(1, 2)
    for zeros in (True, False):
        Two.apply(x, tm.ones(3).double(), zeros)[0].sum().backward()
    assert seen == [(True, False, False), [0, 0, 0], (True, False, False), None]


def test_setup_context() -> None:
    class Square(Function):
        @staticmethod
        def forward(x: tm.Tensor) -> tm.Tensor:
            return x * x

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tm.Tensor) -> None:
            ctx.save_for_backward(*inputs)

        @staticmethod
        def backward(ctx: Any, g: tm.Tensor) -> tm.Tensor:
            return 2 * ctx.saved_tensors[0] * g

    autograd.check_grads(Square.apply, leaf(1, 2))


class Identity(Function):
    """Returns its input as it is."""

    @staticmethod
    def forward(ctx: Any, x: tm.Tensor) -> tm.Tensor:
        ctx.save_for_backward(x)
        return x

    @staticmethod
    def backward(ctx: Any, g: tm.Tensor) -> tm.Tensor:
        return -g


def test_an_input_returned_as_it_is() -> None:
    x = leaf(1, 2)
    y = Identity.apply(x)
    assert y is not x and x.is_leaf and y.grad_fn is not None
    y.mul_(2)  # doesn't reach x
    assert x.tolist() == [1, 2]
    y.sum().backward()
    assert x.grad is not None and x.grad.tolist() == [-2, -2]


def test_non_differentiable_outputs() -> None:
    class Top(Function):
        @staticmethod
        def forward(ctx: Any, x: tm.Tensor) -> Any:
            y, k = x * 2, x.round()
            ctx.mark_non_differentiable(k)
            return y, k, "text"

        @staticmethod
        def backward(ctx: Any, g: tm.Tensor, gk: tm.Tensor, text: None) -> tm.Tensor:
            return g * 2 + gk

    x = leaf(1, 2)
    y, k, text = Top.apply(x)
    assert y.requires_grad and not k.requires_grad and text == "text"
    y.sum().backward()
    assert x.grad is not None and x.grad.tolist() == [2, 2]


def test_once_differentiable() -> None:
    class Twice(Function):
        @staticmethod
        def forward(ctx: Any, x: tm.Tensor) -> tm.Tensor:
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        @autograd.once_differentiable
        def backward(ctx: Any, g: tm.Tensor) -> tm.Tensor:
            (x,) = ctx.saved_tensors
            return tm.from_numpy(2 * x.numpy() * g.numpy())

    x = leaf(1, 2)
    assert autograd.gradcheck(Twice.apply, x)
    (g,) = autograd.grad(Twice.apply(x).sum(), x, create_graph=True)
    assert g.tolist() == [2, 4]
    with pytest.raises(GradError, match="@once_differentiable"):
        autograd.grad(g.sum(), x)


def _function(forward: Any, backward: Any) -> type[Function]:
    return type(
        "Mine", (Function,), {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    )


def test_wrong_functions_are_refused() -> None:
    x = leaf(1, 2)
    good = _function(lambda ctx, x: x * 2, lambda ctx, g: g * 2)
    cases: list[tuple[Any, str]] = [
        (_function(lambda ctx, x: x.add_(1), good.backward), "changed an input in place"),
        (_function(lambda ctx, x: x * 2, lambda ctx, g: (g, g)), "returned 2 gradients for 1"),
        (_function(lambda ctx, x: x * 2, lambda ctx, g: 3.0), "returned 3.0 for argument 0"),
        (
            _function(lambda ctx, x: x * 2, lambda ctx, g: g[:1].expand(3)),
            r"Mine.backward returned a gradient of shape \(3,\) for an input of shape \(2,\)",
        ),
        (_function(lambda ctx, x: ctx.mark_dirty(x), good.backward), "can't change its inputs"),
        (_function(lambda ctx, x: ctx.save_for_backward(2), good.backward), "argument 0 is 2"),
    ]
    for cls, words in cases:
        with pytest.raises(GradError, match=words):
            cls.apply(x.clone()).sum().backward()
    with pytest.raises(TypeError, match=r"used as Mine.apply\(…\)"):
        good()


def test_gradcheck_fails_loudly_on_a_wrong_function() -> None:
    wrong = _function(lambda ctx, x: x * 2, lambda ctx, g: g * 3)
    with pytest.raises(GradError, match=r"∂ output 0\[0\] / ∂ input 0\[0\] is 3 by backward, 2"):
        autograd.gradcheck(wrong.apply, leaf(1, 2))
    assert not autograd.gradcheck(wrong.apply, leaf(1, 2), raise_exception=False)
    assert not autograd.gradcheck(wrong.apply, leaf(1), raise_exception=False, fast_mode=True)
    with pytest.raises(GradError, match=r"order 1 for input 0 .*furthest off: .* not"):
        autograd.check_grads(wrong.apply, leaf(1, 2))
    half = _function(lambda ctx, x: (ctx.save_for_backward(x), x * x)[1],
                     lambda ctx, g: 2 * g * ctx.saved_tensors[0].detach())  # fmt: skip
    autograd.check_grads(half.apply, leaf(1, 2), order=1)
    with pytest.raises(GradError, match="order 2 for input 0"):
        autograd.check_grads(half.apply, leaf(1, 2))
    assert not autograd.gradgradcheck(half.apply, leaf(1, 2), raise_exception=False)


def test_gradcheck_wants_something_to_check() -> None:
    with pytest.raises(GradError, match="none of the 1 inputs requires grad"):
        autograd.gradcheck(tm.exp, tm.ones(2).double())
    with pytest.raises(GradError, match="need float64"):
        autograd.gradcheck(tm.exp, tm.ones(2, requires_grad=True))
    with pytest.raises(GradError, match="two calls of the function differ"):
        autograd.gradcheck(lambda x: x * tm.rand(2).double(), leaf(1, 2))


# --- debug mode ----------------------------------------------------------------------------------


class Inner(nn.Module):
    def forward(self, x: tm.Tensor) -> tm.Tensor:
        return x.sqrt()  # the line that is to blame


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Inner()

    def forward(self, x: tm.Tensor) -> tm.Tensor:
        return self.inner(x - 1)


def blamed(error: BaseException) -> str:
    assert isinstance(error, AnomalyError)
    return str(error)


def test_debug_names_op_line_and_modules_forward() -> None:
    with pytest.raises(AnomalyError) as caught, tm.debug():
        Outer()(leaf(0, 2))
    text = blamed(caught.value)
    assert "forward of sqrt(x: float64[2]) made the first NaN: 1 of the 2 values" in text
    assert "the first at [0]" in text
    assert "in forward:  return x.sqrt()  # the line that is to blame" in text
    assert "\n  in Inner" in text and ", in Outer" in text


def test_debug_names_the_forward_line_backward() -> None:
    with pytest.raises(AnomalyError) as caught, tm.debug():
        Outer()(leaf(1, 2)).sum().backward()
    text = blamed(caught.value)
    assert "backward of sqrt made the first infinity" in text
    assert "in forward:  return x.sqrt()  # the line that is to blame" in text
    assert "\n  in Inner" in text and ", in Outer" in text


def test_debug_names_the_forward_line_of_higher_orders() -> None:
    with pytest.raises(AnomalyError) as caught, tm.debug():
        x = leaf(0)
        y = x**1.5  # to blame
        (g,) = autograd.grad(y.sum(), x, create_graph=True)
        autograd.grad(g.sum(), x)
    assert "y = x**1.5  # to blame" in blamed(caught.value)


def test_debug_of_a_graph_that_was_recorded_without() -> None:
    y = leaf(0).sqrt()
    with pytest.raises(AnomalyError, match="run that in debug mode too") as caught, tm.debug():
        y.sum().backward()
    assert "y.sum().backward()" in blamed(caught.value)


def test_debug_tells_given_from_made_and_lets_masks_through() -> None:
    with tm.debug():
        mask = tm.tensor([True, False])
        scores = tm.zeros(2).masked_fill(mask, -tm.inf if hasattr(tm, "inf") else -float("inf"))
        assert scores.softmax(0).tolist() == [0, 1]
        with pytest.raises(
            AnomalyError, match=r"forward of add.* was given NaN: 1 of the 2 values"
        ):
            tm.tensor([1.0, float("nan")]) + 1
        with pytest.raises(AnomalyError, match="made the first NaN"):
            scores - scores
        with pytest.raises(AnomalyError, match="made the first infinity"):
            tm.ones(1) / 0


def test_debug_as_decorator_and_switch() -> None:
    @tm.debug()
    def f() -> tm.Tensor:
        return tm.zeros(1).log()

    with pytest.raises(AnomalyError):
        f()
    assert tm.zeros(1).log().item() == -float("inf")
    with autograd.set_detect_anomaly(True):
        assert autograd.is_anomaly_enabled()
    assert not autograd.is_anomaly_enabled()
    assert autograd.detect_anomaly is tm.debug


def test_debug_stops_at_a_wrong_function_as_well() -> None:
    bad = _function(lambda ctx, x: x * 2, lambda ctx, g: g / 0)
    with pytest.raises(AnomalyError, match="backward of Mine made the first infinity"), tm.debug():
        bad.apply(leaf(1)).backward()


def test_ordinary_errors_stay_ordinary_in_debug_mode() -> None:
    with pytest.raises(OpError), tm.debug():
        tm.ones(2) @ tm.ones(3)
